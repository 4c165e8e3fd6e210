"""What a client can do to a connection, over HTTP/1.1 and HTTP/2, and what its other requests and the engine notice."""

import asyncio
import gc
import json
import logging
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from starlette.types import Message

from bytebrew import MessageDelta, Reply, Request, Route, Stream, Thinking
from bytebrew.base.sse_reader import Parser
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, ScriptedProvider, chat, events_of, plugin, providing, scripted_schema, served_engine
from bytebrew.web import early_answer
from bytebrew.web.app import Application
from bytebrew.web.http_state import http_state
from bytebrew.web.server import server
from bytebrew.web.server.http1 import Http1

HEALTH, EVENTS, FLOOD, SLOW, SINK = (f"/api/v1/{path}" for path in ("health", "quiet", "flood", "slow", "sink"))
REFUSALS = [
    pytest.param("/api/v1/agents", "no", 401, id="401"),
    pytest.param("/nowhere", ADMIN, 404, id="404"),
    pytest.param(HEALTH, ADMIN, 405, id="405"),
    pytest.param("/api/v1/agents", ADMIN, 413, id="413"),
]
BIG = 2_000_000
Headers = list[tuple[str, str | bytes]]


loops = pytest.mark.parametrize(
    "anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]
)
"""Both event loops that the engine runs on: they tell of a lost connection in ways of their own."""


class Answers:
    """A plugin whose routes answer in bad ways; it counts the pieces that it was asked for."""

    def __init__(self) -> None:
        self.pieces = 0
        self.open = 0
        self.go_on = asyncio.Event()

    async def flood(self, request: Request[None]) -> Stream:
        """Ten thousand pieces of 64 KiB, as fast as they are taken."""

        async def frames() -> AsyncGenerator[bytes, None]:
            for _ in range(10_000):
                await asyncio.sleep(0)
                self.pieces += 1
                yield bytes(65536)

        return Stream(frames=frames(), headers={"content-type": "application/octet-stream"})

    async def quiet(self, request: Request[None]) -> Stream:
        """An event, then a comment every now and then."""

        async def frames() -> AsyncGenerator[bytes, None]:
            self.open += 1
            try:
                yield b"data: 1\n\n"
                while True:
                    await asyncio.sleep(0.05)
                    yield b": ping\n\n"
            finally:
                self.open -= 1

        return Stream(frames=frames())

    async def broken(self, request: Request[None]) -> Stream:
        """A piece, then a failure."""

        async def frames() -> AsyncGenerator[bytes, None]:
            yield b"x"
            raise ZeroDivisionError

        return Stream(frames=frames(), headers={"content-type": "application/octet-stream"})

    async def slow(self, request: Request[None]) -> dict[str, bool]:
        """Answers once it may."""
        await self.go_on.wait()
        return {"ok": True}

    async def large(self, request: Request[None]) -> Reply:
        """A mebibyte."""
        self.pieces += 1
        return Reply(body=bytes(1 << 20), headers={"content-type": "application/octet-stream"})

    async def unchanged(self, request: Request[None]) -> Reply:
        """No body, as the client has it."""
        return Reply(status=304)

    async def sink(self, request: Request[AsyncIterator[bytes]]) -> dict[str, int]:
        """The number of bytes."""
        return {"bytes": sum([len(piece) async for piece in request.body])}

    def plugin(self) -> tuple[str, object]:
        """What to hand to an engine."""

        def register_routes(register: Any) -> None:
            for run in (self.flood, self.quiet, self.broken, self.slow, self.large, self.unchanged):
                streams = run in (self.flood, self.quiet, self.broken)
                path = f"/api/v1/{run.__name__}"
                register(Route(method="GET", path=path, scope="config", run=run, summary="Answer", streams=streams))
            more: dict[str, Any] = {"summary": "Count", "stream_body": True}
            register(Route(method="POST", path=SINK, scope="config", run=self.sink, **more))

        return plugin(register_routes=register_routes)


class Http2:
    """A client that does what it is told, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        config = H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        self.frames = H2Connection(config)
        self.frames.initiate_connection()
        self.events: list[Event] = []

    def ask(self, path: str, token: str = ADMIN, *, method: str = "GET", end: bool = True) -> int:
        """The stream of a new request."""
        headers: Headers = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "a")]
        return self.send([*headers, ("authorization", f"Bearer {token}")], end=end)

    def send(self, headers: Headers, *, end: bool = True) -> int:
        """The stream of a request with just these headers."""
        stream = self.frames.get_next_available_stream_id()
        self.frames.send_headers(stream, headers, end_stream=end)
        self.flush()
        return stream

    def data(self, stream: int, size: int, *, end: bool = False) -> None:
        """Sends a piece of a body, in frames as long as they may be."""
        for start in range(0, size, 16384):
            self.frames.send_data(stream, bytes(min(16384, size - start)))
        if end:
            self.frames.end_stream(stream)
        self.flush()

    def flush(self) -> None:
        """Sends what there is to send."""
        self.writer.write(self.frames.data_to_send())

    async def until(self, *kinds: type[Event], stream: int) -> Event:
        """Reads, and lets the server go on, until the stream has such an event."""
        async with asyncio.timeout(5):
            while True:
                for event in self.events:
                    if isinstance(event, kinds) and getattr(event, "stream_id", None) == stream:
                        return event
                data = await self.reader.read(65536)
                assert data, f"the connection ended: {self.events}"
                for event in self.frames.receive_data(data):
                    self.events.append(event)
                    if isinstance(event, DataReceived):
                        self.frames.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.flush()

    async def status(self, stream: int) -> int:
        """The status of a stream's answer."""
        answer = await self.until(ResponseReceived, stream=stream)
        assert isinstance(answer, ResponseReceived)
        return int(dict(answer.headers)[b":status"])

    def body(self, stream: int) -> bytes:
        """What has come of a stream's answer."""
        return b"".join([one.data for one in self.events if isinstance(one, DataReceived) and one.stream_id == stream])


class Served:
    """An engine with bad answers, and ways to reach it."""

    def __init__(self, engine: Engine, client: httpx.AsyncClient, answers: Answers) -> None:
        self.engine, self.client, self.answers = engine, client, answers
        self.writers: list[asyncio.StreamWriter] = []
        self._before = asyncio.all_tasks()

    async def connect(self, **given: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A plain connection; with `limit=1` it reads next to nothing of its own accord."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.client.base_url.port, **given)
        self.writers.append(writer)
        return reader, writer

    async def http2(self, **given: Any) -> Http2:
        """A connection that speaks HTTP/2, the server's settings taken in."""
        http2 = Http2(*await self.connect(**given))
        http2.flush()
        stream = http2.ask(HEALTH)
        await http2.until(StreamEnded, stream=stream)
        return http2

    async def all_has_ended(self, seconds: float = 3) -> None:
        """Waits until nothing is left of any connection."""
        async with asyncio.timeout(seconds):
            while left := asyncio.all_tasks() - self._before - {asyncio.current_task()}:
                await asyncio.sleep(0.01)
        assert not left


@asynccontextmanager
async def serving(**settings: str) -> AsyncIterator[Served]:
    """An engine whose client has no connection yet."""
    answers = Answers()
    async with served_engine(
        answers.plugin(),
        providing(
            ScriptedProvider(
                [Thinking(content="h"), MessageDelta(content="H"), answers.go_on, MessageDelta(content="i")]
            )
        ),
        settings=settings,
    ) as (engine, client):
        await asyncio.sleep(0.01)
        served = Served(engine, client, answers)
        yield served
    for writer in served.writers:
        writer.close()


def request(line: str, *headers: str, token: str = ADMIN) -> bytes:
    """The head of an HTTP/1.1 request."""
    return "\r\n".join([f"{line} HTTP/1.1", "Host: a", f"Authorization: Bearer {token}", *headers, "", ""]).encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """The status, head and body of the next answer of a connection."""
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        length = [line[16:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")]
        return status, head, await reader.readexactly(int(length[0])) if length else b""


@pytest.fixture
def complaints(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Whatever the engine complains about: a client's fault is not the engine's."""
    found: list[str] = []
    yield found
    gc.collect()  # tells of a task whose failure nobody has looked at
    records = [*caplog.get_records("call"), *caplog.get_records("teardown")]
    found += [record.getMessage() for record in records if record.levelno >= logging.WARNING]
    assert found == []


# Bodies that nobody reads.


@pytest.mark.parametrize(("path", "token", "status"), REFUSALS)
@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
async def test_a_refusal_is_heard_in_the_middle_of_a_body_and_the_connection_is_used_again(
    path: str, token: str, status: int, chunked: bool
) -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        how = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {BIG}"
        writer.write(request(f"POST {path}", how, "Content-Type: application/json", token=token))
        writer.write(b"%x\r\n%s\r\n0\r\nTrailer: 1\r\n\r\n" % (BIG, bytes(BIG)) if chunked else bytes(BIG))
        assert (await answer(reader))[0] == status
        writer.write(request(f"GET {HEALTH}"))
        assert (await answer(reader))[0] == 200
        writer.close()


@pytest.mark.parametrize(("path", "token", "status"), REFUSALS[:3])
async def test_a_refusal_does_not_wait_for_the_body(path: str, token: str, status: int) -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(request(f"POST {path}", f"Content-Length: {BIG}", token=token))
        assert (await answer(reader))[0] == status
        writer.close()


@loops
@pytest.mark.parametrize("leave", ["close", "abort"])
@pytest.mark.parametrize("sent", [10, BIG - 1])
async def test_nothing_is_left_of_a_client_that_leaves_in_the_middle_of_its_body(leave: str, sent: int) -> None:
    async with serving() as served:
        for path, token in (("/nowhere", ADMIN), ("/api/v1/agents", "no"), ("/api/v1/agents", ADMIN), (SINK, ADMIN)):
            _, writer = await served.connect()
            writer.write(request(f"POST {path}", f"Content-Length: {BIG}", token=token) + bytes(sent))
            await asyncio.sleep(0.1)
            writer.close() if leave == "close" else writer.transport.abort()
        await served.all_has_ended()


@loops
async def test_a_body_that_does_not_end_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_answer, "SILENCE_SECONDS", 0.2)
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(request("POST /nowhere", f"Content-Length: {BIG}") + bytes(10))
        assert (await answer(reader))[0] == 404
        async with asyncio.timeout(2):
            assert await reader.read() == b""
        writer.close()
        await served.all_has_ended()


async def test_over_http_2_a_body_that_does_not_end_costs_the_connection_nothing(
    monkeypatch: pytest.MonkeyPatch, complaints: list[str]
) -> None:
    monkeypatch.setattr(early_answer, "SILENCE_SECONDS", 0.2)
    async with serving() as served:
        http2 = await served.http2()
        stream = http2.ask("/nowhere", method="POST", end=False)
        http2.data(stream, 100)
        await http2.until(StreamEnded, stream=stream)
        assert await http2.status(stream) == 404
        for _ in range(20):
            http2.data(stream, 100_000)  # as if it had not heard
        assert await http2.status(http2.ask(HEALTH)) == 200
        http2.frames.end_stream(stream)
        assert await http2.status(http2.ask(HEALTH)) == 200
        http2.writer.close()
        await served.all_has_ended()


# Flow control.


@pytest.mark.parametrize(("uploads", "size", "path"), [(3, 100_000, "/nowhere"), (10, 300_000, "/nowhere")])
async def test_bodies_beside_each_other_over_http_2_do_not_stall(uploads: int, size: int, path: str) -> None:
    """httpcore waits for ever where another stream has read the window that it waits for."""
    async with serving() as served:
        for _ in range(10):
            async with httpx.AsyncClient(
                base_url=served.client.base_url, headers=served.client.headers, http1=False, http2=True, timeout=3
            ) as client:
                await client.get(HEALTH)
                sent = [client.post(path, content=bytes(size)) for _ in range(uploads)]
                assert {one.status_code for one in await asyncio.gather(*sent)} == {404}


async def test_a_body_over_http_2_need_not_wait_for_a_window() -> None:
    async with serving() as served:
        http2 = await served.http2()
        stream = http2.ask(SINK, method="POST", end=False)
        assert http2.frames.local_flow_control_window(stream) >= served.engine.settings.core.max_upload_bytes
        http2.data(stream, 10_000_000, end=True)
        await http2.until(StreamEnded, stream=stream)
        assert http2.body(stream) == b'{"bytes":10000000}'
        http2.writer.close()


@loops
@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_who_does_not_read_is_not_written_for(version: str) -> None:
    async with serving() as served:
        if version == "2":
            http2 = await served.http2()
            http2.ask(FLOOD)
            writer = http2.writer
        else:
            _, writer = await served.connect(limit=1)
            writer.write(request(f"GET {FLOOD}"))
        before = -1
        async with asyncio.timeout(5):
            while not 0 < before == served.answers.pieces:
                before = served.answers.pieces
                await asyncio.sleep(0.3)
        assert before < 200
        assert (await served.client.get(HEALTH)).status_code == 200
        writer.transport.abort()
        await served.client.aclose()
        await served.all_has_ended()


@loops
async def test_requests_are_not_answered_for_who_does_not_read(complaints: list[str]) -> None:
    async with serving() as served:
        reader, writer = await served.connect(limit=2000)
        writer.write(request("GET /api/v1/large") * 100)
        before = -1
        async with asyncio.timeout(5):
            while not 0 < before == served.answers.pieces:
                before = served.answers.pieces
                await asyncio.sleep(0.3)
        assert before < 50
        async with asyncio.timeout(30):
            for _ in range(100):
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(1 << 20)
        assert served.answers.pieces == 100
        writer.close()


async def test_requests_are_not_refused_for_who_does_not_read() -> None:
    async with serving(BYTEBREW_MAX_TURNS="1") as served:
        await scripted_schema(served.engine)
        body = b'{"message": "Hi"}'
        turn = request("POST /api/v1/schemas/test/chat", f"Content-Length: {len(body)}") + body
        first, other = await served.connect()
        other.write(turn)
        await first.readuntil(b"message_delta")
        sock = socket.create_connection(("127.0.0.1", int(served.client.base_url.port or 0)))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        _, writer = await asyncio.open_connection(sock=sock, limit=1)
        served.writers.append(writer)
        admission = http_state(served.engine).admission
        with suppress(TimeoutError):
            while admission.refused < 20_000:
                before = admission.refused
                writer.write(turn)
                async with asyncio.timeout(0.5):
                    while admission.refused == before:
                        await asyncio.sleep(0)
        assert admission.refused < 20_000
        writer.transport.abort()
        served.answers.go_on.set()
        await first.readuntil(b"done")
        other.close()
        await served.all_has_ended()


@loops
@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux tells")
async def test_who_does_not_read_for_long_is_given_up(monkeypatch: pytest.MonkeyPatch, complaints: list[str]) -> None:
    monkeypatch.setattr(server, "UNREAD_SECONDS", 0.5)
    async with serving() as served:
        _, writer = await served.connect(limit=1)
        writer.write(request(f"GET {FLOOD}"))
        await asyncio.sleep(0.2)
        await served.all_has_ended(5)
        writer.close()


async def test_a_stream_of_http_2_that_is_not_read_leaves_the_others_alone() -> None:
    async with serving() as served:
        http2 = await served.http2()
        flood = http2.ask(FLOOD)
        await http2.until(DataReceived, stream=flood)
        http2.frames.acknowledge_received_data = lambda *_: None  # type: ignore[method-assign]
        await asyncio.sleep(0.2)
        for _ in range(10):
            stream = http2.ask(HEALTH)
            assert await http2.status(stream) == 200
        http2.writer.close()
        await served.all_has_ended()


# Clients that leave.


@loops
@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_a_stream_is_told_at_once_that_its_client_has_left(version: str, complaints: list[str]) -> None:
    async with serving() as served:
        if version == "2":
            http2 = await served.http2()
            stream = http2.ask(FLOOD)
            await http2.until(DataReceived, stream=stream)
            writer = http2.writer
        else:
            reader, writer = await served.connect()
            writer.write(request(f"GET {FLOOD}"))
            await reader.readexactly(1000)
        writer.transport.abort()
        await served.all_has_ended()
        assert served.answers.pieces < 500


@loops
async def test_nothing_is_left_of_a_client_that_leaves_while_nobody_takes_its_body() -> None:
    async with serving() as served:
        for leave in ("close", "abort"):
            _, writer = await served.connect()
            writer.write(request(f"GET {SLOW}", f"Content-Length: {BIG}") + bytes(BIG - 1))
            await asyncio.sleep(0.1)
            writer.close() if leave == "close" else writer.transport.abort()
        await asyncio.sleep(0.1)
        served.answers.go_on.set()
        await served.all_has_ended()


@loops
@pytest.mark.parametrize("leave", ["close", "abort"])
@pytest.mark.parametrize("path", [EVENTS, SLOW, FLOOD])
@pytest.mark.parametrize("more", [False, True], ids=["alone", "pipelined"])
async def test_nothing_is_left_of_a_client_that_leaves_before_its_answer(path: str, leave: str, more: bool) -> None:
    async with serving() as served:
        _, writer = await served.connect(limit=1)
        writer.write(request(f"GET {path}") + request(f"GET {HEALTH}") * more)
        await asyncio.sleep(0.1)
        writer.close() if leave == "close" else writer.transport.abort()
        await asyncio.sleep(0.05)
        served.answers.go_on.set()
        await served.all_has_ended()


@loops
@pytest.mark.parametrize("leave", ["close", "abort", "reset", "shut"])
@pytest.mark.parametrize("path", [EVENTS, SLOW, FLOOD, SINK])
async def test_nothing_is_left_of_a_client_that_leaves_its_streams(
    path: str, leave: str, complaints: list[str]
) -> None:
    async with serving() as served:
        http2 = await served.http2()
        for _ in range(5):
            stream = http2.ask(path, method="POST" if path == SINK else "GET", end=path != SINK)
            if path == SINK:
                http2.data(stream, 50_000)
            if leave == "reset":
                await asyncio.sleep(0.02)
                http2.frames.reset_stream(stream, ErrorCodes.CANCEL)
                http2.flush()
        await asyncio.sleep(0.1)
        if leave == "reset":
            assert await http2.status(http2.ask(HEALTH)) == 200
        if leave == "shut":
            http2.frames.close_connection()
            http2.flush()
            await asyncio.sleep(0.05)
        http2.writer.transport.abort() if leave == "abort" else http2.writer.close()
        await asyncio.sleep(0.05)
        served.answers.go_on.set()
        await served.all_has_ended()


@loops
async def test_a_client_that_resets_before_its_answer_is_forgotten_at_once() -> None:
    async with serving() as served:
        for _ in range(5):
            _, writer = await served.connect()
            writer.write(request(f"GET {SLOW}"))
            await asyncio.sleep(0.05)
            reset = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            writer.transport.abort()
        await asyncio.sleep(0.05)
        served.answers.go_on.set()
        await served.all_has_ended()
        gc.collect()
        assert [one for one in gc.get_objects() if isinstance(one, Http1)] == []


@loops
async def test_a_stream_ends_once_whose_client_sends_nonsense_in_its_body(complaints: list[str]) -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(request(f"GET {EVENTS}", "Transfer-Encoding: chunked") + b"1\r\na")
        async with asyncio.timeout(5):
            await reader.readuntil(b"data: 1")
            writer.write(b"nonsense")
            await reader.read()
        await served.all_has_ended()
        assert served.answers.open == 0


@loops
async def test_half_a_connection_is_enough_to_hear_an_answer_but_not_to_follow() -> None:
    async with serving() as served:
        for path, end in ((SLOW, b'{"ok":true}'), (EVENTS, b"\r\n0\r\n\r\n")):
            reader, writer = await served.connect()
            writer.write(request(f"GET {path}"))
            await asyncio.sleep(0.1)
            writer.write_eof()
            await asyncio.sleep(0.1)
            served.answers.go_on.set()
            async with asyncio.timeout(2):
                assert (await reader.read()).endswith(end)
            writer.close()
        await served.all_has_ended()


@loops
@pytest.mark.parametrize(
    ("second", "end"),
    [
        pytest.param(request(f"GET {EVENTS}"), b"\r\n0\r\n\r\n", id="follow"),
        pytest.param(request(f"POST {SINK}", "Content-Length: 9") + b"a", b'before its body was whole"}', id="send"),
        pytest.param(request(f"POST {SINK}", "Content-Length: 1") + b"a", b'{"bytes":1}', id="ask"),
    ],
)
async def test_half_a_connection_is_no_more_for_a_pipelined_request(second: bytes, end: bytes) -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(request(f"GET {SLOW}") + second)
        writer.write_eof()
        await asyncio.sleep(0.1)
        served.answers.go_on.set()
        async with asyncio.timeout(2):
            assert (await reader.read()).endswith(end)
        writer.close()
        await served.all_has_ended()


# One request after the other, and beside each other.


@pytest.mark.parametrize(("version", "framed"), [("1.0", False), ("1.1", True), ("1.2", True)])
async def test_the_pieces_of_a_stream_are_framed_as_the_version_has_it(version: str, framed: bool) -> None:
    async with serving() as served:
        await scripted_schema(served.engine)
        served.answers.go_on.set()
        reader, writer = await served.connect()
        body = b'{"message": "Hi"}'
        head = request("POST /api/v1/schemas/test/chat", f"Content-Length: {len(body)}", "Connection: close")
        writer.write(head.replace(b"HTTP/1.1", f"HTTP/{version}".encode()) + body)
        async with asyncio.timeout(5):
            lines, _, raw = (await reader.read()).partition(b"\r\n\r\n")
        assert (b"transfer-encoding: chunked" in lines.lower()) is framed
        told = b""
        while framed and raw != b"0\r\n\r\n":
            size, _, rest = raw.partition(b"\r\n")
            piece, raw = rest[: int(size, 16)], rest[int(size, 16) :].removeprefix(b"\r\n")
            told += piece
        events = Parser().feed(told if framed else raw)
        assert [event.event for event in events] == ["thinking", "message_delta", "message_delta", "message", "done"]


async def test_the_head_of_a_stream_of_events_comes_with_the_first_of_them_and_does_not_wait_for_more() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(request(f"GET {EVENTS}"))
        async with asyncio.timeout(5):
            first = await reader.read(65536)
        head, _, body = first.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200") and b"text/event-stream" in head.lower()
        assert body.startswith(b"6\r\n: ok\n\n\r\n")
        writer.close()


async def test_the_last_event_of_a_turn_ends_the_answer() -> None:
    """One message of the application, hence one write."""
    async with serving() as served:
        await scripted_schema(served.engine)
        served.answers.go_on.set()
        body = json.dumps({"message": "Hi"}).encode()
        asked: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            return asked.pop() if asked else await asyncio.Future()

        async def send(message: Message) -> None:
            sent.append(message)

        head = {"method": "POST", "path": "/api/v1/schemas/test/chat", "query_string": b"", "http_version": "1.1"}
        headers = [(b"authorization", f"Bearer {ADMIN}".encode()), (b"content-length", b"%d" % len(body))]
        scope = {"type": "http", "scheme": "http", "headers": headers, **head}
        await Application(served.engine)(scope, receive, send)
        assert b"event: done" in sent[-1]["body"]
        assert [message.get("more_body", False) for message in sent[1:]] == [True] * (len(sent) - 2) + [False]


async def test_pipelined_requests_are_answered_in_turn() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(request(f"POST {SINK}", "Content-Length: 3") + b"abc" + request(f"GET {SLOW}"))
        writer.write(request("GET /nowhere") + request("GET /nowhere", "Connection: close"))
        assert (await answer(reader))[2] == b'{"bytes":3}'
        await asyncio.sleep(0.05)
        served.answers.go_on.set()
        assert [(await answer(reader))[0] for _ in range(3)] == [200, 404, 404]
        assert await reader.read() == b""
        writer.close()


async def test_pipelined_requests_see_none_of_each_others_variables() -> None:
    variable, seen = ContextVar("variable", default="unset"), []

    async def note(request: Request[None]) -> dict[str, str]:
        seen.append(variable.get())
        variable.set("set")
        return {}

    def register_routes(register: Any) -> None:
        register(Route(method="GET", path="/api/v1/note", scope="config", run=note, summary="Note"))

    async with served_engine(plugin(register_routes=register_routes)) as (_, client):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(request("GET /api/v1/note") * 3)
        assert [(await answer(reader))[0] for _ in range(3)] == [200] * 3
        assert seen == ["unset"] * 3
        writer.close()


@loops
async def test_an_answer_that_breaks_off_ends_what_was_pipelined_behind_it() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(request("GET /api/v1/broken") + request(f"GET {HEALTH}"))
        async with asyncio.timeout(2):
            assert (await reader.read()).endswith(b"\r\n1\r\nx\r\n")
        await served.all_has_ended()


@pytest.mark.slow
async def test_a_thousand_streams_stand_beside_each_other(complaints: list[str]) -> None:
    async with serving() as served:
        http2 = await served.http2()
        for stream in range(20_001, 21_000, 2):
            http2.frames.prioritize(stream, weight=1)  # nobody asks for these, and nothing is kept of them
        asked = [http2.ask(SLOW) for _ in range(1000)]
        await asyncio.sleep(0.1)
        served.answers.go_on.set()
        for stream in asked:
            assert await http2.status(stream) == 200
        http2.writer.close()
        await served.all_has_ended()


async def test_an_answer_that_breaks_off_does_so_over_both_protocols() -> None:
    async with serving() as served:
        http2 = await served.http2()
        broken, beside = http2.ask("/api/v1/broken"), http2.ask(HEALTH)
        reset = await http2.until(StreamReset, StreamEnded, stream=broken)
        assert isinstance(reset, StreamReset) and reset.error_code == ErrorCodes.INTERNAL_ERROR
        assert await http2.status(beside) == 200
        http2.writer.close()
        with pytest.raises(httpx.RemoteProtocolError):
            await served.client.get("/api/v1/broken")


# What is no good request.

AUTHORITY: Headers = [(":scheme", "http"), (":authority", "a")]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([(":method", "GET"), (":path", b"/\xff"), *AUTHORITY], id="path"),
        pytest.param([(":method", b"G\xff"), (":path", "/"), *AUTHORITY], id="method"),
        pytest.param([(":method", "CONNECT"), (":authority", "a")], id="tunnel"),
    ],
)
async def test_a_malformed_request_over_http_2_is_reset_alone(headers: Headers, complaints: list[str]) -> None:
    async with serving() as served:
        http2 = await served.http2()
        before, bad, after = http2.ask(SLOW), http2.send(headers), http2.ask(HEALTH)
        reset = await http2.until(StreamReset, stream=bad)
        assert isinstance(reset, StreamReset) and reset.error_code == ErrorCodes.PROTOCOL_ERROR
        served.answers.go_on.set()
        assert [await http2.status(before), await http2.status(after)] == [200, 200]
        http2.writer.close()
        await served.all_has_ended()


async def test_too_much_in_the_head_ends_the_connection(complaints: list[str]) -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(request(f"GET {HEALTH}", "X: " + "a" * 100_000))
        assert (await answer(reader))[0] == 431
        writer.close()
        http2 = await served.http2()
        with pytest.raises(AssertionError, match=r"the connection ended.*ConnectionTerminated"):
            await http2.status(http2.send([(":method", "GET"), (":path", "/"), *AUTHORITY, *[("x", "a" * 9000)] * 9]))
        assert any(isinstance(event, ConnectionTerminated) for event in http2.events)
        http2.writer.close()
        await served.all_has_ended()


# The corners of HTTP/1.1.


async def test_a_connection_is_not_upgraded_to_http_2_as_a_proxy_would_not_see_what_comes_then(
    complaints: list[str],
) -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        settings = (H2Connection().initiate_upgrade_connection() or b"").decode()
        upgrade = ["Connection: upgrade, http2-settings", "Upgrade: h2c", f"HTTP2-Settings: {settings}"]
        for _ in range(2):
            writer.write(request(f"GET {HEALTH}", *upgrade))
            status, head, _ = await answer(reader)
            assert (status, head[:9], b"upgrade" in head.lower()) == (200, b"HTTP/1.1 ", False)
        writer.write(b"PRI * HTTP/2.0\r\nHost: a\r\n\r\n")
        assert (await answer(reader))[0] == 400
        writer.close()


@pytest.mark.parametrize("http2", [False, True])
async def test_the_head_of_a_stream_names_no_length_as_the_stream_does_not(http2: bool, complaints: list[str]) -> None:
    async with (
        serving() as served,
        httpx.AsyncClient(
            base_url=served.client.base_url, headers=served.client.headers, http1=not http2, http2=http2
        ) as client,
    ):
        for _ in range(2):
            got = await client.head(EVENTS)
            assert (got.status_code, got.headers["content-type"], got.content) == (200, "text/event-stream", b"")
            assert "content-length" not in got.headers
        assert served.answers.open == 0


async def test_what_is_unchanged_has_no_body_and_no_length(complaints: list[str]) -> None:
    async with serving() as served:
        for _ in range(2):
            got = await served.client.get("/api/v1/unchanged")
            assert (got.status_code, got.content) == (304, b"")
            assert not {"content-length", "transfer-encoding"} & set(got.headers)


FRAMED = {"Content-Length": "1", "Transfer-Encoding": "chunked", "Content-Type": "text/plain"}
"""Headers of a route that frame another body, as those that it passes on may."""


@pytest.mark.parametrize(
    ("headers", "framed"),
    [
        (FRAMED, b"content-length: 2\r\n"),
        (FRAMED | {"stream": "", "Content-Length": "2"}, b"content-length: 2\r\n"),
        ({"Transfer-Encoding": "gzip", "Content-Type": "text/plain", "stream": ""}, b"transfer-encoding: chunked\r\n"),
    ],
)
async def test_an_answer_is_framed_by_its_own_body(headers: dict[str, str], framed: bytes) -> None:
    async def frames() -> AsyncGenerator[bytes, None]:
        yield b"ab"

    async def run(request: Request[None]) -> Reply | Stream:
        return Stream(frames=frames(), headers=headers) if streams else Reply(body=b"ab", headers=headers)

    def register_routes(register: Any) -> None:
        register(Route(method="GET", path="/framed", scope=None, run=run, summary="Answer", streams=streams))

    streams = "stream" in headers
    async with served_engine(plugin(register_routes=register_routes)) as (_, client):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(request("GET /framed") + request("GET /framed", "Connection: close"))
        async with asyncio.timeout(5):
            answers = await reader.read()
        writer.close()
        assert [(await client.get("/framed")).content for _ in range(2)] == [b"ab"] * 2
        async with httpx.AsyncClient(base_url=client.base_url, http1=False, http2=True) as http2:
            assert [(await http2.get("/framed")).content for _ in range(2)] == [b"ab"] * 2
    heads = [head for head in answers.split(b"\r\n\r\n") if b"HTTP/1.1 200 " in head]
    assert [head.count(framed) for head in (one.lower() + b"\r\n" for one in heads)] == [1, 1]
    assert sum(answers.lower().count(name) for name in (b"content-length:", b"transfer-encoding:")) == 2


async def test_an_older_client_is_not_upgraded(complaints: list[str]) -> None:
    async with serving() as served:
        for protocol in ("h2c", "websocket"):
            reader, writer = await served.connect()
            writer.write(f"GET {HEALTH} HTTP/1.0\r\nUpgrade: {protocol}\r\nConnection: upgrade\r\n\r\n".encode())
            assert (await answer(reader))[0] == 200
            writer.close()


async def test_who_asks_whether_to_send_is_told_to_go_on() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        for path, status in ((SINK, 200), ("/nowhere", 404)):
            writer.write(request(f"POST {path}", "Content-Length: 3", "Expect: 100-continue"))
            first = (await answer(reader))[0]
            assert first == 100
            writer.write(b"abc")
            assert (await answer(reader))[0] == status
        writer.close()


async def test_a_chunked_body_may_have_trailers() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        for _ in range(2):
            writer.write(request(f"POST {SINK}", "Transfer-Encoding: chunked", "Trailer: X-Sum"))
            writer.write(b"3;name=value\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")
            assert (await answer(reader))[::2] == (200, b'{"bytes":3}')
        writer.close()


@pytest.mark.parametrize(
    ("line", "status"), [(f"HEAD {HEALTH}", 200), (f"HEAD {EVENTS}", 200), (f"OPTIONS {SINK}", 405)]
)
@pytest.mark.parametrize("body", [0, 3])
async def test_head_and_options_leave_the_connection_as_it_was(line: str, status: int, body: int) -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        for _ in range(2):
            writer.write(request(line, f"Content-Length: {body}") + bytes(body))
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
            assert int(head.split(b" ")[1]) == status
            if status == 405:
                assert b"allow: POST" in head
                await reader.readuntil(b"}")
        writer.write(request(f"GET {HEALTH}"))
        assert (await answer(reader))[0] == 200
        assert served.answers.open == 0
        writer.close()


# Time.


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], ids=len)
async def test_a_head_that_does_not_come_is_not_waited_for(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.3)
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(sent)
        async with asyncio.timeout(2):
            await reader.read(100) and await reader.read()
        writer.close()
        await served.all_has_ended()


async def test_a_head_that_trickles_in_has_no_longer_than_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.6)
    async with serving() as served:
        reader, writer = await served.connect()
        for letter in request(f"GET {HEALTH}")[:20]:
            writer.write(bytes([letter]))
            await asyncio.sleep(0.02)
        with suppress(ConnectionError):  # where a letter came after the end
            async with asyncio.timeout(0.5):
                assert await reader.read() == b""


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize("turn", [False, True], ids=["session", "turn"])
async def test_a_stream_ends_whole_when_the_engine_stops(version: str, turn: bool) -> None:
    """A turn's stream with its last event, that of a session at once."""
    async with serving(BYTEBREW_DRAIN_SECONDS="5") as served:
        await scripted_schema(served.engine)
        path, body = "/api/v1/schemas/test/chat", b'{"message":"Hello"}'
        if not turn:
            served.answers.go_on.set()
            done = (await chat(served.client, "test", "Hello"))[-1]
            path, body = f"/api/v1/sessions/{json.loads(done.data)['session_id']}/events", b""
        url = str(served.client.base_url.join(path))
        async with httpx.AsyncClient(
            headers=served.client.headers, http1=version == "1.1", http2=True, timeout=30
        ) as client:
            told: dict[str, Any] = {"content": body, "headers": {"content-type": "application/json"}} if turn else {}
            async with client.stream("POST" if turn else "GET", url, **told) as response:
                events = events_of(response)
                seen = [await anext(events), await anext(events)]
                draining = asyncio.create_task(served.engine.drain(5))
                await asyncio.sleep(0.05)
                assert (await client.get(str(served.client.base_url.join("/api/v1/agents")))).status_code == 503
                served.answers.go_on.set()
                async with asyncio.timeout(2):
                    seen += [event async for event in events]
                await draining
        assert response.http_version == f"HTTP/{version}"
        assert [int(event.id) for event in seen] == list(range(1, len(seen) + 1))
        assert seen[-1].event == "done"


@loops
@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize("path", [FLOOD, SLOW, SINK])
async def test_who_does_not_leave_is_left(version: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CLOSING_SECONDS", 0.3)
    async with asyncio.timeout(20):
        async with serving() as served:
            idle, _ = await served.connect()
            if version == "2":
                http2 = await served.http2()
                http2.ask(path, method="POST" if path == SINK else "GET", end=path != SINK)
            else:
                _, writer = await served.connect(limit=1)
                writer.write(request(f"POST {path}", "Content-Length: 9") if path == SINK else request(f"GET {path}"))
            await asyncio.sleep(0.1)
        assert await idle.read() == b""
