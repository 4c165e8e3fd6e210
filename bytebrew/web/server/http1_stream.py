"""One HTTP/1.1 request and its answer, as an ASGI call."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote

from starlette.types import Message, Scope

from bytebrew.web.admission import Place
from bytebrew.web.server.http1_parser import Head
from bytebrew.web.server.presence import ON_DISCONNECT

_ASGI = {"version": "3.0", "spec_version": "2.1"}
Ends = tuple[tuple[str, int], tuple[str, int]]
"""Address and port of the client, and of the server."""


class Connection(Protocol):
    """What a stream uses of its connection."""

    @property
    def is_stalled(self) -> bool:
        """Whether the client reads too little or is gone, so that the application must wait for `writable`."""

    async def writable(self) -> None:
        """Waits until the client has read enough."""

    def write(self, data: bytes) -> None:
        """Sends a part of the answer."""

    def date(self) -> bytes:
        """The header Date of an answer."""

    def balance(self) -> None:
        """Reads from the client while there is room for what it sends."""

    def answered(self, *, keeps_alive: bool) -> None:
        """Begins the next request, or ends the connection."""

    def ended(self, stream: "Http1Stream", running: asyncio.Task[None]) -> None:
        """Ends the connection if the answer is incomplete."""


class Http1Stream:
    """One request and its answer, as the two callables of an ASGI application."""

    __slots__ = (
        *("held", "is_sent", "_connection", "_without_body", "_newer", "_keeps_alive", "_places"),
        *("_pieces", "_whole", "_taken", "_gone", "_waiting", "_head", "_left", "_finished", "_on_disconnect"),
    )

    def __init__(self, connection: Connection, head: Head, places: list[Place]) -> None:
        self.held = 0  # bytes of the body that the application has not received
        self.is_sent = False  # whether the answer has begun for the client
        self._connection = connection
        self._newer, self._keeps_alive, self._without_body = head.is_newer, head.keeps_alive, head.method == "HEAD"
        self._places = places
        self._pieces: list[bytes] = []
        self._whole = self._taken = self._gone = self._finished = False
        self._waiting: asyncio.Future[None] | None = None
        self._head = b""  # goes out with the first bytes of the body
        self._on_disconnect: Callable[[], object] | None = None
        self._left: int | None = None  # of an answer with Content-Length

    def scope(self, head: Head, ends: Ends, state: dict[str, Any]) -> Scope:
        """The ASGI scope of a request."""
        path, _, query = head.target.partition(b"?")
        client, server = ends
        return {
            "type": "websocket" if head.opens_websocket else "http",
            "asgi": _ASGI,
            "http_version": head.version,
            "method": head.method,
            "scheme": "http",
            "path": unquote(path.decode()),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": head.headers,
            "client": client,
            "server": server,
            "state": state,
            "extensions": {ON_DISCONNECT: self.on_disconnect},
        }

    def feed(self, piece: bytes, *, whole: bool) -> None:
        """Takes a part of the body, maybe the last one."""
        if piece:
            self._pieces.append(piece)
            self.held += len(piece)
        self._whole = whole
        if piece or whole:
            self._wake()

    def disconnect(self) -> None:
        """Notes that the client will send nothing more; it may still read the answer. Safe to call again."""
        if self._gone:
            return
        self._gone = True
        self._wake()
        self._give_back()
        if self._on_disconnect is not None:
            self._on_disconnect()

    def on_disconnect(self, call: Callable[[], object] | None) -> None:
        """Sets what is called once the client will send nothing more; None for nothing."""
        self._on_disconnect = call
        if call is not None and self._gone:
            call()

    def ended(self, running: asyncio.Task[None]) -> None:
        """Notes that the application has ended."""
        self._connection.ended(self, running)

    async def receive(self) -> Message:
        """The next ASGI message of the request; one task at a time may wait for it."""
        while not (self._pieces or self._gone or (self._whole and not self._taken)):
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        if not self._pieces and (self._taken or not self._whole):
            return {"type": "http.disconnect"}
        body = b"".join(self._pieces)
        self._pieces.clear()
        self.held = 0
        self._taken = self._whole
        self._connection.balance()
        return {"type": "http.request", "body": body, "more_body": not self._whole}

    async def send(self, message: Message) -> None:
        """Sends an ASGI message of the answer, and waits while the client reads too little."""
        kind = message["type"].removeprefix("websocket.")  # an answer instead of a WebSocket
        begun = self.is_sent or self._head
        if kind == "http.response.start" and not begun:
            self._begin(message["status"], message["headers"])
        elif kind == "http.response.body" and begun and not self._finished:
            self._finished = not message.get("more_body", False)
            self._continue(message.get("body", b""))
            if self._connection.is_stalled:
                await self._connection.writable()
            if self._finished:  # not before, as pipelined requests would be answered however little is read
                self._connection.answered(keeps_alive=self._keeps_alive)
        else:
            raise RuntimeError(f"{message['type']} is out of order")

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._give_back()
        values = dict(headers)
        lines = [b"%b: %b\r\n" % line for line in headers]
        lines.append(self._connection.date())
        if (length := values.get(b"content-length")) is not None:
            self._left = int(length)
        elif status in (204, 304):
            self._without_body = True
        elif not self._newer:
            self._keeps_alive = False
        else:
            lines.append(b"transfer-encoding: chunked\r\n")
        if values.get(b"connection") == b"close":
            self._keeps_alive = False
        elif not self._keeps_alive:
            lines.append(b"connection: close\r\n")
        block = b"".join(lines)
        if not block.count(b"\r\n") == block.count(b"\r") == block.count(b"\n") == len(lines) or b"\0" in block:
            raise ValueError("a header of the answer has a line end in it")
        self._head = b"HTTP/1.1 %d \r\n%b\r\n" % (status, block)

    def _continue(self, data: bytes) -> None:
        head, self._head = self._head, b""
        self.is_sent = True
        if self._without_body:
            data = head
        elif self._left is not None:
            self._left -= len(data)
            if self._left < 0 or (self._finished and self._left):
                raise RuntimeError("the body of the answer has not the length of its Content-Length")
            data = head + data if head else data
        elif not self._newer:
            data = head + data
        else:
            end = b"0\r\n\r\n" if self._finished else b""
            data = b"%b%x\r\n%b\r\n%b" % (head, len(data), data, end) if data else head + end
        if data:
            self._connection.write(data)
        if self._finished:
            self._gone = True
            self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _give_back(self) -> None:
        """Frees the place that was not used by a turn."""
        while self._places:
            self._places.pop().free()
