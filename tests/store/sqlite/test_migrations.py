"""Migrations: forward only, each whole or not at all, from every number that a file may have."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bytebrew import Migration, testing
from bytebrew.base.errors import BootError
from bytebrew.contract.connection import Connection
from bytebrew.store.sqlite.migrate import migrate
from bytebrew.store.sqlite.migrations import CORE
from bytebrew.store.sqlite.pragmas import connect

pytestmark = pytest.mark.sqlite

NOTES = "create table notes (id integer primary key, text text not null) strict;"
STARS = "alter table notes add column stars integer not null default 0; create index notes_stars on notes (stars);"


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(tmp_path / "test.db")) as conn:
        yield conn


def tables(conn: Connection) -> dict[str, str]:
    """Every table and index with its SQL."""
    return dict(conn.execute("select name, sql from sqlite_master where name not like 'sqlite_%'").fetchall())


def reached(conn: Connection) -> list[tuple[str, int]]:
    return [tuple(row) for row in conn.execute("select owner, number from migrations order by owner, number")]


def test_a_blank_file_gets_every_step(conn: sqlite3.Connection) -> None:
    migrate(conn, "core", CORE)
    assert reached(conn) == [("core", number) for number, _ in CORE]
    assert {"models", "agents", "schemas", "tokens", "sessions", "turns", "messages", "events"} <= set(tables(conn))
    assert conn.execute("pragma integrity_check").fetchone()[0] == "ok"


@pytest.mark.parametrize("older", range(len(CORE)))
def test_a_file_of_any_older_number_becomes_like_a_new_one(
    older: int, conn: sqlite3.Connection, tmp_path: Path
) -> None:
    migrate(conn, "core", CORE[:older])
    migrate(conn, "core", CORE)
    with closing(connect(tmp_path / "new.db")) as new:
        migrate(new, "core", CORE)
        assert tables(conn) == tables(new)


def test_the_rows_of_an_older_file_are_kept(conn: sqlite3.Connection) -> None:
    migrate(conn, "notes", [(1, NOTES)])
    conn.execute("insert into notes (text) values ('keep me')")
    migrate(conn, "notes", [(1, NOTES), (2, STARS)])
    assert tuple(conn.execute("select text, stars from notes").fetchone()) == ("keep me", 0)


def test_going_over_it_again_changes_nothing(conn: sqlite3.Connection) -> None:
    migrate(conn, "core", CORE)
    before = (tables(conn), conn.execute("select * from migrations").fetchall(), conn.total_changes)
    migrate(conn, "core", CORE)
    assert (tables(conn), conn.execute("select * from migrations").fetchall(), conn.total_changes) == before


def test_a_step_that_fails_is_undone_whole_and_names_its_owner(conn: sqlite3.Connection) -> None:
    broken = "alter table notes add column stars integer; insert into nowhere values (1);"
    migrate(conn, "notes", [(1, NOTES)])
    before = tables(conn)
    with pytest.raises(BootError, match="migration 2 of notes failed: no such table: nowhere"):
        migrate(conn, "notes", [(1, NOTES), (2, broken)])
    assert reached(conn) == [("notes", 1)]
    assert tables(conn) == before
    assert not conn.in_transaction


def test_a_newer_file_is_refused_and_left_alone(conn: sqlite3.Connection) -> None:
    migrate(conn, "notes", [(1, NOTES), (2, STARS)])
    with pytest.raises(BootError, match="newer than this notes: it has migration 2, known is 1; install the newer"):
        migrate(conn, "notes", [(1, NOTES)])
    assert reached(conn) == [("notes", 1), ("notes", 2)]


@pytest.mark.parametrize("numbers", [(2,), (1, 3), (1, 1), (2, 1), (0, 1)])
def test_numbers_go_up_from_one_without_gaps(numbers: Sequence[int], conn: sqlite3.Connection) -> None:
    with pytest.raises(BootError, match="number them 1, 2, 3 without gaps"):
        migrate(conn, "notes", [(number, f"create table t{at} (id)") for at, number in enumerate(numbers)])


def test_the_cores_own_numbers_have_no_gaps() -> None:
    assert [number for number, _ in CORE] == list(range(1, len(CORE) + 1))


def test_triggers_strings_comments_and_several_statements_on_a_line_are_told_apart(conn: sqlite3.Connection) -> None:
    sql = """
    create table a (x); create table b (x); -- a comment; with a semicolon
    create trigger copy after insert on a begin
      insert into b values (new.x);
      insert into b values ('; it''s "quoted"');
    end;
    insert into a values (1)
    """
    migrate(conn, "any", [(1, sql)])
    assert [row[0] for row in conn.execute("select x from b")] == [1, '; it\'s "quoted"']


def migrating(*steps: Migration) -> Callable[[Any], None]:
    def register_migrations(register: Any) -> None:
        for step in steps:
            register(step)

    return register_migrations


async def test_a_plugin_has_tables_of_its_own_in_the_one_file(tmp_path: Path) -> None:
    first = testing.plugin("notes", register_migrations=migrating(Migration(1, NOTES)))
    async with testing.engine(first, data=tmp_path) as engine:
        await engine.db.write(lambda conn: conn.execute("insert into notes (text) values ('keep me')").rowcount)
    second = testing.plugin("notes", register_migrations=migrating(Migration(1, NOTES), Migration(2, STARS)))
    async with testing.engine(second, data=tmp_path) as engine:
        assert await engine.db.read(lambda conn: tuple(conn.execute("select * from notes").fetchone())) == (
            1,
            "keep me",
            0,
        )
    async with testing.engine(data=tmp_path) as engine:  # without the plugin its tables wait for its return
        assert await engine.db.read(lambda conn: conn.execute("select count(*) from notes").fetchone()[0]) == 1
    with pytest.raises(BootError, match="newer than this notes"):
        async with testing.engine(first, data=tmp_path):
            pass


async def test_a_plugins_failing_step_stops_the_boot_and_leaves_the_core_usable(tmp_path: Path) -> None:
    broken = testing.plugin("notes", register_migrations=migrating(Migration(1, "create table notes (id text; ")))
    with pytest.raises(BootError, match="migration 1 of notes failed"):
        async with testing.engine(broken, data=tmp_path):
            pass
    async with testing.engine(data=tmp_path) as engine:
        assert "notes" not in await engine.db.read(tables)


def test_a_step_that_was_edited_after_it_was_applied_is_refused(conn: sqlite3.Connection) -> None:
    migrate(conn, "notes", [(1, NOTES), (2, STARS)])
    before = tables(conn)
    edited = NOTES.replace("text text not null", "text text")
    words = r"migration 1 of notes was edited after it had been applied to this file on 2\d{3}-.*; put its text back"
    for steps in ([(1, edited), (2, STARS)], [(1, edited), (2, STARS), (3, "create table more (id)")]):
        with pytest.raises(BootError, match=words):
            migrate(conn, "notes", steps)
    assert tables(conn) == before
    migrate(conn, "notes", [(1, NOTES.replace(" (", "\n  (").replace(", ", ",\n  ")), (2, STARS)])


def test_a_file_that_stored_no_digests_takes_those_of_the_steps_that_it_meets(conn: sqlite3.Connection) -> None:
    migrate(conn, "notes", [(1, NOTES)])
    conn.execute("alter table migrations drop column digest")
    migrate(conn, "notes", [(1, NOTES), (2, STARS)])
    assert reached(conn) == [("notes", 1), ("notes", 2)]
    with pytest.raises(BootError, match="migration 1 of notes was edited"):
        migrate(conn, "notes", [(1, NOTES + " -- and more"), (2, STARS)])


async def test_an_edited_step_of_a_plugin_stops_the_boot(tmp_path: Path) -> None:
    async with testing.engine(
        testing.plugin("notes", register_migrations=migrating(Migration(1, NOTES))), data=tmp_path
    ):
        pass
    edited = testing.plugin(
        "notes", register_migrations=migrating(Migration(1, NOTES.replace("text text", "text any")))
    )
    with pytest.raises(BootError, match="migration 1 of notes was edited"):
        async with testing.engine(edited, data=tmp_path):
            pass


def test_every_step_has_the_same_text_in_every_process(tmp_path: Path) -> None:
    script = """
import sys
from bytebrew.engine import Engine
engine = Engine({"BYTEBREW_DATA_DIR": sys.argv[1]})
with engine.migrated() as conn:
    print(*map(tuple, conn.execute("select owner, number, digest from migrations order by owner, number")))
"""
    told = {
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(told) == 1
    assert "('core', 1, '" in told.pop()


async def test_a_plugin_cannot_pass_itself_off_as_the_core(tmp_path: Path) -> None:
    with pytest.raises(BootError, match="a plugin cannot be named core"):
        async with testing.engine(testing.plugin("core", register_migrations=migrating(Migration(1, NOTES)))):
            pass


async def test_a_file_that_is_no_database_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "bytebrew.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(BootError, match=r"bytebrew\.db cannot be opened: file is not a database"):
        async with testing.engine(data=tmp_path):
            pass


def test_a_migration_that_fails_says_why_also_where_sqlite_has_rolled_it_back() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        sql = "create table once (n integer unique); insert into once values (1);"
        sql += "insert or rollback into once values (1);"
        with pytest.raises(BootError, match=r"migration 1 of ducks failed: UNIQUE constraint failed: once\.n"):
            migrate(conn, "ducks", [(1, sql)])
