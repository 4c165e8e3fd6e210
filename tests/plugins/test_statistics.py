"""How turns went over time, and why those that failed did."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from bytebrew_statistics.failures import cause_of

from bytebrew.base.errors import ProviderError
from bytebrew.base.formats import rfc3339
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.messages import Usage
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, chat, providing, scripted_schema, served_engine
from tests.tables import check_refusal, token_with

STATS, CAUSES = "/api/v1/stats", "/api/v1/turns/causes"
DAY = datetime(2026, 3, 28, tzinfo=UTC)


class Refusing(ScriptedProvider):
    """Fails with the next of its messages at each call, "" answers."""

    def __init__(self, *messages: str) -> None:
        super().__init__([MessageDelta(content="hi"), Usage(10, 5)])
        self.messages = [*messages]

    async def stream(self, request: Any, http: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        if message := self.messages.pop(0):
            raise ProviderError(message)
        async for event in super().stream(request, http):
            yield event


async def read(client: httpx.AsyncClient, path: str, **query: str) -> Any:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def fill(engine: Engine, *turns: tuple[float, str, float, float]) -> None:
    """Stores turns by hour after DAY, status, and seconds to the first token and to the end, each with a call."""

    def store(conn: Connection) -> None:
        conn.execute(
            "insert into sessions (id, schema, agent, owner, user_sub, title, created_at, updated_at)"
            " values ('s', 'x', 'a', 'o', '', '', '', '')"
        )
        for n, (hours, status, first, seconds) in enumerate(turns):
            begin = DAY + timedelta(hours=hours)
            conn.execute(
                """insert into turns (id, session_id, message, attachments, own_key, subagents, root_turn_id, lineage,
                status, created_at, started_at, finished_at) values (?, 's', '', '[]', 0, 0, ?, '[]', ?, ?, ?, ?)""",
                (f"t{n}", f"t{n}", status, *[rfc3339(begin)] * 2, rfc3339(begin + timedelta(seconds=seconds))),
            )
            conn.execute(
                """insert into usage (turn_id, schema, agent, model, subject, input_tokens, output_tokens,
                cached_tokens, thinking_tokens, created_at, cost_usd, first_token_at)
                values (?, 'x', 'a', 'm', 'o', 100, 10, 40, 0, ?, ?, ?)""",
                (f"t{n}", rfc3339(begin), None if status == "failed" else 0.5, begin.timestamp() + first),
            )

    await engine.db.write(store)


async def test_turns_failures_speed_tokens_and_cost_by_hour() -> None:
    async with served_engine() as (engine, client):
        await fill(
            engine, (1.2, "completed", 1, 3), (1.4, "completed", 2, 5), (1.9, "failed", 3, 4), (3, "cancelled", 4, 9)
        )
        found = await read(client, STATS, **{"from": "2026-03-28T01:00:00Z", "to": "2026-03-28T04:00:00Z"})
    assert (found["bucket"], found["tz"]) == ("hour", "UTC")
    one, nothing, last = found["data"]
    assert one == {
        "at": "2026-03-28T01:00:00.000000Z",
        "turns": 3,
        "failed": 1,
        "cancelled": 0,
        "first_token_ms_p50": pytest.approx(2000, abs=1),
        "first_token_ms_p95": pytest.approx(3000, abs=1),
        "duration_ms_p50": pytest.approx(4000, abs=1),
        "calls": 3,
        "unpriced_calls": 1,
        "input_tokens": 300,
        "cached_tokens": 120,
        "output_tokens": 30,
        "cost_usd": 1.0,
    }
    assert (nothing["turns"], nothing["first_token_ms_p50"], nothing["cost_usd"]) == (0, None, None)
    assert (last["turns"], last["cancelled"]) == (1, 1)
    assert (found["total"]["turns"], found["total"]["failed"], found["total"]["cost_usd"]) == (4, 1, 1.5)
    assert found["total"]["at"] == one["at"]


async def test_days_begin_at_midnight_of_a_zone_also_where_the_clock_changes() -> None:
    """Berlin went to summer time on 29 March 2026, a day of 23 hours."""
    async with served_engine() as (engine, client):
        await fill(
            engine,
            (22.9, "completed", 1, 1),
            (23.1, "completed", 1, 1),
            (45.9, "completed", 1, 1),
            (46.1, "completed", 1, 1),
        )
        times = {"from": "2026-03-27T23:00:00Z", "to": "2026-03-30T22:00:00Z"}
        berlin = await read(client, STATS, bucket="day", tz="Europe/Berlin", **times)
    assert [(one["at"][:16], one["turns"], one["calls"]) for one in berlin["data"]] == [
        ("2026-03-27T23:00", 1, 1),
        ("2026-03-28T23:00", 2, 2),
        ("2026-03-29T22:00", 1, 1),
    ]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("bucket=week", "$.bucket"),
        ("tz=Mars/Base", "$.tz"),
        ("tz=../../etc/passwd", "$.tz"),
        ("from=yesterday", "$.from"),
    ],
)
async def test_what_cannot_be_reported_is_refused(query: str, path: str) -> None:
    async with served_engine() as (_, client):
        refused = await client.get(f"{STATS}?{query}")
    check_refusal(refused)
    assert (refused.status_code, refused.json()["details"][0]["path"]) == (400, path)


async def test_of_a_long_time_the_last_parts_are_reported_and_of_none_an_empty_one() -> None:
    async with served_engine() as (_, client):
        long = await read(client, STATS, **{"from": "0001-01-01", "to": "2026-01-01T00:00:00Z"})
        none = await read(client, STATS, **{"from": "2026-01-02", "to": "2026-01-01"})
        first = await read(client, STATS, to="0001-01-01T00:00:00Z")
    assert (len(long["data"]), long["data"][-1]["at"]) == (800, "2025-12-31T23:00:00.000000Z")
    assert [len(one["data"]) for one in (none, first)] == [1, 1]


async def test_turns_that_fail_alike_are_one_cause() -> None:
    model = Refusing("Order 17 has failed", "Order 18 has failed", "", "The vendor answers 429")
    async with served_engine(providing(model)) as (running, client):
        await scripted_schema(running)
        for _ in range(4):
            await chat(client, "test", "hi")
        found = await read(client, CAUSES)
        session = (await client.get("/api/v1/sessions")).json()["data"][0]["id"]
        before = await read(client, CAUSES, to="2026-01-01")
        for one in (await client.get("/api/v1/sessions")).json()["data"]:
            await client.delete(f"/api/v1/sessions/{one['id']}")
        after = await read(client, CAUSES)
    vendor, order = found["data"]
    assert found["failed"] == 3
    assert (vendor["message"], vendor["count"], vendor["example_session_id"]) == ("The vendor answers 429", 1, session)
    assert (order["message"], order["count"], order["agent"]) == ("Order 18 has failed", 2, "test")
    assert (order["stored"], order["muted"], sum(order["counts"]), len(order["counts"])) == (2, False, 2, 24)
    assert order["first_at"] <= order["last_at"]
    assert before == after == {"data": [], "failed": 0}


async def test_a_cause_is_muted_until_a_time_or_a_number_of_turns() -> None:
    async with served_engine(providing(Refusing(*["It has failed"] * 3))) as (running, client):
        await scripted_schema(running)
        await chat(client, "test", "hi")
        [cause] = (await read(client, CAUSES))["data"]
        path = f"{CAUSES}/{cause['key']}/mute"

        async def muted(body: dict[str, Any] | None = None) -> bool:
            if body is not None:
                assert (await client.post(path, json=body)).json()["key"] == cause["key"]
            [one] = (await read(client, CAUSES))["data"]
            return bool(one["muted"])

        assert await muted({"muted_until": rfc3339(datetime.now(UTC) + timedelta(days=1))})
        assert not await muted({"muted_until": "2026-01-01T00:00:00Z"})
        assert await muted({"muted_count": 2})
        await chat(client, "test", "hi")
        assert not await muted()
        assert not await muted({})


async def test_causes_and_statistics_are_for_admins_and_mutes_for_causes_that_are_there() -> None:
    async with served_engine() as (running, client):
        header = {"authorization": f"Bearer {(await token_with(running, 'chat')).token}"}
        for refused in (
            await client.get(STATS, headers=header),
            await client.get(CAUSES, headers=header),
            await client.post(f"{CAUSES}/x/mute", json={}, headers=header),
        ):
            check_refusal(refused)
            assert refused.status_code == 403
        missing = await client.post(f"{CAUSES}/x/mute", json={})
        check_refusal(missing)
        assert missing.status_code == 404


def test_a_cause_is_the_message_without_ids_and_numbers() -> None:
    assert cause_of("a", "b", "Call call_0a1b2c3d4e5f of 12.5 s") == cause_of("a", "b", "call call_ffffffffffff of 3 s")
    assert cause_of("a", "b", "answers 429") != cause_of("a", "b", "answers 502")
    assert cause_of("a", "b", "x") != cause_of("a", "c", "x") != cause_of("d", "c", "x")
