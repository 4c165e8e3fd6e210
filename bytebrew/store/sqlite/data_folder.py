"""The data folder of an engine: its lock, its key, its database."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bytebrew.base.env_variables import Credentials
from bytebrew.base.errors import SettingsError
from bytebrew.base.machine import lock
from bytebrew.base.secrets import Secrets
from bytebrew.contract.connection import Connection, dialect
from bytebrew.store.backups import key_check
from bytebrew.store.backups.restore import clear, finish_killed

WORKERS = "workers"
"""The folder within the data folder that has one for each worker."""


class DataFolder:
    """Makes the folder private, and finishes a restore that was killed; the key is created on first use.

    `own` holds what belongs to this process alone: the folder itself, or that of a worker with a number.

    Raises SettingsError if the folder cannot be used, and BootError if the key of stored credentials is missing.
    """

    def __init__(self, path: Path, worker: int = 0) -> None:
        make_private(path)
        finish_killed(path)
        make_private(path / "keys")
        self.path = path
        self.own = worker_folder(path, worker) if worker else path
        make_private(self.own)
        self.database, self._key = path / "bytebrew.db", path / "keys" / "secrets.key"
        key_check.check_key(self._key, self.database)
        self._key_is_new = not self._key.exists()
        self.secrets = Secrets.load(self._key)
        self.credentials = Credentials.load(self._key)

    def check_new_key(self, conn: Connection) -> None:
        """Raises BootError if the key was just created and there are stored credentials; call it after migrations.

        A database that other nodes share may have another node's credentials: then the key must open them.
        """
        if self._key_is_new:
            key_check.check_new_key(self._key, conn)
            self._key_is_new = False
        elif dialect(conn) != "sqlite":
            self.check_fits(conn)

    def check_fits(self, conn: Connection) -> None:
        """Raises BootError if the key opens none of the stored credentials."""
        key_check.check_fits(self._key, self.secrets, conn)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The own folder, locked, without what a restore has left; BootError if another engine runs on it."""
        with lock.held_folder(self.own):
            clear(self.own)
            yield


def worker_folder(path: Path, number: int) -> Path:
    """The folder of a worker within a data folder."""
    return path / WORKERS / str(number)


def worker_folders(path: Path) -> list[Path]:
    """The folders of workers within a data folder, by number."""
    numbers = [int(one.name) for one in (path / WORKERS).glob("*") if one.name.isdecimal()]
    return [worker_folder(path, number) for number in sorted(numbers)]


def make_private(folder: Path) -> None:
    """Makes the folder and those above, readable by this user alone; SettingsError if it cannot be used."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.geteuid():  # only the owner of a mounted volume may change its mode
            folder.chmod(0o700)
    except OSError as error:
        raise SettingsError(f"BYTEBREW_DATA_DIR: {folder} cannot be used: {error.strerror}") from error
