"""The database: one writer that commits the works of all callers together, and concurrent readers, over a driver."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, closing, contextmanager
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from bytebrew.base.errors import Fenced, StorageError, TooSlow
from bytebrew.contract.connection import Connection, Cursor
from bytebrew.contract.storage.store import Driver
from bytebrew.store.database.aiosqlite_fixes import WorkConnection
from bytebrew.store.database.checkpoints import Checkpoints
from bytebrew.store.database.connections import open_in_thread
from bytebrew.store.database.outage import PAUSE, Outage, patient, unknown_fault
from bytebrew.store.database.scans import SCAN_SECONDS, SCANNERS, scan_forever
from bytebrew.store.database.transactions import NearReader, Unsettled, again_if_may_pass, each_of, reading, transact
from bytebrew.store.database.write_queue import Owner, Pending, Rows, RowSource

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Work = Callable[Concatenate[Connection, P], T]
_ENDED = "The database is served no more: the engine must be started anew"
GATHER_SECONDS = 0.005
"""Pause after a transaction with events of `MANY` sessions, so that more share the next; few sessions never wait."""
MANY = 8
READERS = 2
LOOKS = 8
"""Most reads in one call of a reader's thread: a slow one delays the rest."""


class Database:
    """Runs works, plain functions of a connection, in the threads of a writer, of readers and of scanners.

    Each work is one call of a thread, however many statements it has. Writes that arrive during a transaction are
    committed together in the next one (group commit); if one fails, each gets a savepoint.
    """

    def __init__(self, driver: Driver, *, scan_seconds: float = SCAN_SECONDS) -> None:
        self.driver, self.shared = driver, driver.shared
        self._scan_seconds = scan_seconds
        self._works, self._running = list[Pending](), list[Pending]()
        self._looks, self._scans = asyncio.Queue[Pending](), asyncio.Queue[Pending]()
        self._since: dict[str, float] = {}
        self._near, self.checkpoints = NearReader(driver, self._since), Checkpoints(driver, self._scans)
        self._waiting_since = deque[float]()  # enqueue times of the waiting reads
        self._reading: list[asyncio.Task[None]] = []
        self._source: RowSource | None = None
        self._wake = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._examining: asyncio.Task[None] | None = None
        self.fault: StorageError | None = None
        self.outage = Outage()
        self.lost = asyncio.Event()
        """Set if a thread of the database has died: no more reads or writes."""
        self.commits = self.committed_works = self.committed_rows = 0

    async def __aenter__(self) -> "Database":
        async with AsyncExitStack() as opened:
            self._writer = await open_in_thread(opened, self.driver)
            reader = partial(open_in_thread, opened, self.driver, read_only=True)
            self._readers = [await reader() for _ in range(READERS)]
            self._scanners = [await reader() for _ in range(SCANNERS)]
            self._near.open()
            opened.pop_all()
        loops = {f"reader {n}": self._read_forever(one, f"reader {n}") for n, one in enumerate(self._readers, 1)}
        loops |= {f"scanner {n}": self._scan_forever(one, f"scanner {n}") for n, one in enumerate(self._scanners, 1)}
        self._reading = [asyncio.create_task(loop, name=f"database {name}") for name, loop in loops.items()]
        self._writing = asyncio.create_task(self._write_forever(), name="database writer")
        for task in (self._writing, *self._reading):
            task.add_done_callback(self._ended)
        return self

    async def __aexit__(self, *exc: object) -> None:
        barrier = asyncio.create_task(self.write(lambda conn: None))  # commits everything that was queued before
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
        self._near.close()
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
        return await self._look(self._looks, partial(reading, self.driver, work, args, kwargs))

    async def glance(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `read`, for work of one statement that finds few rows by keys; in the event loop if they are near."""
        seen = self._near.read(work, args, kwargs)
        return seen[0] if seen else await self._look(self._looks, lambda conn: work(conn, *args, **kwargs))

    async def peek(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `glance`, for work of several such statements, with a consistent view."""
        seen = self._near.read(work, args, kwargs)
        return seen[0] if seen else await self.read(work, *args, **kwargs)

    async def scan(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `read`, for lists, sums and exports, on separate connections; TooSlow after 5 seconds."""
        return await self._look(self._scans, partial(reading, self.driver, work, args, kwargs))

    async def browse(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `scan`, for a list that is mostly short: if it is, in the event loop like `peek`."""
        seen = self._near.read(work, args, kwargs)
        return seen[0] if seen else await self.scan(work, *args, **kwargs)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection of its own that reads one snapshot, for a thread; StorageError if the database is the cause."""
        try:
            with closing(self.driver.open(read_only=True)) as conn:
                self.driver.begin_read(conn)
                yield conn
        except Exception as error:
            if fault := self.driver.fault(error):
                raise fault from error
            raise

    async def _look(self, queue: "asyncio.Queue[Pending]", work: Callable[[Connection], T]) -> T:
        while True:
            if not self._reading:
                raise RuntimeError("the database is closed")
            self._check()
            if self.outage.fault is not None:
                await self.outage.over()
                self._check()
            done: asyncio.Future[T] = _future()
            queue.put_nowait(Pending(work, done))
            if queue is self._looks:
                self._waiting_since.append(time.monotonic())
            try:
                return await done
            except (self.driver.error, MemoryError) as error:
                if self.driver.wrote(error):  # which is a bug of the work
                    raise
                if self.driver.interrupted(error):
                    raise TooSlow(self._scan_seconds) from error
                if self.driver.away(error):
                    self._away(error)
                    continue
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
                    outcomes = await reader.run(partial(each_of, self.driver, [one.work for one in looks]))
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
        async def run(work: Callable[[Connection], Any]) -> Any:
            with self._at_work(name):
                return (await scanner.run(partial(each_of, self.driver, [work])))[0]

        await scan_forever(self._scans, self._scan_seconds, run=run, interrupt=scanner.interrupt, settle=_settle)

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of work, once it is committed; an exception rolls back this work only.

        Calls without an await in between share a transaction, in order, and so do the rows of the source. The work is
        committed even if the caller is cancelled. Raises StorageError if the database rejects it; the next write tries
        again.
        """
        result: T = await self._put(Pending(work, _future(), args, kwargs, waits=patient.get()))
        return result

    async def write_for(self, owner: Owner, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `write`, in one transaction with the owner's rows; raises the owner's error if some of them were lost."""
        result: T = await self._put(Pending(work, _future(), args, kwargs, owner, owner.session_id, waits=True))
        return result

    async def write_in(self, scope: str, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `write`, for work on rows of one session or other scope alone: nodes write to others meanwhile."""
        result: T = await self._put(Pending(work, _future(), args, kwargs, None, scope, patient.get()))
        return result

    async def write_from(self, scope: str | None, query: Callable[[Connection], Cursor], work: Callable[..., T]) -> T:
        """As `write_in`, or `write`; `work` may be given the result of its query: all queries are one round trip."""
        result: T = await self._put(Pending(work, _future(), (), {}, None, scope, patient.get(), query))
        return result

    async def _put(self, pending: Pending) -> Any:
        self._check()
        if self.outage.fault is not None and not pending.waits:
            raise self.outage.fault
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

    async def between(self, work: Callable[[Connection], T]) -> T:
        """The result of work that is not to be in a transaction; writes wait meanwhile."""
        result: T = await self._writer.run(work)
        return result

    async def _write_forever(self) -> None:
        now, earliest = asyncio.get_running_loop().time, 0.0
        while True:
            await self._wake.wait()
            if (early := earliest - now()) > 0:
                await asyncio.sleep(early)
            if self.lost.is_set():  # works have failed, and the events that went with them must not stay alone
                return
            self._wake.clear()
            works = self._running = list(self._due())
            rows = self._source.take() if self._source else ()
            earliest = now() + GATHER_SECONDS if len({row[0] for row in rows}) >= MANY else 0.0
            try:
                outcomes, refused = await self._commit(works, rows)
            except StorageError as fault:
                if isinstance(fault, Fenced):
                    self.end(fault)
                outcomes, refused = [fault] * len(works), {row[0]: fault for row in rows}
            else:
                self.commits += 1
                self.checkpoints.committed()
                self.committed_works += len(works)
                self.committed_rows += sum(row[0] not in refused for row in rows) if refused else len(rows)
            if self._source and rows:
                self._source.settled({key: self._as_fault(error) for key, error in refused.items()})
            for one, outcome in zip(works, outcomes, strict=True):
                _settle(one.done, self._as_fault(outcome) if isinstance(outcome, Exception) else outcome)

    async def _commit(self, works: list[Pending], rows: Rows) -> tuple[list[Any], Mapping[Any, Exception]]:
        """Commits one transaction, with what waits for the end of an outage after it; works that do not wait fail.

        Raises StorageError for a fault of the database that waiting does not help against.
        """
        unsettled: Unsettled | None = None
        while True:
            changes = self._writer.total_changes if self.fault else 0
            try:
                with self._at_work("writer"):
                    if unsettled and await self._writer.run(self.driver.is_stored):
                        done = unsettled.outcomes, unsettled.refused
                    else:
                        work = partial(transact, self.driver, works, self._source, rows)
                        done = await self._writer.run(partial(again_if_may_pass, self.driver, work))
            except Unsettled as failure:
                unsettled = failure
                await self._wait(failure.__cause__ or failure, [])
            except (self.driver.error, MemoryError) as failure:
                level = logging.DEBUG if self.fault else logging.ERROR  # once per outage
                log.log(level, "a transaction of %d works and %d rows failed: %r", len(works), len(rows), failure)
                if not self.driver.away(failure):
                    raise self._remember(self.driver.fault(failure) or unknown_fault(failure)) from failure
                await self._wait(failure, [] if unsettled else works)
            else:
                wrote = self.driver.shared or self._writer.total_changes > changes
                if self.fault and not self.fault.lasting and wrote:
                    self.fault = None
                if self.outage.fault is not None:
                    self.outage.end()
                return done

    async def _wait(self, error: BaseException, works: list[Pending]) -> None:
        """Goes on with an outage; works that do not wait for its end, of these and of the queued ones, fail."""
        fault = self._away(error)
        for queue in (works, self._works):
            for one in [one for one in queue if not one.waits]:
                queue.remove(one)
                _settle(one.done, fault)
        await asyncio.sleep(PAUSE)

    def _away(self, error: BaseException) -> StorageError:
        """The fault of a database that is away, which the writer tries to reach from now on."""
        fault = self._remember((isinstance(error, Exception) and self.driver.fault(error)) or unknown_fault(error))
        self.outage.begin(fault)
        self._wake.set()
        return fault

    def _due(self) -> Iterator[Pending]:
        """The queued works; those whose owner has lost rows fail at once."""
        works, self._works = self._works, []
        for one in works:
            if one.owner is not None and one.owner.error is not None:
                _settle(one.done, one.owner.error)
            else:
                yield one

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Ends the database if the thread of the writer or of a reader has died."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, Fenced):
            self.end(error)
            return
        log.critical("the %s has ended: nothing is stored any more", task.get_name(), exc_info=error)
        self.end(StorageError(_ENDED, lasting=True))

    def end(self, fault: StorageError) -> None:
        """Fails all queued work, and all further work, with a fault."""
        if self.lost.is_set():
            return
        self.fault = fault
        self._near.close()
        self.outage.end()  # for nobody waits for it any more
        for one in (*self._running, *self._works):
            _settle(one.done, fault)
        for waiting in (self._looks, self._scans):
            while not waiting.empty():
                _settle(waiting.get_nowait().done, fault)
        if self._source:
            self._source.lost(fault)
        self.lost.set()

    async def _examine(self) -> None:
        await self.driver.restored()
        if not self.lost.is_set():
            log.warning("%s reads as a sound database again", self.driver.place)
            self.fault = None

    def _check(self) -> None:
        if self.lost.is_set():
            raise self.fault or StorageError(_ENDED, lasting=True)

    def _as_fault(self, error: Exception) -> Exception:
        """The error, as a StorageError if the file, the disk or the memory is its cause."""
        fault = self.driver.fault(error)
        return error if fault is None else self._remember(fault)

    def _remember(self, fault: StorageError) -> StorageError:
        """The fault, which `fault` holds until a write succeeds."""
        if self.fault is None or not self.fault.lasting:
            self.fault = fault
            if fault.lasting:
                self._examining = asyncio.create_task(self._examine(), name="examination of the database")
        return fault


def _settle(done: asyncio.Future[Any], outcome: Any) -> None:
    if done.done():
        return
    if isinstance(outcome, StopIteration):  # a future cannot raise it
        outcome = RuntimeError("the work raised StopIteration")
    if isinstance(outcome, Exception):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()
