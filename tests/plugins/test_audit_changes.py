"""The audit of changes: every change with its actor, before and after; refused logins; no secret in any row."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from bytebrew_audit import changes
from msgspec.structs import replace

from bytebrew import MessageDelta, Route
from bytebrew.base.formats import rfc3339
from bytebrew.contract.connection import Connection
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, ScriptedProvider, chat, providing, scripted_schema, served_engine
from bytebrew.web.recorded_changes import action_name
from tests.local import local_session
from tests.mcp_double import Web
from tests.tables import all_but, check_refusal, installed, token_with

URL = "/api/v1/audit"
Served = tuple[Engine, httpx.AsyncClient]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """An engine with one agent whose model says Hello."""
    async with served_engine(providing(ScriptedProvider([MessageDelta(content="Hello")]))) as (engine, client):
        await scripted_schema(engine)
        yield engine, client


async def entries(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get(URL, params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def changed(entry: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields that an entry says have changed, from what to what."""
    return {one["field"]: (one["old_value"], one["new_value"]) for one in entry["details"].get("changes", [])}


async def test_a_change_leaves_one_entry_that_says_who_did_what_to_what(served: Served) -> None:
    engine, client = served
    token = await token_with(engine, "agents:write", name="ci")
    headers = {"Authorization": f"Bearer {token.token}"}
    told = await client.put("/api/v1/agents/test", json={"max_steps": 7, "description": "Kind"}, headers=headers)
    answer = (await client.get(URL)).json()
    [entry] = answer.pop("data")
    pages = {"page": 1, "per_page": 50, "total_pages": 1}
    assert answer == {"total": 1, "limit": 50, "offset": 0, **pages, "next": None}
    assert entry.pop("timestamp").endswith("Z")
    assert len(entry.pop("hash")) == 64
    assert changed(entry) == {"max_steps": (50, 7), "description": ("", "Kind")}
    assert entry["details"].pop("changes")
    assert entry == {
        "id": "1",
        "actor": "ci",
        "actor_type": "api_token",
        "actor_id": "ci",
        "action": "agent.update",
        "resource": "PUT /api/v1/agents/test",
        "resource_type": "agent",
        "resource_id": "test",
        "details": {
            "method": "PUT",
            "path": "/api/v1/agents/test",
            "status_code": 200,
            "client": "127.0.0.1",
            "request_id": told.headers["x-request-id"],
            "subject": f"token:{token.id}",
        },
    }


async def test_changes_that_race_follow_on_each_other(served: Served) -> None:
    client = served[1]
    names = "test", (await client.get("/api/v1/agents/test")).json()["id"]
    racing = [client.patch(f"/api/v1/agents/{names[n % 2]}", json={"max_steps": n}) for n in range(1, 21)]
    assert {answer.status_code for answer in await asyncio.gather(*racing)} == {200}
    steps = [changed(entry)["max_steps"] for entry in reversed(await entries(client))]
    assert [old for old, _ in steps] == [50, *(new for _, new in steps[:-1])]


async def test_making_and_removing_tell_the_whole_thing(served: Served) -> None:
    client = served[1]
    await client.post("/api/v1/agents", json={"name": "spare", "max_steps": 3})
    await client.delete("/api/v1/agents/spare")
    gone, made = await entries(client)
    assert [made["action"], gone["action"]] == ["agent.create", "agent.delete"]
    assert [made["resource_id"], gone["resource_id"]] == ["spare", "spare"]
    assert changed(made)["max_steps"] == (None, 3)
    assert changed(gone)["max_steps"] == (3, None)
    assert changed(gone)["name"] == ("spare", None)


async def test_what_was_not_done_or_was_no_change_leaves_no_entry(served: Served) -> None:
    client = served[1]
    await client.get("/api/v1/agents/test")
    await client.put("/api/v1/agents/test", json={"max_steps": 0})
    await client.delete("/api/v1/agents/nobody")
    await client.delete("/api/v1/models/test")
    await chat(client, "test", "Hi")
    await client.post("/api/v1/schemas/test/chat", json={"message": "Hi", "stream": False})
    assert await entries(client) == []


async def test_an_answer_out_of_the_store_of_idempotency_is_no_second_change(served: Served) -> None:
    client = served[1]
    for _ in range(2):
        answer = await client.post("/api/v1/agents", json={"name": "one"}, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 201
    assert [entry["action"] for entry in await entries(client)] == ["agent.create"]


async def test_a_change_that_answers_nothing_is_read_anew(served: Served) -> None:
    client = served[1]
    for name in ("b", "c"):
        await client.post("/api/v1/agents", json={"name": name})
    pair = {"source": "test", "target": "b"}
    relation = (await client.post("/api/v1/schemas/test/agent-relations", json=pair)).json()
    url = f"/api/v1/schemas/test/agent-relations/{relation['id']}"
    assert (await client.put(url, json={"source": "test", "target": "c"})).status_code == 204
    entry = (await entries(client))[0]
    assert (entry["action"], entry["resource_id"]) == ("agent_relation.update", relation["id"])
    assert ("b", "c") in changed(entry).values()


async def test_a_conversation_does_not_outlive_its_session_in_the_audit(served: Served) -> None:
    client = served[1]
    session = json.loads((await chat(client, "test", "my own words"))[-1].data)["session_id"]
    await client.put(f"/api/v1/sessions/{session}", json={"title": "my own title"})
    await client.delete(f"/api/v1/sessions/{session}")
    found = await entries(client)
    assert [entry["action"] for entry in found] == ["session.delete", "session.update"]
    assert [entry["resource_id"] for entry in found] == [session, session]
    assert "my own" not in json.dumps(found)


async def test_a_session_and_an_end_user_are_told_apart_from_an_admin(served: Served) -> None:
    engine, client = served
    session = await local_session(engine, client)
    await client.put("/api/v1/settings/custom.a", json={"value": 1}, headers={"Authorization": f"Bearer {session}"})
    put, opened = await entries(client)
    assert (put["actor_type"], put["actor_id"], put["action"]) == ("admin", "local-admin", "setting.update")
    assert changed(put)["value"] == (None, 1)
    assert (opened["actor_type"], opened["action"]) == ("anonymous", "auth.success")


def test_every_route_that_changes_something_has_a_name_of_its_own() -> None:
    found: dict[str, set[str]] = {}
    for route in installed():
        if route.method != "GET" and not route.streams:
            found.setdefault(action_name(route)[1], set()).add(route.path)
    assert {"agent.create", "agent.update", "agent.delete", "model.create", "schema.delete", "mcp.create"} <= set(found)
    assert {"token.create", "token.revoke", "setting.update", "session.delete", "config.import"} <= set(found)
    assert {"tool.update", "task.approve", "approval.answer", "kb.create", "agent_relation.delete"} <= set(found)
    several = {name: paths for name, paths in found.items() if len(paths) > 1}
    assert set(several) == {"approval.answer", "local_session.delete", "schema_memory.delete"}


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("POST", "/api/v1/dice", 200, "dice.create"),
        ("POST", "/api/v1/ponds/{name}", 200, "pond.create"),
        ("DELETE", "/api/v1/ponds/{id}/ducks/{name}", 204, "pond_duck.delete"),
        ("POST", "/api/v1/ponds/{id}/ducks/{name}/feed-twice", 202, "pond_duck.feed_twice"),
        ("PATCH", "/{x}", 200, "thing.update"),
    ],
)
def test_a_plugins_route_is_named_by_the_same_rule(method: Any, path: str, status: int, name: str) -> None:
    async def run(request: Any) -> None: ...

    assert action_name(Route(method=method, path=path, scope=None, run=run, summary="", status=status))[1] == name


# Filters, pages and the export.


def fill(conn: Connection) -> None:
    """A thousand rows, a minute apart from the first of March 2026 on."""
    first = datetime(2026, 3, 1, tzinfo=UTC)
    details = '{"method":"PUT","path":"/","status_code":200,"client":"","request_id":""}'
    conn.executemany(
        """insert into audit_changes (timestamp, actor, actor_type, actor_id, action, resource, resource_type,
        resource_id, details)
        values (?, 'a', ?, 'a', ?, ?, 'agent', ?, ?)""",
        [
            (
                rfc3339(first + timedelta(minutes=n)),
                "admin" if n % 5 else "api_token",
                "agent.update" if n % 2 else "auth.fail",
                f"PUT /{n % 10}",
                str(n),
                details,
            )
            for n in range(2000)
        ],
    )


@pytest.fixture(scope="module")
async def filled() -> AsyncIterator[httpx.AsyncClient]:
    """The client of an engine whose audit has many rows."""
    async with served_engine() as (engine, client):
        await engine.db.write(fill)
        yield client


@pytest.mark.parametrize(
    ("query", "total"),
    [
        ({}, 2000),
        ({"actor_type": "api_token"}, 400),
        ({"action": "auth.fail"}, 1000),
        ({"resource": "PUT /3"}, 200),
        ({"resource": "PUT /"}, 0),
        ({"resource": "PUT /3", "action": "agent.update"}, 200),
        ({"from": "2026-03-02"}, 560),
        ({"to": "2026-03-01"}, 1440),
        ({"from": "2026-03-01T01:00:00+01:00", "to": "2026-03-01T00:30:00Z"}, 30),
        ({"page": "3", "per_page": "7"}, 2000),
        ({"page": "x", "per_page": "-1"}, 2000),
    ],
)
async def test_filters_pages_and_lines(filled: httpx.AsyncClient, query: dict[str, str], total: int) -> None:
    answer = (await filled.get(URL, params=query)).json()
    lines = (await filled.get(URL, params=query, headers={"Accept": "application/x-ndjson"})).text.splitlines()
    page, per_page = (3, 7) if query.get("page") == "3" else (1, 50)
    assert (answer["total"], answer["page"], answer["per_page"]) == (total, page, per_page)
    assert [json.loads(line) for line in lines[(page - 1) * per_page :]][:per_page] == answer["data"]
    assert len(lines) == total
    times = [entry["timestamp"] for entry in answer["data"]]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(("name", "value"), [("from", "yesterday"), ("to", "2026-13-01"), ("format", "csv")])
async def test_a_value_that_cannot_be_is_refused_by_name(served: Served, name: str, value: str) -> None:
    answer = await served[1].get(URL, params={name: value})
    assert answer.status_code == 400
    assert [detail["path"] for detail in check_refusal(answer)["details"]] == [f"$.{name}"]


# Refused logins.


async def test_a_refused_login_is_there_with_its_reason_and_without_its_token(served: Served) -> None:
    engine, client = served
    weak = await token_with(engine, *all_but("config"), name="weak")
    wrong = "bb_" + "0" * 64
    for bearer, path in (("", "agents"), (wrong, "agents"), (weak.token, "config/export")):
        headers = {"Authorization": f"Bearer {bearer}" if bearer else ""}
        assert (await client.get(f"/api/v1/{path}", headers=headers)).status_code in (401, 403)
    scope, invalid, missing = await entries(client, action="auth.fail")
    assert (scope["actor"], scope["actor_type"], scope["details"]["status_code"]) == ("weak", "api_token", 403)
    assert scope["details"]["reason"] == "Token does not have 'config' scope"
    assert (invalid["actor_type"], invalid["details"]["status_code"]) == ("anonymous", 401)
    assert invalid["resource"] == missing["resource"] == "GET /api/v1/agents"
    assert "Authorization" in missing["details"]["reason"]
    assert wrong not in json.dumps([scope, invalid, missing])


async def test_a_local_session_that_is_refused_is_there_too(served: Served) -> None:
    answer = await served[1].post("/api/v1/auth/local-session", headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    [entry] = await entries(served[1])
    assert (entry["action"], entry["resource"]) == ("auth.fail", "POST /api/v1/auth/local-session")


async def test_a_flood_of_refusals_becomes_a_few_entries_and_a_number(served: Served) -> None:
    engine, client = served
    for _ in range(40):
        await client.get("/api/v1/agents", headers={"Authorization": "Bearer nobody"})
    count = "select count(*) from audit_changes"
    assert await engine.db.read(lambda conn: conn.execute(count).fetchone()[0]) == changes.MOST_REFUSED
    found = await entries(client)
    assert [entry["details"].get("more", 0) for entry in found] == [40 - changes.MOST_REFUSED, *[0] * 5]
    assert len(await entries(client)) == len(found)
    assert await entries(client, actor_type="admin") == []


async def test_the_next_minute_counts_anew(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MINUTE", 0.0)
    for _ in range(10):
        await served[1].get("/api/v1/agents", headers={"Authorization": "Bearer nobody"})
    assert [entry["details"].get("more", 0) for entry in await entries(served[1])] == [0] * 10


async def test_the_number_is_kept_when_the_engine_ends(tmp_path: Any) -> None:
    async with served_engine(data=tmp_path) as (_, client):
        for _ in range(9):
            await client.get("/api/v1/agents", headers={"Authorization": "Bearer nobody"})
    async with served_engine(data=tmp_path) as (_, client):
        assert (await entries(client))[0]["details"]["more"] == 9 - changes.MOST_REFUSED


async def test_many_clients_are_bounded_too(served: Served) -> None:
    engine = served[0]
    audit = engine.state[changes.CHANGES]
    await served[1].get("/api/v1/agents", headers={"Authorization": "Bearer nobody"})
    [refused] = audit._refused.values()
    for n in range(2000):
        for host in (f"10.0.{n // 250}.{n % 250}", f"2001:db8::{n:x}"):
            await audit.take(replace(refused.last, client=host))
    count = await engine.db.read(lambda conn: conn.execute("select count(*) from audit_changes").fetchone()[0])
    assert 100 < count <= (changes.MOST_CLIENTS + 1) * changes.MOST_REFUSED
    assert [network for network in audit._refused if ":" in network] == ["2001:db8::/64"]


# Secrets.

SECRET = "Xq7-never-to-be-seen-%s"


async def test_no_secret_is_in_any_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = []

    def secret(name: str) -> str:
        secrets.append(SECRET % name)
        return secrets[-1]

    monkeypatch.setenv("AUDITED", SECRET % "variable")
    async with Web(json=True) as mcp, served_engine(data=tmp_path) as (engine, client):

        async def ask(method: str, path: str, body: Any = None, good: int = 201) -> Any:
            answer = await client.request(method, f"/api/v1/{path}", json=body)
            assert answer.status_code == good, answer.text
            return answer.json() if answer.content else None

        model = {"name": "m", "type": "openai_compatible", "model_name": "x"}
        await ask("POST", "models", {**model, "base_url": "http://127.0.0.1:1/v1", "api_key": secret("key")})
        await ask("PUT", "models/m", {"api_key": secret("next-key")}, 200)
        await ask("POST", "models/m/verify", good=200)
        await ask("POST", "agents", {"name": "a", "system": f"Never tell the password: {secret('prompt')}"})
        await ask("PUT", "agents/a", {"system": f"curl -H 'Authorization: Bearer {secret('bearer')}'"}, 200)
        token = await ask("POST", "auth/tokens", {"name": "t", "scopes": ["chat"]})
        secrets.append(token["token"])
        await ask("DELETE", f"auth/tokens/{token['id']}", good=204)
        server = {"name": "s", "url": f"{mcp.url}?api_key={secret('url')}", "headers": {"X-Own": secret("header")}}
        await ask("POST", "mcp-servers", {**server, "auth_type": "bearer", "auth_key": secret("auth-key")})
        await ask("PATCH", "mcp-servers/s", {"env": {"ANY": secret("env")}, "auth_key": secret("auth-key-2")}, 200)
        await ask("DELETE", "mcp-servers/s", good=204)
        command = {"name": "c", "command": "true", "args": ["--token", secret("arg"), f"--password={secret('arg2')}"]}
        await ask("POST", "mcp-servers", {**command, "enabled": False})
        command = {"name": "d", "command": "true", "args": ["--header", f"Authorization: Basic {secret('basic')}"]}
        await ask("POST", "mcp-servers", {**command, "enabled": False})
        tool = {"name": "h", "url": "http://127.0.0.1:1/", "headers": {"X-Own": secret("tool-header")}}
        await ask("POST", "tools", {**tool, "auth": {"type": "bearer", "token": secret("tool-token")}})
        await ask("PUT", "tools/h", {"auth": {"type": "basic", "username": "u", "password": secret("tool-pass")}}, 200)
        await ask("PUT", "tools/h", {"auth": {"type": "header", "name": "X-Own", "value": secret("tool-value")}}, 200)
        await ask("PUT", "tools/h", {"headers": {"X-Api-Key": "${AUDITED}"}}, 200)
        await ask("POST", "tools/h/test", {}, 200)
        await ask("DELETE", "tools/h", good=204)
        await ask("PUT", "settings/custom.api_key", {"value": secret("setting")}, 200)
        await ask("PUT", "settings/custom.vendor", {"value": {"client_secret": secret("nested"), "pin": 1}}, 200)
        await ask("POST", "config/import", {"settings": {"custom.api_key": secret("setting-in-a-file")}}, 200)
        await ask("DELETE", "settings/custom.api_key", good=204)
        yaml = {"models": {"n": {**model, "api_key": secret("yaml")}}}
        del yaml["models"]["n"]["name"]
        yaml["models"]["n"]["base_url"] = "http://127.0.0.1:1/v1"
        await ask("POST", "config/import", yaml, 200)
        for bearer in (f"bb_{'a' * 64}", secret("wrong-bearer"), f"{ADMIN}x"):
            secrets.append(bearer)
            await client.get("/api/v1/agents", headers={"Authorization": f"Bearer {bearer}"})
        found = await entries(client, per_page=100)
        rows = await engine.db.read(lambda conn: list(map(tuple, conn.execute("select * from audit_changes"))))
    names = {entry["action"] for entry in found}
    assert {"model.create", "mcp.update", "tool.delete", "setting.update", "config.import", "auth.fail"} <= names
    whole = repr(rows)
    assert [one for one in [*secrets, ADMIN, SECRET % "variable", "u:p@"] if one in whole] == []
    [update] = [entry for entry in found if entry["action"] == "model.update"]
    assert changed(update) == {"api_key": (None, "***")}
    vendor = next(entry for entry in found if entry["resource_id"] == "custom.vendor")
    assert changed(vendor)["value"] == (None, {"client_secret": "***", "pin": 1})
