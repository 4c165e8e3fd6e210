"""Connections to the database file with their pragmas, and the pragmas that maintain the file."""

import logging
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bytebrew.contract.connection import Connection
from bytebrew.store.sqlite import storage_errors

log = logging.getLogger(__name__)

BUSY_SECONDS = 5.0
BEAT = 100_000
"""Instructions of SQLite's virtual machine between two calls of a progress callback."""
LOOK = 1000
"""The same for a statement with a time limit of a few milliseconds."""
CACHE = -512
"""Size of a connection's cache, in KiB if negative."""
LATE_PAGES = 8192
"""Size of the log from which on commits checkpoint themselves."""
CHECKPOINT_SECONDS = 1.0
"""Longest wait for another checkpoint, which may be that of another process."""
WAL_BYTES = 64 * 1024 * 1024
"""Size to which the log is truncated after a burst."""


class RecallingConnection(sqlite3.Connection):
    """A connection that only reads, and keeps what works have found while nobody commits anything."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._version = 0
        self._results: dict[Callable[[Connection], Any], Any] = {}

    def recall(self, work: Callable[[Connection], Any]) -> Any:
        """As `recalled`; the version is another one after each commit, also of other processes."""
        version = _number(self, "data_version")
        if version != self._version:
            self._version, self._results = version, {}
        if work not in self._results:
            self._results[work] = work(self)
        return self._results[work]


def connect(
    path: Path,
    synchronous: str = "normal",
    *,
    read_only: bool = False,
    kind: type[sqlite3.Connection] = sqlite3.Connection,
) -> sqlite3.Connection:
    """A plain connection with the pragmas that every user of the file needs."""
    conn = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, cached_statements=256, factory=kind)
    conn.row_factory = sqlite3.Row
    try:
        conn.execute("pragma auto_vacuum = incremental")
        conn.execute("pragma journal_mode = wal")
        conn.execute(f"pragma journal_size_limit = {WAL_BYTES}")
        conn.execute(f"pragma synchronous = {synchronous}")
        conn.execute("pragma foreign_keys = on")
        conn.execute("pragma secure_delete = on")  # SQLite's own default is off, that of Debian's build is on
        conn.execute(f"pragma cache_size = {CACHE}")  # the operating system caches the file too
        if not _folder_for_temporary_files():
            conn.execute("pragma temp_store = memory")
        if read_only:
            conn.execute("pragma query_only = on")
    except sqlite3.Error:
        conn.close()
        raise
    return conn


def impatient(conn: sqlite3.Connection, is_late: Callable[[], bool]) -> sqlite3.Connection:
    """The connection, whose statements wait for no lock and end with an error once `is_late` is true."""
    conn.execute("pragma busy_timeout = 0")
    conn.set_progress_handler(is_late, LOOK)
    return conn


def _folder_for_temporary_files() -> bool:
    """Whether there is one: SQLite writes large sorts and statement journals to files, and fails without a folder."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True


def shrink(conn: Connection, spare: int) -> Sequence[object]:
    """Returns some free pages at the end of the file to the disk, and their number."""
    free = _number(conn, "freelist_count")
    if free <= spare:
        return ()
    for _ in range(min(64, free - spare)):
        conn.execute("pragma incremental_vacuum(1)")  # the sqlite3 module runs one step of it, which frees one page
    return range(free - _number(conn, "freelist_count"))


def file_bytes(conn: Connection) -> int:
    """The size of the database file."""
    return _number(conn, "page_count") * _number(conn, "page_size")


def checkpoint_late(conn: Connection) -> None:
    """Lets commits checkpoint only where others do not keep the log small: under a load without a gap."""
    conn.execute(f"pragma wal_autocheckpoint = {LATE_PAGES}").fetchall()


def checkpoint(conn: Connection) -> None:
    """Copies the log into the file as far as readers allow; waits for another checkpoint, not for readers."""
    end = time.monotonic() + CHECKPOINT_SECONDS
    while conn.execute("pragma wal_checkpoint(passive)").fetchone()[0] and time.monotonic() < end:
        time.sleep(0.001)


def truncate_log(conn: Connection) -> bool:
    """Copies the log into the file and empties it; returns whether no reader of the log was in the way."""
    conn.execute("pragma busy_timeout = 200")  # writes wait meanwhile
    try:
        busy, _, _ = conn.execute("pragma wal_checkpoint(truncate)").fetchone()
    finally:
        conn.execute(f"pragma busy_timeout = {BUSY_SECONDS * 1000:.0f}")
    return not busy


def rewrite(conn: sqlite3.Connection) -> None:
    """Writes the whole file anew into the log, without the bytes of deleted rows; writes wait, reads do not.

    Secure deletion alone leaves copies: where SQLite has moved a row to another page, and in pages that were freed
    before. Raises StorageError, such as for a full disk. https://sqlite.org/lang_vacuum.html
    """
    conn.execute("pragma cache_size = -65536")  # KiB
    try:
        conn.execute("vacuum")
    except sqlite3.Error as error:
        raise storage_errors.fault_of(error) from error
    finally:
        conn.execute(f"pragma cache_size = {CACHE}")


def empty_log(conn: sqlite3.Connection) -> bool:
    """As `truncate_log`; raises StorageError, such as for a full disk."""
    try:
        return truncate_log(conn)
    except sqlite3.Error as error:
        raise storage_errors.fault_of(error) from error


def _number(conn: Connection, pragma: str) -> int:
    return int(conn.execute(f"pragma {pragma}").fetchone()[0])
