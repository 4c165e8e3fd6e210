"""A node that drains: what it leaves to others before it has ended, and what its callers and a balancer get."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

from bytebrew.contract.entities import NewTask
from bytebrew.contract.messages import ToolCall
from bytebrew.contract.tool import tool
from bytebrew.store import tasks
from tests.nodes.chats import URL, Stream, data, eventually, say, two
from tests.nodes.engines import Node

pytestmark = pytest.mark.postgresql


@asynccontextmanager
async def draining(node: Node) -> AsyncIterator[None]:
    """A node that drains for as long as the block, by a turn that does not end before."""
    task = asyncio.create_task(node.engine.drain(60))
    while not node.engine.draining:
        await asyncio.sleep(0)
    yield
    assert not task.done()
    for lane in node.engine.runner.lanes.values():
        lane.current.cancel("cancelled")
    with anyio.fail_after(20):
        await task


async def status(node: Node, session: str, turn: str) -> str:
    answer = await node.http.get(f"/api/v1/sessions/{session}/turns/{turn}")
    return str(answer.json()["status"])


def has(node: Node, chat: Stream, wanted: str) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return await status(node, chat.session, chat.headers["x-turn-id"]) == wanted

    return is_so


async def test_a_balancer_sees_that_a_node_drains_and_another_takes_its_callers() -> None:
    async with two([say("one"), asyncio.Event()], [say("two")]) as (a, b, _):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        async with draining(a):
            health = await a.http.get("/api/v1/health")
            assert (health.status_code, health.json()["status"]) == (503, "draining")
            refused = await a.http.post(URL, json={"message": "2"})
            assert (refused.status_code, refused.json()["error"]) == (503, "draining")
            assert int(refused.headers["retry-after"]) > 0
            health = await b.http.get("/api/v1/health")
            assert (health.status_code, health.json()["status"]) == (200, "ok")
            answer = await b.http.post(URL, json={"message": "2", "stream": False})
            assert answer.json()["message"] == "two"


async def test_messages_go_to_another_node_as_soon_as_the_turn_before_them_has_ended() -> None:
    go = asyncio.Event()
    async with two([say("long"), asyncio.Event()], [say("one"), go], [say("two")], [say("three")]) as (a, b, vendor):
        long = Stream(a.http, "long")
        await long.until("message_delta")
        first = Stream(a.http, "1")
        await first.until("message_delta")
        second = Stream(a.http, "2", session_id=first.session)
        await second.until("queued")
        behind_long = Stream(a.http, "behind", session_id=long.session)
        await behind_long.until("queued")
        async with draining(a):
            third = Stream(b.http, "3", session_id=first.session)  # who sends it knows nothing of that
            await third.until("queued")
            assert [await status(b, one.session, one.headers["x-turn-id"]) for one in (first, second)] == [
                "running",
                "queued",
            ]
            go.set()
            await first.whole()
            assert data(first.events[-1])["status"] == "completed"
            with anyio.fail_after(20):
                await third.task
            assert third.text == "three"
            assert await status(b, second.session, second.headers["x-turn-id"]) == "completed"
            await second.task
            assert data(second.events[-1])["code"] == "draining"
            assert await status(b, long.session, behind_long.headers["x-turn-id"]) == "queued"
            assert [one.messages[-1].content for one in vendor.requests] == ["long", "1", "2", "3"]
            assert a.engine.runner.lanes.keys() == {long.session}
            turns = await b.engine.db.read(lambda conn: conn.execute("select id, node from turns").fetchall())
            held = {row["id"] for row in turns if row["node"] == a.engine.node.id}
            assert held >= {long.headers["x-turn-id"], behind_long.headers["x-turn-id"]}
        with anyio.fail_after(20):
            await eventually(has(b, behind_long, "completed"))


async def test_a_message_that_no_turn_of_the_draining_node_is_before_is_answered_at_once() -> None:
    go = asyncio.Event()
    async with two([say("long"), asyncio.Event()], [say("one"), go], [say("two")]) as (a, b, _):
        long = Stream(a.http, "long")
        await long.until("message_delta")
        first = Stream(a.http, "1")
        await first.until("message_delta")
        async with AsyncExitStack() as stack:
            async with a.engine.handover.taking:  # the message is not taken up before the node drains
                second = Stream(b.http, "2", session_id=first.session)
                await second.until("queued")
                go.set()
                await first.whole()
                await stack.enter_async_context(draining(a))
            with anyio.fail_after(20):
                await second.task
            assert second.text == "two"


async def test_a_message_interrupts_the_turn_of_a_node_that_drains() -> None:
    async with two([say("long"), asyncio.Event()], [say("one"), asyncio.Event()], [say("two")]) as (a, b, _):
        long = Stream(a.http, "long")
        await long.until("message_delta")
        first = Stream(a.http, "1")
        await first.until("message_delta")
        async with draining(a):
            second = Stream(b.http, "2", session_id=first.session, on_busy="interrupt")
            with anyio.fail_after(20):
                await second.task
            assert second.text == "two"
            await first.whole()
            assert data(first.events[-1])["status"] == "cancelled"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_node_that_drains_leaves_no_caller_waiting_whose_message_it_has_just_stored_for_another(
    stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = asyncio.Event()
    async with two([say("one"), go], [say("two")]) as (a, b, _):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        admit, drains = b.engine.runner._admit, list[asyncio.Task[None]]()

        async def admit_and_drain(*args: Any, **given: Any) -> bool:
            elsewhere = await admit(*args, **given)
            drains.append(asyncio.create_task(b.engine.drain(0)))
            while not b.engine.node.leaving:
                await asyncio.sleep(0)
            return elsewhere

        monkeypatch.setattr(b.engine.runner, "_admit", admit_and_drain)
        body = {"message": "2", "session_id": first.session, "stream": stream}
        answered = asyncio.create_task(b.http.post(URL, json=body))
        await asyncio.wait([answered], timeout=10)
        early = answered.done()
        go.set()
        await asyncio.wait([answered, *drains])
        assert early, "its answer has waited for the turn of the other node"
        assert "draining" in answered.result().text
        assert answered.result().status_code == (200 if stream else 503)
        await eventually(lambda: _turns_of(a, first.session, 2))


async def _turns_of(node: Node, session: str, count: int) -> bool:
    sql = "select count(*) from turns where session_id = ? and status = 'completed'"
    found = await node.engine.db.read(lambda conn: conn.execute(sql, (session,)).fetchone())
    return bool(found[0] == count)


async def test_a_message_that_interrupts_goes_before_those_that_waited_for_a_node_that_drains() -> None:
    answers = [say("long"), asyncio.Event()], [say("one"), asyncio.Event()], [say("urgent")], [say("two")]
    async with two(*answers) as (a, b, vendor):
        long = Stream(a.http, "long")
        await long.until("message_delta")
        first = Stream(a.http, "1")
        await first.until("message_delta")
        second = Stream(a.http, "2", session_id=first.session)
        await second.until("queued")
        async with draining(a):
            urgent = Stream(b.http, "3", session_id=first.session, on_busy="interrupt")
            with anyio.fail_after(20):
                await urgent.task
                await eventually(has(b, second, "completed"))
            assert urgent.text == "urgent"
            assert [one.messages[-1].content for one in vendor.requests] == ["long", "1", "3", "2"]


async def test_a_turn_that_waits_for_a_person_goes_on_elsewhere_while_the_node_drains() -> None:
    @tool
    async def careful() -> str:
        """Asks."""
        return "done"

    answers = [say("long"), asyncio.Event()], [ToolCall("careful", {}, "c1")], [say("well")], [say("two")]
    async with two(*answers, tools=[careful], confirm_before=["careful"]) as (a, b, _):
        long = Stream(a.http, "long")
        await long.until("message_delta")
        first = Stream(a.http, "1")
        asked = data(await first.until("confirmation"))
        second = Stream(a.http, "2", session_id=first.session)
        await second.until("queued")
        async with draining(a):
            answer = {"confirmation_id": asked["confirmation_id"], "answers": ["approve"]}
            given = await b.http.post(f"/api/v1/sessions/{first.session}/respond", json=answer)
            assert given.status_code == 200, given.text
            await eventually(has(b, first, "completed"))
            await eventually(has(b, second, "completed"))


async def test_a_draining_node_takes_nothing_that_others_leave() -> None:
    async with two([say("long"), asyncio.Event()], [say("one"), asyncio.Event()], [say("new")]) as (a, b, vendor):
        long = Stream(a.http, "long")
        await long.until("message_delta")
        other = Stream(b.http, "1")
        await other.until("message_delta")
        async with draining(a):
            await b.stop()
            for _ in range(3):
                seen = a.engine.node.all
                while a.engine.node.all is seen or len(a.engine.node.all) > 1:
                    await asyncio.sleep(0.05)
            rows = await a.engine.db.read(
                lambda conn: conn.execute("select node from turns where session_id = ?", (other.session,)).fetchall()
            )
            assert [row["node"] for row in rows] == [None]
        assert len(vendor.requests) == 2


async def test_the_task_of_a_turn_goes_with_it() -> None:
    @tool
    async def careful() -> str:
        """Asks."""
        return "done"

    answers = [ToolCall("careful", {}, "c1")], [say("long"), asyncio.Event()], [say("well")]
    async with two(*answers, tools=[careful], confirm_before=["careful"]) as (a, b, _):
        made = await a.engine.db.write(
            lambda conn: tasks.create(conn, NewTask(title="t", agent="test", schema="test"), "admin", "api")
        )
        a.engine.tasks.wake()
        await eventually(lambda: _asks(a))
        long = Stream(a.http, "long")
        await long.until("message_delta")
        async with draining(a):
            [question] = (await b.http.get("/api/v1/approvals", params={"status": "pending"})).json()["data"]
            given = await b.http.post(f"/api/v1/approvals/{question['id']}/respond", json={"answers": ["approve"]})
            assert given.status_code == 200, given.text
            await eventually(lambda: _completed(b, made.id))


async def _asks(node: Node) -> bool:
    return any(turn.holds for turn in node.engine.runner.turns.values())


async def _completed(node: Node, task_id: str) -> bool:
    found = await node.engine.db.read(tasks.get, task_id)
    return found.status == "completed"
