"""The queue of the database's writer: works, and the rows that share a transaction with them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from bytebrew.contract.connection import Connection, Cursor

Rows = Sequence[tuple[Any, ...]]
"""Rows to insert; the first column is the id of the row's session."""


class RowSource(Protocol):
    """A source of rows for the next transaction: the journal."""

    def take(self) -> Rows:
        """Removes and returns the queued rows."""

    def insert(self, conn: Connection, rows: Rows) -> None:
        """Inserts rows, in the database's thread; raises if one of them is refused."""

    def settled(self, refused: Mapping[Any, Exception]) -> None:
        """Called once all taken rows are committed, except those of the sessions in `refused`, which are lost."""

    def lost(self, error: Exception) -> None:
        """Called when the writer has died: it accepts no more rows."""


class Owner(Protocol):
    """The owner of the rows with this session id; an `error` means that some of them were lost."""

    session_id: str
    error: Exception | None


class Pending(NamedTuple):
    """A queued work; one with an owner runs only if none of the owner's rows is lost.

    It writes to the rows of the session alone, to any without one. If it `waits`, it outlasts an outage. The result of
    its `query` may be given to it, else it runs that itself.
    """

    work: Callable[..., Any]
    done: asyncio.Future[Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = MappingProxyType({})
    owner: Owner | None = None
    session_id: str | None = None
    waits: bool = False
    query: Callable[[Connection], Cursor] | None = None
