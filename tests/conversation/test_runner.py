"""Turns and their sessions: one at a time, queued, interrupted, cancelled, drained, taken up."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bytebrew.base.errors import StorageError
from bytebrew.base.http_client.client import Http
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.messages import ModelRequest, Usage
from bytebrew.contract.provider import ProviderEvent
from bytebrew.contract.route import ANYONE
from bytebrew.engine import Engine
from bytebrew.store import open_turns, tasks, turns
from bytebrew.store.queries import spawned_turns
from bytebrew.store.queries.events import read_events
from bytebrew.store.sqlite.pragmas import connect
from bytebrew.testing import (
    ScriptedProvider,
    chat,
    engine,
    events_of,
    names,
    plugin,
    providing,
    scripted_schema,
    served_engine,
)
from tests.conversation.test_tasks import plans

URL = "/api/v1/schemas/test/chat"


def say(text: str) -> MessageDelta:
    return MessageDelta(content=text)


def rows_of(conn: Connection, table: str) -> int:
    found: int = conn.execute(f"select count(*) from {table}").fetchone()[0]
    return found


async def begin(client: httpx.AsyncClient, message: str, **body: Any) -> tuple[str, asyncio.Task[list[str]]]:
    """A chat in the background, once its first delta is there: its session, and a task with its event types."""
    begun: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run() -> list[str]:
        found = []
        async with client.stream("POST", URL, json={"message": message, **body}) as response:
            async for event in events_of(response):
                found.append(event)
                if not begun.done():
                    begun.set_result(response.headers["x-session-id"])
        return [*names(found), json.loads(found[-1].data).get("status", "")]

    task = asyncio.create_task(run())
    return await begun, task


async def test_messages_to_a_busy_session_are_answered_in_order_of_arrival() -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([say("one"), gate], [say("two")], [say("three")])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        session_id, first = await begin(client, "1")
        rest = []
        for n in (2, 3):
            rest.append(asyncio.create_task(chat(client, "test", str(n), session_id=session_id)))
            while len(running.runner.lanes[session_id].waiting) < n - 1:
                await asyncio.sleep(0.005)
        gate.set()
        assert await first == ["message_delta", "message", "done", "completed"]
        answers = [await task for task in rest]
    told = [json.loads(events[0].data)["position"] for events in answers]
    answers = [[event for event in events if event.event != "queued"] for events in answers]
    assert told == [1, 2]
    assert [json.loads(events[0].data)["content"] for events in answers] == ["two", "three"]
    assert [int(events[0].id) for events in answers] == [4, 7]
    assert [request.messages[-1].content for request in provider.requests] == ["1", "2", "3"]


async def test_on_busy_reject_answers_409_and_leaves_the_running_turn_alone() -> None:
    gate = asyncio.Event()
    async with served_engine(providing(ScriptedProvider([say("one"), gate]))) as (running, client):
        await scripted_schema(running)
        session_id, first = await begin(client, "1")
        answer = await client.post(URL, json={"message": "2", "session_id": session_id, "on_busy": "reject"})
        gate.set()
        assert (await first)[-2:] == ["done", "completed"]
    assert answer.status_code == 409
    assert answer.json()["error"] == "session_busy"


async def test_on_busy_interrupt_cancels_the_running_turn_and_goes_before_the_queue() -> None:
    provider = ScriptedProvider([say("one"), 30.0], [say("urgent")], [say("patient")])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        session_id, first = await begin(client, "1")
        patient = asyncio.create_task(chat(client, "test", "patient", session_id=session_id))
        while not running.runner.lanes[session_id].waiting:
            await asyncio.sleep(0.005)
        await chat(client, "test", "urgent", session_id=session_id, on_busy="interrupt")
        await patient
        assert await first == ["message_delta", "done", "cancelled"]
        messages = (await client.get(f"/api/v1/sessions/{session_id}/messages")).json()
    assert [(message["role"], message["content"]) for message in messages] == [
        ("user", "1"),
        ("assistant", "one"),
        ("user", "urgent"),
        ("assistant", "urgent"),
        ("user", "patient"),
        ("assistant", "patient"),
    ]


async def test_a_message_that_is_refused_interrupts_nothing() -> None:
    gate = asyncio.Event()
    async with served_engine(providing(ScriptedProvider([say("one"), gate]))) as (running, client):
        await scripted_schema(running)
        await scripted_schema(running, "other")
        session_id, first = await begin(client, "1")
        body = {"message": "2", "session_id": session_id, "on_busy": "interrupt"}
        answer = await client.post("/api/v1/schemas/other/chat", json=body)
        gate.set()
        assert (await first)[-2:] == ["done", "completed"]
    assert answer.status_code == 409


class Unwinding(ScriptedProvider):
    """A model whose stream takes a while to close."""

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        try:
            async for event in super().stream(request, http):
                yield event
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.2)


async def test_of_two_messages_that_interrupt_at_once_the_later_has_the_last_word() -> None:
    provider = Unwinding([say("one"), 30.0], [say("later")], [say("patient")])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        session_id, first = await begin(client, "1")
        waiting = running.runner.lanes[session_id].waiting
        rest = []
        for n, message in enumerate(("patient", "earlier", "later")):
            on_busy = "queue" if message == "patient" else "interrupt"
            rest.append(asyncio.create_task(chat(client, "test", message, session_id=session_id, on_busy=on_busy)))
            while len(waiting) <= n:
                await asyncio.sleep(0.005)
        assert (await first)[-1] == "cancelled"
        ends = [json.loads((await task)[-1].data)["status"] for task in rest]
        messages = (await client.get(f"/api/v1/sessions/{session_id}/messages")).json()
    assert ends == ["completed", "cancelled", "completed"]
    assert [message["content"] for message in messages] == [
        "1",
        "one",
        "earlier",
        "later",
        "later",
        "patient",
        "patient",
    ]


async def test_a_session_whose_turn_is_done_is_not_busy() -> None:
    async def turn_finished(turn: Any) -> None:
        await asyncio.sleep(0.2)

    provider = ScriptedProvider([say("one")])
    async with served_engine(providing(provider), plugin(turn_finished=turn_finished)) as (running, client):
        await scripted_schema(running)
        session_id, first = await begin(client, "1")
        await first
        assert session_id in running.runner.lanes
        again = await chat(client, "test", "2", session_id=session_id, on_busy="reject")
    assert names(again)[-1] == "done"


async def test_cancel_ends_the_stream_with_done_and_closes_the_vendors_stream_at_once() -> None:
    provider = ScriptedProvider([say("half"), Usage(3, 1), 30.0])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        session_id, first = await begin(client, "1")
        assert (await client.get(f"/api/v1/sessions/{session_id}")).json()["status"] == "active"
        answer = await client.post(f"/api/v1/sessions/{session_id}/cancel")
        assert answer.status_code == 204
        with anyio.fail_after(0.5):
            assert await first == ["message_delta", "done", "cancelled"]
        assert provider.cancelled == 1
        assert (await client.get(f"/api/v1/sessions/{session_id}")).json()["status"] == "cancelled"
        assert (await client.post(f"/api/v1/sessions/{session_id}/cancel")).status_code == 204


class Clinging(ScriptedProvider):
    """Takes so many seconds to let go."""

    seconds = 0.0

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        try:
            yield say("half")
            await anyio.sleep(30)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(self.seconds)


@pytest.mark.parametrize(("seconds", "patience", "status"), [(0.3, 30.0, "cancelled"), (3.0, 0.1, "active")])
async def test_a_cancellation_is_answered_once_it_is_in_the_file_unless_that_takes_long(
    seconds: float, patience: float, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bytebrew.web.routes.sessions.CANCEL_SECONDS", patience)
    provider = Clinging()
    provider.seconds = seconds
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        session_id, first = await begin(client, "1")
        assert (await client.post(f"/api/v1/sessions/{session_id}/cancel")).status_code == 204
        assert (await client.get(f"/api/v1/sessions/{session_id}")).json()["status"] == status
        assert (await first)[-1] == "cancelled"


async def test_a_client_that_leaves_does_not_stop_the_turn() -> None:
    gate = asyncio.Event()
    async with served_engine(providing(ScriptedProvider([say("one"), gate, say(" two")]))) as (running, client):
        await scripted_schema(running)
        async with client.stream("POST", URL, json={"message": "1"}) as response:
            async for _ in events_of(response):
                session_id = response.headers["x-session-id"]
                break
        gate.set()
        async with client.stream("GET", f"/api/v1/sessions/{session_id}/events") as response:
            found = []
            async for event in events_of(response):
                found.append(event)
                if event.event == "done":
                    break
    assert names(found) == ["message_delta", "message", "done"]
    assert json.loads(found[-2].data)["content"] == "one two"


async def test_followers_of_one_session_get_the_same_bytes() -> None:
    gate = asyncio.Event()
    async with served_engine(providing(ScriptedProvider([say("one"), gate, say("two")]))) as (running, client):
        await scripted_schema(running)
        session_id, first = await begin(client, "1")

        async def follow() -> bytes:
            raw = b""
            async with client.stream("GET", f"/api/v1/sessions/{session_id}/events") as response:
                async for chunk in response.aiter_raw():
                    raw += chunk
                    if b"event: done" in raw:
                        return raw
            raise AssertionError("the stream ended without done")

        followers = [asyncio.create_task(follow()) for _ in range(5)]
        await asyncio.sleep(0.05)
        gate.set()
        await first
        assert len({await follower for follower in followers}) == 1


async def test_a_turn_that_outlasts_the_drain_is_left_for_the_next_start_and_one_that_does_not_is_done() -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([say("quick"), gate], [say("slow"), 60.0])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        _, quick = await begin(client, "1")
        slow_session, slow = await begin(client, "2")
        draining = asyncio.create_task(running.drain(0.3))
        while not running.runner.draining:
            await asyncio.sleep(0)
        refused = await client.post(URL, json={"message": "3"})
        health = await client.get("/api/v1/health")
        gate.set()
        await draining
        assert (await quick)[-2:] == ["done", "completed"]
        assert await slow == ["message_delta", "error", ""]
        assert (refused.status_code, refused.json()["error"]) == (503, "draining")
        assert refused.headers["retry-after"]
        assert (health.status_code, health.json()["status"]) == (503, "draining")
        rows = await running.db.read(
            lambda conn: conn.execute("select status from turns where session_id = ?", (slow_session,)).fetchall()
        )
    assert [row["status"] for row in rows] == ["running"]


async def test_a_follower_of_an_idle_session_does_not_hold_up_the_drain() -> None:
    async with served_engine(providing(ScriptedProvider([say("x")]))) as (running, client):
        await scripted_schema(running)
        session_id, first = await begin(client, "1")
        await first
        async with client.stream("GET", f"/api/v1/sessions/{session_id}/events?after=3") as response:
            await running.drain(5)
            assert [chunk async for chunk in response.aiter_raw()] in ([], [b": ok\n\n"])


async def test_a_message_that_waits_at_the_drain_is_kept_and_answered_after_the_restart(tmp_path: Path) -> None:
    provider = ScriptedProvider([say("one"), 60.0], [say("one")], [say("two")])
    async with served_engine(providing(provider), data=tmp_path) as (running, client):
        await scripted_schema(running)
        session_id, first = await begin(client, "1")
        async with client.stream("POST", URL, json={"message": "2", "session_id": session_id}) as response:
            stream = events_of(response)
            assert (await anext(stream)).event == "queued"
            await running.drain(0)
            assert await first == ["message_delta", "error", ""]
            [last] = [event async for event in stream]
        assert (last.event, json.loads(last.data)["code"]) == ("error", "draining")
    async with engine(providing(provider), data=tmp_path) as running:
        messages = await answered(running, session_id, 4)
        log = await running.journal.log(session_id)
        events = await running.db.read(read_events, session_id, 0, log.last)
    assert [name for _, name, _, _ in events] == ["message_delta", "message", "done"] * 2
    assert [message["content"] for message in messages] == ["1", "one", "2", "two"]


async def answered(running: Engine, session_id: str, count: int) -> list[dict[str, Any]]:
    """The session's messages, once there are so many."""
    sql = "select body from messages where session_id = ? order by n"
    with anyio.fail_after(5):
        while True:
            rows = await running.db.read(lambda conn: conn.execute(sql, (session_id,)).fetchall())
            if len(rows) >= count and not running.runner.lanes:
                return [json.loads(row["body"]) for row in rows]
            await asyncio.sleep(0.01)


async def test_a_session_is_deleted_with_its_running_turn_and_all_that_belongs_to_it() -> None:
    provider = ScriptedProvider([say("one"), 60.0])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        session_id, first = await begin(client, "1")
        assert (await client.delete(f"/api/v1/sessions/{session_id}")).status_code == 204
        assert (await first)[-2:] == ["done", "cancelled"]
        assert (await client.get(f"/api/v1/sessions/{session_id}")).status_code == 404
        for table in ("sessions", "turns", "messages", "events"):
            assert await running.db.read(rows_of, table) == 0
        again, second = await begin(client, "2", session_id=session_id)
        await client.post(f"/api/v1/sessions/{again}/cancel")
        assert (await second)[-1] == "cancelled"


async def test_a_message_that_comes_while_its_session_is_deleted_is_refused_and_leaves_nothing() -> None:
    held, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold(conn: Connection) -> None:
        loop.call_soon_threadsafe(held.set)
        release.wait(10)

    async with served_engine(providing(ScriptedProvider([say("one")]))) as (running, client):
        await scripted_schema(running)
        session_id, first = await begin(client, "1")
        await first
        holding = asyncio.create_task(running.db.write(hold))
        await held.wait()
        deleting = asyncio.create_task(client.delete(f"/api/v1/sessions/{session_id}"))
        while not running.db._works:
            await asyncio.sleep(0.005)
        asking = asyncio.create_task(client.post(URL, json={"message": "2", "session_id": session_id}))
        while len(running.db._works) < 2:
            await asyncio.sleep(0.005)
        release.set()
        await holding
        assert (await deleting).status_code == 204
        assert (await asking).status_code == 404
        assert await running.db.read(rows_of, "turns") == 0
        again, second = await begin(client, "3", session_id=session_id)
        assert (await second)[-1] == "completed"
        page = (await client.get(f"/api/v1/sessions/{again}/events?follow=false")).json()
        assert [event["id"] for event in page["events"]] == [1, 2, 3]


async def test_a_message_that_waits_behind_a_turn_that_the_file_did_not_take_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = asyncio.Event()
    finish = turns.finish

    runs: list[Connection] = []

    def full(conn: Connection, *given: Any) -> None:
        runs.append(conn)
        if len(runs) == 2:  # a work that fails runs again, apart from the others of its transaction
            monkeypatch.setattr(turns, "finish", finish)
        raise StorageError("The disk is full")

    monkeypatch.setattr(turns, "finish", full)
    provider = ScriptedProvider([say("one"), gate], [say("two")])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        session_id, first = await begin(client, "1")
        waiting = client.post(URL, json={"message": "2", "session_id": session_id, "stream": False})
        second = asyncio.create_task(waiting)
        while not running.runner.lanes[session_id].waiting:
            await asyncio.sleep(0.005)
        gate.set()
        await first
        answer = await second
        statuses = await running.db.read(lambda conn: [row[0] for row in conn.execute("select status from turns")])
    assert (answer.status_code, answer.json().get("message")) == (200, "two")
    assert statuses == ["failed", "completed"]


@pytest.mark.parametrize(
    "work",
    [
        lambda conn: spawned_turns.spawned_in(conn, "root", "turn"),
        lambda conn: turns.finish(conn, turns.Unsaved("a", "s", "s"), "turn", "session", "failed", 1, Usage(), 503),
        open_turns.left_open,
        lambda conn: open_turns.spent(conn, "turn"),
        lambda conn: tasks.claim(conn, 3),
        lambda conn: tasks.page(conn, ANYONE, tasks.Filter(status="needs_input"), 0, 10),
    ],
    ids=["spawned_in", "finish", "left_open", "spent", "claim", "tasks_page"],
)
@pytest.mark.sqlite
async def test_what_grows_is_searched_by_what_is_looked_for(work: Callable[[Connection], Any]) -> None:
    async with engine() as running:
        with closing(connect(running.folder.database)) as conn:
            plan = plans(conn, work)
    assert plan
    assert not [line for line in plan if line.startswith("SCAN") and line.split()[1] in ("turns", "usage", "c")]
    assert not [line for line in plan if "confirmations_status" in line or "confirmations_pending" in line]


@pytest.mark.sqlite
async def test_open_turns_are_found_by_an_index_however_many_have_ended() -> None:
    async with engine() as running:
        assert await running.db.read(open_turns.left_open) == []
        with closing(connect(running.folder.database)) as conn:
            plan = plans(conn, open_turns.left_open)
    assert "USING INDEX turns_node" in plan[0]
