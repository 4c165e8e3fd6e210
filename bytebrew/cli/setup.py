"""What commands run on: the environment, the plugins, and the data folder that they name."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import click

from bytebrew.base import settings
from bytebrew.base.errors import BootError
from bytebrew.base.settings import Core
from bytebrew.engine import Engine
from bytebrew.plugins import Plugins


class Setup(NamedTuple):
    """What the process was started with; click hands it to each command."""

    environment: Mapping[str, str]
    plugins: Plugins

    def core(self) -> Core:
        """The core's settings; SettingsError where any setting is wrong."""
        return settings.read(self.environment, self.plugins.tables()).core

    def warnings(self) -> list[str]:
        """What is wrong with the plugins and their tools, though it does not stop the boot."""
        read = settings.read(self.environment, self.plugins.tables())
        self.plugins.declare("register_tools", lambda name, tool: None, settings=read)
        return self.plugins.warnings

    def engine(self, *, may_make: bool = False, **others: str) -> Engine:
        """An engine on the data folder, which must have a database unless the command may make one, and says so.

        `others` are settings that the command gives.
        """
        file = self.core().data_dir / "bytebrew.db"
        if not file.exists():
            if not may_make:
                raise BootError(f"there is no database at {file}; set BYTEBREW_DATA_DIR to the engine's data folder")
            click.echo(f"bytebrew: {file} is new; BYTEBREW_DATA_DIR names another data folder", err=True)
        return Engine({**self.environment, **others})

    @contextmanager
    def opened(self) -> Iterator[tuple[Engine, sqlite3.Connection]]:
        """An engine that is not started, and a connection to its database in a transaction."""
        engine = self.engine()
        with opened(engine) as conn:
            yield engine, conn


@contextmanager
def opened(engine: Engine) -> Iterator[sqlite3.Connection]:
    """A connection in a transaction, which is committed unless something fails."""
    with engine.migrated() as conn:
        conn.execute("begin immediate")
        yield conn
        conn.execute("commit")


def counted(count: int, things: str) -> str:
    """How many of what, such as `1 session` of 1 and `sessions`."""
    return f"{count} {things.removesuffix('s') if count == 1 else things}"
