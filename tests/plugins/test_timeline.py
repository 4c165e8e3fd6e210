"""Timelines: a session's turns, and what each of them did and waited for."""

import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
import msgspec
import pytest

from bytebrew import Connection, MessageDelta, ProviderError, Stop, ToolCall, Usage, now, parse_time, tool
from bytebrew.engine import Engine
from bytebrew.store.queries import events
from bytebrew.testing import ScriptedProvider, plugin, providing, scripted_schema, served_engine
from tests.tables import check_refusal, token_with

API = "/api/v1"


@tool
async def look(what: str) -> str:
    """Looks at a thing."""
    await anyio.sleep(0.02)
    return f"saw {what}"


@tool(confirm=True)
async def pay(amount: int) -> str:
    """Pays."""
    return f"paid {amount}"


class World(NamedTuple):
    """An engine whose schema `test` has a scripted model, and tools."""

    engine: Engine
    client: httpx.AsyncClient

    async def get(self, path: str) -> Any:
        """The JSON of an answer."""
        return (await self.client.get(f"{API}{path}")).raise_for_status().json()

    async def say(self, message: str = "Go on", **body: Any) -> dict[str, Any]:
        """The answer to a message, as a whole or so far."""
        answer = await self.client.post(f"{API}/schemas/test/chat", json={"message": message, "stream": False, **body})
        return dict(answer.json())

    async def timeline(self, turn: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """A turn and its spans."""
        found = await self.get(f"/sessions/{turn['session_id']}/turns/{turn['turn_id']}/spans")
        assert found["total"] == len(found["spans"])
        assert found["now"] <= now()
        return found["turn"], found["spans"]

    async def detail(self, turn: dict[str, Any], span: dict[str, Any]) -> dict[str, Any]:
        """A span with its input and output."""
        path = f"/sessions/{turn['session_id']}/turns/{turn['turn_id']}/spans/{span['id']}"
        return dict(await self.get(path))


@asynccontextmanager
async def world(*answers: Any, data: Path | None = None, **agent: Any) -> AsyncIterator[World]:
    """An engine whose model gives these answers."""
    tools = plugin(register_tools=lambda register: [register(one) for one in (look, pay)] and None)
    async with served_engine(providing(ScriptedProvider(*answers)), tools, data=data) as (running, client):
        await scripted_schema(running, **{"tools": ["look", "pay"], **agent})
        yield World(running, client)


def said(text: str) -> list[Any]:
    return [MessageDelta(content=text), Usage(10, 3, 4), Stop()]


def called(name: str, **input: Any) -> list[Any]:
    return [ToolCall(name, input, f"call_{name}"), Usage(7, 2), Stop("tool_calls")]


def kinds(spans: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(span["kind"], span["name"], span["state"]) for span in spans]


async def test_a_turn_shows_its_model_calls_and_tools_in_order_with_times_that_fit() -> None:
    async with world(called("look", what="a tent"), said("A tent.")) as served:
        turn, spans = await served.timeline(answer := await served.say("What is there?"))
        details = [await served.detail(answer, span) for span in spans]
    assert kinds(spans) == [
        ("model", "test", "completed"),
        ("tool", "look", "completed"),
        ("model", "test", "completed"),
    ]
    assert (turn["number"], turn["status"], turn["message"], turn["code"]) == (1, "completed", "What is there?", "")
    assert turn["usage"]["input_tokens"] == 17
    assert turn["versions"][0]["agent"] == "test"
    first, looked, last = spans
    assert (last["input_tokens"], last["cached_tokens"], last["output_tokens"], last["stop"]) == (10, 4, 3, "end")
    moments = [turn["queued_at"], first["started_at"], first["first_token_at"], first["ended_at"], looked["started_at"]]
    moments += [looked["ended_at"], last["started_at"], last["first_token_at"], last["ended_at"], turn["ended_at"]]
    assert moments == sorted(moments)
    assert turn["first_token_at"] == first["first_token_at"]
    assert (parse_time(looked["ended_at"]) - parse_time(looked["started_at"])).total_seconds() >= 0.02
    assert details[0]["tool_calls"][0]["input"] == details[1]["input"] == {"what": "a tent"}
    assert (details[1]["output"], details[2]["output"]) == ("saw a tent", "A tent.")
    assert (details[0]["messages_before"], details[2]["messages_before"]) == (1, 3)


async def test_waits_for_people_and_for_earlier_messages_have_spans_of_their_own() -> None:
    async with world(called("pay", amount=5), said("Paid."), said("Next.")) as served:
        asked = await served.say()
        turn, spans = await served.timeline(asked)
        assert turn["status"] == "needs_input"
        assert kinds(spans)[1:] == [("person", "pay", "needs_input")]
        assert (spans[1]["ended_at"], turn["ended_at"]) == (None, None)
        [row] = (await served.get("/sessions?status=needs_input"))["data"]
        assert (row["id"], row["needs_input"], row["last_turn_ms"]) == (asked["session_id"], True, None)
        assert (await served.get("/sessions?status=running"))["data"] == []
        await served.say(session_id=asked["session_id"])
        reply = {"confirmation_id": asked["questions"][0]["id"], "answers": ["approve"], "input": {"amount": 4}}
        answer = await served.client.post(f"{API}/sessions/{asked['session_id']}/respond", json=reply)
        assert answer.status_code < 300, answer.text
        while (await served.get(f"/sessions/{asked['session_id']}"))["status"] == "active":
            await anyio.sleep(0.01)
        turns = (await served.get(f"/sessions/{asked['session_id']}/turns"))["data"]
        assert [(one["number"], one["status"]) for one in turns] == [(1, "completed"), (2, "completed")]
        _, spans = await served.timeline(asked)
        waited = await served.detail(asked, spans[1])
        _, later = await served.timeline({"session_id": asked["session_id"], "turn_id": turns[1]["turn_id"]})
    assert kinds(spans)[1:3] == [("person", "pay", "completed"), ("tool", "pay", "completed")]
    assert spans[1]["ended_at"] <= spans[2]["started_at"]
    assert (spans[1]["verdict"], waited["input"], waited["edited"]) == ("approve", {"amount": 5}, {"amount": 4})
    assert kinds(later) == [("queue", "Queue", "completed"), ("model", "test", "completed")]


async def test_a_spawned_agent_stands_in_the_place_of_its_call_with_its_spans_below() -> None:
    async with world(called("spawn_other", message="Look"), said("Seen."), said("Done.")) as served:
        await served.client.post(f"{API}/agents", json={"name": "other", "model": "test", "system": "Look."})
        await served.client.patch(f"{API}/agents/test", json={"can_spawn": ["other"]})
        relation = {"source": "test", "target": "other"}
        await served.client.post(f"{API}/schemas/test/agent-relations", json=relation)
        turn, spans = await served.timeline(answer := await served.say())
        agent = next(span for span in spans if span["kind"] == "agent")
        detail = await served.detail(answer, agent)
        _, own = await served.timeline(agent)
    assert [one["agent"] for one in turn["versions"]] == ["test", "other"]
    assert kinds(spans) == [
        ("model", "test", "completed"),
        ("agent", "other", "completed"),
        ("model", "test", "completed"),
        ("model", "test", "completed"),
    ]
    assert [span["parent_id"] for span in spans] == [None, None, agent["id"], None]
    assert (detail["input"]["message"], detail["output"]) == ("Look", "Seen.")
    assert kinds(own) == [("model", "test", "completed")]


async def test_a_failed_call_of_a_model_has_a_span_and_its_turn_a_code_to_filter_by() -> None:
    wrong = ProviderError("No key", code="model_auth_failed")
    async with world(said("Hello"), [wrong]) as served:
        await served.say("First words")
        answer = await served.say("second")
        turn, spans = await served.timeline(answer)
        [row] = (await served.get("/sessions?error=model_auth_failed"))["data"]
        assert (row["id"], row["error_code"], row["turns"]) == (answer["session_id"], "model_auth_failed", 1)
        assert (await served.get("/sessions?error=other"))["data"] == []
    assert (turn["status"], turn["code"]) == ("failed", "model_auth_failed")
    assert kinds(spans) == [("model", "Model", "failed")]


async def test_sessions_are_found_by_words_tools_and_the_latest_that_happened() -> None:
    async with world(called("look", what="a"), said("100%"), *(said("Hello") for _ in range(3))) as served:
        first = await served.say("Where is the 50% tent?", user_sub="u_1")
        second = await served.say("Another matter")
        await served.say("And a blue rope", session_id=first["session_id"])

        async def titles(query: str) -> list[str]:
            return [row["title"] for row in (await served.get(f"/sessions?{query}"))["data"]]

        tent, other = "Where is the 50% tent?", "Another matter"
        assert await titles("") == [other, tent]
        assert await titles("sort=updated") == [tent, other]
        assert await titles("sort=updated&limit=1&after=" + first["session_id"]) == [other]
        assert await titles("q=blue tent") == await titles("q=50%25") == await titles("q=u_1") == [tent]
        assert await titles(f"q={second['session_id'][:13]}") == [other]
        assert await titles("q=ux1") == await titles("q=nothing") == []
        assert await titles("tool=look") == await titles("tool=look&q=rope&agent=test") == [tent]
        page = await served.get("/sessions?q=e&limit=1")
        assert (page["total"], page["next"]) == (2, second["session_id"])
        row = (await served.get("/sessions?q=tent"))["data"][0]
        assert (row["turns"], row["needs_input"], row["error_code"]) == (2, False, "")
        assert row["last_turn_ms"] >= 0
        check_refusal(await served.client.get(f"{API}/sessions?sort=cost"))


async def test_turns_that_a_fork_shares_are_in_its_list_under_the_numbers_that_they_had() -> None:
    async with world(*(said(f"{n}") for n in range(4))) as served:
        turns = [first := await served.say("one")]
        turns += [await served.say(text, session_id=first["session_id"]) for text in ("two", "three")]
        rows = (await served.get(f"/sessions/{first['session_id']}/turns"))["data"]
        fork = {"after": rows[1]["last_event"]}
        made = (await served.client.post(f"{API}/sessions/{first['session_id']}/fork", json=fork)).json()
        await served.say("another three", session_id=made["id"])
        page = await served.get(f"/sessions/{made['id']}/turns?limit=2&offset=1")
        _, spans = await served.timeline({"session_id": made["id"], "turn_id": turns[1]["turn_id"]})
        missing = f"{API}/sessions/{made['id']}/turns/{turns[2]['turn_id']}/spans"
        check_refusal(await served.client.get(missing))
    assert [(row["number"], row["message"]) for row in page["data"]] == [(2, "two"), (3, "another three")]
    assert (page["total"], page["data"][0]["turn_id"]) == (3, turns[1]["turn_id"])
    assert kinds(spans) == [("model", "test", "completed")]


async def test_timelines_of_others_and_parts_that_are_none_are_not_found() -> None:
    async with world(said("Hello")) as served:
        answer = await served.say()
        at = f"{API}/sessions/{answer['session_id']}/turns"
        headers = {"Authorization": f"Bearer {await token_with(served.engine, 'chat')}"}
        for path in (at, f"{at}/{answer['turn_id']}/spans", f"{at}/{answer['turn_id']}/spans/m1"):
            check_refusal(await served.client.get(path, headers=headers))
        for path in (f"{at}/turn_x/spans", f"{at}/{answer['turn_id']}/spans/m99"):
            assert (await served.client.get(path)).status_code == 404


@pytest.mark.parametrize("packed", [False, True])
async def test_the_page_of_events_has_the_time_of_each(packed: bool) -> None:
    async with world(called("look", what="a"), said("Hello")) as served:
        before = now()
        answer = await served.say()
        if packed:
            await served.engine.db.write(events.pack, answer["session_id"], 1, 100)
        page = await served.get(f"/sessions/{answer['session_id']}/events?follow=false")
        times = [event["at"] for event in page["data"]]
        stored = json.dumps([before[:23], *times, now()])
    assert json.loads(stored) == sorted(json.loads(stored))
    assert len(times) == 5


async def test_events_that_an_older_engine_has_packed_have_no_time() -> None:
    async with world(said("Hello")) as served:
        answer = await served.say()

        def older(conn: Connection) -> None:
            rows = conn.execute("select n, type, data from events where session_id = ?", (answer["session_id"],))
            packed = zlib.compress(msgspec.msgpack.encode([tuple(row) for row in rows]))
            conn.execute("delete from events where session_id = ? and n < 3", (answer["session_id"],))
            sql = "update events set type = 'packed', data = ?, at = null where session_id = ?"
            conn.execute(sql, (packed, answer["session_id"]))

        before = await served.get(f"/sessions/{answer['session_id']}/events?follow=false")
        await served.engine.db.write(older)
        page = await served.get(f"/sessions/{answer['session_id']}/events?follow=false")
    assert page["data"] == [{**event, "at": None} for event in before["data"]]
