"""Structured output in chats over a real socket: blocks shown, broken ones mended, forms answered."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import httpx
import pytest

from bytebrew import MessageDelta, ToolCall
from bytebrew.base.sse_reader import ServerSentEvent
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, Step, chat, names, providing, scripted_schema, served_engine
from tests.tables import check_refusal, token_with

CHAT = "/api/v1/schemas/test/chat"
NAME = "show_structured_output"
TABLE: dict[str, Any] = {
    "output_type": "table",
    "title": "Order 7",
    "rows": [{"label": "Item", "value": "Tea"}, {"label": "Price", "value": 3.5}, {"label": "Paid", "value": True}],
    "actions": [{"label": "Pay", "type": "primary", "value": "pay 7"}, {"label": "Cancel"}],
}
INFO: dict[str, Any] = {"output_type": "info", "title": "Done", "description": "Your order is on its way."}
FORM: dict[str, Any] = {
    "output_type": "form",
    "title": "Ticket",
    "questions": [
        {"id": "what", "label": "What happened?"},
        {
            "id": "prio",
            "label": "Priority",
            "type": "select",
            "options": [{"label": "High", "value": "h"}, {"label": "Low", "value": "l"}],
            "default": "l",
        },
        {"id": "where", "label": "Where", "type": "multiselect", "options": [{"label": "Web"}, {"label": "App"}]},
    ],
}


class Served(NamedTuple):
    """An engine whose agent may show blocks."""

    engine: Engine
    client: httpx.AsyncClient
    model: ScriptedProvider

    def shown(self, request: int = -1) -> str:
        """The last text that the model was shown in one of its requests."""
        return self.model.requests[request].messages[-1].content


@asynccontextmanager
async def showing(*answers: Sequence[Step]) -> AsyncIterator[Served]:
    model = ScriptedProvider(*answers)
    async with served_engine(providing(model)) as (engine, client):
        await scripted_schema(engine, tools=(NAME,))
        yield Served(engine, client, model)


def block(fields: dict[str, Any], call_id: str = "c1") -> ToolCall:
    return ToolCall(NAME, fields, call_id)


def say(text: str) -> MessageDelta:
    return MessageDelta(content=text)


def blocks(events: Sequence[ServerSentEvent]) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in events if event.event == "structured_output"]


def session_of(events: Sequence[ServerSentEvent]) -> str:
    found: str = json.loads(events[-1].data)["session_id"]
    return found


# Blocks.


async def test_a_table_is_an_event_between_its_call_and_its_result() -> None:
    async with showing([block(TABLE)], [say("There you are.")]) as it:
        events = await chat(it.client, "test", "show me")
    order = ["tool_call", "structured_output", "tool_result", "message_delta", "message", "done"]
    assert names(events) == order
    actions = [TABLE["actions"][0], {"label": "Cancel", "type": "secondary", "value": "Cancel"}]
    assert blocks(events) == [{**TABLE, "call_id": "c1", "actions": actions}]
    assert it.shown() == "Shown to the user"


async def test_an_info_has_no_more_than_it_says() -> None:
    async with showing([block(INFO)], [say("ok")]) as it:
        events = await chat(it.client, "test", "show me")
    assert blocks(events) == [{**INFO, "call_id": "c1"}]


async def test_a_form_ends_the_turn_and_what_was_said_before_it_is_the_answer() -> None:
    async with showing([say("A few questions."), block(FORM)], [say("never")]) as it:
        events = await chat(it.client, "test", "help")
    assert names(events) == ["message_delta", "tool_call", "structured_output", "tool_result", "message", "done"]
    assert '"content":"A few questions."' in events[-2].data
    [form] = blocks(events)
    what, prio, where = form["questions"]
    assert what == {"id": "what", "label": "What happened?", "type": "text", "options": []}
    assert prio == FORM["questions"][1]
    assert where["options"] == [{"label": "Web", "value": "Web"}, {"label": "App", "value": "App"}]
    assert len(it.model.requests) == 1


async def test_the_originals_word_for_a_table_is_read() -> None:
    async with showing([block({**TABLE, "output_type": "summary_table"})], [say("ok")]) as it:
        [shown] = blocks(await chat(it.client, "test", "show me"))
    assert shown["output_type"] == "table"


async def test_a_block_is_kept_in_the_session() -> None:
    async with showing([block(TABLE)], [say("ok")]) as it:
        events = await chat(it.client, "test", "show me")
        url = f"/api/v1/sessions/{session_of(events)}/events"
        page = (await it.client.get(url, params={"follow": "false"})).text
    assert '"title":"Order 7"' in page


async def test_the_model_is_told_what_it_may_show() -> None:
    async with showing([say("ok")]) as it:
        await chat(it.client, "test", "hi")
    [spec] = it.model.requests[0].tools
    assert spec.name == NAME
    assert set(spec.input_schema["properties"]) == {
        *("output_type", "title", "description", "rows", "actions", "questions")
    }
    assert spec.input_schema["required"] == ["output_type"]


# Broken blocks.


def with_question(**changes: Any) -> dict[str, Any]:
    options = [{"label": "A"}, {"label": "B"}]
    question = {"id": "q", "label": "Q", "type": "select", "options": options, **changes}
    return {"output_type": "form", "questions": [question]}


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({}, "missing required field `output_type`"),
        ({"output_type": "chart"}, "Invalid enum value 'chart' - at `$.output_type`"),
        ({"output_type": "table"}, "rows: a table needs at least one row"),
        ({"output_type": "table", "rows": [{"label": "x"}]}, "missing required field `value` - at `$.rows[0]`"),
        ({"output_type": "table", "rows": [{"label": "", "value": 1}]}, "`$.rows[0].label`"),
        ({"output_type": "table", "rows": "[]"}, "Expected `array`, got `str` - at `$.rows`"),
        ({**TABLE, "actions": [{"label": "x", "type": "loud"}]}, "'loud' - at `$.actions[0].type`"),
        ({**TABLE, "colour": "red"}, "unknown field `colour`"),
        ({"output_type": "info"}, "description: an info needs a title or a description"),
        ({**INFO, "questions": FORM["questions"]}, "questions: only a form asks questions, not info"),
        ({"output_type": "form"}, "questions: a form has 1 to 5 questions, this one 0"),
        ({**FORM, "questions": FORM["questions"] * 2}, "questions: a form has 1 to 5 questions, this one 6"),
        ({**FORM, "questions": FORM["questions"][:1] * 2}, "questions: 2 of them have the id 'what'"),
        (with_question(type="radio"), "'radio' - at `$.questions[0].type`"),
        (with_question(options=[]), "questions[0].options: a select has 2 to 5 options, this one 0"),
        (with_question(options=[{"label": "A"}] * 6), "has 2 to 5 options, this one 6"),
        (with_question(options=[{"label": "A"}] * 2), "questions[0].options: two of them have one value"),
        (with_question(type="text"), "questions[0].options: a text question has none"),
        (with_question(default="C"), "questions[0].default: 'C' is none of the options' values: A, B"),
        (with_question(default=["A", "B"]), "questions[0].default: a select has one choice"),
        (with_question(type="text", options=[], default=["A"]), "questions[0].default: a text question has one text"),
        (with_question(type="multiselect", default=["A", "C"]), "questions[0].default: 'C' is none"),
    ],
)
async def test_a_broken_block_is_told_to_the_model_and_mended_by_it(broken: dict[str, Any], words: str) -> None:
    async with showing([block(broken, "c1")], [block(INFO, "c2")], [say("ok")]) as it:
        events = await chat(it.client, "test", "show me")
    first, second = (json.loads(event.data) for event in events if event.event == "tool_result")
    assert (first["call_id"], first["has_error"]) == ("c1", True)
    assert words in first["output"]
    assert it.shown(1) == first["output"]
    assert (second["call_id"], second["has_error"]) == ("c2", False)
    assert [one["call_id"] for one in blocks(events)] == ["c2"]


async def test_all_faults_are_told_at_once() -> None:
    broken = {"output_type": "form", "questions": [with_question(options=[])["questions"][0]] * 2}
    async with showing([block(broken)], [say("ok")]) as it:
        await chat(it.client, "test", "show me")
    assert it.shown() == (
        "Not shown. questions: 2 of them have the id 'q'; give each its own; "
        "questions[0].options: a select has 2 to 5 options, this one 0; "
        "questions[1].options: a select has 2 to 5 options, this one 0. "
        "Mend this and call the tool again with the whole block"
    )


async def test_a_broken_form_does_not_end_the_turn() -> None:
    async with showing([block({"output_type": "form"}, "c1")], [block(FORM, "c2")], [say("never")]) as it:
        events = await chat(it.client, "test", "help")
        assert names(events)[-3:] == ["tool_result", "message", "done"]
        assert len(it.model.requests) == 2


async def test_a_form_in_the_background_is_told_to_be_pointless() -> None:
    async with showing([block(FORM, "c1"), block(TABLE, "c2")], [say("I need a priority.")]) as it:
        made = await it.client.post("/api/v1/tasks", json={"title": "Ask", "agent": "test"})
        url = f"/api/v1/tasks/{made.json()['id']}"
        with anyio.fail_after(5):
            while (task := (await it.client.get(url)).json())["status"] != "completed":
                await anyio.sleep(0.01)
        page = (await it.client.get(f"{url}/events", params={"follow": "false"})).json()["events"]
    told = {one["data"]["call_id"]: one["data"] for one in page if one["event"] == "tool_result"}
    assert (told["c1"]["has_error"], told["c2"]["output"]) == (True, "Shown to the user")
    assert "You work in the background, where nobody answers a form" in told["c1"]["output"]
    assert [one["data"]["call_id"] for one in page if one["event"] == "structured_output"] == ["c2"]
    assert task["result"] == "I need a priority."


async def test_who_goes_on_talking_where_a_task_was_worked_on_is_asked_by_a_form() -> None:
    async with showing([say("Done.")], [block(FORM)]) as it:
        made = await it.client.post("/api/v1/tasks", json={"title": "Work", "agent": "test", "schema": "test"})
        url = f"/api/v1/tasks/{made.json()['id']}"
        with anyio.fail_after(5):
            while (task := (await it.client.get(url)).json())["status"] != "completed":
                await anyio.sleep(0.01)
        [form] = blocks(await chat(it.client, "test", "What do you need?", session_id=task["session_id"]))
        assert form["title"] == "Ticket"
        body = {"session_id": task["session_id"], "message": {"form": {"what": "x", "where": []}}, "stream": False}
        assert (await it.client.post(CHAT, json=body)).status_code == 202  # its answer is a form again


# Answers to forms.


async def asked(it: Served) -> str:
    """The session in which the form is shown."""
    return session_of(await chat(it.client, "test", "help"))


async def test_a_form_is_answered_and_the_model_reads_the_answers() -> None:
    async with showing([block(FORM)], [say("Thanks.")]) as it:
        session = await asked(it)
        body = {"session_id": session, "message": {"form": {"what": "Fire!\nRun.", "prio": "h", "where": ["App"]}}}
        answer = await it.client.post(CHAT, json={**body, "stream": False})
        assert (answer.status_code, answer.json()["message"]) == (200, "Thanks.")
        told = "Answers to the form 'Ticket':\nWhat happened? (what): Fire!\nRun.\nPriority (prio): h (High)"
        assert it.shown() == f"{told}\nWhere (where): App"
        said = (await it.client.get(f"/api/v1/sessions/{session}")).json()["messages"]
        assert [one["content"] for one in said if one["role"] == "user"] == ["help", it.shown()]


async def test_what_is_left_out_has_its_default() -> None:
    async with showing([block(FORM)], [say("Thanks.")]) as it:
        body = {"session_id": await asked(it), "message": {"form": {"what": "", "where": []}}}
        assert (await it.client.post(CHAT, json={**body, "stream": False})).status_code == 200
    assert it.shown().endswith("(what): \nPriority (prio): l (Low)\nWhere (where): none of them")


@pytest.mark.parametrize(
    ("changes", "default"),
    [
        ({"default": ["B"]}, "B"),
        ({"default": "B"}, "B"),
        ({"type": "multiselect", "default": "B"}, ["B"]),
        ({"type": "multiselect", "default": ["A", "B"]}, ["A", "B"]),
        ({"type": "multiselect", "default": ["A", "A"]}, ["A"]),
    ],
)
async def test_a_default_has_the_form_of_an_answer(changes: dict[str, Any], default: Any) -> None:
    async with showing([block(with_question(**changes))], [say("Thanks.")]) as it:
        events = await chat(it.client, "test", "help")
        assert blocks(events)[0]["questions"][0]["default"] == default
        body = {"session_id": session_of(events), "message": {"form": {}}, "stream": False}
        assert (await it.client.post(CHAT, json=body)).status_code == 200
    assert it.shown() == f"Answers to the form:\nQ (q): {default if isinstance(default, str) else ', '.join(default)}"


async def test_a_form_may_be_answered_after_its_events_were_packed() -> None:
    async with showing([block(FORM)], [block(TABLE)], [say("So much for now.")]) as it:
        session = await asked(it)
        await chat(it.client, "test", "and a table", session_id=session)
        age = "update turns set finished_at = '2020-01-01T00:00:00.000000Z'"
        await it.engine.db.write(lambda conn: conn.execute(age).rowcount)
        await it.engine.retention.run_once()
        sql = "select distinct type from events"
        kinds = await it.engine.db.read(lambda conn: [row[0] for row in conn.execute(sql)])
        assert kinds == ["packed"]
        body = {"session_id": session, "message": {"form": GOOD}, "stream": False}
        assert (await it.client.post(CHAT, json=body)).status_code == 200
    assert it.shown().startswith("Answers to the form 'Ticket':")


async def test_a_form_waits_in_a_fork_until_that_one_goes_on() -> None:
    async with showing([block(FORM, "c1")], [say("thanks")], [say("thanks too")]) as it:
        session = await asked(it)
        turn_id = (await it.client.get(f"/api/v1/sessions/{session}/events?follow=false")).json()["data"][-1]["data"][
            "turn_id"
        ]
        fork = (await it.client.post(f"/api/v1/sessions/{session}/fork", json={})).json()["id"]

        async def status(session_id: str) -> str:
            turn = (await it.client.get(f"/api/v1/sessions/{session_id}/turns/{turn_id}")).json()
            return f"{turn['status']}, {'form' if turn.get('form') else 'no form'}"

        await it.client.post(CHAT, json={"session_id": session, "message": {"form": GOOD}, "stream": False})
        assert [await status(session), await status(fork)] == ["completed, no form", "needs_input, form"]
        body = {"session_id": fork, "message": {"form": GOOD}, "stream": False}
        assert (await it.client.post(CHAT, json=body)).status_code == 200
        assert await status(fork) == "completed, no form"


async def test_a_form_may_be_answered_in_words_too() -> None:
    async with showing([block(FORM)], [say("Thanks.")]) as it:
        await chat(it.client, "test", "it burns, high", session_id=await asked(it))
    assert it.shown() == "it burns, high"


GOOD = {"what": "fire", "prio": "h", "where": ["Web", "App"]}


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"what": None}, "what", "is not answered"),
        ({"what": 5}, "what", "send a text of at most 10000 characters"),
        ({"what": "x" * 10_001}, "what", "send a text of at most 10000 characters"),
        ({"prio": "High"}, "prio", "send one of h, l"),
        ({"prio": ["h"]}, "prio", "send one of h, l"),
        ({"where": "Web"}, "where", "send a list of Web, App"),
        ({"where": ["Web", "Web"]}, "where", "send a list of Web, App"),
        ({"where": ["Moon"]}, "where", "send a list of Web, App"),
        ({"where": [{"Web": 1}]}, "where", "send a list of Web, App"),
        ({"colour": "red"}, "colour", "is no question of the form"),
    ],
)
async def test_an_answer_that_does_not_fit_is_a_422_that_names_it(changes: Any, path: str, words: str) -> None:
    async with showing([block(FORM)], [say("never")]) as it:
        body = {"session_id": await asked(it), "message": {"form": {**GOOD, **changes}}}
        answer = await it.client.post(CHAT, json=body)
        assert answer.status_code == 422
        assert check_refusal(answer)["details"] == [{"path": f"$.message.form.{path}", "message": words}]
        assert len(it.model.requests) == 1


async def test_every_answer_that_does_not_fit_is_named() -> None:
    async with showing([block(FORM)]) as it:
        body = {"session_id": await asked(it), "message": {"form": {"prio": "x"}}}
        details = check_refusal(await it.client.post(CHAT, json=body))["details"]
    assert [one["path"] for one in details] == [f"$.message.form.{name}" for name in ("prio", "what", "where")]


async def test_of_very_many_answers_that_do_not_fit_the_first_are_named() -> None:
    async with showing([block(FORM)]) as it:
        body = {"session_id": await asked(it), "message": {"form": {f"a{n:04}": n for n in range(5000)}}}
        refused = check_refusal(await it.client.post(CHAT, json=body))
    assert refused["message"].startswith("5002 answers do not fit the form")
    assert [one["path"] for one in refused["details"]] == [f"$.message.form.a{n:04}" for n in range(100)]


async def test_the_last_form_of_the_session_is_the_one_that_is_answered() -> None:
    other = {**with_question(), "title": "Other"}
    async with showing([block(FORM)], [block(other, "c2")], [block(TABLE, "c3")], [say("ok")]) as it:
        session = await asked(it)
        await chat(it.client, "test", "another one", session_id=session)
        await chat(it.client, "test", "and a table", session_id=session)
        body = {"session_id": session, "stream": False}
        assert (await it.client.post(CHAT, json={**body, "message": {"form": GOOD}})).status_code == 422
        assert (await it.client.post(CHAT, json={**body, "message": {"form": {"q": "A"}}})).status_code == 200
    assert it.shown() == "Answers to the form 'Other':\nQ (q): A"


async def test_there_is_a_form_to_answer_only_where_one_was_shown() -> None:
    async with showing([say("no form here")]) as it:
        session = await asked(it)
        for body in ({}, {"session_id": session}, {"session_id": "12345678-1234-4234-8234-123456789abc"}):
            refused = check_refusal(await it.client.post(CHAT, json={"message": {"form": {"a": "b"}}, **body}))
            assert refused["error"] == "unprocessable"
            assert refused["details"][0]["path"] == "$.message.form"


async def test_anothers_form_is_not_to_be_found() -> None:
    async with showing([block(FORM)]) as it:
        body = {"session_id": await asked(it), "message": {"form": {"what": 1}}}
        token = (await token_with(it.engine, "chat")).token
        answer = await it.client.post(CHAT, json=body, headers={"authorization": f"Bearer {token}"})
    assert check_refusal(answer)["error"] == "not_found"


@pytest.mark.parametrize(
    "message", [{}, {"form": []}, {"form": {}, "text": "x"}, ["form"], None, 5], ids=lambda one: json.dumps(one)
)
async def test_a_message_is_a_text_or_a_form(message: Any) -> None:
    async with showing([say("never")]) as it:
        answer = await it.client.post(CHAT, json={"message": message})
    assert answer.status_code == 400
    assert check_refusal(answer)["details"][0]["path"].startswith("$.message")
