"""Replays of turns of every kind: steered, forked, with a client's tools and formats; nothing but usage is stored."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import pytest

from bytebrew import Http, MessageDelta, ModelRequest, Provider, Stop, ToolCall, Usage
from bytebrew.contract.connection import Connection
from bytebrew.engine import Engine
from bytebrew.testing import chat, providing, scripted_schema, served_engine
from tests.conversation.test_runner import begin
from tests.conversation.test_steering import steer
from tests.stored import tables
from tests.web.routes.test_replays import replayed

URL = "/api/v1/schemas/test/chat"
OWN = {"usage", "usage_days", "usage_spans", "replays", "replay_turns", "sqlite_sequence", "idempotency"}
OWN |= {"nodes", "node_commits"}
"""What a replay writes to."""


class Model(Provider):
    """Answers by a function of the request."""

    type = "scripted"

    def __init__(self, answer: Callable[[ModelRequest], Any]) -> None:
        self.answer = answer
        self.requests: list[ModelRequest] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[Any, None]:
        self.requests.append(request)
        if not self.gate.is_set():
            yield MessageDelta(content="Well, ")
            await self.gate.wait()
        answer = self.answer(request)
        yield MessageDelta(content=answer) if isinstance(answer, str) else answer
        yield Usage(10, 5)
        yield Stop()


def everything(conn: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of all tables but those that a replay writes to."""
    kept = [
        name for name in {*tables(conn)} - OWN if not name.startswith("audit_")
    ]  # the request itself is in the audit
    return {name: [tuple(row) for row in conn.execute(f'select * from "{name}"')] for name in kept}


async def quiet(running: Engine, client: httpx.AsyncClient, model: Model, *sessions: str, **body: Any) -> Any:
    """The report of a replay that leaves everything as it is; `model.requests` are those of the replay."""
    before = await running.db.read(everything)
    model.requests.clear()
    report = await replayed(client, [*sessions], **body)
    assert await running.db.read(everything) == before
    return report


def texts(request: ModelRequest) -> list[str]:
    return [one.content for one in request.messages if one.role == "user"]


@pytest.mark.parametrize("of_agent", [True, False])
async def test_a_structured_answer_that_is_repaired_is_not_stored(of_agent: bool) -> None:
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object", "required": ["n"]}}
    model = Model(lambda request: '{"n": 1}' if "is not valid" in request.messages[-1].content else '{"m": 1}')
    async with served_engine(providing(model)) as (running, client):
        await scripted_schema(running)
        if of_agent:
            await client.patch("/api/v1/agents/test", json={"response_format": form})
        body = {} if of_agent else {"response_format": form}
        session = (await client.post(URL, json={"message": "one", "stream": False, **body})).json()
        assert session["data"] == {"n": 1}
        report = await quiet(running, client, model, session["session_id"])
        assert (report["passed"], len(model.requests)) == (True, 2)
        assert '"n"' in model.requests[0].system
        assert report["totals"]["candidate_tokens"] == report["totals"]["recorded_tokens"] == 30


async def test_a_fork_is_replayed_with_the_history_that_it_shares() -> None:
    model = Model(lambda request: f"{len(request.messages)} messages, the last {request.messages[-1].content}")
    async with served_engine(providing(model)) as (running, client):
        await scripted_schema(running)
        first = (await client.post(URL, json={"message": "one", "stream": False})).json()
        fork = (await client.post(f"/api/v1/sessions/{first['session_id']}/fork", json={})).json()["id"]
        await chat(client, "test", "two", session_id=fork)
        await chat(client, "test", "three", session_id=fork)
        report = await quiet(running, client, model, fork)
        answers = [one["candidate_answer"] for one in report["reports"]]
        assert answers == ["3 messages, the last two", "5 messages, the last three"]
        assert report["passed"]


async def test_messages_that_steered_a_turn_come_at_the_same_step() -> None:
    def answer(request: ModelRequest) -> Any:
        if request.messages[-1].content == "time":
            return ToolCall("current_time", {})
        return " ".join(texts(request))

    model = Model(answer)
    async with served_engine(providing(model)) as (running, client):
        await scripted_schema(running, tools=("current_time",))
        model.gate.clear()
        session_id, first = await begin(client, "time")
        steering = await steer(running, client, session_id, "in Paris")
        model.gate.set()
        await first
        await steering
        report = await quiet(running, client, model, session_id)
        [one] = report["reports"]
        assert one["recorded_answer"] == one["candidate_answer"] == "time in Paris"
        assert report["passed"]


async def test_tools_of_the_client_are_shown_to_the_candidate() -> None:
    where = {"name": "where_am_i", "description": "The place", "input_schema": {"type": "object"}}

    def answer(request: ModelRequest) -> Any:
        if request.messages[-1].role == "tool":
            return request.messages[-1].content
        return ToolCall("where_am_i", {}) if any(tool.name == "where_am_i" for tool in request.tools) else "no idea"

    model = Model(answer)
    async with served_engine(providing(model)) as (running, client):
        await scripted_schema(running)
        await client.patch("/api/v1/schemas/test", json={"client_tools": True})
        body = {"message": "where?", "stream": False, "client_tools": [where]}
        asked = (await client.post(URL, json=body)).json()
        stored = (await client.get(f"/api/v1/sessions/{asked['session_id']}/messages")).json()
        [call] = stored[-1]["tool_calls"]
        given = {"call_id": call["call_id"], "result": "Zurich"}
        await client.post(f"/api/v1/sessions/{asked['session_id']}/respond", json=given)
        async with asyncio.timeout(10):
            while (await client.get(f"/api/v1/sessions/{asked['session_id']}")).json()["status"] != "completed":
                await asyncio.sleep(0.02)
        report = await quiet(running, client, model, asked["session_id"])
        assert report["passed"], json.dumps(report["reports"])


@pytest.mark.filterwarnings("ignore")
async def test_a_provider_with_a_fault_fails_the_turn_and_is_not_called_for_ever() -> None:
    broken = False

    def answer(request: ModelRequest) -> Any:
        if broken:
            raise ValueError("a fault of the plugin")
        return "fine"

    model = Model(answer)
    async with served_engine(providing(model)) as (running, client):
        await scripted_schema(running)
        session = (await client.post(URL, json={"message": "one", "stream": False})).json()["session_id"]
        broken = True
        report = await quiet(running, client, model, session)
        assert (report["passed"], len(model.requests)) == (False, 1)
        assert report["reports"][0]["candidate_error"]
