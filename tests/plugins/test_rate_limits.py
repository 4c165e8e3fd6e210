"""Limits of requests: who is counted with whom, when a window has room again, and what a restart keeps."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import bytebrew_rate_limits
import httpx
import pytest
from bytebrew_rate_limits.limits import LIMITS, Limits, header_key
from bytebrew_rate_limits.sliding_window import GRAINS, SlidingWindow

from bytebrew import MessageDelta
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, ScriptedProvider, chat, plugin, providing, scripted_schema, served_engine
from tests.local import local_session
from tests.processes import serving
from tests.stored import everything, rows
from tests.tables import token_with

RULES = "/api/v1/rate-limits"
SESSIONS = "/api/v1/sessions"
PER_ORG: dict[str, Any] = {
    "name": "per-org",
    "key_header": "X-Org-Id",
    "tier_header": "X-Org-Tier",
    "default_tier": "free",
    "tiers": {
        "free": {"requests": 2, "window": "1h"},
        "pro": {"requests": 4, "window": "1h"},
        "vip": {"unlimited": True},
    },
}


class Clock:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def limited(
    clock: Clock, data: Path | None = None, *plugins: tuple[str, object]
) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine whose rate limits go by the clock."""

    def register_guards(register: Any, engine: Engine) -> None:
        engine.state[LIMITS] = limits = Limits(engine, clock)
        register(limits.guard)

    ours = plugin(
        "limits",
        register_migrations=bytebrew_rate_limits.register_migrations,
        register_guards=register_guards,
        register_routes=bytebrew_rate_limits.register_routes,
        startup=bytebrew_rate_limits.startup,
        shutdown=bytebrew_rate_limits.shutdown,
    )
    settings = {"BYTEBREW_DISABLED_PLUGINS": "rate_limits"}
    async with served_engine(ours, *plugins, data=data, settings=settings) as (engine, client):
        yield engine, client


async def make(client: httpx.AsyncClient, **rule: Any) -> None:
    answer = await client.post(RULES, json=rule)
    assert answer.status_code == 201, answer.text


async def statuses(client: httpx.AsyncClient, times: int, path: str = SESSIONS, **headers: str) -> list[int]:
    """The statuses of requests one after another; `x_org_id` stands for the header X-Org-Id."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return [(await client.get(path, headers=named)).status_code for _ in range(times)]


async def usage(client: httpx.AsyncClient, value: str, header: str = "X-Org-Id") -> dict[str, Any]:
    answer = await client.get(f"{RULES}/usage", params={"key_header": header, "key_value": value})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_each_value_of_the_key_header_has_a_limit_of_its_own() -> None:
    async with served_engine() as (_, client):
        await make(client, **PER_ORG)
        assert await statuses(client, 3, x_org_id="a") == [200, 200, 429]
        assert await statuses(client, 3, x_org_id="b") == [200, 200, 429]


async def test_a_request_without_the_key_header_counts_under_its_callers_subject() -> None:
    async with served_engine() as (engine, client):
        await make(client, **PER_ORG)
        assert await statuses(client, 3) == [200, 200, 429]
        assert await statuses(client, 1, x_org_id="") == [429]
        other = f"Bearer {(await token_with(engine, 'chat')).token}"
        assert await statuses(client, 3, authorization=other) == [200, 200, 429]
        assert await statuses(client, 1, x_org_id="a") == [200]


async def test_a_key_header_cannot_pass_for_a_subject() -> None:
    async with served_engine() as (engine, client):
        await make(client, **PER_ORG)
        token = await token_with(engine, "chat")
        for name in (f"token:{token.id}", f"subject token:{token.id}"):
            assert await statuses(client, 3, x_org_id=name) == [200, 200, 429]
        assert await statuses(client, 2, authorization=f"Bearer {token.token}") == [200, 200]


async def test_the_tier_is_that_of_the_tier_header_and_else_the_default() -> None:
    async with served_engine() as (_, client):
        await make(client, **PER_ORG)
        assert await statuses(client, 5, x_org_id="a", x_org_tier="pro") == [200] * 4 + [429]
        assert await statuses(client, 3, x_org_id="b", x_org_tier="platinum") == [200, 200, 429]
        assert await statuses(client, 20, x_org_id="c", x_org_tier="vip") == [200] * 20
        assert await statuses(client, 3, x_org_id="d") == [200, 200, 429]


async def test_the_tier_header_counts_only_if_the_rule_says_so() -> None:
    async with served_engine() as (_, client):
        await make(client, **{**PER_ORG, "tier_header": ""})
        assert await statuses(client, 3, x_org_id="a", x_org_tier="vip") == [200, 200, 429]


async def test_a_rule_per_token_counts_each_api_token_and_nobody_else() -> None:
    async with served_engine() as (engine, client):
        await make(client, name="tokens", per="token", tiers={"all": {"requests": 2, "window": "1m"}})
        first, second = [f"Bearer {(await token_with(engine, 'chat', name=name)).token}" for name in ("one", "two")]
        assert await statuses(client, 3, authorization=first) == [200, 200, 429]
        assert await statuses(client, 3, authorization=second) == [200, 200, 429]
        user = f"Bearer {await local_session(engine, client)}"
        assert await statuses(client, 4, authorization=user) == [200] * 4


async def test_a_rule_per_subject_counts_users_and_tokens_alike() -> None:
    async with served_engine() as (engine, client):
        await make(client, name="subjects", per="subject", tiers={"all": {"requests": 2, "window": "1m"}})
        token = f"Bearer {(await token_with(engine, 'chat')).token}"
        assert await statuses(client, 3, authorization=token) == [200, 200, 429]
        users = []
        for _ in range(2):
            users.append(f"Bearer {await local_session(engine, client)}")
        assert await statuses(client, 2, authorization=users[0]) == [200, 200]
        assert await statuses(client, 1, authorization=users[1]) == [429]


async def test_a_rule_per_ip_counts_all_who_come_from_an_address() -> None:
    async with served_engine() as (engine, client):
        await make(client, name="addresses", per="ip", tiers={"all": {"requests": 2, "window": "1m"}})
        token = f"Bearer {(await token_with(engine, 'chat')).token}"
        assert await statuses(client, 2) == [200, 200]
        assert await statuses(client, 1, authorization=token, x_forwarded_for="203.0.113.9") == [429]
        transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(transport=transport, base_url=client.base_url, headers=client.headers) as other:
            assert await statuses(other, 3) == [200, 200, 429]


async def test_what_clients_ask_for_is_counted_and_what_operators_need_is_not() -> None:
    provider = ScriptedProvider([MessageDelta(content="hello")])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        await make(client, name="subjects", per="subject", tiers={"all": {"requests": 2, "window": "1m"}})
        await chat(client, "test", "hi")
        await chat(client, "test", "hi")
        refused = await client.post("/api/v1/schemas/test/chat", json={"message": "hi"})
        assert refused.status_code == 429
        assert len(provider.requests) == 2
        for path in ("/api/v1/health", "/api/v1/agents", "/api/v1/models", RULES, f"{RULES}/subjects", "/metrics"):
            assert await statuses(client, 3, path) == [200] * 3, path
        assert (await client.delete(f"{RULES}/subjects")).status_code == 204
        assert await statuses(client, 1) == [200]


async def test_a_refusal_says_what_the_limit_is_and_when_there_is_room_again() -> None:
    clock = Clock()
    async with limited(clock) as (_, client):
        await make(client, **PER_ORG)
        await statuses(client, 1, x_org_id="a")
        clock.now += 600.5
        await statuses(client, 1, x_org_id="a")
        clock.now += 100
        refused = await client.get(SESSIONS, headers={"x-org-id": "a"})
    assert refused.status_code == 429
    assert refused.json() == {
        "error": "rate_limited",
        "message": "Rate limit exceeded: 'per-org' allows 2 requests in 1h0m0s; try again in 2900 s",
        "retry_after": 2900,
    }
    assert refused.headers["retry-after"] == "2900"
    told = {name: refused.headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining", "reset")}
    assert told == {"limit": "2", "remaining": "0", "reset": str(math.ceil(clock.now + 2900))}


async def test_an_answer_says_what_is_left_under_the_first_rule_with_a_limit() -> None:
    clock, provider = Clock(), ScriptedProvider([MessageDelta(content="hello")])
    async with limited(clock, None, providing(provider)) as (running, client):
        await scripted_schema(running)
        await make(client, **PER_ORG)
        await make(client, name="addresses", per="ip", tiers={"all": {"requests": 9, "window": "1m"}})

        async def left(method: str, path: str, tier: str, **more: Any) -> list[str | None]:
            headers = {"x-org-id": "a", "x-org-tier": tier}
            answer = await client.request(method, path, headers=headers, **more)
            assert answer.status_code == 200
            return [answer.headers.get(f"x-ratelimit-{name}") for name in ("limit", "remaining", "reset")]

        reset = str(math.ceil(clock.now + 3600))
        assert await left("GET", SESSIONS, "pro") == ["4", "3", reset]
        clock.now += 1
        assert await left("POST", "/api/v1/schemas/test/chat", "pro", json={"message": "hi"}) == ["4", "2", reset]
        answer = {"message": "hi", "stream": False}
        assert await left("POST", "/api/v1/schemas/test/chat", "pro", json=answer) == ["4", "1", reset]
        assert await left("GET", SESSIONS, "vip") == ["9", "5", str(math.ceil(clock.now + 59))]
        assert await left("GET", "/api/v1/agents", "pro") == [None, None, None]


async def test_a_request_leaves_the_window_when_it_is_as_old_as_the_window_is_long() -> None:
    clock = Clock()
    async with limited(clock) as (_, client):
        await make(client, name="short", per="subject", tiers={"all": {"requests": 2, "window": "10s"}})
        start = clock.now
        for after, status in (
            (0, 200),
            (4, 200),
            (4, 429),
            (9.999, 429),
            (10, 200),
            (13.999, 429),
            (14, 200),
            (14, 429),
            (24, 200),
        ):
            clock.now = start + after
            assert await statuses(client, 1) == [status], after
        assert await statuses(client, 2) == [200, 429]


async def test_a_clock_that_is_set_back_holds_nobody_up_for_longer_than_the_window() -> None:
    clock = Clock()
    async with limited(clock) as (_, client):
        await make(client, name="short", per="subject", tiers={"all": {"requests": 2, "window": "10s"}})
        clock.now += 86_400
        assert await statuses(client, 1) == [200]
        clock.now -= 86_400
        assert await statuses(client, 2) == [200, 429]
        refused = await client.get(SESSIONS)
        assert (refused.json()["retry_after"], refused.headers["x-ratelimit-reset"]) == (10, str(int(clock.now + 10)))
        clock.now += 10
        assert await statuses(client, 3) == [200, 200, 429]


async def test_no_stretch_of_time_as_long_as_the_window_ever_sees_more_than_the_limit() -> None:
    window, limit, passed = SlidingWindow(60), 7, []
    for step in range(20_000):
        now = 1000 + step * 0.037
        window.slide(now)
        if window.used < limit:
            window.add(now)
            passed.append(now)
        assert len(list(window)) <= limit
    for first, eighth in zip(passed, passed[limit:], strict=False):
        assert eighth - first >= 60
    assert len(passed) >= limit * 12


async def test_a_window_stays_small_however_many_requests_it_counts() -> None:
    window = SlidingWindow(60)
    for step in range(50_000):
        window.slide(now := 1000 + step * 0.01)
        window.add(now)
    assert window.used == sum(entry.requests for entry in window) == pytest.approx(6000, rel=0.02)
    assert len(list(window)) <= 2 * GRAINS + 2
    assert window.wait(10_000, now) == 0
    assert 0 < window.wait(window.used, now) <= 1
    assert window.wait(window.used // 2, now) == pytest.approx(30, abs=1.5)


async def test_a_request_that_one_rule_refuses_counts_under_no_other() -> None:
    async with served_engine() as (_, client):
        await make(client, name="wide", key_header="X-Org-Id", tiers={"all": {"requests": 10, "window": "1h"}})
        await make(client, name="narrow", per="ip", tiers={"all": {"requests": 2, "window": "1h"}})
        assert await statuses(client, 6, x_org_id="a") == [200, 200, 429, 429, 429, 429]
        assert (await usage(client, "a"))["used"] == 2


@pytest.mark.slow
async def test_of_200_requests_that_race_for_100_places_100_pass_before_and_after_a_restart(tmp_path: Path) -> None:
    async def race(client: httpx.AsyncClient, value: str) -> list[int]:
        asked = [client.get(SESSIONS, headers={"x-org-id": value}) for _ in range(200)]
        return sorted([answer.status_code for answer in await asyncio.gather(*asked)])

    rule = {"name": "race", "key_header": "X-Org-Id", "tiers": {"all": {"requests": 100, "window": "1h"}}}
    async with served_engine(data=tmp_path) as (_, client):
        await make(client, **rule)
        assert await race(client, "a") == [200] * 100 + [429] * 100
        assert await statuses(client, 30, x_org_id="b") == [200] * 30
    async with served_engine(data=tmp_path) as (_, client):
        assert (await usage(client, "a"))["used"] == 100
        assert await race(client, "a") == [429] * 200
        assert await race(client, "b") == [200] * 70 + [429] * 130
        assert await race(client, "c") == [200] * 100 + [429] * 100


async def test_what_a_window_held_before_a_restart_leaves_it_on_time(tmp_path: Path) -> None:
    clock = Clock()
    async with limited(clock, tmp_path) as (_, client):
        await make(client, name="short", per="subject", tiers={"all": {"requests": 2, "window": "10s"}})
        assert await statuses(client, 1) == [200]
        clock.now += 4
        assert await statuses(client, 2) == [200, 429]
    async with limited(clock, tmp_path) as (_, client):
        clock.now += 5.999
        assert await statuses(client, 1) == [429]
        clock.now += 0.001
        assert await statuses(client, 2) == [200, 429]
    clock.now += 3600
    async with limited(clock, tmp_path) as (_, client):
        assert await statuses(client, 3) == [200, 200, 429]
    assert rows(tmp_path, "select sum(requests) from rate_limits_counted") == [(2,)]


async def test_what_was_counted_before_a_window_became_longer_outlives_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    async with limited(clock, tmp_path) as (_, client):
        await make(client, name="wide", per="subject", tiers={"all": {"requests": 2, "window": "10s"}})
        await statuses(client, 2)
        await asyncio.sleep(1.2)
        tiers = {"all": {"requests": 2, "window": "1h"}}
        assert (await client.patch(f"{RULES}/wide", json={"tiers": tiers})).status_code == 200
    clock.now += 60
    async with limited(clock, tmp_path) as (_, client):
        assert await statuses(client, 1) == [429]
        clock.now += 3540
        assert await statuses(client, 1) == [200]


@pytest.mark.sqlite
async def test_counts_that_a_full_disk_does_not_take_are_in_the_log_and_hold(caplog: pytest.LogCaptureFixture) -> None:
    async def quota(engine: Engine, pages: int) -> None:
        await engine.db.write(lambda conn: conn.execute(f"pragma max_page_count = {pages}").fetchone())

    async with served_engine() as (running, client):
        await make(client, name="few", key_header="X-Org-Id", tiers={"all": {"requests": 2}})
        pages = await running.db.read(lambda conn: conn.execute("pragma page_count").fetchone()[0])
        await quota(running, pages)
        for n in range(200):
            await statuses(client, 1, x_org_id=str(n))
        await asyncio.sleep(1.3)
        assert await statuses(client, 2, x_org_id="7") == [200, 429]
        await quota(running, 1_000_000)
        await asyncio.sleep(1.3)
    told = [record for record in caplog.records if "are not saved; they hold until a restart" in record.getMessage()]
    assert told
    assert not [record for record in caplog.records if "never retrieved" in record.getMessage()]


def test_a_kill_forgets_the_last_second_at_most(tmp_path: Path) -> None:
    admin = {"authorization": f"Bearer {ADMIN}"}
    with serving(tmp_path) as engine, httpx.Client(base_url=engine.url, headers=admin) as client:
        rule = {"name": "kill", "per": "subject", "tiers": {"all": {"requests": 5, "window": "1h"}}}
        assert client.post(RULES, json=rule).status_code == 201
        assert [client.get(SESSIONS).status_code for _ in range(3)] == [200] * 3
        time.sleep(1.5)
        engine.kill()
    with serving(tmp_path) as engine, httpx.Client(base_url=engine.url, headers=admin) as client:
        assert [client.get(SESSIONS).status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.sqlite  # on PostgreSQL each request is counted in the database, for all nodes
async def test_counts_are_written_once_a_second_and_not_with_each_request() -> None:
    async with served_engine() as (running, client):
        await make(client, **PER_ORG)
        await statuses(client, 1, x_org_id="warm", x_org_tier="vip")
        await asyncio.sleep(1.2)
        works = running.db.committed_works
        assert await statuses(client, 50, x_org_id="a", x_org_tier="vip") == [200] * 50
        assert running.db.committed_works - works <= 1
        await asyncio.sleep(1.2)
        sql = "select sum(requests) from rate_limits_counted where key = ?"
        assert await running.db.read(lambda conn: conn.execute(sql, (header_key("a"),)).fetchone()[0]) == 50


async def test_a_credential_that_requests_are_counted_by_is_not_in_the_file(tmp_path: Path) -> None:
    async with served_engine(data=tmp_path) as (_, client):
        await make(client, name="keys", key_header="Authorization", tiers={"all": {"requests": 2}})
        assert await statuses(client, 3) == [200, 200, 429]
        assert (await usage(client, f"Bearer {ADMIN}", "Authorization"))["used"] == 2
    async with served_engine(data=tmp_path) as (_, client):
        assert await statuses(client, 1) == [429]
    assert ADMIN.encode() not in everything(tmp_path)


async def test_without_a_rule_no_request_is_looked_at() -> None:
    async with served_engine() as (running, client):
        guard = running.state[LIMITS].guard
        assert guard in running.guards
        assert not guard.active
        await make(client, **PER_ORG)
        await make(client, name="addresses", per="ip", tiers={"all": {"requests": 9}})
        assert guard.active
        await client.delete(f"{RULES}/per-org")
        assert guard.active
        await client.delete(f"{RULES}/addresses")
        assert not guard.active


async def test_usage_is_that_of_the_reference() -> None:
    clock = Clock()
    async with limited(clock) as (engine, client):
        await make(client, **PER_ORG)
        await make(client, name="second", key_header="x-org-id", tiers={"all": {"requests": 1000}})
        untouched = await usage(client, "org-123")
        assert untouched == {
            "rule": "per-org",
            "key": "org-123",
            "tier": "free",
            "used": 0,
            "limit": 2,
            "window": "1h0m0s",
            "resets_at": "2027-01-15T09:00:00Z",
        }
        await statuses(client, 3, x_org_id="org-123", x_org_tier="pro")
        clock.now += 60
        assert await usage(client, "org-123", "x-ORG-id") == {**untouched, "tier": "pro", "used": 3, "limit": 4}
        await statuses(client, 1, x_org_id="org-123")
        assert (await usage(client, "org-123"))["tier"] == "free"
        await statuses(client, 7, x_org_id="big", x_org_tier="vip")
        told = await usage(client, "big")
        assert (told["tier"], told["used"], told["limit"]) == ("vip", 7, -1)
        for query, names in (("", ["key_header", "key_value"]), ("?key_header=X-Org-Id", ["key_value"])):
            refused = await client.get(f"{RULES}/usage{query}")
            assert refused.status_code == 400
            assert [detail["path"] for detail in refused.json()["details"]] == [f"$.{name}" for name in names]
        assert (await client.get(f"{RULES}/usage?key_header=X-Nope&key_value=1")).status_code == 404
        weak = {"authorization": f"Bearer {(await token_with(engine, 'config')).token}"}
        assert (await client.get(f"{RULES}/usage?key_header=X-Org-Id&key_value=1", headers=weak)).status_code == 403


async def test_rules_are_made_listed_changed_and_removed() -> None:
    async with served_engine() as (_, client):
        made = await client.post(RULES, json=PER_ORG)
        assert made.status_code == 201
        body = made.json()
        assert {name: body[name] for name in PER_ORG} == PER_ORG
        assert (body["per"], body["created_at"]) == (None, body["updated_at"])
        assert (await client.post(RULES, json=PER_ORG)).status_code == 409
        await make(client, name="a-first-by-name", per="ip", tiers={"only": {"requests": 5, "window": "90s"}})
        assert [one["name"] for one in (await client.get(RULES)).json()] == ["per-org", "a-first-by-name"]
        assert (await client.get(f"{RULES}/a-first-by-name")).json()["default_tier"] == "only"
        for send in (client.put, client.patch):
            changed = await send(f"{RULES}/per-org", json={"default_tier": "pro"})
            assert changed.json()["default_tier"] == "pro"
            assert changed.json()["tiers"] == PER_ORG["tiers"]
        assert (await client.delete(f"{RULES}/per-org")).status_code == 204
        assert (await client.get(f"{RULES}/per-org")).status_code == 404
        assert (await client.patch(f"{RULES}/per-org", json={})).status_code == 404
        assert (await client.delete(f"{RULES}/per-org")).status_code == 404


async def test_a_change_counts_at_once_and_keeps_what_was_counted() -> None:
    async with served_engine() as (_, client):
        await make(client, **PER_ORG)
        assert await statuses(client, 3, x_org_id="a") == [200, 200, 429]
        tiers = {"free": {"requests": 3, "window": "1h"}}
        assert (await client.patch(f"{RULES}/per-org", json={"tiers": tiers})).status_code == 200
        assert await statuses(client, 2, x_org_id="a") == [200, 429]
        tiers = {"free": {"requests": 1, "window": "1h"}}
        assert (await client.patch(f"{RULES}/per-org", json={"tiers": tiers})).status_code == 200
        refused = await client.get(SESSIONS, headers={"x-org-id": "a"})
        assert refused.status_code == 429
        assert 3590 < refused.json()["retry_after"] <= 3600
        await client.delete(f"{RULES}/per-org")
        await make(client, **PER_ORG)
        assert await statuses(client, 3, x_org_id="a") == [200, 200, 429]


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({"key_header": ""}, ["$.key_header"]),
        ({"per": "ip"}, ["$.key_header"]),
        ({"per": "planet"}, ["$.per"]),
        ({"key_header": "not a header"}, ["$.key_header"]),
        ({"default_tier": "gold"}, ["$.default_tier"]),
        ({"default_tier": ""}, ["$.default_tier"]),
        ({"tiers": {}}, ["$.tiers"]),
        ({"tiers": {"": {"requests": 1}}}, ["$.default_tier", "$.tiers"]),
        ({"tiers": {"free": {}}}, ["$.tiers.free"]),
        ({"tiers": {"free": {"requests": 5, "unlimited": True}}}, ["$.tiers.free"]),
        ({"tiers": {"free": {"requests": 0}}}, ["$.tiers[...].requests"]),
        ({"tiers": {"free": {"requests": 5, "window": "soon"}}}, ["$.tiers.free.window"]),
        ({"tiers": {"free": {"requests": 5, "window": "0s"}}}, ["$.tiers.free.window"]),
        ({"tiers": {"free": {"requests": 5, "window": "40d"}}}, ["$.tiers.free.window"]),
        ({"tiers": {"free": {"requests": 5, "window": "1500ms"}}}, ["$.tiers.free.window"]),
        ({"tiers": {"free": {}, "pro": {"requests": 1, "window": "x"}}}, ["$.tiers.free", "$.tiers.pro.window"]),
        ({"name": "usage"}, ["$.name"]),
        ({"windows": "1h"}, ["$.windows"]),
    ],
)
async def test_a_rule_that_cannot_be_is_refused_with_every_fault(
    change: dict[str, Any], paths: list[str], shared_client: httpx.AsyncClient
) -> None:
    answer = await shared_client.post(RULES, json={**PER_ORG, **change})
    assert answer.status_code == 400, answer.text
    assert [detail["path"] for detail in answer.json()["details"]] == paths
    assert (await shared_client.get(RULES)).json() == []


async def test_a_rule_keeps_its_name() -> None:
    async with served_engine() as (_, client):
        await make(client, **PER_ORG)
        assert (await client.put(f"{RULES}/per-org", json=PER_ORG)).status_code == 200
        refused = await client.patch(f"{RULES}/per-org", json={"name": "other"})
        assert refused.status_code == 400
        assert refused.json()["details"][0]["path"] == "$.name"


async def test_a_key_header_with_more_values_than_fit_counts_the_rest_under_subjects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bytebrew_rate_limits.limits.MOST_KEYS", 3)
    async with served_engine() as (_, client):
        await make(client, name="few", key_header="X-Org-Id", tiers={"all": {"requests": 2}})
        for value in "abc":
            assert await statuses(client, 1, x_org_id=value) == [200]
        assert [(await statuses(client, 1, x_org_id=value))[0] for value in "defg"] == [200, 200, 429, 429]
        assert await statuses(client, 2, x_org_id="a") == [200, 429]


async def test_keys_without_a_request_in_their_window_are_forgotten() -> None:
    clock = Clock()
    async with limited(clock) as (running, client):
        await make(client, name="short", key_header="X-Org-Id", tiers={"all": {"requests": 2, "window": "10s"}})
        for n in range(20):
            await statuses(client, 1, x_org_id=str(n))
        clock.now += 61
        await statuses(client, 1, x_org_id="new")
        await asyncio.sleep(1.2)
        sql = "select key from rate_limits_counted"
        assert await running.db.read(lambda conn: [row[0] for row in conn.execute(sql)]) == [header_key("new")]
        assert (await usage(client, "3"))["used"] == 0


async def test_what_a_clock_far_ahead_has_counted_is_forgotten_once_it_is_set_back() -> None:
    clock = Clock()
    async with limited(clock) as (running, client):
        await make(client, name="short", key_header="X-Org-Id", tiers={"all": {"requests": 2, "window": "10s"}})
        for seconds, key in ((400 * 86400, "ahead"), (-400 * 86400, "back"), (61, "new")):
            clock.now += seconds
            assert await statuses(client, 1, x_org_id=key) == [200]
            await asyncio.sleep(1.2)
        sql = "select key from rate_limits_counted"
        assert await running.db.read(lambda conn: [row[0] for row in conn.execute(sql)]) == [header_key("new")]


async def test_refusals_are_in_the_metrics() -> None:
    async with served_engine() as (_, client):
        await make(client, **PER_ORG)
        await statuses(client, 5, x_org_id="a")
        assert 'bytebrew_rate_limited_total{rule="per-org"} 3.0' in (await client.get("/metrics")).text


async def test_the_example_of_the_reference_goes_in_counts_at_once_and_comes_out_with_the_same_bytes() -> None:
    yaml = b"""
rate_limits:
  - name: per-org
    key_header: X-Org-Id
    tier_header: X-Org-Tier
    default_tier: free
    tiers:
      free: {requests: 2, window: 1h}
      pro:  {requests: 100, window: 1h}
      vip:  {unlimited: true}
"""
    kind = {"content-type": "application/x-yaml"}
    async with served_engine() as (_, client), served_engine() as (_, other):
        answer = await client.post("/api/v1/config/import", content=yaml, headers=kind)
        assert answer.status_code == 200, answer.text
        assert answer.json()["rate_limits_imported"] == 1
        assert await statuses(client, 3, x_org_id="a") == [200, 200, 429]
        await make(client, name="addresses", per="ip", tiers={"all": {"requests": 50, "window": "90s"}})
        exported = (await client.get("/api/v1/config/export")).content
        assert b"per: ip" in exported
        assert (await other.post("/api/v1/config/import", content=exported, headers=kind)).status_code == 200
        assert (await other.get("/api/v1/config/export")).content == exported
        told = [
            [{**one, "created_at": "", "updated_at": ""} for one in (await c.get(RULES)).json()]
            for c in (client, other)
        ]
        assert told[0] == told[1]


async def test_a_file_may_leave_out_the_tier_of_a_rule_with_one() -> None:
    yaml = "rate_limits: {r: {per: token, tiers: {TIER: {requests: 5}}}}"
    async with served_engine() as (_, client):
        for tier in ("std", "std", "gold"):
            raw = yaml.replace("TIER", tier)
            answer = await client.post("/api/v1/config/import?mode=replace", content=raw)
            assert answer.status_code == 200, answer.text
            assert (await client.get(f"{RULES}/r")).json()["default_tier"] == tier


async def test_a_file_changes_rules_by_name_and_its_faults_are_placed() -> None:
    kind = {"content-type": "application/x-yaml"}
    async with served_engine() as (_, client):
        await make(client, **PER_ORG)
        yaml = b"rate_limits:\n  per-org: {per: subject}\n"
        answer = await client.post("/api/v1/config/import", content=yaml, headers=kind)
        assert answer.status_code == 200, answer.text
        changed = (await client.get(f"{RULES}/per-org")).json()
        assert (changed["per"], changed["key_header"], changed["tiers"]) == ("subject", "", PER_ORG["tiers"])
        yaml = b"rate_limits:\n  per-org:\n    default_tier: gold\n"
        refused = await client.post("/api/v1/config/import", content=yaml, headers=kind)
        assert refused.status_code == 400
        [fault] = refused.json()["details"]
        assert (fault["path"], fault["line"]) == ("$.rate_limits.per-org.default_tier", 3)
        empty = await client.post("/api/v1/config/import?mode=replace", content=b"rate_limits: {}\n", headers=kind)
        assert empty.status_code == 200, empty.text
        assert (await client.get(RULES)).json() == []
        assert await statuses(client, 5) == [200] * 5
