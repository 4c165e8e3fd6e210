"""What a plugin may use of the nodes: engines that share a database, of which one leads."""

from collections.abc import Awaitable, Callable
from typing import Protocol


class Node(Protocol):
    """This engine among those that share its database."""

    @property
    def id(self) -> int | None:
        """Its id, another one after each start and each loss of its lease; None where it has the database alone."""

    @property
    def leads(self) -> bool:
        """Whether the duties run here; always, where it has the database alone."""


class Duties(Protocol):
    """Loops that run on one node at a time: the one that leads."""

    def add(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Runs a loop while this node leads: `run` is called each time that it comes to lead, and cancelled at the end.

        What a loop did not finish on a node that is no more, the next one finds in the database.
        """
