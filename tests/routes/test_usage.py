"""The report of tokens and cost."""

import json
import sqlite3
from typing import Any

import httpx
import pytest

from bytebrew.events import MessageDelta
from bytebrew.messages import ToolCall, Usage
from bytebrew.testing import ScriptedProvider, Step, chat, providing, scripted_schema, served_engine
from tests.tables import all_but, check_refusal, token_with

URL = "/api/v1/usage"
ANSWER: list[Step] = [MessageDelta(content="hi"), Usage(1_000_000, 100_000, 500_000, 50_000)]
"""Costs 2 + 0.5 dollars with the prices below."""
PRICES = {"pricing_input": 2, "pricing_output": 5}
NOTHING = {
    "key": "total",
    "turns": 0,
    "calls": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "cached_tokens": 0,
    "thinking_tokens": 0,
    "cost_usd": None,
}


async def report(client: httpx.AsyncClient, query: str = "") -> Any:
    answer = await client.get(f"{URL}?{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def sums(times: int, cost: float | None) -> dict[str, object]:
    """What `times` turns of one call took."""
    return {
        "turns": times,
        "calls": times,
        "input_tokens": times * 1_000_000,
        "output_tokens": times * 100_000,
        "cached_tokens": times * 500_000,
        "thinking_tokens": times * 50_000,
        "cost_usd": cost,
    }


async def test_nothing_was_used_in_a_new_engine() -> None:
    async with served_engine() as (_, client):
        assert await report(client) == {"group_by": "day", "data": [], "total": NOTHING}


async def test_sums_by_agent_model_schema_token_and_day() -> None:
    async with served_engine(providing(ScriptedProvider(ANSWER))) as (running, client):
        for name in ("cheap", "dear"):
            await scripted_schema(running, name)
        await client.patch("/api/v1/models/dear", json=PRICES)
        await client.post("/api/v1/schemas", json={"name": "also", "entry_agent": "dear", "chat_enabled": True})
        website = (await token_with(running, "chat", name="website")).token
        await chat(client, "cheap", "hi")
        await chat(client, "dear", "hi")
        answer = await client.post(
            "/api/v1/schemas/also/chat", json={"message": "hi"}, headers={"authorization": f"Bearer {website}"}
        )
        assert "event: done" in answer.text
        for group_by, expected in (
            ("agent", {"cheap": (1, None), "dear": (2, 5.0)}),
            ("model", {"cheap": (1, None), "dear": (2, 5.0)}),
            ("schema", {"also": (1, 2.5), "cheap": (1, None), "dear": (1, 2.5)}),
            ("token", {"bootstrap-admin": (2, 2.5), "website": (1, 2.5)}),
        ):
            found = await report(client, f"group_by={group_by}")
            assert found["group_by"] == group_by
            assert found["data"] == [{"key": key, **sums(*of)} for key, of in expected.items()]
            assert found["total"] == {"key": "total", **sums(3, 5.0)}
        [today] = (await report(client))["data"]
        session = (await client.get("/api/v1/sessions")).json()["data"][0]
        assert today == {"key": session["created_at"][:10], **sums(3, 5.0)}


async def test_every_call_of_a_turn_counts_and_done_and_the_session_tell_the_cost() -> None:
    provider = ScriptedProvider([ToolCall("current_time", {}), Usage(100_000, 20_000)], ANSWER)
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running, tools=("current_time",))
        await client.patch("/api/v1/models/test", json=PRICES)
        done = json.loads((await chat(client, "test", "hi"))[-1].data)
        total = {
            "input_tokens": 1_100_000,
            "output_tokens": 120_000,
            "cached_tokens": 500_000,
            "thinking_tokens": 50_000,
            "cost_usd": pytest.approx(2.8),
        }
        assert done["usage"] == total
        again = await client.post(
            "/api/v1/schemas/test/chat",
            json={"message": "hi", "session_id": done["session_id"], "stream": False},
        )
        assert again.json()["usage"]["cost_usd"] == pytest.approx(2.5)
        session = (await client.get(f"/api/v1/sessions/{done['session_id']}")).json()
        assert session["usage"]["cost_usd"] == pytest.approx(5.3)
        [row] = (await report(client, "group_by=agent"))["data"]
        assert (row["turns"], row["calls"], row["cost_usd"]) == (2, 3, pytest.approx(5.3))


async def test_without_a_price_the_cost_is_not_known() -> None:
    async with served_engine(providing(ScriptedProvider(ANSWER))) as (running, client):
        await scripted_schema(running)
        done = json.loads((await chat(client, "test", "hi"))[-1].data)
        session = (await client.get(f"/api/v1/sessions/{done['session_id']}")).json()
        assert (done["usage"]["cost_usd"], session["usage"]["cost_usd"]) == (None, None)
        assert (await report(client))["total"]["cost_usd"] is None


async def test_what_was_used_stays_when_its_session_is_deleted() -> None:
    async with served_engine(providing(ScriptedProvider(ANSWER))) as (running, client):
        await scripted_schema(running)
        done = json.loads((await chat(client, "test", "hi"))[-1].data)
        before = await report(client)
        assert (await client.delete(f"/api/v1/sessions/{done['session_id']}")).status_code == 204
        assert await report(client) == before
        assert before["total"] == {"key": "total", **sums(1, None)}


def spread(conn: sqlite3.Connection) -> None:
    """Moves each call to a day of its own."""
    conn.execute("update usage set created_at = '2026-03-0' || id || 'T09:00:00.000000Z'")


@pytest.mark.parametrize(
    ("query", "days"),
    [
        ("", [1, 2, 3]),
        ("from=2026-03-02", [2, 3]),
        ("to=2026-03-02", [1, 2]),
        ("from=2026-03-02&to=2026-03-02", [2]),
        ("from=2026-03-02T09:00:00Z", [2, 3]),
        ("from=2026-03-02T09:00:00.000001Z", [3]),
        ("to=2026-03-02T09:00:00Z", [1]),
        ("from=2026-03-02T08:30:00-01:00", [3]),
        ("from=2026-03-03&to=2026-03-01", []),
        ("from=&to=", [1, 2, 3]),
    ],
)
async def test_from_and_to_narrow_the_report(query: str, days: list[int]) -> None:
    async with served_engine(providing(ScriptedProvider(ANSWER))) as (running, client):
        await scripted_schema(running)
        for _ in range(3):
            await chat(client, "test", "hi")
        await running.db.write(spread)
        found = await report(client, query)
        assert [row["key"] for row in found["data"]] == [f"2026-03-0{day}" for day in days]
        assert found["total"]["calls"] == len(days)


async def test_the_report_is_read_by_an_index() -> None:
    sql = "explain query plan select 1 from usage u where u.created_at >= '2026' and u.created_at < '2027'"
    async with served_engine() as (running, _):
        plan = await running.db.read(lambda conn: [row["detail"] for row in conn.execute(sql)])
    assert any("usage_time" in step for step in plan)


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("group_by=colour", "$.group_by"),
        ("group_by=", "$.group_by"),
        ("group_by=agent;drop", "$.group_by"),
        ("from=yesterday", "$.from"),
        ("to=2026-02-30", "$.to"),
        ("to=9999-12-31", "$.to"),
        ("from=2026-03-01T09:00:00", "$.from"),
    ],
)
async def test_a_question_that_is_none_is_a_400(query: str, path: str) -> None:
    async with served_engine() as (_, client):
        answer = await client.get(f"{URL}?{query}")
    assert (answer.status_code, check_refusal(answer)["details"][0]["path"]) == (400, path)


async def test_the_report_is_an_admins_alone() -> None:
    async with served_engine() as (running, client):
        token = (await token_with(running, *all_but(), name="all but admin")).token
        answer = await client.get(URL, headers={"authorization": f"Bearer {token}"})
    assert (answer.status_code, check_refusal(answer)["error"]) == (403, "forbidden")
