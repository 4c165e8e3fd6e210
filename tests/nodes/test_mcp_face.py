"""The MCP server at one node, about calls that another one runs."""

import asyncio
from typing import Any

import anyio
import pytest

from bytebrew.contract.messages import ToolCall
from bytebrew.testing import ScriptedProvider
from tests.nodes.chats import say, two
from tests.nodes.engines import Node
from tests.plugins.test_mcp_server import ELICITS, JUNE, MODERN, NOVEMBER, STREAM, TASKS, McpClient, messages, wipe

pytestmark = pytest.mark.postgresql
GO = {"name": "test", "arguments": {"message": "go"}}


def at(node: Node, client: McpClient) -> McpClient:
    """The same client behind a balancer, which sends its next request to another node."""
    other = McpClient(node.http, client.revision, client.capabilities)
    other.headers, other._id = client.headers, client._id
    return other


async def _runs(vendor: ScriptedProvider, count: int = 1) -> None:
    with anyio.fail_after(10):
        while len(vendor.requests) < count:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("revision", [NOVEMBER, JUNE])
async def test_a_call_is_cancelled_by_a_notification_that_reaches_another_node(revision: str) -> None:
    async with two([say("a"), asyncio.Event()]) as (a, b, vendor):
        client = McpClient(a.http, revision)
        await client.begin()
        async with client.streamed("tools/call", GO) as stream:
            await _runs(vendor)
            stranger = McpClient(b.http, revision)
            await stranger.begin()
            assert (await stranger.notify("notifications/cancelled", requestId=client._id)).status_code == 202
            assert vendor.cancelled == 0
            cancelled = await at(b, client).notify("notifications/cancelled", requestId=client._id)
            assert cancelled.status_code == 202
            with anyio.fail_after(10):
                result = [message async for _, message in stream][-1]["result"]
        assert (result["isError"], result["structuredContent"]["status"]) == (True, "cancelled")
        assert vendor.cancelled == 1


async def test_a_call_whose_client_leaves_the_node_that_waits_for_it_is_cancelled_where_it_runs() -> None:
    async with two([say("a"), asyncio.Event()]) as (a, b, vendor):
        client = McpClient(a.http, MODERN)
        async with client.streamed("tools/call", GO) as stream:
            await _runs(vendor)
            session = await _session(b)
            turn = await _turn(b, session)
            again = {"name": "test", "arguments": {"message": "", "turn_id": turn}}
            request = at(b, client).request("tools/call", again, accept=STREAM)
            async with b.http.stream("POST", "/mcp", **request) as followed:
                assert followed.headers["x-turn-id"] == turn
                await anext(followed.aiter_bytes())
            with anyio.fail_after(10):
                result = [message async for _, message in stream][-1]["result"]
        assert result["structuredContent"]["status"] == "cancelled"
        assert vendor.cancelled == 1


async def _session(node: Node) -> str:
    return str((await node.http.get("/api/v1/sessions")).json()["data"][0]["id"])


async def _turn(node: Node, session: str) -> str:
    sql = "select id from turns where session_id = ?"
    return str((await node.engine.db.read(lambda conn: conn.execute(sql, (session,)).fetchone()))[0])


@pytest.mark.parametrize("revision", [NOVEMBER, JUNE])
async def test_a_stream_that_broke_off_is_resumed_at_another_node_with_the_same_bytes(revision: str) -> None:
    gate = asyncio.Event()
    parts = [say(f"part {n} " * 30) for n in range(3)]
    async with two([*parts, gate, *parts]) as (a, b, vendor):
        client = McpClient(a.http, revision)
        await client.begin()
        params = {**GO, "_meta": {"progressToken": 7}}
        async with client.streamed("tools/call", params) as stream:
            seen = [await anext(stream) for _ in range(2)]
            last = next(id for id, _ in reversed(seen) if id)

            async def rest() -> list[Any]:
                async with b.http.stream("GET", "/mcp", headers={"last-event-id": last, **client.headers}) as response:
                    return [one async for one in messages(response)]

            resumed = asyncio.create_task(rest())
            await asyncio.sleep(0.1)
            gate.set()
            seen += [one async for one in stream]
        after = next(n for n, (id, _) in enumerate(seen) if id == last) + 1
        assert await resumed == seen[after:]
        assert seen[-1][1]["result"]["structuredContent"]["status"] == "completed"
    assert len(vendor.requests) == 1


async def test_a_task_is_read_and_cancelled_at_another_node() -> None:
    async with two([say("a"), asyncio.Event()]) as (a, b, vendor):
        client = McpClient(a.http, MODERN, TASKS)
        task = await client.call("go")
        assert task["status"] == "working"
        named, elsewhere = {"taskId": task["taskId"]}, at(b, client)
        assert (await elsewhere.result("tasks/get", named))["status"] == "working"
        await elsewhere.result("tasks/cancel", named)
        assert (await elsewhere.result("tasks/get", named))["status"] == "cancelled"
        assert (await client.result("tasks/get", named))["status"] == "cancelled"
        assert vendor.cancelled == 1


async def test_the_result_of_a_task_is_waited_for_at_another_node() -> None:
    gate = asyncio.Event()
    async with two([say("one "), gate, say("two")]) as (a, b, vendor):
        client = McpClient(a.http, NOVEMBER)
        await client.begin()
        task = (await client.call("go", task={"ttl": 60_000}))["task"]
        async with at(b, client).streamed("tasks/result", {"taskId": task["taskId"]}) as stream:
            gate.set()
            result = [message async for _, message in stream][-1]["result"]
        assert result["content"] == [{"type": "text", "text": "one two"}]
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("revision", [MODERN, NOVEMBER])
async def test_what_a_call_asks_is_answered_at_another_node(revision: str) -> None:
    steps = [ToolCall("wipe", {"disk": "sda"}, "c1")], [say("Done")]
    async with two(*steps, tools=[wipe], confirm_before=["wipe"]) as (a, b, vendor):
        client = McpClient(a.http, revision, ELICITS)
        await client.begin()
        accepted = {"action": "accept", "content": {"decision": "approve"}}
        if revision == MODERN:
            asked = (await client.post("tools/call", GO)).json()["result"]
            (question,) = asked["inputRequests"]
            state = {"requestState": asked["requestState"], "inputResponses": {question: accepted}}
            result = await at(b, client).result("tools/call", {**GO, **state})
        else:
            async with client.streamed("tools/call", GO) as stream:
                while (question := (await anext(stream))[1]).get("method") != "elicitation/create":
                    pass
                body = {"jsonrpc": "2.0", "id": question["id"], "result": accepted}
                headers = {"mcp-protocol-version": revision, **client.headers}
                assert (await b.http.post("/mcp", json=body, headers=headers)).status_code == 202
                result = [message async for _, message in stream][-1]["result"]
        assert result["content"] == [{"type": "text", "text": "Done"}]
        assert vendor.requests[1].messages[-1].content == "wiped sda"


async def test_a_second_call_in_a_conversation_waits_for_the_one_that_another_node_runs() -> None:
    gate = asyncio.Event()
    async with two([say("one"), gate], [say("two")]) as (a, b, vendor):
        client = McpClient(a.http, MODERN)
        first = asyncio.create_task(client.call("1"))
        await _runs(vendor)
        session = await _session(b)
        arguments = {"message": "2", "session_id": session}
        second = asyncio.create_task(
            McpClient(b.http, MODERN).result("tools/call", {"name": "test", "arguments": arguments})
        )
        await asyncio.sleep(0.2)
        assert len(vendor.requests) == 1
        gate.set()
        assert (await first)["structuredContent"]["message"] == "one"
        assert (await second)["structuredContent"]["message"] == "two"
        assert [one.content for one in vendor.requests[1].messages] == ["1", "one", "2"]
