"""Large sessions: gone for everybody at once, and from the file a little at a time."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew import MessageDelta
from bytebrew.base.errors import NotFound
from bytebrew.base.formats import new_uuid
from bytebrew.contract.connection import Connection
from bytebrew.engine import Engine
from bytebrew.store import open_turns, sessions, turn_results
from bytebrew.store.journal import OpenEventRange
from bytebrew.testing import ADMIN, ScriptedProvider, chat, providing, scripted_schema, served_engine
from tests.processes import serving
from tests.store.test_retention import execute, raw_events, watch
from tests.stored import ON_POSTGRESQL, changed, rows

ROWS = 20_000
CHAT = "/api/v1/schemas/test/chat"
TABLES = ("events", "messages", "results", "confirmations", "turns")


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    provider = ScriptedProvider([MessageDelta(content="hello")])
    async with served_engine(providing(provider), data=tmp_path) as (engine, client):
        await scripted_schema(engine)
        yield engine, client


def grow(conn: Connection, session_id: str, rows: int = ROWS) -> None:
    """Gives a session of one turn so many more events, messages, results, questions and turns with tool calls."""
    turn = conn.execute("select id from turns where session_id = ?", (session_id,)).fetchone()[0]
    few = rows // 20
    conn.executemany(
        "insert into events (session_id, n, type, data) values (?, ?, 'message_delta', ?)",
        ((session_id, n, b'{"content":"words and words and words"}') for n in range(1000, 1000 + rows)),
    )
    conn.executemany(
        'insert into messages values (?, ?, ?, \'{"role":"user","content":"hi"}\', 1, \'\')',
        ((session_id, n, turn) for n in range(1000, 1000 + few)),
    )
    conn.executemany(
        "insert into results values (?, ?, ?, ?)", ((turn, f"c{n}", session_id, "x" * 10_000) for n in range(few))
    )
    conn.executemany(
        """insert into confirmations (id, session_id, turn_id, call_id, kind, agent, tool, input, args_digest, status,
        created_at) values (?, ?, ?, ?, 'confirm', 'test', 't', '{}', '', 'spent', ?)""",
        ((f"conf_{session_id}_{n}", session_id, turn, f"c{n}", f"2026-{n}") for n in range(few)),
    )
    conn.executemany(
        """insert into turns (id, session_id, message, attachments, own_key, subagents, root_turn_id, lineage, status,
        created_at, finished_at) values (?, ?, 'm', '[]', 0, 0, '', '[]', 'completed', '', '')""",
        ((f"turn_{session_id}_{n}", session_id) for n in range(few)),
    )
    conn.executemany(
        """insert into tool_calls (turn_id, call_id, tool, input, status, asked_at)
        values (?, ?, 't', '{}', 'completed', '')""",
        ((f"turn_{session_id}_{n}", f"c{m}") for n in range(few) for m in range(3)),
    )


async def left(engine: Engine, session_id: str) -> int:
    """How many rows of a session there are."""
    sql = " union all ".join(f"select count(*) as c from {table} where session_id = ?1" for table in TABLES)
    return int((await execute(engine, f"select sum(c) from ({sql})", session_id))[0][0])


async def begun(engine: Engine, client: httpx.AsyncClient, session_id: str, **headers: str) -> None:
    """A session of this id with many rows."""
    answer = await client.post(CHAT, json={"message": "hi", "session_id": session_id}, headers=headers)
    assert "event: done" in answer.text
    await engine.db.write(grow, session_id)


async def test_a_large_session_is_gone_at_once_and_its_rows_go_in_small_transactions(
    served: tuple[Engine, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, client = served
    session_id, url = new_uuid(), "/api/v1/sessions/"
    await begun(engine, client, session_id, **{"Idempotency-Key": "k"})
    log = await engine.journal.log(session_id)
    held = watch(engine, monkeypatch)
    engine.duties.cancel("retention")
    await asyncio.sleep(0)
    assert (await client.delete(url + session_id)).status_code == 204
    assert await left(engine, session_id) > ROWS / 2
    for path in ("", "/messages", "/events?follow=false", "/events"):
        assert (await client.get(url + session_id + path)).status_code == 404, path
    assert (await client.delete(url + session_id)).status_code == 404
    assert (await client.put(url + session_id, json={"title": "t"})).status_code == 404
    page = (await client.get("/api/v1/sessions")).json()
    assert (page["sessions"], page["total"]) == ([], 0)
    assert (await client.get("/api/v1/approvals?status=spent")).json()["data"] == []
    again = await client.post(CHAT, json={"message": "hi", "session_id": session_id}, headers={"Idempotency-Key": "k"})
    assert again.status_code == 410
    assert isinstance(log.error, NotFound), "its followers end"
    taken = await client.post(CHAT, json={"message": "hi", "session_id": session_id})
    assert (taken.status_code, taken.json()["error"]) == (409, "conflict")
    assert "is being deleted" in taken.json()["message"]
    await engine.retention.run_once()
    assert await left(engine, session_id) == 0
    assert len(held) > 20
    assert max(held) < 1000
    events = await chat(client, "test", "anew", session_id=session_id)
    assert [event.id for event in events] == ["1", "2", "3"][: len(events)]
    assert (await raw_events(client, session_id, 0, b"\n\n")).startswith(b": ok")


async def test_a_follower_that_is_behind_a_removal_is_shown_no_gap(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    session_id = new_uuid()
    await chat(client, "test", "hi", session_id=session_id)
    last = (await engine.journal.log(session_id)).last
    rows = [(session_id, n, b'{"content":"words"}') for n in range(last + 1, 10_000)]
    insert = "insert into events (session_id, n, type, data) values (?, ?, 'message_delta', ?)"
    await engine.db.write(lambda conn: conn.executemany(insert, rows).rowcount)
    engine.duties.cancel("retention")
    frames = engine.journal.follow(await engine.journal.log(session_id), OpenEventRange(1))
    told = await anext(frames)
    assert (await client.delete(f"/api/v1/sessions/{session_id}")).status_code == 204
    with pytest.raises(NotFound):
        while True:
            told += await anext(frames)
    numbers = [int(line[4:]) for line in told.splitlines() if line.startswith(b"id: ")]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_follower_that_begins_while_its_session_is_deleted_ends(
    served: tuple[Engine, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, client = served
    session_id, read = new_uuid(), engine.db.read
    await chat(client, "test", "hi", session_id=session_id)
    engine.journal._logs.pop(session_id, None)

    async def then_delete(work: Any, *args: Any) -> Any:
        result = await read(work, *args)
        if work is sessions.owner and args == (session_id,):
            assert (await client.delete(f"/api/v1/sessions/{session_id}")).status_code == 204
        return result

    monkeypatch.setattr(engine.db, "read", then_delete)
    async with asyncio.timeout(5):
        assert "not_found" in (await client.get(f"/api/v1/sessions/{session_id}/events")).text


async def test_a_repeat_that_begins_while_its_session_is_deleted_ends(
    served: tuple[Engine, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, client = served
    body, key, read = {"message": "hi", "session_id": new_uuid()}, {"Idempotency-Key": "k"}, engine.db.read
    assert "event: done" in (await client.post(CHAT, json=body, headers=key)).text

    async def then_delete(work: Any, *args: Any, **kwargs: Any) -> Any:
        result = await read(work, *args, **kwargs)
        if work is turn_results.result:
            assert (await client.delete(f"/api/v1/sessions/{body['session_id']}")).status_code == 204
        return result

    monkeypatch.setattr(engine.db, "read", then_delete)
    async with asyncio.timeout(5):
        assert (await client.post(CHAT, json=body, headers=key)).status_code == 410


async def test_a_session_of_the_usual_size_leaves_nothing_behind_and_its_id_is_free(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    engine, client = served
    session_id = new_uuid()
    await chat(client, "test", "hi", session_id=session_id)
    await engine.db.write(grow, session_id, 800)
    engine.duties.cancel("retention")
    assert (await client.delete(f"/api/v1/sessions/{session_id}")).status_code == 204
    assert await left(engine, session_id) == 0
    assert (await chat(client, "test", "anew", session_id=session_id))[0].id == "1"


async def test_a_large_session_goes_with_those_of_the_agents_that_it_spawned(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    engine, client = served
    above, below = new_uuid(), new_uuid()
    await begun(engine, client, above)
    await begun(engine, client, below)
    await execute(engine, "update sessions set parent_id = ? where id = ?", above, below)
    assert (await client.delete(f"/api/v1/sessions/{above}")).status_code == 204
    assert (await client.get(f"/api/v1/sessions/{below}")).status_code == 404
    async with asyncio.timeout(20):
        while await execute(engine, "select 1 from removals"):
            await asyncio.sleep(0.01)
    assert await left(engine, above) + await left(engine, below) == 0
    assert await execute(engine, "select count(*) from sessions") == [(0,)]


async def test_a_turn_that_a_stopped_engine_left_in_a_deleted_session_is_not_taken_up(
    served: tuple[Engine, httpx.AsyncClient], tmp_path: Path
) -> None:
    engine, client = served
    session_id = new_uuid()
    await begun(engine, client, session_id)

    def leave(conn: Connection) -> list[Any]:
        conn.execute("update turns set status = 'running', last_event = null where first_event = 1")
        sessions.start_removal(conn, session_id)
        return open_turns.left_open(conn)

    assert await engine.db.write(leave) == []


def count(data: Path, sql: str) -> int:
    if ON_POSTGRESQL:
        return int(rows(data, sql)[0][0])
    where = (
        f"file:{data / 'bytebrew.db'}?mode=ro"  # who may write and closes last takes the log of a killed engine away
    )
    with closing(sqlite3.connect(where, timeout=20, uri=True)) as conn:
        return int(conn.execute(sql).fetchone()[0])


def test_what_a_killed_engine_left_of_a_deleted_session_goes_after_the_next_start(tmp_path: Path) -> None:
    session_id, demo = new_uuid(), "/api/v1/schemas/demo/chat"
    with serving(tmp_path) as engine:
        with httpx.Client(base_url=engine.url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=20) as client:
            assert client.post(demo, json={"message": "hi", "session_id": session_id}).status_code == 200
            with changed(tmp_path) as conn:
                grow(conn, session_id, 100_000)
            assert client.delete(f"/api/v1/sessions/{session_id}").status_code == 204
        engine.kill()
    assert count(tmp_path, "select count(*) from events") > 1000
    with serving(tmp_path) as engine:
        with httpx.Client(base_url=engine.url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=20) as client:
            assert client.get(f"/api/v1/sessions/{session_id}").status_code == 404
            until = time.monotonic() + 30
            while count(tmp_path, "select count(*) from sessions"):
                assert time.monotonic() < until
                time.sleep(0.05)
            again = client.post(demo, json={"message": "hi", "session_id": session_id})
            assert again.text.startswith((": ok", "id: 1"))
            assert "\nid: 1\n" in "\n" + again.text
        assert engine.stop() == 0
    if not ON_POSTGRESQL:
        assert count(tmp_path, "select count(*) from pragma_foreign_key_check") == 0
