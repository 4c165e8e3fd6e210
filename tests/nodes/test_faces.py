"""Other protocols at one node, about turns that another one runs."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest

from bytebrew.contract.messages import ToolCall
from bytebrew.contract.tool import tool
from bytebrew.testing import events_of
from tests.nodes.chats import say, two

pytestmark = pytest.mark.postgresql
CHAT = "/ai-sdk/test/chat"


async def parts(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The parts of a UI message stream as they arrive."""
    async for event in events_of(response):
        if event.data != "[DONE]":
            yield json.loads(event.data)


def sent(text: str, **body: Any) -> dict[str, Any]:
    message = {"id": f"m-{text}", "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": "chat", "messages": [message], **body}


async def test_a_face_follows_what_another_node_runs_with_the_same_parts() -> None:
    gate = asyncio.Event()
    async with two([say("one "), gate, say("two")]) as (a, b, vendor):
        async with a.http.stream("POST", CHAT, json=sent("Hi")) as begun:
            at_a = parts(begun)
            first = [await anext(at_a) for _ in range(4)]
            async with b.http.stream("GET", f"{CHAT}/chat/stream") as resumed:
                assert resumed.status_code == 200
                gate.set()
                again = [one async for one in parts(resumed)]
            first += [one async for one in at_a]
        assert again == first
        assert [one["delta"] for one in again if one["type"] == "text-delta"] == ["one ", "two"]
        assert (await b.http.get(f"{CHAT}/chat/stream")).status_code == 204
    assert len(vendor.requests) == 1


async def test_a_face_stops_what_another_node_runs() -> None:
    async with (
        two([say("one"), asyncio.Event()]) as (a, b, _),
        a.http.stream("POST", CHAT, json=sent("Hi")) as begun,
    ):
        at_a = parts(begun)
        while (await anext(at_a))["type"] != "text-delta":
            pass
        assert (await b.http.post(f"{CHAT}/chat/stop", json={})).status_code == 204
        with anyio.fail_after(10):
            assert [one async for one in at_a][-1]["type"] in ("abort", "finish")


async def test_a_face_answers_a_question_of_a_turn_that_another_node_runs() -> None:
    ran = 0

    @tool
    async def careful() -> str:
        """Asks."""
        nonlocal ran
        ran += 1
        return "done"

    steps = [ToolCall("careful", {}, "c1")], [say("well")]
    async with two(*steps, tools=[careful], confirm_before=["careful"]) as (a, b, _):
        async with a.http.stream("POST", CHAT, json=sent("Hi")) as begun:
            asked = [one async for one in parts(begun)]
        (question,) = [one for one in asked if one["type"] == "tool-approval-request"]
        approval = {"id": question["approvalId"], "approved": True}
        part = {
            "type": "tool-careful",
            "toolCallId": question["toolCallId"],
            "state": "approval-responded",
            "input": {},
            "approval": approval,
        }
        answer = {"id": asked[0]["messageId"], "role": "assistant", "parts": [part]}
        body = sent("Hi")
        body["messages"].append(answer)
        async with b.http.stream("POST", CHAT, json=body) as goes_on:
            assert goes_on.status_code == 200
            text = [one["delta"] async for one in parts(goes_on) if one["type"] == "text-delta"]
        assert (text, ran) == (["well"], 1)
