"""Connections of hypercorn, mended where one stream could cost the others theirs, or a client the engine its memory."""

import asyncio
import math
from functools import partial
from typing import Any

from h11 import ERROR, LocalProtocolError
from h11 import Response as Head
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import AsyncioSingleTask, WorkerContext
from hypercorn.events import Closed, RawData, Updated
from hypercorn.events import Event as ConnectionEvent
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.events import Body, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from bytebrew.base.machine.memory import memory
from bytebrew.web.admission import PLACES, Admission, Place
from bytebrew.web.server.http2 import Held, Http2
from bytebrew.web.server.shedding import Refusal

HEAD_SECONDS = 15.0
"""How long the head of a request may take from its first byte on."""


class Context(WorkerContext):
    """What all connections share, with the way in which they refuse requests."""

    def __init__(self, admission: Admission, refusal: Refusal) -> None:
        super().__init__(None)
        self.admission = admission
        self.refusal = refusal
        self.held = Held(memory() // 8)


class _Idle(AsyncioSingleTask):
    """The wait for a next request, which knows since when."""

    since = math.inf

    async def restart(self, task_group: Any, action: Any) -> None:
        self.since = asyncio.get_running_loop().time()
        await super().restart(task_group, action)

    async def stop(self) -> None:
        self.since = math.inf
        await super().stop()


class Connection(TCPServer):
    """A connection that ends when its client leaves; hypercorn's own waits out the keep-alive time, or for ever."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.idle_task: _Idle = _Idle()

    @property
    def idle_since(self) -> float:
        """Since when, by the loop's clock, it has waited for a request; infinity while it has one."""
        return self.idle_task.since

    async def run(self) -> None:
        """Answers the client until it has left, or has had its time."""
        sock = self.writer.get_extra_info("socket")
        lost = self.loop.create_task(self.writer.wait_closed())
        try:
            client, server = (parse_socket_addr(sock.family, end()) for end in (sock.getpeername, sock.getsockname))
            async with TaskGroup(self.loop) as group:
                self._task_group = group
                self.protocol = _Protocol(
                    *(self.app, self.config, self.context, group, ConnectionState(self.state)),
                    *(False, client, server, self.protocol_send),
                )
                await self.idle_task.restart(group, self._idle_timeout)
                reading = self.loop.create_task(self._read_data())
                try:  # it may wait for the end of a request before it reads on, and so notice nothing
                    await asyncio.wait([reading, lost], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    reading.cancel()
                await self.protocol.handle(Closed())
                await self.idle_task.stop()
                await asyncio.wait([reading])
                if not reading.cancelled():
                    reading.result()
        except OSError:
            pass  # the client was gone at once
        finally:
            await self._close()

    async def _idle_timeout(self) -> None:
        if not self.reader.at_eof() and not self.writer.is_closing():
            await super()._idle_timeout()


class Ends(asyncio.StreamReaderProtocol):
    """A connection's two streams, which end without a word: what went wrong on the way to a client is not our business.

    hypercorn takes some of the errors for its own, such as a time limit of TCP.
    """

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(None)


class _Protocol(ProtocolWrapper):
    """Our own HTTP/1.1, and our own HTTP/2 where a client asks for it, in place of hypercorn's."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, H11Protocol | H2Protocol):
            kind = Http2 if isinstance(value, H2Protocol) else _Http1
            value = kind(
                *(self.app, self.config, self.context, self.task_group, self.state),
                *(self.ssl, self.client, self.server, self.send),
            )
        super().__setattr__(name, value)


class _Http1(H11Protocol):
    """HTTP/1.1 whose streams go straight out: a tenth of what a piece costs is h11, which puts its length before it.

    The head of a stream of events goes out with the first of it, which follows at once.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _chunked = False
    _head = b""
    _rest = 0

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._places: list[Place] = []
        self.connection_state = ConnectionState({**self.connection_state, PLACES: self._places})

    async def handle(self, event: ConnectionEvent) -> None:
        """Takes in bytes; those of a request that is refused as it is go no further."""
        if isinstance(event, Closed):
            self._give_back()
        if self._rest and isinstance(event, RawData):
            passed, self._rest = min(self._rest, len(event.data)), max(0, self._rest - len(event.data))
            event = RawData(event.data[passed:])
            if not event.data:
                return
        if (
            isinstance(event, RawData)
            and isinstance(self.context, Context)
            and self.stream is None
            and getattr(self.connection, "trailing_data", None) == (b"", False)  # it begins with these bytes
            and self.context.admission.pressed()
            and (decided := self.context.refusal.decide(event.data)) is not None
        ):
            if isinstance(decided, Place):
                self._places.append(decided)
            else:
                answer, self._rest = decided
                await self.send(RawData(answer))
                await self.send(Updated(idle=True))
                return
        await super().handle(event)
        self._watch(isinstance(event, RawData) and self.stream is None and self.connection.trailing_data[0] != b"")

    def _watch(self, half: bool) -> None:
        """Gives the rest of a head that has begun its time, which further pieces do not put off."""
        if half and self._head_timer is None:
            end = partial(self.task_group.spawn, self.send, Closed())
            self._head_timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, end)
        elif self._head_timer is not None and not half:
            self._head_timer.cancel()
            self._head_timer = None

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, StreamClosed):
            self._give_back()
        head, self._head = self._head, b""
        if isinstance(event, Body) and event.data and self._chunked:
            await self.send(RawData(b"%b%x\r\n%b\r\n" % (head, len(event.data), event.data)))
            return
        if head:
            await self.send(RawData(head))
        if isinstance(event, Response):
            # as h11 decides it (RFC 9112 section 6.3); an upgraded connection has no version
            sized = any(name == b"content-length" for name, _ in event.headers)
            self._chunked = not sized and getattr(self.connection, "their_http_version", None) == b"1.1"
        await super().stream_send(event)

    def _give_back(self) -> None:
        """Frees a place that the request has not taken up: it has an answer and no turn, or is gone."""
        while self._places:
            self._places.pop().free()

    async def _send_h11_event(self, event: Any) -> None:
        if isinstance(event, Head):
            self._give_back()
        if self._chunked and isinstance(event, Head) and (b"content-type", b"text/event-stream") in event.headers:
            try:
                self._head = self.connection.send(event) or b""
            except LocalProtocolError:
                if self.connection.their_state is not ERROR:
                    raise
        else:
            await super()._send_h11_event(event)
