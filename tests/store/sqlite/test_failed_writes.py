"""A write that fails once leaves no gap and nothing half recorded; a thread that is lost ends the process."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew import MessageDelta, ToolCall, Usage, tool
from bytebrew.base.errors import StorageError
from bytebrew.base.formats import new_uuid
from bytebrew.base.http_client.client import Http
from bytebrew.base.sse_reader import Parser
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import MessageDelta as Delta
from bytebrew.contract.messages import ModelRequest, Stop
from bytebrew.contract.provider import ProviderEvent
from bytebrew.engine import Engine
from bytebrew.store.queries.events import read_events
from bytebrew.testing import ADMIN, ScriptedProvider, Step, plugin, providing, scripted_schema, served_engine
from tests.commands import install
from tests.processes import Process

pytestmark = pytest.mark.sqlite

CHAT = "/api/v1/schemas/test/chat"
HEALTH = "/api/v1/health"
FULL = sqlite3.OperationalError("database or disk is full")
FULL.sqlite_errorcode = sqlite3.SQLITE_FULL


def fail(engine: Engine, error: BaseException, when: Callable[[Any], bool] = lambda work: True) -> asyncio.Event:
    """Has the next transaction for which `when` holds fail once; set once it has begun."""
    writer, begun = engine.db._writer, asyncio.Event()
    run = writer.run

    async def once(work: Any) -> Any:
        if begun.is_set() or not when(work):
            return await run(work)
        begun.set()
        await asyncio.sleep(0.05)  # more is appended and asked for meanwhile
        raise error

    writer.run = once
    return begun


class Disk:
    """A disk that takes no write while it is `full`."""

    def __init__(self, engine: Engine) -> None:
        self.full, self._run = False, engine.db._writer.run
        engine.db._writer.run = self._take

    async def _take(self, work: Any) -> Any:
        if self.full:
            await asyncio.sleep(0.01)
            raise FULL
        return await self._run(work)


def has_rows(work: Any) -> bool:
    """Whether a transaction takes events."""
    transaction = work.args[1]
    return bool(transaction.args[3])


async def stored(engine: Engine, session_id: str) -> list[tuple[int, str]]:
    rows = await engine.db.read(read_events, session_id, 0, 10_000, 10_000)
    return [(n, name) for n, name, _, _ in rows]


@pytest.fixture
async def served() -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    words = [step for n in range(12) for step in (MessageDelta(content=f"{n} "), 0.01)]
    async with served_engine(providing(ScriptedProvider([*words, Usage(10, 5)]))) as (engine, client):
        await scripted_schema(engine)
        yield engine, client


@pytest.mark.parametrize("error", [FULL, MemoryError()], ids=["full", "memory"])
async def test_a_write_that_fails_once_leaves_no_gap_and_no_turn_without_an_end(
    served: tuple[Engine, httpx.AsyncClient], error: Exception
) -> None:
    engine, client = served
    fail(engine, error, has_rows)
    session_id = new_uuid()
    stream = await client.post(CHAT, json={"message": "hi", "session_id": session_id})
    assert '"code":"storage"' in stream.text
    async with asyncio.timeout(5):
        while not (events := await stored(engine, session_id)) or events[-1][1] != "error":
            await asyncio.sleep(0.05)
    assert [n for n, _ in events] == list(range(1, len(events) + 1))
    turn = await engine.db.read(lambda conn: dict(conn.execute("select * from turns").fetchone()))
    assert (turn["status"], turn["last_event"]) == ("failed", len(events))
    assert (await client.get(f"{HEALTH}?deep=true")).json()["status"] == "ok"
    assert "event: done" in (await client.post(CHAT, json={"message": "more", "session_id": session_id})).text


async def test_the_text_of_a_step_whose_calls_were_not_recorded_goes_back_to_the_model_marked_and_alone() -> None:
    kept = {"anthropic": {"prefix": "", "blocks": [{"type": "thinking"}, {"type": "tool_use"}]}}
    asks: list[Step] = [MessageDelta(content="let me"), 0.1, ToolCall("look", {}, "c"), Stop("tool_calls", kept)]
    provider = ScriptedProvider(asks, [MessageDelta(content="well")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        fail(engine, FULL, lambda work: any(row[2] == "tool_call" for row in work.args[1].args[3]))
        body = {"message": "hi", "session_id": new_uuid()}
        assert '"code":"storage"' in (await client.post(CHAT, json=body)).text
        async with asyncio.timeout(5):
            while engine.runner.turns:
                await asyncio.sleep(0.05)
        assert "event: done" in (await client.post(CHAT, json=body)).text
    [before] = [one for one in provider.requests[-1].messages if one.role == "assistant"]
    assert before.content == "let me\n[This answer broke off here: an error ended the turn]"
    assert (before.tool_calls, before.vendor) == ((), {})  # a vendor's plugin looks for each call that this has


async def test_what_was_queued_behind_a_lost_event_is_not_done(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    session_id = (await client.post(CHAT, json={"message": "hi"})).headers["x-session-id"]
    log = await engine.journal.log(session_id)
    last = log.last
    begun = fail(engine, FULL, has_rows)
    engine.journal.append(log, Delta(content="lost"))
    await begun.wait()
    engine.journal.append(log, Delta(content="behind it"))
    rename = lambda conn: conn.execute("update sessions set title = 'behind it'")  # noqa: E731
    with pytest.raises(StorageError, match="full"):
        await engine.journal.write(log, rename)
    titles = await engine.db.read(lambda conn: [row[0] for row in conn.execute("select title from sessions")])
    assert titles == ["hi"]
    assert len(await stored(engine, session_id)) == last


async def test_an_event_is_not_stored_without_the_record_that_belongs_to_it(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    engine, client = served
    session_id = (await client.post(CHAT, json={"message": "hi"})).headers["x-session-id"]
    log = await engine.journal.log(session_id)
    last = log.last

    def broken(conn: Connection) -> None:
        raise KeyError("no")

    engine.journal.append(log, Delta(content="told of what was never recorded"))
    with pytest.raises(KeyError):
        await engine.journal.write(log, broken)
    assert len(await stored(engine, session_id)) == last
    assert (await client.get(HEALTH)).json()["status"] == "ok"
    assert "event: done" in (await client.post(CHAT, json={"message": "more", "session_id": session_id})).text


async def test_an_event_is_stored_only_right_behind_the_one_before(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    session_id = (await client.post(CHAT, json={"message": "hi"})).headers["x-session-id"]
    log = await engine.journal.log(session_id)
    last, log.last = log.last, log.last + 1
    engine.journal.append(log, Delta(content="one too far"))
    rename = lambda conn: conn.execute("update sessions set title = 'one too far'")  # noqa: E731
    with pytest.raises(StorageError, match="not in the file"):
        await engine.journal.write(log, rename)
    titles = await engine.db.read(lambda conn: [row[0] for row in conn.execute("select title from sessions")])
    assert (titles, len(await stored(engine, session_id))) == (["hi"], last)
    assert (await client.get(HEALTH)).json()["status"] == "ok"


@pytest.mark.parametrize("nth", range(8))
async def test_usage_is_kept_whichever_write_of_a_turn_fails(nth: int) -> None:
    @tool(idempotent=True)
    async def look() -> str:
        """Looks."""
        return "seen"

    provider = ScriptedProvider(
        [MessageDelta(content="a"), ToolCall("look", {}), Usage(10, 5)], [MessageDelta(content="b"), Usage(7, 1)]
    )
    tools = plugin(register_tools=lambda register: register(look))
    async with served_engine(providing(provider), tools) as (engine, client):
        await scripted_schema(engine, tools=["look"])
        writes = 0

        def due(work: Any) -> bool:
            nonlocal writes
            writes += 1
            return writes == nth + 1

        fail(engine, FULL, due)
        await client.post(CHAT, json={"message": "hi"})
        async with asyncio.timeout(5):
            while engine.runner.turns:
                await asyncio.sleep(0.05)
        sums = "coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0)"
        turns, usage = await engine.db.read(
            lambda conn: [tuple(conn.execute(f"select {sums} from {of}").fetchone()) for of in ("turns", "usage")]
        )
        calls = len(provider.requests)
        assert turns == usage == ((0, 0), (10, 5), (17, 6))[calls]


@pytest.mark.parametrize("count", [2**63 - 2, 2**70, -5])
async def test_a_count_of_tokens_that_no_call_has_keeps_no_turn_from_being_recorded(count: int) -> None:
    provider = ScriptedProvider([MessageDelta(content="a"), Usage(count, 5)], [MessageDelta(content="b"), Usage(10, 5)])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        for _ in range(3):
            assert "event: done" in (await client.post(CHAT, json={"message": "hi"})).text
        assert {row[0] for row in await engine.db.read(turn_states)} == {"completed"}
        total = (await client.get("/api/v1/usage")).json()["total"]
        assert (total["calls"], total["output_tokens"], total["input_tokens"] >= 20) == (3, 15, True)


def turn_states(conn: Connection) -> list[Any]:
    return conn.execute("select status from turns").fetchall()


async def test_a_turn_that_storage_failed_uses_up_no_idempotency_key(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    fail(engine, FULL, has_rows)
    key = {"Idempotency-Key": "once"}
    first = await client.post(CHAT, json={"message": "hi", "stream": False}, headers=key)
    assert (first.status_code, first.json()["error"]) == (503, "storage")
    async with asyncio.timeout(5):
        while engine.runner.turns:
            await asyncio.sleep(0.05)
    again = await client.post(CHAT, json={"message": "hi", "stream": False}, headers=key)
    assert again.status_code == 200
    repeat = await client.post(CHAT, json={"message": "hi", "stream": False}, headers=key)
    assert (repeat.status_code, repeat.json()) == (200, again.json())


async def test_a_session_whose_turn_the_file_does_not_take_is_not_deleted_and_the_request_does_not_wait() -> None:
    go = asyncio.Event()
    async with served_engine(providing(ScriptedProvider([MessageDelta(content="a"), go]))) as (engine, client):
        await scripted_schema(engine)
        session_id = new_uuid()
        url, disk = f"/api/v1/sessions/{session_id}", Disk(engine)
        message = asyncio.create_task(client.post(CHAT, json={"message": "hi", "session_id": session_id}))
        async with asyncio.timeout(5):
            while not any(turn.partial for turn in engine.runner.turns.values()):
                await asyncio.sleep(0.01)
        disk.full = True
        async with asyncio.timeout(5):
            refused = await client.delete(url)
        assert (refused.status_code, refused.json()["error"]) == (503, "storage")
        assert '"code":"storage"' in (await message).text
        disk.full = False
        async with asyncio.timeout(5):
            while engine.runner.turns:
                await asyncio.sleep(0.05)
        assert (await client.delete(url)).status_code == 204


async def test_turns_that_went_with_their_session_write_nothing_into_the_next_of_its_id_and_are_paid() -> None:
    go = asyncio.Event()
    provider = ScriptedProvider([MessageDelta(content="a"), Usage(10, 5), go])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        session_id = new_uuid()
        chats = []
        for n in range(2):
            body = {"message": f"message {n}", "session_id": session_id, "stream": False}
            chats.append(asyncio.create_task(client.post(CHAT, json=body)))
            async with asyncio.timeout(5):
                while len([turn for turn in engine.runner.turns.values() if turn.admitted.done()]) <= n:
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            while not any(turn.unsaved.spent for turn in engine.runner.turns.values()):
                await asyncio.sleep(0.01)

        def renew(conn: Connection) -> None:
            conn.execute("create temp table kept as select * from sessions")
            conn.execute("delete from sessions")
            conn.execute("insert into sessions select * from kept")

        await engine.db.write(renew)
        go.set()
        async with asyncio.timeout(10):
            assert [answer.status_code for answer in await asyncio.gather(*chats)] == [503, 404]
            while engine.runner.turns:
                await asyncio.sleep(0.05)
        assert await stored(engine, session_id) == []
        assert (await client.get(f"/api/v1/sessions/{session_id}/messages")).json() == []
        total = (await client.get("/api/v1/usage")).json()["total"]
        assert (len(provider.requests), total["calls"]) == (1, 1)


class Spawning(ScriptedProvider):
    """The agent `test` spawns `helper`, which goes on once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        self.requests.append(request)
        if request.system == "helper":
            yield MessageDelta(content="did")
            await self.go.wait()
        elif request.messages[-1].role == "user":
            yield ToolCall("spawn_helper", {"message": "do"})
        else:
            yield MessageDelta(content="well")
        yield Stop()


async def test_nobody_waits_for_a_turn_while_the_file_does_not_take_what_it_has_spawned() -> None:
    provider = Spawning()
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, can_spawn=["helper"])
        await scripted_schema(engine, "helper", system="helper")
        pair = {"source": "test", "target": "helper"}
        assert (await client.post("/api/v1/schemas/test/agent-relations", json=pair)).status_code == 201
        session_id, disk, key = new_uuid(), Disk(engine), {"Idempotency-Key": "k"}
        body = {"message": "hi", "session_id": session_id, "stream": False}
        message = asyncio.create_task(client.post(CHAT, json=body, headers=key))
        async with asyncio.timeout(5):
            while len(provider.requests) < 2:
                await asyncio.sleep(0.01)
        disk.full = True
        provider.go.set()
        async with asyncio.timeout(5):
            assert (await message).status_code == 503
            assert (await client.post(CHAT, json=body | {"message": "more"})).status_code == 503
        disk.full = False
        async with asyncio.timeout(5):
            while engine.runner.turns:
                await asyncio.sleep(0.05)
        answer = await client.post(CHAT, json=body, headers=key)
        assert (answer.status_code, answer.json()["message"]) == (200, "well")


async def test_a_read_for_which_memory_is_short_is_a_refusal_in_words(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, _ = served

    def short(conn: Connection) -> None:
        raise MemoryError

    with pytest.raises(StorageError, match="memory"):
        await engine.db.read(short)


async def test_a_read_that_failed_keeps_no_later_one_at_what_it_saw(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, _ = served

    def broken(conn: Connection) -> None:
        rows = conn.execute("select name from sqlite_schema")
        rows.fetchone()
        raise MemoryError

    errors = [await asyncio.gather(engine.db.glance(broken), return_exceptions=True) for _ in range(8)]
    await engine.db.write(lambda conn: conn.execute("create table fresh (n integer)"))
    for _ in range(8):
        assert await engine.db.read(lambda conn: conn.execute("select count(*) from fresh").fetchone()[0]) == 0
    assert len(errors) == 8


@pytest.mark.parametrize("how", ["read", "write"])
async def test_a_read_of_the_disk_that_fails_once_is_no_damage(
    how: str, served: tuple[Engine, httpx.AsyncClient]
) -> None:
    engine, client = served
    damage = sqlite3.DatabaseError("database disk image is malformed")
    damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    times = iter([damage])

    def once(conn: Connection) -> str:
        for error in times:
            raise error
        return "sound"

    assert await getattr(engine.db, how)(once) == "sound"
    assert (await client.get(f"{HEALTH}?deep=true")).json()["status"] == "ok"


async def test_a_disk_that_did_not_read_for_a_while_is_damaged_no_longer_than_that(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    engine, client = served
    damage = sqlite3.DatabaseError("database disk image is malformed")
    damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT

    def unreadable(conn: Connection) -> None:
        raise damage

    with pytest.raises(StorageError, match="damaged"):
        await engine.db.read(unreadable)
    assert (await client.get(HEALTH)).json()["status"] == "degraded"
    async with asyncio.timeout(10):
        while (await client.get(HEALTH)).json()["status"] != "ok":
            await asyncio.sleep(0.1)


async def test_health_names_a_thread_that_does_not_come_back(
    served: tuple[Engine, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, client = served
    monkeypatch.setattr("bytebrew.web.routes.health.SECONDS", 0.1)
    slow = asyncio.create_task(engine.db.write(lambda conn: __import__("time").sleep(0.5)))
    await asyncio.sleep(0.2)
    answer = await client.get(HEALTH)
    assert (answer.status_code, answer.json()["status"]) == (503, "degraded")
    assert "writer" in answer.json()["database"]
    await slow
    assert (await client.get(HEALTH)).json()["status"] == "ok"


LOSE = '''
"""Ends a thread of the database from outside."""
from bytebrew import Route, hookimpl

@hookimpl
def register_routes(register, engine):
    async def lose(request):
        async def gone(work):
            raise ValueError("no active connection")

        for one in [engine.db._writer] if request.path["what"] == "writer" else engine.db._readers:
            one.run = gone

    register(Route(method="GET", path="/lose/{what}", scope=None, run=lose, summary="Lose a thread"))
'''


async def test_an_engine_whose_writer_is_lost_refuses_in_words_and_can_be_closed(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    engine, client = served
    fail(engine, ValueError("no active connection"), has_rows)
    assert '"code":"storage"' in (await client.post(CHAT, json={"message": "hi"})).text
    assert engine.db.lost.is_set()
    assert (await client.get(HEALTH)).json()["status"] == "degraded"


@pytest.mark.parametrize("what", ["writer", "readers"])
async def test_a_lost_thread_ends_the_process_in_words_and_a_start_recovers(what: str, tmp_path: Path) -> None:
    install(tmp_path / "plugins", "lose", LOSE)
    settings = {"BYTEBREW_PLUGINS_DIR": str(tmp_path / "plugins")}
    process = Process(tmp_path / "data", settings)
    headers = {"Authorization": f"Bearer {ADMIN}"}
    async with httpx.AsyncClient(base_url=process.url, headers=headers, timeout=10) as client:
        assert (await client.post("/api/v1/agents", json={"name": "kept"})).status_code == 201
        assert (await client.get(f"/lose/{what}")).status_code == 204
        for _ in range(20):  # one of them meets the lost thread
            try:
                await client.post("/api/v1/agents", json={"name": new_uuid()})
                await client.get("/api/v1/tasks/none")
            except httpx.TransportError:
                break
    assert await asyncio.to_thread(process.ended) == 1
    assert "a thread of the database has ended" in process.errors
    again = Process(tmp_path / "data", settings)
    async with httpx.AsyncClient(base_url=again.url, headers=headers, timeout=30) as client:
        assert "kept" in {one["name"] for one in (await client.get("/api/v1/agents")).json()}
    assert again.stop() == 0


async def test_what_a_stopped_turn_has_paid_counts_when_it_goes_on(tmp_path: Path) -> None:
    paid = ScriptedProvider([MessageDelta(content="a"), Usage(10, 5), 30.0])
    async with served_engine(providing(paid), data=tmp_path) as (engine, client):
        await scripted_schema(engine)
        chat = asyncio.create_task(client.post(CHAT, json={"message": "hi"}))
        async with asyncio.timeout(5):
            while not any(turn.usage.input_tokens for turn in engine.runner.turns.values()):
                await asyncio.sleep(0.02)
        session_id = next(iter(engine.runner.turns.values())).session_id
        await engine.drain(0)
        await asyncio.wait([chat])
    async with served_engine(providing(ScriptedProvider([MessageDelta(content="ab"), Usage(3, 2)])), data=tmp_path) as (
        engine,
        client,
    ):
        async with client.stream("GET", f"/api/v1/sessions/{session_id}/events") as events:
            raw = ""
            async for text in events.aiter_text():
                raw += text
                if "event: done" in raw and raw.endswith("\n\n"):
                    break
        done = json.loads(next(one.data for one in Parser().feed(raw.encode()) if one.event == "done"))
        assert (done["usage"]["input_tokens"], done["usage"]["output_tokens"]) == (13, 7)
        assert (await client.get("/api/v1/usage")).json()["total"]["input_tokens"] == 13


async def test_a_turn_that_cannot_go_on_ends_also_where_the_end_of_the_one_before_it_fails_once(tmp_path: Path) -> None:
    session_id = new_uuid()
    first = ScriptedProvider([MessageDelta(content="a"), 30.0])
    async with served_engine(providing(first), data=tmp_path) as (engine, client):
        await scripted_schema(engine)
        chats = []
        for n in range(2):
            body = {"message": f"message {n}", "session_id": session_id}
            chats.append(asyncio.create_task(client.post(CHAT, json=body)))
            async with asyncio.timeout(5):
                while len([turn for turn in engine.runner.turns.values() if turn.admitted.done()]) <= n:
                    await asyncio.sleep(0.01)
        lose_key = "update turns set own_key = 1 where message = 'message 1'"
        await engine.db.write(lambda conn: conn.execute(lose_key).rowcount)
        await engine.drain(0)
        await asyncio.wait(chats)
    go = asyncio.Event()
    async with served_engine(providing(ScriptedProvider([go, MessageDelta(content="ab")])), data=tmp_path) as (
        engine,
        client,
    ):
        fail(engine, FULL, has_rows)
        go.set()
        async with asyncio.timeout(5):
            while engine.runner.turns:
                await asyncio.sleep(0.05)
        assert [row[0] for row in await engine.db.read(turn_states)] == ["failed", "failed"]
