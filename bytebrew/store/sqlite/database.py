"""The SQLite database: one writer that commits the works of all callers together, and concurrent readers (WAL)."""

import asyncio
import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from traceback import clear_frames
from typing import Any, Concatenate, ParamSpec, TypeVar

from bytebrew.base.errors import BootError, StorageError, TooSlow
from bytebrew.contract.connection import Connection
from bytebrew.store.sqlite import integrity, storage_errors
from bytebrew.store.sqlite.aiosqlite_fixes import WorkConnection, open_connection
from bytebrew.store.sqlite.failed_commit import each_apart
from bytebrew.store.sqlite.pragmas import BUSY_SECONDS, connect, roll_back
from bytebrew.store.sqlite.scans import SCAN_SECONDS, SCANNERS, scan_forever
from bytebrew.store.sqlite.write_queue import Owner, Pending, Rows, RowSource

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Work = Callable[Concatenate[Connection, P], T]
_ENDED = "The database is served no more: the engine must be started anew"
GATHER_SECONDS = 0.005
"""Pause after a transaction with events of several sessions, so that more share the next; one session never waits."""
READERS = 2
LOOKS = 8
"""Most reads in one call of a reader's thread: a slow one delays the rest."""


class Database:
    """Runs works, plain functions of a connection, in the threads of a writer, of readers and of scanners.

    Each work is one call of a thread, however many statements it has. Writes that arrive during a transaction are
    committed together in the next one (group commit); if one fails, each gets a savepoint.
    """

    def __init__(self, path: Path, synchronous: str = "normal", *, scan_seconds: float = SCAN_SECONDS) -> None:
        self.path = path
        self._synchronous, self._scan_seconds = synchronous, scan_seconds
        self._works, self._running = list[Pending](), list[Pending]()
        self._looks, self._scans = asyncio.Queue[Pending](), asyncio.Queue[Pending]()
        self._waiting_since = deque[float]()  # enqueue times of the waiting reads
        self._reading: list[asyncio.Task[None]] = []
        self._source: RowSource | None = None
        self._wake = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._examining: asyncio.Task[None] | None = None
        self.fault: StorageError | None = None
        self._since: dict[str, float] = {}
        self.lost = asyncio.Event()
        """Set if a thread of the database has died: no more reads or writes."""
        self.commits = self.committed_works = self.committed_rows = 0

    async def __aenter__(self) -> "Database":
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        async with AsyncExitStack() as opened:
            self._writer = await _open(opened, self.path, self._synchronous)
            reader = partial(_open, opened, self.path, self._synchronous, read_only=True)
            self._readers = [await reader() for _ in range(READERS)]
            self._scanners = [await reader() for _ in range(SCANNERS)]
            opened.pop_all()
        loops = {f"reader {n}": self._read_forever(one, f"reader {n}") for n, one in enumerate(self._readers, 1)}
        loops |= {f"scanner {n}": self._scan_forever(one, f"scanner {n}") for n, one in enumerate(self._scanners, 1)}
        self._reading = [asyncio.create_task(loop, name=f"database {name}") for name, loop in loops.items()]
        self._writing = asyncio.create_task(self._write_forever(), name="database writer")
        for task in (self._writing, *self._reading):
            task.add_done_callback(self._ended)
        return self

    async def __aexit__(self, *exc: object) -> None:
        barrier = asyncio.create_task(
            self.write(lambda conn: None)
        )  # its commit includes everything that was queued before
        if self._writing is not None:
            await asyncio.wait([barrier, self._writing], return_when=asyncio.FIRST_COMPLETED)
            self._writing.cancel()
            barrier.cancel()
            await asyncio.wait([barrier, self._writing])
        reading, self._reading = [*self._reading, *filter(None, [self._examining])], []
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        for waiting in (self._looks, self._scans):
            while not waiting.empty():
                waiting.get_nowait().done.cancel()
        for connection in (*self._readers, *self._scanners, self._writer):
            await connection.close()

    def source(self, source: RowSource) -> None:
        """Adds the rows of a source, the journal's events, to every transaction from now on."""
        self._source = source

    def wake(self) -> None:
        """Wakes the writer: the source has rows."""
        self._wake.set()

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of work in a read transaction, with a consistent view of committed data; it cannot write.

        Raises StorageError if the database cannot be read.
        """
        return await self._look(self._looks, partial(_reading, work, args, kwargs))

    async def glance(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `read`, for work of one statement, which needs no transaction for a consistent view."""
        return await self._look(self._looks, lambda conn: work(conn, *args, **kwargs))

    async def scan(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `read`, for lists, sums and exports, on separate connections; TooSlow after 5 seconds."""
        return await self._look(self._scans, partial(_reading, work, args, kwargs))

    async def _look(self, queue: "asyncio.Queue[Pending]", work: Callable[[sqlite3.Connection], T]) -> T:
        if not self._reading:
            raise RuntimeError("the database is closed")
        self._check()
        done: asyncio.Future[T] = _future()
        queue.put_nowait(Pending(work, done))
        if queue is self._looks:
            self._waiting_since.append(time.monotonic())
        try:
            return await done
        except (sqlite3.DatabaseError, MemoryError) as error:
            if storage_errors.code(error) == sqlite3.SQLITE_READONLY:  # the work tried to write, which is a bug
                raise
            if storage_errors.code(error) == sqlite3.SQLITE_INTERRUPT:
                raise TooSlow(self._scan_seconds) from error
            if (fault := self._as_fault(error)) is error:
                raise
            raise fault from error

    async def _read_forever(self, reader: WorkConnection, name: str) -> None:
        while True:
            looks = [await self._looks.get()]
            while len(looks) < LOOKS and not self._looks.empty():
                looks.append(self._looks.get_nowait())
            for _ in looks:
                self._waiting_since.popleft()
            looks = [one for one in looks if not one.done.done()]
            try:
                with self._at_work(name):
                    outcomes = await reader.run(partial(_each, [one.work for one in looks]))
            except asyncio.CancelledError:
                for one in looks:
                    one.done.cancel()
                raise
            except BaseException:
                for one in looks:
                    _settle(one.done, StorageError(_ENDED, lasting=True))
                raise
            for one, outcome in zip(looks, outcomes, strict=True):
                _settle(one.done, outcome)

    async def _scan_forever(self, scanner: WorkConnection, name: str) -> None:
        async def run(work: Callable[[sqlite3.Connection], Any]) -> Any:
            with self._at_work(name):
                return (await scanner.run(partial(_each, [work])))[0]

        await scan_forever(self._scans, self._scan_seconds, run=run, interrupt=scanner.interrupt, settle=_settle)

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of work, once it is committed; an exception rolls back this work only.

        Calls without an await in between share a transaction, in order, and so do the rows of the source. The work is
        committed even if the caller is cancelled. Raises StorageError if the database rejects it; the next write tries
        again.
        """
        result: T = await self._put(Pending(lambda conn: work(conn, *args, **kwargs), _future()))
        return result

    async def write_for(self, owner: Owner, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `write`, in one transaction with the owner's rows; raises the owner's error if some of them were lost."""
        result: T = await self._put(Pending(lambda conn: work(conn, *args, **kwargs), _future(), owner))
        return result

    async def _put(self, pending: Pending) -> Any:
        self._check()
        self._works.append(pending)
        self._wake.set()
        return await pending.done

    def delay(self) -> float:
        """Seconds that the oldest queued read has waited."""
        return 0.0 if self._looks.empty() else time.monotonic() - self._waiting_since[0]

    def stalled(self, seconds: float) -> dict[str, float]:
        """Threads that have run one work for longer than this, with the seconds."""
        now = time.monotonic()
        return {name: now - since for name, since in self._since.items() if now - since > seconds}

    @contextmanager
    def _at_work(self, name: str) -> Iterator[None]:
        self._since[name] = time.monotonic()
        try:
            yield
        finally:
            del self._since[name]

    async def between(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `checkpoint`, or of other work that is not to be in a transaction; writes wait meanwhile."""
        result: T = await self._writer.run(work)
        return result

    async def _write_forever(self) -> None:
        now, earliest = asyncio.get_running_loop().time, 0.0
        while True:
            await self._wake.wait()
            if (early := earliest - now()) > 0:
                await asyncio.sleep(early)
            self._wake.clear()
            works = self._running = list(self._due())
            rows = self._source.take() if self._source else ()
            earliest = now() + GATHER_SECONDS if rows and rows[0][0] != rows[-1][0] else 0.0
            changes = self._writer.total_changes if self.fault else 0
            try:
                with self._at_work("writer"):
                    work = partial(_read_again_if_damaged, partial(_transact, works, self._source, rows))
                    outcomes, refused = await self._writer.run(work)
            except (sqlite3.Error, MemoryError) as failure:
                level = logging.DEBUG if self.fault else logging.ERROR  # once per outage
                log.log(level, "a transaction of %d works and %d rows failed: %r", len(works), len(rows), failure)
                fault = self._remember(failure)
                outcomes, refused = [fault] * len(works), {row[0]: fault for row in rows}
            else:
                if self.fault and not self.fault.lasting and self._writer.total_changes > changes:
                    self.fault = None
                self.commits += 1
                self.committed_works += len(works)
                self.committed_rows += sum(row[0] not in refused for row in rows) if refused else len(rows)
            if self._source and rows:
                self._source.settled({key: self._as_fault(error) for key, error in refused.items()})
            for one, outcome in zip(works, outcomes, strict=True):
                _settle(one.done, self._as_fault(outcome) if isinstance(outcome, Exception) else outcome)

    def _due(self) -> Iterator[Pending]:
        """The queued works; those whose owner has lost rows fail at once."""
        works, self._works = self._works, []
        for one in works:
            if one.owner is not None and one.owner.error is not None:
                _settle(one.done, one.owner.error)
            else:
                yield one

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Fails all queued work if the thread of the writer or of a reader has died."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.critical("the %s has ended: nothing is stored any more", task.get_name(), exc_info=error)
        self.fault = StorageError(_ENDED, lasting=True)
        for one in (*self._running, *self._works):
            _settle(one.done, self.fault)
        for waiting in (self._looks, self._scans):
            while not waiting.empty():
                _settle(waiting.get_nowait().done, self.fault)
        if self._source:
            self._source.lost(self.fault)
        self.lost.set()

    async def _examine(self) -> None:
        await integrity.wait_until_intact(self.path)
        if not self.lost.is_set():
            log.warning("%s reads as a sound database again", self.path)
            self.fault = None

    def _check(self) -> None:
        if self.lost.is_set():
            raise StorageError(_ENDED, lasting=True)

    def _as_fault(self, error: Exception) -> Exception:
        """The error, as a StorageError if the file, the disk or the memory is its cause."""
        return self._remember(error) if storage_errors.is_known(error) else error

    def _remember(self, error: Exception) -> StorageError:
        """The StorageError of a fault, which `fault` holds until a write succeeds."""
        fault = storage_errors.fault_of(error)
        if self.fault is None or not self.fault.lasting:
            self.fault = fault
            if fault.lasting:
                self._examining = asyncio.create_task(self._examine(), name="examination of the database")
        return fault


async def _open(opened: AsyncExitStack, path: Path, synchronous: str, *, read_only: bool = False) -> WorkConnection:
    """A connection that the stack closes: a running thread would keep the process alive."""
    try:
        connection = await open_connection(partial(connect, path, synchronous, read_only=read_only))
    except (sqlite3.Error, MemoryError) as error:
        raise BootError(f"{path} cannot be opened: {str(error) or 'there is not enough memory'}") from error
    opened.push_async_callback(connection.close)
    return connection


def _settle(done: asyncio.Future[Any], outcome: Any) -> None:
    if done.done():
        return
    if isinstance(outcome, StopIteration):  # a future cannot raise it
        outcome = RuntimeError("the work raised StopIteration")
    if isinstance(outcome, Exception):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)


def _read_again_if_damaged(work: Callable[[sqlite3.Connection], T], conn: sqlite3.Connection) -> T:
    """Runs the work again if the file seems damaged: SQLite reports a failed read of the disk the same way."""
    try:
        return work(conn)
    except sqlite3.DatabaseError as error:
        if not storage_errors.is_damage(error):
            raise
        clear_frames(error.__traceback__)
    roll_back(conn)
    return work(conn)


def _each(works: Sequence[Callable[[sqlite3.Connection], Any]], conn: sqlite3.Connection) -> list[Any]:
    """The result or the exception of each work."""
    outcomes: list[Any] = []
    for work in works:
        try:
            if conn.in_transaction:  # the rollback of the previous work failed
                conn.execute("rollback")
            outcomes.append(_read_again_if_damaged(work, conn))
        except Exception as error:  # noqa: BLE001 - it is raised where the work was asked for
            clear_frames(error.__traceback__)  # a cursor in a frame keeps its snapshot open
            roll_back(conn)
            outcomes.append(error)
    return outcomes


def _reading(work: Callable[..., T], args: Sequence[Any], kwargs: dict[str, Any], conn: sqlite3.Connection) -> T:
    conn.execute("begin")
    found = work(conn, *args, **kwargs)
    conn.execute("rollback")
    return found


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def _transact(
    works: Sequence[Pending], source: RowSource | None, rows: Rows, conn: sqlite3.Connection
) -> tuple[list[Any], Mapping[Any, Exception]]:
    """Commits rows and works in one transaction; returns the works' outcomes, and errors by session of refused rows.

    If anything fails, all of it runs again with a savepoint for each: a failure in a session's rows, or in the works
    that belong to them, rolls back all of these; a failure of any other work rolls back that work. A fault of the file
    or of memory rolls back everything and is raised.
    """
    _begin(conn)
    refused: Mapping[Any, Exception] = {}
    try:
        try:
            if source and rows:
                source.insert(conn, rows)
            outcomes = [one.work(conn) for one in works]
        except Exception as error:  # another error becomes the outcome of its work in the second run
            if storage_errors.breaks(error):
                raise
            _begin(conn)
            outcomes, refused = each_apart(works, source, rows, conn)
        if not conn.in_transaction:  # SQLite rolled back, and a work ignored the error
            raise sqlite3.OperationalError("the transaction ended before its commit")
        conn.execute("commit")
    except BaseException as error:
        clear_frames(error.__traceback__)
        roll_back(conn)
        raise
    return outcomes, refused


def _begin(conn: sqlite3.Connection) -> None:
    """Begins a write transaction, ends one that is left open, and waits for other processes as long as necessary."""
    if conn.in_transaction:
        conn.execute("rollback")
    while True:
        try:
            conn.execute("begin immediate")
        except sqlite3.OperationalError as error:
            if storage_errors.code(error) != sqlite3.SQLITE_BUSY:  # busy: a command, a backup or a check uses the file
                raise
            log.warning("another process has been writing to the database for %g s; waiting on", BUSY_SECONDS)
        else:
            return
