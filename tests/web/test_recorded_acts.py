"""Each change over the API and its entry in the audit are one transaction: both are there, or neither is."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
import pytest
from bytebrew_callbacks import store

from bytebrew import MessageDelta, Notification, ToolCall
from bytebrew.contract.connection import Connection
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, providing, scripted_schema, served_engine
from tests.local import local_session, proof_of
from tests.oauth_double import Authority
from tests.plugins.test_mcp import stdio
from tests.plugins.test_triggers import SECRET, signed
from tests.stored import ON_POSTGRESQL, allow, refuse, tables
from tests.tables import installed, label

UNSTORED = {
    "POST /api/v1/models/verify",
    "POST /api/v1/mcp-servers/{name}/reconnect",
    "POST /api/v1/tools/{name}/test",
    "POST /api/v1/sessions/{id}/cancel",
    "DELETE /api/v1/users/{sub:path}",
    "POST /api/v1/auth/tickets",
    "POST /api/v1/auth/local-session",
    "POST /api/v1/auth/local-session/refresh",
    "DELETE /api/v1/backups/{name}",
}
"""Requests that store nothing of their own: they are recorded before they are answered."""
QUIET = (
    "audit_changes",
    "audit_changes_counts",
    "audit_changes_of",
    "audit_chain",
    "rate_limits_counted",
    "nodes",
    "node_commits",
)
"""Tables in which something is stored whatever becomes of a request."""


class Act(NamedTuple):
    """A request, with the route that it is for."""

    route: str
    url: str
    more: dict[str, Any]


class World:
    """An engine with one of each kind of thing, and the requests that change them, in an order in which all succeed."""

    def __init__(
        self, engine: Engine, client: httpx.AsyncClient, model: ScriptedProvider, authority: Authority
    ) -> None:
        self.engine, self.client, self.model, self.authority = engine, client, model, authority
        self.ids: dict[str, str] = {}

    async def make(self, path: str, body: Any, **more: Any) -> dict[str, Any]:
        """What a POST has created."""
        answer = await self.client.post(f"/api/v1/{path}", json=body, **more)
        assert answer.status_code in (200, 201), answer.text
        return dict(answer.json())

    async def question(self, schema: str) -> None:
        """Has a turn begin that asks a person."""
        before = len((await self.client.get("/api/v1/approvals")).json()["data"])
        body = {"message": "Hi", "stream": False}
        self.asking.append(asyncio.create_task(self.client.post(f"/api/v1/schemas/{schema}/chat", json=body)))
        await self.questions(before + 1)

    async def questions(self, count: int) -> list[dict[str, Any]]:
        """The questions that wait, once there are so many."""
        with anyio.fail_after(20):
            while len(found := (await self.client.get("/api/v1/approvals")).json()["data"]) < count:
                await anyio.sleep(0.02)
        return list(found)

    async def prepare(self, folder: Path) -> None:
        """Makes the things."""
        self.asking: list[asyncio.Task[httpx.Response]] = []
        self.model.answers = [[MessageDelta(content="Hello")]]
        await scripted_schema(self.engine, tools=("current_time",), mcp_servers=("double",))
        asks = {"tools": ["current_time"], "confirm_before": ["current_time"], "model": "test"}
        for body in ({"name": "b"}, {"name": "c"}, {"name": "spare"}, {"name": "linked"}, {"name": "asker", **asks}):
            await self.make("agents", body)
        await self.make("schemas", {"name": "asker", "entry_agent": "asker", "chat_enabled": True})
        await self.make("schemas", {"name": "spare", "entry_agent": "b"})
        chat = await self.client.post("/api/v1/schemas/test/chat", json={"message": "Hi", "stream": False})
        self.ids["session"] = chat.json()["session_id"]
        self.model.answers = [[ToolCall("current_time", {})]]
        await self.question("asker")
        await self.question("asker")
        task = await self.make("tasks", {"title": "ask", "agent": "asker"})
        one, two, _ = await self.questions(3)
        self.model.answers = [[MessageDelta(content="Hello")]]
        self.ids |= {"question": one["id"], "asking": one["session_id"], "other question": two["id"], "ask": task["id"]}
        later = {"message": "Later", "stream": False, "session_id": one["session_id"]}
        self.ids["queued"] = (await self.client.post("/api/v1/schemas/asker/chat", json=later)).json()["turn_id"]
        for name in ("approve", "cancel"):
            new = {"title": name, "agent": "b", "require_approval": True}
            self.ids[name] = (await self.make("tasks", new))["id"]
        for name in ("start", "complete", "fail"):
            self.ids[name] = (await self.make("tasks", {"title": name, "agent": "b", "mode": "interactive"}))["id"]
        for name in ("complete", "fail"):
            await self.make(f"tasks/{self.ids[name]}/start", {})
        self.ids["token"] = (await self.make("auth/tokens", {"name": "spare", "scopes": ["chat"]}))["id"]
        await self.make("agents/test/capabilities", {"type": "memory"})
        await self.make("models", {"name": "spare", "type": "scripted", "model_name": "x"})
        pair = {"source": "test", "target": "c"}
        self.ids["relation"] = (await self.make("schemas/test/agent-relations", pair))["id"]
        await self.client.put("/api/v1/settings/custom.b", json={"value": 1})
        self.ids["local"] = await local_session(self.engine, self.client)
        await self.make("tools", {"name": "spare", "url": "http://127.0.0.1:1/"})
        await self.make("knowledge-bases", {"name": "spare"})
        await self.make("knowledge-bases", {"name": "empty"})
        await self.make("knowledge-bases/spare/agents/linked", None)
        for name in ("a", "b"):
            await self.make("knowledge-bases/spare/files", None, files={"file": (f"{name}.txt", b"Apples")})
        await self.make("budgets", {"name": "spare", "usd": 10**6, "window": "day"})
        await self.make("rate-limits", {"name": "spare", "key_header": "X-K", "tiers": {"all": {"unlimited": True}}})
        await self.make("schedules", {"name": "spare", "cron": "0 9 1 1 *", "agent": "b"})
        await self.make("webhooks", {"name": "spare", "agent": "b", "secret": SECRET})
        await self.make("callbacks", {"name": "spare", "url": "https://example.com/", "events": ["budget.near"]})
        near = Notification("budget.near", "b", {})
        await self.engine.db.write(self.engine.publish, near)
        self.ids["delivery"] = (await self.client.get("/api/v1/callbacks/deliveries")).json()["data"][0]["id"]
        await self.engine.db.write(store.bury, "callback:spare", "tried in vain")
        if not ON_POSTGRESQL:  # whose own means make backups
            self.ids["backup"] = (await self.make("backups", None))["name"]
        await self.make("mcp-servers", {"name": "oauth", "url": self.authority.url, "auth_type": "oauth2"})
        await self.make("mcp-servers", {"name": "spare", "url": "http://127.0.0.1:1/", "enabled": False})
        await self.engine.db.write(remember)
        self.ids["memory"] = "m1"
        await self.engine.db.write(fail)
        described = folder / "description"
        described.write_text("Says it again.")
        await self.make("mcp-servers", {"name": "double", **stdio({"description_file": str(described)})})
        await self.tool_is("available")
        described.write_text("Says something else.")
        await self.tool_is("withheld")
        (folder / "config.yaml").write_text("settings: {custom.loaded: 2}\n")
        await self.indexed()

    async def tool_is(self, state: str) -> None:
        with anyio.fail_after(20):
            while True:
                tools = (await self.client.get("/api/v1/mcp-servers/double")).json()["tools"]
                if any(tool["name"] == "echo" and tool["state"] == state for tool in tools):
                    return
                await anyio.sleep(0.05)

    async def indexed(self) -> None:
        """Returns once nothing goes on in the background."""
        with anyio.fail_after(30):
            while (await self.client.get("/api/v1/agents/linked/knowledge/status")).json()["status"] != "ready":
                await anyio.sleep(0.05)

    def acts(self) -> Iterator[Act]:
        """A request for each route that changes something."""
        ids, key = self.ids, {"headers": {"Idempotency-Key": "k"}}

        def act(route: str, body: Any = None, *values: str, **more: Any) -> Act:
            method, _, path = route.partition(" ")
            parts = path.split("/")
            holes = [n for n, part in enumerate(parts) if part.startswith("{")]
            for n, value in zip(holes, values, strict=True):
                parts[n] = value
            if body is not None:
                more["json"] = body
            return Act(f"{method} /api/v1/{path}", "/api/v1/" + "/".join(parts), key | more)

        yield act("POST models/{name}/verify", None, "test")
        yield act("POST models/verify", {"type": "demo", "model_name": "demo"})
        yield act("POST sessions/{id}/cancel", None, ids["session"])
        yield act("POST turns/causes/{key}/mute", {"muted_count": 2}, "cause")
        yield act("DELETE users/{sub:path}", None, "nobody")
        yield act("POST auth/tickets", {"path": "/api/v1/events"})
        yield act("POST auth/local-session", headers=proof_of(self.engine.data_dir))
        yield act("POST auth/local-session/refresh", headers={"Authorization": f"Bearer {ids['local']}"})
        yield act("DELETE auth/local-session", headers={"Authorization": f"Bearer {ids['local']}"})
        yield act("DELETE auth/local-sessions")
        yield act("POST tools/{name}/test", {}, "spare")
        yield act("POST auth/tokens", {"name": "new", "scopes": ["chat"]})
        yield act("DELETE auth/tokens/{id}", None, ids["token"])
        yield act("POST agents", {"name": "new"})
        yield act("PUT agents/{name}", {"max_steps": 3}, "spare")
        yield act("PATCH agents/{name}", {"max_steps": 4}, "spare")
        yield act("POST agents/{name}/rollback", {"version": 1}, "spare")
        yield act("DELETE agents/{name}", None, "spare")
        capabilities = "agents/{name}/capabilities"
        yield act(f"POST {capabilities}", {"type": "knowledge"}, "test")
        yield act(f"PUT {capabilities}/{{id}}", {"enabled": False}, "test", "memory")
        yield act(f"PATCH {capabilities}/{{id}}", {"enabled": True}, "test", "memory")
        yield act(f"DELETE {capabilities}/{{id}}", None, "test", "memory")
        yield act("POST models", {"name": "new", "type": "scripted", "model_name": "x"})
        yield act("PUT models/{name}", {"model_name": "y"}, "spare")
        yield act("PATCH models/{name}", {"model_name": "z"}, "spare")
        yield act("POST models/{name}/rollback", {"version": 1}, "spare")
        yield act("DELETE models/{name}", None, "spare")
        yield act("POST schemas", {"name": "new", "entry_agent": "b"})
        yield act("PUT schemas/{name}", {"description": "x"}, "spare")
        yield act("PATCH schemas/{name}", {"description": "y"}, "spare")
        yield act("POST schemas/{name}/rollback", {"version": 1}, "spare")
        yield act("DELETE schemas/{name}", None, "spare")
        relations = "schemas/{name}/agent-relations"
        yield act(f"POST {relations}", {"source": "test", "target": "b"}, "test")
        yield act(f"PUT {relations}/{{id}}", {"source": "test", "target": "linked"}, "test", ids["relation"])
        yield act(f"DELETE {relations}/{{id}}", None, "test", ids["relation"])
        yield act("DELETE sessions/{id}/queue/{turn_id}", None, ids["asking"], ids["queued"])
        yield act("POST sessions/{id}/fork", {}, ids["session"])
        yield act("PUT sessions/{id}", {"title": "x"}, ids["session"])
        yield act("PATCH sessions/{id}", {"title": "y"}, ids["session"])
        yield act("POST replays", {"sessions": [ids["session"]], "agent": "test"})
        yield act("DELETE sessions/{id}", None, ids["session"])
        yes: dict[str, Any] = {"answers": ["approve"]}
        yield act("POST sessions/{id}/respond", yes | {"call_id": ids["question"]}, ids["asking"])
        yield act("POST approvals/{id}/respond", yes, ids["other question"])
        yield act("POST tasks/{id}/input", yes, ids["ask"])
        yield act("POST tasks", {"title": "new", "agent": "b", "require_approval": True})
        yield act("PUT tasks/{id}", {"title": "x"}, ids["cancel"])
        yield act("PATCH tasks/{id}", {"title": "y"}, ids["cancel"])
        yield act("POST tasks/{id}/priority", {"priority": 1}, ids["cancel"])
        yield act("DELETE tasks/{id}", None, ids["cancel"])
        yield act("POST tasks/{id}/approve", None, ids["approve"])
        yield act("POST tasks/{id}/start", None, ids["start"])
        yield act("POST tasks/{id}/complete", {"result": "x"}, ids["complete"])
        yield act("POST tasks/{id}/fail", {"reason": "x"}, ids["fail"])
        yield act("PUT settings/{key}", {"value": 1}, "custom.a")
        yield act("DELETE settings/{key}", None, "custom.b")
        yield act("POST config/import", {"settings": {"custom.c": 1}})
        yield act("POST config/reload")
        if not ON_POSTGRESQL:
            yield act("POST backups")
            yield act("DELETE backups/{name}", None, ids["backup"])
        yield act("POST tools", {"name": "new", "url": "http://127.0.0.1:1/"})
        yield act("PUT tools/{name}", {"description": "x"}, "spare")
        yield act("PATCH tools/{name}", {"description": "y"}, "spare")
        yield act("POST tools/{name}/rollback", {"version": 1}, "spare")
        yield act("DELETE tools/{name}", None, "spare")
        bases = "knowledge-bases"
        yield act(f"POST {bases}", {"name": "new"})
        yield act(f"PUT {bases}/{{id}}", {"description": "x"}, "empty")
        yield act(f"PATCH {bases}/{{id}}", {"description": "y"}, "empty")
        yield act(f"POST {bases}/{{id}}/rollback", {"version": 1}, "empty")
        yield act(f"DELETE {bases}/{{id}}", None, "empty")
        yield act(f"POST {bases}/{{id}}/files", None, "spare", files={"file": ("c.txt", b"Pears")})
        yield act(f"POST {bases}/{{id}}/files/{{file_id}}/reindex", None, "spare", "a.txt")
        yield act(f"DELETE {bases}/{{id}}/files/{{file_id}}", None, "spare", "a.txt")
        own = "agents/{name}/knowledge"
        yield act(f"POST {own}/files", None, "linked", files={"file": ("d.txt", b"Plums")})
        yield act(f"POST {own}/reindex", None, "linked")
        yield act(f"DELETE {own}/files/{{file_id}}", None, "linked", "b.txt")
        yield act(f"DELETE {bases}/{{id}}/agents/{{name}}", None, "spare", "linked")
        yield act(f"POST {bases}/{{id}}/agents/{{name}}", None, "spare", "linked")
        servers = "mcp-servers"
        yield act(f"POST {servers}", {"name": "new", "url": "http://127.0.0.1:1/", "enabled": False})
        yield act(f"PUT {servers}/{{name}}", {"url": "http://127.0.0.1:2/"}, "spare")
        yield act(f"PATCH {servers}/{{name}}", {"url": "http://127.0.0.1:3/"}, "spare")
        yield act(f"POST {servers}/{{name}}/rollback", {"version": 1}, "spare")
        yield act(f"POST {servers}/{{name}}/reconnect", None, "spare")
        yield act(f"DELETE {servers}/{{name}}", None, "spare")
        yield act(f"POST {servers}/{{name}}/tools/{{tool:path}}/withhold", {}, "double", "echo")
        yield act(f"POST {servers}/{{name}}/tools/{{tool:path}}/approve", {}, "double", "echo")
        yield act("POST connections/{server}", None, "oauth")
        yield act("DELETE connections/{server}", None, "oauth")
        yield act("DELETE schemas/{name}/memory/{entry_id}", None, "test", ids["memory"])
        yield act("DELETE schemas/{name}/memory", None, "test")
        yield act("POST budgets", {"name": "new", "tokens": 10**9, "window": "day"})
        yield act("PUT budgets/{name}", {"usd": 10**7}, "spare")
        yield act("PATCH budgets/{name}", {"soft": 0.5}, "spare")
        yield act("POST budgets/{name}/rollback", {"version": 1}, "spare")
        yield act("DELETE budgets/{name}", None, "spare")
        tiers = {"tiers": {"all": {"requests": 5}}}
        yield act("POST rate-limits", {"name": "new", "key_header": "X-L", **tiers})
        yield act("PUT rate-limits/{name}", tiers, "spare")
        yield act("PATCH rate-limits/{name}", {"tiers": {"all": {"requests": 6}}}, "spare")
        yield act("POST rate-limits/{name}/rollback", {"version": 1}, "spare")
        yield act("DELETE rate-limits/{name}", None, "spare")
        yield act("POST schedules", {"name": "new", "cron": "0 9 1 1 *", "agent": "b"})
        yield act("PUT schedules/{name}", {"title": "x"}, "spare")
        yield act("PATCH schedules/{name}", {"title": "y"}, "spare")
        yield act("POST schedules/{name}/run", None, "spare")
        yield act("POST schedules/{name}/rollback", {"version": 1}, "spare")
        yield act("DELETE schedules/{name}", None, "spare")
        yield act("POST webhooks", {"name": "new", "agent": "b"})
        yield act("PUT webhooks/{name}", {"title": "x"}, "spare")
        yield act("PATCH webhooks/{name}", {"title": "y"}, "spare")
        sent = {"content": b"{}", "headers": signed(b"{}", datetime.now(UTC))}
        yield act("POST webhooks/{name}", None, "spare", **sent)
        yield act("POST webhooks/{name}/rollback", {"version": 1}, "spare")
        yield act("DELETE webhooks/{name}", None, "spare")
        called = {"url": "https://example.com/", "events": ["task.ended"]}
        yield act("POST callbacks", {"name": "new", **called})
        yield act("POST callbacks/{name}/rotate", None, "spare")
        yield act("POST callbacks/deliveries/{id}/retry", None, ids["delivery"])
        yield act("PUT callbacks/{name}", {"events": ["turn.failed"]}, "spare")
        yield act("PATCH callbacks/{name}", {"enabled": False}, "spare")
        yield act("POST callbacks/{name}/rollback", {"version": 1}, "spare")
        yield act("DELETE callbacks/{name}", None, "spare")


def remember(conn: Connection) -> None:
    """Two memories of the schema `test`."""
    conn.execute("insert into memory_owners select 1, id, 'user:x', '' from schemas where name = 'test'")
    conn.executemany(
        "insert into memory_entries select ?1, ?2, 1, id, ?2, ?3, '{}', null, null, '', '' from agents limit 1",
        [(1, "m1", b"1"), (2, "m2", b"2")],
    )


def fail(conn: Connection) -> None:
    """Why a turn is said to have failed."""
    conn.execute(
        "insert into statistics_failures select id, session_id, 'cause', 'x', 'test', 'x', '' from turns limit 1"
    )


def contents(conn: Connection) -> dict[str, list[str]]:
    """All rows of all tables but for what is stored of every request, in an order of their own."""
    found = {
        name: [dict(row) for row in conn.execute(f'select * from "{name}"')]
        for name in tables(conn)
        if name not in QUIET
    }
    for token in found["tokens"]:
        del token["last_used_at"]
    return {name: sorted(map(repr, rows)) for name, rows in found.items()}


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    (folder / "config.yaml").write_text("settings: {custom.loaded: 1}\n")
    model = ScriptedProvider()
    settings = {"BYTEBREW_CONFIG": str(folder / "config.yaml")}
    async with (
        Authority() as authority,
        served_engine(providing(model), data=folder / "data", settings=settings) as (engine, client),
    ):
        made = World(engine, client, model, authority)
        await made.prepare(folder)
        try:
            yield made
        finally:
            for task in made.asking:
                task.cancel()


async def audited(engine: Engine) -> int:
    return await engine.db.read(lambda conn: int(conn.execute("select count(*) from audit_changes").fetchone()[0]))


async def request(w: World, act: Act) -> httpx.Response:
    """The answer, once the files that it has read anew are indexed, as these write without a request."""
    answer = await w.client.request(act.route.partition(" ")[0], act.url, **act.more)
    sql = "select count(*) from knowledge_files where status = 'indexing'"
    with anyio.fail_after(60):
        while await w.engine.db.read(lambda conn: conn.execute(sql).fetchone()[0]):
            await anyio.sleep(0.02)
    return answer


@pytest.mark.timeout(180)
async def test_a_change_that_cannot_be_recorded_is_not_made_by_whatever_route(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        acts = list(w.acts())
        own = [route for route in installed() if route.face is None]  # a face does what the engine's own routes do
        changing = {label(route) for route in own if route.method != "GET" and not route.streams}
        left_out = {"POST /api/v1/auth/visitors"}  # which stores nothing
        if ON_POSTGRESQL:
            left_out |= {"POST /api/v1/backups", "DELETE /api/v1/backups/{name}"}
        assert {act.route for act in acts} == changing - left_out
        await w.engine.db.write(refuse, "insert on audit_changes", "The audit is deaf")
        before = await w.engine.db.read(contents)
        left: dict[str, list[str]] = {}
        for act in acts:
            answer = await request(w, act)
            after = await w.engine.db.read(contents)
            if changed := [name for name in after if after[name] != before.get(name)]:
                left[act.route] = changed
                before = after
            elif answer.status_code != 503 or answer.json()["error"] != "not_recorded":
                left[act.route] = [answer.text]
        assert left == {}
        await w.engine.db.write(allow, "insert on audit_changes")
        for act in acts:  # none of the requests was refused for another reason, or has used up its key
            count = await audited(w.engine)
            answer = await request(w, act)
            assert answer.status_code < 300, (act, answer.text)
            assert await audited(w.engine) == count + 1, act
            assert (await w.engine.db.read(contents) == before) is (act.route in UNSTORED), act
            before = await w.engine.db.read(contents)
