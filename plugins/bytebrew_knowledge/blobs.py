"""Contents of files under generated names: in a folder, or where several nodes reach them."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Set
from contextlib import asynccontextmanager
from pathlib import Path

from bytebrew import Connection, Engine, new_uuid

from .moved_blobs import write_files

SPOOL = "."
"""Prefix of files that only one process uses; backups omit hidden files."""
SPOOL_SECONDS = 3600.0
"""Age of a spool file whose process is taken to have ended."""
PART = 1024 * 1024
"""Bytes that are copied at once."""


class Blob:
    """A blob that is being written; the file is made by the first write and opened for each.

    So a thread whose caller was cancelled cannot write to a descriptor that was reused since.
    """

    def __init__(self, path: Path) -> None:
        self.name, self.size = path.name, 0
        self._path = path
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        """The SHA-256 of the bytes written so far."""
        return self._digest.hexdigest()

    def add(self, data: bytes, *, durable: bool = False) -> None:
        """Appends data, with fsync if `durable`; FileNotFoundError if the file was deleted."""
        target = os.open(self._path, os.O_WRONLY | (os.O_APPEND if self.size else os.O_CREAT | os.O_EXCL), 0o600)
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


class Blobs:
    """The folder of blobs; deletes unreferenced ones, except those that are not in the database yet."""

    def __init__(self, engine: Engine, needed: Callable[[Connection], Set[str]]) -> None:
        self.folder = engine.data_dir / "files"
        self._engine = engine
        self._needed = needed
        self._arriving: set[str] = set()

    @asynccontextmanager
    async def arriving(self) -> AsyncIterator[Path]:
        """The path of a new blob, which `clear` keeps within the block."""
        name = new_uuid()
        self._arriving.add(name)
        try:
            yield self.folder / name
        finally:
            self._arriving.discard(name)

    async def keep(self, name: str) -> None:
        """Stores a blob that has arrived, before a file refers to it."""

    @asynccontextmanager
    async def reading(self, name: str) -> AsyncIterator[Path]:
        """A file with the bytes of a blob; it may be missing."""
        yield self.folder / name

    def spool(self) -> Path:
        """The path of a new file that `clear` deletes when its process is gone."""
        return self.folder / f"{SPOOL}{new_uuid()}"

    async def forget(self, names: Iterable[str]) -> None:
        """Deletes blobs."""
        await asyncio.to_thread(self._unlink, [name for name in names if name])

    def forget_in(self, conn: Connection, name: str) -> None:
        """Deletes a blob within a transaction, in the thread of the database."""
        self._unlink([name])

    async def clear(self, *, starting: bool = False) -> None:
        """Deletes unreferenced blobs and, when the engine is starting, spool files of an earlier run.

        A start also takes blobs out of a database that was moved from PostgreSQL.
        """
        if starting:
            await write_files(self._engine, self.folder, self.spool)
        there = await asyncio.to_thread(self._names)
        arriving = set(self._arriving)
        # a write, so that it runs after all pending writes
        kept = arriving | await self._engine.db.write(self._needed)
        await self.forget(name for name in there if name not in kept and (starting or not name.startswith(SPOOL)))

    def make_folder(self) -> None:
        """Makes the folder, for the owner alone."""
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def _names(self) -> list[str]:
        return [path.name for path in self.folder.iterdir() if path.is_file()]

    def _unlink(self, names: Iterable[str]) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)


class SharedBlobs(Blobs):
    """Blobs that all nodes reach; the folder has those that arrive or are read, and those of an engine on SQLite.

    Processes on one machine may share the folder, so that only old files of it are deleted.
    """

    async def keep(self, name: str) -> None:
        await self._put(name, self.folder / name)
        await asyncio.to_thread(self._unlink, [name])

    @asynccontextmanager
    async def reading(self, name: str) -> AsyncIterator[Path]:
        path = self.spool()
        try:
            await self._get(name, path)
            yield path
        finally:
            await asyncio.to_thread(self._unlink, [path.name])

    @asynccontextmanager
    async def arriving(self) -> AsyncIterator[Path]:
        async with super().arriving() as path:
            try:
                yield path
            finally:
                await asyncio.to_thread(self._unlink, [path.name])

    async def forget(self, names: Iterable[str]) -> None:
        await self._delete([name for name in names if name])

    async def clear(self, *, starting: bool = False) -> None:
        """Stores blobs that an engine on SQLite has left in the folder, and deletes what is old and unreferenced."""
        await self._delete_unreferenced()
        needed = await self._engine.db.write(self._needed)
        for name in await asyncio.to_thread(self._names):
            if name in needed and name not in self._arriving:
                await self.keep(name)
        await asyncio.to_thread(self._unlink_old)

    async def _put(self, name: str, path: Path) -> None:
        """Stores the bytes of a file, unless they are there."""
        raise NotImplementedError

    async def _get(self, name: str, path: Path) -> None:
        """Writes the bytes of a blob to a file; no file without the blob."""
        raise NotImplementedError

    async def _delete(self, names: list[str]) -> None:
        """Deletes blobs."""
        raise NotImplementedError

    async def _delete_unreferenced(self) -> None:
        """Deletes blobs that no file refers to and that no node can be about to refer to."""
        raise NotImplementedError

    def _unlink_old(self) -> None:
        oldest = time.time() - SPOOL_SECONDS
        for path in self.folder.iterdir():
            try:
                if path.is_file() and path.stat().st_mtime < oldest:
                    path.unlink()
            except FileNotFoundError:  # another process was faster
                continue


def read_part(path: Path, start: int) -> bytes:
    """A part of a file."""
    with path.open("rb") as file:
        file.seek(start)
        return file.read(PART)


def append(path: Path, data: bytes) -> None:
    """Appends to a file of the owner alone."""
    path.touch(0o600)
    with path.open("ab") as file:
        file.write(data)
