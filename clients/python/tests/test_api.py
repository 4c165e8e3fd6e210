"""The client's types are those of the engine's own document: none is missing, and no field of one."""

import dataclasses
import json
import re
import typing
from pathlib import Path
from typing import Any

import httpx
import pytest

import bytebrew_client
from bytebrew.testing import client, engine
from bytebrew_client import calls, events, records
from bytebrew_client.chat_request import ChatOptions
from bytebrew_client.event_stream import Frame
from bytebrew_client.events import EVENTS, Event, UnknownEvent, event_of

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "events.md"
RECORDS = {
    "Answered": records.Answered,
    "CallRecord": records.CallRecord,
    "ChatAnswer": records.TurnState,
    "ClientCall": records.ClientCall,
    "Confirmation": records.Approval,
    "Failure": records.Failure,
    "ForkedFrom": records.ForkedFrom,
    "Session": records.Session,
    "SessionDetail": records.SessionDetail,
    "StoreMessagesEntry": records.SessionMessage,
    "Summary": records.Summary,
    "Task": records.Task,
    "Usage": records.Usage,
    "Row": events.Row,
    "Action": events.Action,
    "Question": events.Question,
    "Option": events.Option,
}
"""The dataclasses by the names that the document has for them."""
SAMPLES: dict[str | None, Any] = {
    "string": "x",
    "integer": 3,
    "number": 1.5,
    "boolean": True,
    "object": {"a": 1},
    "array": [],
    None: None,
}


@pytest.fixture(scope="module")
async def schemas(anyio_backend: str) -> dict[str, Any]:
    """The schemas of the engine's OpenAPI document."""
    async with engine() as running, client(running) as http:
        document = (await http.get("/api/v1/openapi.json")).json()
    found: dict[str, Any] = document["components"]["schemas"]
    return found


def of_the_document(schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema of each event's data, by the event's name."""
    frames = [schemas[one["$ref"].rpartition("/")[2]]["properties"] for one in schemas["StreamEvent"]["oneOf"]]
    return {
        frame["event"]["const"]: schemas[frame["data"]["contentSchema"]["$ref"].rpartition("/")[2]] for frame in frames
    }


def fields(kind: Any) -> set[str]:
    return {one.name for one in dataclasses.fields(kind)}


def test_every_event_of_the_document_has_a_type_with_its_fields(schemas: dict[str, Any]) -> None:
    document = of_the_document(schemas)
    assert set(document) == set(EVENTS)
    for name, schema in document.items():
        assert fields(EVENTS[name]) - {"id"} == set(schema["properties"]), name


def test_every_event_of_the_page_has_a_type() -> None:
    table = PAGE.read_text().partition("| event |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) | {"structured_output"} == set(EVENTS)


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_has_the_fields_of_the_document(schemas: dict[str, Any], name: str) -> None:
    assert fields(RECORDS[name]) == set(schemas[name]["properties"])


def test_a_chat_and_a_task_have_all_the_options_of_the_document(schemas: dict[str, Any]) -> None:
    ours = set(ChatOptions.__annotations__) - {"idempotency_key", "after"}
    names = {"tools": "client_tools", "replaces": "turn_id"}
    theirs = set(schemas["EditRequest"]["properties"]) - {"message", "stream", "response_format"}
    assert {names.get(name, name) for name in ours} == theirs
    created = set(typing.get_type_hints(calls.TaskCalls.create)) - {"return"}
    assert created == set(schemas["NewTask"]["properties"]) - {"agent_name"}


def test_what_is_in_an_event_is_in_its_fields(schemas: dict[str, Any]) -> None:
    for name, schema in of_the_document(schemas).items():
        data = {field: SAMPLES[one.get("type")] for field, one in schema["properties"].items() if "$ref" not in one} | {
            field: one["enum"][0] for field, one in schema["properties"].items() if "enum" in one
        }
        event = event_of(Frame("7", name, json.dumps(data)))
        assert type(event) is EVENTS[name]
        for field, value in data.items():
            assert getattr(event, field) == (tuple(value) if value == [] else value), f"{name}.{field}"


def test_nested_parts_of_an_event_are_records() -> None:
    form = {
        "call_id": "c",
        "output_type": "form",
        "questions": [
            {"id": "size", "label": "Size", "type": "select", "options": [{"label": "S", "value": "s"}], "default": "s"}
        ],
    }
    event = event_of(Frame("7", "structured_output", json.dumps(form)))
    assert isinstance(event, bytebrew_client.StructuredOutput)
    assert event.questions[0].options[0] == bytebrew_client.Option(label="S", value="s")
    done = event_of(Frame("8", "done", '{"session_id": "s", "turn_id": "t", "usage": {"input_tokens": 3}}'))
    assert isinstance(done, bytebrew_client.Done)
    assert done.usage == bytebrew_client.Usage(input_tokens=3)


def test_an_event_of_another_version_is_passed_on() -> None:
    later = event_of(Frame("7", "hologram", '{"size": 3, "agent": "helper"}'))
    assert later == UnknownEvent(id="7", type="hologram", data={"size": 3, "agent": "helper"}, agent="helper")
    more = event_of(Frame("8", "message_delta", '{"content": "x", "tone": "warm"}'))
    assert more == bytebrew_client.MessageDelta(id="8", content="x")
    assert event_of(Frame("9", "message_delta", "{}")) == bytebrew_client.MessageDelta(id="9")  # of an older engine
    assert event_of(Frame("9", "message_delta", "[]")) == UnknownEvent(id="9", type="message_delta", data=[])


def test_the_public_names_are_all_of_the_modules(schemas: dict[str, Any]) -> None:
    exported = set(bytebrew_client.__all__)
    assert len(exported) == len(bytebrew_client.__all__)
    assert {kind.__name__ for kind in EVENTS.values()} | {"Event", "UnknownEvent"} <= exported
    assert {kind.__name__ for kind in RECORDS.values()} <= exported
    for name in exported:
        assert getattr(bytebrew_client, name).__doc__, name


@pytest.mark.parametrize("part", ["Client", "sessions", "approvals", "tasks", "Chat"])
async def test_both_clients_have_the_same_methods(part: str) -> None:
    blocking, waiting = (
        bytebrew_client.Client("http://x"),
        bytebrew_client.AsyncClient("http://x", http=httpx.AsyncClient()),
    )
    ours: Any = blocking.chat("a", "b") if part == "Chat" else blocking if part == "Client" else getattr(blocking, part)
    theirs: Any = waiting.chat("a", "b") if part == "Chat" else waiting if part == "Client" else getattr(waiting, part)

    def methods(one: object) -> set[str]:
        return {name for name in dir(one) if not name.startswith("_")}

    assert methods(ours) == methods(theirs)
    for name in methods(ours):
        assert getattr(type(ours), name, Event).__doc__, f"{part}.{name}"
