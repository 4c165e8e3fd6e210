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
from tests.nodes.engines import Node
from tests.plugins.test_ag_ui import Client as AgUi

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


async def test_an_answer_is_asked_for_anew_at_another_node_while_it_is_given() -> None:
    async with two([say("one"), asyncio.Event()], [say("two")]) as (a, b, vendor):
        async with a.http.stream("POST", CHAT, json=sent("Hi")) as begun:
            at_a = parts(begun)
            while (await anext(at_a))["type"] != "text-delta":
                pass
            anew = sent("Hi", trigger="regenerate-message")
            async with b.http.stream("POST", CHAT, json=anew) as regenerated:
                assert regenerated.status_code == 200
                text = [one["delta"] async for one in parts(regenerated) if one["type"] == "text-delta"]
            with anyio.fail_after(10):
                assert [one async for one in at_a][-1]["type"] in ("abort", "finish")
        assert text == ["two"]
        assert vendor.cancelled == 1
        assert [one.content for one in vendor.requests[1].messages] == ["Hi"]
        shown = (await a.http.get(f"{CHAT}/chat")).json()
        assert [one["parts"][-1]["text"] for one in shown["messages"]] == ["Hi", "two"]


async def test_a_face_shows_what_another_node_has_stored_before_it_is_signalled() -> None:
    async with two([say("one")], [say("two")]) as (a, b, _):
        await a.http.post(CHAT, json=sent("Hi"))
        chat = (await b.http.get(f"{CHAT}/chat")).json()
        assert [one["parts"][-1]["text"] for one in chat["messages"]] == ["Hi", "one"]
        log = await b.engine.journal.log((await _sessions(b))[0])  # as one that a follower keeps
        b.engine.signals.stop()
        more = sent("Hi")
        more["messages"] = [*chat["messages"], {"id": "m-2", "role": "user", "parts": [{"type": "text", "text": "2"}]}]
        await a.http.post(CHAT, json=more)
        assert log.committed == 3
        shown = (await b.http.get(f"{CHAT}/chat")).json()
        assert [one["parts"][-1]["text"] for one in shown["messages"]] == ["Hi", "one", "2", "two"]


async def _sessions(node: Node) -> list[str]:
    return [one["id"] for one in (await node.http.get("/api/v1/sessions")).json()["data"]]


async def test_a_run_of_ag_ui_is_interrupted_at_one_node_and_goes_on_at_another() -> None:
    ran = 0

    @tool
    async def careful() -> str:
        """Asks."""
        nonlocal ran
        ran += 1
        return "done"

    steps = [ToolCall("careful", {}, "c1")], [say("well")], [say("more")]
    async with two(*steps, tools=[careful], confirm_before=["careful"]) as (a, b, vendor):
        client = AgUi(a.http)
        await client.run("Hi")
        assert len(client.thread.interrupts) == 1
        client.http = b.http
        await client.run(resume=client.resume({"approved": True}))
        assert (client.said(), ran) == (["well"], 1)
        assert client.thread.problems() == []
        client.http = a.http
        await client.run("And?")
        assert client.said() == ["well", "more"]
        assert len(await _sessions(b)) == 1
        assert [one.content for one in vendor.requests[2].messages if one.role == "user"] == ['["Hi"]', '["And?"]']


async def test_a_run_of_ag_ui_is_read_again_at_another_node_while_it_runs() -> None:
    gate = asyncio.Event()
    async with two([say("one "), gate, say("two")]) as (a, b, vendor):
        client = AgUi(a.http)
        client.ask("Hi")
        first = asyncio.create_task(client.post())
        while not vendor.requests:
            await asyncio.sleep(0.01)
        again = asyncio.create_task(b.http.get("/ag-ui/test/threads/thread-1/runs/run-1"))
        same = AgUi(b.http)
        same.thread.messages = [*client.thread.messages]
        repeated = asyncio.create_task(same.post())
        await asyncio.sleep(0.1)
        gate.set()
        body = (await first).content
        assert b"TEXT_MESSAGE_CONTENT" in body
        assert (await again).content == (await repeated).content == body
    assert len(vendor.requests) == 1


async def test_a_message_of_ag_ui_waits_for_the_run_of_another_node() -> None:
    gate = asyncio.Event()
    async with two([say("one"), gate], [say("two")]) as (a, b, vendor):
        client = AgUi(a.http)
        client.ask("Hi")
        first = asyncio.create_task(client.post())
        while not vendor.requests:
            await asyncio.sleep(0.01)
        other = AgUi(b.http)
        other.runs = 1
        other.thread.messages = [*client.thread.messages]
        other.ask("2")
        second = asyncio.create_task(other.post())
        await asyncio.sleep(0.2)
        assert len(vendor.requests) == 1
        gate.set()
        await first
        other.thread.take((await second).content)
        assert other.said() == ["two"]
        assert [one.content for one in vendor.requests[1].messages] == ['["Hi"]', "one", '["2"]']
        assert len(await _sessions(a)) == 1
