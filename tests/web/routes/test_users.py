"""Forgetting a person: no byte of the person is left in the data folder, and all of others stays."""

import asyncio
import base64
import json
import os
import re
import shutil
import sqlite3
import threading
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from bytebrew_rate_limits.limits import LIMITS

from bytebrew import (
    Call,
    Capabilities,
    Connection,
    Http,
    MessageDelta,
    ModelRequest,
    Person,
    PersonalData,
    Provider,
    Stop,
    ToolCall,
    Usage,
    tool,
)
from bytebrew.base.formats import new_uuid
from bytebrew.engine import Engine
from bytebrew.store import messages
from bytebrew.store.queries import events
from bytebrew.testing import chat, plugin, providing, scripted_schema, served_engine, token
from tests.plugins.test_auth_external import AUDIENCE, KEY, MODE, PATH, hex_of, user
from tests.stored import ON_POSTGRESQL, opened, tables

SESSION = "/api/v1/sessions"


def marker(who: str, kind: str) -> str:
    """A word that only this person's data has, with two ends to look for: an index may store a part of a word."""
    return f"{who}zq{kind}{who[::-1]}qz"


class Puppet(Provider):
    """Calls the tools that the newest user message lists as JSON, then repeats the message and the results."""

    type = "scripted"
    capabilities = Capabilities(vision=True)

    def __init__(self) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[Any, None]:
        asked = max(n for n, message in enumerate(request.messages) if message.role == "user")
        content = request.messages[asked].content
        self.calls += 1
        await self.gate.wait()
        if asked == len(request.messages) - 1 and content.startswith("["):
            for name, input in json.loads(content):
                yield ToolCall(name, input)
        else:
            yield MessageDelta(content=f"You wrote {content}. ")
            yield MessageDelta(content=" ".join(one.content for one in request.messages[asked:] if one.role == "tool"))
        yield Usage(10, 5)
        yield Stop()


@tool
async def note(call: Call, text: str) -> str:
    """Takes a note."""
    return f"noted {text} " * 3000


@asynccontextmanager
async def populated(folder: Path) -> AsyncIterator[tuple[Engine, httpx.AsyncClient, Puppet]]:
    """An engine with the data of ann and bob, who have JWTs, and of the end users of an app."""
    puppet = Puppet()
    (folder / "issuer").write_text(hex_of(KEY.verify_key))
    secret = f"whsec_{base64.b64encode(bytes(32)).decode()}"
    settings = {MODE: "external", PATH: str(folder / "issuer"), AUDIENCE: "*", "BYTEBREW_CALLBACK_SECRET": secret}
    tools = plugin("noting", register_tools=lambda register: register(note))
    async with served_engine(providing(puppet), tools, data=folder / "data", settings=settings) as (running, client):
        await scripted_schema(running, tools=("note", "manage_tasks"), confirm_before=("note",))
        await client.post("/api/v1/agents/test/capabilities", json={"type": "memory"})
        rule = {"name": "all", "per": "subject", "tiers": {"default": {"requests": 900, "window": "1h"}}}
        assert (await client.post("/api/v1/rate-limits", json={**rule, "default_tier": "default"})).status_code == 201
        budget = {"name": "each", "per": "subject", "tokens": 10**9, "window": "day"}
        assert (await client.post("/api/v1/budgets", json=budget)).status_code == 201
        server = {"name": "files", "url": "http://127.0.0.1:1/", "enabled": False}
        assert (await client.post("/api/v1/mcp-servers", json=server)).status_code == 201
        base = (await client.post("/api/v1/knowledge-bases", json={"name": "Papers"})).json()
        for who in ("ann", "bob"):
            await live(running, client, who, base["id"])
        yield running, client, puppet


async def live(running: Engine, client: httpx.AsyncClient, who: str, base: str) -> None:
    """Leaves a marked trace of a person in every kind of data."""
    sub = marker(who, "sub")
    own = {"authorization": f"Bearer {user(sub=sub, scope='chat tasks tasks:callback approvals admin')}"}
    session_id = new_uuid()
    picture = base64.b64encode(marker(who, "picture").encode()).decode()
    fact = f"likes {marker(who, 'memory')} a lot"
    steps = [["memory_store", {"content": fact}], ["note", {"text": marker(who, "input")}]]
    async with client.stream(
        "POST",
        "/api/v1/schemas/test/chat",
        headers={**own, "idempotency-key": marker(who, "key")},
        json={
            "message": json.dumps(steps),
            "session_id": session_id,
            "attachments": [{"media_type": "image/png", "data": picture, "name": marker(who, "file")}],
        },
    ) as response:
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            if line.startswith("data:") and '"confirmation_id"' in line:
                body = {
                    "confirmation_id": json.loads(line[5:])["confirmation_id"],
                    "answers": ["approve"],
                    "reason": marker(who, "reason"),
                }
                url = f"{SESSION}/{session_id}/respond"
                assert (await client.post(url, headers=own, json=body)).status_code == 200
    await client.patch(f"{SESSION}/{session_id}", headers=own, json={"title": marker(who, "title")})
    run = {"sessions": [session_id], "agent": "test"}
    assert (await client.post("/api/v1/replays", headers=own, json=run)).status_code == 201
    url = f"https://callback.invalid/{marker(who, 'callback')}"
    task = {"title": marker(who, "task"), "description": marker(who, "description"), "agent": "test"}
    task |= {"callback_url": url}
    answer = await client.post("/api/v1/tasks", headers=own, json=task)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    await client.put(f"/api/v1/tasks/{made['id']}", json={"priority": 2, "title": marker(who, "retitled")})
    cron = {"name": f"daily-{who}", "cron": "0 9 * * *", "agent": "test"}
    scheduled = {**cron, "title": marker(who, "schedule"), "enabled": False}
    assert (await client.post("/api/v1/schedules", headers=own, json=scheduled)).status_code == 201
    form = {"metadata": json.dumps({"user_sub": sub})}
    files = {"file": (f"{marker(who, 'name')}.txt", f"the text {marker(who, 'text')}".encode())}
    uploaded = await client.post(f"/api/v1/knowledge-bases/{base}/files", headers=own, data=form, files=files)
    assert uploaded.status_code in (200, 201, 202), uploaded.text
    for n in range(2):  # an end user of an app, and one session that is packed
        await chat(client, "test", marker(who, f"app{n}"), user_sub=sub)
    await running.db.write(lambda conn: events.pack(conn, session_id, 1, 500))
    await running.db.write(messages.summarise, session_id, 1, marker(who, "summary"))
    await running.db.write(approved, f"tool of {who[0]}", sub)
    await running.db.write(connected, sub, marker(who, "account"))
    await settled(client, base)
    async with asyncio.timeout(10):
        while (await client.get(f"/api/v1/tasks/{made['id']}")).json()["status"] != "completed":
            await asyncio.sleep(0.02)


def approved(conn: Connection, tool: str, by: str) -> None:
    """An MCP tool that somebody has approved."""
    conn.execute(
        """insert into mcp_pins (server_id, tool, digest, pinned_at, approved_at, approved_by)
        select id, ?, '', updated_at, updated_at, ? from mcp_servers""",
        (tool, by),
    )


def connected(conn: Connection, subject: str, account: str) -> None:
    """A connection of somebody to an MCP server, and an authorization that was begun."""
    conn.execute(
        """insert into mcp_connections (server_id, subject, url, sealed_tokens, scopes, wanted_scopes, expires_at,
          account, failure, created_at, updated_at)
        select id, ?, url, x'', '', '', null, ?, 'expired', updated_at, updated_at from mcp_servers""",
        (subject, account),
    )
    conn.execute(
        """insert into mcp_authorizations (server_id, subject, state_digest, sealed_request, expires_at)
        select id, ?, ?, x'', updated_at from mcp_servers""",
        (subject, os.urandom(8)),
    )


async def settled(client: httpx.AsyncClient, base: str) -> None:
    while "indexing" in (await client.get(f"/api/v1/knowledge-bases/{base}/files")).text:
        await asyncio.sleep(0.02)


def traces(folder: Path, who: str) -> list[str]:
    """Where something of a person is in the files of a folder: their bytes, what is compressed in them, and names."""
    ends = [f"{who}zq".encode(), f"{who[::-1]}qz".encode(), base64.b64encode(f"{who}zq".encode())[:6]]
    pattern = re.compile(b".{0,20}(?i:%s).{0,20}" % b"|".join(ends), re.DOTALL)
    return [
        f"{path.name}: {match.group()!r}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        for data in (path.name.encode(), path.read_bytes(), *unpacked(path.read_bytes()))
        for match in pattern.finditer(data)
    ] + [f"{table}: {match.group()!r}" for table, data in on_server(folder) for match in pattern.finditer(data)]


def on_server(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The tables of a data folder's database on PostgreSQL, with the bytes of each value and what is compressed."""
    if not ON_POSTGRESQL:
        return
    with opened(folder) as conn:
        for table in tables(conn, parts=True):
            for row in conn.execute(f'select * from "{table}"'):
                for value in row:
                    data = value if isinstance(value, bytes) else str(value).encode()
                    yield from ((table, one) for one in (data, *unpacked(data)))


def unpacked(data: bytes) -> Iterator[bytes]:
    """All that zlib can read in some bytes."""
    for place in re.finditer(b"\x78[\x01\x5e\x9c\xda]", data):
        try:
            yield zlib.decompressobj().decompress(data[place.start() :], 1 << 20)
        except zlib.error:
            continue


def leave_old_bytes(path: Path, who: str) -> None:
    """Bytes of deleted rows, as an engine before secure deletion left them, and a copy from before migrating."""
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("pragma secure_delete = off")
        conn.execute("create table old (text text)")
        conn.executemany("insert into old values (?)", [(marker(who, f"old{n}") * 9,) for n in range(900)])
        conn.commit()
        conn.execute("delete from old")
        conn.execute("drop table old")
        conn.commit()
        conn.execute("pragma wal_checkpoint(passive)")
    shutil.copy(path, path.with_name(f"{path.name}.before-20260101T000000Z"))


async def exported(client: httpx.AsyncClient, sub: str) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/users/{sub}/export")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["data"]
    return found


def check_integrity(path: Path) -> None:
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert conn.execute("pragma foreign_key_check").fetchall() == []
        for table in ("memory_search", "knowledge_words"):
            conn.execute(f"insert into {table} ({table}) values ('integrity-check')")


async def test_no_byte_of_a_forgotten_person_is_left_and_all_of_others_stays(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with populated(tmp_path) as (running, client, _):
        await running.state[LIMITS].save()
        if not ON_POSTGRESQL:
            leave_old_bytes(folder / "bytebrew.db", "ann")
        sub = marker("ann", "sub")
        of_ann, of_bob = await exported(client, sub), await exported(client, marker("bob", "sub"))
        for kinds in (of_ann, of_bob):
            assert all(kinds.values()), [name for name, rows in kinds.items() if not rows]
        usage = (await client.get("/api/v1/usage")).json()
        assert traces(folder, "ann")
        answer = await client.delete(f"/api/v1/users/{sub}")
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["status"] == "done"
        assert set(body["counts"]) > {"tasks", "sessions", "memories", "usage", "audit_changes", "triggers"}
        assert "\n".join(traces(folder, "ann")) == ""
        [entry] = (await client.get("/api/v1/audit?action=user.forget")).json()["data"]
        assert entry["resource"] == f"DELETE /api/v1/users/{body['person']}"
        assert entry["resource_id"] == body["person"]
        assert {name: rows for name, rows in (await exported(client, sub)).items() if rows} == {}
        again = await exported(client, marker("bob", "sub"))
        if ON_POSTGRESQL:  # where requests are counted for all nodes as they come, the administrator's too
            again["rate_limit_counts"] = of_bob["rate_limit_counts"]
        assert again == of_bob
        after = (await client.get("/api/v1/usage")).json()
        assert {**after, "by_token": None} == {**usage, "by_token": None}
    if not ON_POSTGRESQL:
        check_integrity(folder / "bytebrew.db")
    assert traces(folder, "ann") == []
    assert traces(folder, "bob")


async def test_what_a_person_filled_in_for_another_is_emptied(tmp_path: Path) -> None:
    def fill_in(conn: Connection) -> int:
        return conn.execute(
            """update confirmations set kind = 'elicitation', edited = ?,
            answered_by = (select answered_by from confirmations where reason = ?) where reason = ?""",
            (json.dumps({"name": marker("ann", "form")}), marker("ann", "reason"), marker("bob", "reason")),
        ).rowcount

    async with populated(tmp_path) as (running, client, _):
        assert await running.db.write(fill_in) == 1
        assert (await client.delete(f"/api/v1/users/{marker('ann', 'sub')}")).json()["status"] == "done"
        [row] = (await client.get("/api/v1/approvals?status=spent")).json()["data"]
    assert (row["kind"], row["edited"], row["reason"]) == ("elicitation", None, "")
    assert traces(tmp_path / "data", "ann") == []


async def test_what_runs_is_stopped_and_what_begins_meanwhile_is_deleted_too(tmp_path: Path) -> None:
    entered = threading.Event()

    def forget(conn: Connection, person: Person) -> int:
        if "ann" in person.names:
            entered.set()
        return 0

    slow = plugin("slow", register_personal_data=lambda register: register(PersonalData("ducks", no_rows, forget)))
    puppet = Puppet()
    async with served_engine(providing(puppet), slow, data=tmp_path) as (running, client):
        await scripted_schema(running)
        puppet.gate.clear()
        talking = [asyncio.create_task(chat(client, "test", f"annzq{n}", user_sub="ann")) for n in range(3)]
        while len(running.turns) < 3:
            await asyncio.sleep(0.01)
        forgetting = asyncio.create_task(client.delete("/api/v1/users/ann"))
        await asyncio.to_thread(entered.wait, 10)
        late = asyncio.create_task(chat(client, "test", "annzq late", user_sub="ann"))
        answer = await forgetting
        assert answer.json()["status"] == "done"
        puppet.gate.set()
        await asyncio.gather(*talking, late, return_exceptions=True)
        left = await running.db.read(lambda conn: conn.execute("select count(*) from sessions").fetchone()[0])
        assert left <= 1  # the late one began afterwards, or was deleted too


async def test_the_run_of_a_replay_is_stopped_before_its_cost_is_masked(tmp_path: Path) -> None:
    puppet, admin = Puppet(), f"Bearer {user(sub='annzq', scope='chat admin')}"
    (tmp_path / "issuer").write_text(hex_of(KEY.verify_key))
    settings = {MODE: "external", PATH: str(tmp_path / "issuer"), AUDIENCE: "*"}
    async with served_engine(providing(puppet), data=tmp_path / "data", settings=settings) as (running, client):
        await scripted_schema(running)
        client.headers["authorization"] = admin
        session_id = new_uuid()
        await chat(client, "test", "hi", session_id=session_id)
        puppet.gate.clear()
        run = {"sessions": [session_id], "agent": "test"}
        assert (await client.post("/api/v1/replays", json=run)).status_code == 201
        async with asyncio.timeout(10):
            while puppet.calls < 2:
                await asyncio.sleep(0.01)
        assert (await client.delete("/api/v1/users/annzq")).json()["status"] == "done"
        puppet.gate.set()
        await asyncio.sleep(0.2)
    assert traces(tmp_path / "data", "ann") == []


async def test_a_kind_that_fails_is_tried_again_until_nothing_is_left(tmp_path: Path) -> None:
    failures = iter([OSError("no disk"), ValueError("a bug")])

    def forget(conn: Connection, person: Person) -> int:
        if failure := next(failures, None):
            raise failure
        return 0

    ducks = plugin("ducks", register_personal_data=lambda register: register(PersonalData("ducks", no_rows, forget)))
    async with served_engine(providing(Puppet()), ducks, data=tmp_path) as (running, client):
        await scripted_schema(running)
        await chat(client, "test", "annzq", user_sub="ann")
        assert (await client.delete("/api/v1/users/ann")).json()["status"] == "done"
        assert (await client.get("/api/v1/sessions")).json()["sessions"] == []


async def test_forks_of_a_session_go_with_it_and_a_deleted_one_that_a_fork_held(tmp_path: Path) -> None:
    async with served_engine(providing(Puppet()), data=tmp_path) as (running, client):
        await scripted_schema(running)
        session_id = new_uuid()
        await chat(client, "test", marker("ann", "first"), user_sub="ann", session_id=session_id)
        forked = await client.post(f"{SESSION}/{session_id}/fork", json={})
        assert forked.status_code == 201, forked.text
        await client.delete(f"{SESSION}/{session_id}")
        assert traces(tmp_path, "ann")
        assert (await client.delete("/api/v1/users/ann")).status_code == 200
        assert traces(tmp_path, "ann") == []
        assert (await client.get("/api/v1/sessions")).json()["sessions"] == []


async def test_only_an_admin_may_and_the_audit_of_a_refusal_does_not_name_the_person(tmp_path: Path) -> None:
    async with served_engine(data=tmp_path) as (running, client):
        other = {"authorization": f"Bearer {await token(running, 'chat', 'config')}"}
        for method, path in (("DELETE", "/api/v1/users/annzq"), ("GET", "/api/v1/users/annzq/export")):
            assert (await client.request(method, path, headers=other)).status_code == 403
        entries = (await client.get("/api/v1/audit?action=auth.fail")).json()["data"]
        assert len(entries) == 2
        assert all("/users/forgotten-" in entry["resource"] for entry in entries)
    assert traces(tmp_path, "ann") == []


@pytest.mark.parametrize(
    "sub", ["auth0|ann b", "6F1C2D1E-8A42-4C39-9D7E-6A1F7F0E2B11", "https://idp/u/1", "a/b/export"]
)
async def test_a_name_may_be_percent_encoded_and_is_taken_as_it_is(sub: str, tmp_path: Path) -> None:
    async with served_engine(providing(Puppet()), data=tmp_path) as (running, client):
        await scripted_schema(running)
        await chat(client, "test", "hi", user_sub=sub)
        path = f"/api/v1/users/{quote(sub, safe='')}"
        answer = await client.get(f"{path}/export")
        assert (answer.json()["sub"], len(answer.json()["data"]["sessions"])) == (sub, 1)
        if not sub.endswith("/export"):
            assert (await client.delete(path)).json()["counts"]["sessions"] == 1
        resources = [
            entry["resource"] for entry in (await client.get("/api/v1/audit?actor_type=api_token")).json()["data"]
        ]
        assert resources
        assert all(re.fullmatch(r"\w+ /api/v1/users/forgotten-\w+(/export)?", one) for one in resources)


@pytest.mark.sqlite
async def test_an_export_that_the_disk_or_the_memory_refuses_says_so_and_leaves_no_file(tmp_path: Path) -> None:
    failures = iter([MemoryError(), disk_error()])

    def rows(conn: Connection, person: Person) -> Iterator[Any]:
        yield {}
        if failure := next(failures, None):
            raise failure

    ducks = plugin("ducks", register_personal_data=lambda register: register(PersonalData("ducks", rows, no_more)))
    async with served_engine(ducks, data=tmp_path) as (_, client):
        for words in ("memory", "disk"):
            answer = await client.get("/api/v1/users/ann/export")
            assert (answer.status_code, answer.json()["error"]) == (503, "storage"), answer.text
            assert words in answer.json()["message"]
        assert (await exported(client, "ann"))["ducks"] == [{}]
        opened = [f"{one.readlink()}" for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
        assert [one for one in opened if one.startswith(f"{tmp_path}/") and one.endswith("(deleted)")] == []


def disk_error() -> Exception:
    if ON_POSTGRESQL:
        from psycopg import errors  # which only those have who test on PostgreSQL

        return errors.DiskFull("could not extend file")
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


def no_more(conn: Connection, person: Person) -> int:
    return 0


@pytest.mark.parametrize("path", ["/api/v1/users/user:", "/api/v1/users/"])
async def test_what_is_nobodys_stays_where_no_person_is_named(path: str, tmp_path: Path) -> None:
    async with served_engine(data=tmp_path) as (_, client):
        base = (await client.post("/api/v1/knowledge-bases", json={"name": "Papers"})).json()["id"]
        files = {"file": ("all.txt", b"of all")}
        form = {"metadata": json.dumps({"user_sub": ""})}
        url = f"/api/v1/knowledge-bases/{base}/files"
        assert (await client.post(url, data=form, files=files)).status_code == 201
        answer = await client.delete(path)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
        assert (await client.get(f"{path}/export")).status_code == 400
        assert len((await client.get(url)).json()) == 1


def no_rows(conn: Connection, person: Person) -> list[Any]:
    return []
