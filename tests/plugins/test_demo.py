"""The demo model: the first conversation without a key or a network."""

import json
import re
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest

from bytebrew import ServerSentEvent
from bytebrew.contract.entities import NewModel
from bytebrew.store.configuration import models
from bytebrew.testing import chat, engine, names, served_engine


def data(events: list[ServerSentEvent], name: str) -> list[dict[str, object]]:
    return [json.loads(event.data) for event in events if event.event == name]


def joined(events: list[ServerSentEvent], name: str) -> str:
    return "".join(str(piece["content"]) for piece in data(events, name))


async def test_a_new_engine_talks_at_once() -> None:
    async with served_engine() as (_, client):
        events = await chat(client, "demo", "Hello there")
    assert names(events) == ["thinking", "message_delta", "message", "done"]
    assert len(data(events, "message_delta")) > 5
    assert len(data(events, "thinking")) > 1
    (message,) = data(events, "message")
    assert message["content"] == joined(events, "message_delta")
    assert str(message["content"]).startswith("You said: Hello there ")
    (done,) = data(events, "done")
    usage = {"input_tokens": 2, "output_tokens": len(str(message["content"])) // 4, "cached_tokens": 0}
    assert done["usage"] == {**usage, "thinking_tokens": 8, "cache_write_tokens": 0, "cost_usd": None}


async def test_the_same_message_gives_the_same_answer() -> None:
    told = []
    async with served_engine() as (_, client):
        for _ in range(2):
            events = await chat(client, "demo", "Twice, please")
            told.append([(event.event, event.data) for event in events if event.event != "done"])
    assert told[0] == told[1]


async def test_it_calls_the_tool_that_is_named_and_answers_with_the_result() -> None:
    async with served_engine() as (_, client):
        events = await chat(client, "demo", 'What is the current_time {"timezone": "Europe/Berlin"} there?')
    assert names(events) == ["thinking", "tool_call", "tool_result", "thinking", "message_delta", "message", "done"]
    (call,), (result,) = data(events, "tool_call"), data(events, "tool_result")
    assert (call["tool"], call["input"]) == ("current_time", {"timezone": "Europe/Berlin"})
    moment = datetime.fromisoformat(str(result["output"]))
    now = datetime.now(ZoneInfo("Europe/Berlin"))
    assert (moment.utcoffset(), abs((now - moment).total_seconds()) < 60) == (now.utcoffset(), True)
    assert joined(events, "message_delta") == f"current_time says: {result['output']}"


@pytest.mark.parametrize(
    "arguments",
    ["", "{not json}", "[1]", '{"timezone": "\\ud800"}', "}{", f'{{"zone": {"[" * 5000}}}'],
    ids=["none", "no json", "a list", "half a character", "the wrong way round", "too deep"],
)
async def test_arguments_that_are_no_json_object_are_left_out(arguments: str) -> None:
    async with served_engine() as (_, client):
        events = await chat(client, "demo", f"current_time {arguments}")
    assert data(events, "tool_call")[0]["input"] == {}
    assert str(data(events, "tool_result")[0]["output"]).endswith("+00:00")


@pytest.mark.parametrize("zone", ["Atlantis", "../etc/passwd", "Europe", "x" * 5000, ""])
async def test_a_time_zone_that_is_none_is_told_to_the_model(zone: str) -> None:
    async with served_engine() as (_, client):
        events = await chat(client, "demo", f"current_time {json.dumps({'timezone': zone})}")
    (result,) = data(events, "tool_result")
    assert result["has_error"]
    assert re.search(r"is not a time zone; try Europe/Berlin", str(result["output"]))
    assert events[-1].event == "done"


async def test_a_later_turn_calls_its_tool_again() -> None:
    async with served_engine() as (_, client):
        first = await chat(client, "demo", "current_time")
        session = data(first, "done")[0]["session_id"]
        second = await chat(client, "demo", "current_time once more", session_id=session)
        third = await chat(client, "demo", "thank you", session_id=session)
    assert "tool_call" in names(second)
    assert "tool_call" not in names(third)


async def listed(client: httpx.AsyncClient) -> dict[str, list[str]]:
    nouns = ("models", "agents", "schemas")
    return {noun: [one["name"] for one in (await client.get(f"/api/v1/{noun}")).json()] for noun in nouns}


async def test_its_model_agent_and_schema_are_offered_once_only(tmp_path: Path) -> None:
    async with served_engine(data=tmp_path) as (_, client):
        assert await listed(client) == {"models": ["demo"], "agents": ["demo"], "schemas": ["demo"]}
        for noun in ("schemas", "agents", "models"):
            assert (await client.delete(f"/api/v1/{noun}/demo")).status_code == 204
    async with served_engine(data=tmp_path) as (_, client):
        assert await listed(client) == {"models": [], "agents": [], "schemas": []}


async def test_it_offers_nothing_to_an_engine_that_has_a_model(tmp_path: Path) -> None:
    async with engine(data=tmp_path, settings={"BYTEBREW_DISABLED_PLUGINS": "demo"}) as running:
        await running.db.write(
            models.create, NewModel(name="mine", type="openai_compatible", model_name="m"), running.secrets
        )
    async with served_engine(data=tmp_path) as (_, client):
        assert await listed(client) == {"models": ["mine"], "agents": [], "schemas": []}
