"""A message with `on_busy: steer` is answered by the turn that runs, or else by the next; once, whatever happens."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew import Capabilities, ProviderError, ToolCall
from bytebrew.base.sse_reader import ServerSentEvent
from bytebrew.engine import Engine
from bytebrew.testing import (
    ScriptedProvider,
    Step,
    chat,
    events_of,
    names,
    providing,
    scripted_schema,
    served_engine,
    token,
)
from tests.conversation.test_runner import URL, begin, say
from tests.stored import rows


class Seeing(ScriptedProvider):
    capabilities = Capabilities(vision=True)


async def waiting(engine: Engine, session_id: str, count: int) -> None:
    """Returns once so many messages of the session are stored and wait."""

    def rows(conn: Any) -> int:
        sql = "select count(*) from turns where session_id = ? and status = 'queued'"
        return int(conn.execute(sql, (session_id,)).fetchone()[0])

    while await engine.db.read(rows) < count or sum(not turn.admitted.done() for turn in engine.runner.turns.values()):
        await asyncio.sleep(0.002)


async def steer(engine: Engine, client: httpx.AsyncClient, session_id: str, message: str, count: int = 1) -> Any:
    """A message that steers, once it waits: a task with its events."""
    task = asyncio.create_task(chat(client, "test", message, session_id=session_id, on_busy="steer"))
    await waiting(engine, session_id, count)
    return task


def said(events: list[ServerSentEvent], name: str) -> list[Any]:
    return [json.loads(event.data) for event in events if event.event == name]


async def session(client: httpx.AsyncClient, session_id: str) -> Any:
    return (await client.get(f"/api/v1/sessions/{session_id}")).json()


async def test_a_message_that_waits_is_listed_and_removed() -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([say("one "), gate], [say("three")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        session_id, first = await begin(client, "first")
        url = f"/api/v1/sessions/{session_id}/queue"
        removed = asyncio.create_task(chat(client, "test", "second", session_id=session_id))
        await waiting(engine, session_id, 1)
        kept = asyncio.create_task(chat(client, "test", "third", session_id=session_id))
        await waiting(engine, session_id, 2)
        queue = (await client.get(url)).json()
        assert [(one["message"], one["position"]) for one in queue] == [("second", 1), ("third", 2)]
        gone = queue[0]["turn_id"]
        assert (await client.delete(f"{url}/{gone}")).status_code == 204
        assert (await client.delete(f"{url}/{gone}")).status_code == 404
        assert [said(await removed, "error")[0]["code"]] == ["message_removed"]
        assert [one["message"] for one in (await client.get(url)).json()] == ["third"]
        gate.set()
        await first
        assert (await kept)[-1].event == "done"
        assert (await client.get(url)).json() == []
        assert (await client.delete(f"{url}/{queue[1]['turn_id']}")).status_code == 404
        stored = await session(client, session_id)
        assert [one["content"] for one in stored["messages"]] == ["first", "one ", "third", "three"]
        assert (await client.get(f"/api/v1/sessions/{session_id}/turns/{gone}")).status_code == 404


async def test_a_message_that_a_turn_has_is_not_removed() -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([say("one "), gate], [say("two")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        session_id, first = await begin(client, "first")
        steering = await steer(engine, client, session_id, "second")
        url = f"/api/v1/sessions/{session_id}/queue"
        assert (await client.get(url)).json() == []
        [turn] = [one for one in engine.runner.turns.values() if one.steering]
        refused = await client.delete(f"{url}/{turn.id}")
        assert (refused.status_code, refused.json()["error"]) == (409, "message_taken")
        gate.set()
        await first
        assert said(await steering, "steered")


async def test_a_steer_is_shown_after_the_tools_and_answered_in_the_same_turn() -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([say("let me see "), gate, ToolCall("current_time", {})], [say("then so")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, tools=("current_time",))
        session_id, first = await begin(client, "what time is it?")
        steering = await steer(engine, client, session_id, "in Paris, please")
        gate.set()
        assert (await first)[-3:] == ["message", "done", "completed"]
        events = [event for event in await steering if event.event != "queued"]
        stored = await session(client, session_id)
        journal = (await client.get(f"/api/v1/sessions/{session_id}/events?follow=false")).json()["data"]
    assert [message.content for message in provider.requests[1].messages if message.role == "user"] == [
        "what time is it?",
        "in Paris, please",
    ]
    assert provider.requests[1].messages[-2].role == "tool"
    assert names(events) == ["steer", "tool_call", "tool_result", "steered", "message_delta", "message", "done"]
    assert said(events, "steer")[0]["message"] == "in Paris, please"
    assert said(events, "steer")[0]["turn_id"] == said(events, "steered")[0]["turn_id"]
    assert [event["id"] for event in journal] == [*range(1, len(journal) + 1)]
    assert [one["event"] for one in journal].count("done") == 1
    assert [one["role"] for one in stored["messages"]] == ["user", "assistant", "tool", "user", "assistant"]
    assert stored["status"] == "completed"


async def test_a_turn_whose_model_has_spoken_its_last_word_goes_on_with_a_steer() -> None:
    gate = asyncio.Event()
    async with served_engine(providing(ScriptedProvider([say("one "), gate], [say("two")]))) as (engine, client):
        await scripted_schema(engine)
        session_id, first = await begin(client, "1")
        steering = await steer(engine, client, session_id, "2")
        gate.set()
        assert (await first)[-1] == "completed"
        events = await steering
        stored = await session(client, session_id)
    assert said(events, "message") == [{"content": "one two", "role": "assistant"}]
    assert [one["content"] for one in stored["messages"]] == ["1", "one ", "2", "two"]


async def test_a_steer_without_a_running_turn_is_an_ordinary_message() -> None:
    async with served_engine(providing(ScriptedProvider([say("one")]))) as (engine, client):
        await scripted_schema(engine)
        events = await chat(client, "test", "1", on_busy="steer")
    assert names(events) == ["message_delta", "message", "done"]


@pytest.mark.parametrize("how", ["cancelled", "failed", "max_steps"])
async def test_a_turn_that_ends_first_leaves_a_steer_to_the_next(how: str) -> None:
    gate = asyncio.Event()
    end: Step = ProviderError("no", code="model_auth") if how == "failed" else ToolCall("current_time", {})
    provider = ScriptedProvider([say("one"), gate, end], [say("two")], [say("three")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, tools=("current_time",), max_steps=1)
        session_id, first = await begin(client, "1")
        plain = asyncio.create_task(chat(client, "test", "3", session_id=session_id))
        await waiting(engine, session_id, 1)
        steering = await steer(engine, client, session_id, "2", 2)
        if how == "cancelled":
            await client.post(f"/api/v1/sessions/{session_id}/cancel")
        gate.set()
        assert (await first)[-2] == ("done" if how == "cancelled" else "error")
        events = [event for event in await steering if event.event != "queued"]
        assert names(events) == ["message_delta", "message", "done"]
        assert said(events, "message")[0]["content"] == "two"
        assert said(await plain, "message")[0]["content"] == "three"
        stored = await session(client, session_id)
    assert [one["content"] for one in stored["messages"] if one["role"] == "user"] == ["1", "2", "3"]


async def test_an_interrupting_message_runs_before_a_steer_and_loses_none() -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([say("one"), gate], [say("urgent")], [say("two")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        session_id, first = await begin(client, "1")
        steering = await steer(engine, client, session_id, "2")
        urgent = await chat(client, "test", "now", session_id=session_id, on_busy="interrupt")
        assert (await first)[-1] == "cancelled"
        assert said(urgent, "message")[0]["content"] == "urgent"
        assert said(await steering, "message")[0]["content"] == "two"


async def test_the_answer_in_one_piece_is_that_of_the_absorbing_turn_and_its_key_repeats_it() -> None:
    gate = asyncio.Event()
    async with served_engine(providing(ScriptedProvider([say("one "), gate], [say("two")]))) as (engine, client):
        await scripted_schema(engine)
        session_id, first = await begin(client, "1")
        body = {"message": "2", "session_id": session_id, "on_busy": "steer", "stream": False}
        asking = [asyncio.create_task(client.post(URL, json=body, headers={"Idempotency-Key": "k"})) for _ in range(2)]
        await waiting(engine, session_id, 1)
        gate.set()
        await first
        answers = [await one for one in asking]
        answers.append(await client.post(URL, json=body, headers={"Idempotency-Key": "k"}))
        stored = await session(client, session_id)
        steered = (await client.get(f"/api/v1/sessions/{session_id}/events?follow=false")).json()["data"]
        turn_id = next(one["data"]["turn_id"] for one in steered if one["event"] == "steer")
        turn = (await client.get(f"/api/v1/sessions/{session_id}/turns/{turn_id}")).json()
        usage = (await client.get("/api/v1/usage")).json()
    assert [answer.json() for answer in answers] == [answers[0].json()] * 3
    assert answers[0].json() == turn
    assert answers[0].json()["message"] == "one two"
    assert [one["content"] for one in stored["messages"]] == ["1", "one ", "2", "two"]
    assert usage["total"]["turns"] <= 1 if "total" in usage else True


async def test_a_streamed_steer_is_repeated_by_its_key_from_its_own_event_on() -> None:
    gate = asyncio.Event()
    async with served_engine(providing(ScriptedProvider([say("one "), gate], [say("two")]))) as (engine, client):
        await scripted_schema(engine)
        session_id, first = await begin(client, "1")
        body = {"message": "2", "session_id": session_id, "on_busy": "steer"}

        async def ask() -> list[ServerSentEvent]:
            async with client.stream("POST", URL, json=body, headers={"Idempotency-Key": "k"}) as response:
                return [event async for event in events_of(response) if event.event != "queued"]

        live = asyncio.create_task(ask())
        await waiting(engine, session_id, 1)
        gate.set()
        await first
        assert names(await live)[0] == "steer"
        assert await ask() == await live


async def test_a_steer_waits_while_a_person_is_asked() -> None:
    provider = ScriptedProvider([ToolCall("current_time", {})], [say("done so")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, tools=("current_time",), confirm_before=("current_time",))
        asked = (await client.post(URL, json={"message": "1", "stream": False})).json()
        session_id = asked["session_id"]
        body = {"message": "2", "session_id": session_id, "on_busy": "steer", "stream": False}
        answer = await client.post(URL, json=body, headers={"Idempotency-Key": "k"})
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
        assert len(provider.requests) == 1
        question = asked["questions"][0]["id"]
        respond = {"confirmation_id": question, "answers": ["approve"]}
        assert (await client.post(f"/api/v1/sessions/{session_id}/respond", json=respond)).status_code == 200
        end = (await client.post(URL, json=body, headers={"Idempotency-Key": "k"})).json()
    assert end["message"] == "done so"
    assert [message.content for message in provider.requests[1].messages if message.role == "user"] == ["1", "2"]


async def test_attachments_of_a_steer_reach_the_model() -> None:
    gate = asyncio.Event()
    provider = Seeing([say("one "), gate], [say("two")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        session_id, first = await begin(client, "1")
        image = {"media_type": "image/png", "data": "aGVsbG8=", "name": "x.png"}
        body = {"message": "2", "session_id": session_id, "on_busy": "steer", "attachments": [image], "stream": False}
        task = asyncio.create_task(client.post(URL, json=body))
        await waiting(engine, session_id, 1)
        gate.set()
        await first
        assert (await task).json()["message"] == "one two"
    assert [one.data for one in provider.requests[1].messages[-1].attachments] == ["aGVsbG8="]


async def test_an_absorbed_message_keeps_its_place_over_a_restart_and_a_waiting_one_is_absorbed_then(
    tmp_path: Path,
) -> None:
    never = asyncio.Event()
    provider = ScriptedProvider([say("one "), gate := asyncio.Event()], [say("two "), never])
    async with served_engine(providing(provider), data=tmp_path) as (engine, client):
        await scripted_schema(engine)
        session_id, first = await begin(client, "1")
        early = await steer(engine, client, session_id, "2")
        gate.set()
        while len(provider.requests) < 2:
            await asyncio.sleep(0.002)
        late = await steer(engine, client, session_id, "3")
        for task in (first, early, late):
            task.cancel()
    again = ScriptedProvider([say("two ")], [say("three")])
    async with served_engine(providing(again), data=tmp_path) as (engine, client):
        while engine.runner.turns:
            await asyncio.sleep(0.005)
        stored = await session(client, session_id)
    heard = [[message.content for message in one.messages if message.role == "user"] for one in again.requests]
    assert heard == [["1", "2"], ["1", "2", "3"]]
    assert [one["content"] for one in stored["messages"]] == ["1", "one ", "2", "two ", "3", "three"]
    assert [status for (status,) in rows(tmp_path, "select status from turns order by seq")] == [
        *("completed", "absorbed", "absorbed")
    ]


async def test_a_message_that_waits_to_steer_keeps_its_place_before_later_ones_over_a_restart(tmp_path: Path) -> None:
    async with served_engine(providing(ScriptedProvider([say("one "), asyncio.Event()])), data=tmp_path) as (
        engine,
        client,
    ):
        await scripted_schema(engine)
        session_id, first = await begin(client, "1")
        early = await steer(engine, client, session_id, "2")
        first.cancel()
        early.cancel()
    again = ScriptedProvider([say("one "), asyncio.Event()], [say("two")], [say("three")])
    async with served_engine(providing(again), data=tmp_path) as (engine, client):
        while not again.requests:
            await asyncio.sleep(0.002)
        late = await steer(engine, client, session_id, "3", 2)
        await client.post(f"/api/v1/sessions/{session_id}/cancel")
        await late
        stored = await session(client, session_id)
    assert [one["content"] for one in stored["messages"] if one["role"] == "user"] == ["1", "2", "3"]


async def test_a_session_is_active_while_an_older_message_is_answered_behind_an_interrupting_one() -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([say("one"), asyncio.Event()], [say("urgent")], [say("two"), gate])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        session_id, _ = await begin(client, "1")
        queued = asyncio.create_task(chat(client, "test", "2", session_id=session_id))
        await waiting(engine, session_id, 1)
        await chat(client, "test", "now", session_id=session_id, on_busy="interrupt")
        assert (await session(client, session_id))["status"] == "active"
        gate.set()
        await queued
        assert (await session(client, session_id))["status"] == "completed"


async def test_an_absorbed_message_is_shown_as_the_turn_that_answers_it_over_a_restart_too(tmp_path: Path) -> None:
    gate, never = asyncio.Event(), asyncio.Event()
    provider = ScriptedProvider([say("one "), gate], [ToolCall("current_time", {})], [say("two "), never])
    async with served_engine(providing(provider), data=tmp_path) as (engine, client):
        await scripted_schema(engine, tools=("current_time",), confirm_before=("current_time",))
        session_id, first = await begin(client, "1")
        steering = await steer(engine, client, session_id, "2")
        gate.set()
        while (await session(client, session_id))["status"] != "active" or not engine.runner.lanes[
            session_id
        ].current.holds:
            await asyncio.sleep(0.002)
        events = (await client.get(f"/api/v1/sessions/{session_id}/events?follow=false")).json()["data"]
        absorbed = next(one["data"]["turn_id"] for one in events if one["event"] == "steered")
        url = f"/api/v1/sessions/{session_id}/turns/{absorbed}"
        while not (before := (await client.get(url)).json()).get("questions"):  # it holds before they are committed
            await asyncio.sleep(0.002)
        first.cancel()
        steering.cancel()
    async with served_engine(providing(ScriptedProvider([say("two")])), data=tmp_path) as (engine, client):
        while not engine.runner.lanes[session_id].current.holds:
            await asyncio.sleep(0.002)
        after = (await client.get(url)).json()
    assert (before["status"], before["message"], len(before["questions"])) == ("needs_input", "one ", 1)
    assert all(after[name] == before[name] for name in ("status", "message", "questions", "turn_id"))


@pytest.mark.parametrize("admin_runs", [True, False])
async def test_a_turn_is_not_steered_by_anybody_else(admin_runs: bool) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([say("one")], [say("two "), gate], [say("three")])
    async with served_engine(providing(provider)) as (engine, admin):
        await scripted_schema(engine)
        headers = {"Authorization": f"Bearer {await token(engine, 'chat')}"}
        async with httpx.AsyncClient(base_url=admin.base_url, headers=headers, timeout=30) as owner:
            session_id = said(await chat(owner, "test", "first"), "done")[0]["session_id"]
            runs, steers = (admin, owner) if admin_runs else (owner, admin)
            _, second = await begin(runs, "second", session_id=session_id)
            third = await steer(engine, steers, session_id, "third")
            gate.set()
            assert "steer" not in await second
            assert said(await third, "message")[0]["content"] == "three"
