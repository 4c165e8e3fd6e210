"""Backups that the engine writes while it runs."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio.to_thread
from msgspec import Struct

from bytebrew.base.errors import BootError, Conflict, NotFound, StorageError
from bytebrew.base.formats import rfc3339
from bytebrew.contract.entities import Live
from bytebrew.contract.route import Request, Route
from bytebrew.engine import Engine
from bytebrew.store.backups.backup import NO_BACKUPS
from bytebrew.store.backups.backup_folder import BackupFolder


class Backup(Struct, frozen=True, kw_only=True):
    """An archive of database, keys and uploads, which opens every stored credential."""

    name: str
    made_at: str
    bytes: int


class WrittenBackup(Backup, frozen=True, kw_only=True):
    """A new backup, with its path on the engine's machine and the number of keys and uploads in it."""

    path: str
    keys: int
    uploads: int


class BackupList(Struct, frozen=True, kw_only=True):
    """The backups in the folder, the newest first; `running` while one is being written."""

    folder: str
    running: Live[bool]
    data: tuple[Backup, ...]


class Backups:
    """Writes one backup at a time."""

    def __init__(self, data: Path, *, in_file: bool) -> None:
        self._folder, self._in_file = BackupFolder(data), in_file
        self._writing = asyncio.Lock()

    async def list_all(self, request: Request[None]) -> BackupList:
        """The backups that this route wrote; those of `bytebrew backup` are where that wrote them."""
        data = await anyio.to_thread.run_sync(lambda: tuple(_backup(path) for path in self._folder.files()))
        return BackupList(folder=str(self._folder.path.absolute()), running=self._writing.locked(), data=data)

    async def write(self, request: Request[None]) -> WrittenBackup:
        """Writes a backup into the folder `backups` of the data folder; it is answered once the archive is whole.

        No route gives the archive away, as it opens every stored credential: copy it to another machine from there. On
        PostgreSQL the answer is 409: back up the database with its own means.
        """
        if not self._in_file:
            raise Conflict(NO_BACKUPS[:1].upper() + NO_BACKUPS[1:])
        if self._writing.locked():
            raise Conflict("A backup is being written; wait for it")
        async with self._writing:
            try:
                path, done = await anyio.to_thread.run_sync(self._folder.write)
            except (BootError, OSError) as error:
                message = str(error)
                raise StorageError(message[:1].upper() + message[1:]) from error
        written = WrittenBackup(
            name=path.name,
            made_at=_backup(path).made_at,
            bytes=done.size,
            path=str(path.absolute()),
            keys=done.keys,
            uploads=done.files,
        )
        try:
            return await request.write(lambda conn: written)
        except BaseException:
            path.unlink(missing_ok=True)  # what cannot be recorded is not there
            raise

    async def delete(self, request: Request[None]) -> None:
        """Deletes a backup for good."""
        name = request.path["name"]
        found = [path for path in await anyio.to_thread.run_sync(self._folder.files) if path.name == name]
        if not found:
            raise NotFound(f"There is no backup '{name[:255]}'")
        await request.write(lambda conn: None)  # recorded before it is gone
        for path in found:
            await anyio.to_thread.run_sync(partial(path.unlink, missing_ok=True))


def _backup(path: Path) -> Backup:
    status = path.stat()
    made_at = rfc3339(datetime.fromtimestamp(status.st_mtime, UTC))
    return Backup(name=path.name, made_at=made_at, bytes=status.st_size)


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    backups = Backups(engine.data_dir, in_file=not engine.settings.core.database_url)
    return (
        Route("GET", "/api/v1/backups", "admin", backups.list_all, "List backups", answer=BackupList),
        Route(
            "POST",
            "/api/v1/backups",
            "admin",
            backups.write,
            "Back up",
            answer=WrittenBackup,
            status=201,
            idempotent=True,
        ),
        Route("DELETE", "/api/v1/backups/{name}", "admin", backups.delete, "Delete a backup", status=204),
    )
