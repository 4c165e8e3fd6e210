"""Caps on what model calls cost: who is counted, what is reserved and settled, and what callers see of it."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from bytebrew_budgets import store
from bytebrew_budgets.definition import DOLLAR
from bytebrew_budgets.guard import BUDGETS
from bytebrew_budgets.windows import Window, window_at, written

from bytebrew import (
    Connection,
    Http,
    MessageDelta,
    ModelRequest,
    Person,
    ProviderError,
    ProviderEvent,
    Stop,
    ToolCall,
    Usage,
)
from bytebrew.contract.notifications import Notification
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, Step, chat, names, plugin, providing, scripted_schema, served_engine
from tests.tables import token_with

BUDGETS_URL = "/api/v1/budgets"
LONG: list[Step] = [MessageDelta(content="yes"), Usage(input_tokens=200, output_tokens=1000)]
SHORT: list[Step] = [MessageDelta(content="yes"), Usage(input_tokens=10, output_tokens=20)]


@asynccontextmanager
async def budgeted(
    *budgets: dict[str, Any],
    answers: Any = (SHORT,),
    data: Path | None = None,
    plugins: tuple[Any, ...] = (),
    provider: ScriptedProvider | None = None,
    **agent: Any,
) -> AsyncIterator[tuple[Engine, httpx.AsyncClient, ScriptedProvider]]:
    """An engine with a schema `test`, whose model costs 1 dollar per million tokens in and 2 out, and budgets."""
    provider = provider or ScriptedProvider(*answers)
    async with served_engine(providing(provider), *plugins, data=data) as (running, client):
        await scripted_schema(running, **{"max_tokens": 1000, **agent})
        await client.patch("/api/v1/models/test", json={"pricing_input": 1, "pricing_output": 2})
        for budget in budgets:
            answer = await client.post(BUDGETS_URL, json={"window": "month", **budget})
            assert answer.status_code == 201, answer.text
        yield running, client, provider


async def standing(client: httpx.AsyncClient, name: str) -> tuple[float, float, float]:
    """What is used, reserved and left."""
    budget = (await client.get(f"{BUDGETS_URL}/{name}")).json()
    return budget["used"], budget["reserved"], budget["left"]


async def refusal(client: httpx.AsyncClient, schema: str = "test", **headers: str) -> tuple[int, str]:
    """The status and code of a chat that is refused, before its turn or within."""
    url = f"/api/v1/schemas/{schema}/chat"
    answer = await client.post(url, json={"message": "hi", "stream": False}, headers=headers)
    return answer.status_code, answer.json().get("error", "")


@pytest.mark.parametrize(
    ("window", "begin", "end"),
    [
        ("hour", "2028-02-29T23:00:00Z", "2028-03-01T00:00:00Z"),
        ("day", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"),
        ("month", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
    ],
)
def test_windows_are_those_of_the_calendar_in_utc(window: Window, begin: str, end: str) -> None:
    moment = datetime(2028, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)
    assert tuple(map(written, window_at(window, moment))) == (begin, end)


def test_december_ends_in_january() -> None:
    assert written(window_at("month", datetime(2027, 12, 31, 23, tzinfo=UTC))[1]) == "2028-01-01T00:00:00Z"


async def test_usage_is_counted_in_tokens_and_in_dollars() -> None:
    budgets = {"name": "tokens", "tokens": 5000}, {"name": "dollars", "usd": 0.01}
    async with budgeted(*budgets) as (_, client, _):
        assert await standing(client, "tokens") == (0, 0, 5000)
        await chat(client, "test", "hi")
        assert await standing(client, "tokens") == (30, 0, 4970)
        used, reserved, left = await standing(client, "dollars")
        assert (round(used * DOLLAR), reserved, round(left * DOLLAR)) == (500_000, 0, 99_500_000)  # 10 + 20 * 2


async def test_a_turn_is_refused_with_402_once_nothing_is_left() -> None:
    async with budgeted({"name": "small", "tokens": 1200}, answers=(LONG,)) as (_, client, _):
        assert names(await chat(client, "test", "hi"))[-1] == "done"
        answer = await client.post("/api/v1/schemas/test/chat", json={"message": "hi"})
    assert (answer.status_code, answer.json()["error"]) == (402, "budget_exceeded")
    assert "small" in answer.json()["message"]
    assert int(answer.headers["retry-after"]) > 0


async def test_a_call_that_would_not_fit_ends_its_turn_with_an_error_and_is_not_sent() -> None:
    answers = [ToolCall("current_time", {}), Usage(100, 900)], SHORT
    async with budgeted({"name": "small", "tokens": 1600}, answers=answers, tools=("current_time",)) as (
        _,
        client,
        provider,
    ):
        events = await chat(client, "test", "hi")
        assert await standing(client, "small") == (1000, 0, 600)
    assert names(events)[-1] == "error"
    assert json.loads(events[-1].data)["code"] == "budget_exceeded"
    assert len(provider.requests) == 1


async def test_the_answer_of_a_call_is_limited_to_what_is_left() -> None:
    async with budgeted({"name": "small", "tokens": 700}) as (_, client, provider):
        await chat(client, "test", "hi")
    assert 256 <= (provider.requests[0].max_tokens or 0) < 700


async def test_a_call_without_a_limit_of_its_own_gets_one() -> None:
    async with budgeted({"name": "large", "tokens": 10**9}, max_tokens=None) as (_, client, provider):
        await chat(client, "test", "hi")
        await client.delete(f"{BUDGETS_URL}/large")
        await chat(client, "test", "hi")
    assert [request.max_tokens for request in provider.requests] == [4096, None]


async def test_more_than_was_reserved_is_counted_and_shown_and_lets_no_call_through() -> None:
    async with budgeted({"name": "small", "tokens": 1500}, answers=([*SHORT[:1], Usage(9000, 10)],)) as (_, client, _):
        await chat(client, "test", "hi")
        budget = (await client.get(f"{BUDGETS_URL}/small")).json()
        assert (budget["used"], budget["left"], budget["over"]) == (9010, 0, 7510)
        assert await refusal(client) == (402, "budget_exceeded")


async def test_a_call_that_fails_before_its_first_byte_costs_nothing() -> None:
    answers = ([ProviderError("no", code="model_bad_request")], SHORT)
    async with budgeted({"name": "small", "tokens": 1500}, answers=answers) as (_, client, _):
        assert names(await chat(client, "test", "hi")) == ["error"]
        assert await standing(client, "small") == (0, 0, 1500)


@pytest.mark.parametrize(
    "rest", [[ProviderError("no", code="model_unavailable")], [Stop()]], ids=["breaks off", "reports no usage"]
)
async def test_a_call_without_usage_counts_as_reserved(rest: list[Any]) -> None:
    async with budgeted({"name": "small", "tokens": 5000}, answers=([MessageDelta(content="y"), *rest],)) as (
        _,
        client,
        _,
    ):
        await chat(client, "test", "hi")
        used, reserved, _ = await standing(client, "small")
    assert used > 1000
    assert reserved == 0


async def test_a_call_that_is_cancelled_counts_as_reserved() -> None:
    hangs = asyncio.Event()
    async with budgeted({"name": "small", "tokens": 5000}, answers=([MessageDelta(content="y"), hangs],)) as (
        running,
        client,
        provider,
    ):
        async with client.stream("POST", "/api/v1/schemas/test/chat", json={"message": "hi"}) as response:
            while not provider.requests:
                await asyncio.sleep(0.01)
            used, reserved, _ = await standing(client, "small")
            assert used == 0
            assert reserved > 1000
            await client.post(f"/api/v1/sessions/{response.headers['x-session-id']}/cancel")
        assert await standing(client, "small") == (reserved, 0, 5000 - reserved)
        assert not running.turns


async def test_each_key_of_a_budget_counts_by_itself() -> None:
    async with budgeted({"name": "each", "per": "token", "tokens": 1200}, answers=(LONG,)) as (
        running,
        client,
        _,
    ):
        one, other = [(await token_with(running, "chat", name=name)).token for name in ("one", "other")]
        for token in (one, other):
            headers = {"authorization": f"Bearer {token}"}
            assert await refusal(client, **headers) == (200, "")
            assert await refusal(client, **headers) == (402, "budget_exceeded")
        page = (await client.get(f"{BUDGETS_URL}/each/usage")).json()
        assert page["total"] == 2
        assert {row["used"] for row in page["data"]} == {1200}
        assert all(row["key"].startswith("token:") and row["name"] for row in page["data"])


async def test_only_one_key_is_bound_and_a_token_is_named() -> None:
    async with budgeted(answers=(LONG,)) as (running, client, _):
        bound = await token_with(running, "chat")
        body = {"name": "one", "per": "token", "only": bound.name, "tokens": 1200, "window": "day"}
        made = (await client.post(BUDGETS_URL, json=body)).json()
        assert made["only"] == f"token:{bound.id}"
        headers = {"authorization": f"Bearer {bound.token}"}
        assert [await refusal(client, **headers) for _ in range(2)] == [(200, ""), (402, "budget_exceeded")]
        assert await refusal(client) == (200, "")
        unknown = await client.post(BUDGETS_URL, json={**body, "name": "two", "only": "nobody"})
        assert (unknown.status_code, unknown.json()["details"][0]["path"]) == (422, "$.only")


@pytest.mark.parametrize("per", ["schema", "agent", "subject", "all"])
async def test_a_schema_an_agent_a_subject_and_everything_are_bound(per: str) -> None:
    async with budgeted({"name": "b", "per": per, "tokens": 1200}, answers=(LONG,)) as (
        running,
        client,
        _,
    ):
        await scripted_schema(running, "other", max_tokens=1000)
        assert [await refusal(client) for _ in range(2)] == [(200, ""), (402, "budget_exceeded")]
        free = per in ("schema", "agent")
        assert (await refusal(client, "other"))[0] == (200 if free else 402)


async def test_a_spawned_agent_counts_for_itself_and_for_the_one_who_asked() -> None:
    answers = [ToolCall("spawn_helper", {"message": "do"}), Usage(10, 1)], SHORT, SHORT
    budgets = {"name": "helpers", "per": "agent", "only": "helper", "tokens": 10**6}, {"name": "all", "tokens": 10**6}
    async with budgeted(*budgets, answers=answers, can_spawn=("helper",)) as (_, client, _):
        await client.post("/api/v1/agents", json={"name": "helper", "model": "test"})
        await chat(client, "test", "hi")
        assert (await standing(client, "helpers"))[:2] == (30, 0)
        assert (await standing(client, "all"))[:2] == (71, 0)


async def test_a_task_at_the_cap_fails_with_the_code() -> None:
    async with budgeted({"name": "small", "tokens": 1200}, answers=(LONG,)) as (_, client, _):
        await chat(client, "test", "hi")
        body = {"title": "work", "agent": "test", "schema": "test"}
        task = (await client.post("/api/v1/tasks", json=body)).json()
        while (task := (await client.get(f"/api/v1/tasks/{task['id']}")).json())["status"] in (
            "pending",
            "in_progress",
        ):
            await asyncio.sleep(0.02)
    assert task["status"] == "failed"
    assert "budget 'small'" in task["error"]


async def test_a_model_without_a_price_is_refused_by_a_budget_in_dollars() -> None:
    async with budgeted({"name": "money", "usd": 5}) as (_, client, _):
        await client.patch("/api/v1/models/test", json={"pricing_input": None, "pricing_output": None})
        [event] = await chat(client, "test", "hi")
        error = json.loads(event.data)
        assert error["code"] == "price_missing"
        assert "pricing_input" in error["message"]
        await client.patch("/api/v1/models/test", json={"pricing_input": 0, "pricing_output": 0})
        assert names(await chat(client, "test", "hi"))[-1] == "done"
        assert names(await chat(client, "demo", "hi"))[-1] == "done"
        assert await standing(client, "money") == (0, 0, 5)


async def test_a_caller_with_an_own_key_is_bound_by_tokens_and_not_by_dollars() -> None:
    answers = (LONG,)
    own = {"X-Model-Provider": "scripted", "X-Model-API-Key": "sk-1", "X-Model-Name": "theirs"}
    async with budgeted({"name": "money", "usd": 0.000_001}, answers=answers) as (_, client, _):
        await client.put("/api/v1/settings/byok.scripted", json={"value": True})
        assert await refusal(client) == (402, "budget_exceeded")
        assert await refusal(client, **own) == (200, "")
        await client.post(BUDGETS_URL, json={"name": "tokens", "tokens": 1200, "window": "day"})
        assert [await refusal(client, **own) for _ in range(2)] == [(200, ""), (402, "budget_exceeded")]


async def test_the_dearest_fallback_model_is_reserved() -> None:
    async with budgeted({"name": "money", "usd": 1}, answers=([asyncio.Event()],)) as (running, client, provider):
        dear = {"name": "dear", "type": "scripted", "model_name": "x", "pricing_input": 10, "pricing_output": 100}
        await client.post("/api/v1/models", json=dear)
        await client.patch("/api/v1/models/test", json={"fallback": ["dear"]})
        turn = asyncio.create_task(client.post("/api/v1/schemas/test/chat", json={"message": "hi"}))
        while not provider.requests:
            await asyncio.sleep(0.01)
        _, reserved, _ = await standing(client, "money")
        assert 0.1 < reserved < 0.11  # 1000 tokens of output for 100 dollars per million
        for one in list(running.runner.turns.values()):
            one.cancel("cancelled")
        await turn


async def test_near_the_cap_one_notice_is_in_the_stream_and_one_notification_is_published() -> None:
    seen: list[Notification] = []
    watcher = plugin(register_subscribers=lambda register, engine: register(lambda conn, one: seen.append(one)))
    async with budgeted(
        {"name": "soft", "per": "schema", "tokens": 10_000, "soft": 0.5},
        answers=([*SHORT[:1], Usage(1000, 1500)],),
        plugins=(watcher,),
    ) as (_, client, _):
        streams = [await chat(client, "test", "hi") for _ in range(3)]
        assert Counter(name for events in streams for name in names(events))["notice"] == 1
        notice = json.loads(next(event.data for event in streams[2] if event.event == "notice"))
        assert (notice["code"], notice["names"]) == ("budget_near", ["soft"])
        assert "50 %" in notice["message"]
    [near] = [one for one in seen if one.name == "budget.near"]
    assert near.subject == "soft"
    assert (near.data["schema"], near.data["used"], near.data["limit"]) == ("test", 5000, 10_000)


async def test_a_window_that_ends_gives_the_whole_budget_back() -> None:
    async with budgeted({"name": "hourly", "tokens": 1200, "window": "hour"}, answers=(LONG,)) as (
        running,
        client,
        _,
    ):
        budgets = running.state[BUDGETS]
        at = datetime(2027, 5, 1, 10, 30, tzinfo=UTC)
        budgets.clock = lambda: at
        assert [await refusal(client) for _ in range(2)] == [(200, ""), (402, "budget_exceeded")]
        at = datetime(2027, 5, 1, 11, 0, tzinfo=UTC)
        assert await standing(client, "hourly") == (0, 0, 1200)
        assert await refusal(client) == (200, "")


async def test_a_budget_is_changed_at_once_and_counts_anew_with_another_window() -> None:
    async with budgeted({"name": "b", "tokens": 1200}, answers=(LONG,)) as (_, client, _):
        assert [await refusal(client) for _ in range(2)] == [(200, ""), (402, "budget_exceeded")]
        assert (await client.patch(f"{BUDGETS_URL}/b", json={"tokens": 2500})).json()["used"] == 1200
        assert [await refusal(client) for _ in range(2)] == [(200, ""), (402, "budget_exceeded")]
        changed = (await client.patch(f"{BUDGETS_URL}/b", json={"window": "day"})).json()
        assert (changed["used"], changed["left"]) == (0, 2500)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"tokens": 5, "usd": 5}, "$.usd"),
        ({}, "$.usd"),
        ({"tokens": 5, "only": "x"}, "$.only"),
        ({"tokens": 0}, "$.tokens"),
        ({"usd": -1}, "$.usd"),
        ({"tokens": 5, "soft": 2}, "$.soft"),
        ({"tokens": 5, "window": "year"}, "$.window"),
    ],
)
async def test_faults_are_refused_by_path(shared_client: httpx.AsyncClient, body: dict[str, Any], path: str) -> None:
    answer = await shared_client.post(BUDGETS_URL, json={"name": "bad", "window": "day", **body})
    assert (answer.status_code, answer.json()["details"][0]["path"]) == (400, path)


async def test_what_get_gives_may_be_put() -> None:
    async with budgeted({"name": "b", "tokens": 12_000}) as (_, client, _):
        body = (await client.get(f"{BUDGETS_URL}/b")).json()
        await chat(client, "test", "hi")
        answer = await client.put(f"{BUDGETS_URL}/b", json=body)
        assert (answer.status_code, answer.json()["used"]) == (200, 30)


async def test_only_those_who_may_configure_see_budgets() -> None:
    async with budgeted({"name": "b", "tokens": 12_000}) as (running, client, _):
        headers = {"authorization": f"Bearer {(await token_with(running, 'chat')).token}"}
        assert (await client.get(BUDGETS_URL, headers=headers)).status_code == 403


async def test_the_configuration_file_has_budgets() -> None:
    async with budgeted({"name": "b", "per": "subject", "usd": 5.5, "soft": 0.9}) as (running, client, _):
        text = (await client.get("/api/v1/config/export")).text
        assert "budgets:\n  b:\n    per: subject\n    usd: 5.5\n    window: month\n    soft: 0.9\n" in text
        await client.delete(f"{BUDGETS_URL}/b")
        assert not running.state[BUDGETS].active
        assert (await client.post("/api/v1/config/import", content=text)).status_code == 200
        assert running.state[BUDGETS].active
        assert (await client.get("/api/v1/config/export")).text == text


async def test_without_a_budget_nothing_is_read_or_written(monkeypatch: pytest.MonkeyPatch) -> None:
    async with budgeted() as (running, client, provider):
        monkeypatch.setattr(running.state[BUDGETS], "reserve", None)
        monkeypatch.setattr(running.state[BUDGETS], "admit", None)
        assert names(await chat(client, "test", "hi"))[-1] == "done"
        assert not running.state[BUDGETS].active
    assert provider.requests[0].max_tokens == 1000


async def test_refusals_are_in_the_metrics() -> None:
    async with budgeted({"name": "b", "tokens": 1200}, answers=(LONG,)) as (_, client, _):
        for _ in range(3):
            await refusal(client)
        assert 'bytebrew_budget_refused_total{budget="b"} 2.0' in (await client.get("/metrics")).text


async def test_amounts_outlive_a_restart(tmp_path: Path) -> None:
    async with budgeted({"name": "b", "tokens": 5000}, data=tmp_path) as (_, client, _):
        await chat(client, "test", "hi")
    async with served_engine(providing(ScriptedProvider(SHORT)), data=tmp_path) as (_, client):
        assert await standing(client, "b") == (30, 0, 4970)
        await chat(client, "test", "hi")
        assert await standing(client, "b") == (60, 0, 4940)


class Greedy(ScriptedProvider):
    """Answers with as many tokens as it may."""

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        self.requests.append(request)
        yield MessageDelta(content="y")
        await asyncio.sleep(0.02)
        yield Usage(input_tokens=20, output_tokens=request.max_tokens or 10**6)
        yield Stop()


async def test_fifty_racing_turns_never_pass_the_cap() -> None:
    cap, greedy = 7500, Greedy()
    async with budgeted({"name": "tokens", "tokens": cap}, {"name": "dollars", "usd": 1}, provider=greedy) as (
        running,
        client,
        _,
    ):
        outcomes = Counter(await asyncio.gather(*(refusal(client) for _ in range(50))))
        used, reserved, _ = await standing(client, "tokens")
        stored = (await client.get("/api/v1/usage")).json()["total"]
        dollars, *_ = await standing(client, "dollars")
        assert not running.turns
    assert outcomes == {(200, ""): len(greedy.requests), (402, "budget_exceeded"): 50 - len(greedy.requests)}
    assert 7 <= len(greedy.requests) <= 8
    assert used == stored["input_tokens"] + stored["output_tokens"] <= cap
    assert dollars == pytest.approx(stored["cost_usd"])
    assert reserved == 0


async def test_the_keys_of_a_person_are_exported_and_masked_and_stay_counted() -> None:
    person = Person(("ada", "ada@example.com"), "gone-1", ())
    async with budgeted({"name": "b", "per": "subject", "tokens": 5000}) as (running, client, _):
        await chat(client, "test", "hi")

        def forget(conn: Connection) -> tuple[list[Any], int, int]:
            conn.execute("update budgets_spent set key = 'ada'")
            shown = [*store.of_keys(conn, person.names)]
            return shown, store.forget_keys(conn, person.names, person.mask), store.forget_keys(conn, person.names, "")

        shown, changed, again = await running.db.write(forget)
        assert [(row["name"], row["used"]) for row in shown] == [("b", 30)]
        assert (changed, again) == (1, 0)
        budget = (await client.get(f"{BUDGETS_URL}/b")).json()
    assert (budget["key"], budget["used"]) == ("gone-1", 30)


async def test_an_import_reads_all_budgets_as_often_however_many_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    list_all = store.list_all

    def counted(conn: Any) -> list[store.Stored]:
        reads.append(1)
        return list_all(conn)

    monkeypatch.setattr(store, "list_all", counted)
    often = []
    async with served_engine() as (_, admin):
        for count in (2, 40):
            text = "budgets:\n" + "".join(f"  b{n}: {{usd: {count}, window: day}}\n" for n in range(count))
            reads.clear()
            headers = {"Content-Type": "application/yaml"}
            answer = await admin.post("/api/v1/config/import", content=text, headers=headers)
            assert answer.status_code == 200, answer.text
            often.append(len(reads))
    assert often[0] == often[1]
