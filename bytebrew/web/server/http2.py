"""Patch of hypercorn's HTTP/2: fair scheduling, flow control, and limits on what a client's frames cost.

Why: hypercorn's priority tree removes streams in quadratic time, so that a thousand streams block the event loop; a
stream that the client does not read blocks the others; neither unsent answers nor control frames are limited. Upstream:
pgjones/hypercorn#335, #226 and #365 (frames for closed streams), #146 (rapid reset; its remedy,
`keep_alive_max_requests`, disconnects well-behaved clients). Delete when: tests/web/server passes with hypercorn's
H2Protocol.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.events import Event as FrameEvent
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from h2.windows import LARGEST_FLOW_CONTROL_WINDOW
from hypercorn.events import Closed, RawData, Updated
from hypercorn.events import Event as ConnectionEvent
from hypercorn.protocol.events import Body, EndBody, InformationalResponse, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.utils import filter_pseudo_headers

log = logging.getLogger(__name__)

PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
FRAMES_AT_ONCE = 16
"""Frames of one connection that are processed per iteration of the event loop."""
BURST = 1000.0
"""Budget of a connection, in control frames."""
RATE = 100.0
"""Refill of the budget per second."""
RESET, SETTINGS = 5.0, 10.0
"""Cost of a request that is reset before its answer begins, and of a SETTINGS frame."""
SMALL = 256
"""A DATA frame with fewer bytes costs as much as a control frame."""
HEAD_BYTES = 65536
"""Limit of a request's compressed headers; `h2_max_header_list_size` limits the decompressed ones."""
HELD_BYTES, SCANT_BYTES = 16 * 1024 * 1024, 256 * 1024
"""Limits of unsent bytes of one connection; the second applies while all connections together are above theirs."""
STREAM_BYTES = 65536
"""Unsent bytes of a stream above which the application waits."""
STREAM_MEMORY, LEAST_STREAMS = 32768, 1000
"""Memory of an open stream, and the smallest limit on the open streams of all connections."""
PIECE = 16384
UNREAD_SECONDS = 60.0
"""Time limit of a stream that the client does not read."""
_DATA, _HEADERS, _SETTINGS, _CONTINUATION = 0, 1, 4, 9
_END_STREAM = 1


class Answers:
    """Unsent bytes and open streams of all connections, with the limits of both.

    A connection may always have one stream, because the number of connections has its own limit.
    """

    def __init__(self, most: int) -> None:
        self.bytes, self.most = 0, most
        self.streams, self.most_streams = 0, max(LEAST_STREAMS, most // STREAM_MEMORY)


class BudgetExceeded(Exception):
    """A client has used up the budget of its connection."""


class FrameBudget:
    """Counts the cost of a client's frames beyond its requests.

    A normal client costs little: it sends few RST_STREAM, PING, SETTINGS, WINDOW_UPDATE, PRIORITY and small DATA frames
    per request, or sends them in response to frames of ours, which add to the budget.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.left = BURST
        self._clock, self._at = clock, clock()
        self._begun = b""  # incomplete frame header
        self._rest = PREFACE  # bytes of the current frame still to come
        self._head_bytes = 0

    def spend(self, cost: float) -> None:
        """Subtracts a cost; raises BudgetExceeded if the budget is exceeded."""
        self.left -= cost
        if self.left < 0:
            now = self._clock()
            self.left, self._at = min(BURST, self.left + cost + RATE * (now - self._at)) - cost, now
            if self.left < 0:
                raise BudgetExceeded

    def earn(self, frames: float) -> None:
        """Adds the cost of the frames that the client sends in response to ours."""
        self.left = min(BURST, self.left + frames)

    def parts(self, data: bytes) -> Iterator[bytes]:
        """The bytes in parts of a few frames each; raises BudgetExceeded before the part that exceeds the budget."""
        start = 0
        position = min(self._rest, len(data))
        self._rest -= position
        frames = 0
        while position < len(data):
            head = self._begun + data[position : position + 9 - len(self._begun)]
            position += len(head) - len(self._begun)
            self._begun = head if len(head) < 9 else b""
            if self._begun:
                break
            self._count(head)
            length = int.from_bytes(head[:3], "big")
            self._rest = max(0, position + length - len(data))
            position = min(position + length, len(data))
            frames += 1
            if frames == FRAMES_AT_ONCE:
                yield data[start:position]
                start, frames = position, 0
        if start < len(data):
            yield data[start:]

    def _count(self, head: bytes) -> None:
        length, kind = int.from_bytes(head[:3], "big"), head[3]
        if kind == _DATA:
            if length < SMALL and not head[4] & _END_STREAM:
                self.spend(1)
        elif kind == _HEADERS:
            self._head_bytes = length
        elif kind == _CONTINUATION:
            self._head_bytes += length
            self.spend(1 if self._head_bytes <= HEAD_BYTES else math.inf)
        else:
            self.spend(SETTINGS if kind == _SETTINGS else 1)


class SendBuffer:
    """Unsent bytes of one answer."""

    def __init__(self) -> None:
        self.waiting = bytearray()
        self.ended = self.closed = False
        self.moved = asyncio.Event()


class Http2(H2Protocol):
    """HTTP/2 in which a stream does not block the others."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._budget = FrameBudget()
        self._buffers: dict[int, SendBuffer] = {}
        self._ready: dict[int, None] = {}  # streams that have data to send, in sending order
        self._held = 0
        self._answers: Answers = getattr(self.context, "answers", None) or Answers(HELD_BYTES)

    async def initiate(self) -> None:  # type: ignore[override]
        """Starts the connection with the largest windows.

        With the default of 64 KiB, which all bodies of a connection share, uploads are limited to 64 KiB per round
        trip, and some clients stall. TCP provides backpressure, as in HTTP/1.1: nothing is read while parts of a body
        wait.
        """
        connection = self.connection
        connection.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = LARGEST_FLOW_CONTROL_WINDOW
        connection.local_settings.acknowledge()
        connection.initiate_connection()
        connection.increment_flow_control_window(LARGEST_FLOW_CONTROL_WINDOW - connection.inbound_flow_control_window)
        await self._flush()
        self.task_group.spawn(self.send_task)
        await self.send(Updated(self.idle))  # hypercorn counted the preface as a request

    async def handle(self, event: ConnectionEvent) -> None:
        """Processes bytes a few frames at a time, so that other connections are served in between."""
        if not isinstance(event, RawData):
            await super().handle(event)
            return
        try:
            for n, part in enumerate(self._budget.parts(event.data)):
                if n:
                    await asyncio.sleep(0)
                if self.closed:
                    return
                await self._handle_events(self.connection.receive_data(part))
        except ProtocolError:
            await self._end()
        except BudgetExceeded:
            log.info("%s was sent away: it keeps the engine busy with frames that ask for nothing", self.client)
            self.connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            await self._end()

    async def _end(self) -> None:
        """Sends h2's GOAWAY and closes the connection."""
        self.closed = True
        await self._flush()
        await self.send(Closed())

    async def stream_send(self, event: StreamEvent) -> None:
        """Sends a part of an answer; returns once there is room for more."""
        stream_id = event.stream_id
        buffer = self._buffers.get(stream_id)
        if isinstance(event, InformationalResponse | Response):
            lines = [(b":status", b"%d" % event.status_code), *event.headers, *self.config.response_headers("h2")]
            with suppress(ProtocolError):  # the client has reset the stream
                self.connection.send_headers(stream_id, lines)
                await self._flush()
        elif isinstance(event, StreamClosed):
            if buffer is not None:
                await self._break_off(stream_id, ErrorCodes.INTERNAL_ERROR)
            await self._close_stream(stream_id)
            if self.idle and self.context.terminated.is_set():
                self.connection.close_connection()
                await self._flush()
            await self.send(Updated(idle=self.idle))
        elif buffer is None or buffer.closed:
            return
        elif isinstance(event, Body):
            scant = self._answers.bytes > self._answers.most
            if self._held and self._held + len(event.data) > (SCANT_BYTES if scant else HELD_BYTES):
                await self._break_off(stream_id, ErrorCodes.ENHANCE_YOUR_CALM)
                return
            buffer.waiting += event.data
            self._hold(len(event.data))
            await self._sent(stream_id, buffer, STREAM_BYTES)
        elif isinstance(event, EndBody):
            buffer.ended = True
            await self._sent(stream_id, buffer, 0)

    def _hold(self, more: int) -> None:
        self._held += more
        self._answers.bytes += more

    async def _sent(self, stream_id: int, buffer: SendBuffer, most: int) -> None:
        """Waits until at most `most` bytes are unsent; after the end of the answer, until all is sent or dropped."""
        self._ready[stream_id] = None
        await self.has_data.set()
        while not buffer.closed and (len(buffer.waiting) > most or (buffer.ended and stream_id in self._buffers)):
            buffer.moved.clear()
            try:
                async with asyncio.timeout(UNREAD_SECONDS):
                    await buffer.moved.wait()
            except TimeoutError:
                await self._break_off(stream_id, ErrorCodes.CANCEL)

    async def send_task(self) -> None:
        """Sends a chunk of each stream in turn."""
        try:
            while not self.closed:
                if not self._ready:
                    await self.has_data.wait()
                    await self.has_data.clear()
                    continue
                stream_id = next(iter(self._ready))
                del self._ready[stream_id]
                if (buffer := self._buffers.get(stream_id)) is not None:
                    await self._send_data(stream_id, buffer)
        finally:
            for stream_id in list(self._buffers):
                self._drop(stream_id)  # wakes the tasks that wait for these answers to be sent

    async def _send_data(self, stream_id: int, buffer: SendBuffer) -> None:  # type: ignore[override]
        connection = self.connection
        try:
            room = min(connection.local_flow_control_window(stream_id), connection.max_outbound_frame_size, PIECE)
            piece = bytes(buffer.waiting[: max(0, room)])
            del buffer.waiting[: len(piece)]
            self._hold(-len(piece))
            ends = buffer.ended and not buffer.waiting
            if piece or ends:
                connection.send_data(stream_id, piece, end_stream=ends)
                if not buffer.waiting or len(piece) >= SMALL:
                    self._budget.earn(2)  # the client updates two windows
                await self._flush()
            if ends:
                self._drop(stream_id)
            elif piece and buffer.waiting:
                self._ready[stream_id] = None
            buffer.moved.set()
        except ProtocolError:  # the stream was reset meanwhile, or the connection has ended
            self._drop(stream_id)

    def _drop(self, stream_id: int) -> None:
        """Discards the unsent bytes of a stream."""
        if (buffer := self._buffers.pop(stream_id, None)) is not None:
            self._hold(-len(buffer.waiting))
            buffer.waiting = bytearray()
            buffer.closed = True
            buffer.moved.set()

    async def _break_off(self, stream_id: int, why: ErrorCodes) -> None:
        """Resets a stream and tells the application that the client has disconnected, so that it stops producing."""
        self._drop(stream_id)
        with suppress(ProtocolError):  # may be reset already
            self.connection.reset_stream(stream_id, why)
        await self._flush()
        await self._close_stream(stream_id)

    async def _handle_events(self, events: list[FrameEvent]) -> None:
        for event in events:
            if isinstance(event, RequestReceived):
                await self._begin(event)
            elif isinstance(event, DataReceived):
                if (stream := self.streams.get(event.stream_id)) is not None:
                    await stream.handle(Body(stream_id=event.stream_id, data=event.data))
                with suppress(ProtocolError):  # may be reset meanwhile
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                if (stream := self.streams.get(event.stream_id)) is not None:  # None if it was answered before its end
                    await stream.handle(EndBody(stream_id=event.stream_id))
            elif isinstance(event, StreamReset):
                await self._reset(event.stream_id)
            elif isinstance(event, WindowUpdated):
                await self._window_updated(event.stream_id)
            elif isinstance(event, RemoteSettingsChanged):
                if SettingCodes.INITIAL_WINDOW_SIZE in event.changed_settings:
                    await self._window_updated(None)
            elif isinstance(event, ConnectionTerminated):
                await self.send(Closed())
        await self._flush()

    async def _begin(self, request: RequestReceived) -> None:
        if not _well_formed(request):
            self._budget.spend(RESET)
            self.connection.reset_stream(request.stream_id, ErrorCodes.PROTOCOL_ERROR)
        elif self.context.terminated.is_set():
            self.connection.reset_stream(request.stream_id, ErrorCodes.REFUSED_STREAM)
            self.connection.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 0})
        elif self.streams and self._answers.streams >= self._answers.most_streams:
            self._budget.spend(1)
            self.connection.reset_stream(request.stream_id, ErrorCodes.REFUSED_STREAM)
        else:
            await self._create_stream(request)
            await self.send(Updated(idle=False))

    async def _reset(self, stream_id: int) -> None:
        """Ends a stream that was reset by the client, or by h2 for a protocol error."""
        stream = self.streams.get(stream_id)
        if stream is None or not hasattr(stream, "response"):
            self._budget.spend(RESET)
        self._drop(stream_id)
        await self._close_stream(stream_id)

    async def _close_stream(self, stream_id: int) -> None:
        self._answers.streams -= stream_id in self.streams
        await super()._close_stream(stream_id)

    async def _window_updated(self, stream_id: int | None) -> None:
        if stream_id:
            self._ready |= {stream_id: None} if stream_id in self._buffers else {}
        else:
            self._ready |= dict.fromkeys(one for one, buffer in self._buffers.items() if buffer.waiting)
        await self.has_data.set()

    async def _create_stream(self, request: RequestReceived) -> None:
        stream_id, pseudo = request.stream_id, dict(request.headers)
        self._buffers[stream_id] = SendBuffer()
        self._answers.streams += 1
        stream = self.streams[stream_id] = HTTPStream(
            *(self.app, self.config, self.context, self.task_group, self.ssl, self.client, self.server),
            *(self.stream_send, stream_id),
        )
        await stream.handle(
            Request(
                stream_id=stream_id,
                headers=filter_pseudo_headers(request.headers),
                http_version="2",
                method=pseudo[b":method"].decode("ascii").upper(),
                raw_path=pseudo[b":path"],
                state=self.connection_state,
            )
        )
        await self.context.mark_request()


def _well_formed(request: RequestReceived) -> bool:
    pseudo = dict(request.headers)
    return pseudo[b":method"].isascii() and pseudo.get(b":path", b"\xff").isascii() and b":protocol" not in pseudo
