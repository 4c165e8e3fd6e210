"""A database on PostgreSQL as the source or the target of a copy of all rows, which `bytebrew migrate` makes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import psycopg

from bytebrew import BootError, Connection, Driver, StorageError, Transfer

from .connection import PostgresConnection
from .errors import advice

COPY_LOCK = 0x6279746562726578
"""The advisory lock of the one copy into a database."""
LEASE_SECONDS = 10
"""How long a node that was killed may still seem to run."""
_TABLE = """create table copied_tables (
  name text collate "C" primary key, position text collate "C" not null, row_count bigint not null)"""
_OTHERS = (
    "select relname from pg_class where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p', 'v')"
)
_FOREIGN_KEYS = """select format('alter table %I drop constraint %I', r.relname, c.conname) as drop,
  format('alter table %I add constraint %I %s', r.relname, c.conname, pg_get_constraintdef(c.oid)) as add
  from pg_constraint c join pg_class r on r.oid = c.conrelid
  where c.contype = 'f' and c.connamespace = current_schema()::regnamespace order by r.relname, c.conname"""
_TRIGGERS = """select format('alter table %I {} trigger %I', r.relname, t.tgname)
  from pg_trigger t join pg_class r on r.oid = t.tgrelid
  where not t.tgisinternal and r.relkind = 'r' and r.relnamespace = current_schema()::regnamespace
  and (t.tgtype & 2) = 0 and t.tgenabled = ?"""
"""Triggers that run after a change: others compute columns of the row itself. A view's make its inserts possible."""
_KEYS = """select c.table_name, c.column_name,
  pg_sequence_last_value(pg_get_serial_sequence(quote_ident(c.table_name), c.column_name)::regclass) as last
  from information_schema.columns c where c.table_schema = current_schema() and c.is_identity = 'YES'"""
_CONSTRAINT = " constraint "


class PostgresTransfer(Transfer):
    """A database of a driver; `lock` is the advisory lock that every write takes."""

    def __init__(self, driver: Driver, lock: int, made: Callable[[], Any]) -> None:
        self._driver, self._lock, self._made = driver, lock, made

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One snapshot; nodes that start meanwhile wait with their first write."""
        with self._opened() as waiting, self._opened(read_only=True) as conn:
            self._check_nodes(conn)
            if not _locked(waiting, self._lock):
                raise BootError(f"{self._driver.place} is being written to; stop all engines and commands first")
            self._driver.begin_read(conn)
            yield conn

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection to the new database, which no other copy has."""
        with self._opened() as holding, self._opened() as conn:
            if not _locked(holding, COPY_LOCK):
                raise BootError(f"another bytebrew migrate copies into {self._driver.place}; wait for its end")
            there = [row["relname"] for row in conn.execute(_OTHERS)]
            if not there:
                conn.script(_TABLE)
            elif "copied_tables" not in there:
                raise BootError(
                    f"{self._driver.place} is not empty: it has the table {there[0]}; create a new database"
                )
            with self._made() as made:
                yield made

    def stamp(self, conn: Connection) -> str:
        """The highest id that a node has had."""
        row = conn.execute("select max(last_value) from pg_sequences where sequencename = 'nodes_id_seq'").fetchone()
        return f"node {row[0]}"

    def epoch(self, conn: Connection) -> int:
        """The epoch of the history."""
        return int(conn.execute("select epoch from history").fetchone()[0])

    def last_keys(self, conn: Connection) -> Mapping[str, int]:
        """The last key of each table with keys of a sequence that was used."""
        return {row["table_name"]: row["last"] for row in conn.execute(_KEYS) if row["last"] is not None}

    def begin(self, conn: Connection) -> None:
        """Drops the foreign keys, noting how to make them again, and disables triggers."""
        own = _own(conn)
        for row in own.execute(_FOREIGN_KEYS):
            own.script(row["drop"])
            own.execute("insert into copied_tables values (?, ?, 0)", (f"{_CONSTRAINT}{row['add']}", row["add"]))
        self._switch(own, "disable", "O")

    def end(self, conn: Connection, last_keys: Mapping[str, int]) -> None:
        """Makes the foreign keys, enables triggers, sets the sequences, and gathers statistics of the tables."""
        own = _own(conn)
        self._switch(own, "enable", "D")
        for row in own.execute(
            "select position from copied_tables where name like ? order by name", (f"{_CONSTRAINT}%",)
        ):
            own.script(row["position"])
        for row in own.execute(_KEYS).fetchall():
            table, column = row["table_name"], row["column_name"]
            highest = own.execute(f"select max({column}) from {table}").fetchone()[0]
            if last := max(highest or 0, last_keys.get(table, 0)):
                own.execute("select setval(pg_get_serial_sequence(?, ?)::regclass, ?)", (table, column, last))
        own.script("analyze")

    def leave(self) -> int:
        """Begins a new epoch of the history."""
        with self._opened() as conn:
            return int(conn.execute("update history set epoch = epoch + 1 returning epoch").fetchone()[0])

    def _switch(self, conn: PostgresConnection, how: str, state: str) -> None:
        for row in conn.execute(_TRIGGERS.format(how), (state,)):
            conn.script(row[0])

    def _check_nodes(self, conn: PostgresConnection) -> None:
        if conn.execute("select to_regclass('nodes')").fetchone()[0] is None:
            return
        sql = "select id from nodes where seen > extract(epoch from clock_timestamp()) - ? order by id"
        if running := [str(row["id"]) for row in conn.execute(sql, (LEASE_SECONDS,))]:
            raise BootError(
                f"the nodes {', '.join(running)} run on {self._driver.place}; stop them, or wait {LEASE_SECONDS} s if"
                " they were killed"
            )

    @contextmanager
    def _opened(self, *, read_only: bool = False) -> Iterator[PostgresConnection]:
        try:
            conn = _own(self._driver.open(read_only=read_only))
        except psycopg.Error as error:
            raise BootError(
                f"{self._driver.place} cannot be opened: {advice(error) or type(error).__name__}\n{error}"
            ) from error
        with closing(conn):
            try:
                yield conn
            except psycopg.Error as error:
                raise StorageError(advice(error) or str(error)) from error


def _locked(conn: PostgresConnection, key: int) -> bool:
    """Takes an advisory lock until the connection ends, unless another has it.

    It is that of a transaction: behind a pooler of transactions a session is not the connection's own.
    """
    conn.script("begin; set local idle_in_transaction_session_timeout = 0")
    return bool(conn.execute(f"select pg_try_advisory_xact_lock({key})").fetchone()[0])


def _own(conn: Connection) -> PostgresConnection:
    assert isinstance(conn, PostgresConnection)
    return conn
