"""A database server that goes away: requests are told, streams pause, nothing is lost; what a failover loses."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bytebrew.base.errors import Fenced
from bytebrew.base.formats import new_uuid
from bytebrew.contract.events import MessageDelta
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, Step, providing, scripted_schema, served_engine
from bytebrew.testing.postgres import Server, server

pytestmark = pytest.mark.postgresql
CHAT = "/api/v1/schemas/test/chat"
REPLICATING = {"wal_level": "replica", "max_wal_senders": "5", "fsync": "off"}


@pytest.fixture
def own() -> Iterator[Server]:
    with server(REPLICATING) as made:
        made.execute("create database e owner bytebrew")
        yield made


@asynccontextmanager
async def running(url: str, provider: ScriptedProvider, data: Path) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    settings = {"BYTEBREW_DATABASE_URL": url}
    async with served_engine(providing(provider), data=data, settings=settings) as (engine, client):
        yield engine, client


async def until(holds: Callable[[], object], seconds: float = 30) -> None:
    with anyio.fail_after(seconds):
        while not holds():
            await asyncio.sleep(0.02)


async def streamed(client: httpx.AsyncClient, session_id: str) -> str:
    async with client.stream("POST", CHAT, json={"message": "hi", "session_id": session_id}, timeout=90) as response:
        return "".join([text async for text in response.aiter_text()])


async def replayed(client: httpx.AsyncClient, session_id: str) -> str:
    """The session's events to the end of its turn."""
    raw = ""
    async with client.stream("GET", f"/api/v1/sessions/{session_id}/events?after=0") as response:
        async for text in response.aiter_text():
            raw += text
            if "event: done" in raw and raw.endswith("\n\n"):
                break
    return raw


def numbers(raw: str) -> list[int]:
    return [int(n) for n in re.findall(r"^id: (?:\d+:)?(\d+)$", raw, re.MULTILINE)]


async def test_a_stream_pauses_while_the_database_is_away_and_requests_are_told(own: Server, tmp_path: Path) -> None:
    go_on = asyncio.Event()
    steps: list[Step] = [MessageDelta(content="before "), go_on, *(MessageDelta(content=f"{n} ") for n in range(50))]
    async with running(own.url("e"), ScriptedProvider(steps), tmp_path) as (engine, client):
        await scripted_schema(engine)
        session_id = new_uuid()
        stream = asyncio.create_task(streamed(client, session_id))
        await until(lambda: (log := engine.journal._logs.get(session_id)) and log.committed >= 1)
        await asyncio.to_thread(own.kill)
        go_on.set()
        begun = time.monotonic()
        refused = await client.post(CHAT, json={"message": "x"})
        assert (refused.status_code, refused.json()["error"]) == (503, "storage")
        assert "Retry-After" in refused.headers
        assert time.monotonic() - begun < 10
        assert (await client.get("/api/v1/health")).json()["status"] == "degraded"
        assert not stream.done()
        await asyncio.to_thread(own.start)
        raw = await asyncio.wait_for(stream, 60)
        assert raw.rstrip().splitlines()[-2] == "event: done"
        assert numbers(raw) == list(range(1, numbers(raw)[-1] + 1))
        assert await replayed(client, session_id) == raw
        await until(lambda: engine.db.fault is None)
        assert (await client.get("/api/v1/health")).json()["status"] == "ok"
        assert (await client.post(CHAT, json={"message": "again", "session_id": session_id})).status_code == 200


async def test_an_engine_stops_while_the_database_is_away(own: Server, tmp_path: Path) -> None:
    steps: list[Step] = [MessageDelta(content="before "), 60.0]
    async with asyncio.timeout(60):
        async with running(own.url("e"), ScriptedProvider(steps), tmp_path) as (engine, client):
            await scripted_schema(engine)
            session_id = new_uuid()
            stream = asyncio.create_task(streamed(client, session_id))
            await until(lambda: (log := engine.journal._logs.get(session_id)) and log.committed >= 1)
            await asyncio.to_thread(own.kill)
            await until(lambda: engine.db.outage.fault)
        await asyncio.wait([stream])
        stream.exception()


class Cut:
    """A work whose first transaction loses its connection in the commit, before or after the server has done it."""

    def __init__(self, *, after_commit: bool) -> None:
        self.runs, self._after_commit = 0, after_commit

    def __call__(self, conn: Any) -> None:
        conn.execute("insert into counted values (1)")
        self.runs += 1
        if self.runs > 1:
            return
        script = conn.script

        def cut(sql: str) -> str:
            del conn.script
            if self._after_commit:
                script(sql)
            conn.native.close()
            return str(script("select 1"))

        conn.script = cut


async def test_a_commit_whose_connection_was_lost_counts_once(own: Server, tmp_path: Path) -> None:
    """The connection ends right after the server was told to commit: the engine asks whether it has."""
    async with running(own.url("e"), ScriptedProvider([MessageDelta(content="a")]), tmp_path) as (engine, client):
        await scripted_schema(engine)
        await engine.db.write(lambda conn: conn.execute("create table counted (n integer not null)"))

        for count, after_commit in ((1, True), (2, False)):
            work = Cut(after_commit=after_commit)
            await asyncio.wait_for(engine.db.write(work), 30)
            assert work.runs == (1 if after_commit else 2)
            found = await engine.db.read(lambda conn: conn.execute("select count(*) from counted").fetchone()[0])
            assert found == count
        assert (await client.post(CHAT, json={"message": "x"})).status_code == 200


async def failed_over(own: Server, *, synchronous: bool) -> tuple[Server, str]:
    """A standby of a server, and the URL of an engine that follows the primary."""
    standby = await asyncio.to_thread(own.standby, own.folder.parent / "standby")
    await asyncio.to_thread(standby.start)
    if synchronous:
        own.execute("alter system set synchronous_standby_names = 'standby'")
        own.execute("select pg_reload_conf()")
    await until(lambda: "streaming" in own.execute("select state from pg_stat_replication"))
    hosts, ports = "127.0.0.1,127.0.0.1", f"{own.port},{standby.port}"
    url = f"postgresql://bytebrew:{own.password}@/e?host={hosts}&port={ports}&target_session_attrs=read-write"
    return standby, url


async def chats(client: httpx.AsyncClient, session_id: str, count: int) -> None:
    for _ in range(count):
        answer = await client.post(CHAT, json={"message": "hi", "session_id": session_id})
        assert '"status":"completed"' in answer.text


async def test_a_failover_to_a_synchronous_standby_loses_nothing(own: Server, tmp_path: Path) -> None:
    standby, url = await failed_over(own, synchronous=True)
    try:
        async with running(url, ScriptedProvider([MessageDelta(content="a")]), tmp_path / "data") as (engine, client):
            await scripted_schema(engine)
            session_id = new_uuid()
            await chats(client, session_id, 5)
            before = await replayed(client, session_id)
            await asyncio.to_thread(own.kill)
            await asyncio.to_thread(standby.promote)
            await asyncio.to_thread(standby.execute, "alter system reset synchronous_standby_names")
            await asyncio.to_thread(standby.execute, "select pg_reload_conf()")
            await until(lambda: engine.db.outage.fault is None)
            assert await replayed(client, session_id) == before
            await chats(client, session_id, 1)
            assert not engine.db.lost.is_set()
            assert engine.journal.epoch == 1
    finally:
        standby.kill()


async def test_commits_that_an_asynchronous_failover_loses_begin_a_new_epoch(own: Server, tmp_path: Path) -> None:
    """The node that made them ends, as it holds them in memory; cursors that clients have of them are refused."""
    standby, url = await failed_over(own, synchronous=False)
    try:
        async with running(url, ScriptedProvider([MessageDelta(content="a")]), tmp_path / "data") as (engine, client):
            await scripted_schema(engine)
            session_id = new_uuid()
            await chats(client, session_id, 2)
            await until(lambda: own.execute(_LAG).strip() == "t")
            standby.execute("select pg_wal_replay_pause()")
            standby.kill()  # it receives nothing more
            await chats(client, session_id, 2)
            await asyncio.to_thread(own.kill)
            await asyncio.to_thread(standby.start)
            await asyncio.to_thread(standby.promote)
            with suppress(httpx.HTTPError):
                await client.post(CHAT, json={"message": "hi", "session_id": session_id})
            await asyncio.wait_for(engine.db.lost.wait(), 60)
            assert isinstance(engine.db.fault, Fenced)
        async with running(url, ScriptedProvider([MessageDelta(content="b")]), tmp_path / "data") as (engine, client):
            assert engine.journal.epoch == 2
            await chats(client, session_id, 1)
            old = await client.get(f"/api/v1/sessions/{session_id}/events", headers={"Last-Event-ID": "40"})
            assert old.status_code == 410
    finally:
        standby.kill()


_LAG = "select bool_and(replay_lsn = pg_current_wal_lsn()) from pg_stat_replication"


async def test_a_lock_whose_release_the_database_missed_is_released_once_it_is_back(
    own: Server, tmp_path: Path
) -> None:
    async with running(own.url("e"), ScriptedProvider([]), tmp_path) as (engine, _):
        async with engine.lock("name"):
            assert own.execute("select count(*) from node_locks", "e") == "1"
            own.stop()
        own.start()
        with anyio.fail_after(20):
            while own.execute("select name from node_locks", "e"):
                await asyncio.sleep(0.05)
