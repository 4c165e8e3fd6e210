"""What waits for the database: works, and the rows that go with them into one transaction."""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

Rows = Sequence[tuple[Any, ...]]
"""Rows to insert; the first column says which session's a row is."""


class RowSource(Protocol):
    """Rows that wait for the next transaction: the journal's."""

    def take(self) -> Rows:
        """The rows that wait, which are then no longer waiting."""

    def insert(self, conn: sqlite3.Connection, rows: Rows) -> None:
        """Inserts rows, in the database's thread; raises where one of them cannot be."""

    def settled(self, refused: Mapping[Any, Exception]) -> None:
        """What was taken is committed, but for the rows of the sessions in `refused`: those never will be."""

    def lost(self, error: Exception) -> None:
        """Nothing will be taken any more."""


class Owner(Protocol):
    """Whose rows some are, as the first column has it; an `error` says that some of them were lost."""

    session_id: str
    error: Exception | None


class Pending(NamedTuple):
    """A work that waits for its transaction; with an owner it is done only if none of its rows is lost."""

    work: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]
    owner: Owner | None = None
