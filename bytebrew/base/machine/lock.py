"""Locks that allow one engine per data folder and per database file, whatever its name."""

import errno
import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bytebrew.base.errors import BootError

_BYTE = 0x40000000 + 1024
"""A byte after those that SQLite locks, which end 512 bytes after the first gibibyte."""


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Locks the folder; BootError if another process holds the lock."""
    with _opened(folder / "engine.lock") as whole:
        with _refusing(f"another engine runs on the data folder {folder}; stop it first"):
            fcntl.flock(whole, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextmanager
def held(database: Path) -> Iterator[None]:
    """Locks the database, creating it if missing; BootError if another process holds the lock.

    Enter before SQLite opens the database and leave after SQLite has closed it: closing any descriptor of a file drops
    all POSIX locks of the process on it, SQLite's too.
    """
    with _opened(database) as file:
        with _refusing(f"another engine runs on {database} under another name of that file; stop it first"):
            _lock_byte(file)
        yield


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise BootError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _refusing(message: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BootError(message if error.errno in (errno.EAGAIN, errno.EACCES) else f"{message} ({error})") from error


def _lock_byte(file: int) -> None:
    """Locks a byte that is never read or written; flock would block SQLite's locks on some network file systems."""
    if sys.platform == "linux":
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, _BYTE, 1, 0))
