"""Contents of files, stored in one folder under generated names."""

import asyncio
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from bytebrew import Connection, Engine, new_uuid

SPOOL = "."
"""Prefix of files with the extracted chunks of a reader; backups omit hidden files."""


class Blob:
    """A blob that is being written; the file is opened for each write.

    So a thread whose caller was cancelled cannot write to a descriptor that was reused since.
    """

    def __init__(self, path: Path) -> None:
        self.name, self.size = path.name, 0
        self._path = path
        self._digest = hashlib.sha256()
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

    @property
    def digest(self) -> str:
        """The SHA-256 of the bytes written so far."""
        return self._digest.hexdigest()

    def add(self, data: bytes, *, durable: bool = False) -> None:
        """Appends data, with fsync if `durable`; FileNotFoundError if the file was deleted."""
        target = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(target, rest) :]
            if durable:
                os.fsync(target)
        finally:
            os.close(target)
        self._digest.update(data)
        self.size += len(data)


ARRIVING_SECONDS = 3600.0
"""How long a file may arrive at another engine that shares the folder, which does not say so."""


class Blobs:
    """The folder of blobs; deletes unreferenced ones, except those that are not in the database yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._arriving: set[str] = set()

    @contextmanager
    def arriving(self) -> Iterator[Path]:
        """The path of a new blob, which `clear` keeps within the block."""
        name = new_uuid()
        self._arriving.add(name)
        try:
            yield self.folder / name
        finally:
            self._arriving.discard(name)

    async def forget(self, names: Iterable[str]) -> None:
        """Deletes blobs."""
        await asyncio.to_thread(self._unlink, [name for name in names if name])

    async def clear(self, engine: Engine, needed: Callable[[Connection], Set[str]], *, spools: bool = False) -> None:
        """Deletes unreferenced blobs and, with `spools`, spool files of an earlier run."""
        there = await asyncio.to_thread(self._names, 0.0 if engine.node.id is None else ARRIVING_SECONDS)
        arriving = set(self._arriving)
        # a write, so that it runs after all pending writes
        kept = arriving | await engine.db.write(needed)
        await self.forget(name for name in there if name not in kept and (spools or not name.startswith(SPOOL)))

    def _names(self, age: float) -> list[str]:
        """The files that are at least so old, in seconds."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        last = time.time() - age
        return [path.name for path in self.folder.iterdir() if path.is_file() and (not age or _changed(path) < last)]

    def _unlink(self, names: Iterable[str]) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another engine has deleted it
        return math.inf
