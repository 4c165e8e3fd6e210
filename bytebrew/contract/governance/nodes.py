"""What a plugin may use of the nodes: engines that share a database, of which one leads."""

from collections.abc import Awaitable, Callable, Iterable
from time import time
from typing import Protocol

from msgspec import Struct


class NodeFigures(Struct, kw_only=True):
    """What a node knows of the others by its last sign of life, and what it has done since its start.

    `silence` is the longest time in seconds that another node has not been heard of. `events` that other nodes have
    stored came here `event_seconds` later, all delays together, by the clocks of both nodes.
    """

    nodes: int = 0
    silence: float = 0.0
    lease_age: float = 0.0
    nodes_ended: int = 0
    turns_taken_over: int = 0
    signals_sent: int = 0
    signals_received: int = 0
    events: int = 0
    event_seconds: float = 0.0

    def came(self, moments: Iterable[int | None]) -> None:
        """Counts events that have come, by when they happened in milliseconds since 1970."""
        until = time()
        for at in moments:
            if at is not None:
                self.events += 1
                self.event_seconds += max(0.0, until - at / 1000)  # the clocks of two nodes may differ


class Node(Protocol):
    """This engine among those that share its database."""

    @property
    def id(self) -> int | None:
        """Its id, another one after each start; None where it has the database alone."""

    @property
    def leads(self) -> bool:
        """Whether the duties run here; always, where it has the database alone."""

    def figures(self) -> NodeFigures | None:
        """Figures for operators, as they are now; None where it has the database alone."""


class Duties(Protocol):
    """Loops that run on one node at a time: the one that leads."""

    def add(self, name: str, run: Callable[[], Awaitable[None]], wake: Callable[[], None]) -> None:
        """Adds a loop, in `startup`: `run` begins on the node that comes to lead, and is cancelled when that stops.

        What it did not finish on a node that is no more, it finds in the database. `wake` tells it to look there for
        what is new; it is called now and then without a cause, too.
        """

    def wake(self, name: str) -> None:
        """Calls the `wake` of a loop, on the node where it runs; call it after the commit of what is new."""
