"""One shape for every refusal, whatever the status and whoever refuses."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import pytest

from bytebrew.base.errors import (
    BootError,
    Detail,
    Draining,
    EngineError,
    InvalidRequest,
    ProviderError,
    ToolError,
    TurnError,
    Unauthorized,
)
from bytebrew.contract.route import Request, Route
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, ScriptedProvider, plugin, providing, scripted_schema, served_engine
from bytebrew.web import admission
from tests.tables import check_refusal, has_struct, label, path_of, sample, table, token_with

LIMIT = 4096
AGENTS = "/api/v1/agents"
JSON = {"content-type": "application/json"}


class Served(NamedTuple):
    """An engine that takes bodies of 4 KiB, and a client with the admin token."""

    engine: Engine
    client: httpx.AsyncClient


@pytest.fixture(scope="module")
async def served() -> AsyncIterator[Served]:
    """One engine for all of these."""
    settings = {"BYTEBREW_MAX_BODY_BYTES": str(LIMIT)}
    async with served_engine(providing(ScriptedProvider([])), settings=settings) as (engine, client):
        await scripted_schema(engine)
        yield Served(engine, client)


class Raw(NamedTuple):
    """An answer as it came over the socket."""

    status: int
    head: bytes
    body: bytes


async def raw(client: httpx.AsyncClient, request: bytes, *, end: bool = True) -> Raw:
    """The answer to bytes that an HTTP client would not send, or no answer (status 0), once the server has closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    try:
        async with asyncio.timeout(5):
            writer.write(request)
            if end:
                writer.write_eof()
            answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return Raw(int(head.split(b" ")[1]) if head else 0, head, body)


def lines(start: str, *headers: str, body: bytes = b"") -> bytes:
    """A request that ends its connection."""
    given = [start, "Host: 127.0.0.1", f"Authorization: Bearer {ADMIN}", "Connection: close", *headers]
    return "\r\n".join([*given, "", ""]).encode("latin-1") + body


def check_raw(answer: Raw, status: int) -> dict[str, Any]:
    assert answer.status == status, answer
    headers = [line.split(b": ", 1) for line in answer.head.split(b"\r\n")[1:]]
    response = httpx.Response(answer.status, headers=[(name, value) for name, value in headers], content=answer.body)
    return check_refusal(response)


async def refused(request: Any, status: int) -> dict[str, Any]:
    response = await request
    assert response.status_code == status, response.text
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-request-id"]
    return check_refusal(response)


# Each status that the decisions name.


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"1",
        b"nonsense",
        b"\xff",
        b'"\\ud800"',
        b'{"name": "a"} {"name": "b"}',
        b"\xef\xbb\xbf{}",
    ],
)
async def test_400_for_what_is_no_json_object(served: Served, body: bytes) -> None:
    said = await refused(served.client.post(AGENTS, content=body, headers=JSON), 400)
    assert said["error"] == "invalid_request"
    assert said["details"]


async def test_400_names_the_field(served: Served) -> None:
    said = await refused(served.client.post(AGENTS, json={"name": "a", "max_steps": "many"}), 400)
    assert [detail["path"] for detail in said["details"]] == ["$.max_steps"]
    said = await refused(served.client.post(AGENTS, json={"name": "a", "tools": ["x", 5]}), 400)
    assert [detail["path"] for detail in said["details"]] == ["$.tools[1]"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (
            AGENTS,
            {"name": "a", "lifecycle": "ever"},
            "$.lifecycle: Invalid enum value 'ever'; known are persistent, spawn",
        ),
        (
            "/api/v1/schemas/demo/chat",
            {"messages": "Hi"},
            "$.messages: Object contains unknown field `messages`; known are message, attachments, session_id, stream, "
            "on_busy, subagents, headers, user_sub, response_format, client_tools",
        ),
        (
            "/api/v1/schemas",
            {"name": "a", "relations": [{"source": "a", "target": "b", "note": "c"}]},
            "$.relations[0].note: Object contains unknown field `note`; known are source, target, config",
        ),
        (
            "/api/v1/rate-limits",
            {"name": "a", "tiers": {"all": {"request": 1}}},
            "$.tiers[...].request: Object contains unknown field `request`; known are requests, window, unlimited",
        ),
        (
            "/api/v1/tasks",
            {"agent": "a", "title": "t", "priority": 7},
            "$.priority: Invalid enum value 7; known are 0, 1, 2",
        ),
    ],
)
async def test_400_says_which_fields_and_words_are_known(
    served: Served, path: str, body: dict[str, Any], words: str
) -> None:
    said = await refused(served.client.post(path, json=body), 400)
    assert said["message"] == words
    assert words.startswith(f"{said['details'][0]['path']}: ")


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        (AGENTS, {"name": "a", "model_id": 2}, "model_id"),
        (AGENTS, {"name": "a", "system_prompt": 2}, "system_prompt"),
        ("/api/v1/schemas", {"name": "a", "entry_agent_id": None}, "entry_agent_id"),
        ("/api/v1/tasks", {"agent_name": "", "title": "t"}, "agent_name"),
    ],
)
async def test_400_names_the_field_as_it_was_sent(served: Served, path: str, body: dict[str, Any], name: str) -> None:
    said = await refused(served.client.post(path, json=body), 400)
    assert [detail["path"] for detail in said["details"]] == [f"$.{name}"]
    assert said["message"].startswith(f"$.{name}: Expected ")


async def test_400_names_the_header(served: Served) -> None:
    await served.client.put("/api/v1/schemas/demo", json={"chat_enabled": True})
    await served.client.post("/api/v1/schemas/demo/chat", json={"message": "Hi", "stream": False})
    session = (await served.client.get("/api/v1/sessions")).json()["data"][0]["id"]
    url = f"/api/v1/sessions/{session}/events"
    said = await refused(served.client.get(url, headers={"Last-Event-ID": "x"}), 400)
    assert said["message"] == "Last-Event-ID is the id of an event, such as 17"
    assert [detail["path"] for detail in said["details"]] == ["$.headers.Last-Event-ID"]


async def test_401_with_a_challenge(served: Served) -> None:
    response = await served.client.get(AGENTS, headers={"authorization": "Bearer no"})
    assert "make an API token (bytebrew token create)" in response.json()["message"]
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith('Bearer realm="bytebrew"')
    assert check_refusal(response)["error"] == "unauthorized"


async def test_403_for_a_scope_and_for_a_chat_that_is_off(served: Served) -> None:
    chat = await token_with(served.engine, "chat", name="403")
    headers = {"authorization": f"Bearer {chat.token}"}
    assert (await refused(served.client.get(AGENTS, headers=headers), 403))["error"] == "forbidden"
    await served.client.put("/api/v1/schemas/demo", json={"chat_enabled": False})
    said = await refused(served.client.post("/api/v1/schemas/demo/chat", json={"message": "Hi"}), 403)
    assert said["error"] == "chat_disabled"


@pytest.mark.parametrize(
    "path",
    ["/api", "/api/v1", "/api/v1/", "/api/v1/nothing", f"{AGENTS}/", f"{AGENTS}/nobody", "//", "/favicon.ico"],
)
async def test_404_for_what_is_not_there(served: Served, path: str) -> None:
    url = served.client.base_url.copy_with(raw_path=path.encode())
    assert (await refused(served.client.get(url), 404))["error"] == "not_found"


async def test_405_for_every_other_method_with_those_that_are_allowed(served: Served) -> None:
    methods = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"}
    by_path: dict[str, set[str]] = {}
    for route in table(served.engine):
        by_path.setdefault(route.path, set()).add(route.method)
    for route in table(served.engine):
        for method in methods - by_path[route.path]:
            response = await served.client.request(method, path_of(route))
            if response.status_code == 404:  # a longer path of another method has this form too
                continue
            assert response.status_code == 405, f"{method} {route.path}"
            body = check_refusal(response, label(route), route.face)
            assert route.face is not None or body["error"] == "method_not_allowed"
            assert response.headers["allow"] == ", ".join(sorted(by_path[route.path]))


async def test_408_for_a_body_that_does_not_come(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "BODY_SECONDS", 0.1)
    late = lines(f"POST {AGENTS} HTTP/1.1", "Content-Type: application/json", "Content-Length: 10", body=b"{")
    assert check_raw(await raw(served.client, late, end=False), 408)["error"] == "request_timeout"


async def test_408_for_a_body_that_comes_a_byte_at_a_time(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "BODY_SECONDS", 0.1)
    monkeypatch.setattr(admission, "LATE_SECONDS", 0.5)
    head = lines(f"POST {AGENTS} HTTP/1.1", "Content-Type: application/json", "Content-Length: 1000")
    reader, writer = await asyncio.open_connection("127.0.0.1", served.client.base_url.port)
    with closing(writer):
        writer.write(head)
        answer = asyncio.create_task(reader.readline())
        async with asyncio.timeout(5):
            while not answer.done():
                writer.write(b" ")
                await asyncio.sleep(0.05)
        assert answer.result().startswith(b"HTTP/1.1 408 ")


async def test_409_for_a_name_that_is_taken_and_for_what_is_in_use(served: Served) -> None:
    assert (await refused(served.client.post(AGENTS, json={"name": "test"}), 409))["error"] == "conflict"
    said = await refused(served.client.delete("/api/v1/models/test"), 409)
    assert said["details"] == [{"path": "$.agents", "message": "test"}]


async def test_413_for_a_body_that_is_announced_or_turns_out_too_large(served: Served) -> None:
    large = b'{"name": "%s"}' % (b"a" * LIMIT)

    async def pieces() -> AsyncIterator[bytes]:
        yield large

    announced = await refused(served.client.post(AGENTS, content=large, headers=JSON), 413)
    chunked = await refused(served.client.post(AGENTS, content=pieces(), headers=JSON), 413)
    assert announced == chunked
    assert announced["error"] == "payload_too_large"
    assert str(LIMIT) in announced["message"]
    unsent = lines(f"POST {AGENTS} HTTP/1.1", "Content-Length: 99999999999999999999")
    assert check_raw(await raw(served.client, unsent, end=False), 413) == announced


async def test_a_body_at_the_limit_is_read(served: Served) -> None:
    body = b'{"name": "limit"' + b" " * (LIMIT - 17) + b"}"
    assert len(body) == LIMIT
    assert (await served.client.post(AGENTS, content=body, headers=JSON)).status_code == 201
    await refused(served.client.post(AGENTS, content=body + b" ", headers=JSON), 413)


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "json",
        "",
    ],
)
async def test_415_for_what_does_not_say_that_it_is_json(served: Served, kind: str) -> None:
    for route in table(served.engine):
        if has_struct(route):
            response = await served.client.request(
                route.method, path_of(route), content=json.dumps(sample(route.body)), headers={"content-type": kind}
            )
            assert response.status_code == 415, label(route)
            said = check_refusal(response, label(route), route.face)
            assert route.face is not None or said["error"] == "unsupported_media_type"


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/problem+json"])
async def test_json_may_be_announced_in_several_ways(served: Served, kind: str) -> None:
    name = f"{len(kind)}-ways"
    response = await served.client.post(AGENTS, content=json.dumps({"name": name}), headers={"content-type": kind})
    assert response.status_code == 201


async def test_two_content_types_are_none(served: Served) -> None:
    headers = [("content-type", "application/json"), ("content-type", "text/plain")]
    await refused(served.client.post(AGENTS, content=b'{"name": "two"}', headers=headers), 415)


async def test_422_for_what_cannot_mean_what_it_says(served: Served) -> None:
    said = await refused(served.client.post("/api/v1/schemas", json={"name": "s", "entry_agent": "nobody"}), 422)
    assert said["error"] == "unprocessable"
    assert [detail["path"] for detail in said["details"]] == ["$.entry_agent"]


async def test_503_while_the_engine_drains(served: Served) -> None:
    served.engine.runner.draining = True
    try:
        for route in table(served.engine):
            if route.scope is not None:
                response = await served.client.request(route.method, path_of(route))
                assert response.status_code == 503, label(route)
                said = check_refusal(response, label(route), route.face)
                assert route.face is not None or said["error"] == "draining"
                assert int(response.headers["retry-after"]) > 0
    finally:
        served.engine.runner.draining = False


async def test_500_tells_nothing_but_where_to_look(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: Request[None]) -> None:
        raise RuntimeError("the password is hunter2")

    def register_routes(register: Any) -> None:
        register(Route(method="GET", path="/api/v1/fail", scope=None, run=fail, summary="Fails"))

    async with served_engine(plugin(register_routes=register_routes)) as (_, client):
        response = await client.get("/api/v1/fail")
    assert response.status_code == 500
    assert response.json() == {"error": "internal_error", "message": "The engine failed; its log has the trace"}
    assert "RuntimeError" in caplog.text


async def test_a_turn_that_fails_has_the_status_of_its_failure(served: Served) -> None:
    provider = ScriptedProvider([ProviderError("No such key", code="model_auth")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        response = await client.post("/api/v1/schemas/test/chat", json={"message": "Hi", "stream": False})
    assert response.status_code == 502
    body = response.json()
    assert body.keys() == {"error", "message", "session_id", "turn_id"}
    assert (body["error"], body["message"]) == ("model_auth", "No such key")


def subclasses(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


def test_every_error_has_a_status_and_a_code_of_its_own() -> None:
    kinds = [kind for kind in subclasses(EngineError) if kind.__module__ == "bytebrew.base.errors"]
    for kind in kinds:
        assert 400 <= kind.status < 600  # type: ignore[attr-defined]
    codes = [vars(kind)["code"] for kind in kinds if kind is not EngineError and "code" in vars(kind)]
    assert len(codes) == len(set(codes))
    assert not issubclass(BootError, EngineError)
    assert not issubclass(ToolError, EngineError)


def test_an_error_carries_its_details_and_headers() -> None:
    error = InvalidRequest("Wrong", details=[Detail("$.a", "is wrong")])
    assert error.body() == {"error": "invalid_request", "message": "Wrong", "details": (Detail("$.a", "is wrong"),)}
    assert InvalidRequest("Wrong").body() == {"error": "invalid_request", "message": "Wrong"}
    assert Unauthorized(missing=True).headers == {"WWW-Authenticate": 'Bearer realm="bytebrew"'}
    assert Draining().headers == {"Retry-After": "5"}
    assert TurnError("Gone", code="gone").code == "gone"


# Fields.


async def test_an_unknown_field_is_named_on_every_route(served: Served) -> None:
    for route in table(served.engine):
        if has_struct(route) and route.face is None:  # clients of other protocols send more than a face reads
            body = {**sample(route.body), "no_such_field": 1}
            response = await served.client.request(route.method, path_of(route), json=body)
            assert response.status_code == 400, label(route)
            said = check_refusal(response)
            assert "no_such_field" in said["message"], label(route)
            assert said["details"][0]["path"] == "$.no_such_field", label(route)


async def test_a_missing_field_is_named_on_every_route(served: Served) -> None:
    for route in table(served.engine):
        if has_struct(route) and (required := sample(route.body)):
            for name in required:
                body = {key: value for key, value in required.items() if key != name}
                response = await served.client.request(route.method, path_of(route), json=body)
                assert response.status_code == 400, label(route)
                said = check_refusal(response, label(route), route.face)
                assert route.face is not None or any(detail["path"].startswith("$.") for detail in said["details"])


async def test_a_long_name_is_not_echoed_at_length(served: Served) -> None:
    for name in ("x" * 3000, "`" * 3000, "a` - at `$.b", "\n\1\u2028", "💥" * 700):
        said = await refused(served.client.post(AGENTS, json={"name": "a", name: 1}), 400)
        assert len(said["message"]) < 700
        await refused(served.client.post(AGENTS, json={"name": "a", "lifecycle": name}), 400)
        await refused(served.client.get(f"{AGENTS}/{quote(name)}"), 404)


async def test_a_large_body_has_no_more_values_than_a_small_one_may_have(served: Served) -> None:
    """A value takes many times its bytes in memory, and what carries files or a session may be large."""
    chat = "/api/v1/schemas/demo/chat"
    many: list[Any] = [{}] * 600_000
    await served.client.put("/api/v1/schemas/demo", json={"chat_enabled": True})
    said = await served.client.post(chat, json={"message": "x," * 500_000, "stream": False})
    assert said.status_code == 200
    url = f"/api/v1/sessions/{said.json()['session_id']}"
    for method, path, body in (
        ("POST", chat, {"message": {"form": {"one": many}}}),
        ("PUT", url, {"title": "t", "messages": many}),
    ):
        refusal = await refused(served.client.request(method, path, json=body), 413)
        assert [detail["path"] for detail in refusal["details"]] == ["$"]


async def test_brackets_nest_a_hundred_deep_and_no_deeper(served: Served) -> None:
    """What is taken in must fit into every answer that carries it."""
    await served.client.post(AGENTS, json={"name": "deep"})
    url = "/api/v1/schemas/test/agent-relations"

    def body(depth: int) -> bytes:
        inner = b'{"a": "]]]\\"]]]", "b": ' * depth + b"1" + b"}" * depth
        return b'{"source": "test", "target": "deep", "config": %s}' % inner

    await refused(served.client.post(url, content=body(100), headers=JSON), 400)
    made = await served.client.post(url, content=body(99), headers=JSON)
    assert made.status_code == 201
    for path in ("/api/v1/schemas", "/api/v1/schemas/test", url, f"{url}/{made.json()['id']}"):
        assert (await served.client.get(path)).status_code == 200
    await served.client.delete(f"{url}/{made.json()['id']}")


async def test_brackets_without_end_are_refused_at_once(served: Served) -> None:
    for text in (
        b"[" * LIMIT,
        b'{"a":' * 800,
        b'["' * 2000,
        b"[" * 101 + b'"' + b'\\"' * 1900,
        b"[]" * 2000,
        b"]" * LIMIT,
    ):
        await refused(served.client.post(AGENTS, content=text, headers=JSON), 400)


# What only a socket can say.


async def test_an_upgrade_to_a_websocket_is_refused(served: Served) -> None:
    upgrade = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    for path in ("/api/v1/health", AGENTS, "/nowhere"):
        answer = await raw(
            served.client, lines(f"GET {path} HTTP/1.1", *upgrade).replace(b"close", b"upgrade"), end=False
        )
        assert check_raw(answer, 404)["error"] == "not_found"


@pytest.mark.parametrize(
    "target",
    ["*", "127.0.0.1:80", "https://elsewhere/", "http://elsewhere/nowhere", "/%00", "/%ff", "/..%2f..%2fetc/passwd"],
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "CONNECT", "PUT"])
async def test_a_strange_target_is_not_found(served: Served, method: str, target: str) -> None:
    check_raw(await raw(served.client, lines(f"{method} {target} HTTP/1.1")), 404)


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /api/v1/health HTTP/1.1\r\n\r\n",
        b"GET /api/v1/health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        lines("GET http://[ HTTP/1.1"),
        lines("GET /api/v1/health HTTP/9.9"),
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        lines("GET /api/v1/health HTTP/1.1", "X: " + "a" * 70_000),
        lines("GET /api/v1/health HTTP/1.1", "X: a\0b"),
        lines("GET /api/v1/health HTTP/1.1", "X : a"),
        lines(f"POST {AGENTS} HTTP/1.1", "Content-Length: ten"),
        lines(f"POST {AGENTS} HTTP/1.1", "Content-Length: -1"),
        lines(f"POST {AGENTS} HTTP/1.1", "Content-Length: 1", "Content-Length: 2", body=b"{}"),
        lines(f"POST {AGENTS} HTTP/1.1", "Transfer-Encoding: chunked", body=b"zz\r\n"),
        lines(f"POST {AGENTS} HTTP/1.1", "Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
        lines(f"POST {AGENTS} HTTP/1.1", "Content-Length: 10", body=b"{"),
    ],
)
async def test_what_is_no_http_is_refused_and_harms_nobody(served: Served, request_: bytes) -> None:
    """The server refuses these itself, before there is a request: it has no body for them."""
    answer = await raw(served.client, request_)
    assert answer.status in (0, 400, 431, 501)  # 501: a transfer coding that is not known (RFC 9112 section 6.1)
    assert (await served.client.get("/api/v1/health")).status_code == 200


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [(AGENTS, "no", 401), ("/nowhere", ADMIN, 404), ("/api/v1/health", ADMIN, 405), (AGENTS, ADMIN, 413)],
)
async def test_an_answer_before_the_body_leaves_an_http_2_connection_to_its_other_requests(
    served: Served, path: str, token: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    base, body = served.client.base_url, b" " * 10_000
    async with (
        httpx.AsyncClient(base_url=base, http1=False, http2=True, timeout=30) as http2,
        asyncio.TaskGroup() as group,
    ):
        headers = {"authorization": f"Bearer {token}"}
        asked = [group.create_task(http2.post(path, content=body, headers=headers)) for _ in range(5)]
        beside = group.create_task(http2.get("/api/v1/health"))
        assert [(await one).status_code for one in asked] == [status] * 5
        assert (await beside).status_code == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("leave", ["close", "half-close", "reset", "silently"])
async def test_a_connection_ends_when_its_client_leaves(served: Served, leave: str) -> None:
    """Whoever comes once, as curl does, holds no socket and no task of the engine for the keep-alive time."""
    before = len(asyncio.all_tasks())
    for _ in range(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.client.base_url.port)
        if leave != "silently":
            writer.write(b"GET /api/v1/health HTTP/1.1\r\nHost: a\r\n\r\n")
        if leave == "half-close":
            writer.write_eof()
            async with asyncio.timeout(5):
                assert (await reader.read()).startswith(b"HTTP/1.1 200")
        elif leave == "reset":
            writer.transport.abort()
        elif leave == "close":
            await reader.readuntil(b"\r\n\r\n")
        writer.close()
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.9"])
async def test_the_minor_version_of_a_request_does_not_matter(served: Served, version: str) -> None:
    answer = await raw(served.client, lines(f"GET /api/v1/health HTTP/{version}"))
    assert answer.status == 200
    assert answer.head.startswith(b"HTTP/1.1 ")


async def test_head_answers_like_get_without_a_body(served: Served) -> None:
    for route in table(served.engine):
        if route.method == "GET":
            async with served.client.stream("GET", path_of(route)) as wanted:
                given = await served.client.head(path_of(route))
            assert given.status_code == wanted.status_code, label(route)
            assert given.headers.get("content-type") == wanted.headers.get("content-type"), label(route)
            assert given.content == b""


async def test_head_of_a_stream_ends(served: Served) -> None:
    chat = await served.client.post("/api/v1/schemas/test/chat", json={"message": "Hi", "stream": False})
    events = f"/api/v1/sessions/{chat.json()['session_id']}/events"
    answer = await raw(served.client, lines(f"HEAD {events} HTTP/1.1"), end=False)
    assert answer.status == 200
    assert b"content-type: text/event-stream" in answer.head
    assert answer.body == b""


TAKEN: dict[str, dict[str, Any]] = {
    "/api/v1/models": {"type": "scripted", "model_name": "script"},
    "/api/v1/mcp-servers": {"url": "http://127.0.0.1:1/", "enabled": False},
    "/api/v1/schedules": {"cron": "0 9 * * *", "agent": "test"},
    "/api/v1/webhooks": {"agent": "test", "secret": "a-secret-of-sixteen"},
    "/api/v1/callbacks": {"url": "https://example.com/", "events": ["turn.failed"]},
    "/api/v1/rate-limits": {"key_header": "X-User", "tiers": {"all": {"unlimited": True}}},
    "/api/v1/budgets": {"tokens": 10**9, "window": "day"},
    "/api/v1/knowledge-bases": {},
}
"""Where names may hold dots, and what else a thing there needs."""


@pytest.mark.parametrize("path", TAKEN)
async def test_a_name_that_is_taken_is_told_in_the_same_shape_though_it_ends_in_a_dot(
    served: Served, path: str
) -> None:
    new = {"name": "a.name.", **TAKEN[path]}
    assert (await served.client.post(path, json=new)).status_code == 201
    refusal = check_refusal(await served.client.post(path, json=new), path)
    assert refusal["error"] == "conflict"
    assert "'a.name.' already" in refusal["message"]
