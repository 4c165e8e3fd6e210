"""The audit of tool calls: what a row says, filters, pages, the export, and how it keeps up with many rows."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from bytebrew_audit.audit_log import AuditLog

from bytebrew import MessageDelta, Request, Route, Stream, ToolCall, ToolError, tool
from bytebrew.base.formats import rfc3339
from bytebrew.contract.connection import Connection, placeholders
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, Step, chat, events_of, plugin, providing, scripted_schema, served_engine
from tests.local import local_session
from tests.stored import ON_POSTGRESQL
from tests.tables import all_but, check_refusal, token_with

URL = "/api/v1/audit/tool-calls"
CHAT = "/api/v1/schemas/test/chat"
MANY = 10_000


@tool
async def shout(text: str) -> str:
    """Says it louder."""
    return text.upper()


@tool
async def fail() -> str:
    """Fails."""
    raise ToolError("no")


@tool
async def flood() -> str:
    """Much text of two bytes a letter."""
    return "x" + "ü" * 20_000


@tool
async def hang() -> str:
    """Does not come back."""
    await asyncio.sleep(60)
    return "back"


def say(text: str) -> MessageDelta:
    return MessageDelta(content=text)


def calls(*wanted: ToolCall) -> ScriptedProvider:
    return ScriptedProvider(wanted, [say("done")])


@asynccontextmanager
async def audited(
    provider: ScriptedProvider,
    *plugins: tuple[str, object],
    data: Path | None = None,
    settings: Mapping[str, str] | None = None,
    **agent: Any,
) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine with the tools above and an agent that has them."""
    given = (shout, fail, flood, hang)

    def register_tools(register: Any) -> None:
        for one in given:
            register(one)

    tools = plugin("tools", register_tools=register_tools)
    async with served_engine(providing(provider), tools, *plugins, data=data, settings=settings) as (engine, client):
        if not any(one.name == "test" for one in await engine.agents()):
            await scripted_schema(engine, tools=tuple(one.name for one in given), **agent)
        yield engine, client


async def rows(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get(URL, params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def test_a_call_leaves_one_row_that_says_who_what_when_and_how_long() -> None:
    async with audited(calls(ToolCall("shout", {"text": "hi"}, "c1"))) as (_, client):
        events = await chat(client, "test", "go", user_sub="u-17")
        answer = (await client.get(URL)).json()
    session = json.loads(events[-1].data)["session_id"]
    [row] = answer.pop("data")
    pages = {"page": 1, "per_page": 50, "total_pages": 1}
    assert answer == {"total": 1, "limit": 50, "offset": 0, **pages, "next": None}
    assert row.pop("created_at").endswith("Z")
    assert 0 <= row.pop("duration_ms") < 1000
    assert row == {
        "id": "1",
        "session_id": session,
        "agent_name": "test",
        "tool_name": "shout",
        "input": '{"text":"hi"}',
        "output": "HI",
        "status": "completed",
        "user_id": "u-17",
        "call_id": "c1",
        "parent_call_id": None,
        "confirmed_by": None,
    }


async def test_the_duration_is_that_of_the_run() -> None:
    @tool
    async def nap() -> str:
        """Sleeps a little."""
        await asyncio.sleep(0.2)
        return "awake"

    naps = plugin("naps", register_tools=lambda register: register(nap))
    async with served_engine(providing(calls(ToolCall("nap", {}))), naps) as (engine, client):
        await scripted_schema(engine, tools=("nap",))
        await chat(client, "test", "go")
        [row] = await rows(client)
    assert 190 <= row["duration_ms"] < 1000


async def test_a_failed_call_and_one_of_no_tool_are_there_too() -> None:
    async with audited(calls(ToolCall("fail", {}), ToolCall("nothing", {}))) as (_, client):
        await chat(client, "test", "go")
        found = await rows(client)
    assert [(row["tool_name"], row["status"], row["output"]) for row in found] == [
        ("nothing", "failed", "There is no tool named 'nothing'"),
        ("fail", "failed", "no"),
    ]


async def test_a_call_that_a_person_cut_short_is_there_as_failed() -> None:
    async with audited(calls(ToolCall("hang", {}))) as (engine, client):
        url = "/api/v1/schemas/test/chat"
        async with client.stream("POST", url, json={"message": "go"}) as response:
            async for event in events_of(response):
                if event.event == "tool_call":
                    await client.post(f"/api/v1/sessions/{response.headers['x-session-id']}/cancel")
        while engine.runner.turns:
            await asyncio.sleep(0.005)
        [row] = await rows(client)
    assert (row["tool_name"], row["status"]) == ("hang", "failed")
    assert "ended before this call did" in row["output"]


async def test_a_row_that_the_end_of_the_engine_has_prevented_is_made_up_for_at_the_turns_end() -> None:
    gate = asyncio.Event()
    script: list[list[Step]] = [
        [ToolCall("shout", {"text": "a"}, "c1")],
        [ToolCall("shout", {"text": "b"}, "c2")],
        [gate, say("done")],
    ]
    provider = ScriptedProvider(*script)
    async with audited(provider) as (engine, client):
        turn = asyncio.create_task(chat(client, "test", "go"))
        while len(provider.requests) < 3:
            await asyncio.sleep(0.005)
        assert [row["call_id"] for row in await rows(client)] == ["c2", "c1"]
        await engine.db.write(lambda conn: conn.execute("delete from audit_tool_calls where call_id = 'c1'"))
        gate.set()
        await turn
        while engine.runner.turns:
            await asyncio.sleep(0.005)
        assert sorted((row["call_id"], row["output"]) for row in await rows(client)) == [("c1", "A"), ("c2", "B")]


async def test_what_a_client_has_seen_of_a_call_is_in_the_audit() -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([ToolCall("shout", {"text": "a"}, "c1")], [gate, say("done")])
    async with audited(provider) as (_, client):
        async with client.stream("POST", "/api/v1/schemas/test/chat", json={"message": "go"}) as response:
            async for event in events_of(response):
                if event.event == "tool_result":
                    assert [row["call_id"] for row in await rows(client)] == ["c1"]
                    gate.set()
        assert gate.is_set()


async def test_a_call_of_a_turn_that_could_not_be_taken_up_is_there_as_failed(tmp_path: Path) -> None:
    async with audited(calls(ToolCall("hang", {}, "c1")), data=tmp_path) as (engine, client):
        begun = asyncio.create_task(chat(client, "test", "go"))
        count = "select count(*) from tool_calls"
        while not await engine.db.read(lambda conn: conn.execute(count).fetchone()[0]):
            await asyncio.sleep(0.005)
        await engine.db.write(lambda conn: conn.execute("update turns set own_key = 1").rowcount)
    await asyncio.gather(begun, return_exceptions=True)
    async with served_engine(data=tmp_path) as (_, client):
        [row] = await rows(client)
    assert (row["call_id"], row["status"]) == ("c1", "failed")
    assert "ended before this call did" in row["output"]


@pytest.mark.sqlite
async def test_nothing_is_recorded_while_the_plugin_is_off(tmp_path: Path) -> None:
    sql = "select count(*) from audit_tool_calls"
    for disabled, count in (("", 1), ("audit", 1), ("", 2)):
        shouting = calls(ToolCall("shout", {"text": "hi"}))
        settings = {"BYTEBREW_DISABLED_PLUGINS": disabled}
        async with audited(shouting, data=tmp_path, settings=settings) as (engine, client):
            assert "event: tool_result" in (await client.post(CHAT, json={"message": "go"})).text
            assert (await client.get(URL)).status_code == (404 if disabled else 200)
            assert await engine.db.read(lambda conn: conn.execute(sql).fetchone()[0]) == count


async def test_an_output_may_hold_any_character() -> None:
    async with audited(calls(ToolCall("shout", {"text": "a\0b💥"}))) as (_, client):
        await chat(client, "test", "go")
        [row] = await rows(client)
    assert row["output"] == ("A\ufffdB💥" if ON_POSTGRESQL else "A\0B💥")  # whose text has no NUL


async def test_an_output_is_cut_at_10_kb_between_characters() -> None:
    async with audited(calls(ToolCall("flood", {}))) as (_, client):
        await chat(client, "test", "go")
        [row] = await rows(client)
    assert row["output"] == "x" + "ü" * 5119
    assert len(row["output"].encode()) == 10_239


async def test_rows_outlive_their_session() -> None:
    async with audited(calls(ToolCall("shout", {"text": "hi"}))) as (_, client):
        session = json.loads((await chat(client, "test", "go"))[-1].data)["session_id"]
        assert (await client.delete(f"/api/v1/sessions/{session}")).status_code == 204
        assert [row["session_id"] for row in await rows(client, session_id=session)] == [session]


def execute(conn: Connection, sql: str) -> int:
    return conn.execute(sql).rowcount


async def test_entries_go_when_they_are_old_if_an_operator_says_when() -> None:
    async with audited(calls(*[ToolCall("shout", {"text": "hey"}) for _ in range(3)])) as (engine, client):
        for key in ("custom.a", "custom.b"):
            await client.put(f"/api/v1/settings/{key}", json={"value": 1})
        await chat(client, "test", "hi")
        for table, time in (("audit_tool_calls", "created_at"), ("audit_changes", "timestamp")):
            sql = f"update {table} set {time} = '2020-01-01T00:00:00Z' where id <> (select max(id) from {table})"
            await engine.db.write(execute, sql)
        before = (await client.get("/api/v1/audit")).json()["total"]
        await engine.retention.run_once()
        assert len(await rows(client)) == 3
        assert (await client.get("/api/v1/audit")).json()["total"] == before > 1
        await client.put("/api/v1/settings/retention.audit", json={"value": 365})
        await engine.retention.run_once()
        assert len(await rows(client)) == 1
        left = (await client.get("/api/v1/audit")).json()["data"]
        keys = [row["resource_id"] for row in left if row["action"] == "setting.update"]
        assert keys == ["retention.audit", "custom.b"]


async def test_a_spawned_agents_call_names_its_agent_and_the_call_above_and_stands_in_the_persons_session() -> None:
    script: list[list[Step]] = [
        [ToolCall("spawn_leaf", {"message": "go"}, "above")],
        [ToolCall("shout", {"text": "leaf"}, "below")],
        [say("leaf done")],
        [say("done")],
    ]
    async with audited(ScriptedProvider(*script), can_spawn=("leaf",)) as (_, client):
        await client.post("/api/v1/agents", json={"name": "leaf", "model": "test", "tools": ["shout"]})
        session = json.loads((await chat(client, "test", "go", user_sub="u-1"))[-1].data)["session_id"]
        found = await rows(client, session_id=session, user_id="u-1")
    assert [(row["agent_name"], row["tool_name"], row["call_id"], row["parent_call_id"]) for row in found] == [
        ("leaf", "shout", "below", "above"),
        ("test", "spawn_leaf", "above", None),
    ]


@pytest.mark.parametrize(("word", "status", "output"), [("approve", "completed", "HI"), ("no", "failed", "refused")])
async def test_a_row_names_who_answered_for_the_call(word: str, status: str, output: str) -> None:
    provider = calls(ToolCall("shout", {"text": "hi"}, "c1"))
    async with audited(provider, confirm_before=("shout",)) as (engine, client):
        token = await token_with(engine, "admin", name="boss")
        async with client.stream("POST", "/api/v1/schemas/test/chat", json={"message": "go"}) as response:
            async for event in events_of(response):
                if event.event == "confirmation":
                    url = f"/api/v1/sessions/{response.headers['x-session-id']}/respond"
                    body = {"call_id": json.loads(event.data)["call_id"], "answers": [word]}
                    headers = {"Authorization": f"Bearer {token.token}"}
                    assert (await client.post(url, json=body, headers=headers)).status_code == 200
        [row] = await rows(client)
    assert (row["confirmed_by"], row["status"]) == (f"token:{token.id}", status)
    assert output in row["output"]


async def test_without_an_end_user_the_caller_is_the_user() -> None:
    async with audited(calls(ToolCall("shout", {"text": "hi"}))) as (engine, client):
        token = await token_with(engine, "chat")
        local = await local_session(engine, client)
        for bearer in (token.token, local):
            headers = {"Authorization": f"Bearer {bearer}"}
            body = {"message": "go", "stream": False}
            assert (await client.post("/api/v1/schemas/test/chat", json=body, headers=headers)).status_code == 200
            engine.providers["scripted"].requests.clear()  # type: ignore[attr-defined]
        assert [row["user_id"] for row in await rows(client)] == ["local-admin", f"token:{token.id}"]


# Many rows.


def fill(conn: Connection, count: int = MANY) -> None:
    """Rows of five sessions, agents, tools and users, a minute apart from the first of March 2026 on."""
    columns = (
        "turn_id, call_id, session_id, agent_name, tool_name, input, output, status, duration_ms, user_id, created_at"
    )
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    conn.executemany(
        f"insert into audit_tool_calls ({columns}) values ({placeholders(columns.split())})",
        [
            ("t", str(n), f"s{n % 5}", f"a{n % 5}", f"tool{n % 5}", "{}", b"out", state, n, f"u{n % 5}", at)
            for n in range(count)
            for state in ("completed" if n % 10 else "failed",)
            for at in (rfc3339(begin + timedelta(minutes=n)),)
        ],
    )


@pytest.fixture(scope="module")
async def filled() -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine whose audit has many rows."""
    async with served_engine() as (engine, client):
        await engine.db.write(fill)
        yield engine, client


Filled = tuple[Engine, httpx.AsyncClient]


@pytest.mark.parametrize(
    ("query", "total"),
    [
        ({}, MANY),
        ({"session_id": "s1"}, 2000),
        ({"agent": "a2"}, 2000),
        ({"tool": "tool3"}, 2000),
        ({"user_id": "u4"}, 2000),
        ({"status": "failed"}, 1000),
        ({"status": "completed"}, 9000),
        ({"agent": "a0", "status": "failed"}, 1000),
        ({"agent": "a1", "status": "failed"}, 0),
        ({"agent": "A1"}, 0),
        ({"agent": "a%"}, 0),
        ({"session_id": ""}, MANY),
        ({"from": "2026-03-02"}, MANY - 1440),
        ({"to": "2026-03-01"}, 1440),
        ({"from": "2026-03-02", "to": "2026-03-02"}, 1440),
        ({"from": "2026-03-01T01:00:00+01:00", "to": "2026-03-01T00:30:00Z"}, 30),
        ({"from": "2027-01-01"}, 0),
    ],
)
async def test_filters(filled: Filled, query: dict[str, str], total: int) -> None:
    answer = (await filled[1].get(URL, params=query)).json()
    assert (answer["total"], answer["total_pages"]) == (total, -(-total // 50))
    assert len(answer["data"]) == min(total, 50)
    times = [row["created_at"] for row in answer["data"]]
    assert times == sorted(times, reverse=True)
    lines = (await filled[1].get(URL, params={**query, "format": "ndjson"})).text.splitlines()
    assert len(lines) == total


@pytest.mark.parametrize(
    ("query", "page", "per_page"),
    [
        ({"page": "3", "per_page": "7"}, 3, 7),
        ({"page": "0", "per_page": "0"}, 1, 50),
        ({"page": "-1", "per_page": "-5"}, 1, 50),
        ({"page": "x", "per_page": "1.5"}, 1, 50),
        ({"page": "²", "per_page": ""}, 1, 50),
        ({"per_page": "101"}, 1, 100),
        ({"per_page": "999999"}, 1, 100),
        ({"page": "9" * 40}, 1, 50),
        ({"page": "100000"}, 100_000, 50),
    ],
)
async def test_pages_take_bad_numbers_for_the_default(
    filled: Filled, query: dict[str, str], page: int, per_page: int
) -> None:
    answer = (await filled[1].get(URL, params=query)).json()
    assert (answer["page"], answer["per_page"], answer["total"]) == (page, per_page, MANY)
    newest = MANY - (page - 1) * per_page
    assert [row["duration_ms"] for row in answer["data"]] == list(range(newest - 1, newest - 1 - per_page, -1))[
        : max(0, newest)
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("from", "yesterday"),
        ("to", "2026-13-01"),
        ("from", "2026-03-01T09:00:00"),
        ("to", "9999-12-31"),
        ("status", "started"),
        ("format", "csv"),
    ],
)
async def test_a_value_that_cannot_be_is_refused_by_name(filled: Filled, name: str, value: str) -> None:
    answer = await filled[1].get(URL, params={name: value})
    assert answer.status_code == 400
    body = check_refusal(answer)
    assert [detail["path"] for detail in body["details"]] == [f"$.{name}"]
    assert name in body["message"]


async def test_it_is_for_admins_alone(filled: Filled) -> None:
    engine, client = filled
    token = await token_with(engine, *all_but())
    answer = await client.get(URL, headers={"Authorization": f"Bearer {token.token}"})
    assert answer.status_code == 403
    assert (await client.get(URL, headers={"Authorization": ""})).status_code == 401


async def test_ten_thousand_rows_are_paged_and_exported_quickly(filled: Filled) -> None:
    begun = time.monotonic()
    for query in ({"page": "200"}, {"agent": "a1", "page": "40"}, {"from": "2026-03-03", "status": "failed"}):
        assert await rows(filled[1], **query)
    assert time.monotonic() - begun < 5
    begun = time.monotonic()
    assert len((await filled[1].get(URL, params={"format": "ndjson"})).content.splitlines()) == MANY
    assert time.monotonic() - begun < 15


# The export.


@pytest.mark.parametrize("query", [{}, {"format": "ndjson"}])
async def test_the_export_has_every_row_once_one_a_line_newest_first(filled: Filled, query: dict[str, str]) -> None:
    accept = {} if query else {"Accept": "application/x-ndjson"}
    answer = await filled[1].get(URL, params={"page": "7", "agent": "a3", **query}, headers=accept)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    found = [json.loads(line) for line in answer.content.split(b"\n")[:-1]]
    assert answer.content.endswith(b"\n")
    assert [row["duration_ms"] for row in found] == list(range(MANY - 2, -1, -5))
    assert found[0].keys() == (await rows(filled[1]))[0].keys()


async def test_rows_of_one_moment_are_exported_once_each() -> None:
    async with served_engine() as (engine, client):
        await engine.db.write(fill, 450)
        await engine.db.write(lambda conn: conn.execute("update audit_tool_calls set created_at = '2026-03-01'"))
        lines = (await client.get(URL, params={"format": "ndjson"})).text.splitlines()
    assert [json.loads(line)["duration_ms"] for line in lines] == list(range(449, -1, -1))


async def test_an_export_is_sent_as_it_is_read(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    entries = AuditLog.entries

    def counted(*args: Any, **kwargs: Any) -> Any:
        found = entries(*args, **kwargs)
        held.append(len(found))
        return found

    monkeypatch.setattr(AuditLog, "entries", counted)
    async with filled[1].stream("GET", URL, params={"format": "ndjson"}) as answer:
        pieces = answer.aiter_raw()
        assert (await anext(pieces)).count(b"\n") >= 1
        async for _ in pieces:
            pass
    assert max(held) == 100
    assert len(held) == MANY / 100 + 1


async def test_json_goes_before_the_accept_header_where_the_query_says_so(filled: Filled) -> None:
    answer = await filled[1].get(URL, params={"format": "json"}, headers={"Accept": "application/x-ndjson"})
    assert answer.headers["content-type"] == "application/json"


async def test_an_empty_export_is_an_empty_body() -> None:
    async with served_engine() as (_, client):
        answer = await client.get(URL, params={"format": "ndjson"})
    assert (answer.status_code, answer.content) == (200, b"")


async def test_an_export_that_fails_breaks_off_and_does_not_look_whole() -> None:
    async def frames() -> AsyncGenerator[bytes, None]:
        yield b"{}\n"
        raise ToolError("the disk is gone")

    async def run(request: Request[None]) -> Stream:
        return Stream(frames=frames(), headers={"content-type": "application/x-ndjson"})

    route = Route(method="GET", path="/api/v1/broken", scope="admin", run=run, summary="Break off")
    async with served_engine(plugin(register_routes=lambda register: register(route))) as (_, client):
        with pytest.raises(httpx.RemoteProtocolError), anyio.fail_after(5):
            await client.get("/api/v1/broken")
