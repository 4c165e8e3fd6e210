"""Structured answers: valid at once, repaired once, refused with the path; of agents, requests and sub-agents."""

import asyncio
import json
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from msgspec.json import decode

from bytebrew import MessageDelta, Stop, ToolCall, Usage
from bytebrew.base.formats import new_uuid
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, chat, client, engine, events_of, names, providing, scripted_schema

PRICES = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "items": {"type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"]},
        }
    },
    "required": ["items"],
}
FORMAT = {"type": "json_schema", "name": "prices", "schema": PRICES}
VALID = {"items": [{"price": 1}, {"price": 2.5}]}
INVALID = {"items": [{"price": 1}, {"price": 2}, {"price": "free"}]}
FAULT = '$.items[2].price: "free" is not of type "number"'


def said(value: Any, *more: Any) -> list[Any]:
    """A scripted answer in two pieces."""
    text = value if isinstance(value, str) else json.dumps(value)
    return [MessageDelta(content=text[:5]), MessageDelta(content=text[5:]), Usage(10, 5), *more]


async def whole(http: httpx.AsyncClient, message: str = "Prices?", schema: str = "test", **body: Any) -> httpx.Response:
    return await http.post(f"/api/v1/schemas/{schema}/chat", json={"message": message, "stream": False, **body})


def text_of(events: list[Any]) -> str:
    """The text that a client shows in the end."""
    text = ""
    for event in events:
        if event.event == "message_restart":
            text = json.loads(event.data)["content"]
        elif event.event == "message_delta":
            text += json.loads(event.data)["content"]
    return text


async def test_a_valid_answer_comes_as_text_and_as_data() -> None:
    provider = ScriptedProvider(said(VALID))
    async with engine(providing(provider)) as running, client(running) as http:
        await scripted_schema(running)
        answer = (await whole(http, response_format=FORMAT)).json()
        assert (decode(answer["message"]), answer["data"], answer["status"]) == (VALID, VALID, "completed")
        url = f"/api/v1/sessions/{answer['session_id']}/turns/{answer['turn_id']}"
        assert (await http.get(url)).json()["data"] == VALID
        events = await chat(http, "test", "Prices?", response_format=FORMAT)
        assert names(events) == ["message_delta", "message", "done"]
        message = json.loads(events[-2].data)
        assert message == {"content": json.dumps(VALID), "role": "assistant", "data": VALID}


async def test_a_turn_without_a_format_has_no_data() -> None:
    async with engine(providing(ScriptedProvider(said(VALID)))) as running, client(running) as http:
        await scripted_schema(running)
        assert "data" not in (await whole(http)).json()
        events = await chat(http, "test", "Prices?")
        assert json.loads(events[-2].data) == {"content": json.dumps(VALID), "role": "assistant"}


async def test_null_is_data_where_the_schema_allows_it() -> None:
    async with engine(providing(ScriptedProvider(said("null")))) as running, client(running) as http:
        await scripted_schema(running)
        answer = (await whole(http, response_format={"type": "json_schema", "schema": {"type": "null"}})).json()
        assert answer["data"] is None
        url = f"/api/v1/sessions/{answer['session_id']}/turns/{answer['turn_id']}"
        assert (await http.get(url)).json()["data"] is None


async def test_an_invalid_answer_is_repaired_once_and_both_tries_are_counted() -> None:
    provider = ScriptedProvider(said(INVALID), said(VALID))
    async with engine(providing(provider)) as running, client(running) as http:
        await scripted_schema(running, max_steps=1)
        events = await chat(http, "test", "Prices?", response_format=FORMAT)
        assert names(events) == ["message_delta", "message_restart", "message_delta", "message", "done"]
        assert text_of(events) == json.loads(events[-2].data)["content"] == json.dumps(VALID)
        assert json.loads(events[-1].data)["usage"]["input_tokens"] == 20
        first, second = provider.requests
        assert (first.tool_choice, second.tool_choice) == ("auto", "none")
        *_, wrong, words = second.messages
        assert (wrong.role, wrong.content) == ("assistant", json.dumps(INVALID))
        assert (words.role, FAULT in words.content) == ("user", True)


async def test_a_later_turn_does_not_see_the_invalid_answer_and_a_reader_sees_its_mark() -> None:
    provider = ScriptedProvider(said(INVALID), said(VALID), said("Fine"))
    async with engine(providing(provider)) as running, client(running) as http:
        await scripted_schema(running)
        answer = (await whole(http, response_format=FORMAT)).json()
        await whole(http, "And now?", session_id=answer["session_id"])
        assert [one.content for one in provider.requests[-1].messages] == ["Prices?", json.dumps(VALID), "And now?"]
        stored = (await http.get(f"/api/v1/sessions/{answer['session_id']}/messages")).json()
        marks = [one.get("broken_off") for one in stored if one["role"] == "assistant"]
        assert marks == ["invalid", None, None]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (json.dumps(INVALID), FAULT),
        ("Sure: {}", "$: it is not JSON"),
        ("   ", "$: it is empty"),
        ('{"items": ["\\ud800"]}', "$: it is not JSON"),
        ("[" * 200 + "]" * 200, "$: it is nested deeper than 99 levels"),
    ],
)
async def test_a_second_invalid_answer_is_an_error_with_its_path(text: str, fault: str) -> None:
    provider = ScriptedProvider(said("no"), said(text))
    async with engine(providing(provider)) as running, client(running) as http:
        await scripted_schema(running)
        answer = await whole(http, response_format=FORMAT)
        assert (answer.status_code, answer.json()["error"]) == (502, "answer_invalid")
        assert fault in answer.json()["message"]
        assert len(provider.requests) == 2
        turn = (
            await http.get(f"/api/v1/sessions/{answer.json()['session_id']}/turns/{answer.json()['turn_id']}")
        ).json()
        assert (turn["status"], "data" in turn, turn["usage"]["output_tokens"]) == ("failed", False, 10)


async def test_an_answer_that_the_token_limit_cut_off_says_so_and_is_not_repaired() -> None:
    provider = ScriptedProvider(said('{"items": [', Stop("max_tokens")))
    async with engine(providing(provider)) as running, client(running) as http:
        await scripted_schema(running)
        answer = await whole(http, response_format=FORMAT)
        assert (answer.status_code, answer.json()["error"]) == (502, "answer_invalid")
        assert "reached the model's token limit" in answer.json()["message"]
        assert len(provider.requests) == 1


async def test_the_format_of_a_request_counts_in_place_of_the_agents_and_null_switches_it_off() -> None:
    provider = ScriptedProvider(said(VALID), said("[1]"), said("words"), said("words"))
    array = {"type": "json_schema", "schema": {"type": "array"}}
    async with engine(providing(provider)) as running, client(running) as http:
        await scripted_schema(running)
        assert (await http.put("/api/v1/agents/test", json={"response_format": FORMAT})).status_code == 200
        assert (await whole(http)).json()["data"] == VALID
        assert (await whole(http, response_format=array)).json()["data"] == [1]
        for off in (None, {"type": "text"}):
            answer = (await whole(http, response_format=off)).json()
            assert (answer["message"], "data" in answer) == ("words", False)


async def test_an_agent_stores_one_form_of_a_format_and_null_removes_it() -> None:
    async with engine() as running, client(running) as http:
        nested = {"type": "json_schema", "json_schema": {"name": "prices", "schema": PRICES, "strict": True}}
        made = await http.post("/api/v1/agents", json={"name": "a", "response_format": nested})
        assert made.json()["response_format"] == {**FORMAT, "strict": True}
        kept = await http.put("/api/v1/agents/a", json=made.json())  # what GET gives can be sent back
        assert (kept.status_code, kept.json()["response_format"]) == (200, {**FORMAT, "strict": True})
        export = (await http.get("/api/v1/config/export")).text
        assert "response_format:" in export
        again = await http.post("/api/v1/config/import?dry_run=true", content=export)
        assert {one["action"] for one in again.json()["changes"]} == {"unchanged"}
        for none in ({"type": "text"}, None):
            await http.put("/api/v1/agents/a", json={"response_format": FORMAT})
            assert (await http.put("/api/v1/agents/a", json={"response_format": none})).json()[
                "response_format"
            ] is None


@pytest.mark.parametrize(
    ("format", "path"),
    [
        ({"type": "json_schema"}, "$.response_format"),
        ({"type": "json_object"}, "$.response_format.type"),
        ({"type": "text", "schema": PRICES}, "$.response_format"),
        ({"type": "json_schema", "schema": {"type": "numbr"}}, "$.response_format.schema.type"),
        (
            {"type": "json_schema", "schema": {"properties": {"a": {"$ref": "https://example.com/s"}}}},
            "$.response_format.schema.properties.a.$ref",
        ),
        ({"type": "json_schema", "schema": {"enum": ["x" * 70_000]}}, "$.response_format.schema"),
    ],
)
async def test_a_bad_format_is_a_400_with_its_path(format: dict[str, Any], path: str) -> None:
    async with engine(providing(ScriptedProvider(said(VALID)))) as running, client(running) as http:
        await scripted_schema(running)
        yaml = "agents:\n  - name: test\n    response_format: " + json.dumps(format)
        for answer in (
            await whole(http, response_format=format),
            await http.post("/api/v1/agents", json={"name": "b", "response_format": format}),
            await http.put("/api/v1/agents/test", json={"response_format": format}),
        ):
            assert (answer.status_code, answer.json()["details"][0]["path"]) == (400, path)
        imported = await http.post("/api/v1/config/import", content=yaml)
        assert imported.status_code == 400
        faults = imported.json()["details"]
        assert [one for one in faults if one["path"].endswith(path.removeprefix("$"))]
        assert not [one for one in faults if "$" in one["message"]]


async def looking(running: Engine) -> None:
    await scripted_schema(running, tools=("current_time",))


async def test_text_before_a_tool_call_is_no_part_of_a_structured_answer() -> None:
    provider = ScriptedProvider(
        [MessageDelta(content="Let me look."), ToolCall("current_time", {}), Usage(1, 1)], said(VALID)
    )
    async with engine(providing(provider)) as running, client(running) as http:
        await looking(running)
        events = await chat(http, "test", "Prices?", response_format=FORMAT)
        assert names(events)[:4] == ["message_delta", "tool_call", "tool_result", "message_restart"]
        message = json.loads(events[-2].data)
        assert (message["content"], message["data"]) == (json.dumps(VALID), VALID)
        assert text_of(events) == message["content"]


async def test_a_provider_that_knows_no_formats_gets_the_schema_in_the_system_text() -> None:
    provider = ScriptedProvider(said(VALID))
    async with engine(providing(provider)) as running, client(running) as http:
        await scripted_schema(running, system="Be kind.")
        await whole(http, response_format=FORMAT)
        (request,) = provider.requests
        assert request.response_format is None
        assert request.system.startswith("Be kind.\n\nYour final answer")
        assert json.dumps(PRICES, separators=(",", ":")) in request.system


async def test_the_demo_model_answers_with_an_example_of_the_schema() -> None:
    async with engine() as running, client(running) as http:
        answer = (await whole(http, "Hello", "demo", response_format=FORMAT)).json()
        assert answer["data"] == {"items": [{"price": 0}]}


async def test_a_sub_agents_answer_is_json_for_the_tool_that_spawned_it_and_a_tasks_result_is_json() -> None:
    provider = ScriptedProvider(
        [ToolCall("spawn_helper", {"message": "Prices?"}), Usage(1, 1)], said(INVALID), said(VALID), said("Done")
    )
    async with engine(providing(provider)) as running, client(running) as http:
        await scripted_schema(running, can_spawn=("helper",))
        body = {"name": "helper", "model": "test", "response_format": FORMAT}
        assert (await http.post("/api/v1/agents", json=body)).status_code == 201
        relation = {"source": "test", "target": "helper"}
        assert (await http.post("/api/v1/schemas/test/agent-relations", json=relation)).status_code < 300
        answer = (await whole(http)).json()
        assert [one["output"] for one in answer["tool_calls"]] == [json.dumps(VALID)]
        assert (answer["message"], "data" in answer) == ("Done", False)
        assert answer["usage"]["input_tokens"] == 31

        provider.answers[:] = [said(VALID)]
        made = (await http.post("/api/v1/tasks", json={"title": "Prices?", "agent": "helper"})).json()
        task = made
        with anyio.fail_after(10):
            while task["status"] not in ("completed", "failed"):
                await anyio.sleep(0.02)
                task = (await http.get(f"/api/v1/tasks/{made['id']}")).json()
        assert (task["status"], task["result"]) == ("completed", json.dumps(VALID))


async def test_an_engine_that_stops_in_the_middle_of_a_repair_goes_on_with_it(tmp_path: Path) -> None:
    first = ScriptedProvider(said(INVALID), [MessageDelta(content=json.dumps(VALID)[:9]), asyncio.Event()])
    async with engine(providing(first), data=tmp_path) as running, client(running) as http:
        await scripted_schema(running, tools=("current_time",))
        session_id = new_uuid()
        body = {"message": "Prices?", "session_id": session_id, "response_format": FORMAT}
        async with http.stream("POST", "/api/v1/schemas/test/chat", json=body) as response:
            async for event in events_of(response):
                if event.event == "message_restart":
                    break
        while len(first.requests) < 2:
            await anyio.sleep(0.01)
    second = ScriptedProvider(said(VALID))
    async with engine(providing(second), data=tmp_path) as running, client(running) as http:
        events = await replayed(http, session_id)
        assert json.loads(events[-2].data)["data"] == VALID
        assert json.loads(events[-1].data)["usage"]["input_tokens"] == 20
        (request,) = second.requests  # the first answer is not asked for again
        assert FAULT in request.messages[-1].content
        assert request.tool_choice == "none"
        assert text_of(events) == json.dumps(VALID)


async def replayed(http: httpx.AsyncClient, session_id: str) -> list[Any]:
    """All events of the session's turn, to its end."""
    found = []
    async with http.stream("GET", f"/api/v1/sessions/{session_id}/events") as response:
        async for event in events_of(response):
            found.append(event)
            if event.event in ("done", "error"):
                break
    return found
