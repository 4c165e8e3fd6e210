"""The report of tokens and cost."""

import itertools
import json
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import bytebrew_usage as usage
import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bytebrew.base.formats import rfc3339
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.messages import ToolCall, Usage
from bytebrew.store.sqlite.migrate import migrate
from bytebrew.store.sqlite.migrations import CORE
from bytebrew.store.sqlite.pragmas import connect
from bytebrew.testing import ScriptedProvider, Step, chat, providing, scripted_schema, served_engine
from tests.tables import all_but, check_refusal, token_with, trace

URL = "/api/v1/usage"
ANSWER: list[Step] = [MessageDelta(content="hi"), Usage(1_000_000, 100_000, 500_000, 50_000, 250_000)]
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
    "cache_write_tokens": 0,
    "cost_usd": None,
    "unpriced_calls": 0,
}


async def report(client: httpx.AsyncClient, query: str = "") -> Any:
    answer = await client.get(f"{URL}?{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def sums(times: int, cost: float | None) -> dict[str, object]:
    """What `times` turns of one call took, each of which costs 2.5 dollars or has no price."""
    return {
        "turns": times,
        "calls": times,
        "input_tokens": times * 1_000_000,
        "output_tokens": times * 100_000,
        "cached_tokens": times * 500_000,
        "thinking_tokens": times * 50_000,
        "cache_write_tokens": times * 250_000,
        "cost_usd": cost,
        "unpriced_calls": times - round((cost or 0) / 2.5),
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


async def test_only_a_token_has_the_name_of_one_and_two_of_one_name_are_one_line() -> None:
    async with served_engine() as (engine, client):
        ids = [await token_id(client, name) for name in ("kiosk", "other")]
        subjects = [f"user:x{ids[0]}", f"token:{ids[0]}", f"token:{ids[1]}", "token:gone"]

        def fill(conn: Connection) -> None:
            sql = """insert into usage (turn_id, schema, agent, model, subject, input_tokens, output_tokens,
              cached_tokens, thinking_tokens, created_at) values (?, 's', 'a', 'm', ?, 1, 1, 0, 0, ?)"""
            conn.executemany(sql, [(subject, subject, rfc3339(datetime.now(UTC))) for subject in subjects])
            conn.execute("update tokens set name = ? where id = ?", ("token:gone", ids[1]))

        await engine.db.write(fill)
        found = {one["key"]: one["calls"] for one in (await report(client, "group_by=token"))["data"]}
    assert found == {subjects[0]: 1, "kiosk": 1, "token:gone": 2}


async def token_id(client: httpx.AsyncClient, name: str) -> str:
    made = await client.post("/api/v1/auth/tokens", json={"name": name, "scopes": ["chat"]})
    return str(made.json()["id"])


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
            "cache_write_tokens": 250_000,
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


async def test_sums_by_agent_and_day_and_of_some_calls_alone() -> None:
    """Whole days come from the kept sums, the days at the edges and selected calls from the calls themselves."""
    rows = [
        ("t1", "a", "2026-03-01T10:00:00.000000Z", 0.5),
        ("t1", "a", "2026-03-02T00:10:00.000000Z", None),
        ("t2", "a", "2026-03-02T09:00:00.000000Z", 0.25),
        ("t2", "b", "2026-03-02T09:00:00.000000Z", 0.25),
        ("t3", "b", "2026-03-03T09:00:00.000000Z", 1.0),
    ]

    def fill(conn: Connection) -> None:
        sql = """insert into usage (turn_id, schema, agent, model, subject, input_tokens, output_tokens,
          cached_tokens, thinking_tokens, created_at, cost_usd) values (?, 's', ?, 'm', 'token:1', 1, 1, 0, 0, ?, ?)"""
        conn.executemany(sql, rows)

    def sum_of(one: dict[str, Any]) -> tuple[object, ...]:
        return (one["key"], one.get("day"), one["turns"], one["calls"], one["unpriced_calls"], one["cost_usd"])

    async with served_engine() as (engine, client):
        await engine.db.write(fill)
        daily = (await report(client, "group_by=agent&bucket=day"))["data"]
        part = (await report(client, "group_by=agent&bucket=day&from=2026-03-01T09:00:00Z&to=2026-03-02T12:00:00Z"))[
            "data"
        ]
        only = await report(client, "group_by=day&agent=b")
        token = await report(client, "group_by=model&token=token:1&from=2026-03-02")
        wrong = await client.get(f"{URL}?bucket=hour")
    assert [*map(sum_of, daily)] == [
        ("a", "2026-03-01", 1, 1, 0, 0.5),
        ("a", "2026-03-02", 2, 2, 1, 0.25),
        ("b", "2026-03-02", 1, 1, 0, 0.25),
        ("b", "2026-03-03", 1, 1, 0, 1.0),
    ]
    assert [*map(sum_of, part)] == [*map(sum_of, daily[:3])]
    assert [sum_of(one) for one in only["data"]] == [
        ("2026-03-02", None, 1, 1, 0, 0.25),
        ("2026-03-03", None, 1, 1, 0, 1.0),
    ]
    assert sum_of(only["total"]) == ("total", None, 2, 2, 0, 1.25)
    assert [sum_of(one) for one in token["data"]] == [("m", None, 3, 4, 1, 1.5)]
    check_refusal(wrong)
    assert wrong.json()["details"] == [{"path": "$.bucket", "message": "is day"}]


async def test_what_was_used_stays_when_its_session_is_deleted() -> None:
    async with served_engine(providing(ScriptedProvider(ANSWER))) as (running, client):
        await scripted_schema(running)
        done = json.loads((await chat(client, "test", "hi"))[-1].data)
        before = await report(client)
        assert (await client.delete(f"/api/v1/sessions/{done['session_id']}")).status_code == 204
        assert await report(client) == before
        assert before["total"] == {"key": "total", **sums(1, None)}


def spread(conn: Connection) -> None:
    """Moves each call to a day of its own."""
    conn.execute("create temp table calls as select * from usage order by id")
    for table in ("usage", "usage_days"):
        conn.execute(f"delete from {table}")
    conn.execute("update calls set created_at = '2026-03-0' || id || 'T09:00:00.000000Z'")
    conn.execute("insert into usage select * from calls")


@pytest.fixture(scope="module")
async def three_days() -> AsyncIterator[httpx.AsyncClient]:
    """The client of an engine with a call on each of three days."""
    async with served_engine(providing(ScriptedProvider(ANSWER))) as (running, client):
        await scripted_schema(running)
        for _ in range(3):
            await chat(client, "test", "hi")
        await running.db.write(spread)
        yield client


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
async def test_from_and_to_narrow_the_report(three_days: httpx.AsyncClient, query: str, days: list[int]) -> None:
    found = await report(three_days, query)
    assert [row["key"] for row in found["data"]] == [f"2026-03-0{day}" for day in days]
    assert found["total"]["calls"] == len(days)


@pytest.mark.sqlite
async def test_reports_are_read_by_indexes() -> None:
    async with served_engine() as (running, _):

        def plans(conn: Connection) -> list[str]:
            statements: list[str] = []
            trace(conn, statements.append)
            for group_by in get_args(usage.GroupBy):
                usage.report(conn, group_by, moment(1), moment(9))
                usage.report(conn, group_by, "", "")
            trace(conn, None)
            return [row["detail"] for sql in statements for row in conn.execute(f"explain query plan {sql}")]

        steps = await running.db.scan(plans)
    assert not [step for step in steps if re.search("SCAN (usage|u)|SEARCH usage USING INDEX usage_time [(]$", step)]
    assert {"usage_time", "usage_turn"} <= set(re.findall(r"usage_\w+", " ".join(steps)))


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
async def test_a_question_that_is_none_is_a_400(query: str, path: str, shared_client: httpx.AsyncClient) -> None:
    answer = await shared_client.get(f"{URL}?{query}")
    assert (answer.status_code, check_refusal(answer)["details"][0]["path"]) == (400, path)


async def test_the_report_is_an_admins_alone() -> None:
    async with served_engine() as (running, client):
        token = (await token_with(running, *all_but(), name="all but admin")).token
        answer = await client.get(URL, headers={"authorization": f"Bearer {token}"})
    assert (answer.status_code, check_refusal(answer)["error"]) == (403, "forbidden")


Call = tuple[int, int, int, int, int]
CALLS = st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 2), st.integers(0, 2), st.integers(0, 3))
"""A turn, a time in steps of six hours, the number of an agent, of a model, and a price."""


def moment(step: int) -> str:
    return rfc3339(datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=6 * step))


def insert(conn: Connection, calls: Iterable[Call], *, written: bool = True) -> None:
    """`written`: the tokens that went into a cache too, which an older file does not have."""
    more = {"cache_write_tokens": 5} if written else {}
    for turn, at, agent, model, price in calls:
        values: dict[str, object] = {
            "turn_id": f"t{turn}",
            "schema": "s",
            "agent": f"a{agent}",
            "model": f"m{model}",
            "subject": f"token:{agent}",
            "input_tokens": 7 * turn,
            "output_tokens": 3,
            "cached_tokens": 2,
            "thinking_tokens": 1,
            "cost_usd": 0.1 * price or None,
            "created_at": moment(at),
            **more,
        }
        names = ", ".join(values)
        conn.execute(f"insert into usage ({names}) values ({', '.join('?' * len(values))})", tuple(values.values()))


def by_hand(conn: Connection, column: str, since: str, until: str) -> list[tuple[object, ...]]:
    sql = f"""select {column} as key, count(distinct turn_id), count(*), sum(input_tokens), sum(output_tokens),
      sum(cached_tokens), sum(thinking_tokens), sum(cache_write_tokens), count(cost_usd),
      sum(cast(round(cost_usd * {usage.DOLLAR}) as integer))
      from usage where created_at >= ? and created_at < ? group by 1 order by 1"""
    return [(*row[:8], row[9] / usage.DOLLAR if row[8] else None) for row in conn.execute(sql, (since, until or "~"))]


def check_kept(conn: Connection) -> None:
    """Each report, from any moment up to any other, is what the rows sum up to."""
    columns: dict[usage.GroupBy, str] = {"agent": "agent", "model": "model", "schema": "schema", "token": "subject"}
    columns["day"] = "substr(created_at, 1, 10)"
    for since, until in itertools.product(["", *map(moment, (1, 4, 6))], ["", *map(moment, (2, 5, 8))]):
        for group_by, column in columns.items():
            found = [msgspec.structs.astuple(one)[:9] for one in usage.report(conn, group_by, since, until)]
            assert found == by_hand(conn, column, since, until), (group_by, since, until)
        whole = msgspec.structs.astuple(usage.total(conn, since, until))[:9]
        assert whole[1:3] == next((row[1:3] for row in by_hand(conn, "''", since, until)), (0, 0))


@pytest.mark.sqlite
@settings(max_examples=60, deadline=None)
@given(st.lists(CALLS, max_size=12), st.lists(CALLS, max_size=12))
def test_the_kept_sums_are_those_of_the_rows(before: list[Call], after: list[Call]) -> None:
    with closing(connect(Path(":memory:"))) as conn:
        migrate(conn, "core", CORE[:4])
        insert(conn, before, written=False)  # in an older file
        migrate(conn, "core", CORE)
        check_kept(conn)
        insert(conn, after)
        check_kept(conn)


@pytest.mark.sqlite
def test_a_report_is_no_more_work_where_there_are_ten_times_as_many_calls() -> None:
    spent: list[int] = []
    for count in (30, 300):
        with closing(connect(Path(":memory:"))) as conn:
            migrate(conn, "core", CORE)
            insert(conn, [(turn, turn % 10, turn % 3, turn % 2, 1) for turn in range(count)])
            spent.append(0)
            conn.set_progress_handler(lambda: spent.append(spent.pop() + 1), 10)
            for group_by in get_args(usage.GroupBy):
                usage.report(conn, group_by, moment(0), moment(8))
            usage.total(conn, "", "")
            conn.set_progress_handler(None, 0)
    assert spent[1] <= 1.1 * spent[0] + 5
