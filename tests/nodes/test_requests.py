"""Messages, cancels and answers that reach one node about a session that another one runs."""

import asyncio

import pytest

from bytebrew.contract.messages import ToolCall
from bytebrew.contract.tool import tool
from bytebrew.testing import events_of, names
from tests.nodes.chats import URL, Stream, data, eventually, say, two
from tests.nodes.engines import Node

pytestmark = pytest.mark.postgresql


async def test_a_message_waits_for_the_turn_of_another_node_and_is_answered_there() -> None:
    gate = asyncio.Event()
    async with two([say("one"), gate], [say("two")]) as (a, b, vendor):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        second = Stream(b.http, "2", session_id=first.session)
        queued = await second.until("queued")
        assert data(queued)["position"] == 1
        assert not b.engine.runner.turns
        listed = (await b.http.get(f"/api/v1/sessions/{first.session}/queue")).json()
        assert [(one["message"], one["position"]) for one in listed] == [("2", 1)]
        assert (await a.http.get(f"/api/v1/sessions/{first.session}/queue")).json() == listed
        gate.set()
        assert await first.whole() == ["message_delta", "message", "done"]
        assert await second.whole() == ["queued", "message_delta", "message", "done"]
        assert second.text == "two"
        assert [data(one)["turn_id"] for one in second.events if one.event == "done"] == [second.headers["x-turn-id"]]
    assert len(vendor.requests) == 2


async def test_the_answer_of_a_message_without_a_stream_comes_once_the_other_node_has_it() -> None:
    gate = asyncio.Event()
    async with two([say("one"), gate], [say("two")]) as (a, b, _):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        second = asyncio.create_task(
            b.http.post(URL, json={"message": "2", "session_id": first.session, "stream": False})
        )
        await eventually(lambda: _waits(a, first.session))
        gate.set()
        answer = (await second).json()
        assert (answer["message"], answer["status"]) == ("two", "completed")
        assert await first.whole() == ["message_delta", "message", "done"]


async def _waits(node: Node, session: str) -> bool:
    lane = node.engine.runner.lanes.get(session)
    return lane is not None and len(lane.waiting) > 0


async def test_a_message_interrupts_the_turn_of_another_node() -> None:
    async with two([say("one"), asyncio.Event()], [say("two")]) as (a, b, _):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        second = Stream(b.http, "2", session_id=first.session, on_busy="interrupt")
        assert (await second.whole())[-2:] == ["message", "done"]
        assert second.text == "two"
        await first.whole()
        assert data(first.events[-1])["status"] == "cancelled"


async def test_a_message_that_may_not_wait_is_refused_at_any_node() -> None:
    gate = asyncio.Event()
    async with two([say("one"), gate]) as (a, b, _):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        body = {"message": "2", "session_id": first.session, "on_busy": "reject"}
        refused = await b.http.post(URL, json=body)
        assert (refused.status_code, refused.json()["error"]) == (409, "session_busy")
        gate.set()
        await first.whole()
        assert (await b.http.post(URL, json={**body, "stream": False})).status_code == 200


async def test_a_message_steers_the_turn_of_another_node() -> None:
    gate = asyncio.Event()

    @tool
    async def slow() -> str:
        """Waits."""
        await gate.wait()
        return "slept"

    async with two([ToolCall("slow", {}, "c1")], [say("both")], tools=[slow]) as (a, b, vendor):
        first = Stream(a.http, "1")
        await first.until("tool_call")
        second = Stream(b.http, "2", session_id=first.session, on_busy="steer")
        await first.until("steer")
        gate.set()
        await first.whole()
        await second.whole()
        assert "steered" in names(first.events)
        assert second.events[-1].event == "done"
        assert second.text == first.text == "both"
        assert [one.content for one in vendor.requests[1].messages if one.role == "user"] == ["1", "2"]


async def test_a_turn_of_another_node_is_cancelled() -> None:
    async with two([say("one"), asyncio.Event()]) as (a, b, _):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        assert (await b.http.post(f"/api/v1/sessions/{first.session}/cancel")).status_code == 204
        turn = (await b.http.get(f"/api/v1/sessions/{first.session}/turns/{first.headers['x-turn-id']}")).json()
        assert turn["status"] == "cancelled"
        await first.whole()
        assert data(first.events[-1])["status"] == "cancelled"
        requests = await a.engine.db.read(lambda conn: conn.execute("select * from session_requests").fetchall())
        assert not requests


async def test_a_message_that_waits_on_another_node_is_removed() -> None:
    gate = asyncio.Event()
    async with two([say("one"), gate], [say("three")]) as (a, b, vendor):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        second = Stream(a.http, "2", session_id=first.session)
        third = Stream(b.http, "3", session_id=first.session)
        await second.until("queued")
        await third.until("queued")
        turn = second.headers["x-turn-id"]
        assert (await b.http.delete(f"/api/v1/sessions/{first.session}/queue/{turn}")).status_code == 204
        await second.task
        assert second.events[-1].event == "error"
        assert data(second.events[-1])["code"] == "message_removed"
        assert (await b.http.delete(f"/api/v1/sessions/{first.session}/queue/{turn}")).status_code == 404
        running = first.headers["x-turn-id"]
        assert (await b.http.delete(f"/api/v1/sessions/{first.session}/queue/{running}")).status_code == 409
        gate.set()
        await third.task
        assert third.text == "three"
    assert len(vendor.requests) == 2


async def test_a_message_that_waits_for_another_node_is_removed_where_it_was_sent() -> None:
    gate = asyncio.Event()
    async with two([say("one"), gate]) as (a, b, vendor):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        second = Stream(b.http, "2", session_id=first.session)
        await second.until("queued")
        turn = second.headers["x-turn-id"]
        assert (await a.http.get(f"/api/v1/sessions/{first.session}/turns/{turn}")).json()["status"] == "queued"
        await eventually(lambda: _waits(a, first.session))
        assert (await a.http.delete(f"/api/v1/sessions/{first.session}/queue/{turn}")).status_code == 204
        await second.task
        assert data(second.events[-1])["code"] == "message_removed"
        gate.set()
        await first.whole()
    assert len(vendor.requests) == 1


async def test_a_session_that_another_node_runs_is_deleted() -> None:
    async with two([say("one"), asyncio.Event()]) as (a, b, _):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        async with a.http.stream("GET", f"/api/v1/sessions/{first.session}/events") as followed:
            assert (await b.http.delete(f"/api/v1/sessions/{first.session}")).status_code == 204
            seen = [event.event async for event in events_of(followed)]
        assert "error" in seen
        await first.whole()
        assert (await a.http.get(f"/api/v1/sessions/{first.session}")).status_code == 404


async def test_a_repeated_request_has_the_turn_that_another_node_runs() -> None:
    gate = asyncio.Event()
    async with two([say("one "), gate, say("more")]) as (a, b, vendor):
        first = Stream(a.http, "1", key="k1")
        await first.until("message_delta")
        second = Stream(b.http, "1", key="k1")
        await second.until("message_delta")
        running = f"/api/v1/sessions/{first.session}/turns/{first.headers['x-turn-id']}"
        so_far = (await b.http.get(running)).json()
        assert (so_far["status"], so_far["message"]) == ("running", "one ")
        gate.set()
        assert await second.whole() == await first.whole()
        assert [one.id for one in second.events] == [one.id for one in first.events]
    assert len(vendor.requests) == 1


async def test_a_question_is_answered_at_any_node() -> None:
    ran = 0

    @tool
    async def careful() -> str:
        """Asks."""
        nonlocal ran
        ran += 1
        return "done"

    async with two([ToolCall("careful", {}, "c1")], [say("well")], tools=[careful], confirm_before=["careful"]) as (
        a,
        b,
        _,
    ):
        first = Stream(a.http, "1")
        asked = data(await first.until("confirmation"))
        waiting = (await b.http.get(f"/api/v1/sessions/{first.session}/turns/{first.headers['x-turn-id']}")).json()
        assert waiting["status"] == "needs_input"
        assert [one["id"] for one in waiting["questions"]] == [asked["confirmation_id"]]
        answer = {"confirmation_id": asked["confirmation_id"], "answers": ["approve"]}
        given = await b.http.post(f"/api/v1/sessions/{first.session}/respond", json=answer)
        assert given.status_code == 200, given.text
        await first.whole()
        assert (first.text, ran) == ("well", 1)
