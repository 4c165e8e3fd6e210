"""The confirm gate on each kind of tool: an HTTP tool, one of an MCP server, a spawn and a built-in one."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from bytebrew import MessageDelta, ToolCall
from bytebrew.testing import ScriptedProvider, providing, scripted_schema, served_engine
from tests.conversation.test_confirmations import Talk, answer
from tests.mcp_double import Web
from tests.upstream import Upstream, refused, upstream

CHANGED = "[A person changed the arguments to "


class Stage(NamedTuple):
    """An engine whose agent `test` has a tool of each kind, each behind the gate, and what lies behind the tools."""

    client: httpx.AsyncClient
    model: ScriptedProvider
    shop: Upstream
    crm: Web
    child: ScriptedProvider


class Kind(NamedTuple):
    """A tool, what the model calls it with, what a person makes of that, and what has become of its calls."""

    tool: str
    asked: dict[str, Any]
    edited: dict[str, Any]
    effects: Callable[[Stage], Awaitable[list[Any]]]


async def orders(stage: Stage) -> list[Any]:
    return [request.json for request in stage.shop.requests]


async def echoes(stage: Stage) -> list[Any]:
    messages = [seen["message"] for seen in stage.crm.server.seen]
    return [one["params"]["arguments"] for one in messages if one.get("method") == "tools/call"]


async def errands(stage: Stage) -> list[Any]:
    return [{"message": request.messages[-1].content} for request in stage.child.requests]


async def tasks(stage: Stage) -> list[Any]:
    rows = (await stage.client.get("/api/v1/tasks")).json()["data"]
    return [{"action": "create", "title": row["title"]} for row in rows]


KINDS = (
    Kind("order", {"sku": "tea", "amount": 5}, {"sku": "tea", "amount": 3}, orders),
    Kind("echo", {"who": {"name": "Ada"}}, {"who": {"name": "Ben"}}, echoes),
    Kind("spawn_helper", {"message": "Go"}, {"message": "Go slowly"}, errands),
    Kind("manage_tasks", {"action": "create", "title": "Tea"}, {"action": "create", "title": "Coffee"}, tasks),
)


@asynccontextmanager
async def staged(**agent: Any) -> AsyncIterator[Stage]:
    model = ScriptedProvider([])
    child = type("Child", (ScriptedProvider,), {"type": "child"})([MessageDelta(content="Gone.")])
    served = served_engine(providing(model, child))
    async with served as (engine, client), upstream(refused(200, {"ok": True})) as shop, Web() as crm:
        tool = {
            "name": "order",
            "url": f"{shop.url}/orders",
            "method": "POST",
            "parameters": {"sku": {}, "amount": {"type": "integer"}},
        }
        for path, body in (
            ("tools", tool),
            ("mcp-servers", {"name": "crm", "url": crm.url}),
            ("models", {"name": "child", "type": "child", "model_name": "script"}),
            ("agents", {"name": "helper", "model": "child"}),
        ):
            made = await client.post(f"/api/v1/{path}", json=body)
            assert made.status_code == 201, made.text
        given = {"tools": ("order", "manage_tasks"), "mcp_servers": ("crm",), "can_spawn": ("helper",), **agent}
        await scripted_schema(engine, confirm_before=tuple(kind.tool for kind in KINDS), **given)
        yield Stage(client, model, shop, crm, child)


def ask(stage: Stage, *calls: ToolCall) -> Talk:
    """A message upon which the model makes the calls and then says that it is done."""
    stage.model.answers = [calls, [MessageDelta(content="Done.")]]
    return Talk(stage.client, "POST", "/api/v1/schemas/test/chat", json={"message": "Go on"})


@pytest.mark.parametrize("how", ["approved", "rejected", "edited"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.tool)
async def test_nothing_happens_but_what_a_person_has_agreed_to(kind: Kind, how: str) -> None:
    async with staged() as stage:
        talk = ask(stage, ToolCall(kind.tool, kind.asked, "c1"))
        [asked] = await talk.until("confirmation")
        assert (asked["tool"], asked["input"], await kind.effects(stage)) == (kind.tool, kind.asked, [])
        more = {"input": kind.edited} if how == "edited" else {}
        words = ("no", "not today") if how == "rejected" else ("approve",)
        answered = await answer(stage.client, talk.session_id, asked["call_id"], *words, **more)
        assert answered.status_code == 200, answered.text
        assert (await talk.end())[-1] == "done"
        [result] = talk.datas("tool_result")
        happened = {"approved": [kind.asked], "rejected": [], "edited": [kind.edited]}[how]
        assert await kind.effects(stage) == happened
        assert result["has_error"] == (how == "rejected"), result
        assert (result["output"] == "A person refused this call: not today") == (how == "rejected")
        told = f"{CHANGED}{msgspec.json.encode(kind.edited).decode()}]\n"
        assert result["output"].startswith(told) == (how == "edited")
        assert stage.model.requests[1].messages[-1].content == result["output"]


async def test_questions_about_each_kind_wait_side_by_side_and_are_answered_in_reverse_order() -> None:
    async with staged(tool_execution="parallel") as stage:
        talk = ask(stage, *(ToolCall(kind.tool, kind.asked, f"c{n}") for n, kind in enumerate(KINDS)))
        questions = {asked["tool"]: asked["call_id"] for asked in await talk.until("confirmation", len(KINDS))}
        inbox = (await stage.client.get("/api/v1/approvals")).json()["data"]
        assert {one["tool"] for one in inbox} == questions.keys()
        for number, kind in enumerate(reversed(KINDS), 1):
            assert await kind.effects(stage) == []
            await answer(stage.client, talk.session_id, questions[kind.tool], "approve")
            await talk.until("tool_result", number)
            assert await kind.effects(stage) == [kind.asked]
        assert (await talk.end())[-1] == "done"
        outcomes = [json.loads(event.data)["tool"] for event in talk.seen if event.event == "tool_result"]
    assert outcomes == [kind.tool for kind in reversed(KINDS)]
