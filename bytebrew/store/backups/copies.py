"""Consistent copies of a database, even if it is in use, and durable file writes."""

import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import count
from pathlib import Path

from bytebrew.base.errors import BootError
from bytebrew.store.sqlite.epoch import log_of

PAGES = 1024
"""Pages copied between two progress reports."""
STAMP = r"\d{8}T\d{6}Z"
"""Regular expression of the UTC time in the name of a copy."""


def copy_database(
    source: Path,
    uri: str,
    target: Path,
    *,
    at: Callable[[int, int], None] = lambda done, total: None,
    begun: Callable[[], object] = lambda: None,
) -> bool:
    """Copies a snapshot into an empty file and marks it as clean; returns whether the log was lost.

    `begun` is called once the read transaction has started, `at` with the pages copied and the total.
    """
    log_there = log_of(source).exists()
    with (
        closing(sqlite3.connect(uri, timeout=60, uri=True, isolation_level=None)) as from_,
        closing(sqlite3.connect(target, isolation_level=None)) as to,
    ):
        from_.execute("begin")
        from_.execute("select count(*) from sqlite_master").fetchone()  # opens the snapshot
        begun()
        from_.backup(to, pages=PAGES, progress=lambda _, left, total: at(total - left, total))
        from_.execute("rollback")
        to.execute("pragma journal_mode = delete")  # one file, without a log beside it
        if not has_table(to, "history"):
            return False
        torn = not log_there and to.execute("select clean from history").fetchone() == (0,)
        to.execute("update history set clean = 1")
        return torn


def has_table(conn: sqlite3.Connection, table: str) -> bool:
    """Whether the database has a table of this name."""
    return conn.execute("select 1 from sqlite_master where name = ?", (table,)).fetchone() is not None


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raises BootError if the disk of the folder has less free space."""
    if (free := shutil.disk_usage(folder).free) < needed:
        message = f"there is not enough space for {what} on the disk of {folder}"
        raise BootError(f"{message}: it takes {needed:,} bytes, and {free:,} are free")


def make_file(path: Path, what: str) -> None:
    """Creates an empty file with mode 0600; BootError if it exists or cannot be written."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        message = "it is there already; choose another name" if isinstance(error, FileExistsError) else error.strerror
        raise BootError(f"cannot write {what} {path}: {message}") from error


def free_name(path: Path) -> Path:
    """The path, or the path with the first number appended that makes it unique."""
    names = (path.with_name(path.name + (f"-{n}" if n else "")) for n in count())
    return next(name for name in names if not name.exists())


def stamp() -> str:
    """The current time, for the name of a copy."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def oldest_first(copies: Iterable[Path]) -> list[Path]:
    """Copies by the last time in their names; one in the future was made before the clock was set back."""
    present = stamp()

    def age(copy: Path) -> tuple[bool, str]:
        moment = re.findall(STAMP, copy.name)[-1]
        return moment <= present, copy.name

    return sorted(copies, key=age)


def sync(path: Path) -> None:
    """Flushes a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
