"""One transaction for many: everything together, or where something in it fails, each apart."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

log = logging.getLogger(__name__)

BUSY_SECONDS = 5.0
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


class Owner(Protocol):
    """Whose rows some are, as the first column has it; an `error` says that some of them were lost."""

    session_id: str
    error: Exception | None


class Pending(NamedTuple):
    """A work that waits for its transaction; with an owner it is done only if none of its rows is lost."""

    work: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]
    owner: Owner | None = None


def transact(
    works: Sequence[Pending], source: RowSource | None, rows: Rows, conn: sqlite3.Connection
) -> tuple[list[Any], Mapping[Any, Exception]]:
    """Commits the rows and the works; the works' outcomes, and the errors of the sessions whose rows were refused.

    Where something fails, all is done again, each apart: a row that cannot be inserted undoes all rows of its session
    and fails that session's works; a work's exception undoes that work alone. A fault of the file or of memory is
    raised, and nothing is done.
    """
    begin(conn)
    refused: dict[Any, Exception] = {}
    try:
        try:
            if source and rows:
                source.insert(conn, rows)
            outcomes = [one.work(conn) for one in works]
        except Exception as error:  # whatever else it is, it is somebody's outcome the second time
            if is_fault(error):
                raise
            begin(conn)
            if source and isinstance(_apart(conn, partial(source.insert, rows=rows)), Exception):
                for session_id, group in groupby(sorted(rows, key=itemgetter(0)), key=itemgetter(0)):
                    if isinstance(failed := _apart(conn, partial(source.insert, rows=list(group))), Exception):
                        refused[session_id] = failed
            outcomes = [
                refused[one.owner.session_id]
                if one.owner and one.owner.session_id in refused
                else _apart(conn, one.work)
                for one in works
            ]
        if not conn.in_transaction:  # SQLite has rolled it back, and a work has passed over the error
            raise sqlite3.OperationalError("the transaction ended before its commit")
        conn.execute("commit")
    except BaseException:
        if conn.in_transaction:
            conn.execute("rollback")
        raise
    return outcomes, refused


def begin(conn: sqlite3.Connection) -> None:
    """Begins a transaction that may write, once what an earlier one has left is rolled back; waits as long as it takes.

    The file is another process's for a while where a command, a backup or a check works on it.
    """
    if conn.in_transaction:
        conn.execute("rollback")
    while True:
        try:
            conn.execute("begin immediate")
        except sqlite3.OperationalError as error:
            if code(error) != sqlite3.SQLITE_BUSY:
                raise
            log.warning("another process has been writing to the database for %g s; waiting on", BUSY_SECONDS)
        else:
            return


def is_fault(error: Exception) -> bool:
    """Whether all that is written now meets the error; one in a work's own SQL is that work's alone."""
    return isinstance(error, MemoryError) or (
        isinstance(error, sqlite3.OperationalError) and code(error) > sqlite3.SQLITE_ERROR
    )


def code(error: Exception) -> int:
    """SQLite's primary result code of an error, 0 where it has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _apart(conn: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any]) -> Any:
    """The result, or the exception with all that the work did undone; a fault is raised."""
    conn.execute("savepoint work")
    try:
        outcome = work(conn)
    except Exception as error:  # it is raised where the work was asked for
        if is_fault(error):
            raise
        conn.execute("rollback to work")
        outcome = error
    conn.execute("release work")
    return outcome
