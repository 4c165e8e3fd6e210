"""Retention: what is old goes or is packed, what is young or open stays, and the disk gets its space back."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bytebrew import MessageDelta, Thinking, ToolCall, Usage
from bytebrew.base.errors import TurnInterrupted
from bytebrew.base.formats import now
from bytebrew.contract.connection import Connection
from bytebrew.conversation.failed_turns import fail_now
from bytebrew.engine import Engine
from bytebrew.store import retention
from bytebrew.store.database import checkpoints
from bytebrew.store.queries.events import read_events
from bytebrew.store.sqlite import pragmas
from bytebrew.store.sqlite.pragmas import checkpoint, connect
from bytebrew.testing import ScriptedProvider, Step, chat, plugin, providing, scripted_schema, served_engine
from tests.conversation.test_tasks import instructions, plans

LONG_AGO = "2020-01-01T00:00:00.000000Z"
DELTAS = 700


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """A model that says much in small pieces, between which it calls a tool."""
    asks: list[Step] = [Thinking(content="hm"), *(MessageDelta(content=f"delta {n} ü\u2028 ") for n in range(DELTAS))]
    provider = ScriptedProvider([*asks, ToolCall("current_time", {})], [MessageDelta(content="done"), Usage(3, 2)])
    async with served_engine(providing(provider), data=tmp_path) as (engine, client):
        await scripted_schema(engine, tools=("current_time",))
        yield engine, client


async def execute(engine: Engine, sql: str, *values: object) -> list[Any]:
    return await engine.db.write(lambda conn: [tuple(row) for row in conn.execute(sql, values)])


async def age(engine: Engine, session_id: str) -> None:
    """Makes a session and all its turns old."""
    for table, column, key in (
        ("sessions", "created_at", "id"),
        ("sessions", "updated_at", "id"),
        ("turns", "finished_at", "session_id"),
    ):
        await execute(engine, f"update {table} set {column} = ? where {key} = ?", LONG_AGO, session_id)


def watch(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the work of each transaction from now on, in hundreds of instructions of SQLite's machine."""
    held: list[int] = []
    write = engine.db.write

    async def counted(work: Callable[..., Any], *args: Any) -> Any:
        def watched(conn: Connection) -> Any:
            with instructions(conn) as spent:
                done = work(conn, *args)
            held.append(len(spent))
            return done

        return await write(watched)

    monkeypatch.setattr(engine.db, "write", counted)
    return held


async def keep_days(client: httpx.AsyncClient, key: str, days: int) -> None:
    assert (await client.put(f"/api/v1/settings/retention.{key}", json={"value": days})).status_code == 200


async def talk(client: httpx.AsyncClient, **body: Any) -> str:
    answer = await client.post("/api/v1/schemas/test/chat", json={"message": "hi", **body})
    assert "event: done" in answer.text
    return answer.headers["x-session-id"]


async def raw_events(client: httpx.AsyncClient, session_id: str, after: int, until: bytes) -> bytes:
    """The stream after an event, up to a frame."""
    url, raw = f"/api/v1/sessions/{session_id}/events", b""
    async with client.stream("GET", url, headers={"Last-Event-ID": str(after)}) as response:
        async for chunk in response.aiter_raw():
            raw += chunk
            if raw.endswith(until):
                return raw
    raise AssertionError("the stream ended early")


async def test_packed_events_are_replayed_byte_for_byte_from_every_number(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    engine, client = served
    session_id = await talk(client)
    await talk(client, session_id=session_id)
    last = (await client.get(f"/api/v1/sessions/{session_id}/events?follow=false")).json()["last"]
    rows = await engine.db.read(read_events, session_id, 0, last, 5000)
    assert [n for n, _, _, _ in rows] == list(range(1, last + 1))
    until = b"data: " + rows[-1][2] + b"\n\n"
    points = (0, 1, 100, 255, 256, 257, 600, last - 2, last - 1)
    before = [await raw_events(client, session_id, after, until) for after in points]
    await age(engine, session_id)
    await engine.retention.run_once()
    assert (await execute(engine, "select count(*) from events"))[0][0] < last / 50
    assert await execute(engine, "select count(*) from turns where packed = 0") == [(0,)]
    assert [await raw_events(client, session_id, after, until) for after in points] == before
    for after in range(last + 1):
        limit = 1 if after % 2 else 3
        found = await engine.db.read(read_events, session_id, after, last, limit)
        assert found == rows[after : after + limit]
    whole: list[dict[str, Any]] = []
    while len(whole) < last:
        page = await client.get(
            f"/api/v1/sessions/{session_id}/events", params={"follow": "false", "after": len(whole)}
        )
        whole += page.json()["events"]
    assert [event["id"] for event in whole] == list(range(1, last + 1))


async def test_a_packed_session_goes_on_under_the_next_numbers(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    session_id = await talk(client)
    await age(engine, session_id)
    await engine.retention.run_once()
    page = (await client.get(f"/api/v1/sessions/{session_id}/events?follow=false")).json()
    events = await chat(client, "test", "and now?", session_id=session_id)
    assert int(events[0].id) == page["last"] + 1
    assert (await client.get(f"/api/v1/sessions/{session_id}")).json()["message_count"] == 6


async def test_young_and_unfinished_turns_are_not_packed(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    young, left = await talk(client), await talk(client)
    await age(engine, left)
    await execute(engine, "update turns set status = 'running', finished_at = null where session_id = ?", left)
    await engine.retention.run_once()
    assert await execute(engine, "select count(*) from events where type = 'packed'") == [(0,)]
    await age(engine, young)
    await keep_days(client, "events", 0)
    await engine.retention.run_once()
    assert await execute(engine, "select count(*) from events where type = 'packed'") == [(0,)]


async def test_sessions_stay_for_ever_unless_an_operator_says_how_long(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    engine, client = served
    old, young = await talk(client), await talk(client)
    await age(engine, old)
    await engine.retention.run_once()
    assert (await client.get(f"/api/v1/sessions/{old}")).status_code == 200
    await keep_days(client, "sessions", 30)
    log = await engine.journal.log(old)
    await engine.retention.run_once()
    assert (await client.get(f"/api/v1/sessions/{old}")).status_code == 404
    assert (await client.get(f"/api/v1/sessions/{young}")).status_code == 200
    assert log.error is not None, "its followers are told"
    for table in ("events", "messages", "turns"):
        assert await execute(engine, f"select count(*) from {table} where session_id = ?", old) == [(0,)]
    assert (await execute(engine, "select count(distinct turn_id) from usage")) == [(2,)], "cost is kept"


@pytest.mark.parametrize("end", ["answered", "given up"])
async def test_a_session_is_as_young_as_the_end_of_its_last_turn(
    end: str, served: tuple[Engine, httpx.AsyncClient]
) -> None:
    engine, client = served
    await keep_days(client, "sessions", 1)
    await client.patch("/api/v1/agents/test", json={"confirm_before": ["current_time"]})
    task = (await client.post("/api/v1/tasks", json={"title": "t", "agent": "test"})).json()
    url, session_id = f"/api/v1/tasks/{task['id']}", task["session_id"]

    async def until(status: str) -> None:
        async with asyncio.timeout(5):
            while (await client.get(url)).json()["status"] != status:
                await asyncio.sleep(0.01)

    await until("needs_input")
    await age(engine, session_id)
    if end == "answered":
        await client.post(f"{url}/input", json={"answers": ["approve"]})
        await until("completed")
    else:
        [(turn_id,)] = await execute(engine, "select id from turns")
        await execute(engine, "update tasks set status = 'failed', completed_at = ?", LONG_AGO)
        await fail_now(engine.journal, engine.publish, session_id, turn_id, TurnInterrupted("no"))
    await engine.retention.run_once()
    assert (await client.get(f"/api/v1/sessions/{session_id}")).status_code == 200


@pytest.mark.parametrize("link", ["session_id", "made_in"])
@pytest.mark.parametrize("spawned", [False, True])
async def test_a_session_stays_while_a_task_in_it_or_below_it_is_open(
    link: str, spawned: bool, served: tuple[Engine, httpx.AsyncClient]
) -> None:
    engine, client = served
    await keep_days(client, "sessions", 1)
    above, below = await talk(client), await talk(client)
    await execute(engine, "update sessions set parent_id = ? where id = ?", above, below)
    draft = {"title": "t", "agent": "test", "require_approval": True}
    assert (await client.post("/api/v1/tasks", json=draft)).status_code == 201
    await execute(engine, f"update tasks set {link} = ?", below if spawned else above)
    await age(engine, above)
    await age(engine, below)
    await engine.retention.run_once()
    assert await execute(engine, "select count(*) from sessions") == [(2,)]
    await execute(engine, "update tasks set status = 'cancelled', completed_at = ?", LONG_AGO)
    await engine.retention.run_once()
    assert await execute(engine, "select count(*) from sessions") == [(0,)]


async def test_a_session_that_stays_is_little_work_however_many_agents_it_has_spawned(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    engine, client = served
    await keep_days(client, "sessions", 1)
    draft = {"title": "t", "agent": "test", "require_approval": True}
    session_id = (await client.post("/api/v1/tasks", json=draft)).json()["session_id"]

    def fill(conn: Connection) -> int:
        sql = f"""insert into sessions (id, schema, agent, owner, user_sub, title, parent_id, created_at, updated_at,
            status) values (?, '', 'test', 'ada', '', '', ?, '{LONG_AGO}', '{LONG_AGO}', 'completed')"""
        conn.execute(sql, (session_id, None))
        conn.executemany(sql, [(f"spawned {n}", session_id) for n in range(1000)])
        with instructions(conn) as spent:
            assert not retention.expire_sessions(conn).done
        return len(spent)

    assert await engine.db.write(fill) < 10


async def test_a_session_with_an_open_turn_or_task_stays(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    await keep_days(client, "sessions", 1)
    running, working = await talk(client), await talk(client)
    await execute(engine, "update turns set status = 'running' where session_id = ?", running)
    task = await client.post("/api/v1/tasks", json={"title": "t", "agent": "test", "require_approval": True})
    assert task.status_code == 201, task.text
    await execute(engine, "update tasks set session_id = ?", working)
    for session_id in (running, working):
        await age(engine, session_id)
    await engine.retention.run_once()
    assert (await client.get("/api/v1/sessions")).json()["total"] == 2


async def test_a_task_goes_after_its_end_as_a_session_does_unless_an_open_one_needs_it(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    engine, client = served
    url = "/api/v1/tasks"

    async def ended(**body: Any) -> str:
        draft = {"title": "t", "agent": "test", "require_approval": True, **body}
        task: str = (await client.post(url, json=draft)).json()["id"]
        assert (await client.delete(f"{url}/{task}")).status_code == 204
        return task

    above, below, blocker, old, young = [await ended() for _ in range(5)]
    await execute(engine, "update tasks set parent_task_id = ? where id = ?", above, below)
    await execute(engine, "update tasks set completed_at = ? where id <> ?", LONG_AGO, young)
    await execute(engine, "update tasks set completed_at = null, status = 'draft' where id = ?", below)
    waits = {"title": "waits", "agent": "test", "require_approval": True, "blocked_by": [blocker]}
    waiting = (await client.post(url, json=waits)).json()["id"]

    async def left() -> set[str]:
        await engine.retention.run_once()
        return {task for (task,) in await execute(engine, "select id from tasks")}

    assert await left() == {above, below, blocker, old, young, waiting}
    await keep_days(client, "sessions", 30)
    assert await left() == {above, below, blocker, young, waiting}
    await execute(
        engine, "update tasks set completed_at = ?, status = 'failed' where id in (?, ?)", LONG_AGO, below, waiting
    )
    assert await left() == {young}


@pytest.mark.parametrize("step", [retention.expire_sessions, retention.expire_tasks, retention.pack_events])
@pytest.mark.sqlite
async def test_the_search_for_what_is_old_is_answered_by_indexes(
    step: Callable[[Connection], object], served: tuple[Engine, httpx.AsyncClient]
) -> None:
    engine, client = served
    await keep_days(client, "sessions", 1)
    await age(engine, await talk(client))
    task = (await client.post("/api/v1/tasks", json={"title": "t", "agent": "test", "require_approval": True})).json()
    await execute(engine, "update tasks set completed_at = ? where id = ?", LONG_AGO, task["id"])
    with closing(connect(engine.folder.database)) as conn:
        plan = plans(conn, step)
    scans = [line for line in plan if line.startswith("SCAN") and "INDEX" not in line]
    assert not [line for line in scans if line not in ("SCAN tree", "SCAN removals", "SCAN CONSTANT ROW")], plan


def sessions(conn: Connection, name: str, count: int, moment: str) -> None:
    """So many sessions of one turn each, which nobody has written to since the moment."""
    conn.executemany(
        """insert into sessions (id, schema, agent, owner, user_sub, title, created_at, updated_at)
        values (?, '', 'test', 'ada', '', '', ?, ?)""",
        [(f"{name} {n}", moment, moment) for n in range(count)],
    )
    conn.executemany(
        """insert into turns (id, session_id, message, attachments, own_key, subagents, root_turn_id, lineage, status,
        created_at, finished_at) values (?, ?, 'm', '[]', 0, 0, '', '[]', 'completed', ?, ?)""",
        [(f"turn of {name} {n}", f"{name} {n}", moment, moment) for n in range(count)],
    )
    conn.executemany(
        "insert into events (session_id, n, type, data) values (?, 1, 'done', x'7b7d')",
        [(f"{name} {n}",) for n in range(count)],
    )


def tasks_in(conn: Connection, name: str, count: int) -> None:
    """A draft in each of so many sessions."""
    conn.executemany(
        """insert into tasks (id, owner, title, description, agent, schema, status, source, mode, priority,
        acceptance_criteria, blocked_by, session_id, created_at)
        values (?, 'ada', 't', '', 'test', '', 'draft', 'api', 'background', 0, '[]', '[]', ?, ?)""",
        [(f"task of {name} {n}", f"{name} {n}", LONG_AGO) for n in range(count)],
    )


@pytest.mark.timeout(180)
@pytest.mark.parametrize("why", ["written to", "an open task"])
async def test_what_is_due_behind_many_in_use_is_found_in_one_walk_of_small_transactions(
    why: str, served: tuple[Engine, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, client = served
    await keep_days(client, "sessions", 1)
    kept, due = 3000, 600

    def fill(conn: Connection) -> None:
        sessions(conn, "kept", kept, "2019-01-01T00:00:00.000000Z")
        sessions(conn, "due", due, LONG_AGO)
        if why == "written to":
            conn.execute("update sessions set updated_at = ? where id like 'kept%'", (now(),))
        else:
            tasks_in(conn, "kept", kept)

    await engine.db.write(fill)
    held = watch(engine, monkeypatch)
    await engine.retention.run_once()
    kept_rows = "sum(case when id like 'kept%' then 1 else 0 end)"
    assert await execute(engine, f"select count(*), {kept_rows} from sessions") == [(kept, kept)]
    assert sum(held) < 20_000, "it began from the oldest again and again"
    assert max(held) < 620


async def test_a_session_that_a_clock_far_ahead_has_begun_goes_when_nobody_has_written_to_it_since(
    served: tuple[Engine, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, client = served
    await keep_days(client, "sessions", 1)
    ahead = "2999-01-01T00:00:00.000000Z"
    for name in ("written to", "left"):
        await engine.db.write(sessions, name, 2, ahead)
    await execute(engine, "update sessions set updated_at = ? where id like 'left%'", LONG_AGO)
    await engine.retention.run_once()
    assert await execute(engine, "select id from sessions order by 1") == [("written to 0",), ("written to 1",)]
    await engine.db.write(sessions, "many", 10_000, ahead)
    held = watch(engine, monkeypatch)
    await engine.retention.run_once()
    assert max(held) < 600, "each transaction passed over all that the ones before had seen"


async def test_a_session_that_falls_due_behind_the_place_of_the_walk_goes_with_the_next_one(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    engine, client = served
    await keep_days(client, "sessions", 1)

    def fill(conn: Connection) -> None:
        sessions(conn, "kept", 300, LONG_AGO)
        tasks_in(conn, "kept", 300)

    await engine.db.write(fill)
    await engine.retention.run_once()
    assert await execute(engine, "select count(*) from sessions") == [(300,)]
    await execute(engine, "update tasks set completed_at = ?, status = 'cancelled' where id = 'task of kept 0'", now())
    await engine.retention.run_once()
    assert await execute(engine, "select count(*) from sessions") == [(299,)]


async def test_many_turns_are_packed_in_each_transaction(
    served: tuple[Engine, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = served

    def fill(conn: Connection) -> None:
        sessions(conn, "old", 1000, LONG_AGO)
        conn.execute("update turns set first_event = 1, last_event = 1")

    await engine.db.write(fill)
    monkeypatch.setattr(retention, "LONGEST", 60.0)
    held = watch(engine, monkeypatch)
    await engine.retention.run_once()
    assert await execute(engine, "select count(*) from turns where packed = 0") == [(0,)]
    assert await execute(engine, "select count(*) from events where type <> 'packed'") == [(0,)]
    assert len(held) < 100  # on PostgreSQL further steps have theirs


async def test_what_one_step_fails_at_is_told_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def broken(conn: Connection) -> None:
        conn.execute("delete from nothing")

    def register_retention(register: Any) -> None:
        register(broken)

    async with served_engine(plugin("duck", register_retention=register_retention), data=tmp_path) as (engine, client):
        await client.post("/api/v1/agents", json={"name": "a"}, headers={"Idempotency-Key": "old"})
        await execute(engine, "update idempotency set created_at = ?", LONG_AGO)
        engine.retention.steps.reverse()
        await engine.retention.run_once()
        assert await execute(engine, "select key from idempotency") == []
    assert [record.getMessage() for record in caplog.records if record.exc_info] == ["broken of duck failed"]


async def test_a_session_is_gone_with_the_agents_that_it_spawned(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    await keep_days(client, "sessions", 1)
    above, below = await talk(client), await talk(client)
    await execute(engine, "update sessions set parent_id = ? where id = ?", above, below)
    await age(engine, below)
    await engine.retention.run_once()
    assert await execute(engine, "select count(*) from sessions") == [(2,)]
    await age(engine, above)
    await engine.retention.run_once()
    assert await execute(engine, "select count(*) from sessions") == [(0,)]
    assert await execute(engine, "select count(*) from events") == [(0,)]


async def test_a_key_is_forgotten_after_a_day_or_as_many_as_are_set(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    for key in ("old", "young"):
        await client.post("/api/v1/agents", json={"name": key}, headers={"Idempotency-Key": key})
    await execute(engine, "update idempotency set created_at = ? where key = 'old'", LONG_AGO)
    await engine.retention.run_once()
    assert await execute(engine, "select key from idempotency") == [("young",)]
    again = await client.post("/api/v1/agents", json={"name": "old"}, headers={"Idempotency-Key": "old"})
    assert again.status_code == 409


@pytest.mark.sqlite
async def test_the_disk_gets_its_space_back(served: tuple[Engine, httpx.AsyncClient], tmp_path: Path) -> None:
    engine, client = served
    await keep_days(client, "sessions", 1)
    session_id = await talk(client)
    turn = (await execute(engine, "select id from turns"))[0][0]
    await execute(engine, "insert into results values (?, 'c', ?, ?)", turn, session_id, "x" * 20_000_000)
    await engine.db.between(checkpoint)
    full = (tmp_path / "bytebrew.db").stat().st_size
    assert full > 20_000_000
    await age(engine, session_id)
    await engine.retention.run_once()
    assert (tmp_path / "bytebrew.db").stat().st_size < full - 15_000_000
    assert await execute(engine, "pragma integrity_check") == [("ok",)]


@pytest.mark.sqlite
async def test_writes_go_on_while_the_log_is_copied_that_the_worker_leaves(
    served: tuple[Engine, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, client = served
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(conn: Connection) -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(10)

    monkeypatch.setattr(pragmas, "checkpoint", slow)
    monkeypatch.setattr(checkpoints, "COMMITS", 1_000_000)  # as those after commits are no worker's
    await keep_days(client, "sessions", 1)
    session_id = await talk(client)
    turn = (await execute(engine, "select id from turns"))[0][0]
    await execute(engine, "insert into results values (?, 'c', ?, ?)", turn, session_id, "x" * 20_000_000)
    await age(engine, session_id)
    working = asyncio.create_task(engine.retention.run_once())
    with anyio.fail_after(5):
        await begun.wait()
        await execute(engine, "delete from idempotency")
    assert not working.done()
    go_on.set()
    await working


async def test_the_worker_never_holds_the_writer_for_long(
    served: tuple[Engine, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, client = served
    await keep_days(client, "sessions", 1)
    session_id = await talk(client)
    turn = (await execute(engine, "select id from turns"))[0][0]

    def fill(conn: Connection) -> None:
        row = b'{"content":"' + b"some words of an answer " * 4 + b'"}'
        conn.executemany(
            "insert into events (session_id, n, type, data) values (?, ?, 'message_delta', ?)",
            ((session_id, n, row) for n in range(10_000, 50_000)),
        )
        conn.execute("update turns set last_event = 49999 where id = ?", (turn,))

    await engine.db.write(fill)
    await age(engine, session_id)
    held = watch(engine, monkeypatch)
    await engine.retention.run_once()
    assert await execute(engine, "select count(*) from sessions") == [(0,)]
    assert len(held) > 40
    assert max(held) < 600
