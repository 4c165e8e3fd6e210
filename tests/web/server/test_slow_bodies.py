"""Requests that begin and do not get on: what they hold is bounded, and they make room for those that do."""

import asyncio
import errno
import hashlib
import hmac
import os
import resource
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew import Route
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, plugin, scripted_schema, served_engine
from bytebrew.web import admission
from bytebrew.web.http_state import http_state
from bytebrew.web.server import connections
from tests.web.test_streamed_bodies import Sink

SECRET = "a-secret-of-some-length"
HOOK, AGENTS, SINK = "/api/v1/webhooks/orders", "/api/v1/agents", "/api/v1/sink"
SIGNATURE = "sha256=" + "0" * 64


@asynccontextmanager
async def serving(**settings: str) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine with a webhook, which does no work."""
    async with served_engine(settings={"BYTEBREW_TASK_WORKERS": "0", **settings}) as (engine, client):
        await scripted_schema(engine)
        created = await client.post("/api/v1/webhooks", json={"name": "orders", "agent": "test", "secret": SECRET})
        assert created.status_code == 201
        yield engine, client


async def begin(client: httpx.AsyncClient, path: str, length: int | str, sent: bytes = b"", **headers: str) -> Any:
    """A request of which so much is sent, as its connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    how = "Transfer-Encoding: chunked" if isinstance(length, str) else f"Content-Length: {length}"
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Authorization: Bearer {ADMIN}", how, *_lines(headers), "", ""]
    writer.write("\r\n".join(lines).encode() + sent)
    return reader, writer


def _lines(headers: dict[str, str]) -> list[str]:
    return [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]


def stamped(signature: str = SIGNATURE) -> dict[str, str]:
    return {"X_Webhook_Timestamp": str(int(time.time())), "X_Webhook_Signature": signature}


async def status(reader: asyncio.StreamReader) -> int:
    """That of the answer, once its first line has come."""
    async with asyncio.timeout(5):
        return int((await reader.readline()).split(b" ")[1])


async def refused(slow: list[Any], least: int) -> set[int]:
    """The statuses of those of so many requests that are answered, once that many are."""
    answers = [asyncio.create_task(status(reader)) for reader, _ in slow]
    async with asyncio.timeout(5):
        while sum(one.done() for one in answers) < least:
            await asyncio.sleep(0.01)
    ended = [one for one in answers if one.done()]
    for one in answers:
        one.cancel()
    return {one.result() for one in ended}


async def fired(client: httpx.AsyncClient, body: bytes = b"{}") -> int:
    """The status of a request that its sender has signed."""
    stamp = str(int(time.time()))
    signature = hmac.digest(SECRET.encode(), stamp.encode() + b"." + body, hashlib.sha256).hex()
    headers = {"X-Webhook-Timestamp": stamp, "X-Webhook-Signature": f"sha256={signature}"}
    return (await client.post(HOOK, content=body, headers=headers)).status_code


# Webhooks.


@pytest.mark.parametrize(
    ("path", "length", "headers", "expected"),
    [
        pytest.param("/api/v1/webhooks/none", 1000, stamped(), 401, id="no such name"),
        pytest.param(HOOK, 1000, stamped("sha256=short"), 401, id="no signature"),
        pytest.param(HOOK, 1000, {}, 401, id="no timestamp"),
        pytest.param(HOOK, 10_000_000, stamped(), 413, id="too large"),
        pytest.param("/api/v1/webhooks/none", 10_000_000, stamped(), 413, id="too large for no such name"),
    ],
)
async def test_a_webhook_is_refused_before_its_body_is_read(
    path: str, length: int, headers: dict[str, str], expected: int
) -> None:
    async with serving() as (engine, client):
        reader, writer = await begin(client, path, length, b"", **headers)
        assert await status(reader) == expected
        assert http_state(engine).public_bodies.held == 0
        writer.close()


async def test_a_webhooks_body_has_a_time_that_a_byte_now_and_then_does_not_put_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "BODY_SECONDS", 0.4)
    async with serving() as (engine, client):
        reader, writer = await begin(client, HOOK, 1000, b"x", **stamped())
        answered = asyncio.create_task(status(reader))
        while not answered.done():
            writer.write(b"x")
            await asyncio.sleep(0.05)
        assert await answered == 408
        assert http_state(engine).public_bodies.held == 0
        writer.close()


async def test_slow_bodies_of_strangers_hold_a_bounded_number_of_bytes_and_keep_none_out() -> None:
    async with serving() as (engine, client):
        http_state(engine).public_bodies.most = 200_000
        slow = [await begin(client, HOOK, 100_000, bytes(90_000), **stamped()) for _ in range(20)]
        assert await refused(slow, 18) == {503}
        assert http_state(engine).public_bodies.held <= 200_000
        assert await fired(client, b"x" * 50_000) == 202
        assert http_state(engine).public_bodies.held <= 200_000
        for _, writer in slow:
            writer.close()
        async with asyncio.timeout(5):
            while http_state(engine).public_bodies.held:
                await asyncio.sleep(0.01)


# Bodies of all routes.


async def test_slow_bodies_of_callers_hold_a_bounded_number_of_bytes() -> None:
    async with serving() as (engine, client):
        http_state(engine).bodies.most = 300_000
        json = {"Content_Type": "application/json"}
        slow = [await begin(client, AGENTS, 100_000, b" " * 90_000, **json) for _ in range(20)]
        assert await refused(slow, 17) == {503}
        assert http_state(engine).bodies.held <= 300_000
        assert (await client.post(AGENTS, json={"name": "b", "model": "test"})).status_code == 201
        for _, writer in slow:
            writer.close()
        async with asyncio.timeout(5):
            while http_state(engine).bodies.held:
                await asyncio.sleep(0.01)


async def test_where_whole_bodies_take_all_the_room_the_next_one_is_refused() -> None:
    go_on = asyncio.Event()

    async def wait(request: Any) -> None:
        await go_on.wait()

    def register_routes(register: Any) -> None:
        register(
            Route(method="POST", path="/api/v1/wait", scope="config", run=wait, summary="Wait", body=dict[str, str])
        )

    async with served_engine(plugin(register_routes=register_routes)) as (engine, client):
        http_state(engine).bodies.most = 3000
        waiting = [asyncio.create_task(client.post("/api/v1/wait", json={"a": "x" * 1000})) for _ in range(2)]
        async with asyncio.timeout(5):
            while http_state(engine).bodies.held < 2000:
                await asyncio.sleep(0.01)
        refused = await client.post("/api/v1/wait", json={"a": "x" * 1000})
        assert (refused.status_code, refused.json()["error"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        go_on.set()
        assert [one.status_code for one in await asyncio.gather(*waiting)] == [204, 204]
        assert http_state(engine).bodies.held == 0


async def test_an_upload_keeps_a_least_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(admission, "LEAST_RATE", 1000)
    async with served_engine(Sink().plugin()) as (_, client):
        (slow, trickling), (quick, steady) = [await begin(client, SINK, 10_000, b"x") for _ in range(2)]
        answered = asyncio.create_task(status(slow))
        for _ in range(9):
            if not answered.done():
                trickling.write(b"x")
            steady.write(b"x" * 1000)
            await asyncio.sleep(0.1)
        assert await answered == 408
        steady.write(b"x" * 999)
        assert await status(quick) == 200
        for writer in (trickling, steady):
            writer.close()


# Heads, and connections.


async def test_a_head_that_has_begun_has_less_time_than_one_that_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    async with served_engine() as (_, client):
        head = b"GET /api/v1/health HTTP/1.1\r\nHost: a\r\n"
        idle, half = [await asyncio.open_connection("127.0.0.1", client.base_url.port) for _ in range(2)]
        for _ in range(2):
            idle[1].write(head[:9])
            await asyncio.sleep(0.05)
            idle[1].write(head[9:] + b"\r\n")
            assert await status(idle[0]) == 200
            await idle[0].readuntil(b"}")
        half[1].write(head)
        for letter in b"X-A: bbbbbbbbbbbbbbbbbbbbbb":
            half[1].write(bytes([letter]))
            await asyncio.sleep(0.02)
            if half[0].at_eof():
                break
        with suppress(ConnectionError):
            assert await half[0].read() == b""
        assert not idle[0].at_eof()
        idle[1].write(head + b"\r\n")
        assert await status(idle[0]) == 200
        for _, writer in (idle, half):
            writer.close()


async def test_there_are_as_many_connections_as_the_setting_says() -> None:
    async with served_engine(settings={"BYTEBREW_MAX_CONNECTIONS": "4"}) as (engine, client):
        many = [await asyncio.open_connection("127.0.0.1", client.base_url.port) for _ in range(6)]
        async with asyncio.timeout(5):
            while not http_state(engine).admission.crowd:
                await asyncio.sleep(0.01)
        many[5][1].write(b"GET /api/v1/agents HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(5):
            assert b"BYTEBREW_MAX_CONNECTIONS" in await many[5][0].read()
        for _, writer in many:
            writer.close()


async def test_a_lack_of_descriptors_is_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    async with served_engine() as (_, client):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        clients = [await asyncio.open_connection("127.0.0.1", client.base_url.port)]
        late = socket.socket()
        late.setblocking(False)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(int(one.name) for one in Path("/dev/fd").iterdir()) + 3, hard))
        taken = []
        try:
            while True:
                try:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
                except OSError as error:
                    assert error.errno == errno.EMFILE
                    break
            with suppress(BlockingIOError):
                late.connect(("127.0.0.1", client.base_url.port))
            await asyncio.sleep(0.5)
        finally:
            for one in taken:
                os.close(one)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        warnings = [one for one in caplog.records if "no connection can be accepted" in one.getMessage()]
        assert [one.levelname for one in warnings] == ["WARNING"]
        assert "descriptors" in warnings[0].getMessage()
        assert (await client.get("/api/v1/health")).status_code == 200
        late.close()
        clients[0][1].close()
