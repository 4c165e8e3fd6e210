"""Where a person must answer nobody is left waiting: an answer says so at once, and a queued message its place."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
import pytest

from bytebrew import Detail, Event, MessageDelta, Result, ToolCall, Unprocessable, tool
from bytebrew.engine import Engine
from bytebrew.store import confirmations
from bytebrew.testing import ScriptedProvider, chat, events_of, plugin, providing, scripted_schema, served_engine
from tests.conversation.test_confirmations import PAY, Setup, answer, configure, engine_on, processes, say
from tests.ledger import Ledger
from tests.plugins.test_spawn import Scripts, spawn, tools, troupe
from tests.plugins.test_spawn import say as said
from tests.plugins.test_structured_output import FORM, block, showing
from tests.tables import check_refusal, token_with

__all__ = ["processes"]
URL = "/api/v1/schemas/test/chat"


class Served(NamedTuple):
    """An engine whose agent asks before it pays."""

    engine: Engine
    client: httpx.AsyncClient
    ledger: Ledger


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with engine_on(tmp_path) as (engine, client, ledger):
        await configure(client, confirm_before=["pay"])
        yield Served(engine, client, ledger)


async def whole(client: httpx.AsyncClient, steps: Any, key: str = "", **body: Any) -> httpx.Response:
    """The answer to a message without a stream."""
    headers = {"Idempotency-Key": key} if key else {}
    given = {"message": json.dumps(steps), "stream": False, **body}
    with anyio.fail_after(15):
        return await client.post(URL, json=given, headers=headers)


async def ended(client: httpx.AsyncClient, waiting: dict[str, Any]) -> dict[str, Any]:
    """The turn of an answer once it has ended."""
    url = f"/api/v1/sessions/{waiting['session_id']}/turns/{waiting['turn_id']}"
    with anyio.fail_after(15):
        while True:
            turn: dict[str, Any] = (await client.get(url)).json()
            if turn["status"] not in ("queued", "running", "needs_input"):
                return turn
            await asyncio.sleep(0.01)


# A question


async def test_an_answer_without_a_stream_says_at_once_that_a_person_must_answer(served: Served) -> None:
    got = await whole(served.client, PAY, "k")
    body = got.json()
    [question] = body["questions"]
    assert (got.status_code, body["status"], body["message"]) == (202, "needs_input", "let me ")
    assert (question["tool"], question["input"], question["status"]) == ("pay", {"amount": 5}, "pending")
    assert (question["session_id"], question["kind"]) == (body["session_id"], "confirm")
    assert [call["call_id"] for call in body["tool_calls"]] == [question["call_id"]]
    assert (got.headers["x-session-id"], got.headers["x-turn-id"]) == (body["session_id"], body["turn_id"])
    assert (await served.client.get(got.headers["location"])).json() == body


async def test_the_same_key_gets_the_question_again_and_the_end_once_it_is_answered(served: Served) -> None:
    first, second = await whole(served.client, PAY, "k"), await whole(served.client, PAY, "k")
    assert (first.status_code, first.content) == (second.status_code, second.content)
    [question] = first.json()["questions"]
    answered = await answer(served.client, question["session_id"], question["id"], "approve")
    assert answered.status_code == 200
    end, again = await whole(served.client, PAY, "k"), await whole(served.client, PAY, "k")
    assert (end.status_code, end.json()["status"], end.json()["message"]) == (200, "completed", "let me paid 5")
    assert (again.status_code, again.content) == (end.status_code, end.content)
    assert end.json()["turn_id"] == first.json()["turn_id"]
    assert served.ledger.counts() == {"model 0": 1, "model 1": 1, "pay 5": 1}


async def test_without_a_key_the_turn_has_the_end(served: Served) -> None:
    waiting = (await whole(served.client, PAY)).json()
    await answer(served.client, waiting["session_id"], waiting["questions"][0]["call_id"], "no")
    end = await ended(served.client, waiting)
    assert (end["status"], end["finish_reason"]) == ("completed", "stop")
    assert end["message"].endswith("A person refused this call")


async def test_the_end_of_one_question_may_be_another(served: Served) -> None:
    steps = [[["pay", {"amount": 1}]], [["pay", {"amount": 2}]], ["ok"]]
    for amount in (1, 2):
        got = await whole(served.client, steps, "k")
        [question] = got.json()["questions"]
        assert (got.status_code, question["input"]) == (202, {"amount": amount})
        await answer(served.client, question["session_id"], question["id"], "approve")
    assert (await whole(served.client, steps, "k")).json()["message"] == "ok"


async def test_the_question_and_the_end_outlive_a_kill(processes: Setup) -> None:
    async with processes.serving() as (process, client):
        await configure(client, confirm_before=["pay"])
        first = await whole(client, PAY, "k")
        assert first.status_code == 202
        process.kill()
    async with processes.serving() as (process, client):
        again = await whole(client, PAY, "k")
        assert (again.status_code, again.json()["questions"]) == (202, first.json()["questions"])
        [question] = again.json()["questions"]
        await answer(client, question["session_id"], question["id"], "approve")
        end = await whole(client, PAY, "k")
        assert (end.status_code, end.json()["message"]) == (200, "let me paid 5")
        process.kill()
    async with processes.serving() as (_, client):
        assert (await whole(client, PAY, "k")).content == end.content
    assert processes.ledger.counts()["pay 5"] == 1


async def test_an_engine_that_stops_again_gives_no_half_answer(tmp_path: Path) -> None:
    for start in range(2):
        provider = ScriptedProvider([MessageDelta(content="a"), asyncio.Event()])
        async with served_engine(providing(provider), data=tmp_path) as (engine, client):
            if not start:
                await scripted_schema(engine)
            asking = asyncio.create_task(whole(client, "hello", "k"))
            with anyio.fail_after(15):  # until the request has come and waits for the end of the turn
                while not any(turn.partial and turn.log._waiters for turn in engine.runner.turns.values()):
                    await asyncio.sleep(0.01)
            await engine.drain(0)
            got = await asking
            assert (got.status_code, got.json()["error"]) == (503, "draining")


async def test_the_key_outlives_a_person_who_takes_days(served: Served) -> None:
    async def age(column: str) -> None:
        sql = f"update {column.partition('.')[0]} set {column.partition('.')[2]} = '2020-01-01T00:00:00.000000Z'"
        await served.engine.db.write(lambda conn: conn.execute(sql).rowcount)
        await served.engine.retention.run_once()

    first = await whole(served.client, PAY, "k")
    await age("idempotency.created_at")
    again = await whole(served.client, PAY, "k")
    assert (again.status_code, again.content) == (202, first.content)
    [question] = first.json()["questions"]
    await answer(served.client, question["session_id"], question["id"], "approve")
    end = await whole(served.client, PAY, "k")
    await age("idempotency.created_at")
    assert (await whole(served.client, PAY, "k")).content == end.content
    assert served.ledger.counts()["pay 5"] == 1
    await age("turns.finished_at")
    assert (await whole(served.client, PAY, "k")).json()["turn_id"] != end.json()["turn_id"]


async def test_what_became_of_a_cut_call_is_asked_so_too(processes: Setup) -> None:
    steps = [[["pay", {"amount": 1, "slow": 30}]], ["ok"]]
    async with processes.serving() as (process, client):
        await configure(client)
        asking = asyncio.create_task(whole(client, steps, "k"))
        while not processes.ledger.counts()["pay 1"]:
            await asyncio.sleep(0.01)
        process.kill()
        with pytest.raises(httpx.RemoteProtocolError):
            await asking
    async with processes.serving() as (_, client):
        got = await whole(client, steps, "k")
        [question] = got.json()["questions"]
        assert (got.status_code, question["kind"]) == (202, "unknown_outcome")
        await answer(client, question["session_id"], question["call_id"], "mark_done")
        assert (await whole(client, steps, "k")).json()["message"] == "ok"


async def test_the_question_of_a_spawned_agent_is_the_turns_own() -> None:
    @tool
    async def launch() -> str:
        """Launches."""
        return "launched"

    scripts: Scripts = {
        "root": [[spawn("leaf", "go")], [said("end")]],
        "leaf": [[ToolCall("launch", {}, "c-launch")], [said("l")]],
    }
    agents: dict[str, Any] = {
        "root": {"can_spawn": ["leaf"]},
        "leaf": {"tools": ["launch"], "confirm_before": ["launch"]},
    }
    async with troupe(scripts, tools(launch), agents=agents) as it:
        got = await whole(it.client, "go", "k")
        [question] = got.json()["questions"]
        assert (got.status_code, question["agent"], question["call_id"]) == (202, "leaf", "c-launch")
        await answer(it.client, got.json()["session_id"], question["id"], "approve")
        assert (await whole(it.client, "go", "k")).json()["message"] == "end"


async def test_a_question_is_shown_with_what_is_invisible_in_it(served: Served) -> None:
    got = await whole(served.client, [[["pay", {"amount": 5, "to": "a\u202eb"}]], ["ok"]])
    assert got.json()["questions"][0]["input"]["to"] == "a[U+202E]b"


# A form


async def test_a_form_is_an_answer_that_a_person_must_give() -> None:
    async with showing([said("Tell me. "), block(FORM)], [said("thanks")]) as it:
        body = {"message": "go", "stream": False}
        first = await it.client.post(URL, json=body, headers={"Idempotency-Key": "k"})
        again = await it.client.post(URL, json=body, headers={"Idempotency-Key": "k"})
        got = first.json()
        assert (first.status_code, got["status"], got["message"]) == (202, "needs_input", "Tell me. ")
        assert (got["form"]["title"], got["form"]["output_type"]) == ("Ticket", "form")
        assert (again.status_code, again.content) == (202, first.content)
        assert (await it.client.get(first.headers["location"])).json() == got
        answers = {"session_id": got["session_id"], "message": {"form": {"what": "x", "where": []}}, "stream": False}
        end = await it.client.post(URL, json=answers)
        later = await it.client.get(first.headers["location"])
        repeated = await it.client.post(URL, json=body, headers={"Idempotency-Key": "k"})
    assert (end.status_code, end.json()["message"]) == (200, "thanks")
    assert (later.json()["status"], later.json()["message"], "form" in later.json()) == (
        "completed",
        "Tell me. ",
        False,
    )
    assert (repeated.status_code, repeated.json()) == (200, later.json())


class Wish(Event, frozen=True, kw_only=True):
    """A form that has one question."""

    name = "wish"
    title: str

    @property
    def awaits_answer(self) -> bool:
        return True

    def answered(self, answers: Mapping[str, Any]) -> str:
        if answers.keys() != {"wish"}:
            raise Unprocessable("One wish", details=[Detail("$.message.form.wish", "is not answered")])
        return f"I wish for {answers['wish']}"


async def test_any_plugins_event_may_be_a_form() -> None:
    @tool
    async def ask() -> Result:
        """Asks."""
        return Result(text="asked", events=(Wish(title="Lamp"),), ends_turn=True)

    ask.events = (Wish,)
    model = ScriptedProvider([ToolCall("ask", {})], [MessageDelta(content="granted")])
    lamp = plugin(register_tools=lambda register: register(ask))
    async with served_engine(providing(model), lamp) as (running, client):
        await scripted_schema(running, tools=("ask",))
        body = {"message": "go", "stream": False}
        asked = await client.post(URL, json=body)
        form = {"title": "Lamp"}
        assert (asked.status_code, asked.json()["status"], asked.json()["form"]) == (202, "needs_input", form)
        assert (await client.get(asked.headers["location"])).json() == asked.json()
        body["session_id"] = asked.json()["session_id"]
        refused = await client.post(URL, json={**body, "message": {"form": {}}})
        assert (refused.status_code, check_refusal(refused)["details"][0]["path"]) == (422, "$.message.form.wish")
        granted = await client.post(URL, json={**body, "message": {"form": {"wish": "rain"}}})
    assert granted.json()["message"] == "granted"
    assert model.requests[-1].messages[-1].content == "I wish for rain"


# A queue


async def test_a_queued_message_is_told_its_place_whenever_that_changes(served: Served) -> None:
    talk = say(served.client, PAY)
    [asked] = await talk.until("confirmation")
    second = say(served.client, [["two"]], session_id=talk.session_id)
    await second.until("queued")
    third = say(served.client, [["three"]], session_id=talk.session_id)
    [told] = await third.until("queued")
    assert told == {
        "session_id": talk.session_id,
        "turn_id": told["turn_id"],
        "position": 2,
        "needs_input": True,
    }
    await answer(served.client, talk.session_id, asked["call_id"], "approve")
    assert [await one.end() for one in (talk, second, third)]
    assert [one["needs_input"] for one in second.datas("queued")] in ([True], [True, False])
    assert {one["position"] for one in third.datas("queued")} == {1, 2}
    assert [one["content"] for one in third.datas("message")] == ["three"]
    assert third.datas("done")[0]["turn_id"] == told["turn_id"]


async def test_who_has_the_question_knows_that_the_turn_waits(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    queued, read = asyncio.Event(), served.engine.db.read

    async def late(work: Any, *args: Any) -> Any:
        if work is confirmations.of_call:  # the first that a turn does once its question is told
            await queued.wait()
        return await read(work, *args)

    monkeypatch.setattr(served.engine.db, "read", late)
    talk = say(served.client, PAY)
    [asked] = await talk.until("confirmation")
    second = say(served.client, [["two"]], session_id=talk.session_id)
    [told] = await second.until("queued")
    queued.set()
    assert told["needs_input"]
    await answer(served.client, talk.session_id, asked["call_id"], "approve")
    assert [await one.end() for one in (talk, second)]
    assert [one["needs_input"] for one in second.datas("queued")] in ([True], [True, False])


async def test_the_place_in_a_queue_is_no_event_of_the_session(served: Served) -> None:
    talk = say(served.client, PAY)
    [asked] = await talk.until("confirmation")
    second = say(served.client, [["two"]], session_id=talk.session_id)
    await second.until("queued")
    await answer(served.client, talk.session_id, asked["call_id"], "approve")
    await second.end()
    page = (await served.client.get(f"/api/v1/sessions/{talk.session_id}/events?follow=false")).json()
    assert "queued" not in {event["event"] for event in page["events"]}
    assert [event["id"] for event in page["events"]] == list(range(1, page["last"] + 1))
    assert next(event.id for event in second.seen if event.event == "queued") == ""


async def test_a_message_that_is_sent_again_is_told_its_place_too(served: Served) -> None:
    talk = say(served.client, PAY)
    [asked] = await talk.until("confirmation")
    body = {"message": '[["two"]]', "session_id": talk.session_id}
    for _ in range(2):
        async with served.client.stream("POST", URL, json=body, headers={"Idempotency-Key": "k"}) as stream:
            first = await anext(events_of(stream))
        assert (first.event, json.loads(first.data)["turn_id"]) == ("queued", stream.headers["x-turn-id"])
    await answer(served.client, talk.session_id, asked["call_id"], "no")
    await talk.end()


async def test_an_answer_behind_a_question_says_that_it_is_queued_and_for_what(served: Served) -> None:
    waiting = (await whole(served.client, PAY, "first")).json()
    session_id = waiting["session_id"]
    behind = await whole(served.client, [["two"]], "second", session_id=session_id)
    got = behind.json()
    assert (behind.status_code, got["status"], got["position"]) == (202, "queued", 1)
    assert got["questions"] == waiting["questions"]
    assert (await served.client.get(behind.headers["location"])).json() == got
    await answer(served.client, session_id, waiting["questions"][0]["id"], "approve")
    end = await whole(served.client, [["two"]], "second", session_id=session_id)
    assert (end.status_code, end.json()["message"], end.json()["turn_id"]) == (200, "two", got["turn_id"])
    assert (await whole(served.client, PAY, "first")).json()["message"] == "let me paid 5"


async def test_an_answer_behind_one_that_runs_waits_for_its_turn(served: Served) -> None:
    slow = say(served.client, [["one ", 0.3, "more"]])
    await slow.until("message_delta")
    got = await whole(served.client, [["two"]], session_id=slow.session_id)
    assert (got.status_code, got.json()["message"]) == (200, "two")
    await slow.end()


async def test_an_answer_that_waits_is_told_of_a_question_that_comes_later_in_front_of_it(served: Served) -> None:
    slow = say(served.client, [["one ", 0.3, ["pay", {"amount": 1}]], ["ok"]])
    await slow.until("message_delta")
    got = await whole(served.client, [["two"]], session_id=slow.session_id)
    assert (got.status_code, got.json()["status"]) == (202, "queued")
    await answer(served.client, slow.session_id, got.json()["questions"][0]["id"], "no")
    assert (await ended(served.client, got.json()))["message"] == "two"
    await slow.end()


# A turn


async def test_a_turn_says_how_far_it_is(served: Served) -> None:
    slow = say(served.client, [["one ", 30.0, "more"]])
    await slow.until("message_delta")
    [session] = (await served.client.get("/api/v1/sessions")).json()["sessions"]
    waiting = await whole(served.client, PAY)
    assert session["id"] == slow.session_id
    turn_id = (await served.engine.db.read(lambda conn: conn.execute("select id from turns").fetchall()))[0][0]
    url = f"/api/v1/sessions/{slow.session_id}/turns/{turn_id}"
    running = (await served.client.get(url)).json()
    assert (running["status"], running["message"]) == ("running", "one ")
    await served.client.post(f"/api/v1/sessions/{slow.session_id}/cancel")
    cancelled = (await served.client.get(url)).json()
    assert (cancelled["status"], cancelled["message"]) == ("cancelled", "one ")
    other = f"/api/v1/sessions/{waiting.json()['session_id']}/turns/{turn_id}"
    assert check_refusal(await served.client.get(other))["error"] == "not_found"
    stranger = await token_with(served.engine, "chat")
    assert (await served.client.get(url, headers={"Authorization": f"Bearer {stranger.token}"})).status_code == 404


async def test_a_turn_that_failed_says_why(served: Served) -> None:
    await served.client.patch("/api/v1/agents/test", json={"max_steps": 1})
    failed = await whole(served.client, [[["look", {"n": 1}]]])
    body = failed.json()
    turn = (await served.client.get(f"/api/v1/sessions/{body['session_id']}/turns/{body['turn_id']}")).json()
    assert (turn["status"], turn["failure"]["error"]) == ("failed", "max_steps_reached")
    assert turn["failure"]["message"] == body["message"]


async def test_a_chat_by_stream_is_what_it_was(served: Served) -> None:
    events = await chat(served.client, "test", '[["hi"]]')
    assert [event.event for event in events] == ["message_delta", "message", "done"]
    assert all(event.id for event in events)
