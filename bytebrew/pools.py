"""Pools of connections to one origin each: they know whether they are in use, and close when they are not."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
from aiohttp import ClientRequest, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from httpx_aiohttp import AiohttpTransport

from bytebrew.deadline import within


class _Connector(TCPConnector):
    """Connections whose limit of time reads first what arrived while the process stood still."""

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109 - aiohttp names it
        with within(timeout.sock_connect):
            return await super().connect(req, traces, ClientTimeout())


class Pool(AiohttpTransport):
    """A transport that opens its connections when it is used, also after they were closed.

    `open` counts requests whose answers have not been closed. `sockets` makes the sockets. A request waits for one
    of the `slots` that all pools share, and `before` runs ahead of it.
    """

    def __init__(
        self, trust: ssl.SSLContext, sockets: Any, slots: asyncio.Semaphore, before: Callable[[], Awaitable[None]]
    ) -> None:
        self.open = 0
        self._retired = False
        self._slots, self._before = slots, before

        def session() -> ClientSession:
            connector = _Connector(limit=4096, keepalive_timeout=30, ssl=trust, socket_factory=sockets)
            return ClientSession(connector=connector, cookie_jar=DummyCookieJar())

        self._session = session
        super().__init__(verify=trust, client=session)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request; its answer is to be closed."""
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
        """Closes the connections once none is in use, and after each further use."""
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
