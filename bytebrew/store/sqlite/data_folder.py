"""The data folder of an engine: its lock, its key, its database."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bytebrew.base.env_variables import Credentials
from bytebrew.base.errors import SettingsError
from bytebrew.base.machine import lock
from bytebrew.base.secrets import Secrets
from bytebrew.contract.connection import Connection
from bytebrew.store.backups import key_check
from bytebrew.store.backups.restore import clear, finish_killed


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

    def check_new_key(self, conn: Connection) -> None:
        """Raises BootError if the key was just created and there are stored credentials; call it after migrations."""
        if self._key_is_new:
            key_check.check_new_key(self._key, conn)
            self._key_is_new = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """The folder, locked, without what a restore has left; BootError if another engine runs on it."""
        with lock.held_folder(self.path):
            clear(self.path)
            yield


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.geteuid():  # only the owner of a mounted volume may change its mode
            folder.chmod(0o700)
    except OSError as error:
        raise SettingsError(f"BYTEBREW_DATA_DIR: {folder} cannot be used: {error.strerror}") from error
