"""An httpx transport that calls an engine in this process, with streamed answers."""

import asyncio
from collections.abc import AsyncIterator

import httpx
from starlette.types import Message, Scope

from bytebrew.engine import Engine
from bytebrew.web.app import Application

WAITING = 64
"""Limit of buffered chunks of an answer."""


class InProcess(httpx.AsyncBaseTransport):
    """Sends requests to an engine; answers are streamed, and closing one early is a disconnect.

    An exception of the engine, which would abort a connection, is raised in the client.
    """

    def __init__(self, engine: Engine) -> None:
        self._application = Application(engine)
        self._exchanges: set[Exchange] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer, once its headers have arrived."""
        exchange = Exchange(self._application, _scope(request), await request.aread())
        self._exchanges.add(exchange)
        exchange.running.add_done_callback(lambda _: self._exchanges.discard(exchange))
        start = await exchange.head
        return httpx.Response(start["status"], headers=start["headers"], stream=exchange)

    async def aclose(self) -> None:
        """Disconnects every client and waits for their requests to end."""
        for exchange in (open_still := [*self._exchanges]):
            exchange.left.set()
        await asyncio.gather(*(exchange.running for exchange in open_still), return_exceptions=True)


class Exchange(httpx.AsyncByteStream):
    """One request and its answer."""

    def __init__(self, application: Application, scope: Scope, body: bytes) -> None:
        self.left = asyncio.Event()
        self.head: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._unread: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(WAITING)
        self.running = asyncio.create_task(self._run(application, scope))

    async def _run(self, application: Application, scope: Scope) -> None:
        try:
            await application(scope, self._receive, self._send)
        except Exception as error:
            if self.head.done():
                raise
            self.head.set_exception(error)

    async def _receive(self) -> Message:
        if self._unread is not None:
            message, self._unread = self._unread, None
            return message
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.head.set_result(message)
        elif self.left.is_set():
            await asyncio.sleep(0)  # lets an endless stream notice the disconnect
        elif piece := message.get("body", b""):
            await self._pieces.put(piece)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not (self.running.done() and self._pieces.empty()):
            piece = asyncio.create_task(self._pieces.get())
            await asyncio.wait([piece, self.running], return_when=asyncio.FIRST_COMPLETED)
            if piece.done():
                yield piece.result()
            else:
                piece.cancel()
        self.running.result()

    async def aclose(self) -> None:
        """Disconnects; the rest is discarded."""
        self.left.set()
        while not self._pieces.empty():
            self._pieces.get_nowait()


def _scope(request: httpx.Request) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 1),
        "server": (request.url.host, request.url.port or 80),
        "state": {},
    }
