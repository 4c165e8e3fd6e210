"""Messages that reach several nodes at once, and the limits of those that wait on another node."""

import asyncio
from typing import Any

import anyio
import pytest

from bytebrew.base.formats import new_uuid
from bytebrew.nodes import turn_states
from tests.nodes.chats import URL, Stream, data, eventually, say, two
from tests.nodes.engines import Node

pytestmark = pytest.mark.postgresql


async def test_messages_to_one_session_at_two_nodes_are_each_answered_once() -> None:
    count = 12
    async with two([say("yes")]) as (a, b, vendor):
        session = new_uuid()
        async with asyncio.timeout(50):
            chats = [Stream((a, b)[n % 2].http, str(n), session_id=session) for n in range(count)]
            for chat in chats:
                await chat.task
        assert [data(chat.events[-1])["status"] for chat in chats] == ["completed"] * count
        assert {chat.text for chat in chats} == {"yes"}
        page = (await a.http.get(f"/api/v1/sessions/{session}/events?follow=false")).json()
        assert [one["id"] for one in page["events"]] == [*range(1, 3 * count + 1)]
        ended = [one["data"]["turn_id"] for one in page["events"] if one["event"] == "done"]
        assert sorted(ended) == sorted(chat.headers["x-turn-id"] for chat in chats)
        messages = (await b.http.get(f"/api/v1/sessions/{session}/messages")).json()
        assert sorted(one["content"] for one in messages if one["role"] == "user") == sorted(map(str, range(count)))
    assert len(vendor.requests) == count


async def test_messages_that_wait_on_another_node_have_the_same_limits() -> None:
    gate = asyncio.Event()
    settings = {"BYTEBREW_QUEUED_PER_SESSION": "2"}
    async with two([say("one"), gate], [say("more")], settings=settings) as (a, b, _):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        waiting = [Stream(node.http, "2", session_id=first.session) for node in (a, b)]
        for chat in waiting:
            await chat.until("queued")
        refused = await b.http.post(URL, json={"message": "4", "session_id": first.session})
        assert (refused.status_code, refused.json()["error"]) == (429, "queue_full")
        gate.set()
        for chat in waiting:
            await chat.task
            assert chat.text == "more"


async def test_turns_of_another_node_that_are_followed_count_as_turns_of_this_one() -> None:
    gate = asyncio.Event()
    async with two([say("one"), gate], [say("more")], settings={"BYTEBREW_MAX_TURNS": "3"}) as (a, b, _):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        waiting = [Stream(b.http, "2", session_id=first.session) for _ in range(2)]
        answer = asyncio.create_task(
            b.http.post(URL, json={"message": "3", "session_id": first.session, "stream": False})
        )
        for chat in waiting:
            await chat.until("queued")
        while len(b.engine.runner.remote.turns) < 3:
            await asyncio.sleep(0.01)
        refused = await b.http.post(URL, json={"message": "4"})
        assert (refused.status_code, refused.json()["error"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert "BYTEBREW_MAX_TURNS" in refused.json()["message"]
        assert (await b.http.get("/api/v1/health")).json()["status"] == "overloaded"
        await waiting[0].leave()
        while len(b.engine.runner.remote.turns) > 2:
            await asyncio.sleep(0.01)
        gate.set()
        assert (await b.http.post(URL, json={"message": "5", "stream": False})).status_code == 200
        assert (await answer).json()["message"] == "more"
        await waiting[1].task
        assert waiting[1].text == "more"
        assert not b.engine.runner.remote.turns


async def test_a_message_for_another_node_counts_before_its_turn_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, late = asyncio.Event(), asyncio.Event()
    async with two([say("one"), gate], [say("more")], settings={"BYTEBREW_MAX_TURNS": "3"}) as (a, b, _):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        read = b.engine.db.read

        async def slow(work: Any, *args: Any) -> Any:
            if work is turn_states.states:
                await late.wait()
            return await read(work, *args)

        monkeypatch.setattr(b.engine.db, "read", slow)
        waiting = [Stream(b.http, "2", session_id=first.session) for _ in range(3)]
        try:
            with anyio.fail_after(10):
                while b.engine.turns or b.engine.runner.remote.arriving < 3:
                    await asyncio.sleep(0.01)
                refused = await b.http.post(URL, json={"message": "4", "session_id": first.session})
            assert (refused.status_code, refused.json()["error"]) == (503, "overloaded")
        finally:
            late.set()
            gate.set()
        for chat in waiting:
            await chat.task
            assert chat.text == "more"
        assert not b.engine.runner.remote.arriving


async def test_a_key_of_ones_own_is_refused_where_another_node_runs_the_session() -> None:
    key = "tenant-key-0123456789abcdef"
    own = {"X-Model-Provider": "scripted", "X-Model-API-Key": key, "X-Model-Name": "theirs"}
    gate = asyncio.Event()
    async with two([say("one"), gate], [say("mine")]) as (a, b, vendor):
        assert (await a.http.put("/api/v1/settings/byok.scripted", json={"value": True})).status_code == 200
        await eventually(lambda: _allows(b))
        first = Stream(a.http, "1")
        await first.until("message_delta")
        body = {"message": "2", "session_id": first.session, "stream": False}
        refused = await b.http.post(URL, json=body, headers=own)
        assert (refused.status_code, refused.json()["error"]) == (409, "session_busy")
        node = a.engine.node.id
        assert refused.json()["message"] == (
            f"Node {node} runs a turn of the session, and a key of one's own is never passed on to another node:"
            f" send the message again once that turn has ended, or to node {node}"
        )
        there = asyncio.create_task(a.http.post(URL, json=body, headers=own))
        await eventually(lambda: _waits(a, first.session))
        gate.set()
        assert (await there).json()["message"] == "mine"
        await first.task
        assert (await b.http.post(URL, json=body, headers=own)).json()["message"] == "mine"
    assert [one.api_key for one in vendor.requests] == ["", key, key]


async def _allows(node: Node) -> bool:
    return bool((await node.http.get("/api/v1/settings/byok.scripted")).json()["value"])


async def _waits(node: Node, session: str) -> bool:
    lane = node.engine.runner.lanes.get(session)
    return lane is not None and len(lane.waiting) > 0


async def test_a_task_that_another_node_works_on_is_cancelled() -> None:
    async with two([say("one"), asyncio.Event()]) as (a, b, vendor):
        made = await a.http.post("/api/v1/tasks", json={"title": "Work", "agent": "test"})
        assert made.status_code == 201, made.text
        task = made.json()
        with anyio.fail_after(20):
            while not vendor.requests:
                await asyncio.sleep(0.01)
            (works,) = [node for node in (a, b) if node.engine.runner.turns]
            other = b if works is a else a
            cancelled = await other.http.delete(f"/api/v1/tasks/{task['id']}")
            assert cancelled.status_code in (200, 204), cancelled.text
            while works.engine.runner.turns:
                await asyncio.sleep(0.01)
        assert vendor.cancelled == 1
