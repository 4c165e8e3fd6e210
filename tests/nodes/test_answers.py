"""What a turn waits for, given at another node: results of the client's tools, and approvals of spawned agents."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bytebrew.contract.messages import ToolCall
from bytebrew.contract.tool import tool
from bytebrew.testing import ScriptedProvider
from tests.nodes.chats import Stream, data, eventually, say, two
from tests.nodes.engines import Node
from tests.nodes.test_takeovers import _take_over
from tests.plugins.test_ag_ui import Client as AgUi

pytestmark = pytest.mark.postgresql
WHERE = {"name": "where_am_i", "description": "The place", "input_schema": {"type": "object", "properties": {}}}


@asynccontextmanager
async def asking(*answers: Any) -> AsyncIterator[tuple[Node, Node, ScriptedProvider]]:
    """Two nodes whose schema lets clients bring tools."""
    async with two(*answers) as (a, b, vendor):
        allowed = await a.http.patch("/api/v1/schemas/test", json={"client_tools": True})
        assert allowed.status_code == 200, allowed.text
        yield a, b, vendor


async def test_the_result_of_a_clients_tool_is_taken_at_any_node() -> None:
    async with asking([ToolCall("where_am_i", {}, "c1")], [say("there")]) as (a, b, vendor):
        running = Stream(a.http, "1", client_tools=[WHERE])
        asked = data(await running.until("client_tool_call"))
        at = f"/api/v1/sessions/{running.session}"
        waits = (await b.http.get(f"{at}/turns/{running.headers['x-turn-id']}")).json()
        assert (waits["status"], [one["call_id"] for one in waits["client_calls"]]) == ("needs_input", ["c1"])
        result = {"call_id": asked["call_id"], "result": {"city": "Zürich"}}
        assert (await b.http.post(f"{at}/respond", json=result)).status_code == 200
        assert (await running.whole())[-2:] == ["message", "done"]
        for node in (a, b):  # the same again is no other answer, and a different one is refused
            assert (await node.http.post(f"{at}/respond", json=result)).status_code == 200
            other = await node.http.post(f"{at}/respond", json={**result, "result": "elsewhere"})
            assert (other.status_code, other.json()["error"]) == (409, "already_answered")
    assert "Zürich" in vendor.requests[1].messages[-1].content
    assert len(vendor.requests) == 2


async def test_a_client_that_is_asked_at_one_node_follows_and_answers_at_another() -> None:
    async with asking([ToolCall("where_am_i", {}, "c1")], [say("there")]) as (a, b, _):
        asked = await a.http.post(
            "/api/v1/schemas/test/chat", json={"message": "1", "client_tools": [WHERE], "stream": False}
        )
        assert asked.status_code == 202, asked.text
        session, turn = asked.json()["session_id"], asked.json()["turn_id"]
        result = {"call_id": "c1", "result": "here"}
        assert (await b.http.post(f"/api/v1/sessions/{session}/respond", json=result)).status_code == 200
        events = f"/api/v1/sessions/{session}/events"
        async with b.http.stream("GET", events) as followed:
            async for line in followed.aiter_lines():
                if line == "event: done":
                    break
        ended = (await b.http.get(f"/api/v1/sessions/{session}/turns/{turn}")).json()
        assert (ended["status"], ended["message"]) == ("completed", "there")


async def test_two_answers_at_two_nodes_at_once_are_one_answer() -> None:
    async with asking([ToolCall("where_am_i", {}, "c1")], [say("there")]) as (a, b, vendor):
        running = Stream(a.http, "1", client_tools=[WHERE])
        await running.until("client_tool_call")
        at = f"/api/v1/sessions/{running.session}/respond"
        given = [node.http.post(at, json={"call_id": "c1", "result": n}) for n, node in enumerate((a, b))]
        codes = [one.status_code for one in await asyncio.gather(*given)]
        assert sorted(codes) == [200, 409]
        await running.whole()
        assert vendor.requests[1].messages[-1].content == str(codes.index(200))


async def test_an_approval_that_a_spawned_agent_asks_for_is_given_at_another_node() -> None:
    ran = 0

    @tool
    async def careful() -> str:
        """Asks."""
        nonlocal ran
        ran += 1
        return "done"

    steps = [ToolCall("spawn_leaf", {"message": "go"}, "c1")], [ToolCall("careful", {}, "c2")], [say("l")], [say("r")]
    async with two(*steps, tools=[careful], can_spawn=["leaf"]) as (a, b, _):
        leaf = {"name": "leaf", "model": "test", "tools": ["careful"], "confirm_before": ["careful"]}
        assert (await a.http.post("/api/v1/agents", json=leaf)).status_code == 201
        running = Stream(a.http, "1")
        asked = data(await running.until("confirmation"))
        assert asked["agent"] == "leaf"
        sql = "select session_id, id from turns order by seq"
        for session, turn in await b.engine.db.read(lambda conn: conn.execute(sql).fetchall()):
            shown = [(await node.http.get(f"/api/v1/sessions/{session}/turns/{turn}")).json() for node in (a, b)]
            assert [one["status"] for one in shown] == ["needs_input"] * 2
            assert shown[0]["questions"] == shown[1]["questions"] != []
        waiting = (await b.http.get("/api/v1/approvals")).json()["data"]
        assert [one["id"] for one in waiting] == [asked["confirmation_id"]]
        given = await b.http.post(f"/api/v1/approvals/{waiting[0]['id']}/respond", json={"answers": ["approve"]})
        assert given.status_code == 200, given.text
        await running.whole()
        assert (running.text, ran) == ("r", 1)


async def test_an_approval_is_asked_for_where_a_face_of_another_node_waits_for_it() -> None:
    @tool
    async def careful() -> str:
        """Asks."""
        return "done"

    steps = [ToolCall("careful", {}, "c1")], [say("well")]
    async with two(*steps, tools=[careful], confirm_before=["careful"]) as (a, b, _):
        key = {"Idempotency-Key": "k"}
        body = {"message": "1", "stream": False}
        first = await a.http.post("/api/v1/schemas/test/chat", json=body, headers=key)
        again = await b.http.post("/api/v1/schemas/test/chat", json=body, headers=key)
        assert (first.status_code, again.status_code) == (202, 202)
        assert again.json()["questions"] == first.json()["questions"]
        at = f"/api/v1/sessions/{first.json()['session_id']}/respond"
        answer = {"confirmation_id": first.json()["questions"][0]["id"], "answers": ["reject"], "reason": "no"}
        assert (await b.http.post(at, json=answer)).json()["approved"] is False
        ended = await b.http.post("/api/v1/schemas/test/chat", json=body, headers=key)
        assert ended.status_code in (200, 202)


@pytest.mark.parametrize("way", ["cancel", "delete", "interrupt"])
async def test_a_turn_that_waits_for_an_answer_is_ended_at_another_node(way: str) -> None:
    async with asking([ToolCall("where_am_i", {}, "c1")], [say("next")]) as (a, b, vendor):
        running = Stream(a.http, "1", client_tools=[WHERE])
        await running.until("client_tool_call")
        at = f"/api/v1/sessions/{running.session}"
        if way == "interrupt":
            other = Stream(b.http, "2", session_id=running.session, on_busy="interrupt")
            await other.whole()
            assert other.text == "next"
        elif way == "cancel":
            assert (await b.http.post(f"{at}/cancel")).status_code == 204
        else:
            assert (await b.http.delete(at)).status_code == 204
        await running.task
        assert data(running.events[-1])["status"] == "cancelled"
        late = await b.http.post(f"{at}/respond", json={"call_id": "c1", "result": "here"})
        assert late.status_code == (404 if way == "delete" else 410), late.text
        assert not a.engine.runner.turns
    assert len(vendor.requests) == (2 if way == "interrupt" else 1)


async def test_an_answer_that_was_taken_as_its_node_was_lost_counts_once() -> None:
    ran = 0

    @tool
    async def careful() -> str:
        """Asks."""
        nonlocal ran
        ran += 1
        return "done"

    steps = [ToolCall("careful", {}, "c1")], [say("well")]
    async with two(*steps, tools=[careful], confirm_before=["careful"]) as (a, b, vendor):
        running = Stream(a.http, "1")
        asked = data(await running.until("confirmation"))
        a.engine.signals.stop()  # it hears no more, and is ended before it looks by itself
        at = f"/api/v1/sessions/{running.session}"
        answer = {"confirmation_id": asked["confirmation_id"], "answers": ["approve"]}
        assert (await b.http.post(f"{at}/respond", json=answer)).status_code == 200
        await _take_over(b, a)
        await b.engine.handover.adopt()
        turn = f"{at}/turns/{running.headers['x-turn-id']}"

        async def completed() -> bool:
            return bool((await b.http.get(turn)).json()["status"] == "completed")

        await eventually(completed)
        assert (await b.http.get(turn)).json()["message"] == "well"
        assert ran == 1
        assert (await b.http.post(f"{at}/respond", json=answer)).status_code == 200
    assert len(vendor.requests) == 2


async def test_results_of_a_clients_tools_in_other_protocols_are_taken_at_any_node() -> None:
    async with asking([ToolCall("where_am_i", {}, "c1")], [say("there")]) as (a, b, vendor):
        client = AgUi(a.http)
        tools = [{"name": "where_am_i", "description": "The place", "parameters": {"type": "object"}}]
        await client.run("Hi", tools=tools)
        (call,) = client.thread.pending()
        client.add(role="tool", toolCallId=call, content="Zürich")
        client.http = b.http
        await client.run(tools=tools)
        assert client.said() == ["there"]
        assert vendor.requests[1].messages[-1].content == "Zürich"
    assert len(vendor.requests) == 2
