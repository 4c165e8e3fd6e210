"""A full disk, a read-only or damaged file: a clear refusal, nothing lost, and all is well once the fault is gone."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew import MessageDelta, ToolCall, tool
from bytebrew.base.sse_reader import Parser
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, ScriptedProvider, plugin, providing, scripted_schema, served_engine
from tests.commands import run
from tests.processes import plugins_folder, serving
from tests.stored import event_numbers

pytestmark = pytest.mark.sqlite

CHAT = "/api/v1/schemas/test/chat"
HEADERS = {"Authorization": f"Bearer {ADMIN}"}
HEALTH = "/api/v1/health"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m,mode=0700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
async def served() -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    provider = ScriptedProvider([MessageDelta(content="some words " * 2000)])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        yield engine, client


async def pragma(engine: Engine, text: str) -> Any:
    return await engine.db.write(lambda conn: [tuple(row) for row in conn.execute(f"pragma {text}")])


async def fill(engine: Engine) -> None:
    """Gives the file a quota of a few pages more than it has."""
    while (await pragma(engine, "freelist_count"))[0][0]:
        await pragma(engine, "incremental_vacuum(1)")
    pages = (await pragma(engine, "page_count"))[0][0]
    await pragma(engine, f"max_page_count = {pages + 2}")


async def no_quota(engine: Engine) -> None:
    await pragma(engine, "max_page_count = 1000000")


def refused(answer: httpx.Response, words: str) -> bool:
    return (
        answer.status_code == 503
        and answer.json()["error"] == "storage"
        and words in answer.json()["message"]
        and answer.headers["retry-after"] == "5"
    )


async def test_a_full_disk_is_a_refusal_in_words_and_all_is_well_once_there_is_space(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    engine, client = served
    before = (await client.post(CHAT, json={"message": "hi"})).headers["x-session-id"]
    said = (await client.get(f"/api/v1/sessions/{before}")).json()
    assert (await client.get(HEALTH)).json()["status"] == "ok"
    await fill(engine)
    answer = await client.post("/api/v1/agents", json={"name": "big", "system": "x" * 100_000})
    assert refused(answer, "The disk is full")
    whole = await client.post(CHAT, json={"message": "hi " * 20_000, "stream": False})
    assert refused(whole, "The disk is full")
    health = await client.get(HEALTH)
    assert (health.status_code, health.json()["status"]) == (503, "degraded")
    assert "The disk is full" in health.json()["database"]
    assert (await client.get(f"/api/v1/sessions/{before}")).json() == said, "what is there can be read"
    assert (await client.get("/api/v1/agents/big")).status_code == 404
    await no_quota(engine)
    health = await client.get(HEALTH)
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    answer = await client.post("/api/v1/agents", json={"name": "big", "system": "x" * 100_000})
    assert answer.status_code == 201
    assert "event: done" in (await client.post(CHAT, json={"message": "hi", "session_id": before})).text


@pytest.mark.parametrize("stream", [True, False])
async def test_a_turn_that_the_disk_does_not_take_ends_in_words_and_is_closed_when_it_does(stream: bool) -> None:
    full = asyncio.Event()
    provider = ScriptedProvider([MessageDelta(content="well "), full, MessageDelta(content="word " * 50_000)])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        asking = asyncio.create_task(client.post(CHAT, json={"message": "hi", "stream": stream}))
        while not (sessions := (await client.get("/api/v1/sessions")).json()["sessions"]):
            await asyncio.sleep(0.01)
        session_id = sessions[0]["id"]
        await asyncio.sleep(0.05)
        await fill(engine)
        full.set()
        answer = await asking
        if stream:
            last = Parser().feed(answer.content)[-1]
            assert last.event == "error"
            assert '"code":"storage"' in last.data
        else:
            assert refused(answer, "The disk is full")
        assert (await client.get(HEALTH)).status_code == 503
        assert refused(await client.delete(f"/api/v1/sessions/{session_id}"), "The disk is full")
        another = await client.post(CHAT, json={"message": "hello?", "session_id": session_id})
        assert refused(another, "The disk is full")
        await no_quota(engine)
        async with asyncio.timeout(5):
            while (await client.get(f"/api/v1/sessions/{session_id}")).json()["status"] == "active":
                await asyncio.sleep(0.05)
        page = (await client.get(f"/api/v1/sessions/{session_id}/events?follow=false")).json()
        assert [event["id"] for event in page["events"]] == list(range(1, page["last"] + 1))
        assert [event["event"] for event in page["events"]] == ["message_delta", "error"]
        assert page["events"][-1]["data"]["code"] == "storage"
        provider.answers = [[MessageDelta(content="fine")]]
        again = await client.post(CHAT, json={"message": "and now?", "session_id": session_id})
        assert "event: done" in again.text
        assert (await client.get(HEALTH)).status_code == 200


@pytest.mark.parametrize(
    ("idempotent", "status", "question"), [(False, "failed", "Whether pay took"), (True, "pending", "")]
)
async def test_a_task_whose_irreversible_call_the_disk_did_not_take_is_not_tried_again_by_itself(
    idempotent: bool, status: str, question: str
) -> None:
    begun, full = asyncio.Event(), asyncio.Event()

    @tool(idempotent=idempotent)
    async def pay() -> str:
        """Pays."""
        begun.set()
        await full.wait()
        return "receipt " * 8000

    def register_tools(register: Any) -> None:
        register(pay)

    model = ScriptedProvider([ToolCall("pay", {})])
    async with served_engine(providing(model), plugin("paying", register_tools=register_tools)) as (engine, client):
        await scripted_schema(engine, tools=("pay",))
        url = f"/api/v1/tasks/{(await client.post('/api/v1/tasks', json={'agent': 'test', 'title': 't'})).json()['id']}"
        await begun.wait()
        await fill(engine)
        full.set()
        async with asyncio.timeout(5):
            while (await client.get(HEALTH)).status_code == 200:
                await asyncio.sleep(0.02)
            await no_quota(engine)
            while (task := (await client.get(url)).json())["status"] == "in_progress":
                await asyncio.sleep(0.02)
        assert task["status"] == status
        assert "The disk is full" in task["error"]
        assert question in task["error"]


async def test_a_follower_is_told_and_may_come_back(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    session_id = (await client.post(CHAT, json={"message": "hi"})).headers["x-session-id"]
    url = f"/api/v1/sessions/{session_id}/events"
    last = (await client.get(f"{url}?follow=false")).json()["last"]
    following = asyncio.create_task(client.get(f"{url}?after={last}"))
    await asyncio.sleep(0.1)
    await fill(engine)
    await client.post(CHAT, json={"message": "hi", "session_id": session_id})
    assert '"code":"storage"' in (await following).text
    await no_quota(engine)
    async with asyncio.timeout(5), client.stream("GET", f"{url}?after={last}") as response:
        async for chunk in response.aiter_raw():
            if chunk.startswith(b"id: "):
                assert chunk.startswith(b"id: %d\n" % (last + 1))
                break


async def test_the_engine_stops_while_nothing_can_be_written_and_goes_on_at_the_next_start(tmp_path: Path) -> None:
    full = asyncio.Event()
    provider = ScriptedProvider([MessageDelta(content="well "), full, MessageDelta(content="word")])
    async with served_engine(providing(provider), data=tmp_path) as (engine, client):
        await scripted_schema(engine)
        asking = asyncio.create_task(client.post(CHAT, json={"message": "hi"}))
        while not (await client.get("/api/v1/sessions")).json()["sessions"]:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        await pragma(engine, "query_only = on")
        full.set()
        answer = await asking
        session_id = answer.headers["x-session-id"]
        assert "storage" in answer.text
    again = ScriptedProvider([MessageDelta(content="well, fine")])
    async with served_engine(providing(again), data=tmp_path) as (_, client):
        async with asyncio.timeout(5):
            while (await client.get(f"/api/v1/sessions/{session_id}")).json()["status"] == "active":
                await asyncio.sleep(0.02)
        page = (await client.get(f"/api/v1/sessions/{session_id}/events?follow=false")).json()
        assert [event["id"] for event in page["events"]] == list(range(1, page["last"] + 1))
        assert page["events"][-1]["event"] == "done"


async def test_a_key_is_not_used_up_by_a_full_disk(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    headers, body = {"Idempotency-Key": "k"}, {"name": "big", "system": "x" * 100_000}
    await fill(engine)
    assert refused(await client.post("/api/v1/agents", json=body, headers=headers), "The disk is full")
    await no_quota(engine)
    assert (await client.post("/api/v1/agents", json=body, headers=headers)).status_code == 201


async def test_a_read_only_file_is_a_refusal_in_words(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    assert (await client.get("/api/v1/agents")).status_code == 200
    await pragma(engine, "query_only = on")
    assert refused(await client.post("/api/v1/agents", json={"name": "a"}), "cannot be written")
    assert refused(await client.post(CHAT, json={"message": "hi"}), "cannot be written")
    assert (await client.get(HEALTH)).json()["status"] == "degraded"
    assert (await client.get("/api/v1/agents")).status_code == 200
    await engine.db._writer.run(lambda conn: conn.execute("pragma query_only = off").fetchall())
    assert (await client.post("/api/v1/agents", json={"name": "a"})).status_code == 201
    assert (await client.get(HEALTH)).status_code == 200


async def test_health_tries_the_database_and_the_disk_if_asked(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    plain = (await client.get(HEALTH)).json()
    assert set(plain) == {"status", "version", "agents_count", "uptime", "started_at"}
    deep = (await client.get(f"{HEALTH}?deep=true")).json()
    assert (deep["status"], deep["database"]) == ("ok", "ok")
    assert deep["disk_free_bytes"] > 0
    await fill(engine)
    answer = await client.get(f"{HEALTH}?deep=true")
    assert (answer.status_code, answer.json()["status"]) == (503, "degraded")
    assert await engine.db.read(lambda conn: conn.execute("select count(*) from settings").fetchone()[0]) == 0


async def test_health_does_not_hang_where_the_database_does(
    served: tuple[Engine, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, client = served
    monkeypatch.setattr("bytebrew.web.routes.health.SECONDS", 0.2)
    with closing(sqlite3.connect(engine.folder.database)) as other:
        other.execute("begin immediate")
        answer = await client.get(f"{HEALTH}?deep=true")
        assert (answer.status_code, answer.json()["status"]) == (503, "degraded")
        other.rollback()
    await asyncio.sleep(0.3)
    assert (await client.get(f"{HEALTH}?deep=true")).status_code == 200


def damage(path: Path, table: str) -> None:
    """Overwrites the pages of a table of a database that nobody uses."""
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("pragma wal_checkpoint(truncate)")
        size = conn.execute("pragma page_size").fetchone()[0]
        root = conn.execute("select rootpage from sqlite_schema where name = ?", (table,)).fetchone()[0]
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xde\xad\xbe\xef" * (size // 4))


async def test_a_damaged_page_is_a_refusal_in_words_and_the_rest_works(tmp_path: Path) -> None:
    provider = ScriptedProvider([MessageDelta(content="hello")])
    async with served_engine(providing(provider), data=tmp_path) as (engine, client):
        await scripted_schema(engine)
        session_id = (await client.post(CHAT, json={"message": "hi"})).headers["x-session-id"]
    damage(tmp_path / "bytebrew.db", "events")
    async with served_engine(providing(provider), data=tmp_path) as (_, client):
        assert (await client.get(HEALTH)).status_code == 200
        events = await client.get(f"/api/v1/sessions/{session_id}/events?follow=false")
        assert refused(events, "The database is damaged")
        assert (await client.get(f"/api/v1/sessions/{session_id}")).json()["messages"][-1]["content"] == "hello"
        assert (await client.post("/api/v1/agents", json={"name": "a"})).status_code == 201
        async with asyncio.timeout(5):
            stream = await client.post(CHAT, json={"message": "hi"})
            assert '"code":"storage"' in stream.text
            whole = await client.post(CHAT, json={"message": "hi", "stream": False})
            assert (whole.status_code, whole.json()["error"]) == (503, "storage")
            again = await client.post(CHAT, json={"message": "hi", "session_id": stream.headers["x-session-id"]})
            assert refused(again, "The database is damaged")
        health = await client.get(HEALTH)
        assert (health.status_code, health.json()["status"]) == (503, "degraded")
        assert "bytebrew doctor" in health.json()["database"]
    done = run("doctor", settings={"BYTEBREW_DATA_DIR": str(tmp_path)})
    assert done.returncode == 1
    assert "restore it from a backup" in done.stdout


@pytest.mark.timeout(60)
async def test_a_disk_that_is_really_full_loses_nothing_and_recovers(small_disk: Path, tmp_path: Path) -> None:
    settings = {"BYTEBREW_PLUGINS_DIR": str(plugins_folder(tmp_path / "plugins"))}
    with serving(small_disk, settings) as engine:
        async with httpx.AsyncClient(base_url=engine.url, headers=HEADERS, timeout=20) as client:
            for noun, body in (
                ("models", {"name": "test", "type": "slow", "model_name": "m"}),
                ("agents", {"name": "test", "model": "test"}),
                ("schemas", {"name": "test", "entry_agent": "test", "chat_enabled": True}),
            ):
                assert (await client.post(f"/api/v1/{noun}", json=body)).status_code == 201
            ballast = small_disk / "ballast"
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, os.statvfs(small_disk).f_bavail * 4096 - 400_000)
            done: list[str] = []
            broken = ""
            for _ in range(200):
                answer = await client.post(CHAT, json={"message": "20"})
                if "event: done" not in answer.text:
                    broken = answer.text
                    break
                done.append(answer.text)
            assert "storage" in broken
            async with asyncio.timeout(10):  # a small write may still fit, and health is then right to say ok
                while (health := await client.get(HEALTH)).status_code != 503:
                    await client.post(CHAT, json={"message": "20"})
            assert health.json()["status"] == "degraded"
            ballast.unlink()
            async with asyncio.timeout(10):
                while (await client.get(HEALTH)).status_code != 200:
                    await asyncio.sleep(0.1)
            assert "event: done" in (await client.post(CHAT, json={"message": "20"})).text
        assert engine.stop() == 0
    assert "Traceback" not in engine.errors
    with closing(sqlite3.connect(small_disk / "bytebrew.db")) as conn:
        assert conn.execute("pragma integrity_check").fetchone() == ("ok",)
        stored = {row[0] for row in conn.execute("select data from events where type = 'message'")}
        assert all(Parser().feed(text.encode())[-2].data.encode() in stored for text in done)
        assert event_numbers(conn)
        assert all(found == [*range(1, len(found) + 1)] for found in event_numbers(conn).values())


async def test_a_start_on_a_read_only_disk_is_refused_in_words(small_disk: Path) -> None:
    with serving(small_disk) as engine:
        assert engine.stop() == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = run("serve", settings={"BYTEBREW_DATA_DIR": str(small_disk), "BYTEBREW_PORT": "0"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_restore_changes_nothing_where_the_disk_of_a_linked_database_is_full(
    small_disk: Path, tmp_path: Path
) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.tar"
    settings = {"BYTEBREW_DATA_DIR": str(data)}
    assert run("token", "create", "x", "--scope", "chat", settings=settings).returncode == 0
    shutil.move(data / "bytebrew.db", small_disk / "bytebrew.db")
    (data / "bytebrew.db").symlink_to(small_disk / "bytebrew.db")
    assert run("backup", str(copy), settings=settings).returncode == 0
    (small_disk / "fill").write_bytes(bytes(shutil.disk_usage(small_disk).free - 100_000))
    refused = run("restore", str(copy), settings=settings)
    assert refused.returncode == 1
    assert f"there is not enough space for the restore on the disk of {small_disk}" in refused.stderr
    assert not list(data.glob("*replaced*"))
    (small_disk / "fill").unlink()
    assert run("token", "list", settings=settings).returncode == 0
