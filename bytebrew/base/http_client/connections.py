"""A connection of the HTTP client: HTTP/1.1 with one request at a time; llhttp parses the responses."""

import asyncio
import re
from collections.abc import AsyncIterable, Callable
from typing import cast

import httpx
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from bytebrew.base.http_client.network_errors import TooLong
from bytebrew.base.rolling_timeout import within

OVERHEAD_BYTES = 65536
"""Limit of what may come in a row that is not body: a head, the extension of a chunk, trailers."""
HEADER_BYTES = 8190
MOST_HEADERS = 128
BUFFER_BYTES = 512 * 1024
"""Size of an unread body at which the socket is not read any more."""
_TOKEN = re.compile(rb"[\w!#$%&'*+.^`|~-]+")
"""Grammar of a method and of a header's name (RFC 9110 section 5.6.2)."""
Key = tuple[str, str, int, str]
"""Scheme, host, port, and the name that a certificate has."""


class Connection(asyncio.Protocol):
    """A connection to a server; `left` is called when it has been closed.

    `whole` is set once a response has been received to its end, `gone` once the connection has been closed.
    """

    def __init__(self, key: Key, left: Callable[["Connection"], None]) -> None:
        self.key = key
        self._left = left
        self._loop = asyncio.get_running_loop()
        self.gone = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable = True
        self._begin(bodiless=False)

    def _begin(self, *, bodiless: bool) -> None:
        self.status, self.reason, self.headers = 0, b"", list[tuple[bytes, bytes]]()
        self.whole = self._lasting = self._incomplete = self._headed = False
        self._bodiless = bodiless
        self._pieces: list[bytes] = []
        self._size = self._overhead = 0
        self._paused = False
        self._fault: tuple[type[httpx.TransportError], str, BaseException | None] | None = None

    @property
    def closed(self) -> bool:
        """Whether it cannot be used any more."""
        return self._transport is None or self._transport.is_closing()

    @property
    def reusable(self) -> bool:
        """Whether another request may follow, since the last one and its response are whole."""
        return self.whole and self._lasting and self._writable and not self._incomplete and not self.closed

    def close(self) -> None:
        """Closes it at once."""
        self._fail(httpx.ReadError, "the connection was closed", ConnectionResetError())

    async def send(
        self,
        method: str,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes | AsyncIterable[bytes],
        length: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """Sends a request; returns early if the response comes before its end.

        Pieces are sent as chunks unless `length` says how long they are together. WriteTimeout if the server reads
        nothing for so many seconds.
        """
        head = b"".join(
            (
                b"%s %s HTTP/1.1\r\n" % (method.encode("ascii"), target),
                *[b"%s: %s\r\n" % header for header in headers],
                b"\r\n",
            )
        )
        ends = len(headers) + 2
        if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
            raise httpx.LocalProtocolError("a header has a line break or a null byte")
        if not all(map(_TOKEN.fullmatch, [method.encode("ascii"), *[name for name, _ in headers]])):
            raise httpx.LocalProtocolError("the method or the name of a header is no token")
        if self.closed:
            raise httpx.ReadError("closed") from ConnectionResetError()
        assert self._transport is not None
        if self._paused:
            self._transport.resume_reading()
        self._begin(bodiless=method == "HEAD")
        self._parser = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        if isinstance(body, bytes):
            # asyncio's own loop, since Python 3.12, tries to write an empty piece of writelines for ever
            self._transport.writelines((head, body) if body else (head,))
        else:
            self._transport.write(head)
            left = length
            async for piece in body:
                await self._drained(seconds)
                if self._headed or self.closed:
                    self._incomplete = True
                    return
                if left is not None and (left := left - len(piece)) < 0:
                    raise httpx.LocalProtocolError("the body is longer than its Content-Length")
                if piece:
                    self._transport.write(b"%x\r\n%s\r\n" % (len(piece), piece) if left is None else piece)
            if left:
                raise httpx.LocalProtocolError("the body is shorter than its Content-Length")
            self._transport.write(b"0\r\n\r\n" if left is None else b"")
        await self._drained(seconds)

    async def _drained(self, seconds: float | None) -> None:
        while not (self._writable or self._headed):
            unsent = self._unsent
            try:
                with within(seconds):
                    await self._wait()
            except TimeoutError as error:
                if self._unsent >= unsent:
                    raise httpx.WriteTimeout(f"nothing was read for {seconds:g} s") from error

    @property
    def _unsent(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    async def head(self) -> None:
        """Waits for the head of the response."""
        while not self._headed:
            await self._wait()

    def rest(self) -> None:
        """Forgets the last response."""
        self._begin(bodiless=False)

    async def read(self) -> bytes:
        """What has arrived of the body, waiting for some; nothing at its end."""
        while not self._pieces:
            if self.whole:
                return b""
            await self._wait()
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._paused and self._transport is not None and not self.closed:
            self._paused = False
            self._transport.resume_reading()
        return body

    async def _wait(self) -> None:
        """Waits for anything to happen; raises the error that has ended the response."""
        if self._fault is not None:
            kind, message, cause = self._fault
            raise kind(message) from cause
        self._waiter = self._loop.create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, kind: type[httpx.TransportError], message: str, cause: BaseException | None) -> None:
        self._fault, self._parser = (kind, message, cause), None
        if self._transport is not None:
            self._transport.abort()

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self.close()  # nothing was asked for
            return
        size = self._size
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._lasting = False
        except HttpParserError as error:
            if self.whole:
                self._lasting = False
            else:
                self._fail(httpx.RemoteProtocolError, str(error), error)
        if self.whole:
            self._parser = None
        elif self._size == size:
            self._overhead += len(data)
            if self._overhead > OVERHEAD_BYTES:
                self._fail(httpx.RemoteProtocolError, "too long", TooLong())
        else:
            self._overhead = 0
            if self._size > BUFFER_BYTES and not self._paused and self._transport is not None and not self.closed:
                self._paused = True
                self._transport.pause_reading()
        self._wake()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._parser is not None and not self.whole:
            self._parser = None
            if self._headed and self._until_eof and exc is None:
                self.whole = True
            elif self._headed and exc is None:
                self._fault = httpx.RemoteProtocolError, "the body is not whole", None
            else:
                self._fault = httpx.ReadError, "the connection was closed", exc or ConnectionResetError()
        self._wake()
        self._left(self)
        self.gone.set()

    # What the parser calls

    def on_message_begin(self) -> None:
        """Notes a response that nobody has asked for."""
        if self.whole:  # it sends what was not asked for
            self._lasting = False

    def on_status(self, reason: bytes) -> None:
        """Takes a part of the reason."""
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header; a trailer is discarded."""
        if self._headed:
            return  # a trailer
        if len(name) + len(value) > HEADER_BYTES:
            raise TooLong
        if len(self.headers) == MOST_HEADERS or b"\0" in value:
            raise ValueError("too many headers, or a null byte")
        self.headers.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Takes the end of a head; that of an interim response is forgotten."""
        if self.whole or self._parser is None:
            return
        if (status := self._parser.get_status_code()) < 100:
            raise ValueError("no status")
        if status < 200 and status != 101:
            self.reason, self.headers = b"", []
            return
        self.status, self._headed = status, True
        codings = [value.lower() for name, value in self.headers if name.lower() == b"transfer-encoding"]
        sized = any(name.lower() == b"content-length" for name, _ in self.headers)
        self._until_eof = not codings[-1].endswith(b"chunked") if codings else not sized
        if self._bodiless:
            self.on_message_complete()

    def on_body(self, piece: bytes) -> None:
        """Takes a part of the body."""
        if self.whole:  # it answers HEAD with a body, of which more may come
            self._lasting = False
        else:
            self._pieces.append(piece)
            self._size += len(piece)

    def on_message_complete(self) -> None:
        """Takes the end of the response."""
        if self._headed and not self.whole and self._parser is not None:
            self.whole, self._lasting = True, self._parser.should_keep_alive()
