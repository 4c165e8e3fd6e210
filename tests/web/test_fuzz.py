"""Whatever is sent to whichever route, the engine does not fail, refuses in one shape and answers in the route's."""

import json
import os
import re
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, get_args
from urllib.parse import quote, urlencode

import anyio
import httpx
import msgspec
import pytest
from bytebrew_memory import store as memory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect
from nacl.signing import SigningKey

from bytebrew.base.jwt import sign
from bytebrew.config import yaml_tree
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.route import Moment, Parameter, Route
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, chat, events_of, providing, scripted_schema, served_engine
from bytebrew.web.query import with_paging
from tests.forged import forgeries, fresh
from tests.local import key_of
from tests.mcp_double import Web
from tests.plugins.test_triggers import signed
from tests.stored import ON_POSTGRESQL, copied
from tests.tables import SCOPES, check_refusal, has_struct, installed, label, table, token_with

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))
REFUSALS = {400, 401, 403, 404, 415}
IMPORT = "/api/v1/config/import"
CLAIMS = {"sub": "local-admin", "tenant_id": ""}
SECRET = "the-secret-of-every-webhook"


class Served(NamedTuple):
    """An engine on a socket whose model says Hello, and the key that its JWTs are signed with."""

    engine: Engine
    client: httpx.AsyncClient
    http2: httpx.AsyncClient
    key: SigningKey


class World(NamedTuple):
    """What exists for one route's requests: keys by what stands before them in a path, and tokens, good and bad."""

    keys: dict[str, list[str]]
    good: list[str]
    bad: list[str]


class Shot(NamedTuple):
    """One request to a route, as bytes."""

    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@asynccontextmanager
async def serving(data: Path) -> AsyncIterator[Served]:
    """An engine in this folder."""
    model = providing(ScriptedProvider([MessageDelta(content="Hello")]))
    settings = {
        "BYTEBREW_MCP_STDIO": "off",  # what is sent must not run as a command
        "BYTEBREW_PUBLIC_URL": "https://fuzz.test",
    }
    async with served_engine(model, data=data, settings=settings) as (engine, client):
        key = key_of(data)
        async with httpx.AsyncClient(base_url=client.base_url, http1=False, http2=True, timeout=30) as http2:
            yield Served(engine, client, http2, key)


@pytest.fixture(scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Path, World]]:
    """The data folder of a stopped engine with a world in it, whose MCP server runs on: a world takes 40 requests."""
    data = tmp_path_factory.mktemp("world") / "data"
    async with Web(json=True, more_tools=[]) as mcp:
        async with serving(data) as served:
            there = await world(served, mcp, "fuzz")
        yield data, there


@pytest.fixture
async def served(made: tuple[Path, World], tmp_path: Path) -> AsyncIterator[Served]:
    """One engine for a route's every example, on a copy: what they make stays, and lists would grow else."""
    async with serving(copied(made[0], tmp_path / "data")) as served:
        yield served


@pytest.fixture
def there(made: tuple[Path, World]) -> World:
    """What exists for one route's requests."""
    return made[1]


async def world(served: Served, mcp: Web, name: str) -> World:
    """One of each thing and some that nothing else needs, for one route to use up."""
    engine, client, _, key = served
    await scripted_schema(engine, name)
    for spare in (f"{name}-2", f"{name}-3"):
        await client.post("/api/v1/models", json={"name": spare, "type": "scripted", "model_name": "script"})
        await client.post("/api/v1/agents", json={"name": spare})
    pair = {"source": name, "target": f"{name}-2"}
    relation = (await client.post(f"/api/v1/schemas/{name}/agent-relations", json=pair)).json()
    session = msgspec.json.decode((await chat(client, name, "Hi"))[-1].data)
    spans = f"/api/v1/sessions/{session['session_id']}/turns/{session['turn_id']}/spans"
    [span] = (await client.get(spans)).json()["spans"]
    response = (await client.post("/v1/responses", json={"model": name, "input": "Hi"})).json()
    weak = await token_with(engine, "chat", "agents:read", name=f"{name}-weak")
    keys = {
        "agents": [name, f"{name}-3"],
        "models": [name, f"{name}-3"],
        "schemas": [name],
        "agent-relations": [relation["id"]],
        "sessions": [session["session_id"]],
        "turns": [session["turn_id"]],
        "spans": [span["id"]],
        "tokens": [weak.id],
        "tools": [name, f"{name}-3"],
        "capabilities": ["memory", "knowledge"],
        "mcp-servers": [name, f"{name}-3"],
        "connections": [f"{name}-oauth"],
        "rate-limits": [name, f"{name}-3"],
        "budgets": [name, f"{name}-3"],
        "knowledge-bases": [name, f"{name}-3"],
        "files": ["a.txt"],
        "schedules": [name, f"{name}-3"],
        "settings": ["byok.demo", "custom.fuzz"],
        "webhooks": [name, f"{name}-3"],
        "callbacks": [name, f"{name}-3"],
        "docs": ["page.css", "page.js"],
        "versions": ["1", "2"],
        "ag-ui": [name],
        "ai-sdk": [name],
        "threads": [f"{name}-thread"],
        "runs": [f"{name}-run"],
        "responses": [response["id"]],
    }
    for trigger in keys["schedules"]:
        await client.post("/api/v1/schedules", json={"name": trigger, "cron": "0 9 * * *", "agent": name})
        await client.post("/api/v1/webhooks", json={"name": trigger, "agent": name, "secret": SECRET})
        callback = {"name": trigger, "url": "https://callbacks.test/", "events": ["task.ended"]}
        await client.post("/api/v1/callbacks", json=callback)
    tasks = [await client.post("/api/v1/tasks", json={"agent": name, "title": "t"}) for _ in range(2)]
    keys["tasks"] = [task.json()["id"] for task in tasks]
    ended = (await client.post("/api/v1/tasks", json={"agent": name, "title": "t", "require_approval": True})).json()
    await client.request("DELETE", f"/api/v1/tasks/{ended['id']}", json={})
    deliveries = (await client.get("/api/v1/callbacks/deliveries")).json()["data"]
    keys["deliveries"] = [delivery["id"] for delivery in deliveries]
    if not ON_POSTGRESQL:  # whose own means make backups
        keys["backups"] = [(await client.post("/api/v1/backups")).json()["name"]]
    replay = {"sessions": keys["sessions"], "agent": name}
    keys["ai-sdk"] = keys["schemas"]
    keys["replays"] = [(await client.post("/api/v1/replays", json=replay)).json()["id"]]
    for rule in keys["rate-limits"]:
        await client.post("/api/v1/budgets", json={"name": rule, "tokens": 10**9, "window": "day"})
        limit = {"name": rule, "key_header": "X-Fuzz", "tiers": {"all": {"unlimited": True}}}
        await client.post("/api/v1/rate-limits", json=limit)
    mcp.how["more_tools"].append({"name": name, "inputSchema": {}})
    await client.post("/api/v1/mcp-servers", json={"name": name, "url": mcp.url})
    oauth = {"name": f"{name}-oauth", "url": mcp.url, "auth_type": "oauth2"}
    await client.post("/api/v1/mcp-servers", json=oauth)
    await client.post("/api/v1/mcp-servers", json={"name": f"{name}-3", "url": mcp.url, "enabled": False})
    for tool in (name, f"{name}-3"):
        await client.post("/api/v1/tools", json={"name": tool, "url": "http://127.0.0.1:1/"})
    for base in keys["knowledge-bases"]:
        await client.post("/api/v1/knowledge-bases", json={"name": base})
        await client.post(f"/api/v1/knowledge-bases/{base}/files", files={"file": ("a.txt", b"Apples")})
    await client.post(f"/api/v1/knowledge-bases/{name}/agents/{name}")
    for agent in keys["agents"]:
        for type in keys["capabilities"]:
            await client.post(f"/api/v1/agents/{agent}/capabilities", json={"type": type})
    schema = (await client.get(f"/api/v1/schemas/{name}")).json()
    at = memory.Place(schema["id"], name, "", "", None, memory.MemoryConfig(), None)
    await engine.db.write(memory.store, at, "Likes fuzz", {}, None)
    keys["memory"] = [entry.id for entry in await engine.db.read(memory.entries, name, "", 1)]
    admin = await token_with(engine, "admin", name=f"{name}-admin")
    said = {"id": "m", "role": "user", "content": "Hi"}
    run = {"threadId": f"{name}-thread", "runId": f"{name}-run", "messages": [said]}
    bearer_of_admin = {"Authorization": f"Bearer {admin.token}"}  # a run is found for its own caller alone
    assert (await client.post(f"/ag-ui/{name}", json=run, headers=bearer_of_admin)).status_code == 200
    page = await token_with(engine, "public", name=f"{name}-page")
    user = sign(fresh({"sub": name, "scope": "chat"}), key)
    return World(
        keys,
        [admin.token, page.token, sign(fresh({**CLAIMS, "iat": int(time.time()), "sid": name}), key)],
        [weak.token, user, *forgeries(CLAIMS, key).values()],
    )


# What may be sent.

ANY_TEXT = st.text(st.characters(), max_size=40)
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
ODD_TEXT = st.sampled_from(["", "\0", "\ud800", "\u2028\r\n", "💥", "'; --", "../..", "${HOME}", "{{x}}", "x" * 3000])
STRINGS = ANY_TEXT | ODD_TEXT
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**400, -0.0])
LEAVES = st.none() | st.booleans() | NUMBERS | STRINGS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3), max_leaves=8
)
NO_JSON = st.binary(max_size=60) | st.sampled_from(
    [
        b"",
        b"{",
        b"null",
        b"\xef\xbb\xbf{}",
        b'{"a": 1, "a": 2}',
        b"[" * 500,
        b'{"a":' * 99 + b"1" + b"}" * 99,
        b'{"message": "\xff"}',
    ]
)
HEADER_NAMES = st.sampled_from(
    [
        b"content-type",
        b"content-encoding",
        b"accept",
        b"accept-encoding",
        b"authorization",
        b"cookie",
        b"idempotency-key",
        b"if-match",
        b"if-none-match",
        b"last-event-id",
        b"origin",
        b"range",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-request-id",
    ]
) | st.from_regex(rb"[a-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True).map(lambda name: b"x-" + name)
HEADER_VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_categories=["Cc"])).map(
    lambda text: text.encode("latin-1")
) | st.sampled_from([b"", b"0", b"-1", b"9" * 30, b"*/*", b"text/plain", b"application/json; charset=utf-16", b"https"])
HOSTS = st.sampled_from([b"", b"elsewhere", b"elsewhere:80", b"127.0.0.1:0", b"[::1]", b"a%20b", b"'*'"])
"""Values of Host that the grammar has; the server refuses others itself, without a body."""
QUERY_NAMES = st.sampled_from(
    ["after", "agent", "follow", "force", "from", "limit", "page", "per_page", "schema", "status", "to", "user_sub"]
)
QUERY_VALUES = STRINGS | NUMBERS.map(str) | st.sampled_from(["false", "2026-03-01", "9999-12-31", "0000-00-00", "²"])
RAW_PARTS = st.sampled_from(["%", "%00", "%ff", "%2e%2e", "..%2f..", "%ed%a0%80", "0", "-1", "9" * 30, "~", ";a=b"])

PARTS = st.builds(
    lambda field, name, content: (
        b'--x\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n%s\r\n' % (field, name, content)
    ),
    st.sampled_from([b"file", b"file", b"file", b"metadata", b"\xff"]),
    st.sampled_from([b"b.txt", b"c.md", b"d.csv", b"e.html", b"f.json", b"g.pdf", b"../h.docx", b"\xff.txt", b""]),
    st.sampled_from([b"{}", b"%PDF-1.4", b"PK\x03\x04", b"a,b\r\n1", b"<p>"]) | st.binary(max_size=40),
)
"""Parts of a form with the boundary x."""
TEXT_PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="b.txt"\r\n\r\n- %s\r\n'
WORDS = {
    "type": st.sampled_from(["scripted", "demo", "memory", "http"]),
    "scopes_mask": st.sampled_from([0, 1, 16]),
    "expires_at": st.sampled_from([None, "2099-01-31T00:00:00Z", "2099-01-31T00:00:00+02:00"]),
    "scopes": st.lists(st.sampled_from(sorted(SCOPES)), max_size=3),
    "cron": st.sampled_from(["0 9 * * *", "*/5 * * * MON"]),
    "timezone": st.sampled_from(["UTC", "Europe/Berlin"]),
}
"""Values of fields whose type alone does not tell which words are known."""
PASSING = (
    *("/oauth/callback", "/respond", "/queue/{turn_id}", "/approvals/{id}", "/turns/causes/{key}/mute"),
    *(("/backups/{name}",) if ON_POSTGRESQL else ()),
)
"""Routes about what is there only while a turn or an authorization waits, once a turn has failed, or on SQLite: other
tests go further."""
CALLBACK = "/api/v1/oauth/callback"
NEEDED = {
    "/api/v1/rate-limits/usage": "?key_header=X-Fuzz&key_value=1",
    "/api/v1/knowledge-bases/{id}/search": "?q=apples",
    "/api/v1/schedules/preview": "?cron=0+9+*+*+*",
}
"""Query strings without which a route refuses everybody."""


def sound(route: Route, keys: dict[str, list[str]]) -> dict[str, Any]:
    """Fields that a body of the route seldom gets right by chance."""
    match route.path:
        case "/api/v1/auth/tokens":
            return {"scopes": ["chat"], "schemas": None, "expires_at": None}
        case "/api/v1/auth/tickets":
            return {"path": "/api/v1/events"}
        case "/api/v1/agents/{name}/capabilities" | "/api/v1/agents/{name}/capabilities/{id}":
            return {"type": "memory", "config": {}}
        case "/api/v1/rate-limits":
            return {"tiers": {"all": {"unlimited": True}}}
        case "/api/v1/tools":
            return {"url": "http://127.0.0.1:1/"}
        case "/api/v1/tasks":
            links: dict[str, Any] = {"blocked_by": [], "parent_task_id": None, "callback_url": ""}
            return {"agent": keys["agents"][0], "schema": keys["schemas"][0], **links}
        case "/api/v1/sessions/{id}/edit":
            plain: dict[str, Any] = {"attachments": [], "headers": {}, "response_format": None, "client_tools": []}
            return {"turn_id": keys["turns"][0], "session_id": None, "message": "Hi", **plain}
        case "/ag-ui/{schema}":
            return {"messages": [{"id": "m", "role": "user", "content": "Hi"}], "tools": None, "resume": None}
        case "/ai-sdk/{schema}/chat":
            message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}
            return {"messages": [message], "trigger": "submit-message", "messageId": None, "tools": {}}
        case "/v1/chat/completions":
            chosen = dict.fromkeys(
                ("tools", "tool_choice", "response_format", "n", "logprobs", "modalities", "functions")
            )
            return {"model": keys["schemas"][0], "messages": [{"role": "user", "content": "Hi"}], **chosen}
        case "/v1/responses":
            limits: dict[str, Any] = {"tools": None, "tool_choice": None, "text": None, "include": None}
            unknown = dict.fromkeys(("conversation", "prompt", "previous_response_id", "top_logprobs", "background"))
            return {"model": keys["schemas"][0], "input": "Hi", **limits, **unknown}
        case "/api/v1/callbacks":
            return {"url": "https://callbacks.test/", "events": ["task.ended"], "schema": "", "secret": ""}
        case "/api/v1/replays":
            return {"sessions": keys["sessions"], "agent": keys["agents"][0], "model": None}
    return {}


def fitting(kind: inspect.Type, keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Values of a type, where a text is often the key of something that exists."""
    match kind:
        case inspect.Metadata():
            return fitting(kind.type, keys)
        case inspect.StructType():
            required: dict[str, st.SearchStrategy[Any]] = {}
            optional: dict[str, st.SearchStrategy[Any]] = {}
            for field in kind.fields:
                name = field.encode_name
                values = WORDS[name] if name in WORDS else fitting(field.type, keys)
                (required if field.required else optional)[name] = values
            return st.fixed_dictionaries(required, optional=optional)
        case inspect.StrType() if kind.pattern is not None:
            new = st.from_regex(kind.pattern)
            return st.one_of(keys, new, new)
        case inspect.StrType():
            return keys | st.text(LETTERS, min_size=kind.min_length or 0, max_size=min(kind.max_length or 40, 40))
        case inspect.IntType():
            least = kind.ge if kind.ge is not None else kind.gt
            return st.integers(least, kind.le if kind.le is not None else kind.lt)
        case inspect.FloatType():
            return st.floats(kind.ge, kind.le, allow_nan=False, allow_infinity=False)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
        case inspect.VarTupleType() | inspect.ListType() | inspect.SetType():
            return st.lists(fitting(kind.item_type, keys), min_size=kind.min_length or 0, max_size=3)
        case inspect.DictType():
            return st.dictionaries(st.text(max_size=10), fitting(kind.value_type, keys), max_size=3)
        case inspect.UnionType():
            return st.one_of([fitting(one, keys) for one in kind.types])
        case inspect.BytesType():
            return st.binary(max_size=40).map(lambda raw: b64encode(raw).decode())
        case inspect.AnyType() | inspect.RawType():
            return VALUES
    raise AssertionError(f"no values for {kind}; add some")


def bodies(
    route: Route, keys: st.SearchStrategy[str], there: World
) -> tuple[st.SearchStrategy[bytes], st.SearchStrategy[bytes]]:
    """Bodies that fit; and with them bodies with one field that may not, any JSON, and what is no JSON."""
    if route.path == IMPORT:
        sections = st.sampled_from(["models", "agents", "schemas", "settings", "tools", "mcp_servers", "rate_limits"])
        items = st.dictionaries(keys | STRINGS, VALUES, max_size=3)
        fits = st.sampled_from([b"", b"models: {}", b"agents: {}\nschemas: {}"])
        return fits, fits | st.dictionaries(sections | STRINGS, items | VALUES, max_size=3).map(encoded) | NO_JSON
    if route.stream_body:
        end = b"--x--\r\n"
        fits = st.binary(max_size=60).map(lambda text: TEXT_PART % text + end)
        return fits, fits | st.lists(PARTS, max_size=3).map(lambda parts: b"".join(parts) + end) | NO_JSON
    if not has_struct(route):
        return st.just(b""), st.just(b"") | VALUES.map(encoded) | NO_JSON
    kind = inspect.type_info(route.body)
    assert isinstance(kind, inspect.StructType)
    good = fitting(kind, keys)
    if fields := sound(route, there.keys):
        good = good | good.map(lambda body: body | fields)
    names = st.sampled_from([*(field.encode_name for field in kind.fields), *route.aliases]) | STRINGS
    mutated = st.builds(lambda body, name, value: {**body, name: value}, good, names, keys | VALUES)
    fits = good.map(encoded)
    return fits, st.one_of(fits, mutated.map(encoded), VALUES.map(encoded), NO_JSON)


def encoded(value: Any) -> bytes:
    """JSON, with NaN and lone surrogates where the value has them."""
    return json.dumps(value).encode()


def path_parts(route: Route, there: World) -> Iterator[tuple[str, list[str]]]:
    """The path's pieces in turn, each with the keys of existing things that may follow it."""
    for piece in re.split(r"\{\w+(?::\w+)?\}", route.path):
        collection = piece.rstrip("/").rpartition("/")[2]
        yield piece, there.keys.get(collection, ["nothing"]) if piece.endswith("/") else [""]


def shots(route: Route, there: World) -> st.SearchStrategy[Shot]:
    """Requests to one route: well aimed, well aimed but for the body, or with anything anywhere."""
    every = [key for keys in there.keys.values() for key in keys]
    keys = st.sampled_from(every)
    parts = list(path_parts(route, there))
    fits, body = bodies(route, keys, there)
    needed = NEEDED.get(route.path, "")
    aimed = st.tuples(*(st.sampled_from(keys).map(piece.__add__) for piece, keys in parts), st.just(needed)).map(
        "".join
    )
    good = st.sampled_from(there.good).map(bearer)
    odd = st.sampled_from(every) | STRINGS.map(lambda text: quote(text, "", errors="surrogatepass")) | RAW_PARTS
    strange = st.tuples(*((odd if keys != [""] else st.just("")).map(piece.__add__) for piece, keys in parts))
    pairs = st.lists(st.tuples(QUERY_NAMES | STRINGS, QUERY_VALUES | keys), min_size=1, max_size=3)
    query = pairs.map(lambda pairs: "?" + urlencode(pairs, errors="surrogatepass"))
    path = st.builds("".join, st.tuples(aimed | strange.map("".join), st.just("") | query))
    token = st.sampled_from([*there.good * 10, *there.bad, "~"]).map(bearer)
    header = st.tuples(HEADER_NAMES, HEADER_VALUES) | st.tuples(st.just(b"host"), HOSTS)
    more = st.lists(header, max_size=2, unique_by=lambda header: header[0])
    return st.one_of(
        st.builds(Shot, aimed, st.tuples(good), fits),
        st.builds(Shot, aimed, st.tuples(good), body),
        st.builds(Shot, path, st.tuples(token, more).map(flat), body),
    )


def bearer(token: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {token}".encode()


def flat(headers: tuple[tuple[bytes, bytes], list[tuple[bytes, bytes]]]) -> tuple[tuple[bytes, bytes], ...]:
    return headers[0], *headers[1]


async def check(client: httpx.AsyncClient, route: Route, shot: Shot) -> int:
    """Sends a request and judges what comes back; the status."""
    headers = shot.headers
    if all(name != b"content-type" for name, _ in headers):
        uploads = route.stream_body and route.path != IMPORT
        kind = b"multipart/form-data; boundary=x" if uploads else b"application/json"
        headers = (*headers, (b"content-type", kind))
    if label(route) == "POST /api/v1/webhooks/{name}":
        headers = (
            *headers,
            *((k.encode(), v.encode()) for k, v in signed(shot.body, datetime.now(UTC), SECRET).items()),
        )
    url = client.base_url.copy_with(raw_path=shot.path.encode())
    request = client.build_request(route.method, url, content=shot.body)
    given = {name for name, _ in headers}
    kept = [(name, value) for name, value in request.headers.raw if name.lower() not in given]
    request.headers = httpx.Headers([*kept, *headers])
    response = await client.send(request, stream=True)
    try:
        if response.headers.get("content-type") == "text/event-stream":
            assert response.status_code == 200
            if route.face is not None:  # a stream of some protocols has no end
                with anyio.move_on_after(2):
                    assert (await response.aread()).endswith(b"\n\n")
            elif route.method == "GET":  # it follows the session for ever
                assert (await anext(response.aiter_bytes())).startswith(b": ok\n\n")
            else:
                assert [event.event async for event in events_of(response)][-1] in ("done", "error")
            return 200
        raw = await response.aread()
    finally:
        await response.aclose()
    if response.status_code >= 400:
        elsewhere = b'"There is nothing at ' in raw  # an empty part of the path is no route's
        if response.headers.get("content-type", "").startswith("text/html"):
            assert route.path == CALLBACK, "only people who are led back see a page"
            return response.status_code
        check_refusal(response, f"{label(route)} {shot}", None if elsewhere else route.face)
    elif response.status_code == 204 or (response.status_code == 202 and route.face is not None):
        assert raw == b""
    elif route.path == "/metrics":
        assert raw.startswith(b"# HELP ")
    elif route.path in ("/docs", "/sign-in"):
        assert raw.startswith(b"<!doctype html>")
    else:
        assert 200 <= response.status_code < 300
        if response.headers["content-type"].startswith(("text/css", "text/javascript")):
            return response.status_code
        if response.headers["content-type"] == "application/x-yaml":
            assert not yaml_tree.read(raw)[1]
            return response.status_code
        if response.headers["content-type"] == "application/x-ndjson":
            msgspec.json.Decoder().decode_lines(raw)
            return response.status_code
        msgspec.json.decode(raw, type=Any if route.answer is None else with_paging(route).answer)
    return response.status_code


async def test_the_routes_that_are_tested_are_those_that_are_served(served: Served) -> None:
    assert {label(route) for route in table(served.engine)} == {label(route) for route in installed()}


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # the engine does, in another thread meanwhile
@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # for the text of that warning
@pytest.mark.parametrize("name", [label(route) for route in installed()])
async def test_no_request_makes_the_engine_fail(
    served: Served, there: World, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    route = next(route for route in table(served.engine) if label(route) == name)
    seen: set[int] = set()

    async def ask(shot: Shot, http2: bool) -> None:
        seen.add(await check(served.http2 if http2 else served.client, route, shot))

    def send(examples: int) -> None:
        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(shots(route, there), st.booleans())
        def run(shot: Shot, http2: bool) -> None:
            anyio.from_thread.run(ask, shot, http2)

        run()

    for examples in (EXAMPLES, 4 * EXAMPLES):
        await anyio.to_thread.run_sync(send, examples)
        if seen - REFUSALS or route.path.endswith(PASSING):
            break
    if not route.path.endswith(PASSING):
        assert seen - REFUSALS, f"nothing got further than {seen}"
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


QUERIES = [
    route for route in map(with_paging, installed()) if any(isinstance(q, Parameter) for q in route.query.values())
]
TEXTS = ["", "0", "1", "3", "-1", "0.5", "1.5", "1e3", "true", "false", "null", "nan", "{}", "x", "2026-03-01"]


def reads(text: str, kind: Any) -> bool:
    """Whether a text of the query string is of a documented type: as itself, or as the JSON that it spells."""
    if kind is Moment:
        return text in ("", "2026-03-01")
    for spelt in (encoded(text), text.encode()):
        with suppress(msgspec.DecodeError):
            msgspec.json.decode(spelt, type=kind)
            return True
    return False


@pytest.mark.parametrize("name", [label(route) for route in QUERIES])
async def test_a_query_is_refused_just_where_its_documented_type_refuses_it(
    served: Served, there: World, name: str
) -> None:
    route = with_paging(next(route for route in table(served.engine) if label(route) == name))
    path = "".join(piece + keys[0] for piece, keys in path_parts(route, there)) + NEEDED.get(route.path, "?")
    for at, parameter in route.query.items():
        if not isinstance(parameter, Parameter) or parameter.required:
            continue
        literals = [one for kind in get_args(parameter.type) for one in (kind, *get_args(kind)) if isinstance(one, str)]
        for text in (*TEXTS, *literals):
            shot = Shot(f"{path}&{urlencode({at: text})}", (bearer(there.good[0]),), b'{"settings": {}}')
            status = await check(served.client, route, shot)
            assert (status == 400) is not reads(text, parameter.type), f"{at}={text} -> {status}"
