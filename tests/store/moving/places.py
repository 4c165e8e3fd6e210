"""Databases to move from and to, with rows in every table."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from bytebrew.base.formats import new_id
from bytebrew.contract.connection import Connection
from bytebrew.contract.storage.store import Migrations
from bytebrew.engine import Engine
from bytebrew.store.moving.copy import Side
from bytebrew.store.sqlite.transfer import tables
from bytebrew.testing.postgres import USER, shared_server
from scripts.old_databases import COMMITS, KEY, NODES, fill

NEWEST = max((name for name in COMMITS if name[5:].isdigit()), key=lambda name: int(name[5:]))
LEFT = {*NODES}
"""Tables of nodes, which are empty on SQLite."""
KINDS = ("sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql))
Contents = dict[str, list[tuple[Any, ...]]]


class Place:
    """A database, by the settings of an engine on it."""

    def __init__(self, data: Path, url: str = "") -> None:
        self.data, self.url = data, url
        self.settings = {"BYTEBREW_DATA_DIR": str(data), "BYTEBREW_DATABASE_URL": url}

    @property
    def side(self) -> Side:
        engine = Engine(self.settings)
        return Side(engine.driver, engine.migrations)

    @contextmanager
    def opened(self) -> Iterator[Connection]:
        """A connection of its own, outside of a transaction."""
        with closing(self.side.driver.open()) as conn:
            yield conn

    def rows(self) -> Contents:
        """The rows of each table, in the order of their keys."""
        with self.opened() as conn:
            return {
                table.name: [
                    tuple(row)
                    for row in conn.execute(
                        f"select {', '.join(table.columns)} from {table.name} order by {', '.join(table.key)}"
                    )
                ]
                for table in tables(owners())
                if table.name not in LEFT
            }


def new_place(kind: str, folder: Path) -> Place:
    """An empty database of a kind, with the key of the old ones."""
    (folder / "keys").mkdir(parents=True)
    (folder / "keys" / "secrets.key").write_text(f"{KEY}\n", encoding="utf-8")
    (folder / "keys" / "secrets.key").chmod(0o600)
    return Place(folder, empty_database() if kind == "postgresql" else "")


def empty_database() -> str:
    """The URL of a new database on the server of this test run."""
    name = new_id("moved")
    shared_server().execute(f"create database {name} owner {USER} encoding 'UTF8' template template0")
    return shared_server().local_url(name)


def upgraded(data: Path) -> Place:
    """The data folder of an older engine with the tables of this one."""
    with Engine({"BYTEBREW_DATA_DIR": str(data)}).migrated():
        pass
    for path in data.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return Place(data)


def filled(data: Path) -> Place:
    """A data folder with rows in every table, and with more events than one page has."""
    place = upgraded(data)
    with closing(sqlite3.connect(data / "bytebrew.db", isolation_level=None)) as conn:
        for table in tables(owners()):
            if table.name not in LEFT and not conn.execute(f"select 1 from {table.name}").fetchone():
                assert fill(conn, table.name), table.name
        [session] = conn.execute("select session_id from events group by 1 order by count(*) desc limit 1").fetchone()
        last = conn.execute("select max(n) from events where session_id = ?", (session,)).fetchone()[0]
        conn.executemany(
            "insert into events (session_id, n, type, data, at) values (?, ?, 'message_delta', ?, 1700000000000)",
            [(session, last + n, b'{"content":"%d \xc3\xa9"}' % n) for n in range(1, 400)],
        )
    return place


@cache
def owners() -> Migrations:
    """The migrations of the installed plugins for SQLite."""
    with TemporaryDirectory() as folder:
        return Engine({"BYTEBREW_DATA_DIR": folder}).migrations
