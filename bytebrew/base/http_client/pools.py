"""Connection pools, one per origin, and the count of their idle connections."""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import ip_address
from typing import Any, TypeVar

import httpx
from aiohappyeyeballs import start_connection

from bytebrew.base.http_client.addresses import Sockets
from bytebrew.base.http_client.connections import Connection, Key
from bytebrew.base.rolling_timeout import within

KEEP_SECONDS = 30
"""For how long an idle connection is kept, and, less, the addresses of a name."""
NAME_SECONDS = 10
EYEBALLS_SECONDS = 0.25
"""RFC 8305 section 5: from one attempt to connect to the next."""
_PORTS = {"http": 80, "https": 443}
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods whose request is sent again if a kept connection turns out to be closed (RFC 9112 section 9.3.1)."""
_EXPECTS_BODY = frozenset({"POST", "PUT", "PATCH"})
_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})
_NUMBERS = re.compile(r"[0-9.]+")
_Addresses = list[tuple[Any, ...]]
_Read = TypeVar("_Read")


class Idle:
    """The number of connections that may yet be idle in all pools."""

    def __init__(self, most: int) -> None:
        self.left = most


class Pool(httpx.AsyncBaseTransport):
    """A transport that opens connections on demand, even after it was closed.

    `open` counts requests with unclosed responses. All pools share `idle` and `slots`; a request waits for a slot, then
    for `before`.
    """

    def __init__(
        self,
        trust: Callable[[], ssl.SSLContext],
        sockets: Sockets,
        slots: asyncio.Semaphore,
        idle: Idle,
        before: Callable[[], Awaitable[None]],
    ) -> None:
        self.open = 0
        self._retired = False
        self._trust, self._sockets = trust, sockets
        self._slots, self._before = slots, before
        self._room = idle
        self._used: set[Connection] = set()
        self._idle: dict[Key, dict[Connection, float]] = {}  # with the time since when, in its order
        self._sweep: asyncio.TimerHandle | None = None
        self._names: dict[tuple[str, int], asyncio.Task[_Addresses]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request; the response must be closed."""
        limits = request.extensions.get("timeout", {})
        self.open += 1
        try:
            async with asyncio.timeout(limits.get("pool")):
                await self._slots.acquire()
        except BaseException as error:
            self.open -= 1
            if isinstance(error, TimeoutError):
                raise httpx.PoolTimeout("as many requests as there may be are under way") from error
            raise
        try:
            await self._before()
            connection = await self._send(request, limits)
        except BaseException:
            await self._closed()
            raise
        phrase = {"reason_phrase": connection.reason} if connection.reason else {}
        return httpx.Response(
            connection.status,
            headers=connection.headers,
            stream=Body(connection, limits.get("read"), self._release),
            extensions={"http_version": b"HTTP/1.1", **phrase},
        )

    async def _send(self, request: httpx.Request, limits: dict[str, float | None]) -> Connection:
        url, method, headers = request.url, request.method, request.headers.raw
        if url.userinfo:
            raise httpx.UnsupportedProtocol("a user and a password belong in a header")
        if url.scheme not in _PORTS or not url.host:
            raise httpx.UnsupportedProtocol("it is no URL of http or https")
        host, port = url.raw_host.decode(), _PORTS[url.scheme] if url.port is None else url.port
        if not 0 < port < 65536:  # resolvers take it modulo 65536
            raise httpx.UnsupportedProtocol("it has no port from 1 to 65535")
        name = request.extensions.get("sni_hostname") or host.rstrip(".")
        key = url.scheme, host, port, name
        names = {name.lower() for name, _ in headers}
        added = [] if b"host" in names else [(b"Host", url.netloc)]
        stream: Any = request.stream
        body = b"".join(stream) if isinstance(stream, httpx.ByteStream) else stream
        length = len(body) if isinstance(body, bytes) else _length(request.headers)
        # a length that the caller gives may be wrong, and end in the next request
        headers = [one for one in headers if one[0].lower() not in _LENGTHS]
        if length is None:
            added.append((b"Transfer-Encoding", b"chunked"))
        elif length or method in _EXPECTS_BODY:
            added.append((b"Content-Length", b"%d" % length))
        while True:
            kept = self._kept(key)
            connection = kept or await self._connect(key, limits.get("connect"))
            self._used.add(connection)
            try:
                await connection.send(method, url.raw_path, added + headers, body, length, limits.get("write"))
                await _limited(connection.head(), limits.get("read"))
            except BaseException as error:
                connection.close()
                repeat = kept and method in _REPEATABLE and isinstance(body, bytes)
                if not (repeat and isinstance(error, httpx.ReadError)):
                    raise
            else:
                return connection

    def _kept(self, key: Key) -> Connection | None:
        while idle := self._idle.get(key):
            connection, _ = idle.popitem()
            self._room.left += 1
            if not connection.closed:
                return connection
        return None

    async def _connect(self, key: Key, seconds: float | None) -> Connection:
        scheme, host, port, name = key
        secure = (self._trust(), name) if scheme == "https" else (None, None)
        loop = asyncio.get_running_loop()
        try:
            with within(seconds):
                addresses = await self._addresses(host, port)
                sock = await self._connected(addresses)
                # it closes the socket if it fails; asyncio's loop would still look at one that is closed here
                _, connection = await loop.create_connection(
                    partial(Connection, key, self._lost), sock=sock, ssl=secure[0], server_hostname=secure[1]
                )
                return connection
        except TimeoutError as error:
            raise httpx.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error

    async def _connected(self, addresses: _Addresses) -> socket.socket:
        """A socket that is connected to one of the addresses."""
        try:
            return await start_connection(
                addresses, happy_eyeballs_delay=EYEBALLS_SECONDS, interleave=1, socket_factory=self._sockets
            )
        except OSError as error:
            if error.errno is not None:
                raise
            # unlike errors, of which it gives but the text: the last address has one that can be told
            return await start_connection(addresses[-1:], socket_factory=self._sockets)

    async def _addresses(self, host: str, port: int) -> _Addresses:
        """The addresses of a host, resolved once for all who ask within a short time."""
        flags = socket.AI_ADDRCONFIG
        if ":" in host or _NUMBERS.fullmatch(host):
            flags = socket.AI_NUMERICHOST
            try:
                ip_address(host)
            except ValueError as error:
                raise httpx.UnsupportedProtocol(str(error)) from error
        name, loop = (host, port), asyncio.get_running_loop()
        if (known := self._names.get(name)) is None:
            resolving = loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
            known = self._names[name] = loop.create_task(resolving)
            known.add_done_callback(
                lambda task: self._resolved(name, failed=bool(task.cancelled() or task.exception()))
            )
        return await asyncio.shield(known)

    def _resolved(self, name: tuple[str, int], *, failed: bool) -> None:
        asyncio.get_running_loop().call_later(0 if failed else NAME_SECONDS, self._names.pop, name, None)

    async def aclose(self) -> None:
        """Closes the connections."""
        connections = [*self._used, *(one for idle in self._idle.values() for one in idle)]
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.gone.wait()

    async def retire(self) -> None:
        """Closes the connections once none is in use, and again after each later use."""
        self._retired = True
        if not self.open:
            await self.aclose()

    async def _release(self, connection: Connection) -> None:
        self._used.discard(connection)
        if connection.reusable and self._room.left:
            self._room.left -= 1
            loop = asyncio.get_running_loop()
            self._idle.setdefault(connection.key, {})[connection] = loop.time()
            connection.rest()
            if self._sweep is None:
                self._sweep = loop.call_later(KEEP_SECONDS, self._close_expired)
        else:
            connection.close()
        await self._closed()

    def _close_expired(self) -> None:
        self._sweep, loop = None, asyncio.get_running_loop()
        for idle in self._idle.values():
            for connection, since in idle.items():
                if since + KEEP_SECONDS > loop.time():
                    break
                connection.close()
        if oldest := [next(iter(idle.values())) for idle in self._idle.values() if idle]:
            self._sweep = loop.call_at(min(oldest) + KEEP_SECONDS, self._close_expired)

    def _lost(self, connection: Connection) -> None:
        self._used.discard(connection)
        if (idle := self._idle.get(connection.key)) is not None:
            if idle.pop(connection, None) is not None:
                self._room.left += 1
            if not idle:
                del self._idle[connection.key]

    async def _closed(self) -> None:
        self.open -= 1
        self._slots.release()
        if self._retired:
            await self.retire()


def _length(headers: httpx.Headers) -> int | None:
    """The length of a body that comes in pieces; None if it is not known before."""
    given = headers.get("content-length")
    if given is None or "transfer-encoding" in headers:
        return None
    if not (given.isascii() and given.isdigit()):
        raise httpx.LocalProtocolError("the Content-Length is no number")
    return int(given)


async def _limited(reading: Awaitable[_Read], seconds: float | None) -> _Read:
    if seconds is None:
        return await reading
    try:
        with within(seconds):
            return await reading
    except TimeoutError as error:
        raise httpx.ReadTimeout(f"nothing for {seconds:g} s") from error


class Body(httpx.AsyncByteStream):
    """The body of a response, in chunks as they arrive."""

    def __init__(
        self, connection: Connection, seconds: float | None, release: Callable[[Connection], Awaitable[None]]
    ) -> None:
        self._connection, self._seconds = connection, seconds
        self._release: Callable[[Connection], Awaitable[None]] | None = release

    @property
    def whole(self) -> bool:
        """Whether all of it has arrived."""
        return self._connection.whole

    def __aiter__(self) -> "Body":
        return self

    async def __anext__(self) -> bytes:
        if not (piece := await self.read()):
            raise StopAsyncIteration
        return piece

    def read(self) -> Awaitable[bytes]:
        """The next chunk; nothing at the end."""
        if self._release is None:
            raise httpx.StreamClosed
        reading = self._connection.read()
        return reading if self._seconds is None else _limited(reading, self._seconds)

    async def aclose(self) -> None:
        """Frees the connection, which closes unless the body is whole."""
        release, self._release = self._release, None
        if release is not None:
            await release(self._connection)


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
