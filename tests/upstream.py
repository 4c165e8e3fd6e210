"""A vendor's API as a double: a raw HTTP/1.1 server that follows a script and keeps what it was asked."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Any, NamedTuple, cast

import httpx
import msgspec

from bytebrew.base.formats import Duration
from bytebrew.base.http_client.client import Http
from bytebrew.base.settings import Core


class Act(Enum):
    """What a script can do besides sending: keep silent until the client leaves, or close with or without a reset."""

    HANG = auto()
    CLOSE = auto()
    RESET = auto()


Step = bytes | float | asyncio.Event | Act
"""A step of an answer: bytes to send as they are, seconds to wait, an event to wait for, or an act."""


class Seen(NamedTuple):
    """A request as it came; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        return msgspec.json.decode(self.body)


class Upstream:
    """Gives its answers in order, the last one again and again.

    `connections` counts those that were opened; `left` is set once a client has closed in the middle of an answer.
    """

    def __init__(self, answers: Sequence[Iterable[Step]]) -> None:
        self._answers = [list(answer) for answer in answers]
        self.url = ""
        self.requests: list[Seen] = []
        self.connections = 0
        self.left = asyncio.Event()
        self.open: set[asyncio.Transport] = set()

    def next_answer(self, seen: Seen) -> list[Step]:
        """The script for a request that has come."""
        self.requests.append(seen)
        return self._answers[min(len(self.requests), len(self._answers)) - 1]


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._received = b""
        self._playing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._upstream.connections += 1
        self._upstream.open.add(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._received = rest[length:]
        method, path, _ = first.split(" ")
        answer = self._upstream.next_answer(Seen(method, path, headers, rest[:length]))
        self._playing = asyncio.create_task(self._play(answer))

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.open.discard(self._transport)
        if self._playing and not self._playing.done():
            self._playing.cancel()
            self._upstream.left.set()

    async def _play(self, answer: list[Step]) -> None:
        for step in answer:
            if isinstance(step, bytes):
                self._transport.write(step)
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, Act):
                await self._act(step)
            else:
                await asyncio.sleep(step)

    async def _act(self, act: Act) -> None:
        if act is Act.HANG:
            await asyncio.get_running_loop().create_future()
        self._playing = None
        if act is Act.CLOSE:
            self._transport.close()
        else:
            now = struct.pack("ii", 1, 0)  # lingering for no time makes closing a reset
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
            self._transport.abort()


@asynccontextmanager
async def upstream(*answers: Iterable[Step]) -> AsyncIterator[Upstream]:
    """A running double on a free port."""
    double = Upstream(answers)
    async with listening(double, "127.0.0.1") as port:
        double.url = f"http://127.0.0.1:{port}"
        yield double


@asynccontextmanager
async def listening(double: Upstream, host: str) -> AsyncIterator[int]:
    """The double's port on an address."""
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(double), host, 0)
    try:
        port: int = server.sockets[0].getsockname()[1]
        yield port
    finally:
        server.close()
        for transport in list(double.open):
            transport.abort()
        await asyncio.sleep(0)


def head(status: int = 200, **headers: object) -> bytes:
    """The head of an answer; `content_type="text/plain"` becomes the header content-type."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode()


def refused(status: int, body: Any, **headers: object) -> list[Step]:
    """A whole answer of JSON."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return [head(status, content_type="application/json", content_length=len(content), **headers) + content]


def chunk(content: bytes) -> bytes:
    """A piece of a body of unknown length (RFC 9112 section 7.1); the empty one ends it."""
    return b"%x\r\n%s\r\n" % (len(content), content)


STREAM = head(content_type="text/event-stream", transfer_encoding="chunked")


def streamed(*steps: Step) -> list[Step]:
    """A stream of events that comes to its end; bytes among the steps become pieces of the body."""
    return [STREAM, *(chunk(step) if isinstance(step, bytes) else step for step in steps), chunk(b"")]


def broken(*steps: Step) -> list[Step]:
    """A stream that its last step ends or leaves open."""
    return streamed(*steps)[:-1]


def data(*events: Any) -> bytes:
    """Server-Sent Events out of values, text as it is."""
    return b"".join(
        b"data: %s\n\n" % (event.encode() if isinstance(event, str) else msgspec.json.encode(event)) for event in events
    )


@asynccontextmanager
async def client(
    first_byte: float = 5, silence: float = 5, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[Http]:
    """The engine's HTTP client with these limits in seconds."""
    settings = Core(
        provider_first_byte_timeout=Duration(first_byte),
        provider_silence_timeout=Duration(silence),
        provider_connect_timeout=Duration(5),
    )
    http = Http(settings, transport)
    try:
        yield http
    finally:
        await http.aclose()
