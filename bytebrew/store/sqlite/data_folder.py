"""The data folder of an engine: its lock, its key, its database."""

import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager, closing
from pathlib import Path

from bytebrew.base.env_variables import Credentials
from bytebrew.base.errors import SettingsError, StorageError
from bytebrew.base.machine import lock
from bytebrew.base.secrets import Secrets
from bytebrew.contract.connection import Connection
from bytebrew.store.backups import key_check
from bytebrew.store.backups.restore import clear, finish_killed
from bytebrew.store.sqlite import epoch
from bytebrew.store.sqlite.database import Database
from bytebrew.store.sqlite.migrate import migrated

log = logging.getLogger(__name__)

Migrations = Mapping[str, Sequence[tuple[int, str]]]


class DataFolder:
    """Makes the folder private, and finishes a restore that was killed; the key is created on first use.

    Raises SettingsError if the folder cannot be used, and BootError if the key of stored credentials is missing.
    """

    def __init__(self, path: Path) -> None:
        _make_private(path)
        finish_killed(path)
        _make_private(path / "keys")
        self.path = path
        self.database, self._key = path / "bytebrew.db", path / "keys" / "secrets.key"
        key_check.check_key(self._key, self.database)
        self._key_is_new = not self._key.exists()
        self.secrets = Secrets.load(self._key)
        self.credentials = Credentials.load(self._key)

    def migrated(
        self, owners: Migrations, beat: Callable[[], None] | None = None
    ) -> AbstractContextManager[Connection]:
        """A connection to the database with the tables of all owners up to date; see `migrate.migrated`."""
        return migrated(self.database, owners, self._check_new_key, beat)

    def _check_new_key(self, conn: Connection) -> None:
        if self._key_is_new:
            key_check.check_new_key(self._key, conn)
            self._key_is_new = False

    @asynccontextmanager
    async def opened(self, db: Database, owners: Migrations) -> AsyncIterator[int]:
        """The epoch of the history, with the folder locked and the database migrated and open.

        An extra connection keeps the database's log at the end, until the file records that the log is not needed.
        """
        async with AsyncExitStack() as stack:
            stack.enter_context(lock.held(self.path, self.database))
            clear(self.path)
            log_there = epoch.log_of(self.database).exists()
            keeping = stack.enter_context(ExitStack())
            with self.migrated(owners) as conn:
                await stack.enter_async_context(db)
                keeping.enter_context(closing(epoch.keep_log(self.database)))
                number = epoch.begin(conn, self.database, log_there=log_there)
            stack.push_async_callback(_record_end, db, keeping)
            yield number


async def _record_end(db: Database, keeping: ExitStack) -> None:
    try:
        await db.write(epoch.end)
        keeping.close()
    except StorageError as error:
        log.warning("the end of the engine is not recorded: %s", error)


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.geteuid():  # only the owner of a mounted volume may change its mode
            folder.chmod(0o700)
    except OSError as error:
        raise SettingsError(f"BYTEBREW_DATA_DIR: {folder} cannot be used: {error.strerror}") from error
