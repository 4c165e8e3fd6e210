"""HTTP clients, one per origin, with timeouts, address policy and streamed responses."""

import asyncio
import math
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, closing, suppress
from copy import copy
from email.utils import parsedate_to_datetime
from functools import cached_property, lru_cache
from time import time
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
from msgspec.json import encode

from bytebrew.base.errors import ProviderError
from bytebrew.base.http_client.addresses import listed, sockets
from bytebrew.base.http_client.answer_limits import Bounds
from bytebrew.base.http_client.decompression import unpacked
from bytebrew.base.http_client.network_errors import broken_off, no_http, unreachable
from bytebrew.base.http_client.pools import Body, Client, Idle, Pool
from bytebrew.base.rolling_timeout import Deadline, until, within
from bytebrew.base.settings import Core
from bytebrew.base.sse_reader import Parser, ServerSentEvent

MAX_ERROR_BYTES = 65536
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_EVENT_BYTES = 8 * 1024 * 1024
ERROR_BODY_SECONDS = 5.0
DRAIN_SECONDS = 0.05
WHOLE = 4
"""Limit of a whole body, as a multiple of the answer limit: numbers are longer as digits than decoded."""
FRAMING = 32
"""Limit of a streamed body, as a multiple of the answer limit: vendors send 300 bytes of JSON per short word."""
MOST_IDLE = 64
"""Limit of idle clients; a client takes 50 KB."""
_HEADERS = {
    "accept": "*/*",
    "accept-encoding": "gzip",
    "connection": "keep-alive",
    "user-agent": f"python-httpx/{httpx.__version__}",
}
_OURS = {"via": "1.1 bytebrew"}
"""`Via` (RFC 9110 section 7.6.3) lets the local-session guard tell proxied from local requests."""


class UpstreamError(Exception):
    """A vendor's error response; `body` is its beginning, `retry_after` in seconds.

    `status` is below 400 if the response is JSON or HTML instead of an event stream. Header names are in lower case.
    """

    def __init__(
        self, status: int, body: bytes, retry_after: float | None, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body
        self.retry_after = retry_after
        self.headers = headers


class Answer(NamedTuple):
    """A streamed response; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]

    def events(self) -> AsyncGenerator[ServerSentEvent, None]:
        """The body as Server-Sent Events."""
        return _events(self.chunks)


class Exchange(NamedTuple):
    """A complete response; header names are in lower case, `truncated` is set if the body was longer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool


class _Origin(NamedTuple):
    client: httpx.AsyncClient
    transport: httpx.AsyncBaseTransport
    pool: Pool


class Http:
    """HTTP clients by origin, each with its own connection pool."""

    def __init__(
        self,
        settings: Core,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        upstreams: int = 4096,
        idle: int = 1024,
    ) -> None:
        self._settings = settings
        self.bounds = Bounds(answer_bytes=settings.answer_bytes, tool_calls=settings.step_tool_calls)
        self._transport = transport
        self._slots, self._idle = asyncio.Semaphore(upstreams), Idle(idle)
        self._public_only = False
        self._answered: Callable[[], None] | None = None
        # shared by all clients: loading the certificates takes 17 ms and 800 KB
        self._trust = lru_cache(1)(httpx.create_ssl_context)
        self._allowed = listed(settings.link_local_addresses)
        self._origins: dict[str, _Origin] = {}  # in order of last use

    @cached_property
    def public(self) -> "Http":
        """The same, restricted to public addresses, for URLs chosen by untrusted users."""
        twin = copy(self)
        twin._public_only = True
        return twin

    def watched(self, answered: Callable[[], None]) -> "Http":
        """The same, which calls back when the head of a streamed response has come."""
        twin = copy(self)
        twin._answered = answered
        return twin

    def client(self, url: str) -> httpx.AsyncClient:
        """The client for the URL's origin; it follows no redirects and keeps no cookies."""
        return self._origin(url).client

    def _origin(self, url: str) -> "_Origin":
        parts = urlsplit(url)
        kind = " public" * self._public_only
        return self._named(f"{parts.scheme}://{parts.netloc}{kind}", public_only=self._public_only)

    def _named(self, name: str, *, public_only: bool = False) -> "_Origin":
        """The client and the transport with this name, which begins with the scheme."""
        kept = self._origins.pop(name, None)
        if kept is None:
            timeout = httpx.Timeout(
                self._settings.provider_silence_timeout, connect=self._settings.provider_connect_timeout, pool=None
            )
            trust = self._trust() if name.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            policy = sockets(self._allowed, public_only=public_only)
            pool = Pool(trust, policy, self._slots, self._idle, self._close_idle)
            transport = self._transport or pool
            client = Client(transport=transport, timeout=timeout, headers=_HEADERS, event_hooks={"request": [_signed]})
            kept = _Origin(client, transport, pool)
        self._origins[name] = kept
        return kept

    async def _close_idle(self) -> None:
        """Closes the least recently used idle clients beyond MOST_IDLE."""
        if (spare := len(self._origins) - MOST_IDLE) > 0:
            for name in [name for name, one in self._origins.items() if not one.pool.open][:spare]:
                if kept := self._origins.pop(name, None):
                    await kept.pool.retire()

    async def aclose(self) -> None:
        """Closes every pool."""
        while self._origins:
            await self._origins.popitem()[1].client.aclose()

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A request with a streamed body; leaving the block releases the connection.

        Raises UpstreamError for an error status, and ProviderError (model_unavailable, model_timeout,
        model_bad_request) if the vendor cannot be reached, times out, disconnects, or redirects.
        """
        async with self._answer(method, url, headers or {}, json) as (_, chunks):
            yield chunks

    @asynccontextmanager
    async def stream_events(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
        """As `stream`, parsed as Server-Sent Events."""
        accept = {"Accept": "text/event-stream"}
        async with self._answer(method, url, accept | dict(headers or {}), json) as (response, chunks):
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind in ("application/json", "text/html"):
                raise UpstreamError(response.status_code, await _beginning(chunks), None)
            async with aclosing(_events(chunks, self.bounds.answer_bytes)) as events:
                yield events

    async def fetch(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> bytes:
        """The complete body of a response, at most four times BYTEBREW_ANSWER_BYTES; raises as `stream`."""
        async with self._answer(method, url, headers or {}, json) as (_, chunks):
            body = bytearray()
            async for chunk in chunks:
                body += chunk
                if len(body) > WHOLE * self.bounds.answer_bytes:
                    raise self.bounds.too_long()
            return bytes(body)

    @asynccontextmanager
    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> AsyncIterator[Answer]:
        """As `stream`, with the status and headers of the response, and without read timeouts."""
        async with self._answer(method, url, headers or {}, json, patient=True) as (response, chunks):
            yield Answer(response.status_code, dict(response.headers), chunks)

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        content: bytes | None = None,
        public_only: bool = False,
        limit: int = MAX_BODY_BYTES,
    ) -> Exchange:
        """A complete response, errors and redirects included; the decompressed body is truncated to `limit` bytes.

        `content` is sent in place of `json`, as it is.
        With `public_only` it connects to public addresses only, whatever the host resolves to. The caller sets the time
        limit. Raises ProviderError as `stream` does.
        """
        scheme = "https" if url[:6].lower() == "https:" else "http"
        origin = self._named(f"{scheme}:{'public' if public_only else 'any'}", public_only=public_only)
        response = await self._send(method, url, headers or {}, json, None, origin, content)
        chunks = self._chunks(_pieces(response), None)
        try:
            body = bytearray()
            async with aclosing(unpacked(chunks, response.headers.get("content-encoding", ""))) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) > limit:
                        break
            return Exchange(response.status_code, dict(response.headers), bytes(body[:limit]), len(body) > limit)
        finally:
            await _end(response, chunks)

    @asynccontextmanager
    async def _answer(
        self, method: str, url: str, headers: Mapping[str, str], json: Any, *, patient: bool = False
    ) -> AsyncIterator[tuple[httpx.Response, AsyncGenerator[bytes, None]]]:
        latest = None if patient else asyncio.get_running_loop().time() + self._settings.provider_first_byte_timeout
        response = await self._send(method, url, headers, json, latest)
        if self._answered is not None:
            self._answered()
        chunks = self._chunks(_decoded(response), latest)
        try:
            if response.is_redirect:
                where = response.headers.get("location", "nowhere")
                message = f"{_shown(url)} redirects to {where}; the base URL must be the final one"
                raise ProviderError(message, code="model_bad_request")
            if response.is_error:
                wait, headers = _retry_after(response.headers), dict(response.headers)
                raise UpstreamError(response.status_code, await _beginning(chunks), wait, headers)
            yield response, chunks
            if not (isinstance(response.stream, Body) and response.stream.whole):
                await _drain(chunks)
        finally:
            await _end(response, chunks)

    async def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        json: Any,
        latest: float | None,
        origin: _Origin | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        fields = _HEADERS | {name.lower(): value for name, value in headers.items()} | _OURS
        body = content if json is None else encode(json)
        if body is not None:
            fields.setdefault("content-type", "application/json")
        connect = self._settings.provider_connect_timeout
        try:
            transport = (origin or self._origin(url)).transport
            request = httpx.Request(
                method,
                _parsed(url),
                headers=fields,
                stream=httpx.ByteStream(body or b""),
                extensions={"timeout": {"connect": connect}},
            )
            with until(latest):
                return await transport.handle_async_request(request)
        except TimeoutError as error:
            raise self._late() from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError) as error:
            shown = re.sub("//[^/]*@", "//***@", url)
            raise ProviderError(f"{shown!r} cannot be called: {error}", code="model_bad_request") from error
        except httpx.RemoteProtocolError as error:
            raise no_http(_shown(url), error) from error
        except httpx.RequestError as error:
            raise unreachable(_shown(url), error, connect) from error

    async def _chunks(self, pieces: AsyncIterator[bytes], latest: float | None) -> AsyncGenerator[bytes, None]:
        """The body in chunks; the first must arrive before `latest`, each further one within the read timeout.

        Without `latest` there are no limits on time and size.
        """
        now, silence = asyncio.get_running_loop().time, self._settings.provider_silence_timeout
        most = math.inf if latest is None else FRAMING * self.bounds.answer_bytes
        taken, begun = 0, False
        with closing(Deadline()) as deadline:
            while True:
                try:
                    with deadline.at(latest):
                        piece = await anext(pieces, b"")
                except TimeoutError as error:
                    if not begun:
                        raise self._late() from error
                    message = f"The vendor's stream fell silent for {silence:g} s"
                    raise ProviderError(message, code="model_timeout", retry=True) from error
                except httpx.RequestError as error:
                    raise broken_off(error) from error
                if not piece:
                    return
                taken += len(piece)
                if taken > most:
                    raise self.bounds.too_long()
                yield piece
                begun, latest = True, None if latest is None else now() + silence

    def _late(self) -> ProviderError:
        wait = self._settings.provider_first_byte_timeout
        return ProviderError(f"No answer within {wait:g} s", code="model_timeout", retry=True)


async def _signed(request: httpx.Request) -> None:
    request.headers.update(_OURS)


async def _end(response: httpx.Response, chunks: AsyncGenerator[bytes, None]) -> None:
    await chunks.aclose()
    await response.aclose()


def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body's chunks as they were sent."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return aiter(response.stream)


def _decoded(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body's chunks, decompressed."""
    encoding = response.headers.get("content-encoding", "")
    return unpacked(_pieces(response), encoding) if encoding else _pieces(response)


@lru_cache(256)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)


async def _events(chunks: AsyncIterator[bytes], limit: int = MAX_EVENT_BYTES) -> AsyncGenerator[ServerSentEvent, None]:
    parser = Parser(limit)
    async for chunk in chunks:
        try:
            events = parser.feed(chunk)
        except ValueError as error:
            raise ProviderError(f"The vendor's stream is malformed: {error}", code="model_answer_too_long") from error
        for event in events:
            yield event


async def _beginning(chunks: AsyncIterator[bytes]) -> bytes:
    """The beginning of an error's body, as much as arrives in time."""
    body = b""
    with suppress(ProviderError, TimeoutError), within(ERROR_BODY_SECONDS):
        async for chunk in chunks:
            body += chunk
            if len(body) >= MAX_ERROR_BYTES:
                break
    return body[:MAX_ERROR_BYTES]


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Reads the rest of a body for a short time, so that the connection can be reused."""
    with suppress(ProviderError, TimeoutError), within(DRAIN_SECONDS):
        async for _ in chunks:
            pass


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until a retry: a number, a date (RFC 9110 section 10.2.3), or OpenAI's and Azure's milliseconds."""
    if (precise := headers.get("retry-after-ms", "")).replace(".", "", 1).isdecimal():
        return float(precise) / 1000
    text = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        sent = parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else time()
        return max(0.0, parsedate_to_datetime(text).timestamp() - sent)
    except (ValueError, OverflowError):
        return None


def _shown(url: str) -> str:
    """The origin of a URL, without its user and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
