"""Applies the numbered migrations of the core and of plugins to PostgreSQL, by one node while others wait."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import errors

from bytebrew import BootError, Connection, Listing, Migration, StorageError, now

from . import ddl, sums, triggers
from .configuration_tables import CONFIGURATION, NODES
from .connection import PostgresConnection
from .errors import advice
from .functions import FUNCTIONS
from .session_tables import SESSIONS

Migrations = Mapping[str, Sequence[tuple[int, str]]]
BASELINE = 36
"""The newest migration of the core that a database on PostgreSQL cannot have been without."""
OLDEST = 140000
"""Version 14, as the server tells it: the oldest that the engine is for."""
_TABLE = """create table if not exists migrations (owner text collate "C" not null, number bigint not null,
  applied_at text collate "C" not null, digest text collate "C" not null default '', primary key (owner, number))"""
_FUNCTIONS = ("functions of PostgreSQL", 1)
"""Owner and number under which the digest of the functions is recorded."""
_SESSIONS = Listing(
    table="sessions",
    order=("created_at", "id"),
    kinds=("agent", "schema", "status"),
    only="{}parent_id is null",
    kept="owner",
)
_TASKS = Listing(table="tasks", order=("seq",), kinds=("agent", "status", "source"), unit="thousand", kept="owner")


def baseline() -> str:
    """The core's tables as its migrations up to `BASELINE` make them on SQLite."""
    counts = "".join(map(sums.row_counts, (_SESSIONS, _TASKS)))
    parts = (sums.TABLE, CONFIGURATION, NODES, SESSIONS, counts, triggers.USAGE, triggers.TURNS, triggers.TASKS)
    return "".join((*parts, triggers.VERSIONS))


OWN: Mapping[int, str] = {**dict.fromkeys(range(1, BASELINE), ""), BASELINE: baseline()}
"""The core's migrations with texts of their own: add one for a migration only if it cannot be translated."""


class Translation(str):
    """SQL for PostgreSQL and its `source`, whose digest is recorded: a better translation of it is no edit."""

    source: str

    def __new__(cls, translated: str, source: str) -> "Translation":
        made = super().__new__(cls, translated)
        made.source = source
        return made


def core(sqlite: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """The core's migrations: texts of their own, or those for SQLite in translation; ValueError where one is needed."""
    return [(number, OWN[number] if number in OWN else _translated(number, sql)) for number, sql in sqlite]


def _translated(number: int, sql: str) -> str:
    try:
        return text(Migration(number, sql))
    except ValueError as error:
        raise ValueError(f"migration {number} of the core, in OWN of bytebrew_postgres/migrate.py: {error}") from error


def text(migration: Migration) -> str:
    """The SQL of a plugin's migration for PostgreSQL: its own, or that for SQLite in translation."""
    if migration.postgres is not None:
        return _joined(migration.postgres, str)
    translated = _joined(migration.sql, lambda sql: "".join(f"{one};\n" for one in ddl.statements(sql)))
    return Translation(translated, _joined(migration.sql, str))


def _joined(parts: str | Sequence[str | Listing], translated: Callable[[str], str]) -> str:
    parts = [parts] if isinstance(parts, str) else parts
    return "".join(translated(part) if isinstance(part, str) else sums.row_counts(part) for part in parts)


@contextmanager
def migrated(
    conn: PostgresConnection,
    place: str,
    owners: Migrations,
    check: Callable[[Connection], None],
    lock: str,
    *,
    pooler: bool,
) -> Iterator[PostgresConnection]:
    """The connection, once the tables of all owners are up to date.

    `lock` is SQL that waits until no other node migrates or writes. A pooler of transactions that is not announced by
    `pooler` is refused, as the settings of a session would reach others'. All missing migrations are applied in one
    transaction. A newer database, or one whose migrations were edited, is refused as it is. `check` is called after the
    migrations, and may raise BootError. An error of the database is a BootError before the block, and a StorageError in
    it.
    """
    try:
        if not pooler and conn.is_pooled():
            raise BootError(f"{place} is behind a pooler of transactions; set BYTEBREW_DATABASE_POOLER=true")
        _check_numbers(owners)
        if _due(conn, owners):
            conn.script(f"begin; {lock}")
            try:
                _apply(conn, owners)
                conn.script("commit")
            except BaseException:
                if conn.in_transaction:
                    conn.script("rollback")
                raise
        check(conn)
    except errors.InsufficientPrivilege as error:
        words = "its role may not create tables: make it the owner of the database, or of the schema it works in"
        raise BootError(f"{place} cannot be used: {words} ({error.diag.message_primary})") from error
    except psycopg.Error as error:
        raise BootError(f"{place} cannot be used: {advice(error) or error}") from error
    try:
        yield conn
    except psycopg.Error as error:
        raise StorageError(advice(error) or str(error)) from error


def _check_numbers(owners: Migrations) -> None:
    for owner, steps in owners.items():
        for expected, (number, _) in enumerate(steps, 1):
            if number != expected:
                raise BootError(f"the migrations of {owner} skip {expected}; number them 1, 2, 3 without gaps")


def _due(conn: PostgresConnection, steps: Migrations) -> bool:
    """Whether a migration or the functions are missing; BootError if the database is newer or was edited."""
    if conn.execute("select to_regclass('migrations')").fetchone()[0] is None:
        return True
    missing = False
    for owner, texts in steps.items():
        missing |= len(applied(conn, owner, texts)) < len(texts)
    return missing or _functions_digest(conn) != digest("".join(FUNCTIONS))


def _check_server(conn: PostgresConnection) -> None:
    """BootError if the server or the encoding of its database is none that the engine can use."""
    if conn.native.info.server_version < OLDEST:
        raise BootError("the server is too old; the engine is for PostgreSQL 14 and later")
    if (encoding := conn.native.info.parameter_status("server_encoding")) != "UTF8":
        message = f"the database is encoded in {encoding}, which lacks characters"
        raise BootError(f"{message}; create one with encoding 'UTF8'")


def _apply(conn: PostgresConnection, steps: Migrations) -> None:
    _check_server(conn)
    conn.script(_TABLE)
    if _functions_digest(conn) != (current := digest("".join(FUNCTIONS))):
        conn.script(";".join(FUNCTIONS))
        conn.execute("delete from migrations where owner = ? and number = ?", _FUNCTIONS)
        _record(conn, *_FUNCTIONS, current)
    for owner, texts in steps.items():
        done = applied(conn, owner, texts)
        for number, sql in texts:
            if number in done:
                continue
            try:
                if sql:
                    conn.script(sql)
            except psycopg.Error as error:
                raise BootError(f"migration {number} of {owner} failed: {error}") from error
            _record(conn, owner, number, digest(sql))


def _record(conn: PostgresConnection, owner: str, number: int, text_digest: str) -> None:
    sql = "insert into migrations (owner, number, applied_at, digest) values (?, ?, ?, ?)"
    conn.execute(sql, (owner, number, now(), text_digest))


def _functions_digest(conn: PostgresConnection) -> str | None:
    row = conn.execute("select digest from migrations where owner = ? and number = ?", _FUNCTIONS).fetchone()
    return None if row is None else str(row[0])


def applied(conn: PostgresConnection, owner: str, steps: Sequence[tuple[int, str]]) -> set[int]:
    """The numbers of an owner's applied migrations; BootError if one was edited, or if the database is newer."""
    texts = dict(steps)
    rows = conn.execute("select number, applied_at, digest from migrations where owner = ?", (owner,)).fetchall()
    for number, applied_at, text_digest in rows:
        if number in texts and text_digest != digest(texts[number]):
            message = f"migration {number} of {owner} was edited after it had been applied on {applied_at}"
            raise BootError(f"{message}; put its text back as it was, and make the change a further migration")
    reached = {number for number, _, _ in rows}
    if (newest := max(reached, default=0)) > len(steps):
        message = f"the database is newer than this {owner}: it has migration {newest}, known is {len(steps)}"
        raise BootError(f"{message}; install the newer version again, or restore a backup from before the change")
    return reached


def digest(sql: str) -> str:
    """SHA-256 in hex of a text, or of what it was translated from, independent of line breaks."""
    source = sql.source if isinstance(sql, Translation) else sql
    return hashlib.sha256(" ".join(source.split()).encode()).hexdigest()
