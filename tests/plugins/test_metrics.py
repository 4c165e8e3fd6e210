"""What /metrics says, as Prometheus' own parsers read it."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest
from bytebrew_metrics import MOST, Metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as plain_families

from bytebrew import MessageDelta, Outcome, Sample, Stop, ToolCall, Usage, tool
from bytebrew.base.errors import ProviderError
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, chat, plugin, providing, scripted_schema, served_engine
from tests.stored import ON_POSTGRESQL
from tests.tables import token_with

OPEN = {"accept": "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5"}


@tool
async def quack(times: int = 1) -> str:
    """Quacks."""
    return "quack" * times


async def scrape(client: httpx.AsyncClient, **headers: str) -> dict[str, float]:
    """Every series of the page with its value."""
    answer = await client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    parse = open_families if "openmetrics" in answer.headers["content-type"] else plain_families
    return {
        one.name + "".join(f" {key}={value}" for key, value in sorted(one.labels.items())): one.value
        for family in parse(answer.text)
        for one in family.samples
    }


async def settled(client: httpx.AsyncClient, series: str, value: float) -> dict[str, float]:
    """The page once a series has a value: what a turn leads to is counted just after its client has seen its end."""
    for _ in range(100):
        page = await scrape(client)
        if page.get(series) == value:
            return page
        await asyncio.sleep(0.01)
    raise AssertionError(f"{series} is {page.get(series)}, not {value}")


def metrics_of(running: Engine) -> Metrics:
    owners = (getattr(route.run, "__self__", None) for route in running.routes)
    return next(owner for owner in owners if isinstance(owner, Metrics))


async def test_a_turn_moves_the_metrics_of_turns_models_tools_and_tokens() -> None:
    provider = ScriptedProvider(
        [ToolCall("quack", {}, "c1"), ToolCall("moo", {}, "c2"), Usage(5, 1)],
        [0.03, MessageDelta(content="so it does"), Usage(100, 20, 30, 4), Stop()],
    )
    duck = plugin("duck", register_tools=lambda register: register(quack))
    async with served_engine(duck, providing(provider)) as (running, client):
        await scripted_schema(running, tools=("quack",))
        before = await scrape(client)
        await chat(client, "test", "Make it quack")
        after = await settled(client, "bytebrew_turns_total status=completed", 1)
    moved = {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}
    assert moved["bytebrew_turns_total status=completed"] == 1
    assert moved["bytebrew_tool_calls_total status=completed tool_name=quack"] == 1
    assert moved["bytebrew_tool_calls_total status=failed tool_name=other"] == 1
    assert moved["bytebrew_llm_requests_total model=test provider=scripted"] == 2
    assert moved["bytebrew_llm_request_duration_seconds_count model=test provider=scripted"] == 2
    assert moved["bytebrew_llm_request_duration_seconds_sum model=test provider=scripted"] >= 0.03
    assert moved["bytebrew_time_to_first_delta_seconds_count"] == 1
    assert moved["bytebrew_time_to_first_delta_seconds_sum"] >= 0.03
    assert "bytebrew_time_to_first_delta_seconds_bucket le=0.025" not in moved
    kinds = {kind: moved[f"bytebrew_tokens_total kind={kind}"] for kind in ("input", "output", "cached", "thinking")}
    assert kinds == {"input": 105, "output": 21, "cached": 30, "thinking": 4}
    assert moved["bytebrew_commit_events_sum"] >= 7
    assert moved["bytebrew_commit_works_sum"] >= 4
    assert 0 < moved["bytebrew_commit_works_count"] == moved["bytebrew_commit_events_count"]


async def test_requests_are_counted_by_their_routes_path() -> None:
    provider = ScriptedProvider([MessageDelta(content="hello"), 0.2])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        for n in range(300):
            assert (await client.get(f"/api/v1/agents/nobody-{n}")).status_code == 404
            assert (await client.get(f"/nowhere/{n}")).status_code == 404
        await client.get("/api/v1/agents/test")
        await client.request("BREW", "/api/v1/agents")
        await chat(client, "test", "hi")
        page = await settled(client, "bytebrew_turns_total status=completed", 1)
    agents = "method=GET path=/api/v1/agents/{name}"
    assert page[f"bytebrew_http_requests_total {agents} status=404"] == 300
    assert page[f"bytebrew_http_requests_total {agents} status=200"] == 1
    assert page[f"bytebrew_http_request_duration_seconds_count {agents}"] == 301
    assert page["bytebrew_http_requests_total method=GET path=other status=404"] == 300
    assert page["bytebrew_http_requests_total method=other path=/api/v1/agents status=405"] == 1
    chats = "method=POST path=/api/v1/schemas/{name}/chat"
    assert page[f"bytebrew_http_requests_total {chats} status=200"] == 1
    assert page[f"bytebrew_http_request_duration_seconds_sum {chats}"] >= 0.2
    assert sum(series.startswith("bytebrew_http_requests_total") for series in page) < 10


async def test_streams_are_open_until_they_end_or_their_client_leaves() -> None:
    release = asyncio.Event()
    async with served_engine(providing(ScriptedProvider([release]))) as (running, client):
        await scripted_schema(running)
        body = {"message": "hi"}
        first = asyncio.create_task(chat(client, "test", "hi"))
        async with client.stream("POST", "/api/v1/schemas/test/chat", json=body):
            await settled(client, "bytebrew_open_streams", 2)
        await settled(client, "bytebrew_open_streams", 1)
        release.set()
        await first
        await settled(client, "bytebrew_open_streams", 0)


async def test_failed_and_cancelled_turns_are_turns_too() -> None:
    provider = ScriptedProvider([ProviderError("The key is wrong", code="model_auth")], [30.0])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        await chat(client, "test", "hi")
        page = await settled(client, "bytebrew_turns_total status=failed", 1)
        assert page["bytebrew_llm_requests_total model=test provider=scripted"] == 1
        assert page["bytebrew_time_to_first_delta_seconds_count"] == 0
        body = {"message": "hi"}
        async with client.stream("POST", "/api/v1/schemas/test/chat", json=body) as answer:
            await client.post(f"/api/v1/sessions/{answer.headers['x-session-id']}/cancel")
            await answer.aread()
        page = await settled(client, "bytebrew_turns_total status=cancelled", 1)
        assert page["bytebrew_turns_total status=failed"] == 1
        assert page["bytebrew_llm_requests_total model=test provider=scripted"] == 2


async def test_the_model_that_answered_in_anothers_place_is_the_one_that_is_counted() -> None:
    class Down(ScriptedProvider):
        type = "down"

    down = Down([ProviderError("overloaded", code="model_overloaded")])
    up = ScriptedProvider([MessageDelta(content="hello"), Usage(1, 1)])
    async with served_engine(providing(down, up)) as (running, client):
        await scripted_schema(running)
        first = {"name": "first", "type": "down", "model_name": "m", "fallback": ["test"]}
        assert (await client.post("/api/v1/models", json=first)).status_code == 201
        assert (await client.patch("/api/v1/agents/test", json={"model": "first"})).status_code == 200
        await chat(client, "test", "hi")
        page = await settled(client, "bytebrew_turns_total status=completed", 1)
    assert page["bytebrew_llm_requests_total model=test provider=scripted"] == 1
    assert "bytebrew_llm_requests_total model=first provider=down" not in page


async def test_dollars_are_counted_where_the_price_is_known_and_a_spawned_agents_tokens_once() -> None:
    provider = ScriptedProvider(
        [ToolCall("spawn_helper", {"message": "help"}), Usage(100, 10)],
        [MessageDelta(content="helped"), Usage(1000, 100)],
        [MessageDelta(content="done"), Usage(100, 10)],
    )
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running, can_spawn=("helper",))
        assert (await client.post("/api/v1/agents", json={"name": "helper", "model": "test"})).status_code == 201
        pair = {"source": "test", "target": "helper"}
        assert (await client.post("/api/v1/schemas/test/agent-relations", json=pair)).status_code == 201
        price = {"pricing_input": 10, "pricing_output": 100}
        assert (await client.patch("/api/v1/models/test", json=price)).status_code == 200
        events = await chat(client, "test", "hi")
        assert events[-1].event == "done"
        page = await settled(client, "bytebrew_turns_total status=completed", 2)
    assert page["bytebrew_llm_requests_total model=test provider=scripted"] == 3
    assert page["bytebrew_tokens_total kind=input"] == 1200
    assert page["bytebrew_tokens_total kind=output"] == 120
    assert page["bytebrew_cost_usd_total"] == pytest.approx(1200 * 10e-6 + 120 * 100e-6)


async def test_what_a_vendor_counts_below_zero_is_left_out() -> None:
    provider = ScriptedProvider([MessageDelta(content="hello"), Usage(-1, 20, -1, 5)])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        await client.patch("/api/v1/models/test", json={"pricing_input": 1000, "pricing_output": 1})
        await chat(client, "test", "hi")
        page = await settled(client, "bytebrew_turns_total status=completed", 1)
    kinds = {kind: page[f"bytebrew_tokens_total kind={kind}"] for kind in ("input", "output", "cached", "thinking")}
    assert kinds == {"input": 0, "output": 20, "cached": 0, "thinking": 5}


async def test_sessions_at_work_and_turns_that_wait_are_seen_while_they_do() -> None:
    release = asyncio.Event()
    provider = ScriptedProvider([release, MessageDelta(content="hello")])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        first = asyncio.create_task(chat(client, "test", "1"))
        await settled(client, "bytebrew_active_sessions", 1)
        [session] = {turn.session_id for turn in running.runner.turns.values()}
        others = [asyncio.create_task(chat(client, "test", str(n), session_id=session)) for n in range(3)]
        others.append(asyncio.create_task(chat(client, "test", "2")))
        page = await settled(client, "bytebrew_queue_depth", 3)
        page = await settled(client, "bytebrew_active_sessions", 2)
        release.set()
        await asyncio.gather(first, *others)
        page = await settled(client, "bytebrew_active_sessions", 0)
        assert page["bytebrew_queue_depth"] == 0


async def test_an_event_loop_that_is_held_up_is_seen_to_lag() -> None:
    async def late(client: httpx.AsyncClient) -> float:
        page = await scrape(client)
        in_time = page["bytebrew_event_loop_lag_seconds_bucket le=0.25"]
        return page["bytebrew_event_loop_lag_seconds_count"] - in_time if in_time else -1

    async with served_engine() as (_, client):
        with anyio.fail_after(30):
            while (before := await late(client)) < 0:
                await asyncio.sleep(0.05)
            time.sleep(0.6)
            while await late(client) <= before:
                await asyncio.sleep(0.05)


async def test_it_is_openmetrics_for_a_client_that_asks_for_it_and_text_for_any_other() -> None:
    async with served_engine() as (_, client):
        plain = await client.get("/metrics")
        asked = await client.get("/metrics", headers=OPEN)
        assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert asked.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert asked.text.endswith("# EOF\n")
        assert "# EOF" not in plain.text
        names = {family.name for family in open_families(asked.text)}  # type: ignore[no-untyped-call]
        assert {f"bytebrew_{name}" for name in ("active_sessions", "tool_calls", "llm_requests", "turns")} <= names
        assert "python_info" not in plain.text
        types = {family.name: family.type for family in plain_families(plain.text)}
    assert types["bytebrew_tool_calls"] == types["bytebrew_llm_requests"] == "counter"
    assert types["bytebrew_llm_request_duration_seconds"] == "histogram"
    assert types["bytebrew_active_sessions"] == "gauge"
    assert types["bytebrew_commit_works"] == "summary"


async def test_anyone_may_read_it_unless_a_setting_asks_for_an_admin() -> None:
    nobody = {"authorization": ""}
    async with served_engine() as (_, client):
        assert (await client.get("/metrics", headers=nobody)).status_code == 200
        assert (await client.head("/metrics", headers=nobody)).status_code == 200
    settings = {"BYTEBREW_METRICS_TOKEN_REQUIRED": "true"}
    async with served_engine(settings=settings) as (running, client):
        weak = {"authorization": f"Bearer {(await token_with(running, 'chat', 'config')).token}"}
        assert (await client.get("/metrics", headers=nobody)).status_code == 401
        assert (await client.get("/metrics", headers=weak)).status_code == 403
        assert (await client.get("/metrics")).status_code == 200


async def test_ten_thousand_names_of_agents_tools_and_models_do_not_make_as_many_series() -> None:
    async with served_engine() as (running, client):
        metrics = metrics_of(running)
        for n in range(10_000):
            metrics.tool_ended(ToolCall(f"spawn_agent-{n}", {}), Outcome("", n % 2 == 0))
        page = await scrape(client)
        tools = {series: value for series, value in page.items() if series.startswith("bytebrew_tool_calls_total")}
    assert len({series.partition("tool_name=")[2] for series in tools}) == MOST + 1
    assert sum(tools.values()) == 10_000
    assert tools["bytebrew_tool_calls_total status=failed tool_name=other"] == (10_000 - MOST) / 2


async def test_the_tools_that_a_model_makes_up_take_no_series_from_those_that_there_are() -> None:
    made_up = [ToolCall(f"moo_{n}", {}, f"c{n}") for n in range(MOST + 10)]
    words = [MessageDelta(content="so it does")]
    provider = ScriptedProvider(
        made_up[:100], made_up[100:], words, [ToolCall("quack", {"times": "many"}), ToolCall("quack", {})], words
    )
    duck = plugin("duck", register_tools=lambda register: register(quack))
    async with served_engine(duck, providing(provider)) as (running, client):
        await scripted_schema(running, tools=("quack",))
        for _ in range(2):
            await chat(client, "test", "Make it quack")
        page = await settled(client, "bytebrew_turns_total status=completed", 2)
    tools = {series: value for series, value in page.items() if series.startswith("bytebrew_tool_calls_total")}
    assert tools == {
        "bytebrew_tool_calls_total status=failed tool_name=other": MOST + 10,
        "bytebrew_tool_calls_total status=failed tool_name=quack": 1,
        "bytebrew_tool_calls_total status=completed tool_name=quack": 1,
    }


async def test_a_long_name_is_cut_and_a_strange_one_does_not_break_the_page() -> None:
    async with served_engine() as (running, client):
        for name in ('a"b\\c\nd{e=“f”}', "x" * 5000):
            metrics_of(running).tool_ended(ToolCall(name, {}), Outcome("", False))
        for headers in ({}, OPEN):
            page = await scrape(client, **headers)
            assert page['bytebrew_tool_calls_total status=completed tool_name=a"b\\c\nd{e=“f”}'] == 1
            assert page[f"bytebrew_tool_calls_total status=completed tool_name={'x' * 100}"] == 1


async def test_there_are_metrics_of_nodes_only_where_others_may_share_the_database() -> None:
    async with served_engine() as (_, client):
        page = await scrape(client)
    known = {series: value for series, value in page.items() if "node" in series or "signals" in series}
    if ON_POSTGRESQL:
        assert (known["bytebrew_nodes"], known["bytebrew_node_leads"]) == (1, 1)
    else:
        assert known == {}
        assert not any("remote" in series or "taken_over" in series for series in page)


async def test_plugins_add_their_samples_and_what_does_not_fit_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    def told() -> Iterator[Any]:
        yield Sample("pond_depth_meters", 3, {"pond": "north"}, help="Water\nover the ground")
        yield Sample("pond_depth_meters", 4, {"pond": "south"})
        yield Sample("pond_quacks_total", 7, kind="counter")
        yield Sample("bytebrew_active_sessions", 99)
        yield Sample("pond_depth_meters", 5, {"pond": "south"})
        yield Sample("pond_quacks", 1)
        yield Sample("pond depth", 1)
        yield Sample("pond_depth", 1, {"north pond": "deep"})
        yield Sample("pond_depth", 1, {"__name__": "deep"})
        yield Sample("pond_quacks_created", 1)
        yield Sample("bytebrew_turns_total", 1)
        yield Sample("bytebrew_event_loop_lag_seconds_count", 1)
        yield Sample("pond_ducks", "many")  # type: ignore[arg-type]
        yield from (Sample("pond_fish", n, {"fish": str(n)}) for n in range(10_000))

    async with served_engine(plugin("pond", collect_metrics=told)) as (_, client):
        for headers in ({}, OPEN):
            page = await scrape(client, **headers)
            assert page["pond_depth_meters pond=north"] == 3
            assert page["pond_depth_meters pond=south"] == 4
            assert page["pond_quacks_total"] == 7
            assert page["bytebrew_active_sessions"] == 0
            assert sum(series.startswith("pond_fish") for series in page) == MOST
    own = [record for record in caplog.records if record.name == "bytebrew_metrics"]  # it may also have been slow
    left_out = [record.getMessage().partition(" of a plugin")[0] for record in own]
    names = ["bytebrew_active_sessions", "pond_depth_meters", "pond_quacks", "pond depth", "pond_depth", "pond_depth"]
    names += ["pond_quacks_created", "bytebrew_turns_total", "bytebrew_event_loop_lag_seconds_count", "pond_ducks"]
    assert left_out == [f"the sample {name}" for name in names] * 2


async def test_a_scrape_while_fifty_streams_run_is_whole_and_stops_none_of_them() -> None:
    words = [step for n in range(20) for step in (MessageDelta(content=f"{n} "), 0.01)]
    async with served_engine(providing(ScriptedProvider(words))) as (running, client):
        await scripted_schema(running)
        chats = [asyncio.create_task(chat(client, "test", "hi")) for _ in range(50)]
        pages = []
        while not all(one.done() for one in chats):
            pages.append(await scrape(client))
            await asyncio.sleep(0.02)
        assert max(page["bytebrew_active_sessions"] for page in pages) > 10
        assert [events[-1].event for events in await asyncio.gather(*chats)] == ["done"] * 50
        assert max(page["bytebrew_open_streams"] for page in pages) > 10
        page = await settled(client, "bytebrew_turns_total status=completed", 50)
        assert page["bytebrew_time_to_first_delta_seconds_count"] == 50
        assert page["bytebrew_active_sessions"] == 0


async def test_each_engine_counts_for_itself() -> None:
    provider = ScriptedProvider([MessageDelta(content="hello")])
    async with (
        served_engine(providing(provider)) as (running, client),
        served_engine(providing(provider)) as (_, other),
    ):
        await scripted_schema(running)
        await chat(client, "test", "hi")
        await settled(client, "bytebrew_turns_total status=completed", 1)
        assert (await scrape(other))["bytebrew_turns_total status=completed"] == 0
