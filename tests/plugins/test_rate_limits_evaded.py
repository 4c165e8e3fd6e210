"""Rate limits that a caller cannot get round, and that never stop who wants to answer, stop or look at something."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from bytebrew_rate_limits.limits import LIMITS

from bytebrew import Actor, AuthMode, Guard, MessageDelta, Request, Route, ToolCall, tool
from bytebrew.base.errors import TurnInterrupted
from bytebrew.testing import ScriptedProvider, Step, plugin, providing, scripted_schema, served_engine
from bytebrew.web.app import Application
from tests.plugins.test_rate_limits import PER_ORG, SESSIONS, make, statuses
from tests.stored import ON_POSTGRESQL, rows
from tests.tables import token_with


class Named(AuthMode):
    """Takes `user NAME` for an end user of that name, who has the scope public too, as other services mean it."""

    name = "named"

    async def authenticate(self, token: str) -> Actor | None:
        return Actor(subject=f"user:{token}", name=token, kind="user", scopes=frozenset({"chat", "tasks", "public"}))


def named_users() -> tuple[str, object]:
    return plugin(register_auth_modes=lambda register: register(Named()))


async def test_an_end_user_who_sends_another_key_each_time_is_refused_all_the_same() -> None:
    async with served_engine(named_users(), settings={"BYTEBREW_AUTH_MODE": "named"}) as (_, client):
        await make(client, **PER_ORG)
        codes = [(await statuses(client, 1, x_org_id=str(n), authorization="Bearer ada"))[0] for n in range(5)]
        assert codes == [200, 200, 429, 429, 429]
        assert await statuses(client, 1, x_org_id="0", authorization="Bearer ben") == [200]


async def test_end_users_of_one_organisation_share_its_limit() -> None:
    async with served_engine(named_users(), settings={"BYTEBREW_AUTH_MODE": "named"}) as (_, client):
        await make(client, **PER_ORG)
        codes = [(await statuses(client, 1, x_org_id="a", authorization=f"Bearer {n}"))[0] for n in range(4)]
        assert codes == [200, 200, 429, 429]


async def test_a_token_names_as_many_keys_at_a_time_as_the_rule_allows_and_further_ones_count_under_it() -> None:
    async with served_engine() as (engine, client):
        await make(client, **PER_ORG, keys_per_caller=3)
        token = f"Bearer {(await token_with(engine, 'chat')).token}"
        codes = [(await statuses(client, 1, x_org_id=str(n), authorization=token))[0] for n in range(8)]
        assert codes == [200, 200, 200, 200, 200, 429, 429, 429]
        assert await statuses(client, 2, x_org_id="1", authorization=token) == [200, 429]
        assert await statuses(client, 1, x_org_id="other") == [200]


async def test_who_is_another_visitor_with_another_key_each_time_is_held_under_the_page() -> None:
    async with served_engine() as (engine, client):
        await make(client, **PER_ORG, keys_per_caller=3)
        page = {"authorization": f"Bearer {(await token_with(engine, 'public')).token}"}
        codes = []
        for n in range(8):
            visitor = (await client.post("/api/v1/auth/visitors", json={}, headers=page)).json()["access_token"]
            codes += await statuses(client, 1, x_org_id=str(n), authorization=f"Bearer {visitor}")
        assert codes == [200, 200, 200, 200, 200, 429, 429, 429]


async def test_who_is_another_visitor_each_time_and_leaves_the_key_out_is_held_under_the_page() -> None:
    async with served_engine() as (engine, client):
        await make(client, **PER_ORG, keys_per_caller=3)
        page = {"authorization": f"Bearer {(await token_with(engine, 'public')).token}"}
        codes = []
        for _ in range(8):
            visitor = (await client.post("/api/v1/auth/visitors", json={}, headers=page)).json()["access_token"]
            codes += await statuses(client, 1, authorization=f"Bearer {visitor}")
        assert codes == [200, 200, 200, 200, 200, 429, 429, 429]


async def test_ever_new_visitors_take_no_more_memory_than_so_many_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bytebrew_rate_limits.limits.MOST_KEYS", 3)
    async with served_engine() as (engine, client):
        await make(client, name="each", per="subject", tiers={"all": {"requests": 1, "window": "1h"}})
        page = {"authorization": f"Bearer {(await token_with(engine, 'public')).token}"}
        for _ in range(6):
            visitor = (await client.post("/api/v1/auth/visitors", json={}, headers=page)).json()["access_token"]
            assert await statuses(client, 1, authorization=f"Bearer {visitor}") == [200]
        if ON_POSTGRESQL:
            assert rows(engine.data_dir, "select count(distinct key) from rate_limits_counted") == [(3,)]
        else:
            [live] = engine.state[LIMITS]._live
            assert len(live.windows) == 3
        assert await statuses(client, 2) == [200, 429]  # who cannot be somebody else each time is held all the same


@pytest.mark.parametrize(
    ("addresses", "codes"),
    [
        (["2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:1:ffff::3"], [200, 200, 429]),
        (["2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1"], [200, 200, 200]),
        (["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"], [200, 200, 429]),
        (["192.0.2.1", "192.0.2.2", "192.0.2.3"], [200, 200, 200]),
    ],
)
async def test_another_address_of_the_own_network_each_time_does_not_evade_a_limit_per_ip(
    addresses: list[str], codes: list[int]
) -> None:
    """A line of IPv6 has 64 bits of addresses, and a host may take any of them."""
    async with served_engine() as (engine, client):
        await make(client, name="addresses", per="ip", tiers={"all": {"requests": 2, "window": "1h"}})
        token = {"authorization": f"Bearer {(await token_with(engine, 'chat')).token}"}
        answers = []
        for address in addresses:
            transport = httpx.ASGITransport(Application(engine), client=(address, 40000))
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as one:
                answers.append((await one.get(SESSIONS, headers=token)).status_code)
        assert answers == codes


@pytest.mark.parametrize("value", [0, -1, 100_001, "many"])
async def test_the_number_of_keys_of_a_caller_is_from_1_to_100000(value: Any) -> None:
    async with served_engine() as (_, client):
        answer = await client.post("/api/v1/rate-limits", json={**PER_ORG, "keys_per_caller": value})
    assert (answer.status_code, answer.json()["details"][0]["path"]) == (400, "$.keys_per_caller")


@tool(idempotent=False)
async def erase() -> str:
    """Erases."""
    return "erased"


async def used_up(client: httpx.AsyncClient) -> None:
    await make(client, name="all", per="subject", tiers={"all": {"requests": 1, "window": "1h"}})
    assert (await statuses(client, 2))[1] == 429


async def test_who_has_used_up_a_limit_still_answers_stops_and_looks_at_the_own_session() -> None:
    provider = ScriptedProvider([ToolCall("erase", {}, "call_1")])
    own = plugin(register_tools=lambda register: register(erase))
    async with served_engine(providing(provider), own) as (engine, client):
        await scripted_schema(engine, tools=("erase",), confirm_before=("erase",))
        async with client.stream("POST", "/api/v1/schemas/test/chat", json={"message": "go"}) as stream:
            session = stream.headers["x-session-id"]
            async for line in stream.aiter_lines():
                if line == "event: confirmation":
                    break
            await used_up(client)
            one = f"{SESSIONS}/{session}"
            for path in (one, f"{one}/messages", f"{one}/events?follow=false"):
                assert await statuses(client, 2, path) == [200, 200], path
            body = {"call_id": "call_1", "answers": ["reject"]}
            assert (await client.post(f"{one}/respond", json=body)).status_code < 300
            assert (await client.post(f"{one}/cancel")).status_code == 204
        assert (await client.post("/api/v1/schemas/test/chat", json={"message": "go"})).status_code == 429
        assert (await client.delete(one)).status_code == 204


async def test_who_has_used_up_a_limit_still_stops_and_looks_at_the_own_tasks() -> None:
    async with served_engine(settings={"BYTEBREW_TASK_WORKERS": "0"}) as (_, client):
        task = (await client.post("/api/v1/tasks", json={"agent": "demo", "title": "hi"})).json()["id"]
        await used_up(client)
        assert await statuses(client, 2, f"/api/v1/tasks/{task}") == [200, 200]
        assert (await client.delete(f"/api/v1/tasks/{task}")).status_code < 300
        assert (await client.post("/api/v1/tasks", json={"agent": "demo", "title": "hi"})).status_code == 429


async def test_who_has_used_up_a_limit_still_gets_what_came_of_an_idempotency_key() -> None:
    async with served_engine(providing(ScriptedProvider([MessageDelta(content="Hello")]))) as (engine, client):
        await scripted_schema(engine)
        own, body = {"Idempotency-Key": "k"}, {"message": "hi", "stream": False}
        first = await client.post("/api/v1/schemas/test/chat", json=body, headers=own)
        await used_up(client)
        for _ in range(2):
            again = await client.post("/api/v1/schemas/test/chat", json=body, headers=own)
            assert (again.status_code, again.json()) == (200, first.json())
        for headers in ({}, {"Idempotency-Key": "another"}):
            assert (await client.post("/api/v1/schemas/test/chat", json=body, headers=headers)).status_code == 429
        other = {"message": "something else", "stream": False}
        assert (await client.post("/api/v1/schemas/test/chat", json=other, headers=own)).status_code == 422


async def test_a_repeat_begins_nothing_under_a_limit_where_its_key_is_freed_before_its_body_has_come() -> None:
    go_on, rest = asyncio.Event(), asyncio.Event()
    steps: list[list[Step]] = [[go_on, TurnInterrupted("no end")], [MessageDelta(content="Hello")]]
    url, body, provider = "/api/v1/schemas/test/chat", b'{"message": "hi", "stream": false}', ScriptedProvider(*steps)
    own = {"Idempotency-Key": "k", "Content-Type": "application/json"}

    async def slowly() -> AsyncIterator[bytes]:
        yield body[:9]
        await rest.wait()
        yield body[9:]

    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        await make(client, name="all", per="subject", tiers={"all": {"requests": 1, "window": "1h"}})
        seen: list[bool] = []

        async def look(request: Request[Any], route: Route) -> None:
            seen.append(request.repeats)

        engine.guards.append(Guard(look))
        first = asyncio.create_task(client.post(url, content=body, headers=own))
        await until(lambda: provider.requests)
        second = asyncio.create_task(client.post(url, content=slowly(), headers=own))
        await until(lambda: len(seen) == 2)
        go_on.set()
        assert (await first).status_code == 503
        rest.set()
        assert ((await second).status_code, (await second).json()["error"]) == (503, "interrupted")
        assert seen == [False, True]
        assert (await client.post(url, content=body, headers=own)).status_code == 429
        assert len(provider.requests) == 1


async def until(there: Callable[[], object]) -> None:
    while not there():
        await asyncio.sleep(0.01)
