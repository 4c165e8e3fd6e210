"""Replays: what a candidate does otherwise is found, what it does the same is quiet, and nothing else happens."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew import Call, Http, MessageDelta, ModelRequest, Provider, Stop, ToolCall, Usage, tool
from bytebrew.base.formats import new_uuid
from bytebrew.contract.connection import Connection
from bytebrew.conversation.replay.comparison import compare_calls, same, similarity
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, chat, plugin, providing, scripted_schema, served_engine, token
from tests.commands import run
from tests.stored import refuse

REPLAYS = "/api/v1/replays"
LEFT_ALONE = ("sessions", "turns", "messages", "events", "tool_calls", "confirmations", "summaries", "memory_entries")


class Clerk(Provider):
    """Looks a price up and tells it; with refunds first in its prompt it refunds what somebody brings back."""

    type = "scripted"

    def __init__(self) -> None:
        self.requests: list[ModelRequest] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[Any, None]:
        self.requests.append(request)
        await self.gate.wait()
        last = request.messages[-1]
        if last.role == "tool":
            yield MessageDelta(content=f"It costs {last.content} after {len(request.messages)} messages")
        elif "Refunds come first" in request.system and "back" in last.content:
            yield ToolCall("refund", {"item": last.content.split()[0]})
        else:
            item = last.content.split()[0]
            yield ToolCall("price", {"item": item, "tax": "Taxes" in request.system})
        yield Usage(100 * len(request.messages), 10)
        yield Stop()


RUNS: list[str] = []


@tool
async def price(call: Call, item: str, tax: bool = False) -> str:
    """Looks up a price."""
    RUNS.append(item)
    return f"{len(item)} dollars"


@tool
async def refund(call: Call, item: str) -> str:
    """Refunds an item."""
    RUNS.append(item)
    return "refunded"


def register_tools(register: Any) -> None:
    register(price)
    register(refund)


TOOLS = plugin(register_tools=register_tools)
Recorded = tuple[Engine, httpx.AsyncClient, Clerk, list[str]]


@asynccontextmanager
async def recorded(count: int, data: Path | None = None) -> AsyncIterator[Recorded]:
    """An engine with recorded sessions of two turns; in the seventh somebody brings something back."""
    clerk = Clerk()
    async with served_engine(providing(clerk), TOOLS, data=data) as (running, client):
        await scripted_schema(running, tools=("price", "refund"), confirm_before=("refund",))
        sessions = []
        for n in range(count):
            sessions.append(session_id := new_uuid())
            await chat(client, "test", f"lamp{n} please", session_id=session_id)
            await chat(client, "test", f"desk{n} comes back" if n == 6 else f"desk{n} too", session_id=session_id)
        RUNS.clear()
        clerk.requests.clear()
        yield running, client, clerk, sessions


async def replayed(client: httpx.AsyncClient, sessions: list[str], **body: Any) -> dict[str, Any]:
    """The report of a replay, once it has ended."""
    started = await client.post(REPLAYS, json={"sessions": sessions, "agent": "test", **body})
    assert started.status_code == 201, started.text
    return await ended(client, started.json()["id"])


async def ended(client: httpx.AsyncClient, replay_id: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            report: dict[str, Any] = (await client.get(f"{REPLAYS}/{replay_id}")).json()
            if report["status"] == "completed":
                return report
            await asyncio.sleep(0.05)


def contents(conn: Connection) -> dict[str, list[tuple[Any, ...]]]:
    return {name: [tuple(row) for row in conn.execute(f"select * from {name}")] for name in LEFT_ALONE}


async def test_a_planted_regression_is_found_in_twenty_sessions_and_the_others_are_quiet() -> None:
    async with recorded(20) as (running, client, clerk, sessions):
        before = await running.db.read(contents)
        report = await replayed(client, sessions, system="Refunds come first")
        assert (report["turns"], report["done"], report["passed"]) == (40, 40, False)
        [found] = [one for one in report["reports"] if one["diverges"]]
        assert (found["session_id"], found["message"]) == (sessions[6], "desk6 comes back")
        assert [(call["verdict"], call["tool"]) for call in found["calls"]] == [("extra", "refund")]
        assert (found["complete"], found["similarity"]) == (False, 0.0)
        assert report["totals"]["diverging"] == 1
        assert await running.db.read(contents) == before
        assert RUNS == []
        assert len(clerk.requests) == 2 * 40 - 1  # the turn that diverges ends there


async def test_the_same_agent_does_not_diverge_and_its_calls_are_paid_for() -> None:
    async with recorded(3) as (running, client, _clerk, sessions):
        sql = "select count(*), sum(input_tokens) from usage"
        calls, tokens = await running.db.read(lambda conn: tuple(conn.execute(sql).fetchone()))
        report = await replayed(client, sessions)
        assert (report["passed"], report["totals"]["diverging"]) == (True, 0)
        assert all(one["same_answer"] and one["similarity"] == 1 for one in report["reports"])
        assert {call["verdict"] for one in report["reports"] for call in one["calls"]} == {"same"}
        assert report["totals"]["recorded_tokens"] == report["totals"]["candidate_tokens"] > 0
        assert await running.db.read(lambda conn: tuple(conn.execute(sql).fetchone())) == (2 * calls, 2 * tokens)


async def test_a_cost_that_is_not_known_or_comes_in_place_of_none_is_no_small_increase() -> None:
    async with recorded(1) as (_, client, _clerk, sessions):

        async def passed(**prices: float) -> list[bool]:
            (await client.patch("/api/v1/models/test", json=prices)).raise_for_status()
            return [(await replayed(client, sessions, **more))["passed"] for more in ({}, {"max_cost_increase": 20})]

        assert await passed() == [True, False]
        assert await passed(pricing_input=0, pricing_output=0) == [True, True]
        body = {"message": "desk, please", "stream": False}
        sessions = [(await client.post("/api/v1/schemas/test/chat", json=body)).json()["session_id"]]
        assert await passed() == [True, True]
        assert await passed(pricing_input=1, pricing_output=1) == [True, False]


async def test_other_arguments_get_the_recorded_result_and_are_a_divergence() -> None:
    async with recorded(1) as (_, client, _clerk, sessions):
        report = await replayed(client, sessions, system="Taxes are included")
        assert [one["calls"][0]["verdict"] for one in report["reports"]] == ["different_arguments"] * 2
        assert all(one["same_answer"] and one["diverges"] for one in report["reports"])


async def test_a_run_that_was_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    async with recorded(4, tmp_path) as (_, client, clerk, sessions):
        clerk.gate.clear()
        body = {"sessions": sessions, "agent": "test"}
        started = (await client.post(REPLAYS, json=body)).json()
        assert (started["status"], started["passed"]) == ("running", None)
        async with asyncio.timeout(10):
            while len(clerk.requests) < 4:
                await asyncio.sleep(0.01)
    async with served_engine(providing(Clerk()), TOOLS, data=tmp_path) as (_, client):
        report = await ended(client, started["id"])
        assert (report["passed"], report["done"]) == (True, 8)


async def test_a_run_that_failed_does_not_disturb_the_engines_stop(caplog: pytest.LogCaptureFixture) -> None:
    async with recorded(1) as (running, client, _, sessions):
        await running.db.write(refuse, "update on replay_turns")
        assert (await client.post(REPLAYS, json={"sessions": sessions, "agent": "test"})).status_code == 201
        async with asyncio.timeout(10):
            while "a replay failed" not in caplog.text:
                await asyncio.sleep(0.01)
        await running.drain(0)
        await asyncio.sleep(0.1)  # a request that is answered meanwhile, or a turn that ends


async def test_only_who_may_see_a_session_may_replay_it_and_a_wrong_candidate_is_refused() -> None:
    async with recorded(1) as (running, client, _clerk, sessions):
        body = {"sessions": sessions, "agent": "test"}
        other = {"authorization": f"Bearer {await token(running, 'config')}"}
        assert (await client.post(REPLAYS, json=body, headers=other)).status_code == 404
        mine = (await client.post(REPLAYS, json=body)).json()
        assert (await client.get(f"{REPLAYS}/{mine['id']}", headers=other)).status_code == 404
        assert (await client.post(REPLAYS, json={**body, "agent": "nobody"})).status_code == 404
        assert (await client.post(REPLAYS, json={**body, "model": "nothing"})).status_code == 422


async def test_the_command_prints_a_table_and_its_exit_code_is_the_verdict(tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Refunds come first")
    async with recorded(8) as (_, client, _clerk, sessions):
        settings = {"BYTEBREW_TOKEN": ADMIN, "BYTEBREW_DATA_DIR": str(tmp_path)}

        async def replay(*more: str) -> Any:
            given = (*sessions, "--agent", "test", "--url", str(client.base_url), *more)
            return await asyncio.to_thread(run, "replay", *given, settings=settings)

        quiet = await replay()
        assert (quiet.returncode, "0 turns of 16 diverge" in quiet.stdout) == (0, True), quiet.stderr
        found = await replay("--prompt", str(tmp_path / "prompt.txt"))
        assert found.returncode == 1
        assert "1 turn of 16 diverges" in found.stdout
        assert "+ refund" in found.stdout
        report = json.loads((await replay("--json")).stdout)
        assert (report["passed"], report["done"]) == (True, 16)
        assert (await replay("--agent", "nobody")).returncode == 2


def test_calls_are_matched_by_arguments_before_order() -> None:
    one, two = ToolCall("look", {"n": 1, "m": 2}), ToolCall("look", {"n": 2})
    verdicts = [call.verdict for call in compare_calls([one, two], [(two, 1), (ToolCall("look", {"m": 2, "n": 1}), 0)])]
    assert verdicts == ["same", "same"]
    assert [call.verdict for call in compare_calls([one, two], [(two, 1)])] == ["same", "missing"]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [("a  b\n", "a b", True), ('{"a": 1, "b": 2}', '{"b":2,"a":1}', True), ("1.0", "1", True), ("a b", "a c", False)],
)
def test_answers_are_compared_but_for_whitespace_and_as_json(one: str, other: str, alike: bool) -> None:
    assert same(one, other) is alike
    assert (similarity(one, other) == 1) is alike


def test_likeness_is_of_words_in_order() -> None:
    assert similarity("the desk costs ten dollars", "the desk costs nine dollars") == 0.8
