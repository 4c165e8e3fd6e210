"""The one SQLite file: a writer that commits for everyone at once, and readers beside it."""

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, get_args, get_origin

import aiosqlite
import msgspec
from msgspec import Struct

from bytebrew.errors import BootError, StorageError, TooSlow
from bytebrew.scanning import SCAN_SECONDS, SCANNERS, scan_forever

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound=Struct)
Work = Callable[Concatenate[sqlite3.Connection, P], T]
_Asked = tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]
BUSY_SECONDS = 5.0
WAL_BYTES = 64 * 1024 * 1024
"""What the log beside the file is cut back to after a burst."""
_DAMAGED = "The database is damaged: run bytebrew doctor, and restore a backup"
_DISK = "The disk does not do what the database asks of it: see to the disk of the data folder"
_READ_ONLY = "The database cannot be written: see to the rights of the data folder and how its disk is mounted"
_FAULTS = {
    sqlite3.SQLITE_FULL: "The disk is full, so nothing can be stored: free some space on it",
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_IOERR: _DISK,
    sqlite3.SQLITE_CANTOPEN: _DISK,
}
GATHER_SECONDS = 0.003
"""How long after a transaction with rows of several the next begins, so that more share it; one alone never waits."""
READERS = 2
LOOKS = 8
"""Reads that share a hop into a reader's thread at most, for a long one holds up those behind it."""


class RowSource(Protocol):
    """Rows that wait for the next transaction, such as the journal's."""

    def take(self) -> tuple[str, list[tuple[Any, ...]]]:
        """The beginning of an insert, up to its values, and the rows for it, which are no longer waiting.

        The first column says whose a row is.
        """

    def settled(self, refused: Sequence[tuple[Any, ...]], error: Exception | None) -> None:
        """What was taken is committed but for `refused`; an error says what the file lacks to take those."""


class _Connection(aiosqlite.Connection):
    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs a whole piece of work in the connection's thread: one hop, however many statements."""
        result: T = await self._execute(work, self._conn)  # type: ignore[no-untyped-call]
        return result


class Database:
    """Work is a plain function of a `sqlite3.Connection`; it runs in the database's thread, in one hop."""

    def __init__(self, path: Path, synchronous: str = "normal", *, scan_seconds: float = SCAN_SECONDS) -> None:
        self.path = path
        self._synchronous = synchronous
        self._scan_seconds = scan_seconds
        self._works: list[_Asked] = []
        self._looks: asyncio.Queue[_Asked] = asyncio.Queue()
        self._scans: asyncio.Queue[_Asked] = asyncio.Queue()
        self._reading: list[asyncio.Task[None]] = []
        self._source: RowSource | None = None
        self._wake = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self.fault: StorageError | None = None
        self.commits = self.committed_works = self.committed_rows = 0

    async def __aenter__(self) -> "Database":
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        self._writer = await _open(self.path, self._synchronous)
        self._readers = [await _open(self.path, self._synchronous, read_only=True) for _ in range(READERS)]
        self._reading = [asyncio.create_task(self._read_forever(one), name="database reader") for one in self._readers]
        self._scanners = [await _open(self.path, self._synchronous, read_only=True) for _ in range(SCANNERS)]
        scanning = [scan_forever(one, self._scans, self._scan_seconds, _settle) for one in self._scanners]
        self._reading += [asyncio.create_task(one, name="database scanner") for one in scanning]
        self._writing = asyncio.create_task(self._write_forever(), name="database writer")
        return self

    async def __aexit__(self, *exc: object) -> None:
        barrier = asyncio.create_task(self.write(lambda conn: None))  # all that was asked for before it is committed
        if self._writing is not None:
            await asyncio.wait([barrier, self._writing], return_when=asyncio.FIRST_COMPLETED)
            self._writing.cancel()
            barrier.cancel()
            await asyncio.wait([barrier, self._writing])
        reading, self._reading = self._reading, []
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        for waiting in (self._looks, self._scans):
            while not waiting.empty():
                waiting.get_nowait()[1].cancel()
        for connection in (*self._readers, *self._scanners, self._writer):
            await connection.close()

    def source(self, source: RowSource) -> None:
        """Takes the rows of this source into every transaction from now on."""
        self._source = source

    def wake(self) -> None:
        """Tells the writer that the source has rows."""
        self._wake.set()

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of work on a consistent view of what is committed; it cannot write.

        Raises StorageError where the file cannot be read.
        """
        return await self._look(self._looks, partial(_reading, work, args, kwargs))

    async def glance(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `read`, for work of one statement: that sees a consistent view without a transaction."""
        return await self._look(self._looks, lambda conn: work(conn, *args, **kwargs))

    async def scan(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `read`, for lists, sums and exports, by readers of their own; TooSlow after 5 seconds."""
        return await self._look(self._scans, partial(_reading, work, args, kwargs))

    async def _look(self, queue: "asyncio.Queue[_Asked]", work: Callable[[sqlite3.Connection], T]) -> T:
        if not self._reading:
            raise RuntimeError("the database is closed")
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        queue.put_nowait((work, done))
        try:
            return await done
        except sqlite3.DatabaseError as error:
            if _code(error) == sqlite3.SQLITE_READONLY:  # the work's own fault, for it tried to write
                raise
            if _code(error) == sqlite3.SQLITE_INTERRUPT:
                raise TooSlow(self._scan_seconds) from error
            if (told := self._told(error)) is error:
                raise
            raise told from error

    async def _read_forever(self, reader: _Connection) -> None:
        while True:
            asked = [await self._looks.get()]
            while len(asked) < LOOKS and not self._looks.empty():
                asked.append(self._looks.get_nowait())
            asked = [(work, done) for work, done in asked if not done.done()]
            try:
                outcomes = await reader.run(partial(_each, [work for work, _ in asked]))
            except asyncio.CancelledError:
                for _, done in asked:
                    done.cancel()
                raise
            for (_, done), outcome in zip(asked, outcomes, strict=True):
                _settle(done, outcome)

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of work once it is committed; an exception in it undoes it alone.

        What is asked for without an await in between lands in one transaction, in that order, and so do the rows that
        wait in the source. It is committed even if the caller is cancelled meanwhile. Raises StorageError where the
        file does not take it; the next write tries anew.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._works.append((lambda conn: work(conn, *args, **kwargs), done))
        self._wake.set()
        return await done

    async def checkpoint(self) -> None:
        """Takes what is in the log over into the file, which is then as long as it needs to be; waits for nobody."""
        await self._writer.run(lambda conn: conn.execute("pragma wal_checkpoint(passive)").fetchall())

    async def _write_forever(self) -> None:
        now, earliest = asyncio.get_running_loop().time, 0.0
        while True:
            await self._wake.wait()
            if (early := earliest - now()) > 0:
                await asyncio.sleep(early)
            self._wake.clear()
            works, self._works = self._works, []
            sql, rows = self._source.take() if self._source else ("", [])
            earliest = now() + GATHER_SECONDS if rows and rows[0][0] != rows[-1][0] else 0.0
            error: Exception | None = None
            changes = self._writer.total_changes if self.fault else 0
            try:
                outcomes, refused = await self._writer.run(partial(_transact, [work for work, _ in works], sql, rows))
            except sqlite3.Error as failure:
                level = logging.DEBUG if self.fault else logging.ERROR  # once for each time that it begins
                log.log(level, "a transaction of %d works and %d rows failed: %s", len(works), len(rows), failure)
                error = self._told(failure)
                outcomes, refused = [error] * len(works), [(row, error) for row in rows]
            else:
                if self.fault and not self.fault.lasting and self._writer.total_changes > changes:
                    self.fault = None
                error = next((told for _, one in refused if isinstance(told := self._told(one), StorageError)), None)
                self.commits += 1
                self.committed_works += len(works)
                self.committed_rows += len(rows) - len(refused)
            if self._source and rows:
                self._source.settled([row for row, _ in refused], error)
            for (_, done), outcome in zip(works, outcomes, strict=True):
                _settle(done, self._told(outcome) if isinstance(outcome, sqlite3.Error) else outcome)

    def _told(self, error: Exception) -> Exception:
        """The error in words where it is the file's fault, which is then remembered until a write succeeds."""
        if (words := _FAULTS.get(_code(error))) is None:
            return error
        told = StorageError(words, lasting=words is _DAMAGED)
        told.__cause__ = error
        if self.fault is None or not self.fault.lasting:
            self.fault = told
        return told


def connect(path: Path, synchronous: str = "normal", *, read_only: bool = False) -> sqlite3.Connection:
    """A plain connection with the pragmas that every user of the file needs."""
    conn = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, cached_statements=256)
    conn.row_factory = sqlite3.Row
    try:
        conn.execute("pragma auto_vacuum = incremental")
        conn.execute("pragma journal_mode = wal")
        conn.execute(f"pragma journal_size_limit = {WAL_BYTES}")
        conn.execute(f"pragma synchronous = {synchronous}")
        conn.execute("pragma foreign_keys = on")
        conn.execute("pragma cache_size = -512")  # KiB; the system caches the file too
        if read_only:
            conn.execute("pragma query_only = on")
    except sqlite3.Error:
        conn.close()
        raise
    return conn


def struct_of(row: sqlite3.Row, kind: type[S]) -> S:
    """A row as a struct of the same names; its lists and objects are stored as JSON text."""
    values = dict(row)
    for name in _json_fields(kind):
        if values[name] is not None:
            values[name] = msgspec.json.decode(values[name])
    return msgspec.convert(values, kind, strict=False)


@cache
def _json_fields(kind: type[Struct]) -> tuple[str, ...]:
    return tuple(
        field.name
        for field in msgspec.structs.fields(kind)
        if any(get_origin(part) in (tuple, list, dict) for part in (field.type, *get_args(field.type)))
    )


def backup(source: Path, target: Path) -> None:
    """Copies a database that may be in use to a new file of its own; BootError where that cannot be."""
    if not source.exists():
        raise BootError(f"there is no database at {source}; set BYTEBREW_DATA_DIR to the engine's data folder")
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        words = "it is there already; choose another name" if isinstance(error, FileExistsError) else error.strerror
        raise BootError(f"cannot write the backup {target}: {words}") from error
    try:
        with closing(sqlite3.connect(source, timeout=60)) as from_, closing(sqlite3.connect(target)) as to:
            from_.backup(to)
            to.execute("pragma journal_mode = delete")  # one file, without a log beside it
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        raise BootError(f"cannot back up {source} to {target}: {error}") from error


async def _open(path: Path, synchronous: str, *, read_only: bool = False) -> _Connection:
    try:
        connection = _Connection(partial(connect, path, synchronous, read_only=read_only), 64)
        await connection
    except sqlite3.Error as error:
        raise BootError(f"{path} cannot be opened: {error}") from error
    return connection


def _settle(done: asyncio.Future[Any], outcome: Any) -> None:
    if done.done():
        return
    if isinstance(outcome, StopIteration):  # no future takes one
        outcome = RuntimeError("the work raised StopIteration")
    if isinstance(outcome, Exception):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)


def _each(works: Sequence[Callable[[sqlite3.Connection], Any]], conn: sqlite3.Connection) -> list[Any]:
    """The results, each an exception where the work raised one."""
    outcomes: list[Any] = []
    for work in works:
        try:
            outcomes.append(work(conn))
        except Exception as error:  # noqa: BLE001 - it is raised where the work was asked for
            outcomes.append(error)
    return outcomes


def _reading(work: Callable[..., T], args: Sequence[Any], kwargs: dict[str, Any], conn: sqlite3.Connection) -> T:
    conn.execute("begin")
    try:
        return work(conn, *args, **kwargs)
    finally:
        conn.execute("rollback")


def _transact(
    works: Sequence[Callable[[sqlite3.Connection], Any]],
    sql: str,
    rows: Sequence[tuple[Any, ...]],
    conn: sqlite3.Connection,
) -> tuple[list[Any], Sequence[tuple[tuple[Any, ...], Exception]]]:
    """Everything together; where something in it fails, everything again, each apart."""
    _begin(conn)
    refused: Sequence[tuple[tuple[Any, ...], Exception]] = ()
    try:
        try:
            outcomes = [work(conn) for work in works]
            _insert(sql, rows, conn)
        except Exception as error:  # whatever else it is, it is somebody's outcome the second time
            if _of_the_file(error):
                raise
            conn.execute("rollback")
            _begin(conn)
            outcomes = [_apart(conn, work) for work in works]
            if isinstance(_apart(conn, partial(_insert, sql, rows)), Exception):
                each = [(row, _apart(conn, partial(_insert, sql, [row]))) for row in rows]
                refused = [(row, error) for row, error in each if isinstance(error, Exception)]
        conn.execute("commit")
    except BaseException:
        if conn.in_transaction:
            conn.execute("rollback")
        raise
    return outcomes, refused


def _apart(conn: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any]) -> Any:
    """The result, or the exception with all that the work did undone; a fault of the file itself is raised."""
    conn.execute("savepoint work")
    try:
        outcome = work(conn)
    except Exception as error:  # it is raised where the work was asked for
        if _of_the_file(error):
            raise
        conn.execute("rollback to work")
        outcome = error
    conn.execute("release work")
    return outcome


def _insert(sql: str, rows: Sequence[tuple[Any, ...]], conn: sqlite3.Connection) -> None:
    """Inserts rows many to a statement: each statement is a time at which the loop's thread may take the GIL."""
    at = 0
    for size in (64, 8, 1):
        while len(rows) - at >= size:
            conn.execute(_values(sql, len(rows[0]), size), [*chain.from_iterable(rows[at : at + size])])
            at += size


@cache
def _values(sql: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"{sql} values {', '.join([row] * rows)}"


def _of_the_file(error: Exception) -> bool:
    """Whether all that is written now meets the error; one in a work's own SQL is that work's alone."""
    return isinstance(error, sqlite3.OperationalError) and _code(error) > sqlite3.SQLITE_ERROR


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _begin(conn: sqlite3.Connection) -> None:
    while True:
        try:
            conn.execute("begin immediate")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            log.warning("another process has been writing to the database for %g s; waiting on", BUSY_SECONDS)
        else:
            return
