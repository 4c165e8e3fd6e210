"""Results that were too long for a model: cut, kept, and read on by range."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bytebrew import MessageDelta, ToolCall, tool
from bytebrew.conversation.tools.tool_calls import MOST_KEPT
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, chat, plugin, providing, scripted_schema, served_engine

TEXT = "".join(f"line {n} of the \u00fcber-long text \U0001f600\n" for n in range(60))
OK = [MessageDelta(content="ok")]


@tool
async def report(times: int = 1) -> str:
    """A long text."""
    return TEXT * times


@asynccontextmanager
async def reporting(
    *answers: Sequence[Any], data: Path | None = None
) -> AsyncIterator[tuple[Engine, httpx.AsyncClient, ScriptedProvider]]:
    """An engine that shows a model 512 bytes of a result."""
    provider = ScriptedProvider(*answers)
    own = plugin(register_tools=lambda register: register(report))
    settings = {"BYTEBREW_TOOL_OUTPUT_BYTES": "512"}
    async with served_engine(own, providing(provider), settings=settings, data=data) as (running, client):
        if not any(agent.name == "test" for agent in await running.agents()):
            await scripted_schema(running, tools=("report",))
        yield running, client, provider


def outputs(events: list[Any]) -> list[str]:
    return [json.loads(event.data)["output"] for event in events if event.event == "tool_result"]


def offered(provider: ScriptedProvider) -> list[list[str]]:
    """The tools of each request."""
    return [sorted({tool.name for tool in request.tools} & {"report", "read_result"}) for request in provider.requests]


def read(call_id: str, **given: Any) -> ToolCall:
    return ToolCall("read_result", {"call_id": call_id, **given})


async def test_a_long_result_is_cut_and_read_on_by_range() -> None:
    steps = [
        [ToolCall("report", {}, "c1")],
        [read("c1", offset=400, length=100)],
        [read("c1", offset=len(TEXT) - 7)],
        [read("c1", offset=len(TEXT) + 5)],
    ]
    async with reporting(*steps, OK) as (_, client, provider):
        cut, middle, end, beyond = outputs(await chat(client, "test", "go"))
    shown, _, mark = cut.rpartition("\n")
    assert TEXT.startswith(shown)
    assert 500 < len(shown.encode()) <= 512
    assert mark == f"[cut: {len(shown)} of {len(TEXT)} characters; go on with read_result, call_id c1]"
    assert middle == f"{TEXT[400:500]}\n[500 of {len(TEXT)} characters]"
    assert (end, beyond) == (TEXT[-7:], "")
    assert offered(provider) == [["report"], *[["read_result", "report"]] * 4]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"call_id": "c2"}, "No result of the call 'c2' was cut in this session"),
        ({"offset": 1}, "The arguments do not fit"),
        ({"call_id": "c1", "offset": -1}, "The arguments do not fit"),
        ({"call_id": "c1", "length": 0}, "The arguments do not fit"),
        ({"call_id": "c1", "length": 10**9}, "The arguments do not fit"),
        ({"call_id": "c1", "page": 1}, "The arguments do not fit"),
    ],
)
async def test_what_cannot_be_read_is_told_to_the_model(given: dict[str, Any], words: str) -> None:
    async with reporting([ToolCall("report", {}, "c1")], [ToolCall("read_result", given)], OK) as (_, client, _):
        _, told = outputs(await chat(client, "test", "go"))
    assert told.startswith(words)


async def test_a_cut_result_is_read_in_later_turns_and_by_later_engines(tmp_path: Path) -> None:
    async with reporting([ToolCall("report", {}, "c1")], OK, [read("c1", offset=9, length=9)], OK, data=tmp_path) as (
        *_,
        client,
        provider,
    ):
        events = await chat(client, "test", "go")
        session_id = json.loads(events[-1].data)["session_id"]
        again = await chat(client, "test", "read on", session_id=session_id)
    assert outputs(again) == [f"{TEXT[9:18]}\n[18 of {len(TEXT)} characters]"]
    assert offered(provider)[2:] == [["read_result", "report"]] * 2
    async with reporting([read("c1", length=4)], OK, data=tmp_path) as (_, client, provider):
        later = await chat(client, "test", "once more", session_id=session_id)
    assert outputs(later) == [f"{TEXT[:4]}\n[4 of {len(TEXT)} characters]"]


async def test_a_cut_result_is_read_within_its_session_alone() -> None:
    steps: list[Sequence[Any]] = [
        [ToolCall("report", {}, "c1")],
        OK,
        [ToolCall("report", {}, "c2")],
        [read("c1")],
        OK,
        [read("c1")],
        OK,
    ]
    async with reporting(*steps) as (_, client, provider):
        await chat(client, "test", "go")
        _, other = outputs(await chat(client, "test", "go elsewhere"))
        [unknown] = outputs(await chat(client, "test", "a third"))
    assert other == "No result of the call 'c1' was cut in this session"
    assert unknown == "There is no tool named 'read_result'"
    assert offered(provider)[5] == ["report"]


async def test_a_turn_that_was_cut_off_behind_a_long_result_goes_on_reading(tmp_path: Path) -> None:
    async with reporting([ToolCall("report", {}, "c1")], [30.0], data=tmp_path) as (running, client, provider):
        async with client.stream("POST", "/api/v1/schemas/test/chat", json={"message": "go"}) as response:
            session_id = response.headers["x-session-id"]
            async for chunk in response.aiter_text():
                if "tool_result" in chunk:
                    break
        await running.drain(0)
    async with reporting([read("c1", length=4)], OK, data=tmp_path) as (_, client, provider):
        path = f"/api/v1/sessions/{session_id}/events?follow=false"
        with anyio.fail_after(5):
            while (events := (await client.get(path)).json()["events"])[-1]["event"] != "done":
                await anyio.sleep(0.01)
    told = [event["data"]["output"] for event in events if event["event"] == "tool_result"]
    assert told[1] == f"{TEXT[:4]}\n[4 of {len(TEXT)} characters]"
    assert offered(provider)[0] == ["read_result", "report"]


async def test_of_an_endless_result_a_beginning_is_kept() -> None:
    times = MOST_KEPT // len(TEXT.encode()) + 1
    async with reporting([ToolCall("report", {"times": times}, "c1")], OK) as (running, client, _):
        await chat(client, "test", "go")
        kept = "select length(cast(output as blob)) from results"
        size = await running.db.read(lambda conn: conn.execute(kept).fetchone()[0])
    assert MOST_KEPT - 4 < size <= MOST_KEPT


async def test_results_whose_id_a_vendor_repeats_are_read_each_under_its_own() -> None:
    call, longer = ([ToolCall("report", {"times": times}, "call_0")] for times in (1, 2))
    async with reporting(call, OK, longer, OK) as (running, client, provider):
        events = await chat(client, "test", "go")
        session_id = json.loads(events[-1].data)["session_id"]
        events += await chat(client, "test", "once more", session_id=session_id)
        first, second = (json.loads(event.data)["call_id"] for event in events if event.event == "tool_call")
        assert (first == "call_0") and (second != first)
        provider.answers += [[read(second, offset=2 * len(TEXT) - 4)], [read(first, offset=len(TEXT) - 4)], OK]
        assert outputs(await chat(client, "test", "read", session_id=session_id)) == [TEXT[-4:]] * 2
        # An id may come again once the first has left the context.
        await running.db.write(lambda conn: conn.execute("update results set call_id = 'call_0'").rowcount)
        provider.answers += [[read("call_0", offset=2 * len(TEXT) - 4)], OK]
        assert outputs(await chat(client, "test", "again", session_id=session_id)) == [TEXT[-4:]]
