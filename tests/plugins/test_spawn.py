"""Agents that spawn agents: results, contexts, limits, cancellation, cost, streams, questions and kill -9."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
import pytest

from bytebrew import Call, MessageDelta, ProviderError, Stop, Thinking, ToolCall, Usage, tool
from bytebrew.base.errors import StorageError
from bytebrew.base.sse_reader import Parser, ServerSentEvent
from bytebrew.engine import Engine
from bytebrew.store import confirmations
from bytebrew.testing import (
    ADMIN,
    ScriptedProvider,
    Step,
    chat,
    engine,
    events_of,
    names,
    plugin,
    providing,
    served_engine,
)
from tests.commands import install
from tests.processes import serving

Scripts = Mapping[str, Sequence[Sequence[Step]]]
Agents = Mapping[str, Mapping[str, Any]]
HEADERS = {"Authorization": f"Bearer {ADMIN}"}


def say(text: str) -> MessageDelta:
    return MessageDelta(content=text)


def spawn(agent: str, message: str, call_id: str = "") -> ToolCall:
    return ToolCall(f"spawn_{agent}", {"message": message}, call_id)


class Troupe(NamedTuple):
    """A served engine with agents that have a scripted model each, of their own name."""

    engine: Engine
    client: httpx.AsyncClient
    models: dict[str, ScriptedProvider]

    def shown(self, agent: str, request: int = 0) -> list[str]:
        """The texts that an agent's model was shown in one of its requests."""
        return [message.content for message in self.models[agent].requests[request].messages]

    async def rows(self, table: str) -> int:
        """How many rows a table has."""
        rows = await self.engine.db.read(lambda conn: conn.execute(f"select count(*) from {table}").fetchall())
        return int(rows[0][0])


@asynccontextmanager
async def troupe(
    scripts: Scripts,
    *plugins: tuple[str, object],
    agents: Agents | None = None,
    relations: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
    data: Path | None = None,
) -> AsyncIterator[Troupe]:
    """The agents of the scripts behind a schema `test` whose entry is the first; a relation is written `a>b`."""
    models: dict[str, ScriptedProvider] = {
        name: type(name, (ScriptedProvider,), {"type": name})(*script) for name, script in scripts.items()
    }
    served = served_engine(providing(*models.values()), *plugins, settings=settings, data=data)
    async with served as (running, client):
        for name in scripts:
            price = {"pricing_input": 1_000_000.0, "pricing_output": 0.0}
            await post(client, "models", name=name, type=name, model_name="script", **price)
            await post(client, "agents", name=name, model=name, **(agents or {}).get(name, {}))
        await post(client, "schemas", **schema("test", next(iter(scripts)), relations))
        yield Troupe(running, client, models)


def schema(name: str, entry: str, relations: Sequence[str] = ()) -> dict[str, Any]:
    pairs = [dict(zip(("source", "target"), relation.split(">"), strict=True)) for relation in relations]
    return {"name": name, "entry_agent": entry, "chat_enabled": True, "relations": pairs}


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> Any:
    answer = await client.post(f"/api/v1/{path}", json=body)
    assert answer.status_code < 300, answer.text
    return answer.json()


def datas(events: Sequence[ServerSentEvent], name: str) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in events if event.event == name]


def results(events: Sequence[ServerSentEvent]) -> list[tuple[str, bool]]:
    return [(one["output"], one["has_error"]) for one in datas(events, "tool_result")]


def tools(*given: Any) -> tuple[str, object]:
    def register_tools(register: Any) -> None:
        for one in given:
            register(one)

    return "tools", plugin(register_tools=register_tools)[1]


CHAIN: Agents = {"root": {"can_spawn": ["mid"]}, "mid": {"can_spawn": ["leaf"]}}


# What an agent is given and what comes back.


async def test_an_answer_that_the_token_limit_cut_off_says_so_to_the_agent_above() -> None:
    scripts: Scripts = {
        "boss": [[spawn("clerk", "count")], [say("ok")]],
        "clerk": [[say("one, two"), Stop("max_tokens")]],
    }
    async with troupe(scripts, agents={"boss": {"can_spawn": ["clerk"]}}) as found:
        await chat(found.client, "test", "go")
        words = "one, two\n[Agent 'clerk' was cut off here by its model's token limit]"
        assert found.shown("boss", 1)[-1] == words


async def test_an_agent_has_a_tool_for_each_agent_that_it_may_spawn_and_that_exists() -> None:
    agents: Agents = {"root": {"can_spawn": ["leaf", "ghost"]}, "leaf": {"description": "Knows leaves"}}
    async with troupe({"root": [[say("hi")]], "leaf": [], "other": []}, agents=agents) as it:
        await chat(it.client, "test", "go")
        [spec] = it.models["root"].requests[0].tools
    assert (spec.name, spec.description) == ("spawn_leaf", "Knows leaves")
    assert spec.input_schema["required"] == ["message"]
    assert list(spec.input_schema["properties"]) == ["message"]
    assert spec.input_schema["properties"]["message"]["type"] == "string"


async def test_the_result_is_the_childs_last_message_and_the_child_sees_the_message_alone() -> None:
    scripts: Scripts = {
        "root": [[say("asking "), spawn("leaf", "count the leaves")], [say("done")]],
        "leaf": [[say("let me see"), ToolCall("spawn_root", {"message": "help"})], [say("seven leaves")]],
    }
    async with troupe(scripts, agents={"root": {"can_spawn": ["leaf"]}}) as it:
        events = await chat(it.client, "test", "how many?")
        assert it.shown("leaf") == ["count the leaves"]
        assert it.shown("root", 1) == ["how many?", "asking ", "seven leaves"]
    assert results(events) == [("seven leaves", False)]
    assert names(events) == ["message_delta", "tool_call", "tool_result", "message_delta", "message", "done"]


async def test_agents_whose_names_are_alike_to_vendors_have_a_tool_each() -> None:
    longs = [f"{'x' * 62}{n}" for n in range(3)]
    scripts: Scripts = {"root": [[say("hi")]], **{name: [] for name in ("a_b", "a.b", "a-b", *longs)}}
    agents: Agents = {"root": {"can_spawn": ["a.b", "a_b", "a-b", *longs]}}
    async with troupe(scripts, agents=agents) as it:
        await chat(it.client, "test", "go")
        found = {spec.name: spec.description for spec in it.models["root"].requests[0].tools}
    assert {name: found[name].split()[6] for name in found if "x" not in name} == {
        "spawn_a_b": "a_b",
        "spawn_a-b": "a-b",
        "spawn_a_b_2": "a.b",
    }
    assert sorted(words.split()[6] for name, words in found.items() if "x" in name) == longs
    assert all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", name) for name in found)


async def test_a_child_that_says_nothing_is_told_to_have_said_nothing() -> None:
    scripts: Scripts = {"root": [[spawn("leaf", "go")], [say("ok")]], "leaf": [[Usage(1, 0)]]}
    async with troupe(scripts, agents={"root": {"can_spawn": ["leaf"]}}) as it:
        events = await chat(it.client, "test", "go")
    assert results(events) == [("Agent 'leaf' ended without a word", False)]


@pytest.mark.parametrize(
    "input", [{}, {"message": ""}, {"message": 7}, {"message": None}, {"message": "x", "agent": "mid"}, {"text": "x"}]
)
async def test_arguments_that_do_not_fit_are_told_to_the_model_and_nothing_is_spawned(input: dict[str, Any]) -> None:
    scripts: Scripts = {"root": [[ToolCall("spawn_leaf", input)], [say("ok")]], "leaf": [[say("never")]]}
    async with troupe(scripts, agents={"root": {"can_spawn": ["leaf"]}}) as it:
        events = await chat(it.client, "test", "go")
        assert await it.rows("turns") == 1
    [(output, has_error)] = results(events)
    assert has_error
    assert "one string, message" in output


@pytest.mark.parametrize(("lifecycle", "seen"), [("spawn", ["two"]), ("persistent", ["one", "heard", "two"])])
async def test_a_child_begins_afresh_or_keeps_its_context_within_the_session(lifecycle: str, seen: list[str]) -> None:
    scripts: Scripts = {
        "root": [[spawn("leaf", "one")], [say("ok")], [spawn("leaf", "two")], [say("ok")], [spawn("leaf", "three")]],
        "leaf": [[say("heard")]],
    }
    agents: Agents = {"root": {"can_spawn": ["leaf"], "max_steps": 2}, "leaf": {"lifecycle": lifecycle}}
    async with troupe(scripts, agents=agents) as it:
        session = datas(await chat(it.client, "test", "go"), "done")[0]["session_id"]
        await chat(it.client, "test", "go", session_id=session)
        assert it.shown("leaf", 1) == seen
        await chat(it.client, "test", "go")
        assert it.shown("leaf", 2) == ["three"]


async def test_calls_of_a_persistent_child_side_by_side_share_one_context_one_after_the_other() -> None:
    scripts: Scripts = {
        "root": [[spawn("leaf", "one", "c1"), spawn("leaf", "two", "c2"), spawn("leaf", "three", "c3")], [say("ok")]],
        "leaf": [[say("first")], [say("second")], [say("third")]],
    }
    agents: Agents = {"root": {"can_spawn": ["leaf"], "tool_execution": "parallel"}}
    async with troupe(scripts, agents=agents) as it:
        events = await chat(it.client, "test", "go")
        assert len(it.shown("leaf", 2)) == 5
        assert await it.rows("sessions") == 2
    told = {one["call_id"]: one["output"] for one in datas(events, "tool_result")}
    assert told == {"c1": "first", "c2": "second", "c3": "third"}  # in whatever order the results come


async def test_children_run_side_by_side_where_the_agent_says_so() -> None:
    met = [asyncio.Event(), asyncio.Event()]

    @tool(timeout=5)
    async def meet(call: Call) -> str:
        """Waits for the other."""
        mine = call.agent == "left"
        met[mine].set()
        await met[not mine].wait()
        return "met"

    scripts: Scripts = {
        "root": [[spawn("left", "go", "c1"), spawn("right", "go", "c2")], [say("both")]],
        "left": [[ToolCall("meet", {})], [say("l")]],
        "right": [[ToolCall("meet", {})], [say("r")]],
    }
    agents: Agents = {
        "root": {"can_spawn": ["left", "right"], "tool_execution": "parallel"},
        "left": {"tools": ["meet"]},
        "right": {"tools": ["meet"]},
    }
    async with troupe(scripts, tools(meet), agents=agents) as it:
        events = await chat(it.client, "test", "go")
        assert it.shown("root", 1)[2:] == ["l", "r"]
    assert sorted(results(events)) == [("l", False), ("r", False)]


# Failures and limits, each told to the model that spawned.


async def test_a_childs_failure_is_told_to_the_parents_model_and_the_parent_goes_on() -> None:
    scripts: Scripts = {
        "root": [[spawn("leaf", "go")], [say("then I do it")]],
        "leaf": [[say("half"), ProviderError("HTTP 401: no such key", code="model_auth")]],
    }
    async with troupe(scripts, agents={"root": {"can_spawn": ["leaf"]}}) as it:
        events = await chat(it.client, "test", "go")
    assert results(events) == [("Agent 'leaf' ended as failed: HTTP 401: no such key", True)]
    assert names(events)[-2:] == ["message", "done"]


async def test_a_child_without_a_model_cannot_begin() -> None:
    scripts: Scripts = {"root": [[spawn("leaf", "go")], [say("ok")]], "leaf": []}
    async with troupe(scripts, agents={"root": {"can_spawn": ["leaf"]}}) as it:
        await it.engine.db.write(lambda conn: conn.execute("update agents set model = 'gone' where name = 'leaf'"))
        events = await chat(it.client, "test", "go")
    [(output, has_error)] = results(events)
    assert has_error
    assert "could not begin: Agent 'leaf' needs a model 'gone'" in output


async def test_a_child_has_its_own_max_turn_duration() -> None:
    scripts: Scripts = {"root": [[spawn("leaf", "go")], [say("too slow")]], "leaf": [[say("half"), 30.0]]}
    agents: Agents = {"root": {"can_spawn": ["leaf"]}, "leaf": {"max_turn_duration": 1}}
    async with troupe(scripts, agents=agents) as it:
        events = await chat(it.client, "test", "go")
        assert it.models["leaf"].cancelled == 1
    [(output, _)] = results(events)
    assert "ended as failed: The turn took longer than 1 s" in output
    assert names(events)[-1] == "done"


async def test_a_parents_max_turn_duration_ends_its_child() -> None:
    scripts: Scripts = {"root": [[spawn("leaf", "go")]], "leaf": [[Usage(5, 0), 30.0]]}
    agents: Agents = {"root": {"can_spawn": ["leaf"], "max_turn_duration": 1}}
    async with troupe(scripts, agents=agents) as it:
        events = await chat(it.client, "test", "go")
        assert it.models["leaf"].cancelled == 1
        assert not any(turn.parent for turn in it.engine.runner.turns.values())
    assert datas(events, "error")[0]["code"] == "turn_timeout"


async def test_a_circle_is_refused_with_the_way_round_the_root_included() -> None:
    scripts: Scripts = {
        "root": [[spawn("mid", "a")], [say("end")]],
        "mid": [[spawn("leaf", "b")], [say("m")]],
        "leaf": [[spawn("root", "c"), spawn("mid", "d"), spawn("leaf", "e")], [say("l")]],
    }
    agents: Agents = {**CHAIN, "leaf": {"can_spawn": ["root", "mid", "leaf"]}}
    async with troupe(scripts, agents=agents) as it:
        events = await chat(it.client, "test", "go", subagents=True)
        assert await it.rows("turns") == 3
    told = [one["output"] for one in datas(events, "tool_result") if one["has_error"]]
    for output, back in zip(told, ("root", "mid", "leaf"), strict=True):
        assert f"Spawn circle: root -> mid -> leaf -> {back}" in output


async def test_depth_is_limited() -> None:
    scripts: Scripts = {
        "root": [[spawn("mid", "a")], [say("end")]],
        "mid": [[spawn("leaf", "b")], [say("m")]],
        "leaf": [[say("never")]],
    }
    async with troupe(scripts, agents=CHAIN, settings={"BYTEBREW_SPAWN_MAX_DEPTH": "1"}) as it:
        events = await chat(it.client, "test", "go", subagents=True)
        assert not it.models["leaf"].requests
    outputs = [one["output"] for one in datas(events, "tool_result")]
    assert outputs == ["Agent 'leaf' could not begin: 1 levels of agents are the limit", "m"]


async def test_a_runaway_spawner_is_stopped_by_the_limit_of_children() -> None:
    scripts: Scripts = {"root": [[spawn("leaf", "again")]], "leaf": [[say("l")]]}
    agents: Agents = {"root": {"can_spawn": ["leaf"], "max_steps": 9}}
    async with troupe(scripts, agents=agents, settings={"BYTEBREW_SPAWN_MAX_CHILDREN": "3"}) as it:
        events = await chat(it.client, "test", "go")
        assert await it.rows("turns") == 4
        session = datas(await chat(it.client, "test", "more"), "tool_result")
    told = results(events)
    refused = ("Agent 'leaf' could not begin: 3 agents spawned by one turn are the limit", True)
    assert told == [("l", False)] * 3 + [refused] * 6
    assert datas(events, "error")[0]["code"] == "max_steps_reached"
    assert session[0]["output"] == "l"


async def test_fan_out_on_every_level_is_stopped_by_the_total() -> None:
    fan = [spawn("mid", "m", f"m{n}") for n in range(4)]
    scripts: Scripts = {
        "root": [fan, [say("end")]],
        "mid": [[spawn("leaf", "l", f"l{n}") for n in range(4)], [say("m")]] * 4,
        "leaf": [[say("l")]],
    }
    agents: Agents = {
        "root": {**CHAIN["root"], "tool_execution": "parallel"},
        "mid": {**CHAIN["mid"], "tool_execution": "parallel", "lifecycle": "spawn"},
        "leaf": {"lifecycle": "spawn"},
    }
    async with troupe(scripts, agents=agents, settings={"BYTEBREW_SPAWN_MAX_TOTAL": "7"}) as it:
        events = await chat(it.client, "test", "go", subagents=True)
        assert await it.rows("turns") == 8
    refused = [one["output"] for one in datas(events, "tool_result") if one["has_error"]]
    assert refused
    assert all("7 agents spawned for one message are the limit" in one for one in refused)
    assert names(events)[-1] == "done"


async def test_fifty_calls_side_by_side_are_counted_one_by_one() -> None:
    scripts: Scripts = {"root": [[spawn("leaf", "l", f"c{n}") for n in range(50)], [say("end")]], "leaf": [[say("l")]]}
    agents: Agents = {"root": {"can_spawn": ["leaf"], "tool_execution": "parallel"}, "leaf": {"lifecycle": "spawn"}}
    async with troupe(scripts, agents=agents) as it:
        events = await chat(it.client, "test", "go")
    outputs = [output for output, _ in results(events)]
    assert outputs.count("l") == 10
    assert sum("10 agents spawned by one turn are the limit" in output for output in outputs) == 40


# Schemas.


async def test_relations_narrow_can_spawn_and_never_widen_it() -> None:
    scripts: Scripts = {"root": [[say("hi")]], "mid": [], "leaf": []}
    relations = ("root>leaf", "root>mid", "mid>leaf")
    async with troupe(scripts, agents={"root": {"can_spawn": ["leaf"]}}, relations=relations) as it:
        await chat(it.client, "test", "go")
        await post(it.client, "schemas", **schema("narrow", "root", ["root>mid"]))
        await chat(it.client, "narrow", "go")
        await post(it.client, "schemas", **schema("elsewhere", "root", ["mid>leaf"]))
        await chat(it.client, "elsewhere", "go")
    found = [[spec.name for spec in request.tools] for request in it.models["root"].requests]
    assert found == [["spawn_leaf"], [], []]


async def test_one_agent_in_two_schemas_spawns_in_each_what_that_one_lets_it() -> None:
    scripts: Scripts = {
        "root": [[spawn("mid", "go")], [say("ok")]] * 2,
        "mid": [[spawn("left", "go"), spawn("right", "go")], [say("ok")]] * 2,
        "left": [[say("from left")]],
        "right": [[say("from right")]],
    }
    agents: Agents = {"root": {"can_spawn": ["mid"]}, "mid": {"can_spawn": ["left", "right"]}}
    async with troupe(scripts, agents=agents, relations=("root>mid", "mid>left")) as it:
        await post(it.client, "schemas", **schema("other", "root", ["root>mid", "mid>right"]))
        for name, may, may_not in (("test", "left", "right"), ("other", "right", "left")):
            events = await chat(it.client, name, "go", subagents=True)
            told = {one["tool"]: one["output"] for one in datas(events, "tool_result")}
            assert told[f"spawn_{may}"] == f"from {may}"
            assert told[f"spawn_{may_not}"] == f"There is no tool named 'spawn_{may_not}'"


# Cancellation.


async def begun(it: Troupe, agent: str, **body: Any) -> tuple[str, "asyncio.Task[list[ServerSentEvent]]"]:
    """A chat in the background whose tree has reached an agent: its session, and a task with its events."""
    session: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run() -> list[ServerSentEvent]:
        url = "/api/v1/schemas/test/chat"
        async with it.client.stream("POST", url, json={"message": "go", **body}) as response:
            session.set_result(response.headers["x-session-id"])
            return [event async for event in events_of(response)]

    task = asyncio.create_task(run())
    with anyio.fail_after(5):
        while not it.models[agent].requests:
            await asyncio.sleep(0.005)
    return await session, task


SLOW_CHAIN: Scripts = {
    "root": [[Usage(1, 0), spawn("mid", "a")], [say("end")]],
    "mid": [[Usage(2, 0), spawn("leaf", "b")], [say("m")]],
    "leaf": [[Usage(4, 0), say("half"), 60.0]],
}


@pytest.mark.parametrize("way", ["cancel", "interrupt", "delete"])
async def test_the_end_of_the_root_reaches_grandchildren_within_a_second(way: str) -> None:
    async with troupe(SLOW_CHAIN, agents=CHAIN) as it:
        session, task = await begun(it, "leaf")
        asked = time.monotonic()
        if way == "interrupt":
            it.models["root"].answers[1] = [say("urgent")]
            await chat(it.client, "test", "urgent", session_id=session, on_busy="interrupt")
        elif way == "cancel":
            assert (await it.client.post(f"/api/v1/sessions/{session}/cancel")).status_code == 204
        else:
            assert (await it.client.delete(f"/api/v1/sessions/{session}")).status_code == 204
        events = await task
        assert time.monotonic() - asked < 1
        assert it.models["leaf"].cancelled == 1
        assert datas(events, "done")[0]["status"] == "cancelled"
        assert datas(events, "done")[0]["usage"]["input_tokens"] == 7
        assert not any(turn.parent for turn in it.engine.runner.turns.values())
        statuses = await it.engine.db.read(lambda conn: conn.execute("select status from turns").fetchall())
    assert [row[0] for row in statuses] == {"cancel": ["cancelled"] * 3, "delete": []}.get(
        way, ["cancelled"] * 3 + ["completed"]
    )


async def test_cancelling_a_childs_own_session_is_told_to_its_parent() -> None:
    async with troupe(SLOW_CHAIN, agents=CHAIN) as it:
        _, task = await begun(it, "leaf")
        [leaf] = [turn.session_id for turn in it.engine.runner.turns.values() if turn.agent.name == "leaf"]
        await it.client.post(f"/api/v1/sessions/{leaf}/cancel")
        events = await task
        assert it.shown("mid", 1)[-1] == "Agent 'leaf' ended as cancelled: half"
    assert results(events) == [("m", False)]


async def test_persistent_calls_that_wait_for_each_other_are_cancelled_together() -> None:
    scripts: Scripts = {
        "root": [[spawn("leaf", "one", "c1"), spawn("leaf", "two", "c2")]],
        "leaf": [[say("half"), 60.0]],
    }
    agents: Agents = {"root": {"can_spawn": ["leaf"], "tool_execution": "parallel"}}
    async with troupe(scripts, agents=agents) as it:
        session, task = await begun(it, "leaf")
        while len(it.engine.runner.turns) < 3:
            await asyncio.sleep(0.005)
        with anyio.fail_after(1):
            await it.client.post(f"/api/v1/sessions/{session}/cancel")
            await task
        assert not any(turn.parent for turn in it.engine.runner.turns.values())


# What it costs.


async def test_tokens_and_dollars_of_the_whole_tree_are_the_roots_and_are_counted_once() -> None:
    scripts: Scripts = {
        "root": [[Usage(1, 10), spawn("mid", "a")], [say("end"), Usage(2, 20)]],
        "mid": [[Usage(4, 40), spawn("leaf", "b")], [say("m"), Usage(8, 80)]],
        "leaf": [[say("l"), Usage(16, 160)]],
    }
    async with troupe(scripts, agents=CHAIN) as it:
        [done] = datas(await chat(it.client, "test", "go"), "done")
        detail = (await it.client.get(f"/api/v1/sessions/{done['session_id']}")).json()
        report = (await it.client.get("/api/v1/usage?group_by=agent")).json()
    for usage in (done["usage"], detail["usage"]):
        assert (usage["input_tokens"], usage["output_tokens"], usage["cost_usd"]) == (31, 310, 31.0)
    assert {row["key"]: row["input_tokens"] for row in report["data"]} == {"root": 3, "mid": 12, "leaf": 16}
    assert (report["total"]["input_tokens"], report["total"]["cost_usd"]) == (31, 31.0)


async def test_what_a_failed_child_has_spent_is_counted_too() -> None:
    scripts: Scripts = {
        "root": [[Usage(1, 0), spawn("leaf", "go")], [say("ok")]],
        "leaf": [[Usage(2, 0), ToolCall("nothing", {})], [ProviderError("HTTP 500: oh", code="model_error")]],
    }
    async with troupe(scripts, agents={"root": {"can_spawn": ["leaf"]}}) as it:
        [done] = datas(await chat(it.client, "test", "go"), "done")
    assert done["usage"]["input_tokens"] == 3


# Who hears what.

TALK: Scripts = {
    "root": [[say("r1 "), spawn("mid", "a", "call-mid")], [say("r2")]],
    "mid": [[say("m1 "), spawn("leaf", "b", "call-leaf")], [say("m2")]],
    "leaf": [[Thinking(content="hm"), say("l")]],
}


async def test_a_childs_events_stay_out_of_its_parents_stream() -> None:
    async with troupe(TALK, agents=CHAIN) as it:
        events = await chat(it.client, "test", "go")
    assert all("agent" not in json.loads(event.data) for event in events)
    assert names(events) == ["message_delta", "tool_call", "tool_result", "message_delta", "message", "done"]
    assert datas(events, "message")[0]["content"] == "r1 r2"


async def test_with_subagents_each_event_of_a_child_names_its_agent_and_its_call() -> None:
    async with troupe(TALK, agents=CHAIN) as it:
        events = await chat(it.client, "test", "go", subagents=True)
        again = await chat(it.client, "test", "go", subagents=True)
    told = [(event.event, json.loads(event.data)) for event in events]
    of = {
        (data["agent"], data["parent_call_id"]): [name for name, one in told if one.get("agent") == data["agent"]]
        for _, data in told
        if "agent" in data
    }
    assert of == {
        ("mid", "call-mid"): ["message_delta", "tool_call", "tool_result", "message_delta", "message"],
        ("leaf", "call-leaf"): ["thinking", "message_delta", "message"],
    }
    own = [event for event in events if "agent" not in json.loads(event.data)]
    assert names(own) == ["message_delta", "tool_call", "tool_result", "message_delta", "message", "done"]
    for stream in (events, again):
        assert [event.event for event in stream].count("done") == 1
        assert stream[-1].event == "done"
        numbers = [int(event.id or 0) for event in stream]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_with_subagents_a_failed_child_does_not_end_the_stream() -> None:
    scripts: Scripts = {
        "root": [[spawn("leaf", "go")], [say("ok")]],
        "leaf": [[say("x"), ProviderError("no", code="x")]],
    }
    async with troupe(scripts, agents={"root": {"can_spawn": ["leaf"]}}) as it:
        events = await chat(it.client, "test", "go", subagents=True)
    assert "error" not in names(events)
    assert names(events)[-1] == "done"


async def test_a_childs_session_is_hidden_and_goes_with_the_one_that_spawned_it() -> None:
    async with troupe(TALK, agents=CHAIN) as it:
        [done] = datas(await chat(it.client, "test", "go"), "done")
        assert await it.rows("sessions") == 3
        page = (await it.client.get("/api/v1/sessions")).json()
        assert ([one["id"] for one in page["sessions"]], page["total"]) == ([done["session_id"]], 1)
        await it.client.delete(f"/api/v1/sessions/{done['session_id']}")
        for table in ("sessions", "turns", "messages", "events", "tool_calls"):
            assert await it.rows(table) == 0


async def test_a_child_is_its_owners_alone() -> None:
    async with troupe(TALK, agents=CHAIN) as it:
        headers = {
            name: {
                "Authorization": f"Bearer {(await post(it.client, 'auth/tokens', name=name, scopes=['chat']))['token']}"
            }
            for name in ("mine", "theirs")
        }
        answer = await it.client.post(
            "/api/v1/schemas/test/chat", json={"message": "go", "stream": False}, headers=headers["mine"]
        )
        assert answer.status_code == 200
        rows = await it.engine.db.read(
            lambda conn: conn.execute("select id from sessions where parent_id is not null").fetchall()
        )
        assert len(rows) == 2
        for row in rows:
            for path in ("", "/messages", "/events?follow=false"):
                url = f"/api/v1/sessions/{row['id']}{path}"
                assert (await it.client.get(url, headers=headers["theirs"])).status_code == 404
                assert (await it.client.get(url, headers=headers["mine"])).status_code == 200


async def test_a_childs_session_takes_no_message_of_a_person() -> None:
    async with troupe(TALK, agents=CHAIN) as it:
        await chat(it.client, "test", "go")
        sql = "select id from sessions where parent_id is not null"
        for row in await it.engine.db.read(lambda conn: conn.execute(sql).fetchall()):
            body = {"message": "hi", "session_id": row["id"], "stream": False}
            assert (await it.client.post("/api/v1/schemas/test/chat", json=body)).status_code == 404


TABLE = {"output_type": "table", "rows": [{"label": "Tea", "value": 3}]}
FORM = {"output_type": "form", "questions": [{"id": "q", "label": "Which?"}]}


def showing(*blocks: dict[str, Any]) -> Scripts:
    """A child that shows blocks one after the other, and a root that spawns it."""
    shows = [[ToolCall("show_structured_output", one, f"b{n}")] for n, one in enumerate(blocks)]
    return {"root": [[spawn("leaf", "go")], [say("end")]], "leaf": [*shows, [say("l")]]}


@pytest.mark.parametrize("subagents", [False, True])
async def test_what_a_child_shows_is_seen_where_its_events_are_and_it_is_told_so(subagents: bool) -> None:
    agents: Agents = {"root": {"can_spawn": ["leaf"]}, "leaf": {"tools": ["show_structured_output"]}}
    async with troupe(showing(TABLE), agents=agents) as it:
        events = await chat(it.client, "test", "go", subagents=subagents)
        told = it.shown("leaf", 1)[-1]
    hidden = "Not shown. You work for another agent, and the user does not see what you show: say it in your answer"
    assert told == ("Shown to the user" if subagents else hidden)
    assert len(datas(events, "structured_output")) == subagents
    assert results(events)[-1] == ("l", False)


@pytest.mark.parametrize("subagents", [False, True])
async def test_a_childs_form_is_refused_for_the_user_cannot_answer_it(subagents: bool) -> None:
    agents: Agents = {"root": {"can_spawn": ["leaf"]}, "leaf": {"tools": ["show_structured_output"]}}
    async with troupe(showing(FORM), agents=agents) as it:
        events = await chat(it.client, "test", "go", subagents=subagents)
        assert "the user cannot answer you: say in your answer what is to be asked" in it.shown("leaf", 1)[-1]
    assert not datas(events, "structured_output")
    assert results(events)[-1] == ("l", False)


# Questions.


async def question(it: Troupe, session: str) -> dict[str, Any]:
    """The question that the root's stream carries."""
    with anyio.fail_after(5):
        while True:
            page = (await it.client.get(f"/api/v1/sessions/{session}/events?follow=false")).json()
            for event in page["events"]:
                if event["event"] == "confirmation":
                    found: dict[str, Any] = event["data"]
                    return found
            await asyncio.sleep(0.01)


async def test_a_question_of_a_grandchild_is_asked_and_answered_at_the_root_while_all_clocks_stand() -> None:
    @tool
    async def launch() -> str:
        """Launches."""
        return "launched"

    scripts: Scripts = {
        "root": [[spawn("mid", "a")], [say("end")]],
        "mid": [[spawn("leaf", "b", "call-leaf")], [say("m")]],
        "leaf": [[ToolCall("launch", {}, "c-launch")], [say("l")]],
    }
    agents: Agents = {
        "root": {**CHAIN["root"], "max_turn_duration": 1},
        "mid": {**CHAIN["mid"], "max_turn_duration": 1},
        "leaf": {"tools": ["launch"], "confirm_before": ["launch"], "max_turn_duration": 1},
    }
    async with troupe(scripts, tools(launch), agents=agents) as it:
        session, task = await begun(it, "leaf")
        asked = await question(it, session)
        assert (asked["agent"], asked["parent_call_id"], asked["tool"]) == ("leaf", "call-leaf", "launch")
        inbox = (await it.client.get("/api/v1/approvals")).json()["data"]
        assert [(one["session_id"], one["agent"]) for one in inbox] == [(session, "leaf")]
        await asyncio.sleep(1.2)
        await post(it.client, f"sessions/{session}/respond", call_id=asked["call_id"], answers=["approve"])
        events = await task
        assert it.shown("leaf", 1)[-1] == "launched"
    assert names(events) == ["tool_call", "confirmation", "tool_result", "message_delta", "message", "done"]


@pytest.mark.parametrize(("word", "spawned"), [("approve", 1), ("no", 0)])
async def test_a_spawn_may_need_a_persons_yes_itself(word: str, spawned: int) -> None:
    scripts: Scripts = {"root": [[spawn("leaf", "draft", "c1")], [say("ok")]], "leaf": [[say("l")]]}
    agents: Agents = {"root": {"can_spawn": ["leaf"], "confirm_before": ["spawn_leaf"]}}
    async with troupe(scripts, agents=agents) as it:
        session, task = await begun(it, "root")
        asked = await question(it, session)
        more = {"input": {"message": "edited"}} if word == "approve" else {}
        await post(it.client, f"sessions/{session}/respond", call_id=asked["call_id"], answers=[word], **more)
        events = await task
        assert len(it.models["leaf"].requests) == spawned
        if spawned:
            assert it.shown("leaf") == ["edited"]
    assert results(events)[0][1] is (word == "no")


async def test_a_spawn_is_gated_by_its_agents_own_name_too() -> None:
    scripts: Scripts = {"root": [[ToolCall("spawn_a_b", {"message": "go"})], [say("ok")]], "a.b": [[say("never")]]}
    agents: Agents = {"root": {"can_spawn": ["a.b"], "confirm_before": ["spawn_a.b"]}}
    async with troupe(scripts, agents=agents) as it:
        session, task = await begun(it, "root")
        asked = await question(it, session)
        await post(it.client, f"sessions/{session}/respond", call_id=asked["call_id"], answers=["no"])
        assert results(await task) == [("A person refused this call", True)]
        assert not it.models["a.b"].requests


async def test_a_question_that_nobody_answers_goes_with_the_root() -> None:
    scripts: Scripts = {"root": [[spawn("leaf", "go")]], "leaf": [[ToolCall("x", {})]]}
    agents: Agents = {"root": {"can_spawn": ["leaf"]}, "leaf": {"confirm_before": ["x"]}}
    async with troupe(scripts, agents=agents) as it:
        session, task = await begun(it, "leaf")
        asked = await question(it, session)
        await it.client.post(f"/api/v1/sessions/{session}/cancel")
        assert datas(await task, "done")[0]["status"] == "cancelled"
        assert (await it.client.get("/api/v1/approvals")).json()["data"] == []
        body = {"call_id": asked["call_id"], "answers": ["approve"]}
        assert (await it.client.post(f"/api/v1/sessions/{session}/respond", json=body)).status_code == 410


# The end of the engine.


async def gone_on(it: Troupe, data: Path) -> list[str]:
    """The tools' results of the root once another engine has brought everything to its end."""
    async with engine(providing(*it.models.values()), data=data) as again:
        with anyio.fail_after(5):
            while again.runner.turns:
                await asyncio.sleep(0.01)
        sql = "select output from tool_calls order by call_id"
        return [row["output"] for row in await again.db.read(lambda conn: conn.execute(sql).fetchall())]


async def test_an_agent_that_would_spawn_while_the_engine_stops_does_so_at_the_next_start(tmp_path: Path) -> None:
    gate = asyncio.Event()
    scripts: Scripts = {
        "root": [[spawn("mid", "a", "c1")], [say("end")]],
        "mid": [[gate, spawn("leaf", "b", "c2")], [say("m")]],
        "leaf": [[say("l")]],
    }
    async with troupe(scripts, agents=CHAIN, data=tmp_path) as it:
        _, task = await begun(it, "mid")
        draining = asyncio.create_task(it.engine.drain(5))
        await asyncio.sleep(0)
        gate.set()
        with anyio.fail_after(1):
            await draining
        assert datas(await task, "error")[0]["code"] == "draining"
        assert not it.models["leaf"].requests
    assert await gone_on(it, tmp_path) == ["m", "l"]


@pytest.mark.parametrize("seconds", [0, 5])
async def test_persistent_calls_that_wait_for_each_other_go_on_at_the_next_start(seconds: int, tmp_path: Path) -> None:
    gate = asyncio.Event()
    scripts: Scripts = {
        "root": [[spawn("leaf", "one", "c1"), spawn("leaf", "two", "c2")], [say("end")]],
        "leaf": [[say("first"), gate], [say("first")] if seconds == 0 else [say("second")], [say("second")]],
    }
    agents: Agents = {"root": {"can_spawn": ["leaf"], "tool_execution": "parallel"}}
    async with troupe(scripts, agents=agents, data=tmp_path) as it:
        _, task = await begun(it, "leaf")
        while len(it.engine.runner.turns) < 3:
            await asyncio.sleep(0.005)
        draining = asyncio.create_task(it.engine.drain(seconds))
        await asyncio.sleep(0.05)
        gate.set()
        with anyio.fail_after(1):
            await draining
        assert datas(await task, "error")[0]["code"] == "draining"
    assert sorted(await gone_on(it, tmp_path)) == ["first", "second"]


ACTORS = '''
"""Three levels of agents whose leaf writes down what it does."""
import asyncio
import os
from bytebrew import MessageDelta, Provider, Stop, ToolCall, Usage, hookimpl, tool

def write(line):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(line + "\\n")

@tool
async def note(text: str) -> str:
    """Writes it down, which cannot be undone."""
    write(text)
    return "noted"

@tool
async def hang(text: str) -> str:
    """Writes it down and does not come back."""
    write(text)
    await asyncio.sleep(60)
    return "back"

class Actors(Provider):
    type = "actors"

    async def stream(self, request, http):
        agent, before = request.model_name, request.messages[-1]
        yield Usage(1, 0)
        if agent in ("root", "mid") and before.role == "user":
            below = "mid" if agent == "root" else "leaf"
            yield ToolCall("note", {"text": agent}, f"note-{agent}")
            yield ToolCall(f"spawn_{below}", {"message": before.content}, f"call-{below}")
        elif agent == "leaf" and before.role == "user":
            yield ToolCall(before.content, {"text": "leaf"}, "c-leaf")
        elif agent == "leaf":
            for n in range(40):
                await asyncio.sleep(0.02)
                yield MessageDelta(content=f"{n} ")
        else:
            yield MessageDelta(content=f"{agent} heard: {before.content}")
        yield Stop()

@hookimpl
def register_providers(register):
    register(Actors())

@hookimpl
def register_tools(register):
    register(note)
    register(hang)
'''


class Stage(NamedTuple):
    """What the processes of one test share."""

    data: Path
    notes: Path
    settings: dict[str, str]

    def noted(self) -> list[str]:
        """The side effects so far."""
        return self.notes.read_text().splitlines()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    install(tmp_path / "plugins", "actors", ACTORS)
    notes = tmp_path / "notes"
    return Stage(tmp_path / "data", notes, {"BYTEBREW_PLUGINS_DIR": str(tmp_path / "plugins"), "NOTES": str(notes)})


def configure(url: str) -> None:
    with httpx.Client(base_url=f"{url}/api/v1", headers=HEADERS) as client:
        for name, below in (("root", ["mid"]), ("mid", ["leaf"]), ("leaf", [])):
            client.post("/models", json={"name": name, "type": "actors", "model_name": name})
            agent = {"name": name, "model": name, "tools": ["note", "hang"], "can_spawn": below}
            client.post("/agents", json=agent)
        client.post("/schemas", json=schema("test", "root"))


def heard(url: str, message: str, until: str) -> tuple[str, list[ServerSentEvent]]:
    """A chat's session and events up to one whose data holds a text."""
    parser, found = Parser(), []
    body = {"message": message, "subagents": True}
    with httpx.stream("POST", f"{url}/api/v1/schemas/test/chat", headers=HEADERS, json=body, timeout=20) as answer:
        for chunk in answer.iter_raw():
            found += parser.feed(chunk)
            if any(until in event.data for event in found):
                return answer.headers["x-session-id"], found
    raise AssertionError(f"the stream ended without {until}")


def rest(url: str, session: str, until: str) -> list[ServerSentEvent]:
    """The session's events from the first up to one of a type."""
    parser, found = Parser(), []
    path = f"{url}/api/v1/sessions/{session}/events"
    with httpx.stream("GET", path, headers=HEADERS, timeout=20) as answer:
        for chunk in answer.iter_raw():
            found += parser.feed(chunk)
            if any(event.event == until for event in found):
                return found
    raise AssertionError(f"the stream ended without {until}")


def test_a_tree_that_is_killed_goes_on_and_no_tool_takes_effect_twice(stage: Stage) -> None:
    with serving(stage.data, stage.settings) as process:
        configure(process.url)
        session, seen = heard(process.url, "note", '"20 "')
        process.kill()
    with serving(stage.data, stage.settings) as process:
        events = rest(process.url, session, "done")
        detail = httpx.get(f"{process.url}/api/v1/sessions/{session}", headers=HEADERS).json()
        usage = httpx.get(f"{process.url}/api/v1/usage", headers=HEADERS).json()
    assert stage.noted() == ["root", "mid", "leaf"]
    assert [(event.id, event.data) for event in events[: len(seen)]] == [(event.id, event.data) for event in seen]
    words = "".join(f"{n} " for n in range(40))
    assert datas(events, "message")[-1]["content"] == f"root heard: mid heard: {words}"
    assert "".join(one["content"] for one in datas(events, "message_delta") if one.get("agent") == "leaf") == words
    assert [event.event for event in events].count("done") == 1
    [done] = datas(events, "done")
    assert done["usage"] == detail["usage"]
    assert done["usage"]["input_tokens"] == usage["total"]["input_tokens"] == 6


def test_a_call_that_was_cut_short_in_a_grandchild_is_asked_about_at_the_root(stage: Stage) -> None:
    with serving(stage.data, stage.settings) as process:
        configure(process.url)
        session, _ = heard(process.url, "hang", '"c-leaf"')
        while not stage.notes.exists() or stage.noted() != ["root", "mid", "leaf"]:
            time.sleep(0.01)
        process.kill()
    with serving(stage.data, stage.settings) as process:
        [asked] = datas(rest(process.url, session, "confirmation"), "confirmation")
        assert (asked["agent"], asked["kind"], asked["tool"]) == ("leaf", "unknown_outcome", "hang")
        body = {"call_id": asked["call_id"], "answers": ["mark_done", "I saw it"]}
        url = f"{process.url}/api/v1/sessions/{session}/respond"
        assert httpx.post(url, headers=HEADERS, json=body).status_code == 200
        events = rest(process.url, session, "done")
    assert stage.noted() == ["root", "mid", "leaf"]
    assert datas(events, "message")[-1]["content"].startswith("root heard: mid heard: 0 1 ")


@pytest.mark.slow
def test_a_tree_that_is_killed_twice_in_a_row_goes_on(stage: Stage) -> None:
    with serving(stage.data, stage.settings) as process:
        configure(process.url)
        session, _ = heard(process.url, "note", '"5 "')
        process.kill()
    with serving(stage.data, stage.settings) as process:
        time.sleep(0.2)
        process.kill()
    with serving(stage.data, stage.settings) as process:
        events = rest(process.url, session, "done")
    assert stage.noted() == ["root", "mid", "leaf"]
    assert datas(events, "done")[0]["usage"]["input_tokens"] == 6


async def test_a_resumed_agent_that_fails_ends_those_that_it_spawned_and_counts_them(tmp_path: Path) -> None:
    paid: Sequence[Step] = [say("x"), Usage(5, 0), 30.0]
    scripts: Scripts = {"root": [[spawn("leaf", "go"), Usage(3, 0)]], "leaf": [paid]}
    async with troupe(scripts, agents={"root": {"can_spawn": ["leaf"]}}, data=tmp_path) as it:
        stream = asyncio.create_task(it.client.post("/api/v1/schemas/test/chat", json={"message": "go"}))
        async with asyncio.timeout(5):
            while not any(turn.usage.input_tokens == 5 for turn in it.engine.runner.turns.values()):
                await asyncio.sleep(0.01)
        await it.engine.drain(0)
        await asyncio.wait([stream])

    async def startup(engine: Engine) -> None:
        read = engine.db.read

        async def once(work: Any, *args: Any) -> Any:
            if work is confirmations.of_call:
                engine.db.read = read  # type: ignore[method-assign]
                await asyncio.sleep(0.2)  # the leaf has called its model by then
                raise StorageError("The disk did not answer")
            return await read(work, *args)

        engine.db.read = once  # type: ignore[assignment, method-assign]

    models = [type(name, (ScriptedProvider,), {"type": name})(paid) for name in ("root", "leaf")]
    broken = ("broken", plugin(startup=startup)[1])
    async with served_engine(providing(*models), broken, data=tmp_path) as (running, client):
        async with asyncio.timeout(5):
            while running.runner.turns:
                await asyncio.sleep(0.01)
        turns = await running.db.read(
            lambda conn: [tuple(row) for row in conn.execute("select status, input_tokens from turns order by seq")]
        )
        assert turns == [("failed", 13), ("cancelled", 10)]
        assert (await client.get("/api/v1/usage")).json()["total"]["input_tokens"] == 13
