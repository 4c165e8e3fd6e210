"""Environment and plugins, which every command needs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click

from bytebrew.base import settings
from bytebrew.base.errors import BootError
from bytebrew.base.settings import Core
from bytebrew.contract.connection import Connection
from bytebrew.engine import Engine
from bytebrew.plugins import CORE, Plugins
from bytebrew.store.backups.backup import NO_BACKUPS
from bytebrew.store.database.transactions import transaction
from bytebrew.store.sqlite import migrations
from bytebrew.store.sqlite.driver import SQLiteDriver


class Setup(NamedTuple):
    """Environment and plugins of the process; click passes it to each command."""

    environment: Mapping[str, str]
    plugins: Plugins

    def core(self) -> Core:
        """The core's settings; SettingsError if any setting is invalid."""
        return settings.read(self.environment, self.plugins.tables()).core

    def check_file(self) -> None:
        """Raises BootError if the data is not in the SQLite file, which backups are made of."""
        if self.core().database_url:
            raise BootError(NO_BACKUPS)

    def warnings(self) -> list[str]:
        """Warnings about plugins and their tools."""
        read = settings.read(self.environment, self.plugins.tables())
        self.plugins.declare("register_tools", lambda name, tool: None, settings=read)
        return self.plugins.warnings

    def migrations(self) -> dict[str, list[tuple[int, str]]]:
        """The migrations of the core and of every plugin, by owner."""
        driver = SQLiteDriver(self.core().data_dir / "bytebrew.db")
        owners: dict[str, list[tuple[int, str]]] = {CORE: [*driver.core_migrations(migrations.CORE)]}
        self.plugins.declare("register_migrations", partial(migrations.add, owners, driver))
        return owners

    def first_file(self) -> Path:
        """What an engine makes in a new data folder: the database, or the key where the database has a URL."""
        return self.core().data_dir / ("keys/secrets.key" if self.core().database_url else "bytebrew.db")

    def engine(self, *, may_create: bool = False, **variables: str) -> Engine:
        """An engine on the data folder; BootError if no engine has run on it and the command may not make it.

        `variables` replace those of the environment.
        """
        if not (file := self.first_file()).exists():
            if not may_create:
                what = "key" if self.core().database_url else "database"
                raise BootError(f"there is no {what} at {file}; set BYTEBREW_DATA_DIR to the engine's data folder")
            click.echo(f"bytebrew: {file} is new; BYTEBREW_DATA_DIR names another data folder", err=True)
        return Engine({**self.environment, **variables})

    @contextmanager
    def opened(self, *, may_create: bool = False) -> Iterator[tuple[Engine, Connection]]:
        """An engine that is not started, and a connection within a transaction."""
        engine = self.engine(may_create=may_create)
        with opened(engine) as conn:
            yield engine, conn


@contextmanager
def opened(engine: Engine, beat: Callable[[], None] | None = None) -> Iterator[Connection]:
    """A connection within a transaction, committed unless the block fails; `beat` is called while statements run."""
    with engine.migrated(beat) as conn, transaction(engine.driver, conn):
        yield conn


def counted(count: int, plural: str) -> str:
    """Number and noun, such as `1 session` for 1 and `sessions`."""
    return f"{count} {plural.removesuffix('s') if count == 1 else plural}"
