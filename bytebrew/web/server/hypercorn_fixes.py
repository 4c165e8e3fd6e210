"""Patches of hypercorn 0.18: disconnects and timeouts of connections, and faster HTTP/1.1.

The docstring of each class has the reason, the upstream issue, and when to delete the patch.
"""

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
from bytebrew.web.server.http2 import Answers, Http2
from bytebrew.web.server.shedding import Refusal

HEAD_SECONDS = 15.0
"""Time limit for a request's headers, from the first byte."""


class ServerState(WorkerContext):
    """State that all connections of a server share."""

    def __init__(self, admission: Admission, refusal: Refusal, processes: int) -> None:
        super().__init__(None)
        self.admission = admission
        self.refusal = refusal
        self.answers = Answers(memory(processes) // 8)


class _Idle(AsyncioSingleTask):
    """The idle timer of a connection; `since` is the time of the event loop at which it was started.

    Why: while the connection limit is reached, the server closes the connections that have been idle longest. Upstream:
    none known. Delete when: hypercorn limits its connections.
    """

    since = math.inf

    async def restart(self, task_group: Any, action: Any) -> None:
        self.since = asyncio.get_running_loop().time()
        await super().restart(task_group, action)

    async def stop(self) -> None:
        self.since = math.inf
        await super().stop()


class Connection(TCPServer):
    """A connection that ends when its client disconnects.

    Why: hypercorn stops reading while a request is being answered, so it detects a disconnect only after the keep-alive
    timeout (75 s here), or never if nobody reads the request's body; the event stream and the descriptor leak.
    Upstream: pgjones/hypercorn#361 (errors while closing), #338 (an idle timer that is never awaited). Delete when:
    tests/web/server/test_connections.py passes with hypercorn's TCPServer.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.idle_task: _Idle = _Idle()

    @property
    def idle_since(self) -> float:
        """Time of the event loop since which the connection is idle; infinity during a request."""
        return self.idle_task.since

    async def run(self) -> None:
        """Serves the client until it disconnects or times out."""
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
                try:  # the read alone does not end on a disconnect while a request is being answered
                    await asyncio.wait([reading, lost], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    reading.cancel()
                await self.protocol.handle(Closed())
                await self.idle_task.stop()
                await asyncio.wait([reading])
                if not reading.cancelled():
                    reading.result()
        except OSError:
            pass  # the client disconnected at once
        finally:
            await self._close()

    async def _idle_timeout(self) -> None:
        if not self.reader.at_eof() and not self.writer.is_closing():
            await super()._idle_timeout()


class ClientStreams(asyncio.StreamReaderProtocol):
    """The reader and writer of a connection; a lost connection is not an error.

    Why: hypercorn does not catch OSErrors other than ConnectionError, such as TCP's timeout (ETIMEDOUT): each is logged
    with a traceback. Upstream: pgjones/hypercorn#361, #202. Delete when: #361 is fixed.
    """

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(None)


class _Protocol(ProtocolWrapper):
    """Replaces hypercorn's HTTP/1.1 and HTTP/2 by the patched classes; hypercorn has no setting for it.

    Upstream: none known. Delete when: neither is needed.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, H11Protocol | H2Protocol):
            kind = Http2 if isinstance(value, H2Protocol) else _Http1
            value = kind(
                *(self.app, self.config, self.context, self.task_group, self.state),
                *(self.ssl, self.client, self.server, self.send),
            )
        super().__setattr__(name, value)


class _Http1(H11Protocol):
    """HTTP/1.1 with its own chunked encoding, rejection before parsing, and a time limit for headers.

    Why: h11 takes 3.0 us of CPU per chunk, this class 1.1 us, of the 32 us per delta in a burst; the headers of an
    event stream are sent with the first event, which saves one write per turn; a rejection under overload takes a tenth
    of the time that it takes in the application; a client that never completes its headers would hold its connection
    for ever. Upstream: none known. Delete when: `make bench` and `make test-faults` hold with H11Protocol.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _chunked = False
    _head = b""
    _rest = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._places: list[Place] = []
        self.connection_state = ConnectionState({**self.connection_state, PLACES: self._places})

    async def handle(self, event: ConnectionEvent) -> None:
        """Processes bytes, except those of a request that was rejected before parsing."""
        if isinstance(event, Closed):
            self._give_back()
        if self._rest and isinstance(event, RawData):
            passed, self._rest = min(self._rest, len(event.data)), max(0, self._rest - len(event.data))
            event = RawData(event.data[passed:])
            if not event.data:
                return
        if (
            isinstance(event, RawData)
            and isinstance(self.context, ServerState)
            and self.stream is None
            and getattr(self.connection, "trailing_data", None) == (b"", False)  # a new request begins here
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
        """Starts the time limit for incomplete headers; further bytes do not extend it."""
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
            # h11's own rule (RFC 9112 section 6.3); an upgraded connection has no version
            sized = any(name == b"content-length" for name, _ in event.headers)
            self._chunked = not sized and getattr(self.connection, "their_http_version", None) == b"1.1"
        await super().stream_send(event)

    def _give_back(self) -> None:
        """Frees the places that were not used by a turn, once the request is answered or aborted."""
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
