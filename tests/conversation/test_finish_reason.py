"""How an answer ended: whole, at the model's token limit, or because somebody stopped it."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from bytebrew.base.errors import ProviderError
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.messages import Stop, ToolCall
from bytebrew.testing import ScriptedProvider, chat, providing, scripted_schema, served_engine

CHAT = "/api/v1/schemas/test/chat"
CUT = [MessageDelta(content="Half an"), Stop("max_tokens")]


async def done(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    last = (await chat(client, "test", "go", **body))[-1]
    assert last.event == "done"
    found: dict[str, Any] = json.loads(last.data)
    return found


@pytest.mark.parametrize(("reason", "told"), [("end", "stop"), ("stop_sequence", "stop"), ("max_tokens", "max_tokens")])
async def test_done_and_the_json_say_how_the_answer_ended(reason: Any, told: str) -> None:
    provider = ScriptedProvider([MessageDelta(content="Half an"), Stop(reason)])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        assert (await done(client))["finish_reason"] == told
        headers = {"Idempotency-Key": "k"}
        first = await client.post(CHAT, json={"message": "go", "stream": False}, headers=headers)
        again = await client.post(CHAT, json={"message": "go", "stream": False}, headers=headers)
    assert first.json()["finish_reason"] == again.json()["finish_reason"] == told
    assert first.json() == again.json()


async def test_the_last_step_counts() -> None:
    provider = ScriptedProvider([ToolCall("nothing", {}), Stop("max_tokens")], [MessageDelta(content="ok"), Stop()])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        assert (await done(client))["finish_reason"] == "stop"


async def test_a_turn_that_somebody_stops_is_cancelled() -> None:
    provider = ScriptedProvider([MessageDelta(content="Half an"), asyncio.Event()])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        asking = asyncio.create_task(client.post(CHAT, json={"message": "go", "stream": False}))
        while not (running := list(engine.runner.turns.values())) or not running[0].text:
            await asyncio.sleep(0.01)
        await client.post(f"/api/v1/sessions/{running[0].session_id}/cancel")
        answer = (await asking).json()
    assert (answer["status"], answer["finish_reason"]) == ("cancelled", "cancelled")


# How long to wait


@pytest.mark.parametrize(("wait", "told"), [(61.5, 62), (90.0, 90), (None, None), (float("inf"), None)])
async def test_the_wait_that_a_vendor_names_reaches_the_client(wait: float | None, told: int | None) -> None:
    busy = ProviderError("HTTP 429: slow down", code="model_rate_limited", retry_after=wait)
    async with served_engine(providing(ScriptedProvider([busy]))) as (engine, client):
        await scripted_schema(engine)
        headers = {"Idempotency-Key": "k"}
        body = {"message": "go", "stream": False}
        unary = [await client.post(CHAT, json=body, headers=headers) for _ in ("first", "again")]
        streamed = (await chat(client, "test", "go"))[-1]
    assert [answer.headers.get("retry-after") for answer in unary] == [None if told is None else str(told)] * 2
    assert [answer.status_code for answer in unary] == [502, 502]
    assert json.loads(streamed.data).get("retry_after") == told


# An Idempotency-Key again, behind what was seen


async def resumed(client: httpx.AsyncClient, seen: str) -> str:
    headers = {"Idempotency-Key": "k", "Last-Event-ID": seen}
    answer = await client.post(CHAT, json={"message": "go"}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_a_request_again_goes_on_behind_the_last_event_that_was_seen() -> None:
    provider = ScriptedProvider([MessageDelta(content="a"), MessageDelta(content="b"), Stop()])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        headers = {"Idempotency-Key": "k"}
        whole = (await client.post(CHAT, json={"message": "go"}, headers=headers)).text
        events = whole.split("\n\n")
        for n in range(1, 5):
            assert await resumed(client, str(n)) == "\n\n".join(events[:1] + events[n + 1 :])
        assert "id: " not in await resumed(client, "4")
        ahead = {"Idempotency-Key": "k", "Last-Event-ID": "99"}
        assert (await client.post(CHAT, json={"message": "go"}, headers=ahead)).status_code == 410
        ahead["Last-Event-ID"] = "what"
        assert (await client.post(CHAT, json={"message": "go"}, headers=ahead)).status_code == 400
        session = whole.split('"session_id":"')[1].partition('"')[0]
        await chat(client, "test", "more", session_id=session)
        assert await resumed(client, "2") == "\n\n".join(events[:1] + events[3:])
    assert len(provider.requests) == 2


async def test_a_request_again_goes_on_in_a_turn_that_still_runs() -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider([MessageDelta(content="a"), go_on, MessageDelta(content="b"), Stop()])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        headers = {"Idempotency-Key": "k"}
        async with client.stream("POST", CHAT, json={"message": "go"}, headers=headers) as first:
            async for line in first.aiter_lines():
                if line.startswith("id: 1"):
                    break
            going = asyncio.create_task(resumed(client, "1"))
            await asyncio.sleep(0.05)
            go_on.set()
            rest = await going
    assert [line for line in rest.split("\n") if line.startswith("id: ")] == ["id: 2", "id: 3", "id: 4"]
