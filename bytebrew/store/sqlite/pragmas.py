"""A plain connection to the database file, with the pragmas that every user of it needs."""

import logging
import sqlite3
import tempfile
from pathlib import Path

from bytebrew.contract.connection import Connection

log = logging.getLogger(__name__)

BUSY_SECONDS = 5.0
BEAT = 100_000
"""Instructions of SQLite's virtual machine between two calls of a progress callback."""
WAL_BYTES = 64 * 1024 * 1024
"""What the log beside the file is cut back to after a burst."""


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
        if not _folder_for_temporary_files():
            conn.execute("pragma temp_store = memory")
        if read_only:
            conn.execute("pragma query_only = on")
    except sqlite3.Error:
        conn.close()
        raise
    return conn


def _folder_for_temporary_files() -> bool:
    """Whether there is any: SQLite keeps large sorts and what undoes a large statement in files, and fails without."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True


def roll_back(conn: Connection) -> None:
    """Undoes an open transaction; a failure in that is logged, for what is raised is the error that led here."""
    if not conn.in_transaction:  # SQLite has rolled it back
        return
    try:
        conn.execute("rollback")
    except sqlite3.Error as error:
        log.warning("a rollback failed: %s", error)
