"""PostgreSQL databases of the shared server, one for each data folder, so that an engine finds its own again."""

import atexit
import hashlib
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from bytebrew.testing.postgres import USER, shared_server

CHOSEN = os.environ.get("BYTEBREW_TEST_STORE") == "postgresql"
"""Whether engines of tests run on PostgreSQL."""
DISCONNECT_SECONDS = 5.0
"""After this the server says by itself who is still connected to a database that is to be dropped."""


def url_of(data: Path) -> str:
    """The URL of the database of a data folder, which need not exist yet."""
    return shared_server().local_url(_name(data))


def make(data: Path, tables: str, migrate: Callable[[], None]) -> None:
    """Makes the database of a data folder unless there is one.

    `migrate` makes `tables` in it, if this is the first database that has them; later ones are copies.
    """
    databases = _databases()
    databases.drop_unused()
    if not databases.exists(_name(data)):
        databases.make(_name(data), f"template_{_digest(tables)}", migrate)
    databases.folders[data] = databases.folders.get(data, False) or data.exists()


def copy(data: Path, to: Path) -> None:
    """Copies the database of a data folder, to which nobody is connected, for a copy of the folder."""
    databases = _databases()
    databases.drop_unused()
    databases.copy(_name(data), _name(to))
    databases.folders[to] = to.exists()


def drop(data: Path) -> None:
    """Drops the database of a data folder, whoever is connected."""
    _databases().drop(data)


def _name(data: Path) -> str:
    return f"data_{_digest(str(data.resolve()))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class _Databases:
    """The databases that this process made, and a connection of the superuser."""

    def __init__(self) -> None:
        self._server = shared_server()
        import psycopg  # which only those have who test on PostgreSQL

        self._conn: psycopg.Connection[Any] = psycopg.connect(self._server.local_url(user="postgres"), autocommit=True)
        atexit.register(self._conn.close)
        self.folders: dict[Path, bool] = {}
        """Data folders, and whether each was there once: one that is gone needs its database no more."""

    def exists(self, name: str) -> bool:
        row = self._conn.execute("select 1 from pg_database where datname = %s", (name,))
        return row.fetchone() is not None

    def copy(self, template: str, name: str) -> None:
        """Copies a database by its files, in a third of the time that it takes to write its pages to the log."""
        options = f"template {template} owner {USER} strategy file_copy"
        self._conn.execute(f"create database {name} {options}".encode())

    def drop(self, data: Path) -> None:
        name = _name(data)
        self._disconnect(name)
        self._conn.execute(f"drop database if exists {name} with (force)".encode())
        self.folders.pop(data, None)

    def _disconnect(self, name: str) -> None:
        """Ends the connections to a database: `drop database` looks only each 100 ms whether the last is gone."""
        sql = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s"
        deadline = time.monotonic() + DISCONNECT_SECONDS
        while self._conn.execute(sql, (name,)).fetchall() and time.monotonic() < deadline:
            time.sleep(0.001)

    def drop_unused(self) -> None:
        for data, was_there in [*self.folders.items()]:
            if data.exists():
                self.folders[data] = True
            elif was_there:
                self.drop(data)

    def make(self, name: str, template: str, migrate: Callable[[], None]) -> None:
        """Copies the template, which is made by the first process that needs it."""
        self._conn.execute("select pg_advisory_lock(hashtext(%s))", (template,))
        try:
            if new := not self.exists(template):
                self.copy("template1", name)
                migrate()
                self.copy(name, template)
        finally:
            self._conn.execute("select pg_advisory_unlock_all()")
        if not new:
            self.copy(template, name)


@cache
def _databases() -> _Databases:
    return _Databases()
