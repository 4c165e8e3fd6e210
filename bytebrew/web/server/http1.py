"""HTTP/1.1 connections."""

import asyncio
import logging
import math

from bytebrew.web.admission import PLACES, Place
from bytebrew.web.server.connections import Connections, Terms
from bytebrew.web.server.http1_parser import PREFACE, ChunkedBody, Head, Malformed, SizedBody, read_head
from bytebrew.web.server.http1_stream import Ends, Http1Stream
from bytebrew.web.server.hypercorn_fixes import Http2Connection

log = logging.getLogger(__name__)

UNREAD_BYTES = 65_536
"""Bytes of a body that nobody takes, or of the next requests, above which nothing more is read."""


class Http1(asyncio.Protocol):
    """A connection, which speaks HTTP/1.1 unless its client begins with the preface of HTTP/2.

    It upgrades to nothing: proxies may pass `Upgrade: h2c` on, and would not see what comes after it, such as headers
    that only they may write. RFC 9113 section 3.1 has deprecated it.

    It has no task of its own: each request is a task of the application, and requests are answered one by one.
    """

    __slots__ = (
        *("idle_since", "_shared", "_crowded", "_terms", "_transport", "_ends", "_unread", "_skip", "_place"),
        *("_stream", "_body", "_running", "_eof", "_lost", "_paused", "_writable"),
    )

    def __init__(self, shared: Connections, crowded: bool) -> None:
        self.idle_since = math.inf
        self._shared, self._crowded = shared, crowded
        self._transport: asyncio.Transport
        self._ends: Ends
        self._terms: Terms
        self._unread: bytes | bytearray = b""
        self._skip = 0  # bytes of the body of a request that was rejected before parsing
        self._place: Place | None = None  # of a request that was admitted before parsing
        self._stream: Http1Stream | None = None
        self._body: SizedBody | ChunkedBody | None = None
        self._running = 0
        self._eof = self._lost = self._paused = False
        self._writable: asyncio.Event | None = None

    # The transport's calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._terms = self._shared.add(self, crowded=self._crowded)
        client, server = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if client and server:
            self._ends = client[:2], server[:2]
            self._rest()
        else:
            transport.abort()  # the client has disconnected already

    def data_received(self, data: bytes) -> None:
        if self._skip:
            passed = min(self._skip, len(data))
            self._skip -= passed
            data = data[passed:]
        if self._unread:
            self._unread += data
            self._process(self._unread)
        else:
            self._process(data)

    def eof_received(self) -> bool:
        self._eof = True
        if self._stream is None:
            return False
        self._stream.disconnect()
        return True

    def pause_writing(self) -> None:
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._unread = b""
        self._stop_timers()
        self._give_back()
        if self._stream is not None:
            self._stream.disconnect()
        self.resume_writing()
        self._leave()

    # What the server and the stream call.

    def close(self) -> None:
        """Ends the connection once what was written is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Ends the connection at once."""
        self._transport.abort()

    @property
    def is_stalled(self) -> bool:
        """Whether the client reads too little or is gone, so that the application must wait for `writable`."""
        return self._writable is not None or self._transport.is_closing()

    async def writable(self) -> None:
        """Waits until the client has read enough; returns at once if it is gone."""
        if self._writable is not None:
            await self._writable.wait()
        else:
            await asyncio.sleep(0)  # lets an endless stream notice the disconnect

    def write(self, data: bytes) -> None:
        """Sends a part of an answer."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def date(self) -> bytes:
        """The header Date of an answer."""
        return self._shared.date()

    def balance(self) -> None:
        """Reads from the client while there is room for what it sends."""
        held = self._stream.held if self._stream is not None else 0
        full = held > UNREAD_BYTES or len(self._unread) > UNREAD_BYTES
        if full is not self._paused and not self._transport.is_closing():
            self._paused = full
            if full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def answered(self, *, keeps_alive: bool) -> None:
        """Begins the next request, or ends the connection."""
        self._stream = None
        gone = self._transport.is_closing()  # a connection without client would rest for as long as one with
        if gone or not keeps_alive or self._body is not None or self._shared.terminated.is_set():
            self._transport.close()
            return
        self._rest()
        if self._unread:
            self._process(self._unread)
        if self._eof and self._stream is None:
            self._transport.close()

    # Requests.

    def _process(self, data: bytes | bytearray) -> None:
        try:
            at = self._consume(data)
        except Malformed as error:
            self._reject(error.status)
            return
        if at == len(data):
            self._unread = b""
        elif isinstance(data, bytearray):
            del data[:at]
        else:
            self._unread = bytearray(memoryview(data)[at:])
        if self._stream is not None or not self._unread:
            self._shared.heads.discard(self)
        elif self not in self._shared.heads:  # further bytes do not extend it
            self._shared.heads.add(self)
        self.balance()

    def _consume(self, data: bytes | bytearray) -> int:
        """Processes bytes; returns the number of those that need not be kept."""
        at, before = 0, -1
        while before < at < len(data) and not self._transport.is_closing():
            before = at
            if self._stream is None:
                at = self._begin(data, at)
            elif self._body is not None:
                piece, at, whole = self._body.take(data, at)
                if whole:
                    self._body = None
                self._stream.feed(piece, whole=whole)
        return at

    def _begin(self, data: bytes | bytearray, at: int) -> int:
        """Begins the request at a position if its headers are complete; returns the position behind it."""
        if self._shared.admission.pressed() and isinstance(data, bytes) and not at and self._rejects(data):
            return len(data)
        if data.startswith(PREFACE, at):
            self._switch(bytes(data[at:]))
            return len(data)
        if (found := read_head(data, at)) is None:
            return at
        head, at = found
        self._start(head)
        return at

    def _start(self, head: Head) -> None:
        self.idle_since = math.inf
        self._terms.idle.discard(self)
        self._body = head.body()
        places, self._place = [self._place] if self._place is not None else [], None
        state = {**self._terms.state, PLACES: places} if places else self._terms.state
        self._stream = stream = Http1Stream(self, head, places)
        if self._body is None:
            stream.feed(b"", whole=True)
        elif head.expects_continue:
            self._transport.write(b"HTTP/1.1 100 \r\n\r\n")
        if self._eof:
            stream.disconnect()
        scope = stream.scope(head, self._ends, state)
        answering = self._shared.application(scope, stream.receive, stream.send)
        running = self._shared.loop.create_task(answering, context=self._shared.variables.copy())
        self._running += 1
        self._shared.tasks.add(running)
        running.add_done_callback(stream.ended)

    def _rejects(self, data: bytes) -> bool:
        """Whether the request is rejected before parsing."""
        if self.is_stalled:  # the application's answer waits until the client reads
            return False
        decided = self._shared.refusal.decide(data)
        if decided is None:
            return False
        if isinstance(decided, Place):
            self._place = decided
            return False
        answer, self._skip = decided
        self._transport.write(answer)
        self._rest()
        return True

    def _reject(self, status: int) -> None:
        """Ends the connection after a malformed request or a failure, with a status unless the answer has begun."""
        self._give_back()
        if self._stream is None or not self._stream.is_sent:
            self.write(b"HTTP/1.1 %d \r\ncontent-length: 0\r\nconnection: close\r\n%b\r\n" % (status, self.date()))
        if self._stream is not None:
            self._stream.disconnect()
        self._transport.close()

    def ended(self, stream: Http1Stream, running: asyncio.Task[None]) -> None:
        """Ends the connection if the application has ended without a whole answer."""
        self._shared.tasks.discard(running)
        self._running -= 1
        if not running.cancelled() and (error := running.exception()):
            log.error("a request failed", exc_info=error)
        if self._stream is stream:
            self._reject(500)
        self._leave()

    def _leave(self) -> None:
        if self._lost and not self._running:
            self._shared.remove(self)

    def _give_back(self) -> None:
        if self._place is not None:
            self._place.free()
            self._place = None

    def _switch(self, data: bytes) -> None:
        """Passes the connection on to HTTP/2."""
        self._stop_timers()
        self._give_back()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._shared.replace(self, Http2Connection(self._shared, self._terms, self._transport, data))
        if self._writable is not None:
            self._transport.get_protocol().pause_writing()

    # Time.

    def _rest(self) -> None:
        """Begins the time without a request."""
        self.idle_since = self._shared.loop.time()
        self._terms.idle.add(self)

    def _stop_timers(self) -> None:
        self._terms.idle.discard(self)
        self._shared.heads.discard(self)
