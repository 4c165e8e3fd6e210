"""The public view: the same numbers, and no tool, reasoning, internal name or cost, on every route."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bytebrew.contract.events import Event
from bytebrew.engine import Engine
from bytebrew.store.confirmations import Confirmation
from bytebrew.store.queries.session_list import SessionRow
from bytebrew.testing import client as client_of
from bytebrew.testing import engine, events_of, served_engine
from bytebrew.web.api_document.openapi import EVENTS
from bytebrew.web.public_view import REACHED, SCOPES, SENTENCES, PublicView, event, value
from bytebrew.web.routes.approvals import Answered
from tests import ledger
from tests.tables import table

SECRET = "s3cr3t"
LOADED = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # on a machine with much to do
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=3,
)
HIDDEN = JSON.map(lambda value: [SECRET, value, {SECRET: f"\n\n{SECRET}"}])


async def kinds() -> list[type[Event]]:
    """Every event type of the core and of the bundled plugins."""
    async with engine() as running:
        return [*EVENTS, *running.events]


def filled(kind: type[Event]) -> st.SearchStrategy[dict[str, Any]]:
    """The event's JSON with anything in its fields, and the secret in all that are not public."""
    own = {name: JSON if name in kind.public else HIDDEN for name in kind.__struct_fields__}
    if kind.name == "error":
        own |= {"code": st.sampled_from([*SENTENCES, SECRET]), "message": HIDDEN}
    above = own.pop("agent"), own.pop("parent_call_id")
    return st.fixed_dictionaries(own, optional={"agent": above[0], "parent_call_id": above[1]})


ALL = {kind.name: kind for kind in EVENTS}
FRAMES = st.lists(
    st.sampled_from(sorted(ALL)).flatmap(lambda name: st.tuples(st.just(name), filled(ALL[name]))), max_size=12
)


async def test_no_event_of_the_core_or_a_plugin_shows_what_is_not_public() -> None:
    for kind in await kinds():
        check_event(kind)


def check_event(kind: type[Event]) -> None:
    @LOADED
    @given(filled(kind))
    def holds(data: dict[str, Any]) -> None:
        raw = msgspec.json.encode(data)
        shown = event(kind, raw)
        assert shown is None or SECRET not in shown.decode()
        assert shown is None or set(json.loads(shown)) <= set(kind.public)
        assert event(kind, raw) == shown
        if not kind.public or ("agent" in data and not kind.rises):
            assert shown is None

    holds()


def test_what_is_of_tools_is_never_public() -> None:
    assert not any(ALL[name].public for name in ("tool_call", "tool_result", "thinking", "notice", "context_trimmed"))
    assert not {"tool", "input", "source", "args_digest"} & {*ALL["confirmation"].public}
    assert "usage" not in ALL["done"].public
    assert event(None, b"{}") is None


@LOADED
@given(FRAMES, st.data())
def test_a_stream_keeps_its_numbers_wherever_it_is_resumed(events: list[tuple[str, Any]], data: Any) -> None:
    view = PublicView.__new__(PublicView)
    view._kinds = ALL
    frames = [
        b"id: %d\nevent: %s\ndata: %s\n\n" % (n, name.encode(), msgspec.json.encode(fields))
        for n, (name, fields) in enumerate(events, 1)
    ]
    whole = b"".join(view.frame(one[:-2]) for one in frames)
    assert SECRET.encode() not in whole
    numbers = [int(part[4 : part.index(b"\n")]) for part in whole.split(b"\n\n") if part]
    expected = [n for n, (name, one) in enumerate(events, 1) if event(ALL[name], msgspec.json.encode(one))]
    assert numbers == expected
    after = data.draw(st.integers(0, len(frames)))
    rest = b"".join(view.frame(one[:-2]) for one in frames[after:])
    assert whole.endswith(rest)


async def test_each_route_that_such_a_caller_can_reach_has_a_public_answer() -> None:
    async with engine() as running:
        reached = [route for route in table(running) if route.scope in SCOPES and route.face is None]
    refused = {route.path for route in reached if not route.path.startswith(REACHED)}
    assert refused == {"/api/v1/connections", "/api/v1/connections/{server}"}, "what they name is internal"


NAMES = ("inner-agent", "inner-helper", "inner-model", "look", "saw 424242", "424242", "sign", "hidden-name")
"""What no byte of an answer in the public view may hold."""
CHILD = [[["look", {"n": 424242}]], ["child"]]
ONE = "one " * 25
"""Longer than a session's title, which is the beginning of the caller's message."""
STEPS: list[Any] = [
    [ONE, ["look", {"n": 424242}]],
    [["spawn_inner-helper", {"message": json.dumps(CHILD)}]],
    ["two ", ["sign", {"name": "hidden-name"}]],
    ["three"],
]


class Shop:
    """An engine whose schema `shop` has an agent with tools, a question and a sub-agent."""

    def __init__(self, running: Engine, admin: httpx.AsyncClient) -> None:
        self.running, self.admin = running, admin

    async def caller(self, who: str) -> httpx.AsyncClient:
        """A client: a visitor of a public page, a token with the public view, or one whose schema has it."""
        scopes = ["chat", "approvals"] if who == "approver" else ["public"] if who == "visitor" else ["chat", "tasks"]
        body = {"name": who, "scopes": scopes, "schemas": ["shop"]} | ({"view": "public"} if who == "token" else {})
        made = (await self.admin.post("/api/v1/auth/tokens", json=body)).json()["token"]
        if who == "schema":
            await self.admin.patch("/api/v1/schemas/shop", json={"view": "public"})
        if who == "visitor":
            headers = {"Authorization": f"Bearer {made}"}
            made = (await self.admin.post("/api/v1/auth/visitors", json={}, headers=headers)).json()["access_token"]
        return client_of(self.running, made)


@asynccontextmanager
async def shop(data: Path, **agent: Any) -> AsyncIterator[Shop]:
    async with served_engine(("ledger", ledger), data=data, settings={"BYTEBREW_LEDGER": str(data / "ledger")}) as (
        running,
        admin,
    ):
        tools = {"tools": ["look", "sign"], "model": "inner-model"}
        for path, body in (
            ("models", {"name": "inner-model", "type": "steps", "model_name": "steps"}),
            ("agents", {"name": "inner-helper", **tools}),
            ("agents", {"name": "inner-agent", **tools, "can_spawn": ["inner-helper"], **agent}),
            ("schemas", {"name": "shop", "entry_agent": "inner-agent", "chat_enabled": True, "client_tools": True}),
        ):
            assert (await admin.post(f"/api/v1/{path}", json=body)).status_code == 201
        yield Shop(running, admin)


def hides(*answers: httpx.Response, names: Sequence[str] = NAMES, beside: str = "") -> None:
    """Fails where an answer or its headers hold a name; `beside` is the caller's own message, which it may see."""
    for answer in answers:
        text = answer.text.replace(json.dumps(beside)[1:-1], "") if beside else answer.text
        for name in names:
            assert name not in text, (answer.request.url, name, text)
            assert name not in str(answer.headers), (answer.request.url, name)
        assert "server-timing" not in answer.headers


def test_a_row_of_a_list_has_no_cost_and_a_public_code() -> None:
    times = dict.fromkeys(("created_at", "updated_at"), "2026-03-02T09:00:00Z")
    names = {"id": "s", "agent": SECRET, "schema": "shop", "title": "hi", "status": "failed", "user_sub": ""}
    last: dict[str, Any] = {"message_count": 1, "forked_from": None, "needs_input": False, "turns": 1}
    last |= {"last_turn_ms": 5, "cost_usd": 0.25}
    row = msgspec.convert({**names, **times, **last, "error_code": SECRET}, SessionRow)
    shown = value(row, ALL)
    assert (shown.agent, shown.error_code, shown.cost_usd, shown.turns) == ("", "turn_failed", None, 1)
    assert value(msgspec.structs.replace(row, error_code=""), ALL).error_code == ""


@pytest.mark.parametrize("who", ["visitor", "token", "schema"])
async def test_no_route_shows_a_name_an_input_or_an_output(tmp_path: Path, who: str) -> None:
    async with shop(tmp_path) as world, await world.caller(who) as caller, await world.caller("approver") as approver:
        message = json.dumps(STEPS)
        body = {"message": message, "subagents": True}
        seen, key = [], {"Idempotency-Key": "k1"}
        async with caller.stream("POST", "/api/v1/schemas/shop/chat", json=body, headers=key) as response:
            assert "server-timing" not in response.headers
            session_id, turn_id = response.headers["x-session-id"], response.headers["x-turn-id"]
            at = f"/api/v1/sessions/{session_id}"
            async for one in events_of(response):
                seen.append(one)
                if one.event == "confirmation":
                    question = json.loads(one.data)
                    waiting = await caller.get(f"{at}/turns/{turn_id}")
                    while waiting.json()["status"] != "needs_input":  # it waits right after the event
                        waiting = await caller.get(f"{at}/turns/{turn_id}")
                    yes = {"call_id": question["call_id"], "answers": ["yes"]}
                    answered = await caller.post(f"{at}/respond", json=yes)
                    assert answered.status_code == 403
                    hides(waiting, answered, beside=message)
                    assert (await approver.post(f"{at}/respond", json=yes)).status_code == 404
                    [shown] = (await approver.get("/api/v1/approvals")).json()["data"]
                    assert (shown["tool"], shown["input"]) == ("sign", {"name": "hidden-name"})
                    yes = {"answers": ["yes"], "args_digest": shown["args_digest"]}
                    answered = await approver.post(f"/api/v1/approvals/{shown['id']}/respond", json=yes)
                    assert answered.json()["confirmation"]["input"] == {"name": "hidden-name"}
        assert set(question) == {"session_id", "turn_id", "confirmation_id", "call_id", "expires_at"}
        assert {one.event for one in seen} == {"message_delta", "confirmation", "message", "done"}
        assert not [name for name in NAMES for one in seen if name in one.data]
        assert set(json.loads(seen[-1].data)) == {"session_id", "turn_id", "status", "finish_reason"}
        paths = [
            *("/api/v1/sessions", at, f"{at}/messages", f"{at}/messages?offset=0", f"{at}/messages?format=ndjson"),
            *(f"{at}/events?follow=false", f"{at}/turns/{turn_id}", f"{at}/forks"),
        ]
        found = [await caller.get(path) for path in paths]
        assert [one.status_code for one in found] == [200] * len(paths)
        hides(*found, beside=message)
        assert [one["content"] for one in found[2].json()] == [message, ONE, "two ", "three"]
        again = await caller.post("/api/v1/schemas/shop/chat", json=body, headers=key)
        hides(again, beside=message)
        numbered = [part for part in again.content.split(b"\n\n") if part.startswith(b"id: ")]
        assert numbered == [f"id: {one.id}\nevent: {one.event}\ndata: {one.data}".encode() for one in seen]
        half = {"Last-Event-ID": seen[len(seen) // 2].id}
        rest = await caller.post("/api/v1/schemas/shop/chat", json=body, headers=key | half)
        left = [part for part in rest.content.split(b"\n\n") if part.startswith(b"id: ")]
        assert left == numbered[len(seen) // 2 + 1 :]
        page = (await world.admin.get(f"{at}/events?follow=false")).json()["events"]
        public = {one["id"]: one for one in found[5].json()["events"]}
        assert [str(n) for n in public] == [one.id for one in seen]
        assert all(one["event"] == public[one["id"]]["event"] for one in page if one["id"] in public)
        assert {"tool_call", "tool_result"} <= {one["event"] for one in page}
        hides(await caller.get("/api/v1/agents"), await caller.get("/api/v1/schemas"), names=NAMES[:4])
        asked = [await caller.get(f"/api/v1/sessions?{one}") for one in ("tool=look", "error=model_auth")]
        assert [one.status_code for one in asked] == [200 if who == "schema" else 403] * 2


@pytest.mark.parametrize("who", ["token", "schema"])
async def test_no_route_of_tasks_shows_a_name(tmp_path: Path, who: str) -> None:
    async with shop(tmp_path) as world, await world.caller(who) as caller:
        body = {"title": json.dumps([[["look", {"n": 424242}]], ["fine"]]), "agent": "inner-agent", "schema": "shop"}
        made = await caller.post("/api/v1/tasks", json=body, headers={"Idempotency-Key": "t"})
        again = await caller.post("/api/v1/tasks", json=body, headers={"Idempotency-Key": "t"})
        assert (made.status_code, again.json()["id"]) == (201, made.json()["id"])
        at = f"/api/v1/tasks/{made.json()['id']}"
        async with caller.stream("GET", f"{at}/events") as response:
            async for one in events_of(response):
                assert not [name for name in NAMES if name in one.data]
                if one.event in ("done", "error"):
                    break
        paths = (at, "/api/v1/tasks", f"{at}/subtasks", f"{at}/events?follow=false")
        found = [await caller.get(path) for path in paths]
        assert [one.status_code for one in found] == [200] * 4
        hides(made, again, *found, beside=body["title"])


async def test_an_error_is_a_sentence_for_its_code(tmp_path: Path) -> None:
    async with shop(tmp_path, max_steps=1) as world, await world.caller("visitor") as caller:
        body = {"message": json.dumps([[["look", {"n": 424242}]], ["no"]])}
        stream = await caller.post("/api/v1/schemas/shop/chat", json=body)
        [error] = [part for part in stream.text.split("\n\n") if "event: error" in part]
        shown = json.loads(error.partition("data: ")[2])
        assert (shown["code"], shown["message"]) == ("max_steps_reached", SENTENCES["max_steps_reached"])
        whole = await caller.post("/api/v1/schemas/shop/chat", json=body | {"stream": False})
        assert whole.json()["message"] == SENTENCES["max_steps_reached"]
        turn = f"/api/v1/sessions/{whole.json()['session_id']}/turns/{whole.json()['turn_id']}"
        assert (await caller.get(turn)).json()["failure"]["message"] == SENTENCES["max_steps_reached"]
        await world.admin.patch("/api/v1/agents/inner-agent", json={"model": "nowhere"})
        missing = await caller.post("/api/v1/schemas/shop/chat", json=body)
        assert (missing.status_code, missing.json()) == (
            422,
            {"error": "turn_failed", "message": SENTENCES["turn_failed"]},
        )
        hides(stream, whole, missing)


async def test_an_admin_sees_everything_and_the_client_cannot_widen_its_view(tmp_path: Path) -> None:
    async with shop(tmp_path) as world, await world.caller("visitor") as caller:
        await world.admin.patch("/api/v1/schemas/shop", json={"view": "public"})
        body = {"message": json.dumps([[["look", {"n": 424242}]], ["fine"]]), "stream": False}
        full = (await world.admin.post("/api/v1/schemas/shop/chat", json=body)).json()
        assert full["tool_calls"][0]["output"] == "saw 424242"
        for wider in ({"view": "full"}, {"subagents": True, "view": "full"}):
            assert (await caller.post("/api/v1/schemas/shop/chat", json=body | wider)).status_code == 400
        shown = (await caller.post("/api/v1/schemas/shop/chat", json=body)).json()
        assert (shown["message"], shown["tool_calls"], shown["usage"]["input_tokens"]) == ("fine", [], 0)
        await world.admin.delete("/api/v1/schemas/shop")
        gone = await caller.get(f"/api/v1/sessions/{shown['session_id']}")
        hides(gone, beside=str(body["message"]))


async def test_a_page_whose_token_says_so_shows_its_visitors_everything(tmp_path: Path) -> None:
    async with shop(tmp_path) as world:
        token = {"name": "open", "scopes": ["public"], "view": "full"}
        made = (await world.admin.post("/api/v1/auth/tokens", json=token)).json()["token"]
        headers = {"Authorization": f"Bearer {made}"}
        visitor = (await world.admin.post("/api/v1/auth/visitors", json={}, headers=headers)).json()["access_token"]
        async with client_of(world.running, visitor) as caller:
            body = {"message": json.dumps([[["look", {"n": 1}]], ["fine"]]), "stream": False}
            assert (await caller.post("/api/v1/schemas/shop/chat", json=body)).json()["tool_calls"]


async def test_a_visitors_client_runs_its_own_tools(tmp_path: Path) -> None:
    async with shop(tmp_path) as world, await world.caller("visitor") as caller:
        body = {
            "message": json.dumps([[["where_am_i", {"exact": True}]], [None]]),
            "client_tools": [{"name": "where_am_i", "input_schema": {"type": "object"}}],
        }
        async with caller.stream("POST", "/api/v1/schemas/shop/chat", json=body) as response:
            names = []
            async for one in events_of(response):
                names.append(one.event)
                if one.event == "client_tool_call":
                    call = json.loads(one.data)
                    assert (call["tool"], call["input"]) == ("where_am_i", {"exact": True})
                    at = f"/api/v1/sessions/{call['session_id']}"
                    [shown] = (await caller.get(at)).json()["client_calls"]
                    assert shown["input"] == {"exact": True}
                    given = {"call_id": call["call_id"], "result": "here"}
                    assert (await caller.post(f"{at}/respond", json=given)).json()["is_error"] is False
                    late = await caller.post(f"{at}/respond", json=given | {"result": "there"})
                    assert (late.status_code, late.json()["error"]) == (409, "already_answered")
        assert names == ["client_tool_call", "message_delta", "message", "done"]


def test_the_id_of_a_call_that_a_vendor_made_of_the_tools_name_is_not_shown() -> None:
    asked = {"session_id": "s", "turn_id": "t", "confirmation_id": "conf_1", "call_id": f"functions.{SECRET}:0"}
    shown = json.loads(event(ALL["confirmation"], msgspec.json.encode(asked | {"expires_at": None})) or b"{}")
    assert (shown["call_id"], shown["confirmation_id"]) == ("conf_1", "conf_1")
    client = json.loads(event(ALL["client_tool_call"], msgspec.json.encode(asked | {"tool": SECRET})) or b"{}")
    assert client["call_id"] == asked["call_id"]  # its client made the name
    question: dict[str, Any] = dict.fromkeys(Confirmation.__struct_fields__, SECRET) | {"id": "conf_1"}
    assert value(Confirmation(**question), ALL).call_id == "conf_1"
    assert value(Answered(confirmation_id="conf_1", call_id=SECRET, approved=True), ALL).call_id == "conf_1"
    assert value(Answered(confirmation_id="conf_1", call_id=SECRET, is_error=False), ALL).call_id == SECRET


async def test_a_refused_attachment_or_rate_names_no_model_and_no_rule(tmp_path: Path) -> None:
    async with shop(tmp_path) as world, await world.caller("visitor") as caller:
        body = {"message": "[]", "attachments": [{"media_type": "image/png", "data": "aGFsbG8="}]}
        refused = await caller.post("/api/v1/schemas/shop/chat", json=body)
        assert (refused.status_code, refused.json()["details"][0]["path"]) == (400, "$.attachments[0]")
        hides(refused, names=("inner-model", "steps"))
        rule = {"name": "inner-rule", "per": "subject", "tiers": {"all": {"requests": 1}}, "default_tier": "all"}
        assert (await world.admin.post("/api/v1/rate-limits", json=rule)).status_code == 201
        answers = [await caller.get("/api/v1/sessions") for _ in range(2)]
        assert [one.status_code for one in answers] == [200, 429]
        assert answers[1].json()["message"] == SENTENCES["rate_limited"]
        assert "retry-after" in answers[1].headers


@pytest.mark.parametrize("who", ["token", "schema"])
async def test_what_agents_give_each_other_to_do_is_not_shown(tmp_path: Path, who: str) -> None:
    async with shop(tmp_path, tools=["look", "manage_tasks"]) as world, await world.caller(who) as caller:
        todo = {"action": "create", "description": "424242", "acceptance_criteria": ["424242"]}
        steps = [
            [ONE, ["manage_tasks", todo | {"title": "saw 424242"}]],
            [["manage_tasks", todo | {"title": json.dumps([["hidden-name"]]), "agent_id": "inner-helper"}]],
            [["spawn_inner-helper", {"message": json.dumps([["hidden-name"]])}]],
            ["fine"],
        ]
        message = json.dumps(steps)
        body = {"message": message, "stream": False}
        mine = (await caller.post("/api/v1/schemas/shop/chat", json=body)).json()["session_id"]
        everything = (await world.admin.get("/api/v1/sessions")).json()["data"]
        tasks = (await caller.get("/api/v1/tasks")).json()["data"]
        assert len(everything) == len(tasks) == 2
        spawned = await world.running.db.read(
            lambda conn: [row["id"] for row in conn.execute("select id from sessions where parent_id is not null")]
        )
        others = {one["id"] for one in everything} - {mine} | {*spawned}
        assert len(others) == 2
        for one in others:
            paths = ("", "/messages", "/events?follow=false", "/forks", "/turns/none")
            found = [await caller.get(f"/api/v1/sessions/{one}{path}") for path in paths]
            assert [answer.status_code for answer in found] == [404] * len(paths)
        listed = [await caller.get(path) for path in ("/api/v1/sessions", "/api/v1/tasks")]
        listed += [await caller.get(f"/api/v1/tasks/{one['id']}") for one in tasks]
        assert [one["id"] for one in listed[0].json()["data"]] == [mine]
        hides(*listed, beside=message)
