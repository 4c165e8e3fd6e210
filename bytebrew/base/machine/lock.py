"""One process for a data folder, and for its database by whatever name that is reached."""

import errno
import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bytebrew.base.errors import BootError

_BYTE = 0x40000000 + 1024
"""Behind the bytes that SQLite locks in its file, which end 512 behind the first gibibyte."""


@contextmanager
def held(folder: Path, database: Path | None) -> Iterator[None]:
    """Locks the folder and the database, which is made where it is missing; BootError where another process has one.

    Enter it before SQLite opens the database and leave it after SQLite has closed it: closing any descriptor of a file
    drops the process's POSIX locks on it, which are SQLite's.
    """
    with ExitStack() as stack:
        whole = stack.enter_context(_opened(folder / "engine.lock"))
        with _refusing(f"another engine runs on the data folder {folder}; stop it first"):
            fcntl.flock(whole, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if database is not None:
            file = stack.enter_context(_opened(database))
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
def _refusing(words: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BootError(words if error.errno in (errno.EAGAIN, errno.EACCES) else f"{words} ({error})") from error


def _lock_byte(file: int) -> None:
    """Locks a byte that nobody reads or writes; flock would bar SQLite's own locks on the disks of some networks."""
    if sys.platform == "linux":
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, _BYTE, 1, 0))
