"""Copies all rows of a database into a new one, table by table in the order of keys.

Each page of rows is committed together with the position behind it, so that a copy that was killed goes on there. The
table of positions is dropped last: while it is there, no engine starts on the database.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import msgspec

from bytebrew.base.errors import BootError
from bytebrew.contract.connection import Connection, Row, dialect
from bytebrew.contract.storage.store import Driver, Migrations, Table, Transfer
from bytebrew.store.database.transactions import transaction
from bytebrew.store.moving.pages import key_of, pages
from bytebrew.store.sqlite.dialect import has_table
from bytebrew.store.sqlite.transfer import tables

_NODES = ("nodes", "node_commits", "node_locks")
_REQUESTS = "session_requests"
"""What is asked of the node that runs a session; one engine alone asks nothing of itself."""
_RUN_BY_NODES = ("turns", "tasks")
_BEGUN, _ENDED, _COMPARED = " begun", " ended", " compared"
"""Names in the table of positions that no table has: the steps of the whole copy."""


class Side(NamedTuple):
    """A database, and the SQL of the tables of the core and of all plugins in its dialect."""

    driver: Driver
    owners: Migrations


class Position(NamedTuple):
    """The key of the last copied row of a table, None if it is copied to its end, and the number of its rows."""

    after: Sequence[int | str] | None
    rows: int


def check_no_copy(conn: Connection) -> None:
    """Raises BootError if a copy into the database has begun and is not finished."""
    if has_table(conn, "copied_tables"):
        raise BootError(
            "bytebrew migrate has not finished copying into this database: run the same command again, or begin with an"
            " empty one"
        )


class Copy:
    """A copy between two databases without engines; `source` and `target` are connections to them."""

    def __init__(self, old: Side, new: Side, source: Connection, target: Connection) -> None:
        self._old, self._new, self._source, self.target = old, new, source, target
        local = old if old.driver.dialect == "sqlite" else new
        left = _NODES if new.driver.shared else (*_NODES, _REQUESTS)
        self.tables = [table for table in tables(local.owners) if table.name not in left]
        self.left_behind: list[str] = []
        """Owners of tables that are not copied: plugins that are not installed."""
        self.altered = 0
        """Texts with the character 0, which PostgreSQL's text does not have."""

    def begin(self, from_: Transfer, to: Transfer) -> int:
        """Prepares the target, unless this copy is to go on; returns the number of rows that are copied already.

        Raises BootError if one of the databases is of another version of the engine, or if the source has changed.
        """
        self.left_behind = sorted(check_version(self._source, self._old))
        check_no_copy(self._source)
        check_version(self.target, self._new)
        stamp = msgspec.json.encode([self._old.driver.place, from_.stamp(self._source)]).decode()
        positions = self._positions()
        if (begun := positions.get(_BEGUN)) is not None:
            if _COMPARED not in positions and begun != stamp:
                raise BootError(
                    f"another copy into {self._new.driver.place} has begun, or {self._old.driver.place} has been used"
                    " since: begin anew with an empty database"
                )
            return self._copied()
        with self._transaction():
            to.begin(self.target)
            for table in self.tables:
                if table.rows:
                    self.target.execute(f"delete from {table.name}")
            self._record(_BEGUN, stamp, 0)
        return 0

    def rows(self, advance: Callable[[int], None]) -> None:
        """Copies the rows that are not copied yet; `advance` is called with the number of rows of each page."""
        for table in self.tables:
            position = self._position(table.name)
            if position.after is None:
                continue
            copied = position.rows
            for page, more in pages(self._source, table, position.after):
                copied += len(page)
                after = key_of(table, page[-1]) if page and more else None
                with self._transaction():
                    self._insert(table, page)
                    self._record(table.name, msgspec.json.encode(after).decode(), copied)
                advance(len(page))

    def end(self, from_: Transfer, to: Transfer) -> None:
        """Makes the target a database that an engine can run on, but for the table of positions."""
        if self._is_recorded(_ENDED):
            return
        with self._transaction():
            epoch = from_.epoch(self._source)
            self.target.execute("update history set epoch = ?, clean = 1", (epoch,))
            for name in _RUN_BY_NODES:  # none of the nodes runs any more
                self.target.execute(f"update {name} set node = null where node is not null")
            to.end(self.target, from_.last_keys(self._source))
            self._record(_ENDED, "", 0)

    def finish(self, from_: Transfer) -> int:
        """Releases the target, which has been compared; returns the epoch that the source begins if it is used again.

        Engines on both would give different events the same numbers.
        """
        with self._transaction():
            self._record(_COMPARED, "", 0)
        epoch = from_.leave()
        with self._transaction():
            self.target.execute("drop table copied_tables")
        return epoch

    def _insert(self, table: Table, page: Sequence[Row]) -> None:
        if page:
            marks = ", ".join("?" * len(table.columns))
            sql = f"insert into {table.name} ({', '.join(table.columns)}) values ({marks})"
            self.target.executemany(sql, [tuple(row) for row in page])
        if dialect(self.target) == "postgresql":
            self.altered += sum(type(value) is str and "\0" in value for row in page for value in row)

    def _transaction(self) -> AbstractContextManager[None]:
        return transaction(self._new.driver, self.target)

    def _record(self, name: str, position: str, count: int) -> None:
        self.target.execute(
            """insert into copied_tables (name, position, row_count) values (?, ?, ?) on conflict (name)
            do update set position = excluded.position, row_count = excluded.row_count""",
            (name, position, count),
        )

    def _positions(self) -> Mapping[str, str]:
        return {row["name"]: row["position"] for row in self.target.execute("select name, position from copied_tables")}

    def _is_recorded(self, step: str) -> bool:
        return step in self._positions()

    def _position(self, name: str) -> Position:
        sql = "select position, row_count from copied_tables where name = ?"
        row = self.target.execute(sql, (name,)).fetchone()
        return Position((), 0) if row is None else Position(msgspec.json.decode(row["position"]), row["row_count"])

    def _copied(self) -> int:
        row = self.target.execute("select coalesce(sum(row_count), 0) from copied_tables").fetchone()
        return int(row[0])


def check_version(conn: Connection, side: Side) -> set[str]:
    """The owners of tables that are no longer installed; BootError if the tables are older or newer than known."""
    place = side.driver.place
    if not has_table(conn, "migrations"):
        raise BootError(f"{place} has no tables of ByteBrew")
    reached = dict(tuple(row) for row in conn.execute("select owner, max(number) from migrations group by owner"))
    for owner, steps in side.owners.items():
        if (number := reached.get(owner, 0)) > len(steps):
            raise BootError(f"{place} is newer than this {owner}: it has migration {number}, known is {len(steps)}")
        if number < len(steps):
            raise BootError(
                f"{place} is older than this {owner}: it has migration {number} of {len(steps)}; start this version's"
                " engine on it once and stop it"
            )
    return {owner for owner in reached.keys() - side.owners.keys() if " " not in owner}
