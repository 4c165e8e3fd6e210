"""The tables on PostgreSQL are those of SQLite: names, columns in order, keys, indexes, defaults."""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from bytebrew_postgres.sql import split

from bytebrew.engine import Engine
from bytebrew.store.sqlite.migrate import migrate
from bytebrew.testing.postgres import USER, Server

pytestmark = pytest.mark.postgresql
TYPES = {"integer": "bigint", "real": "double precision", "text": "text", "blob": "bytea"}
SEARCHED = {"words", "length", "embedding"}
"""Columns of the search on PostgreSQL."""
OWN = {"folded_sums"}
"""Tables that only PostgreSQL has, beside those of its sums."""
SEARCH = re.compile(r"(knowledge_words|memory_search|knowledge_vectors|memory_vectors)\w*")
"""Tables of the search, which each database has in its own way."""


def engine_of(folder: Path, url: str = "") -> Engine:
    return Engine({"BYTEBREW_DATA_DIR": str(folder), "BYTEBREW_DATABASE_URL": url})


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    made = engine_of(tmp_path_factory.mktemp("sqlite"))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        for owner, steps in made.migrations.items():
            migrate(conn, owner, steps)
        yield conn


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory, shared: Server) -> Iterator[psycopg.Connection[Any]]:
    shared.execute(f"create database tables_of_test owner {USER}")
    url = shared.url("tables_of_test")
    made = engine_of(tmp_path_factory.mktemp("postgres"), url)
    with made.driver.migrated(made.migrations, lambda conn: None):
        pass
    with psycopg.connect(url) as conn:
        yield conn
    shared.execute("drop database tables_of_test with (force)")


def names(rows: Sequence[Sequence[str]]) -> set[str]:
    return {name for (name,) in rows if not SEARCH.fullmatch(name) and not name.startswith("sqlite_")}


def tables(sqlite: sqlite3.Connection) -> set[str]:
    return names(sqlite.execute("select name from sqlite_master where type = 'table'").fetchall())


def sums(postgres: psycopg.Connection[Any]) -> set[str]:
    return {name for (name,) in postgres.execute("select name from folded_sums").fetchall()}


def test_both_have_the_same_tables(sqlite: sqlite3.Connection, postgres: psycopg.Connection[Any]) -> None:
    there = names(postgres.execute("select tablename from pg_tables where schemaname = 'public'").fetchall())
    summed = sums(postgres)
    rows = {f"{name}_{kind}" for name in summed for kind in ("rows", "folded")}
    assert rows <= there
    assert (there - rows - OWN) | summed == tables(sqlite)


def test_their_columns_are_the_same_and_in_the_same_order(
    sqlite: sqlite3.Connection, postgres: psycopg.Connection[Any]
) -> None:
    for table in sorted(tables(sqlite)):
        wanted = [(row[1], TYPES[row[2].lower()]) for row in sqlite.execute(f"pragma table_info({table})")]
        assert columns(postgres, table) == wanted, table


def columns(postgres: psycopg.Connection[Any], table: str) -> list[tuple[str, str]]:
    sql = (
        "select column_name, data_type from information_schema.columns where table_name = %s order by ordinal_position"
    )
    rows = postgres.execute(sql, (table,)).fetchall()
    return [
        (name, kind) for name, kind in rows if not table.startswith(("knowledge_", "memory_")) or name not in SEARCHED
    ]


def test_a_column_without_a_value_is_null_or_has_the_same_default(
    sqlite: sqlite3.Connection, postgres: psycopg.Connection[Any]
) -> None:
    sql = """select column_name, is_nullable, column_default, is_identity from information_schema.columns
      where table_name = %s"""
    for table in sorted(tables(sqlite) - sums(postgres)):
        there = {row[0]: row[1:] for row in postgres.execute(sql, (table,)).fetchall()}
        for _, name, kind, not_null, default, key in sqlite.execute(f"pragma table_info({table})"):
            nullable, own_default, identity = there[name]
            if identity == "YES":
                assert (kind.lower(), keys(sqlite, table)) == ("integer", [name]), f"{table}.{name}"
            assert (nullable == "NO") == bool(not_null or key), f"{table}.{name}"
            assert plain(own_default) == plain(default), f"{table}.{name}"


def plain(default: str | None) -> str | None:
    return None if default is None else re.sub(r"::[\w ]+$", "", default)


def keys(sqlite: sqlite3.Connection, table: str) -> list[str]:
    found = [(row[5], row[1]) for row in sqlite.execute(f"pragma table_info({table})") if row[5]]
    return [name for _, name in sorted(found)]


def test_their_keys_are_the_same(sqlite: sqlite3.Connection, postgres: psycopg.Connection[Any]) -> None:
    sql = """select a.attname from pg_index i join unnest(i.indkey) with ordinality k (n, place) on true
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.n
      where i.indrelid = to_regclass(%s) and i.indisprimary order by k.place"""
    for table in sorted(tables(sqlite) - sums(postgres)):
        there = [name for (name,) in postgres.execute(sql, (table,)).fetchall()]
        assert there == keys(sqlite, table), table


def test_their_indexes_are_the_same(sqlite: sqlite3.Connection, postgres: psycopg.Connection[Any]) -> None:
    wanted = {
        name: sql
        for name, sql in sqlite.execute("select name, sql from sqlite_master where type = 'index' and sql is not null")
        if not SEARCH.match(name)
    }
    there = dict(postgres.execute("select indexname, indexdef from pg_indexes where schemaname = 'public'").fetchall())
    for name, sql in wanted.items():
        assert name in there, name
        assert ("unique index" in sql.lower()) == ("UNIQUE INDEX" in there[name]), name
        assert words(sql) == words(there[name]), name


def words(sql: str) -> list[str]:
    """The names in an index's definition; PostgreSQL writes conditions in its own way."""
    columns = sql.lower().partition(" on ")[2].partition(" where ")[0]
    text = re.sub(r"\bpublic\.|\busing btree\b|::(numeric|double precision)|\"", "", columns)
    return [piece for piece in split(text) if piece.isidentifier()]


def test_a_text_is_ordered_by_its_bytes_in_any_database(postgres: psycopg.Connection[Any]) -> None:
    sql = """select table_name, column_name from information_schema.columns where table_schema = 'public'
      and data_type = 'text' and collation_name is distinct from 'C'
      and table_name in (select tablename from pg_tables)"""
    assert postgres.execute(sql).fetchall() == []


def test_rows_refer_to_the_same_others_except_events(
    sqlite: sqlite3.Connection, postgres: psycopg.Connection[Any]
) -> None:
    wanted = {
        f"{table}.{row[3]} -> {row[2]} {row[6]}".lower()
        for table in tables(sqlite) - {"events"}
        for row in sqlite.execute(f"pragma foreign_key_list({table})")
    }
    sql = """select c.conrelid::regclass::text || '.' || a.attname || ' -> ' || c.confrelid::regclass::text || ' '
      || case c.confdeltype when 'c' then 'cascade' else 'no action' end
      from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
      where c.contype = 'f'"""
    assert {text for (text,) in postgres.execute(sql).fetchall()} == wanted
