"""Approvals of tasks: each is bound to a digest of the task as shown, and is void once the task changes."""

import hashlib

import msgspec
from msgspec.structs import replace

from bytebrew.base.errors import Stale
from bytebrew.base.formats import struct_of
from bytebrew.base.visible_text import visible
from bytebrew.contract.connection import Connection, Row
from bytebrew.contract.entities import Task

_BOUND = ("title", "description", "agent", "schema", "mode", "acceptance_criteria", "blocked_by")
"""Columns that a person approves: the work, the agent, and the tasks that must be completed first."""


def task_of(row: Row) -> Task:
    """A row of the tasks table with its digest."""
    return struct_of({**dict(row), "digest": digest(row)}, Task)


def digest(row: Row) -> str:
    """SHA-256 in hex over what a person approves."""
    return hashlib.sha256(msgspec.json.encode([row[name] for name in _BOUND])).hexdigest()


def shown(task: Task) -> Task:
    """The task for display: without invisible characters, if it needs or had an approval."""
    if task.status != "draft" and task.approved_at is None:
        return task
    criteria = tuple(visible(task.acceptance_criteria))
    texts = {"title": visible(task.title), "description": visible(task.description), "acceptance_criteria": criteria}
    return replace(task, **texts)


def check(row: Row, seen: str) -> None:
    """Raises Stale unless the task is as the person saw it; without a digest, unless it was never changed."""
    if seen == digest(row) or (not seen and not row["revised"]):
        return
    current = shown(task_of(row))
    if seen:
        raise Stale("The task has changed since it was shown; look at it again and approve it by its digest", current)
    advice = "The task has changed since it was made; approve it by the digest of what you have seen"
    raise Stale(advice, current, code="digest_required")


def approve(conn: Connection, row: Row) -> None:
    """Binds the approval of a task to its current content."""
    conn.execute("update tasks set approved_digest = ? where id = ?", (digest(row), row["id"]))


def revise(conn: Connection, before: Row, after: Row) -> None:
    """Returns a changed task to draft, if it was approved and has not started.

    If it has started, the current attempt continues as approved, and no other attempt starts.
    """
    if digest(before) == digest(after):
        return
    conn.execute("update tasks set revised = 1 where id = ?", (before["id"],))
    conn.execute(
        """update tasks set status = 'draft', approved_at = null, approved_digest = null, not_before = null
        where id = ? and approved_at is not null and status in ('approved', 'pending')""",
        (before["id"],),
    )


def withdraw(conn: Connection, task_id: str, turn_id: str) -> None:
    """Returns a task that differs from its approval to draft, and releases the claim."""
    conn.execute(
        """update tasks set status = 'draft', turn_id = null, attempts = attempts - 1, revised = 1, approved_at = null,
        approved_digest = null, started_at = case when attempts = 1 then null else started_at end
        where id = ? and turn_id = ?""",
        (task_id, turn_id),
    )
