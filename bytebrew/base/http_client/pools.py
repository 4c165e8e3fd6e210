"""Connection pools, one per origin, and the count of their idle connections."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any
from weakref import WeakSet

import httpx
from aiohttp import ClientRequest, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from httpx_aiohttp import AiohttpTransport

from bytebrew.base.http_client.addresses import Sockets
from bytebrew.base.rolling_timeout import within


class Idle:
    """Counts the idle connections of all pools, and closes those beyond `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: WeakSet[ResponseHandler] = WeakSet()
        self._used = 0

    def take(self, connection: Connection) -> None:
        """Counts a connection as in use until it is released."""
        if (protocol := connection.protocol) is not None:
            self._open.add(protocol)
            self._used += 1
            connection.add_callback(partial(self._leave, protocol))

    def _leave(self, protocol: ResponseHandler) -> None:
        self._used -= 1
        if len(self._open) - self._used > self._most:
            self._open = WeakSet(one for one in self._open if one.is_connected())
            if len(self._open) - self._used > self._most:
                protocol.force_close()


class _Connector(TCPConnector):
    """Opens connections; a timeout first reads data that arrived while the process was suspended."""

    def __init__(self, idle: Idle, **options: Any) -> None:
        super().__init__(**options)
        self._idle = idle

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109 - aiohttp names it
        with within(timeout.sock_connect):
            connection = await super().connect(req, traces, ClientTimeout())
        self._idle.take(connection)
        return connection


class Pool(AiohttpTransport):
    """A transport that opens connections on demand, even after it was closed.

    `open` counts requests with unclosed responses. All pools share `idle` and `slots`; a request waits for a slot, then
    for `before`.
    """

    def __init__(
        self,
        trust: ssl.SSLContext,
        sockets: Sockets,
        slots: asyncio.Semaphore,
        idle: Idle,
        before: Callable[[], Awaitable[None]],
    ) -> None:
        self.open = 0
        self._retired = False
        self._slots, self._before = slots, before

        def session() -> ClientSession:
            connector = _Connector(idle, limit=4096, keepalive_timeout=30, ssl=trust, socket_factory=sockets)
            return ClientSession(connector=connector, cookie_jar=DummyCookieJar())

        self._session = session
        super().__init__(verify=trust, client=session)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request; the response must be closed."""
        self.open += 1
        try:
            await self._slots.acquire()
        except BaseException:
            self.open -= 1
            raise
        try:
            await self._before()
            response = await super().handle_async_request(request)
        except BaseException:
            await self._closed()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Counted(response.stream, self._closed)
        return response

    async def retire(self) -> None:
        """Closes the connections once none is in use, and again after each later use."""
        self._retired = True
        if self.open:
            return
        session, self.client = self.client, self._session
        if isinstance(session, ClientSession):
            await session.close()

    async def _closed(self) -> None:
        self.open -= 1
        self._slots.release()
        if self._retired:
            await self.retire()


class _NoCookies(httpx.Cookies):
    def extract_cookies(self, response: httpx.Response) -> None:
        """Ignores cookies."""


class Client(httpx.AsyncClient):
    """A client without cookies, because many users share it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._none = _NoCookies()

    @property
    def cookies(self) -> httpx.Cookies:
        """Always empty."""
        return self._none

    @cookies.setter
    def cookies(self, cookies: object) -> None:
        """Ignored."""


class _Counted(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, closed: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        self._closed: Callable[[], Awaitable[None]] | None = closed

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        closed, self._closed = self._closed, None
        try:
            await self._stream.aclose()
        finally:
            if closed is not None:
                await closed()
