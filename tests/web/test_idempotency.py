"""Idempotency-Key: what a request has made once, it does not make twice."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew import MessageDelta, ProviderError, Thinking, ToolCall, Usage
from bytebrew.contract.route import Route
from bytebrew.engine import Engine
from bytebrew.store.database.scans import SCANNERS
from bytebrew.testing import ADMIN, ScriptedProvider, Step, providing, scripted_schema, served_engine
from tests.processes import plugins_folder, serving
from tests.stored import everything, opened, refuse
from tests.tables import installed, label, token_with

CHAT = "/api/v1/schemas/test/chat"


@pytest.fixture
def provider() -> ScriptedProvider:
    """A model that thinks, calls a tool and answers."""
    asks: list[Step] = [
        Thinking(content="hm"),
        MessageDelta(content="let me see "),
        ToolCall("current_time", {}),
        Usage(3, 2),
    ]
    return ScriptedProvider(asks, [MessageDelta(content="it is "), MessageDelta(content="late"), Usage(5, 4)])


@pytest.fixture
async def served(provider: ScriptedProvider) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, tools=("current_time",))
        yield engine, client


async def post(client: httpx.AsyncClient, key: str, path: str = CHAT, **body: Any) -> httpx.Response:
    return await client.post(path, json=body or {"message": "what time is it?"}, headers={"Idempotency-Key": key})


def same(one: httpx.Response, other: httpx.Response) -> bool:
    """The same status, body and headers, but for what says when and under which id they were sent."""
    ours = ("date", "x-request-id", "content-length", "server-timing")
    heads = [{n: v for n, v in answer.headers.items() if n not in ours} for answer in (one, other)]
    return (one.status_code, one.content, heads[0]) == (other.status_code, other.content, heads[1])


async def count(engine: Engine, table: str) -> int:
    return await engine.db.read(lambda conn: int(conn.execute(f"select count(*) from {table}").fetchone()[0]))


async def test_50_racing_posts_with_one_key_are_one_turn_and_50_identical_streams(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    engine, client = served
    answers = await asyncio.gather(*(post(client, "race") for _ in range(50)))
    assert answers[0].text.count("event: done") == 1
    assert "event: tool_result" in answers[0].text
    assert all(same(answer, answers[0]) for answer in answers)
    assert await count(engine, "turns") == 1


async def test_a_turn_that_runs_is_joined_from_its_first_event(provider: ScriptedProvider) -> None:
    go_on = asyncio.Event()
    provider.answers = [[MessageDelta(content="first "), go_on, MessageDelta(content="last")]]
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        first = asyncio.create_task(post(client, "k"))
        while await count(engine, "events") == 0:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(post(client, "k"))
        await asyncio.sleep(0.05)
        go_on.set()
        assert same(await first, await second)
        assert (await first).text.count("event: message_delta") == 2


async def test_a_turn_that_has_ended_is_answered_though_nothing_more_can_be_kept(provider: ScriptedProvider) -> None:
    go_on = asyncio.Event()
    provider.answers = [[go_on, MessageDelta(content="well")]]
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        answer = asyncio.create_task(post(client, "k", message="hello", stream=False))
        while not await count(engine, "turns"):
            await asyncio.sleep(0.01)
        await engine.db.write(refuse, "insert on idempotency")
        go_on.set()
        assert (await answer).json()["message"] == "well"


async def test_a_turn_that_is_asked_for_again_is_read_where_it_holds_up_no_other(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    engine, client = served
    body: dict[str, Any] = {"message": "what time is it?", "stream": False}
    first, streamed = await post(client, "k", **body), await post(client, "s")
    gate = threading.Event()
    scans = [asyncio.create_task(engine.db.scan(lambda conn: gate.wait(10))) for _ in range(SCANNERS)]
    again = asyncio.create_task(post(client, "k", **body))
    assert same(await post(client, "s"), streamed)
    assert (await post(client, "another", **body)).status_code == 200
    assert not again.done()
    gate.set()
    await asyncio.gather(*scans)
    assert same(await again, first)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_turn_that_has_ended_is_replayed_byte_for_byte(
    stream: bool, served: tuple[Engine, httpx.AsyncClient], provider: ScriptedProvider
) -> None:
    engine, client = served
    before = await post(client, "before")
    body: dict[str, Any] = {"message": "again", "session_id": before.headers["x-session-id"], "stream": stream}
    first, second = await post(client, "k", **body), await post(client, "k", **body)
    assert first.status_code == 200
    assert same(first, second)
    assert first.headers["x-turn-id"] != before.headers["x-turn-id"]
    assert await count(engine, "turns") == 2
    assert len(provider.requests) == 3


@pytest.mark.parametrize("stream", [True, False])
async def test_a_turn_that_failed_is_replayed_as_it_failed(stream: bool) -> None:
    provider = ScriptedProvider([MessageDelta(content="oh"), ProviderError("No more money", code="model_auth")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        first = await post(client, "k", message="hi", stream=stream)
        second = await post(client, "k", message="hi", stream=stream)
        assert first.status_code == (200 if stream else 502)
        assert "No more money" in first.text
        assert same(first, second)
        assert await count(engine, "turns") == 1


async def test_a_cancelled_turn_is_replayed_with_what_it_said(provider: ScriptedProvider) -> None:
    provider.answers = [[MessageDelta(content="well, "), 60.0]]
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        asking = asyncio.create_task(post(client, "k", message="hi", stream=False))
        while await count(engine, "events") == 0:
            await asyncio.sleep(0.01)
        session = (await client.get("/api/v1/sessions")).json()["sessions"][0]["id"]
        assert (await client.post(f"/api/v1/sessions/{session}/cancel")).status_code == 204
        first, second = await asking, await post(client, "k", message="hi", stream=False)
        assert first.json()["message"] == "well, "
        assert first.json()["status"] == "cancelled"
        assert same(first, second)


async def test_another_body_is_422_whatever_the_key_began(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    agent = {"name": "a"}
    assert (await post(client, "k", "/api/v1/agents", **agent)).status_code == 201
    await post(client, "k")
    for answer in (
        await post(client, "k", message="something else"),
        await post(client, "k", "/api/v1/agents", name="b"),
    ):
        assert answer.status_code == 422
        assert answer.json()["error"] == "idempotency_key_reused"
    assert await count(engine, "turns") == 1


async def test_a_key_is_its_callers_and_its_paths(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    await scripted_schema(engine, "other")
    other = await token_with(engine, "chat", name="other")
    first = await post(client, "k")
    elsewhere = await post(client, "k", "/api/v1/schemas/other/chat")
    headers = {"Idempotency-Key": "k", "Authorization": f"Bearer {other.token}"}
    foreign = await client.post(CHAT, json={"message": "what time is it?"}, headers=headers)
    turns = {answer.headers["x-turn-id"] for answer in (first, elsewhere, foreign)}
    assert len(turns) == await count(engine, "turns") == 3


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/agents", {"name": "new", "system_prompt": "Ü"}),
        ("/api/v1/models", {"name": "new", "type": "scripted", "model_name": "m", "api_key": "sk-secret"}),
        ("/api/v1/schemas", {"name": "new", "entry_agent": "test"}),
        ("/api/v1/auth/tokens", {"name": "new", "scopes": ["chat"]}),
        ("/api/v1/tasks", {"title": "tidy up", "agent": "test"}),
        ("/api/v1/agents/test/capabilities", {"type": "memory"}),
        ("/api/v1/schemas/test/agent-relations", {"source": "test", "target": "demo"}),
        ("/api/v1/tools", {"name": "new", "url": "http://127.0.0.1:1/"}),
        ("/api/v1/mcp-servers", {"name": "new", "url": "http://127.0.0.1:1/", "enabled": False}),
        ("/api/v1/rate-limits", {"name": "new", "key_header": "X-K", "tiers": {"all": {"unlimited": True}}}),
        ("/api/v1/budgets", {"name": "new", "usd": 5, "window": "day"}),
        ("/api/v1/knowledge-bases", {"name": "new"}),
        ("/api/v1/schedules", {"name": "new", "cron": "0 9 * * *", "agent": "test"}),
        ("/api/v1/webhooks", {"name": "new", "agent": "test"}),
        ("/api/v1/callbacks", {"name": "new", "url": "https://example.com/", "events": ["task.ended"]}),
    ],
)
async def test_what_was_created_is_answered_again_and_created_once(
    path: str, body: dict[str, Any], served: tuple[Engine, httpx.AsyncClient]
) -> None:
    _, client = served
    before = await client.get(path)
    answers = await asyncio.gather(*(post(client, "k", path, **body) for _ in range(10)))
    assert answers[0].status_code == 201
    assert all(same(answer, answers[0]) for answer in answers)
    again = await post(client, "another key", path, **body)
    assert again.status_code == (201 if path.endswith("tasks") else 409)
    after = await client.get(path)
    rows = [len(found["tasks"] if isinstance(found, dict) else found) for found in (before.json(), after.json())]
    assert rows[1] - rows[0] == (2 if path.endswith("tasks") else 1)


async def test_an_answer_to_a_question_is_answered_again() -> None:
    provider = ScriptedProvider([ToolCall("current_time", {})], [MessageDelta(content="so late")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, tools=("current_time",), confirm_before=("current_time",))
        asking = asyncio.create_task(post(client, "chat"))
        while not (waiting := (await client.get("/api/v1/approvals")).json()["data"]):
            await asyncio.sleep(0.01)
        path = f"/api/v1/sessions/{waiting[0]['session_id']}/respond"
        body = {"call_id": waiting[0]["id"], "answers": ["approve"]}
        first = await post(client, "k", path, **body)
        assert (await asking).text.count("event: done") == 1
        second = await post(client, "k", path, **body)
        assert first.status_code == 200
        assert same(first, second)
        assert (await post(client, "k", path, **{**body, "answers": ["reject"]})).status_code == 422


async def test_a_tokens_secret_is_kept_sealed(tmp_path: Path) -> None:
    async with served_engine(data=tmp_path) as (_, client):
        answer = await post(client, "k", "/api/v1/auth/tokens", name="new", scopes=["chat"])
        secret = answer.json()["token"]
        assert (await post(client, "k", "/api/v1/auth/tokens", name="new", scopes=["chat"])).json()["token"] == secret
        assert secret.encode() not in everything(tmp_path)


async def test_a_refusal_uses_up_no_key(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    assert (await post(client, "k", "/api/v1/agents", name="No Name")).status_code == 400
    assert (await post(client, "k", "/api/v1/schemas", name="s", entry_agent="later")).status_code in (404, 422, 400)
    assert (await post(client, "k", "/api/v1/agents", name="later")).status_code == 201
    assert (await post(client, "k", "/api/v1/schemas", name="s", entry_agent="later")).status_code == 201
    assert (await post(client, "k", "/api/v1/schemas/nothing/chat")).status_code == 404
    assert (await post(client, "k", message="hi", session_id="no-such-session")).status_code == 404
    assert (await post(client, "k")).status_code == 200
    assert await count(engine, "turns") == 1


async def test_a_failure_of_the_engine_uses_up_no_key(
    served: tuple[Engine, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, client = served
    with monkeypatch.context() as broken:
        broken.setattr(engine.runner, "draining", True)
        assert (await post(client, "k")).status_code == 503
    assert (await post(client, "k")).status_code == 200


@pytest.mark.parametrize("route", [one for one in installed() if (one.method, one.status) == ("POST", 201)], ids=label)
def test_every_route_that_creates_heeds_the_key_but_for_files_that_are_streamed(route: Route) -> None:
    assert route.idempotent or route.stream_body


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "tab\there", "bell\x07", "del\x7f"])
async def test_a_malformed_key_is_400(key: str, served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    headers = httpx.Headers([(b"Idempotency-Key", key.encode("latin-1"))])
    answer = await client.post(CHAT, json={"message": "hi"}, headers=headers)
    assert answer.status_code == 400
    if answer.headers.get("content-type") == "application/json":  # else hypercorn refused it
        assert answer.json()["details"][0]["path"] == "$.headers.Idempotency-Key"
    assert await count(engine, "turns") == 0


@pytest.mark.parametrize("key", ["x" * 255, "8e03978e-40d5-43dd-bc93-6e9ad42a7d7b", '"quoted"', "two words"])
async def test_any_other_key_is_a_key(key: str, served: tuple[Engine, httpx.AsyncClient]) -> None:
    _, client = served
    assert same(await post(client, key), await post(client, key))


async def test_a_key_may_be_bare_or_quoted(served: tuple[Engine, httpx.AsyncClient]) -> None:
    _, client = served
    assert same(await post(client, "k"), await post(client, '"k"'))


async def test_a_turn_whose_session_was_deleted_is_410(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    first = await post(client, "k")
    assert (await client.delete(f"/api/v1/sessions/{first.headers['x-session-id']}")).status_code == 204
    again = await post(client, "k")
    assert (again.status_code, again.json()["error"]) == (410, "gone")
    assert await count(engine, "turns") == 0


async def test_a_route_that_creates_nothing_takes_no_notice(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    await client.get("/api/v1/agents", headers={"Idempotency-Key": "k"})
    assert (await client.put("/api/v1/agents/test", json={}, headers={"Idempotency-Key": "k"})).status_code == 200
    assert await count(engine, "idempotency") == 0


@pytest.mark.timeout(60)
@pytest.mark.parametrize("stream", [True, False])
async def test_what_a_key_began_survives_kill_9(stream: bool, tmp_path: Path) -> None:
    settings = {"BYTEBREW_PLUGINS_DIR": str(plugins_folder(tmp_path / "plugins"))}
    body = {"message": "40", "stream": stream}
    data, headers = tmp_path / "data", {"Authorization": f"Bearer {ADMIN}"}
    path = "/api/v1/schemas/slow/chat"
    with serving(data, settings) as engine:
        async with httpx.AsyncClient(base_url=engine.url, headers=headers, timeout=30) as client:
            for noun, new in (
                ("models", {"name": "slow", "type": "slow", "model_name": "slow"}),
                ("agents", {"name": "slow", "model": "slow", "tools": ["add"]}),
                ("schemas", {"name": "slow", "entry_agent": "slow", "chat_enabled": True}),
            ):
                assert (await post(client, "k", f"/api/v1/{noun}", **new)).status_code == 201
            asking = asyncio.create_task(post(client, "k", path, **body))
            with opened(data) as conn:
                while not conn.execute("select 1 from events where n > 10").fetchone():
                    await asyncio.sleep(0.005)
            engine.kill()
            with pytest.raises(httpx.HTTPError):
                await asking
    with serving(data, settings) as engine:
        async with httpx.AsyncClient(base_url=engine.url, headers=headers, timeout=30) as client:
            first, second = await post(client, "k", path, **body), await post(client, "k", path, **body)
            assert first.status_code == 200
            assert "delta 39" in first.text
            assert same(first, second)
            sessions = (await client.get("/api/v1/sessions")).json()["sessions"]
            assert [one["id"] for one in sessions] == [first.headers["x-session-id"]]
            agent = {"name": "slow", "model": "slow", "tools": ["add"]}
            assert (await post(client, "k", "/api/v1/agents", **agent)).status_code == 201
