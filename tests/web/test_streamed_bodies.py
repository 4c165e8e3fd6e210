"""A route that takes its body as a stream: pieces as they come, the limits of an upload, an answer that is heard."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from bytebrew import NotFound, Request, Route
from bytebrew.testing import ADMIN, plugin, served_engine
from bytebrew.web import admission
from tests.tables import check_refusal

LIMIT = 65536


class Sink:
    """A plugin with a route that counts what it is sent; it notes how much has come and refuses what begins with !."""

    def __init__(self) -> None:
        self.seen = 0
        self.came = asyncio.Event()

    async def count(self, request: Request[AsyncIterator[bytes]]) -> dict[str, int]:
        """The number of bytes."""
        if "refuse" in request.query:
            raise NotFound("There is no such sink")
        async for piece in request.body:
            self.seen += len(piece)
            self.came.set()
        return {"bytes": self.seen}

    def plugin(self) -> tuple[str, object]:
        """What to hand to an engine."""

        def register_routes(register: Any) -> None:
            given: dict[str, Any] = {"summary": "Count", "stream_body": True, "query": {"refuse": "to be refused"}}
            register(Route(method="POST", path="/api/v1/sink", scope="config", run=self.count, **given))

        return plugin(register_routes=register_routes)


def settings() -> dict[str, str]:
    return {"BYTEBREW_MAX_UPLOAD_BYTES": str(LIMIT), "BYTEBREW_MAX_BODY_BYTES": "1024"}


async def test_pieces_are_handed_on_before_the_body_is_whole() -> None:
    sink = Sink()
    go_on = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        await go_on.wait()
        yield b"three"

    async with served_engine(sink.plugin(), settings=settings()) as (_, client):
        sending = asyncio.create_task(client.post("/api/v1/sink", content=pieces()))
        async with asyncio.timeout(5):
            await sink.came.wait()
        assert sink.seen == 3
        go_on.set()
        assert (await sending).json() == {"bytes": 8}


@pytest.mark.parametrize("size", [0, 2000, LIMIT])
async def test_a_body_up_to_the_limit_of_uploads_is_taken_in(size: int) -> None:
    async with served_engine(Sink().plugin(), settings=settings()) as (_, client):
        response = await client.post("/api/v1/sink", content=b"x" * size, headers={"content-type": "text/plain"})
        assert response.json() == {"bytes": size}


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("query", ["", "?refuse=1"])
async def test_a_client_hears_its_refusal_though_it_sends_on(announced: bool, query: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * LIMIT

    content: Any = b"x" * LIMIT * 200 if announced else pieces()
    async with served_engine(Sink().plugin(), settings=settings()) as (_, client):
        response = await client.post(f"/api/v1/sink{query}", content=content)
        assert response.status_code == (404 if query else 413)
        check_refusal(response)
        assert (await client.post("/api/v1/sink", content=b"four")).status_code == 200


async def test_a_body_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "BODY_SECONDS", 0.1)
    async with served_engine(Sink().plugin(), settings=settings()) as (_, client):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(
            b"POST /api/v1/sink HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n"
            b"Authorization: Bearer " + ADMIN.encode() + b"\r\n\r\nx"
        )
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_a_client_that_leaves_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink()
    async with served_engine(sink.plugin(), settings=settings()) as (_, client):
        _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(
            b"POST /api/v1/sink HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n"
            b"Authorization: Bearer " + ADMIN.encode() + b"\r\n\r\nx"
        )
        async with asyncio.timeout(5):
            await sink.came.wait()
        writer.close()
        await writer.wait_closed()
        assert (await client.get("/api/v1/health")).status_code == 200
        await asyncio.sleep(0.05)
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


async def test_who_may_not_is_refused_before_anything_is_read() -> None:
    sink = Sink()
    async with served_engine(sink.plugin(), settings=settings()) as (_, client):
        async with httpx.AsyncClient(base_url=client.base_url, timeout=30) as stranger:
            assert (await stranger.post("/api/v1/sink", content=b"four")).status_code == 401
        assert sink.seen == 0
