"""Transactions of a connection: those of the writer, each with the works of many callers, and of readers."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from traceback import clear_frames
from typing import Any, TypeVar, cast

from bytebrew.contract.connection import Connection, Cursor
from bytebrew.contract.storage.store import Driver, StoreConnection
from bytebrew.store.database.connections import open_near
from bytebrew.store.database.failed_commit import each_apart
from bytebrew.store.database.write_queue import Pending, Rows, RowSource

T = TypeVar("T")
NEAR_SECONDS = 0.002
"""Limit of a read in the event loop in CPU time, which a busy machine does not use up."""
DISK_SECONDS = 0.02
"""Its time limit, for when it waits for the disk."""
FAR_SECONDS = 1.0
"""Time for which work that took longer is left to the threads."""
STALL_SECONDS = 0.25
"""Time of one write or read after which the disk may hang, so that the event loop reads nothing from it."""


class Unsettled(Exception):
    """A commit of which it is not known whether it is stored, with what `transact` returns if it is."""

    def __init__(self, outcomes: list[Any], refused: Mapping[Any, Exception]) -> None:
        self.outcomes, self.refused = outcomes, refused


@contextmanager
def transaction(driver: Driver, conn: Connection) -> Iterator[None]:
    """Commits the block's changes, or rolls them back if it raises."""
    driver.begin(conn, None)
    try:
        yield
        driver.commit(conn)
    except BaseException:
        driver.roll_back(conn)
        raise


def again_if_may_pass(driver: Driver, work: Callable[[Connection], T], conn: Connection) -> T:
    """Runs the work again while the driver says that its error may pass."""
    for _ in range(driver.attempts - 1):
        try:
            return work(conn)
        except Exception as error:
            if not driver.may_pass(error):
                raise
            clear_frames(error.__traceback__)
        driver.roll_back(conn)
    return work(conn)


def each_of(driver: Driver, works: Sequence[Callable[[Connection], Any]], conn: Connection) -> list[Any]:
    """The result or the exception of each work; they share a snapshot until one fails."""
    if conn.in_transaction:  # the rollback of the one before failed
        driver.roll_back(conn)
    outcomes = [_outcome(driver, work, conn) for work in works]
    driver.roll_back(conn)
    return outcomes


def _outcome(driver: Driver, work: Callable[[Connection], Any], conn: Connection) -> Any:
    shares = conn.in_transaction
    try:
        return again_if_may_pass(driver, work, conn)
    except Exception as error:  # noqa: BLE001 - it is raised where the work was asked for
        clear_frames(error.__traceback__)  # a cursor in a frame keeps its snapshot open
        driver.roll_back(conn)
        if not (shares and isinstance(error, driver.error)):
            return error
    return _outcome(driver, work, conn)  # as another work may have failed in the snapshot, and hidden that


def reading(driver: Driver, work: Callable[..., T], args: Sequence[Any], kwargs: dict[str, Any], conn: Connection) -> T:
    """The result of work in a transaction that reads one snapshot, which is begun unless one is open."""
    if not conn.in_transaction:
        driver.begin_read(conn)
    return work(conn, *args, **kwargs)


class NearReader:
    """A connection in the event loop's thread, if the database is near: few rows are read faster than threads switch.

    A read that takes long, or fails, is left to a reader's thread, which begins anew. So is the same work for some
    time, and all while a write or a read hangs; `since` has the time at which each thread has begun its current work.
    """

    def __init__(self, driver: Driver, since: Mapping[str, float]) -> None:
        self._driver, self._since = driver, since
        self._until = self._cpu_until = math.inf
        self._conn: StoreConnection | None = None
        self._far: dict[object, float] = {}  # by the code of a work

    def open(self) -> None:
        """Opens it; BootError if that fails."""
        self._conn = open_near(self._driver, self._is_late)

    def close(self) -> None:
        """Closes it; further reads are left to the threads, too."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def read(self, work: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The result of work, of one snapshot; nothing if a thread is to read it."""
        conn, now = self._conn, time.monotonic()
        if conn is None or any(
            now - since > STALL_SECONDS and not name.startswith("scanner") for name, since in self._since.items()
        ):
            return ()
        if now < self._far.get(code := getattr(work, "__code__", None), now):
            return ()
        if conn.in_transaction:  # the rollback of the one before failed
            self._driver.roll_back(conn)
            if conn.in_transaction:
                return ()
        self._until, self._cpu_until = now + DISK_SECONDS, time.thread_time() + NEAR_SECONDS
        try:
            return (reading(self._driver, work, args, kwargs, conn),)
        except Exception as error:
            clear_frames(
                error.__traceback__
            )  # later reads would be of the snapshot that a cursor in a frame keeps open
            if not isinstance(error, (self._driver.error, MemoryError)):
                raise
            return ()  # what it means is found out where it happens again
        finally:
            if time.monotonic() > now + NEAR_SECONDS and self._is_late():
                self._far[code] = now + FAR_SECONDS
            self._until = self._cpu_until = math.inf  # a rollback has no time limit
            self._driver.roll_back(conn)

    def _is_late(self) -> bool:
        return time.thread_time() > self._cpu_until or time.monotonic() > self._until


def transact(
    driver: Driver, works: Sequence[Pending], source: RowSource | None, rows: Rows, conn: Connection
) -> tuple[list[Any], Mapping[Any, Exception]]:
    """Commits rows and works in one transaction; returns the works' outcomes, and errors by session of refused rows.

    If anything fails, all of it runs again with a savepoint for each: a failure in a session's rows, or in the works
    that belong to them, rolls back all of these; a failure of any other work rolls back that work. A fault of the
    database or of memory rolls back everything and is raised. Raises Unsettled if only the commit may have failed.
    """
    sessions = _sessions(works, rows)
    driver.begin(conn, sessions)
    outcomes: list[Any] = []
    refused: Mapping[Any, Exception] = {}
    try:
        try:
            ahead = _queried(conn, works, rows) if sessions else {}
            if source and rows:
                source.insert(conn, rows)
            outcomes = [one.work(conn, *one.args, *ahead.get(n, ()), **one.kwargs) for n, one in enumerate(works)]
            driver.commit(conn)
        except Exception as error:  # another error becomes the outcome of its work in the second run
            if driver.breaks(error):
                raise
            driver.begin(conn, sessions)
            outcomes, refused = each_apart(driver, works, source, rows, conn)
            driver.commit(conn)
    except BaseException as error:
        clear_frames(error.__traceback__)
        if isinstance(error, Exception) and driver.unsettled(error):
            raise Unsettled(outcomes, refused) from error
        driver.roll_back(conn)
        raise
    return outcomes, refused


def _queried(conn: Connection, works: Sequence[Pending], rows: Rows) -> dict[int, tuple[Cursor]]:
    """The queries of works by their place, before all works: of those to whose session nothing else here writes."""
    if not any(one.query for one in works):
        return {}
    writers = Counter([*(one.session_id for one in works), *{row[0] for row in rows}])
    return {n: (one.query(conn),) for n, one in enumerate(works) if one.query and writers[one.session_id] == 1}


def _sessions(works: Sequence[Pending], rows: Rows) -> set[str] | None:
    """The sessions that a transaction writes to; None if a work may write to anything."""
    found = {one.session_id for one in works}
    return None if None in found else {*cast("set[str]", found), *(row[0] for row in rows)}
