"""OpenAI's protocols at one node, about conversations that another one runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from bytebrew.contract.messages import ToolCall
from bytebrew.testing import ScriptedProvider
from tests.nodes.chats import say, two
from tests.nodes.engines import Node
from tests.plugins.test_openai_chat import WHERE, assistant, chunks, complete, text_of, user

pytestmark = pytest.mark.postgresql
AT = "/v1/responses"


@asynccontextmanager
async def talking(*answers: Any) -> AsyncIterator[tuple[Node, Node, ScriptedProvider]]:
    """Two nodes whose schema lets clients bring tools."""
    async with two(*answers) as (a, b, vendor):
        allowed = await a.http.patch("/api/v1/schemas/test", json={"client_tools": True})
        assert allowed.status_code == 200, allowed.text
        yield a, b, vendor


async def _runs(vendor: ScriptedProvider, count: int = 1) -> None:
    with anyio.fail_after(10):
        while len(vendor.requests) < count:
            await asyncio.sleep(0.01)


async def test_a_completion_goes_on_with_the_session_of_another_node() -> None:
    async with talking([say("one")], [say("two")], [say("three")]) as (a, b, vendor):
        first = await text_of(a.http, user("1"))
        second = await text_of(b.http, user("1"), assistant("one"), user("2"))
        third = await text_of(a.http, *(user("1"), assistant("one"), user("2"), assistant("two"), user("3")))
        assert [one for one, _ in (first, second, third)] == ["one", "two", "three"]
        assert len({session for _, session in (first, second, third)}) == 1
        assert [one.content for one in vendor.requests[2].messages] == ["1", "one", "2", "two", "3"]


async def test_a_completion_that_a_client_sends_again_to_another_node_is_answered_by_the_turn_that_runs() -> None:
    gate = asyncio.Event()
    async with talking([say("one "), gate, say("two")]) as (a, b, vendor):
        first = asyncio.create_task(complete(a.http, user("1"), stream=True))
        await _runs(vendor)
        again = asyncio.create_task(complete(b.http, user("1"), stream=True, headers={"x-stainless-retry-count": "1"}))
        await asyncio.sleep(0.1)
        gate.set()
        assert chunks(await first) == chunks(await again)
    assert len(vendor.requests) == 1


async def test_the_results_of_a_completions_tools_are_taken_at_another_node() -> None:
    async with talking([ToolCall("where_am_i", {}, "c1")], [say("there")]) as (a, b, vendor):
        asked = await complete(a.http, user("1"), tools=[WHERE])
        message = asked.json()["choices"][0]["message"]
        (call,) = message["tool_calls"]
        result = {"role": "tool", "tool_call_id": call["id"], "content": "Zürich"}
        answer = await text_of(b.http, user("1"), message, result, tools=[WHERE])
        assert answer == ("there", asked.headers["x-session-id"])
        assert vendor.requests[1].messages[-1].content == "Zürich"
    assert len(vendor.requests) == 2


async def _created(http: httpx.AsyncClient, **body: Any) -> Any:
    answer = await http.post(AT, json={"model": "test", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def _until(http: httpx.AsyncClient, response: str, status: str) -> Any:
    with anyio.fail_after(10):
        while (now := (await http.get(f"{AT}/{response}")).json())["status"] != status:
            await asyncio.sleep(0.02)
    return now


async def test_a_response_in_the_background_is_streamed_and_cancelled_at_another_node() -> None:
    async with talking([say("one "), asyncio.Event()]) as (a, b, vendor):
        made = await _created(a.http, input="1", background=True)
        await _runs(vendor)
        async with b.http.stream("GET", f"{AT}/{made['id']}?stream=true") as live:
            lines = live.aiter_lines()
            while "response.output_text.delta" not in await anext(lines):
                pass
            cancelled = (await b.http.post(f"{AT}/{made['id']}/cancel")).json()
            assert cancelled["status"] == "cancelled"
            with anyio.fail_after(10):
                rest = [line async for line in lines]
        assert "event: response.incomplete" in rest
        assert (await a.http.get(f"{AT}/{made['id']}")).json() == cancelled
        assert vendor.cancelled == 1


async def test_a_response_waits_behind_one_that_another_node_runs() -> None:
    gate = asyncio.Event()
    async with talking([say("one"), gate], [say("two")]) as (a, b, vendor):
        first = await _created(a.http, input="1", background=True)
        await _runs(vendor)
        second = await _created(b.http, input="2", background=True, previous_response_id=first["id"])
        assert second["status"] == "queued"
        assert (await a.http.get(f"{AT}/{second['id']}")).json()["status"] == "queued"
        refused = await a.http.post(f"{AT}/{second['id']}/cancel")
        assert refused.status_code == 409
        gate.set()
        ended = await _until(b.http, second["id"], "completed")
        assert ended["output"][0]["content"][0]["text"] == "two"
        assert [one.content for one in vendor.requests[1].messages] == ["1", "one", "2"]


async def test_a_response_that_another_node_runs_is_deleted() -> None:
    async with talking([say("one "), asyncio.Event()]) as (a, b, vendor):
        made = await _created(a.http, input="1", background=True)
        await _runs(vendor)
        assert (await b.http.delete(f"{AT}/{made['id']}")).json()["deleted"] is True
        assert (await a.http.get(f"{AT}/{made['id']}")).status_code == 404
        assert vendor.cancelled == 1
        assert not a.engine.runner.turns
        assert not (await a.http.get("/api/v1/sessions")).json()["data"]


async def test_what_a_response_asks_of_its_client_is_answered_at_another_node() -> None:
    where = {"type": "function", "name": "where", "description": "The place", "parameters": {"type": "object"}}
    async with talking([ToolCall("where", {}, "c1")], [say("there")]) as (a, b, vendor):
        asked = await _created(a.http, input="1", tools=[where])
        (call,) = [one for one in asked["output"] if one["type"] == "function_call"]
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "Zürich"}
        ended = await _created(b.http, input=[output], previous_response_id=asked["id"], tools=[where])
        assert (ended["status"], ended["output"][-1]["content"][0]["text"]) == ("completed", "there")
        assert vendor.requests[1].messages[-1].content == "Zürich"
