"""Clients that send much over HTTP/2 which asks for little, or read nothing: what they cost is bounded, by count."""

import asyncio
import gc
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from hypothesis import given
from hypothesis import strategies as st

from bytebrew.testing import plugin, served_engine
from bytebrew.web.http_state import http_state
from bytebrew.web.server import http2
from bytebrew.web.server.http2 import BURST, FRAMES_AT_ONCE, HELD_BYTES, RESET, BudgetExceeded, FrameBudget, Http2
from tests.bench import floods
from tests.web.server.test_connections import EVENTS, FLOOD, HEALTH, serving

OPENAPI = b"/api/v1/openapi.json"
RESETS, SETTINGS, PINGS, GOAWAYS = 3, 4, 6, 7


class Frame(NamedTuple):
    """What the engine has sent."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frames(data: bytes) -> Iterator[Frame]:
    while len(data) >= 9:
        length = int.from_bytes(data[:3], "big")
        yield Frame(data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + length])
        data = data[9 + length :]


async def flood(port: int | None, data: bytes) -> list[Frame]:
    """What comes back to a connection that sends this, until it is ended or nothing has come for a second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    got = b""
    with suppress(TimeoutError, ConnectionError):
        while True:
            async with asyncio.timeout(1):
                piece = await reader.read(65536)
            if not piece:
                break
            got += piece
    writer.close()
    return list(frames(got))


def farewell(sent: list[Frame]) -> int | None:
    """The code of the frame with which the engine ends a connection."""
    codes = [struct.unpack(">I", one.payload[4:8])[0] for one in sent if one.kind == GOAWAYS]
    return codes[-1] if codes else None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(floods.resets(3000), id="resets"),
        pytest.param(floods.many(floods.PING, bytes(8), 20_000), id="pings"),
        pytest.param(floods.many(floods.PING, bytes(8), 20_000)[:-3], id="pings, the last one begun"),
        pytest.param(floods.many(floods.SETTINGS, b"", 20_000), id="settings"),
        pytest.param(floods.many(floods.WINDOW, b"\0\0\0\1", 20_000), id="windows"),
        pytest.param(floods.many(floods.PRIORITY, b"\0\0\0\0\1", 20_000, 3), id="priorities"),
        pytest.param(floods.many(200, b"", 20_000), id="frames of no known type"),
        pytest.param(floods.empty(20_000), id="empty data"),
        pytest.param(floods.malformed(3000), id="malformed requests"),
        pytest.param(floods.overflowing(3000), id="windows that overflow"),
    ],
)
async def test_who_floods_is_sent_away_after_a_bounded_number_of_frames(data: bytes) -> None:
    seen: Counter[str] = Counter()

    async def request_answered(engine: Any, method: str, path: str, status: int, seconds: float) -> None:
        seen[path] += 1

    async with served_engine(plugin(request_answered=request_answered)) as (_, client):
        sent = await flood(client.base_url.port, data)
        assert farewell(sent) == ErrorCodes.ENHANCE_YOUR_CALM
        kinds = Counter(one.kind for one in sent)
        assert kinds[PINGS] <= BURST * 1.2
        assert kinds[SETTINGS] <= BURST / http2.SETTINGS * 1.2 + 1
        assert kinds[RESETS] <= BURST / RESET * 1.2
        assert seen.total() <= BURST / RESET * 1.2
        assert (await client.get(HEALTH)).status_code == 200


async def test_heads_that_do_not_end_end_the_connection() -> None:
    async with serving() as served:
        port = served.client.base_url.port
        assert farewell(await flood(port, floods.continued(20_000))) == ErrorCodes.PROTOCOL_ERROR
        long = floods.frame(floods.CONTINUATION, 0, 1, bytes(16_000)) * 5
        assert farewell(await flood(port, floods.continued(1) + long)) == ErrorCodes.ENHANCE_YOUR_CALM


async def test_an_unpacked_head_has_a_limit_of_its_own() -> None:
    async with serving() as served:
        named = b"\x40" + floods.text(b"x") + b"\x7f\xa1\x1e" + b"a" * 4000  # one kept by the decoder, then its number
        data = floods.http2() + floods.frame(1, 5, 1, floods.head(b"/x") + named + b"\xbe" * 20)
        assert farewell(await flood(served.client.base_url.port, data)) is not None


async def test_others_have_their_turn_while_a_flood_is_read() -> None:
    """Between two parts of what one client has sent the loop goes round, so the count of turns follows the frames."""
    async with serving() as served:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await flood(served.client.base_url.port, floods.many(floods.PING, bytes(8), 900))
        counting.cancel()
        assert turns > 900 / FRAMES_AT_ONCE


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 4, 6, 8, 9, 77]), st.integers(0, 2), st.integers(0, 600))),
    st.lists(st.integers(1, 40), min_size=1),
)
def test_however_the_bytes_come_each_frame_counts_once(shapes: list[tuple[int, int, int]], sizes: list[int]) -> None:
    data = floods.PREFACE + b"".join(floods.frame(kind, flags, 1, bytes(size)) for kind, flags, size in shapes)
    whole, pieces = FrameBudget(), FrameBudget()
    assert b"".join(whole.parts(data)) == data
    came, n = b"", 0
    while len(came) < len(data):
        piece = data[len(came) : len(came) + sizes[n % len(sizes)]]
        assert b"".join(pieces.parts(piece)) == piece
        came, n = came + piece, n + 1
    assert whole.left == pieces.left
    for part in FrameBudget().parts(data):
        assert sum(1 for _ in frames(part.removeprefix(floods.PREFACE))) <= FRAMES_AT_ONCE


def test_what_was_spent_comes_back_with_time() -> None:
    meter = FrameBudget(clock := iter([0.0, 1.0, 1.0, 2.0, 1e9]).__next__)
    meter.spend(BURST)
    meter.spend(http2.RATE)
    with pytest.raises(BudgetExceeded):
        meter.spend(1)
    assert clock() == 2.0
    meter.spend(http2.RATE)


# Answers that nobody reads.


def held() -> int:
    """The bytes of answers that wait for clients of HTTP/2."""
    gc.collect()
    open_ones = [one for one in gc.get_objects() if isinstance(one, Http2)]
    waiting = sum(len(buffer.waiting) for one in open_ones for buffer in vars(one)["_buffers"].values())
    assert waiting == sum(vars(one)["_held"] for one in open_ones)
    assert all(one.bytes == waiting for one in gc.get_objects() if isinstance(one, http2.Answers) and one.bytes)
    return waiting


async def test_answers_that_nobody_reads_are_held_up_to_a_bound() -> None:
    async with serving() as served:
        size = len((await served.client.get(OPENAPI.decode())).content)
        sent = await flood(served.client.base_url.port, floods.unread(OPENAPI, 600))
        calm = [one for one in sent if one.kind == RESETS]
        assert {struct.unpack(">I", one.payload)[0] for one in calm} == {ErrorCodes.ENHANCE_YOUR_CALM}
        assert (600 - len(calm)) * size <= HELD_BYTES + size
        assert len(calm) < 600
        await served.client.aclose()
        await served.all_has_ended()
        assert held() == 0


async def test_where_all_clients_together_leave_too_much_each_may_leave_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bytebrew.web.server.connections.memory", lambda processes: 8 * 1_000_000)
    async with serving() as served:
        size, port = len((await served.client.get(OPENAPI.decode())).content), served.client.base_url.port
        sent = await asyncio.gather(*(flood(port, floods.unread(OPENAPI, 20)) for _ in range(10)))
        kept = 200 - sum(one.kind == RESETS for each in sent for one in each)
        assert kept * size <= 1_000_000 + 10 * (http2.SCANT_BYTES + size)
        assert all(sum(one.kind == RESETS for one in each) < 20 for each in sent)


@pytest.mark.slow
async def test_the_count_of_what_is_held_is_right_while_clients_read_and_leave() -> None:
    async with serving() as served:
        reading = await served.http2()
        asked = [reading.ask(OPENAPI.decode()) for _ in range(20)]
        for n, stream in enumerate(asked):
            if n % 5 == 0:
                await reading.until(DataReceived, stream=stream)
                reading.frames.reset_stream(stream)
                reading.flush()
            else:
                await reading.until(StreamEnded, stream=stream)
            assert held() <= HELD_BYTES
        assert held() == 0
        reading.writer.close()


async def test_a_stream_that_is_not_read_for_long_is_given_up_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "UNREAD_SECONDS", 0.3)
    async with serving() as served:
        client = await served.http2()
        unread = client.ask("/api/v1/flood")
        await client.until(DataReceived, stream=unread)
        client.frames.acknowledge_received_data = lambda *_: None  # type: ignore[method-assign]
        reset = await client.until(StreamReset, stream=unread)
        assert isinstance(reset, StreamReset) and reset.error_code == ErrorCodes.CANCEL
        client.frames.increment_flow_control_window(1_000_000)
        assert await client.status(client.ask(HEALTH)) == 200
        client.writer.close()
        await served.all_has_ended()


async def test_nothing_is_made_any_more_for_a_stream_that_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "UNREAD_SECONDS", 0.3)
    async with serving() as served:
        client = await served.http2()
        unread = client.ask(FLOOD)
        await client.until(DataReceived, stream=unread)
        client.frames.acknowledge_received_data = lambda *_: None  # type: ignore[method-assign]
        await client.until(StreamReset, stream=unread)
        before = served.answers.pieces
        assert await client.status(client.ask(HEALTH)) == 200
        assert served.answers.pieces <= before + 1
        assert [one.streams for one in gc.get_objects() if isinstance(one, http2.Answers) and one.streams > 1] == []
        async with asyncio.timeout(3):
            while http_state(served.engine).streams:
                await asyncio.sleep(0.01)
        client.writer.close()
        await served.all_has_ended()


# Streams that stay open.


async def test_the_streams_of_all_connections_have_a_bound_and_each_connection_may_have_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http2, "LEAST_STREAMS", 30)
    monkeypatch.setattr("bytebrew.web.server.connections.memory", lambda processes: 8 * 1_000_000)
    async with serving() as served:
        first, second = await served.http2(), await served.http2()
        streams = [first.ask(EVENTS) for _ in range(40)]
        for n, stream in enumerate(streams):
            event = await first.until(ResponseReceived, StreamReset, stream=stream)
            assert isinstance(event, ResponseReceived if n < 30 else StreamReset)
        assert await second.status(second.ask(EVENTS)) == 200
        refused = await second.until(ResponseReceived, StreamReset, stream=second.ask(EVENTS))
        assert isinstance(refused, StreamReset) and refused.error_code == ErrorCodes.REFUSED_STREAM
        for stream in streams[:10]:
            first.frames.reset_stream(stream)
        assert await first.status(first.ask(HEALTH)) == 200  # behind the resets
        assert [await second.status(second.ask(EVENTS)) for _ in range(8)] == [200] * 8
        first.writer.close()
        second.writer.close()
        await served.all_has_ended()
        assert [one.streams for one in gc.get_objects() if isinstance(one, http2.Answers) and one.streams] == []


# What is no flood.


@pytest.mark.slow
async def test_a_client_that_does_what_http_2_is_for_stays() -> None:
    """Four times as many requests, windows and pings as a flood may have, with streams that are left when they end."""
    async with serving() as served:
        client = await served.http2()
        for n in range(int(BURST)):
            streams = [client.ask(HEALTH) for _ in range(4)]
            for stream in streams:
                await client.until(StreamEnded, stream=stream)
                client.frames.increment_flow_control_window(100)
            client.events.clear()
            if n % 10 == 0:
                client.frames.ping(bytes(8))
                followed = client.ask(EVENTS)
                await client.until(DataReceived, stream=followed)
                client.frames.reset_stream(followed, ErrorCodes.CANCEL)
                client.flush()
        assert await client.status(client.ask(HEALTH)) == 200
        client.writer.close()


async def test_a_large_answer_is_read_in_small_windows() -> None:
    async with serving() as served:
        whole = (await served.client.get(OPENAPI.decode())).content
        client = await served.http2()
        client.frames.update_settings({4: 1000})
        client.flush()
        stream = client.ask(OPENAPI.decode())
        await client.until(StreamEnded, stream=stream)
        assert client.body(stream) == whole
        client.writer.close()
