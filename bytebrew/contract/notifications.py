"""Notifications: what subscribers learn of turns, tasks, approvals and budgets, in the transaction of the change."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from msgspec import Struct

from bytebrew.contract.connection import Connection

NotificationName = Literal["turn.failed", "task.ended", "approval.waiting", "budget.near"]


class Notification(Struct, frozen=True):
    """Something that happened; `subject` is the id of the turn, task, approval or budget.

    `data` has ids, states and codes as JSON values, with the `schema` ("" if there is none) and `url`, a path of the
    API: no texts of a conversation and no inputs of tools.
    """

    name: NotificationName
    subject: str
    data: Mapping[str, Any]


Subscriber = Callable[[Connection, Notification], None]
"""Stores what follows from a notification in the same transaction; its own faults are logged and undo its work only."""
