"""What a plugin may use of the nodes: engines that share a database, of which one leads."""

from collections.abc import Awaitable, Callable
from typing import Protocol


class Node(Protocol):
    """This engine among those that share its database."""

    @property
    def id(self) -> int | None:
        """Its id, another one after each start; None where it has the database alone."""

    @property
    def leads(self) -> bool:
        """Whether the duties run here; always, where it has the database alone."""


class Duties(Protocol):
    """Loops that run on one node at a time: the one that leads."""

    def add(self, name: str, run: Callable[[], Awaitable[None]], wake: Callable[[], None]) -> None:
        """Adds a loop, in `startup`: `run` begins on the node that comes to lead, and is cancelled when that stops.

        What it did not finish on a node that is no more, it finds in the database. `wake` tells it to look there for
        what is new; it is called now and then without a cause, too.
        """

    def wake(self, name: str) -> None:
        """Calls the `wake` of a loop, on the node where it runs; call it after the commit of what is new."""
