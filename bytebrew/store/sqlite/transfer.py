"""The SQLite file as the source or the target of a copy of all rows, and the tables that migrations make in it."""

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from bytebrew.base.errors import BootError, StorageError
from bytebrew.base.machine import lock
from bytebrew.contract.connection import Connection
from bytebrew.contract.storage.store import COPIED_TABLES, Migrations, Table, Transfer
from bytebrew.store.sqlite import epoch, pragmas
from bytebrew.store.sqlite.dialect import has_table
from bytebrew.store.sqlite.migrate import migrate, migrated

_OWN = """select name from sqlite_master m where type = 'table' and name not like 'sqlite\\_%' escape '\\'
  and name <> 'migrations' and sql not like 'create virtual%' and not exists (
    select 1 from sqlite_master v where v.sql like 'create virtual%' and m.name like v.name || '\\_%' escape '\\')
  order by rowid"""
"""The tables with rows, but for those of full-text indexes."""
_VIRTUAL = "select name from sqlite_master where sql like 'create virtual%'"
_WRITES = re.compile(r"\b(?:insert\s+into|update|delete\s+from)\s+(\w+)", re.IGNORECASE)


class SQLiteTransfer(Transfer):
    """The SQLite file at a path, with the tables of these owners."""

    def __init__(self, path: Path, owners: Migrations) -> None:
        self._path, self._owners = path, owners
        self._log_there = False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        if not self._path.exists():
            raise BootError(f"there is no database at {self._path}; set BYTEBREW_DATA_DIR to the engine's data folder")
        with ExitStack() as stack:
            stack.enter_context(lock.held(self._path))
            self._log_there = epoch.log_of(self._path).exists()
            try:
                conn = stack.enter_context(closing(sqlite3.connect(epoch.uri_to_read(self._path), uri=True)))
                conn.row_factory, conn.isolation_level = sqlite3.Row, None
                conn.execute("pragma query_only = on")
                conn.execute("begin")
                yield conn
            except sqlite3.Error as error:
                raise StorageError(f"{self._path} cannot be read: {error}") from error

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with lock.held(self._path):  # which makes the file
            with closing(pragmas.connect(self._path)) as conn, _explained(self._path):
                if not has_table(conn, "copied_tables"):
                    if conn.execute("select 1 from sqlite_master limit 1").fetchone():
                        raise BootError(f"{self._path} is not empty; name a folder without a database")
                    conn.execute(COPIED_TABLES)
            with migrated(self._path, self._owners, lambda conn: None) as made:
                made.execute("pragma foreign_keys = off")
                yield made

    def stamp(self, conn: Connection) -> str:
        """Size and time of the file and of its log, which a copy that was killed may have left empty."""
        states = [path.stat() for path in (self._path, epoch.log_of(self._path)) if path.exists()]
        return " ".join(f"{one.st_size}-{one.st_mtime_ns}" for one in states if one.st_size)

    def epoch(self, conn: Connection) -> int:
        return epoch.next_epoch(conn, log_there=self._log_there)[0]

    def last_keys(self, conn: Connection) -> Mapping[str, int]:
        return {row["name"]: row["seq"] for row in conn.execute("select name, seq from sqlite_sequence")}

    def begin(self, conn: Connection) -> None:
        """Drops the triggers but for those that fill a full-text index, which is not copied."""
        virtual = {row["name"] for row in conn.execute(_VIRTUAL)}
        for row in conn.execute("select name, sql from sqlite_master where type = 'trigger'").fetchall():
            _, _, body = row["sql"].partition("begin")
            if not {*_WRITES.findall(body)} <= virtual:
                conn.execute(f"drop trigger {row['name']}")

    def end(self, conn: Connection, last_keys: Mapping[str, int]) -> None:
        there = {row["name"] for row in conn.execute("select name from sqlite_master where type = 'trigger'")}
        with _new(self._owners) as new:
            for name, sql in new.execute("select name, sql from sqlite_master where type = 'trigger' order by rowid"):
                if name not in there:
                    conn.execute(sql)
            kept = [name for (name,) in new.execute("select name from sqlite_master where sql like '%autoincrement%'")]
        for name in kept:
            if last := last_keys.get(name):
                conn.execute("delete from sqlite_sequence where name = ?", (name,))
                conn.execute("insert into sqlite_sequence (name, seq) values (?, ?)", (name, last))
        if wrong := conn.execute("pragma foreign_key_check").fetchone():
            raise BootError(f"a row of {wrong[0]} refers to a row of {wrong[2]} that is not there")

    def leave(self) -> int:
        with closing(pragmas.connect(self._path)) as conn, _explained(self._path):
            conn.execute("update history set epoch = epoch + 1")
            return int(conn.execute("select epoch from history").fetchone()[0])


def tables(owners: Migrations) -> Sequence[Table]:
    """The tables that the migrations of these owners make, for SQLite: other databases have them too."""
    with _new(owners) as conn:
        return [_table(conn, name) for (name,) in conn.execute(_OWN).fetchall()]


def _table(conn: sqlite3.Connection, name: str) -> Table:
    rows = conn.execute(f"pragma table_info({name})").fetchall()
    key = [row[1] for row in sorted(rows, key=lambda row: int(row[5])) if row[5]]
    count = conn.execute(f"select count(*) from {name}").fetchone()[0]
    return Table(name, tuple(row[1] for row in rows), tuple(key), count)


@contextmanager
def _new(owners: Migrations) -> Iterator[sqlite3.Connection]:
    """A new database in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        for owner, steps in owners.items():
            migrate(conn, owner, steps)
        yield conn


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise BootError(f"{path} cannot be opened: {error}") from error
