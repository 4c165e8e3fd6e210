"""Connection pools, one per origin, and the count of their idle connections."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any
from weakref import WeakSet

import httpx
from aiohttp import (
    ClientError,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from bytebrew.base.http_client.addresses import Sockets
from bytebrew.base.http_client.network_errors import as_httpx
from bytebrew.base.rolling_timeout import within

_UNLIMITED = ClientTimeout()


@lru_cache(64)
def _timeout(connect: float | None, read: float | None) -> ClientTimeout:
    return ClientTimeout(sock_connect=connect, sock_read=read)


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
        connection = await super().connect(req, traces, timeout)
        self._idle.take(connection)
        return connection

    async def _create_connection(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 - aiohttp names it
    ) -> ResponseHandler:
        with within(timeout.sock_connect):
            return await super()._create_connection(req, traces, _UNLIMITED)


class Pool(httpx.AsyncBaseTransport):
    """A transport over aiohttp's connections, which it opens on demand, even after it was closed.

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
        self._connector = partial(_Connector, idle, limit=4096, keepalive_timeout=30, ssl=trust, socket_factory=sockets)
        self._session: ClientSession | None = None

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
            response = await self._send(request)
        except BaseException as error:
            await self._closed()
            if isinstance(error, ClientError):
                raise as_httpx(error) from error
            raise
        phrase = {"reason_phrase": response.reason.encode()} if response.reason else {}
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=Body(response, self._closed),
            extensions={"http_version": b"HTTP/1.1", **phrase},
        )

    async def _send(self, request: httpx.Request) -> ClientResponse:
        if request.url.userinfo:
            raise httpx.UnsupportedProtocol("a user and a password belong in a header")
        if self._session is None:
            self._session = ClientSession(
                connector=self._connector(), cookie_jar=DummyCookieJar(), auto_decompress=False
            )
        stream, headers = request.stream, request.headers.raw
        if isinstance(stream, httpx.ByteStream):
            data: Any = b"".join(stream) or None
        else:
            data, headers = stream, [one for one in headers if one[0].lower() != b"transfer-encoding"]
        limits = request.extensions.get("timeout", {})
        return await self._session.request(
            request.method,
            str(request.url),
            headers=[(name.decode(), value.decode()) for name, value in headers],
            data=data,
            allow_redirects=False,
            timeout=_timeout(limits.get("connect"), limits.get("read")),
            server_hostname=request.extensions.get("sni_hostname"),
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        if session := self._session:
            self._session = None
            await session.close()

    async def retire(self) -> None:
        """Closes the connections once none is in use, and again after each later use."""
        self._retired = True
        if not self.open:
            await self.aclose()

    async def _closed(self) -> None:
        self.open -= 1
        self._slots.release()
        if self._retired:
            await self.retire()


class Body(httpx.AsyncByteStream):
    """The body of a response, in chunks as they arrive."""

    def __init__(self, response: ClientResponse, closed: Callable[[], Awaitable[None]]) -> None:
        self._response, self._content = response, response.content
        self._closed: Callable[[], Awaitable[None]] | None = closed

    @property
    def whole(self) -> bool:
        """Whether all of it has arrived, so that the connection is free again."""
        return self._content.is_eof()

    def __aiter__(self) -> "Body":
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._content.readany()
        except ClientError as error:
            raise as_httpx(error) from error
        if not piece:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Frees the connection, which closes unless the body is whole."""
        closed, self._closed = self._closed, None
        if closed is not None:
            self._response.release()
            await closed()


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
