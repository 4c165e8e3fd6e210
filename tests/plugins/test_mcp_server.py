"""The MCP server over a real socket: each schema a tool, in three revisions, with questions, tasks and resources."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest
from bytebrew_mcp_server.calls import RpcRequest, read_cursor
from bytebrew_mcp_server.messages import FACE, Message
from bytebrew_mcp_server.outcome import verdict
from bytebrew_mcp_server.revisions import SUPPORTED
from hypothesis import given
from hypothesis import strategies as st

from bytebrew import MessageDelta, ResponseFormat, ToolCall, tool
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, events_of, plugin, providing, scripted_schema, served_engine
from tests.documents import create, put, settled
from tests.tables import token_with

MODERN, NOVEMBER, JUNE = SUPPORTED
every_revision = pytest.mark.parametrize("revision", SUPPORTED)
VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
TASKS: dict[str, Any] = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
ELICITS: dict[str, Any] = {"elicitation": {}}
STREAM = "application/json, text/event-stream"


class McpClient:
    """Speaks one revision with the endpoint, as the specification has it; `capabilities` are what it can do."""

    def __init__(self, http: httpx.AsyncClient, revision: str, capabilities: Mapping[str, Any] | None = None) -> None:
        self.http, self.revision, self.capabilities = http, revision, capabilities or {}
        self.headers: dict[str, str] = {}
        self._id = 0

    async def begin(self) -> dict[str, Any]:
        """What the server says of itself."""
        if self.revision == MODERN:
            return await self.result("server/discover")
        params = {"protocolVersion": self.revision, "capabilities": self.capabilities, "clientInfo": {"name": "t"}}
        response = await self.post("initialize", params, **{"mcp-protocol-version": ""})
        self.headers["mcp-session-id"] = response.headers["mcp-session-id"]
        assert (await self.notify("notifications/initialized")).status_code == 202
        result: dict[str, Any] = response.json()["result"]
        assert result["protocolVersion"] == self.revision
        return result

    def request(self, method: str, params: Mapping[str, Any] | None = None, **headers: str) -> dict[str, Any]:
        """The arguments of `http.post` and `http.stream` for a request."""
        self._id += 1
        body: dict[str, Any] = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": {**(params or {})}}
        sent = {"accept": "application/json", "mcp-protocol-version": self.revision, **self.headers}
        if self.revision == MODERN:
            meta = {VERSION: MODERN, CAPABILITIES: self.capabilities, **body["params"].get("_meta", {})}
            body["params"]["_meta"] = meta
            named = {"tools/call": "name", "resources/read": "uri"}.get(method, "taskId")
            sent["mcp-method"] = method
            if named in body["params"]:
                sent["mcp-name"] = body["params"][named]
        return {"json": body, "headers": {name: value for name, value in (sent | headers).items() if value}}

    async def post(self, method: str, params: Mapping[str, Any] | None = None, **headers: str) -> httpx.Response:
        """The response to a request."""
        return await self.http.post("/mcp", **self.request(method, params, **headers))

    async def notify(self, method: str, **params: Any) -> httpx.Response:
        """The response to a notification."""
        headers = {"mcp-protocol-version": self.revision, **self.headers}
        body = {"jsonrpc": "2.0", "method": method, "params": params}
        return await self.http.post("/mcp", json=body, headers=headers)

    async def result(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The result of a request."""
        response = await self.post(method, params)
        assert response.status_code == 200, response.text
        body = response.json()
        assert body["id"] == self._id
        result: dict[str, Any] = body["result"]
        if self.revision == MODERN:
            assert result.pop("resultType") in ("complete", "task", "input_required")
            assert result["_meta"].pop("io.modelcontextprotocol/serverInfo")["name"] == "bytebrew"
        return result

    async def error(self, method: str, params: Mapping[str, Any] | None = None, **headers: str) -> tuple[int, int]:
        """The HTTP status and the code of a request that fails."""
        response = await self.post(method, params, **headers)
        assert response.json()["id"] == self._id
        return response.status_code, response.json()["error"]["code"]

    async def call(self, message: str, name: str = "test", **more: Any) -> dict[str, Any]:
        """The result of a tool call."""
        return await self.result("tools/call", {"name": name, "arguments": {"message": message}, **more})

    @asynccontextmanager
    async def streamed(self, method: str, params: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[Any]]:
        """The messages of a streamed response, each with the id of its event."""
        request = self.request(method, params, accept=STREAM)
        async with self.http.stream("POST", "/mcp", **request) as response:
            assert response.headers["content-type"] == "text/event-stream"
            yield messages(response)


async def messages(response: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    async for event in events_of(response):
        yield event.id, json.loads(event.data or "{}")


@tool
async def wipe(disk: str) -> str:
    """Wipes a disk."""
    return f"wiped {disk}"


GUARDED: dict[str, Any] = {"tools": ("wipe",), "confirm_before": ("wipe",)}


@asynccontextmanager
async def serving(
    *answers: Any, data: Path | None = None, settings: Mapping[str, str] | None = None, **agent: Any
) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine with the schema `test`, whose agent answers so."""
    tools = plugin("tools", register_tools=lambda register: register(wipe))
    scripted = providing(ScriptedProvider(*answers))
    async with served_engine(scripted, tools, data=data, settings=settings) as (engine, client):
        await scripted_schema(engine, **agent)
        yield engine, client


async def speaking(engine: Engine, client: httpx.AsyncClient, *scopes: str, **fields: Any) -> httpx.AsyncClient:
    """A client with another token."""
    made = await token_with(engine, *scopes, **fields)
    return httpx.AsyncClient(base_url=client.base_url, headers={"authorization": f"Bearer {made.token}"}, timeout=30)


async def approve(http: httpx.AsyncClient, session_id: str, id: str) -> None:
    """Approves a call as a person who uses the engine's own API."""
    body = {"confirmation_id": id, "answers": ["approve"]}
    response = await http.post(f"/api/v1/sessions/{session_id}/respond", json=body)
    assert response.status_code == 200, response.text


@every_revision
async def test_a_conversation_with_a_schema_as_a_tool(revision: str) -> None:
    async with serving([MessageDelta(content="Hello")], [MessageDelta(content="Again")]) as (_, http):
        client = McpClient(http, revision)
        said = await client.begin()
        assert "tools" in said["capabilities"]
        listed = (await client.result("tools/list"))["tools"]
        (mine,) = [one for one in listed if one["name"] == "test"]
        assert mine["inputSchema"]["required"] == ["message"]
        assert [one["name"] for one in listed] == sorted(one["name"] for one in listed)
        first = await client.call("hi")
        assert first["content"] == [{"type": "text", "text": "Hello"}]
        assert first["isError"] is False
        session = first["structuredContent"]["session_id"]
        assert first["structuredContent"]["status"] == "completed"
        assert first["_meta"]["bytebrew/session_id"] == session
        arguments = {"message": "and now?", "session_id": session}
        second = await client.result("tools/call", {"name": "test", "arguments": arguments})
        assert second["structuredContent"]["session_id"] == session
        kept = (await http.get(f"/api/v1/sessions/{session}")).json()["messages"]
        assert [one["content"] for one in kept] == ["hi", "Hello", "and now?", "Again"]


@every_revision
async def test_a_structured_answer_is_the_structured_content(revision: str) -> None:
    schema = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}
    format = ResponseFormat(type="json_schema", schema=schema)
    async with serving([MessageDelta(content='{"city": "Rome"}')], response_format=format) as (_, http):
        client = McpClient(http, revision)
        await client.begin()
        (mine,) = [one for one in (await client.result("tools/list"))["tools"] if one["name"] == "test"]
        assert mine["outputSchema"] == schema
        result = await client.call("where?")
        assert result["structuredContent"] == {"city": "Rome"}
        assert json.loads(result["content"][0]["text"]) == {"city": "Rome"}
        assert result["_meta"]["bytebrew/session_id"]


async def test_an_answer_that_is_no_object_is_structured_content_in_the_newest_revision_alone() -> None:
    format = ResponseFormat(type="json_schema", schema={"type": "array"})
    answer = [MessageDelta(content="[1]")]
    async with serving(answer, answer, response_format=format) as (_, http):
        for revision, has in ((MODERN, True), (NOVEMBER, False)):
            client = McpClient(http, revision)
            (mine,) = [one for one in (await client.result("tools/list"))["tools"] if one["name"] == "test"]
            result = await client.call("numbers")
            assert ("outputSchema" in mine, result.get("structuredContent")) == (has, [1] if has else None)


@every_revision
async def test_progress_comes_while_a_call_runs_and_rises(revision: str) -> None:
    parts = [MessageDelta(content="word " * 20) for _ in range(9)]
    async with serving([ToolCall("wipe", {"disk": "a"})], parts, tools=("wipe",)) as (_, http):
        client = McpClient(http, revision)
        await client.begin()
        params = {"name": "test", "arguments": {"message": "go"}, "_meta": {"progressToken": "p1"}}
        async with client.streamed("tools/call", params) as stream:
            got = [message async for _, message in stream]
    progress = [one["params"] for one in got if one.get("method") == "notifications/progress"]
    assert {one["progressToken"] for one in progress} == {"p1"}
    assert [one["message"] for one in progress[:2]] == ["Calls wipe", "wipe has ended"]
    assert "".join(one["message"] for one in progress[2:]) == "word " * 160, "the rest is too short to report"
    values = [one["progress"] for one in progress]
    assert values == sorted(set(values))
    assert got[-1]["result"]["content"][0]["text"] == "word " * 180
    async with serving([MessageDelta(content="word " * 100)]) as (_, http):
        client = McpClient(http, revision)
        async with client.streamed("tools/call", {"name": "test", "arguments": {"message": "go"}}) as stream:
            assert [message async for _, message in stream if message][-1]["result"]["isError"] is False


@pytest.mark.parametrize("approves", [True, False])
async def test_a_question_is_an_input_request_that_the_same_call_answers(approves: bool) -> None:
    async with serving([ToolCall("wipe", {"disk": "a"})], [MessageDelta(content="Done")], **GUARDED) as (_, http):
        client = McpClient(http, MODERN, ELICITS)
        params = {"name": "test", "arguments": {"message": "go"}}
        first = (await client.post("tools/call", params)).json()["result"]
        assert first["resultType"] == "input_required"
        ((key, asked),) = first["inputRequests"].items()
        assert asked["method"] == "elicitation/create"
        assert '{"disk":"a"}' in asked["params"]["message"]
        again = await client.post("tools/call", params | {"requestState": first["requestState"]})
        assert again.json()["result"]["inputRequests"].keys() == {key}
        decision = {"decision": "approve" if approves else "reject", "reason": "too risky"}
        answer = {key: {"action": "accept", "content": decision}, "unknown": {"action": "accept"}}
        state = {"requestState": first["requestState"], "inputResponses": answer}
        for wrong in ("nothing", f"{first['requestState']}x", "", 5):
            assert await client.error("tools/call", params | state | {"requestState": wrong}) == (400, -32602)
        result = await client.result("tools/call", params | state)
        assert result["content"][0]["text"] == "Done"
        session = result["structuredContent"]["session_id"]
        events = (await http.get(f"/api/v1/sessions/{session}/events?follow=false")).json()["data"]
        (ended,) = [one["data"] for one in events if one["event"] == "tool_result"]
        assert (ended["output"] == "wiped a", "too risky" in ended["output"]) == (approves, not approves)


@pytest.mark.parametrize("revision", [NOVEMBER, JUNE])
async def test_before_the_newest_revision_a_question_is_a_request_of_the_server_within_the_stream(
    revision: str,
) -> None:
    async with serving([ToolCall("wipe", {"disk": "a"})], [MessageDelta(content="Done")], **GUARDED) as (_, http):
        client = McpClient(http, revision, {"elicitation": {"form": {}}})
        await client.begin()
        async with client.streamed("tools/call", {"name": "test", "arguments": {"message": "go"}}) as stream:
            asked: dict[str, Any] = {}
            async for _, message in stream:
                if message.get("method") == "elicitation/create":
                    asked = message
                    answer = {"action": "accept", "content": {"decision": "approve"}}
                    body = {"jsonrpc": "2.0", "id": message["id"], "result": answer}
                    taken = await http.post("/mcp", json=body, headers=client.headers)
                    assert taken.status_code == 202
                if "result" in message:
                    break
            assert asked["params"]["requestedSchema"]["required"] == ["decision"]
            assert message["result"]["content"][0]["text"] == "Done"


@every_revision
async def test_a_client_that_asks_nobody_reads_what_waits_and_comes_back_for_the_answer(revision: str) -> None:
    async with serving([ToolCall("wipe", {"disk": "a"})], [MessageDelta(content="Done")], **GUARDED) as (_, http):
        client = McpClient(http, revision, {"elicitation": {"url": {}}})
        await client.begin()
        waiting = await client.call("go")
        found = waiting["structuredContent"]
        assert found["status"] == "needs_input"
        assert f"/api/v1/sessions/{found['session_id']}/respond" in waiting["content"][0]["text"]
        arguments = {"message": "", "turn_id": found["turn_id"]}
        params = {"name": "test", "arguments": arguments}
        assert (await client.result("tools/call", params))["structuredContent"] == found
        (asked,) = (await http.get("/api/v1/approvals")).json()["data"]
        await approve(http, found["session_id"], asked["id"])
        assert (await client.result("tools/call", params))["content"][0]["text"] == "Done"


async def test_a_call_that_takes_long_is_a_task_for_a_client_that_takes_tasks() -> None:
    gate = asyncio.Event()
    answers = ([MessageDelta(content="quick")], [MessageDelta(content="slow "), gate, MessageDelta(content="end")])
    async with serving(*answers) as (_, http):
        client = McpClient(http, MODERN, TASKS)
        assert (await client.begin())["capabilities"]["extensions"] == TASKS["extensions"]
        assert (await client.call("at once"))["content"][0]["text"] == "quick"
        task = await client.call("take your time")
        assert (task["status"], task["ttlMs"]) == ("working", None)
        assert task.keys() & {"result", "error", "inputRequests", "task"} == set()
        named = {"taskId": task["taskId"]}
        assert (await client.result("tasks/get", named))["status"] == "working"
        gate.set()
        while (now := await client.result("tasks/get", named))["status"] == "working":
            await anyio.sleep(0.02)
        assert now["status"] == "completed"
        assert now["result"]["content"][0]["text"] == "slow end"
        assert now == await client.result("tasks/get", named)
        assert await client.result("tasks/cancel", named) == {"_meta": {}}
        assert (await client.result("tasks/get", named))["status"] == "completed"
        plain = McpClient(http, MODERN)
        assert await plain.error("tasks/get", named) == (400, -32021)
        assert await client.error("tasks/get", {"taskId": "nothing"}) == (400, -32602)
        assert await client.error("tasks/list") == (404, -32601)


async def test_a_task_asks_for_input_and_goes_on_with_it() -> None:
    async with serving([ToolCall("wipe", {"disk": "a"})], [MessageDelta(content="Done")], **GUARDED) as (_, http):
        client, deaf = McpClient(http, MODERN, {**TASKS, **ELICITS}), McpClient(http, MODERN, TASKS)
        first = await client.call("go")
        assert (first["status"], "inputRequests" in first) == ("input_required", False)
        named = {"taskId": first["taskId"]}
        asked = await client.result("tasks/get", named)
        assert asked["status"] == "input_required"
        assert asked == await client.result("tasks/get", named) | {"lastUpdatedAt": asked["lastUpdatedAt"]}
        said = await deaf.result("tasks/get", named)
        assert (said["status"], "inputRequests" in said) == ("working", False)
        assert "/api/v1/approvals" in said["statusMessage"]
        (key,) = asked["inputRequests"]
        answers = {key: {"action": "accept", "content": {"decision": "approve"}}, "none": {"action": "decline"}}
        await client.result("tasks/update", named | {"inputResponses": answers})
        while (now := await client.result("tasks/get", named))["status"] != "completed":
            await anyio.sleep(0.02)
        assert now["result"]["content"][0]["text"] == "Done"
        await client.result("tasks/update", named | {"inputResponses": answers})


async def test_a_cancelled_task_says_so() -> None:
    async with serving([MessageDelta(content="a"), asyncio.Event()]) as (_, http):
        client = McpClient(http, MODERN, TASKS)
        named = {"taskId": (await client.call("go"))["taskId"]}
        await client.result("tasks/cancel", named)
        now = await client.result("tasks/get", named)
        assert (now["status"], "result" in now) == ("cancelled", False)


async def test_the_tasks_of_2025_11_25_have_their_result_in_a_request_of_its_own() -> None:
    gate = asyncio.Event()
    async with serving([gate, MessageDelta(content="end")], [asyncio.Event()]) as (_, http):
        client = McpClient(http, NOVEMBER)
        said = await client.begin()
        assert said["capabilities"]["tasks"] == {"cancel": {}, "requests": {"tools": {"call": {}}}}
        assert all(
            one["execution"] == {"taskSupport": "optional"} for one in (await client.result("tools/list"))["tools"]
        )
        task = (await client.call("go", task={"ttl": 60_000}))["task"]
        named = {"taskId": task["taskId"]}
        assert (task["status"], task["ttl"]) == ("working", None)
        async with client.streamed("tasks/result", named) as stream:
            gate.set()
            result = [message async for _, message in stream][-1]["result"]
        assert result["content"][0]["text"] == "end"
        assert result["_meta"]["io.modelcontextprotocol/related-task"] == named
        ended = await client.result("tasks/get", named)
        assert (ended["status"], "result" in ended) == ("completed", False)
        assert await client.error("tasks/cancel", named) == (200, -32602)
        other = {"taskId": (await client.call("go", task={}))["task"]["taskId"]}
        assert (await client.result("tasks/cancel", other))["status"] == "cancelled"


async def test_closing_a_stream_cancels_in_the_newest_revision_and_not_before() -> None:
    gate = asyncio.Event()
    async with serving([MessageDelta(content="a"), gate], [MessageDelta(content="a"), gate]) as (engine, http):
        for revision, status in ((MODERN, "cancelled"), (NOVEMBER, "active")):
            client = McpClient(http, revision)
            request = client.request("tools/call", {"name": "test", "arguments": {"message": "go"}}, accept=STREAM)
            async with http.stream("POST", "/mcp", **request) as response:
                session = response.headers["x-session-id"]
                await anext(response.aiter_bytes())
                await anyio.sleep(0.1)
            await anyio.sleep(0.3)
            assert (await http.get(f"/api/v1/sessions/{session}")).json()["status"] == status
        gate.set()
        while engine.runner.turns:
            await anyio.sleep(0.02)
        assert (await http.get(f"/api/v1/sessions/{session}")).json()["status"] == "completed"


@pytest.mark.parametrize("revision", [NOVEMBER, JUNE])
async def test_before_the_newest_revision_a_notification_cancels_a_request_of_its_session(revision: str) -> None:
    async with serving([MessageDelta(content="a"), asyncio.Event()]) as (_, http):
        client, other = McpClient(http, revision), McpClient(http, revision)
        await client.begin()
        await other.begin()
        async with client.streamed("tools/call", {"name": "test", "arguments": {"message": "go"}}) as stream:
            await anyio.sleep(0.1)
            assert (await other.notify("notifications/cancelled", requestId=client._id)).status_code == 202
            assert (await client.notify("notifications/cancelled", requestId=str(client._id))).status_code == 202
            await anyio.sleep(0.1)
            assert (await client.notify("notifications/cancelled", requestId=client._id)).status_code == 202
            result = [message async for _, message in stream][-1]["result"]
        assert (result["isError"], result["structuredContent"]["status"]) == (True, "cancelled")


@pytest.mark.parametrize("revision", [NOVEMBER, JUNE])
async def test_before_the_newest_revision_a_broken_stream_is_resumed_byte_for_byte(revision: str) -> None:
    parts = [MessageDelta(content=f"part {n} " * 30) for n in range(6)]
    async with serving(parts) as (_, http):
        client = McpClient(http, revision)
        await client.begin()
        params = {"name": "test", "arguments": {"message": "go"}, "_meta": {"progressToken": 7}}
        request = client.request("tools/call", params, accept=STREAM)
        whole = (await http.post("/mcp", **request)).text
        frames = whole.removeprefix(": ok\n\n").split("\n\n")[:-1]
        assert len(frames) > 5
        for n, frame in enumerate(frames[:-1]):
            last = frame.partition("id: ")[2].partition("\n")[0]
            rest = await http.get("/mcp", headers={"last-event-id": last, **client.headers})
            assert rest.text.removeprefix(": ok\n\n") == "".join(f"{one}\n\n" for one in frames[n + 1 :])
        other = await http.get("/mcp", headers={"last-event-id": last.replace("turn_", "turn_x"), **client.headers})
        assert (other.status_code, other.json()["error"]["code"]) == (404, 404)


async def test_there_is_no_other_stream_to_get_and_no_session_to_delete() -> None:
    async with serving() as (_, http):
        for last in ("", "nonsense", "a.b.c", "turn_1.e30.1"):
            gone = await http.get("/mcp", headers={"last-event-id": last} if last else {})
            assert gone.status_code == 405
            assert gone.json()["error"]["code"] == 405
        assert (await http.get("/mcp")).headers["allow"] == "POST"
        assert (await http.delete("/mcp")).status_code == 405


async def test_headers_and_body_of_the_newest_revision_must_agree() -> None:
    async with serving() as (_, http):
        client = McpClient(http, MODERN)
        listing = {"name": "test", "arguments": {"message": ""}}
        assert await client.error("tools/list", None, **{"mcp-protocol-version": ""}) == (400, -32020)
        assert await client.error("tools/list", None, **{"mcp-protocol-version": NOVEMBER}) == (400, -32020)
        assert await client.error("tools/list", None, **{"mcp-method": ""}) == (400, -32020)
        assert await client.error("tools/list", None, **{"mcp-method": "tools/call"}) == (400, -32020)
        assert await client.error("tools/call", listing, **{"mcp-name": "other"}) == (400, -32020)
        assert await client.error("tools/call", listing, **{"mcp-name": "=?base64?!?="}) == (400, -32020)
        encoded = f"=?base64?{base64.b64encode(b'test').decode()}?="
        assert (await client.post("tools/call", listing, **{"mcp-name": encoded})).status_code == 200
        for meta in ({VERSION: None}, {CAPABILITIES: None}):
            assert await client.error("tools/list", {"_meta": meta}) == (400, -32602)
        unknown = await client.post(
            "tools/list", {"_meta": {VERSION: "2099-01-01"}}, **{"mcp-protocol-version": "2099-01-01"}
        )
        assert unknown.json()["error"]["data"] == {"supported": list(SUPPORTED), "requested": "2099-01-01"}
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, -32022)
        assert await McpClient(http, "2024-11-05").error("tools/list") == (400, -32022)
        assert await McpClient(http, NOVEMBER).error("tools/list", None, **{"mcp-method": "tasks/get"}) == (400, -32020)
        for method in ("initialize", "ping", "prompts/list", "no/such"):
            assert await client.error(method) == (404, -32601)
        for method in ("server/discover", "subscriptions/listen", "prompts/list", "tasks/update"):
            assert await McpClient(http, NOVEMBER).error(method) == (200, -32601)
        assert await McpClient(http, NOVEMBER).result("ping") == {}


async def test_an_older_revision_is_offered_a_known_one() -> None:
    async with serving() as (_, http):
        for wanted in ("2024-11-05", "2026-07-28", 5, None):
            body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": wanted}}
            assert (await http.post("/mcp", json=body)).json()["result"]["protocolVersion"] == NOVEMBER


async def test_a_subscription_is_acknowledged_and_ends_as_nothing_reports_changes() -> None:
    async with serving() as (_, http):
        client = McpClient(http, MODERN)
        async with client.streamed("subscriptions/listen", {"notifications": {"toolsListChanged": True}}) as stream:
            first, last = [message async for _, message in stream]
        assert first["method"] == "notifications/subscriptions/acknowledged"
        assert first["params"]["notifications"] == {}
        assert first["params"]["_meta"] == last["result"]["_meta"]
        assert last["result"]["resultType"] == "complete"


@every_revision
async def test_faults_in_the_arguments_are_for_the_model_to_mend(revision: str) -> None:
    async with serving() as (_, http):
        client = McpClient(http, revision)
        await client.begin()
        for arguments in (
            {},
            {"message": 5},
            {"message": "hi", "session_id": "nothing"},
            {"message": "", "turn_id": "x"},
        ):
            result = await client.result("tools/call", {"name": "test", "arguments": arguments})
            assert result["isError"] is True, arguments
            assert "structuredContent" not in result
        attached = {"message": "hi", "attachments": [{"media_type": "image/png", "data": "?"}]}
        assert (await client.result("tools/call", {"name": "test", "arguments": attached}))["isError"] is True
        status = 400 if revision == MODERN else 200
        assert await client.error("tools/call", {"name": "nothing"}) == (status, -32602)
        nameless = (400, -32020) if revision == MODERN else (200, -32602)
        assert await client.error("tools/call", {}) == nameless
        assert await client.error("tools/call", {"name": "test", "arguments": []}) == (status, -32602)


@every_revision
async def test_a_turn_that_fails_is_an_error_of_the_tool(revision: str) -> None:
    async with serving([RuntimeError("boom")]) as (_, http):
        result = await McpClient(http, revision).call("go")
        assert (result["isError"], result["structuredContent"]["status"]) == (True, "failed")


async def test_a_token_sees_its_schemas_and_its_own_turns_alone() -> None:
    async with serving([MessageDelta(content="mine")]) as (engine, http):
        done = (await McpClient(http, MODERN).call("go"))["structuredContent"]
        bound = await speaking(engine, http, "chat", schemas=["demo"], name="bound")
        other = await speaking(engine, http, "chat", name="other")
        async with bound, other:
            client = McpClient(bound, MODERN, TASKS)
            assert [one["name"] for one in (await client.result("tools/list"))["tools"]] == ["demo"]
            assert await client.error("tools/call", {"name": "test", "arguments": {"message": ""}}) == (400, -32602)
            for token in (bound, other):
                client = McpClient(token, MODERN, TASKS)
                assert await client.error("tasks/get", {"taskId": done["turn_id"]}) == (400, -32602)
            arguments = {"message": "", "turn_id": done["turn_id"]}
            params = {"name": "test", "arguments": arguments}
            assert (await McpClient(other, MODERN).result("tools/call", params))["isError"] is True
            arguments = {"message": "hi", "session_id": done["session_id"]}
            params = {"name": "test", "arguments": arguments}
            assert (await McpClient(other, MODERN).result("tools/call", params))["isError"] is True


async def test_the_public_view_has_answers_without_tools_and_cannot_approve() -> None:
    async with serving([ToolCall("wipe", {"disk": "s3cr3t"})], [MessageDelta(content="Done")], **GUARDED) as (
        engine,
        http,
    ):
        visitor = await speaking(engine, http, "chat", view="public", name="page")
        async with visitor:
            client = McpClient(visitor, NOVEMBER, ELICITS)
            await client.begin()
            params = {"name": "test", "arguments": {"message": "go"}, "_meta": {"progressToken": 1}}
            async with client.streamed("tools/call", params) as stream:
                shown = [message async for _, message in stream]
            assert "wipe" not in json.dumps(shown)
            assert "s3cr3t" not in json.dumps(shown)
            found = shown[-1]["result"]["structuredContent"]
            assert found["status"] == "needs_input"
            (asked,) = (await http.get("/api/v1/approvals")).json()["data"]
            body = {"jsonrpc": "2.0", "id": f"{found['session_id']}/{asked['id']}"}
            approval = {"action": "accept", "content": {"decision": "approve"}}
            refused = await visitor.post("/mcp", json={**body, "result": approval}, headers=client.headers)
            assert refused.status_code == 403
            await approve(http, found["session_id"], asked["id"])
            arguments = {"message": "", "turn_id": found["turn_id"]}
            result = await client.result("tools/call", {"name": "test", "arguments": arguments})
            assert result["content"] == [{"type": "text", "text": "Done"}]


async def test_resources_are_for_those_who_may_read_knowledge_bases() -> None:
    async with serving() as (engine, http):
        await create(http, "hand book")
        await put(http, "rules.md", "# Refunds\n\nMoney comes back in 14 days.", "hand book")
        await settled(http, "hand book")
        reader = await speaking(engine, http, "chat", "agents:read", name="reader")
        chatter = await speaking(engine, http, "chat", name="chatter")
        page = await speaking(engine, http, "chat", view="public", name="page")
        async with reader, chatter, page:
            for revision, missing in ((MODERN, (400, -32602)), (NOVEMBER, (200, -32002))):
                client = McpClient(reader, revision)
                assert "resources" in (await client.begin())["capabilities"]
                (one,) = (await client.result("resources/list"))["resources"]
                assert (one["name"], one["title"]) == ("rules.md", "hand book: rules.md")
                (text,) = (await client.result("resources/read", {"uri": one["uri"]}))["contents"]
                assert text["text"] == "# Refunds\n\nMoney comes back in 14 days."
                (template,) = (await client.result("resources/templates/list"))["resourceTemplates"]
                uri = "knowledge://hand%20book/search?query=money%20back"
                assert template["uriTemplate"] == "knowledge://{base}/search{?query}"
                (hits,) = (await client.result("resources/read", {"uri": uri}))["contents"]
                assert hits["text"] == "## rules.md > Refunds\n\nMoney comes back in 14 days."
                for uri in ("knowledge://no/search?query=a", "file:///etc/passwd", "knowledge://[", "knowledge://a/b"):
                    assert await client.error("resources/read", {"uri": uri}) == missing
                assert (await client.error("resources/list", {"cursor": "x"}))[1] == -32602
            for token in (chatter, page):
                client = McpClient(token, MODERN)
                assert "resources" not in (await client.begin())["capabilities"]
                for method in ("resources/list", "resources/templates/list"):
                    assert await client.error(method) == (404, -32601)
                assert await client.error("resources/read", {"uri": "knowledge://hand%20book/search"}) == (404, -32601)


async def test_long_lists_of_resources_come_in_pages() -> None:
    async with serving() as (_, http):
        await create(http)
        for n in range(101):
            await put(http, f"{n:03}.txt", f"text {n}")
        await settled(http)
        client = McpClient(http, MODERN)
        first = await client.result("resources/list")
        second = await client.result("resources/list", {"cursor": first["nextCursor"]})
        names = [one["name"] for one in (*first["resources"], *second["resources"])]
        assert names == [f"{n:03}.txt" for n in range(101)]
        assert "nextCursor" not in second


async def test_a_client_learns_how_to_get_a_token() -> None:
    settings = {"BYTEBREW_MCP_AUTHORIZATION_SERVERS": "https://login.example.com"}
    for configured in ({}, settings):
        async with serving(settings=configured) as (_, http):
            url = str(http.base_url).rstrip("/")
            refused = await http.post("/mcp", json={}, headers={"authorization": "Bearer wrong"})
            where = f"{url}/.well-known/oauth-protected-resource/mcp"
            assert f'resource_metadata="{where}", scope="chat"' in refused.headers["www-authenticate"]
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, 401)
            for path in ("", "/mcp"):
                said = (await http.get(f"/.well-known/oauth-protected-resource{path}")).json()
                servers = said.pop("authorization_servers", [])
                assert servers == (["https://login.example.com"] if configured else [])
                assert said == {
                    "resource": f"{url}/mcp",
                    "resource_name": "ByteBrew",
                    "bearer_methods_supported": ["header"],
                    "scopes_supported": ["chat"],
                }


async def test_pages_of_other_origins_are_refused_and_those_that_cors_allows_are_not() -> None:
    async with serving(settings={"BYTEBREW_CORS_ORIGINS": "https://app.example"}) as (_, http):
        client = McpClient(http, MODERN)
        own = str(http.base_url).rstrip("/")
        port = own.rpartition(":")[2]
        for headers, status in (
            ({}, 200),
            ({"origin": own}, 200),
            ({"origin": "https://app.example"}, 200),
            ({"origin": "https://evil.example"}, 403),
            ({"origin": "null"}, 403),
            ({"origin": f"http://evil.example:{port}", "host": f"evil.example:{port}"}, 403),
        ):
            response = await client.post("tools/list", None, **headers)
            assert response.status_code == status, headers
            if status == 403:
                assert response.json()["error"]["code"] == 403


async def test_rate_limits_count_calls_and_of_older_revisions_every_request() -> None:
    async with serving(*[[MessageDelta(content="a")]] * 3) as (engine, http):
        rule = {"name": "few", "per": "token", "tiers": {"free": {"requests": 2}}, "default_tier": "free"}
        assert (await http.post("/api/v1/rate-limits", json=rule)).status_code == 201
        for revision, listings in ((MODERN, 9), (NOVEMBER, 1)):
            token = await speaking(engine, http, "chat", name=revision)
            async with token:
                client = McpClient(token, revision)
                for _ in range(listings):
                    await client.result("tools/list")
                calls = 2 if revision == MODERN else 1
                for _ in range(calls):
                    await client.call("go")
                limited = await client.post("tools/call", {"name": "test", "arguments": {"message": "go"}})
                assert (limited.status_code, limited.json()["error"]["code"]) == (429, 429)
                assert int(limited.headers["retry-after"]) > 0
                assert (await token.get("/mcp")).status_code == 405


async def test_an_engine_with_too_many_turns_refuses_calls_and_answers_the_rest() -> None:
    async with serving([asyncio.Event()], settings={"BYTEBREW_MAX_TURNS": "1"}) as (_, http):
        client = McpClient(http, MODERN, TASKS)
        task = await client.call("go")
        refused = await client.post("tools/call", {"name": "test", "arguments": {"message": "go"}})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["data"]["error"] == "overloaded"
        assert (await client.result("tasks/get", {"taskId": task["taskId"]}))["status"] == "working"
        await client.result("tasks/cancel", {"taskId": task["taskId"]})
        assert (await client.result("tasks/get", {"taskId": task["taskId"]}))["status"] == "cancelled"


async def test_the_same_idempotency_key_gives_the_same_turn() -> None:
    async with serving([MessageDelta(content="once")]) as (_, http):
        client = McpClient(http, MODERN)
        request = client.request("tools/call", {"name": "test", "arguments": {"message": "go"}}, accept=STREAM)
        request["headers"]["idempotency-key"] = "k1"
        first = await http.post("/mcp", **request)
        assert first.status_code == 200
        assert (await http.post("/mcp", **request)).content == first.content
        request["json"]["id"] = 77
        assert (await http.post("/mcp", **request)).status_code == 422


async def test_an_approval_by_a_client_is_in_the_audit() -> None:
    async with serving([ToolCall("wipe", {"disk": "a"})], [MessageDelta(content="Done")], **GUARDED) as (_, http):
        client = McpClient(http, MODERN, ELICITS)
        params = {"name": "test", "arguments": {"message": "go"}}
        first = (await client.post("tools/call", params)).json()["result"]
        answers = {key: {"action": "decline"} for key in first["inputRequests"]}
        await client.result("tools/call", params | {"requestState": first["requestState"], "inputResponses": answers})
        rows = (await http.get("/api/v1/audit")).json()["data"]
        assert any("respond" in json.dumps(one) or "answer" in json.dumps(one) for one in rows)


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "_meta"])
                | st.text(max_size=5),
                inner,
                max_size=5,
            )
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_body_is_a_message_or_refused(raw: bytes) -> None:
    try:
        message = msgspec.json.decode(raw, type=Message)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    assert message.jsonrpc == "2.0"
    assert isinstance(message.meta, Mapping)
    assert msgspec.json.decode(msgspec.json.encode(message), type=Message) == message


@given(st.text() | st.tuples(st.text(), st.text(), st.integers()).map(lambda parts: ".".join(map(str, parts))))
def test_any_cursor_is_read_or_refused(text: str) -> None:
    read_cursor(text)


@given(st.text(st.characters(codec="ascii", categories=["L", "N"])), st.integers() | st.text(), st.integers(0))
def test_a_cursor_is_read_as_it_was_written(turn_id: str, id: int | str, number: int) -> None:
    rpc = RpcRequest(id, None, may_ask=True)
    if isinstance(id, int) and not -(2**63) <= id < 2**63:
        return
    assert read_cursor(f"{rpc.cursor(turn_id)}.{number}") == (turn_id, rpc, number)


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["action", "content", "decision"]), inner | st.sampled_from(["accept", "approve"])
            )
        ),
    )
)
def test_only_a_clear_yes_approves(answer: Any) -> None:
    approve, _ = verdict(answer)
    assert approve == (
        isinstance(answer, dict)
        and answer.get("action") == "accept"
        and isinstance(answer.get("content"), dict)
        and answer["content"].get("decision") == "approve"
    )


@every_revision
async def test_messages_that_are_none_are_refused_with_the_codes_of_json_rpc(revision: str) -> None:
    async with serving() as (_, http):
        headers = {"content-type": "application/json", "mcp-protocol-version": revision}
        for raw, code in (
            (b"{", -32700),
            (b"\xff", -32700),
            (b"[]", -32600),
            (b'"text"', -32600),
            (b"{}", -32600),
            (b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}', -32600),
            (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', -32600),
            (b'{"jsonrpc": "2.0", "id": [], "method": "ping"}', -32600),
            (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}', -32600),
        ):
            response = await http.post("/mcp", content=raw, headers=headers)
            assert (response.status_code, response.json()["error"]["code"]) == (400, code), raw
            assert "id" not in response.json()
    assert FACE.name == "MCP server"
