"""Traces: what a collector gets of turns, model calls, tool calls and waits, and what goes along with tool calls."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
import pytest
from bytebrew_traces import cursor, worker
from bytebrew_traces.identifiers import tool_span_id, trace_id, turn_span_id
from hypothesis import given, settings
from hypothesis import strategies as st

from bytebrew import MessageDelta, ProviderError, Stop, ToolCall, Usage, now, parse_time, tool
from bytebrew.base.errors import BootError, SettingsError
from bytebrew.engine import Engine
from bytebrew.store.sqlite.pragmas import connect
from bytebrew.testing import ScriptedProvider, engine, plugin, providing, scripted_schema, served_engine
from tests.collector import Received, collector, spans_of, taken
from tests.mcp_double import Web
from tests.plugins.test_mcp import world
from tests.upstream import Act, Step, head, refused, upstream

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = {"traceparent": f"00-{TRACE}-{SPAN}-00"}
OK = [head(content_type="text/plain", content_length=2) + b"ok"]


@tool
async def look(what: str) -> str:
    """Looks at a thing."""
    return f"saw {what}"


@tool(confirm=True)
async def pay(amount: int) -> str:
    """Pays."""
    raise ValueError("no money")


class World(NamedTuple):
    """An engine whose schema `test` has a scripted model, and tools."""

    engine: Engine
    client: httpx.AsyncClient
    model: ScriptedProvider

    async def say(self, message: str = "Go on", headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
        """The whole answer to a message."""
        whole = {"message": message, "stream": False, **body}
        answer = await self.client.post("/api/v1/schemas/test/chat", json=whole, headers=headers)
        return dict(answer.json())


@asynccontextmanager
async def tracing(
    url: str, *answers: Any, data: Path | None = None, again: bool = False, **otlp: str
) -> AsyncIterator[World]:
    """An engine that sends its traces there."""
    model = ScriptedProvider(*answers)
    tools = plugin(register_tools=lambda register: [register(one) for one in (look, pay)] and None)
    values = {f"BYTEBREW_OTLP_{name.upper()}": value for name, value in {"endpoint": url, **otlp}.items()}
    async with served_engine(providing(model), tools, data=data, settings=values) as (running, client):
        if not again:
            await scripted_schema(running, tools=["look", "pay"])
        yield World(running, client, model)


def said(text: str, stop: Any = "end") -> list[Any]:
    return [MessageDelta(content=text), Usage(10, 3, 4, 2, 1), Stop(stop)]


def called(name: str, **input: Any) -> list[Any]:
    return [ToolCall(name, input, f"call_{name}"), Usage(7, 2), Stop("tool_calls")]


def one(spans: list[Received], name: str) -> Received:
    """The span of this name."""
    [found] = [span for span in spans if span.name == name]
    return found


# What a turn looks like


async def test_a_turn_has_spans_of_its_agent_its_model_calls_and_its_tools() -> None:
    before = now()
    async with collector() as traces:
        async with tracing(traces.url, called("look", what="the sea"), said("blue")) as w:
            answer = await w.say("Tell me of my secret")
        spans = traces.spans
    turn, first, second, tool_span = spans
    assert [span.name for span in spans] == ["invoke_agent test", "chat script", "chat script", "execute_tool look"]
    assert {span.trace_id for span in spans} == {trace_id(None, answer["turn_id"]).hex()}
    assert (turn.span_id, turn.parent) == (turn_span_id(answer["turn_id"]).hex(), "")
    assert {span.parent for span in spans[1:]} == {turn.span_id}
    assert len({span.span_id for span in spans}) == 4
    assert turn["gen_ai.operation.name"] == "invoke_agent"
    assert (turn["gen_ai.agent.name"], turn["gen_ai.request.model"]) == ("test", "script")
    assert {span["gen_ai.conversation.id"] for span in spans} == {answer["session_id"]}
    assert {span.service for span in spans} == {"bytebrew"}
    assert (first["gen_ai.response.finish_reasons"], second["gen_ai.response.finish_reasons"]) == (
        ("tool_call",),
        ("stop",),
    )
    assert (second["gen_ai.usage.input_tokens"], second["gen_ai.usage.output_tokens"]) == (10, 3)
    assert second["gen_ai.usage.cache_read.input_tokens"] == 4
    assert (second["gen_ai.provider.name"], second["gen_ai.operation.name"], second.kind) == ("scripted", "chat", 3)
    assert tool_span.span_id == tool_span_id(answer["turn_id"], "call_look").hex()
    assert (tool_span["gen_ai.tool.name"], tool_span["gen_ai.tool.call.id"]) == ("look", "call_look")
    assert tool_span["gen_ai.operation.name"] == "execute_tool"
    times = [turn.begun, first.begun, first.ended, tool_span.begun, tool_span.ended, second.begun, second.ended]
    assert times == sorted(times)
    assert second.ended <= turn.ended
    moment = parse_time(before).timestamp()
    assert moment - 1 <= turn.begun / 1e9 <= turn.ended / 1e9 <= parse_time(now()).timestamp()
    assert not any(span.failed for span in spans)


async def test_without_content_no_word_of_a_conversation_leaves_the_engine() -> None:
    words = ("Question", "whatever", "saw ", "Answered")
    async with collector() as traces:
        async with tracing(traces.url, called("look", what="whatever"), said("Answered")) as w:
            await w.say("Question")
        sent = b"".join(request.body for request in traces.requests)
    assert b"invoke_agent" in sent
    assert not any(word.encode() in sent for word in words)


async def test_with_content_spans_have_messages_in_the_json_of_the_conventions_masked() -> None:
    key = "sk-" + "a" * 30
    async with collector() as traces:
        async with tracing(traces.url, called("look", what="the sea"), said(f"blue {key}"), content="true") as w:
            await w.say("How is it?")
        turn, first, second, tool_span = traces.spans
        assert key.encode() not in b"".join(request.body for request in traces.requests)
    asked = {"role": "user", "parts": [{"type": "text", "content": "How is it?"}]}
    call = {"type": "tool_call", "id": "call_look", "name": "look", "arguments": '{"what":"the sea"}'}
    result = {"type": "tool_call_response", "id": "call_look", "response": "saw the sea"}
    answer = {"role": "assistant", "parts": [{"type": "text", "content": "blue ***"}], "finish_reason": "stop"}
    assert json.loads(turn["gen_ai.input.messages"]) == json.loads(first["gen_ai.input.messages"]) == [asked]
    assert json.loads(turn["gen_ai.output.messages"]) == json.loads(second["gen_ai.output.messages"]) == [answer]
    asks = {"role": "assistant", "parts": [call]}
    assert json.loads(first["gen_ai.output.messages"]) == [{**asks, "finish_reason": "tool_call"}]
    assert json.loads(second["gen_ai.input.messages"]) == [asked, asks, {"role": "tool", "parts": [result]}]
    assert tool_span["gen_ai.tool.call.arguments"] == '{"what":"the sea"}'
    assert tool_span["gen_ai.tool.call.result"] == "saw the sea"


async def test_a_wait_for_a_person_is_a_span_and_the_tool_begins_behind_it() -> None:
    async with collector() as traces:
        async with tracing(traces.url, called("pay", amount=3), said("well")) as w:
            answer = await w.say()
            assert answer["status"] == "needs_input"
            await anyio.sleep(0.05)
            [question] = (await w.client.get("/api/v1/approvals")).json()["data"]
            place = f"/api/v1/approvals/{question['id']}/respond"
            assert (await w.client.post(place, json={"answers": ["approve"]})).status_code == 200
            while w.engine.turns:
                await anyio.sleep(0.01)
        wait, paid = one(traces.spans, "wait_for_person pay"), one(traces.spans, "execute_tool pay")
    assert wait.ended - wait.begun > 40_000_000
    assert wait.ended <= paid.begun
    assert (wait["bytebrew.confirmation.verdict"], wait["gen_ai.tool.call.id"]) == ("approve", "call_pay")
    assert paid.failed
    assert paid["error.type"] == "tool_error"


async def test_a_spawned_agent_is_under_the_call_that_spawned_it() -> None:
    call = ToolCall("spawn_helper", {"message": "help"}, "call_spawn")
    async with collector() as traces:
        async with tracing(traces.url, [call, Usage(1, 1), Stop("tool_calls")], said("helped"), said("thanks")) as w:
            await w.client.post("/api/v1/agents", json={"name": "helper", "model": "test"})
            await w.client.patch("/api/v1/agents/test", json={"can_spawn": ["helper"]})
            await w.say(headers=HEADER)
        spans = traces.spans
    above, below = one(spans, "execute_tool spawn_helper"), one(spans, "invoke_agent helper")
    assert below.parent == above.span_id
    assert {span.trace_id for span in spans} == {TRACE}
    assert one(spans, "invoke_agent test").parent == SPAN


async def test_a_failed_turn_has_the_code_of_its_error_and_none_of_its_words() -> None:
    async with collector() as traces:
        async with tracing(traces.url, [ProviderError("my key is 123", code="model_auth")]) as w:
            await w.say()
        [turn] = traces.spans
        assert b"my key is 123" not in traces.requests[0].body
    assert turn.failed
    assert (turn["error.type"], turn["bytebrew.turn.status"]) == ("model_auth", "failed")


async def test_a_cancelled_turn_is_no_failure_and_its_calls_are_interrupted() -> None:
    async with collector() as traces:
        async with tracing(traces.url, [MessageDelta(content="I"), 30.0]) as w, anyio.create_task_group() as group:
            group.start_soon(w.say)
            while not any(turn.text for turn in w.engine.runner.turns.values()):
                await anyio.sleep(0.01)
            [turn] = w.engine.turns.values()
            await w.client.post(f"/api/v1/sessions/{turn.session_id}/cancel")
        [span] = traces.spans
    assert not span.failed
    assert (span["error.type"], span["bytebrew.turn.status"]) == ("cancelled", "cancelled")


# What goes along with calls of tools


async def http_tool(w: World, url: str, **body: Any) -> None:
    made = await w.client.post("/api/v1/tools", json={"name": "fetch", "method": "GET", "url": url, **body})
    assert made.status_code == 201, made.text
    await w.client.patch("/api/v1/agents/test", json={"tools": ["fetch"]})


async def test_an_http_tool_is_called_with_the_span_of_that_very_call() -> None:
    async with upstream(OK) as double, collector() as traces:
        async with tracing(traces.url, called("fetch"), said("well")) as w:
            await http_tool(w, double.url)
            await w.say(headers=HEADER)
        [request] = double.requests
        span = one(traces.spans, "execute_tool fetch")
    assert request.headers["traceparent"] == f"00-{TRACE}-{span.span_id}-01"


async def test_a_tools_own_header_goes_before_the_engines() -> None:
    async with upstream(OK) as double, collector() as traces:
        async with tracing(traces.url, called("fetch"), said("well")) as w:
            await http_tool(w, double.url, headers={"Traceparent": "mine"})
            await w.say(headers=HEADER)
        assert double.requests[0].headers["traceparent"] == "mine"


@pytest.mark.parametrize(
    ("header", "sent"), [(HEADER, HEADER["traceparent"]), ({}, None), ({"traceparent": "x"}, None)]
)
async def test_without_traces_tools_pass_on_what_the_request_brought(header: dict[str, str], sent: str | None) -> None:
    async with upstream(OK) as double, tracing("", called("fetch"), said("well")) as w:
        await http_tool(w, double.url)
        await w.say(headers=header)
        assert double.requests[0].headers.get("traceparent") == sent


@pytest.mark.parametrize("web", [False, True])
async def test_an_mcp_server_has_the_trace_in_meta_and_in_the_header(web: bool) -> None:
    async with world() as w:
        if web:
            async with Web() as double:
                await w.add(url=double.url, type="http")
                result = await w.ask("echo", dict(HEADER))
        else:
            await w.add()
            result = await w.ask("echo", dict(HEADER))
    seen = json.loads(result["output"])
    assert seen["about"]["traceparent"] == HEADER["traceparent"]
    assert not web or seen["headers"]["traceparent"] == HEADER["traceparent"]


async def test_a_vendor_gets_no_trace() -> None:
    async with upstream(refused(500, {})) as double, collector() as traces:
        async with tracing(traces.url, []) as w:
            model = {"name": "far", "type": "openai_compatible", "model_name": "m", "base_url": f"{double.url}/v1"}
            await w.client.post("/api/v1/models", json=model)
            await w.client.patch("/api/v1/agents/test", json={"model": "far"})
            await w.say(headers=HEADER)
        assert double.requests
        assert all("traceparent" not in request.headers for request in double.requests)


# What arrives, whatever happens


async def test_a_collector_that_is_away_for_a_while_gets_all_of_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "TICK", 0.02)
    monkeypatch.setattr(worker, "LONGEST_WAIT", 0.05)
    answers: list[list[Step]] = [
        [Act.RESET],
        refused(503, {}),
        refused(429, {}, retry_after=0),
        refused(401, {}),
        taken(),
    ]
    async with collector(*answers) as traces, tracing(traces.url, said("well"), data=tmp_path) as w:
        turns = [(await w.say())["turn_id"] for _ in range(3)]
        with anyio.fail_after(20):
            while len(traces.requests) < 5 or await left(w) != ([], 3):
                await anyio.sleep(0.02)
        spans = [span for request in traces.requests[4:] for span in spans_of(request.body)]
    assert [span["bytebrew.turn.id"] for span in spans if span.name == "invoke_agent test"] == turns


async def left(w: World) -> tuple[list[int], int]:
    """The turns that are kept for later, and the cursor."""
    return await w.engine.db.read(
        lambda conn: (
            [row[0] for row in conn.execute("select seq from traces_open")],
            conn.execute("select seq from traces_cursor").fetchone()[0],
        )
    )


async def test_what_a_collector_refuses_for_good_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    answers = refused(400, {}), taken(2, "too old"), taken()
    async with collector(*answers) as traces, tracing(traces.url, said("well")) as w:
        for count in (1, 2, 3):
            await w.say()
            with anyio.fail_after(10):
                while len(traces.requests) < count:
                    await anyio.sleep(0.05)
    assert "refuses 2 spans for good: HTTP 400" in caplog.text
    assert "has rejected 2 spans: too old" in caplog.text


async def test_an_engine_that_begins_again_sends_what_it_has_not_sent(tmp_path: Path) -> None:
    async with tracing("http://127.0.0.1:9", said("well"), data=tmp_path) as w:
        first = (await w.say())["turn_id"]
    async with collector() as traces:
        async with tracing(traces.url, data=tmp_path, again=True):
            await traces.until(2)
        assert one(traces.spans, "invoke_agent test")["bytebrew.turn.id"] == first


async def test_turns_that_ended_before_the_first_endpoint_are_not_sent(tmp_path: Path) -> None:
    async with tracing("", said("well"), data=tmp_path) as w:
        await w.say()
    async with collector() as traces:
        async with tracing(traces.url, said("well"), data=tmp_path, again=True) as w:
            turn_id = (await w.say())["turn_id"]
        assert one(traces.spans, "invoke_agent test")["bytebrew.turn.id"] == turn_id


async def test_headers_go_to_the_collector_and_a_path_of_its_own_stays() -> None:
    async with collector() as traces:
        url = f"{traces.url}/api/public/otel/v1/traces"
        async with tracing(url, said("well"), headers="Authorization=Basic a2V5OnM9, x-one = 1", name="shop") as w:
            await w.say()
        [request] = traces.requests
        assert (request.method, request.path) == ("POST", "/api/public/otel/v1/traces")
        assert (request.headers["authorization"], request.headers["x-one"]) == ("Basic a2V5OnM9", "1")
        assert request.headers["content-type"] == "application/x-protobuf"
        assert {span.service for span in traces.spans} == {"shop"}


async def test_many_turns_go_out_in_bounded_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MOST_SPANS", 3)
    monkeypatch.setattr(cursor, "MOST", 2)
    async with collector() as traces:
        async with tracing(traces.url, said("well")) as w:
            for _ in range(7):
                await w.say()
        assert all(len(spans_of(request.body)) <= 3 for request in traces.requests)
        assert len({span.span_id for span in traces.spans}) == len(traces.spans) == 14


def test_no_turn_is_skipped_in_whatever_order_they_end(tmp_path: Path) -> None:
    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(("begin", "end", "delete", "export", "crash")), st.integers(0, 20))))
    def holds(acts: list[tuple[str, int]]) -> None:
        path = tmp_path / "turns.db"
        path.unlink(missing_ok=True)
        with closing(connect(path)) as conn:
            conn.executescript(
                f"""create table turns (seq integer primary key autoincrement, id text, status text);
                insert into turns (id, status) values ('old', 'completed'), ('t1', 'running'); {cursor.TABLES}"""
            )
            cursor.begin(conn)
            ended: set[str] = set()
            sent: list[str] = []
            deleted: set[str] = set()
            count = 1
            for act, which in [*acts, ("export", 0)]:
                if act == "begin":
                    count += 1
                    conn.execute("insert into turns (id, status) values (?, 'queued')", (f"t{count}",))
                elif act == "end":
                    turn_id = f"t{which % count + 1}"
                    sql = "update turns set status = 'failed' where id = ? and status <> 'failed' returning id"
                    ended |= {row[0] for row in conn.execute(sql, (turn_id,)).fetchall()}
                elif act == "delete":
                    turn_id = f"t{which % count + 1}"
                    deleted |= {turn_id}
                    conn.execute("delete from turns where id = ?", (turn_id,))
                elif act == "crash":
                    cursor.following(conn)
                else:
                    while True:
                        batch = cursor.following(conn)
                        sent += batch.turns
                        cursor.advance(conn, batch)
                        if not batch.more:
                            break
            assert ended - deleted <= set(sent)
            assert set(sent) <= ended
            assert len(sent) == len(set(sent))
            kept = {row[0] for row in conn.execute("select seq from traces_open")}
            assert kept <= {row[0] for row in conn.execute("select seq from turns where status <> 'failed'")}

    holds()


# What an operator is told


async def test_without_the_extra_the_start_ends_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bytebrew_traces.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.trace.v1.trace_pb2", None)
    with pytest.raises(BootError, match=r"pip install 'bytebrew\[traces\]'"):
        async with engine(settings={"BYTEBREW_OTLP_ENDPOINT": "http://127.0.0.1:4318"}):
            pass
    async with engine():
        pass


async def test_a_header_that_is_none_is_named_by_its_number_alone() -> None:
    values = {"BYTEBREW_OTLP_ENDPOINT": "http://127.0.0.1:4318", "BYTEBREW_OTLP_HEADERS": "a=b,verysecret"}
    with pytest.raises(SettingsError) as caught:
        async with engine(settings=values):
            pass
    assert "number 2" in str(caught.value)
    assert "verysecret" not in str(caught.value)


async def test_an_endpoint_that_is_no_url_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="BYTEBREW_OTLP_ENDPOINT"):
        async with engine(settings={"BYTEBREW_OTLP_ENDPOINT": "collector:4318"}):
            pass
