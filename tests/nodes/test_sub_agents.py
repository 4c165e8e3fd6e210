"""Turns of spawned agents, seen from another node: their events, their cancel, and the end of their own node."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew.contract.messages import ToolCall
from bytebrew.conversation.recovery import recover
from bytebrew.testing import names
from tests.commands import install
from tests.nodes.chats import Stream, data, eventually, say, two
from tests.nodes.engines import Node, processes
from tests.plugins.test_spawn import ACTORS, HEADERS, Stage, configure, datas, heard, rest
from tests.processes import Process

pytestmark = pytest.mark.postgresql
SPAWN = ToolCall("spawn_leaf", {"message": "go"}, "c1")


async def leaf(node: Node, **fields: Any) -> None:
    made = await node.http.post("/api/v1/agents", json={"name": "leaf", "model": "test", **fields})
    assert made.status_code == 201, made.text


async def child_of(node: Node, session: str) -> str:
    sql = "select id from sessions where parent_id = ?"
    return str((await node.engine.db.read(lambda conn: conn.execute(sql, (session,)).fetchone()))[0])


async def statuses(node: Node) -> list[str]:
    sql = "select status from turns order by seq"
    return [row[0] for row in await node.engine.db.read(lambda conn: conn.execute(sql).fetchall())]


async def test_the_events_of_a_spawned_agent_are_followed_at_another_node_with_the_same_bytes() -> None:
    gate = asyncio.Event()
    async with two([say("r1 "), SPAWN], [say("half "), gate, say("whole")], [say("r2")], can_spawn=["leaf"]) as (
        a,
        b,
        vendor,
    ):
        await leaf(a)
        running = Stream(a.http, "1", key="k", subagents=True)
        await _of_leaf(running)
        again = Stream(b.http, "1", key="k", subagents=True)
        await _of_leaf(again)
        child = await child_of(b, running.session)
        own = await b.http.get(f"/api/v1/sessions/{child}/events?follow=false")
        assert [one["data"]["content"] for one in own.json()["events"]] == ["half "]
        gate.set()
        await running.whole()
        await again.whole()
        assert [(one.id, one.event, one.data) for one in again.events] == [
            (one.id, one.event, one.data) for one in running.events
        ]
        assert names(running.events)[-2:] == ["message", "done"]
    assert len(vendor.requests) == 3


async def _of_leaf(stream: Stream) -> None:
    while not any(data(one).get("agent") == "leaf" for one in stream.events):
        stream._changed.clear()
        await stream._changed.wait()


@pytest.mark.parametrize("which", ["root", "leaf"])
async def test_a_spawned_agents_turn_is_cancelled_at_another_node(which: str) -> None:
    async with two([SPAWN], [say("half"), asyncio.Event()], [say("then I")], can_spawn=["leaf"]) as (a, b, vendor):
        await leaf(a)
        running = Stream(a.http, "1", subagents=True)
        await _of_leaf(running)
        session = running.session if which == "root" else await child_of(b, running.session)
        assert (await b.http.post(f"/api/v1/sessions/{session}/cancel")).status_code == 204
        await running.whole()
        assert vendor.cancelled == 1
        root = "cancelled" if which == "root" else "completed"
        assert data(running.events[-1])["status"] == root
        assert await statuses(b) == [root, "cancelled"]


async def test_a_message_at_another_node_interrupts_the_turn_of_a_spawned_agent_with_its_parents() -> None:
    async with two([SPAWN], [say("half"), asyncio.Event()], [say("urgent")], can_spawn=["leaf"]) as (a, b, vendor):
        await leaf(a)
        running = Stream(a.http, "1", subagents=True)
        await _of_leaf(running)
        urgent = Stream(b.http, "2", session_id=running.session, on_busy="interrupt")
        await urgent.whole()
        await running.whole()
        assert (urgent.text, data(running.events[-1])["status"]) == ("urgent", "cancelled")
        assert vendor.cancelled == 1
        assert await statuses(b) == ["cancelled", "cancelled", "completed"]


async def test_a_message_at_another_node_steers_a_turn_that_waits_for_a_spawned_agent() -> None:
    gate = asyncio.Event()
    steps = [SPAWN], [say("half"), gate, say(" whole")], [say("both")]
    async with two(*steps, can_spawn=["leaf"]) as (a, b, vendor):
        await leaf(a)
        running = Stream(a.http, "1", subagents=True)
        await _of_leaf(running)
        steering = Stream(b.http, "2", session_id=running.session, on_busy="steer")
        await running.until("steer")
        gate.set()
        await running.whole()
        await steering.whole()
        assert steering.text.endswith("both")
        assert [one.content for one in vendor.requests[2].messages if one.role == "user"] == ["1", "2"]
        assert await statuses(b) == ["completed", "completed", "absorbed"]


async def test_a_session_with_a_spawned_agent_is_deleted_at_another_node() -> None:
    async with two([SPAWN], [say("half"), asyncio.Event()], can_spawn=["leaf"]) as (a, b, vendor):
        await leaf(a)
        running = Stream(a.http, "1", subagents=True)
        await _of_leaf(running)
        child = await child_of(b, running.session)
        async with a.http.stream("GET", f"/api/v1/sessions/{child}/events") as followed:
            assert (await b.http.delete(f"/api/v1/sessions/{running.session}")).status_code == 204
            assert "event: error" in "".join([text async for text in followed.aiter_text()])
        await running.task
        assert vendor.cancelled == 1
        for session in (running.session, child):
            assert (await a.http.get(f"/api/v1/sessions/{session}")).status_code == 404
        assert not a.engine.runner.turns


async def test_a_kept_agents_session_goes_on_at_the_node_where_it_is_spawned_next() -> None:
    steps = [SPAWN], [say("first")], [say("r1")], [SPAWN], [say("second")], [say("r2")]
    async with two(*steps, can_spawn=["leaf"]) as (a, b, vendor):
        await leaf(a, lifecycle="persistent")
        first = Stream(a.http, "1", subagents=True)
        await first.whole()
        child = await child_of(b, first.session)
        async with a.http.stream("GET", f"/api/v1/sessions/{child}/events") as followed:  # a has its log in memory
            second = Stream(b.http, "2", session_id=first.session, subagents=True)
            await second.whole()
            text, done = "", 0
            async for part in followed.aiter_text():
                text += part
                if (done := text.count("event: done")) == 2:
                    break
        assert done == 2
        assert second.text.endswith("r2")
        assert [one.content for one in vendor.requests[4].messages if one.role == "assistant"] == ["first"]


async def test_the_turn_of_a_kept_agent_that_waits_is_taken_up_with_its_parents_not_as_a_message() -> None:
    go, calls = asyncio.Event(), [ToolCall("spawn_leaf", {"message": one}, one) for one in ("one", "two")]
    steps = calls, [say("first"), go], [say("second")], [say("both")]
    async with two(*steps, can_spawn=["leaf"], tool_execution="parallel") as (a, b, vendor):
        await leaf(a, lifecycle="persistent")
        running = Stream(a.http, "1", subagents=True)
        await running.opened()
        while len(a.engine.runner.turns) < 3 or len(vendor.requests) < 2:
            await asyncio.sleep(0.005)
        async with b.engine.handover.taking:
            draining = asyncio.create_task(a.engine.drain(60))
            while not a.engine.draining:
                await asyncio.sleep(0)
            go.set()  # the second turn of the agent would begin now
            await draining
            await a.stop()
            sql = "select count(*) from turns where node = ? and status in ('queued', 'running')"
            while (await b.engine.db.read(lambda conn: conn.execute(sql, (b.engine.node.id,)).fetchone()))[0] < 2:
                await asyncio.sleep(0.01)
            assert await statuses(b) == ["running", "completed", "queued"]
            e = b.engine  # as a request of another node does it
            await e.runner.adopt(await recover(e.db, e.journal, e.runner, e.publish, e.node.id, queued=True))
        await eventually(lambda: _completed(b))
    assert vendor.requests[-1].messages[-1].content == "second"


async def _completed(node: Node) -> bool:
    return await statuses(node) == ["completed"] * 3


@pytest.mark.timeout(120)
def test_a_tree_goes_on_at_another_node_once_its_own_is_killed_and_no_tool_takes_effect_twice(tmp_path: Path) -> None:
    with stage(tmp_path) as (it, a, b):
        session, seen = heard(a.url, "note", '"20 "')
        a.kill()
        events = rest(b.url, session, "done")
        assert it.noted() == ["root", "mid", "leaf"]
        assert [(event.id, event.data) for event in events[: len(seen)]] == [(event.id, event.data) for event in seen]
        words = "".join(f"{n} " for n in range(40))
        assert datas(events, "message")[-1]["content"] == f"root heard: mid heard: {words}"
        assert [event.event for event in events].count("done") == 1


@pytest.mark.timeout(120)
def test_a_call_that_the_end_of_a_node_cut_short_in_a_grandchild_is_asked_about_at_another(tmp_path: Path) -> None:
    with stage(tmp_path) as (it, a, b):
        session, _ = heard(a.url, "hang", '"c-leaf"')
        while not it.notes.exists() or it.noted() != ["root", "mid", "leaf"]:
            time.sleep(0.01)
        a.kill()
        [asked] = datas(rest(b.url, session, "confirmation"), "confirmation")
        assert (asked["agent"], asked["kind"], asked["tool"]) == ("leaf", "unknown_outcome", "hang")
        body = {"call_id": asked["call_id"], "answers": ["mark_done", "I saw it"]}
        url = f"{b.url}/api/v1/sessions/{session}/respond"
        assert httpx.post(url, headers=HEADERS, json=body).status_code == 200
        events = rest(b.url, session, "done")
        assert it.noted() == ["root", "mid", "leaf"]
        assert datas(events, "message")[-1]["content"].startswith("root heard: mid heard: 0 1 ")


@contextmanager
def stage(folder: Path) -> Iterator[tuple[Stage, Process, Process]]:
    """Two processes with the three levels of agents of the tests of spawning."""
    install(folder / "plugins", "actors", ACTORS)
    settings = {"BYTEBREW_PLUGINS_DIR": str(folder / "plugins"), "NOTES": str(folder / "notes")}
    with processes(folder, settings) as (a, b):
        configure(a.url)
        yield Stage(folder / "a", folder / "notes", settings), a, b
