"""A database of each earlier migration opens: a copy is made first, no row is lost, and the engine goes on with it."""

import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from bytebrew import testing
from bytebrew.base.errors import BootError
from bytebrew.engine import Engine
from bytebrew.store.sqlite.migrate import pending
from bytebrew.store.sqlite.migrations import CORE
from scripts.old_databases import COMMITS, UNFILLED, UNSETTLED

pytestmark = pytest.mark.sqlite

CHANGED = {"turns.attachments", "usage.started_at", "usage.finished_at"}
"""What migrations write anew: attachments of ended turns, times of calls in core 19."""
OWN = """select name from sqlite_master where type = 'table' and name not like 'sqlite_%' and name <> 'migrations'
  and name not in (select v.name || s.value from sqlite_master v,
    json_each('["", "_config", "_content", "_data", "_docsize", "_idx"]') s where v.sql like 'create virtual%')"""
"""The tables, but for those of full-text indexes: a migration makes such an index anew from the other tables."""
Rows = dict[str, tuple[list[str], list[tuple[Any, ...]]]]


def rows(path: Path, like: Rows | None = None) -> Rows:
    """The columns and rows of each table, or of those tables and columns that another database has."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as conn:
        tables = like or [row[0] for row in conn.execute(OWN)]
        found = {}
        for table in tables:
            columns = [row[1] for row in conn.execute(f'pragma table_info("{table}")')]
            kept = [column for column in (like[table][0] if like else columns) if f"{table}.{column}" not in CHANGED]
            sql = ", ".join(f'"{column}"' for column in kept)
            found[table] = kept, sorted(conn.execute(f'select {sql} from "{table}"'), key=repr)
    return found


def upgrade(data: Path) -> None:
    """What an engine does with its data folder before it serves."""
    with Engine({"BYTEBREW_DATA_DIR": str(data)}).migrated():
        pass


def missing(data: Path) -> list[str]:
    """The migrations that a database lacks."""
    with closing(sqlite3.connect(data / "bytebrew.db")) as conn:
        return pending(conn, Engine({"BYTEBREW_DATA_DIR": str(data)}).migrations)


def copies(data: Path) -> list[Path]:
    return [*data.glob("bytebrew.db.before-*")]


def test_there_is_a_database_of_each_number_since_the_first_tables_were_settled() -> None:
    named = [int(name[5:]) for name in COMMITS if re.fullmatch(r"core-\d+", name)]
    assert {*range(3, len(CORE))} <= {*named}, "run scripts/old_databases.py for the commit of the newest migration"


@pytest.mark.parametrize("name", COMMITS)
def test_a_database_of_each_migration_keeps_every_row(name: str, old_data: Callable[[str], Path]) -> None:
    data = old_data(name)
    before, due = rows(data / "bytebrew.db"), missing(data)
    assert {table for table, (_, content) in before.items() if not content} <= {*UNFILLED}
    upgrade(data)
    assert rows(data / "bytebrew.db", before) == before
    assert [rows(copy) for copy in copies(data)] == [before] * bool(due)
    with closing(sqlite3.connect(data / "bytebrew.db")) as conn:
        assert conn.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert conn.execute("pragma foreign_key_check").fetchall() == []


@pytest.mark.parametrize("name", COMMITS)
async def test_an_engine_goes_on_with_a_database_of_each_migration(name: str, old_data: Callable[[str], Path]) -> None:
    async with testing.engine(data=old_data(name)) as engine, testing.client(engine) as http:

        async def get(path: str, **query: Any) -> Any:
            return (await http.get(f"/api/v1{path}", params=query)).raise_for_status().json()

        sessions = (await get("/sessions", limit=100))["data"]
        [earlier, *_] = [
            one["id"] for one in sessions if one["title"] == "What do you sell?" and not one["forked_from"]
        ]
        answer = await http.post(
            "/api/v1/schemas/demo/chat", json={"message": "And today?", "stream": False, "session_id": earlier}
        )
        assert answer.json()["message"].startswith("You said: And today?")
        messages = await get(f"/sessions/{earlier}/messages")
        assert [one["content"] for one in messages if one["role"] == "user"] == ["What do you sell?", "And today?"]

        while not (questions := (await get("/approvals", status="pending"))["data"]):
            await anyio.sleep(0.01)  # the turn that waited for it is resumed
        [question] = questions
        responded = await http.post(f"/api/v1/approvals/{question['id']}/respond", json={"answers": ["yes"]})
        assert responded.status_code == 200, responded.text

        assert {one["title"] for one in (await get("/tasks"))["data"]} >= {"Paint the door", "Sweep the floor"}
        assert [one["content"] for one in await get("/schemas/desk/memory")] == ["The shop opens at nine"]
        [base] = await get("/knowledge-bases")
        found = await get(f"/knowledge-bases/{base['id']}/search", q="opens")
        assert [one["file_name"] for one in found["results"]] == ["hours.txt"]
        sealed = await engine.db.read(
            lambda conn: conn.execute("select sealed_key from models where id = 2").fetchone()
        )
        assert engine.secrets.open(bytes(sealed[0])) == "sk-of-the-shop"


def test_what_only_the_log_of_a_killed_engine_has_is_kept(old_data: Callable[[str], Path], tmp_path: Path) -> None:
    old, data = old_data("core-20"), tmp_path / "killed"
    with closing(sqlite3.connect(old / "bytebrew.db")) as conn, conn:
        conn.execute("pragma journal_mode = wal")
        conn.execute("insert into settings values ('custom.late', '1', '')")
        conn.commit()
        shutil.copytree(old, data)
    assert b"custom.late" not in (data / "bytebrew.db").read_bytes()
    upgrade(data)
    for path in (data / "bytebrew.db", *copies(data)):
        assert "custom.late" in {row[0] for row in rows(path)["settings"][1]}


@pytest.mark.parametrize("name", UNSETTLED)
def test_a_database_of_tables_that_were_not_yet_settled_is_refused_and_left_alone(
    name: str, old_data: Callable[[str], Path]
) -> None:
    data = old_data(name)
    before = rows(data / "bytebrew.db")
    with pytest.raises(BootError, match=r"core's first tables were not yet settled \(\w+ is not as migration \d"):
        upgrade(data)
    assert rows(data / "bytebrew.db") == before
    assert not copies(data)


@pytest.mark.parametrize("owner", ["core", "mcp"])
def test_a_newer_database_is_refused_before_anything_changes(owner: str, old_data: Callable[[str], Path]) -> None:
    data = old_data("core-12")
    with closing(sqlite3.connect(data / "bytebrew.db")) as conn, conn:
        conn.execute("insert into migrations (owner, number, applied_at) values (?, 99, '')", (owner,))
    before = rows(data / "bytebrew.db")
    with pytest.raises(BootError, match=f"the database is newer than this {owner}: it has migration 99, known is "):
        upgrade(data)
    assert rows(data / "bytebrew.db") == before
    assert not copies(data)


def test_times_of_model_calls_that_were_texts_are_numbers_afterwards(old_data: Callable[[str], Path]) -> None:
    data = old_data("core-19")
    with closing(sqlite3.connect(data / "bytebrew.db")) as conn:
        texts = dict(conn.execute("select id, started_at from usage where started_at <> ''"))
    upgrade(data)
    with closing(sqlite3.connect(data / "bytebrew.db")) as conn:
        numbers = dict(conn.execute("select id, started_at from usage where started_at <> 0"))
    expected = {key: datetime.fromisoformat(text).timestamp() for key, text in texts.items()}
    assert expected
    assert numbers == pytest.approx(expected, abs=0.001)
