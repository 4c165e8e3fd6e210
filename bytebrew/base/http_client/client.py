"""HTTP clients, one per origin, with timeouts, address policy and streamed responses."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
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
from bytebrew.base.http_client.network_errors import no_http, unreachable
from bytebrew.base.http_client.pools import Client, Idle, Pool
from bytebrew.base.http_client.replies import Reply, late
from bytebrew.base.rolling_timeout import Deadline, within
from bytebrew.base.settings import Core
from bytebrew.base.sse_reader import Parser, ServerSentEvent

MAX_ERROR_BYTES = 65536
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_EVENT_BYTES = 8 * 1024 * 1024
ERROR_BODY_SECONDS = 5.0
WHOLE = 4
"""Limit of a whole body, as a multiple of the answer limit: numbers are longer as digits than decoded."""
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
        """The client and the transport with this name."""
        kept = self._origins.pop(name, None)
        if kept is None:
            timeout = httpx.Timeout(
                self._settings.provider_silence_timeout, connect=self._settings.provider_connect_timeout, pool=None
            )
            policy = sockets(self._allowed, public_only=public_only)
            pool = Pool(self._trust, policy, self._slots, self._idle, self._close_idle)
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
        async with await self._reply(method, url, headers or {}, json) as reply:
            yield reply

    @asynccontextmanager
    async def stream_events(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
        """As `stream`, parsed as Server-Sent Events."""
        accept = {"Accept": "text/event-stream"}
        async with await self._reply(method, url, accept | dict(headers or {}), json) as reply:
            kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind in ("application/json", "text/html"):
                raise UpstreamError(reply.status, await _beginning(reply), None)
            async with aclosing(_events(reply, self.bounds.answer_bytes)) as events:
                yield events

    async def fetch(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> bytes:
        """The complete body of a response, at most four times BYTEBREW_ANSWER_BYTES; raises as `stream`."""
        async with await self._reply(method, url, headers or {}, json) as reply:
            body = bytearray()
            async for chunk in reply:
                body += chunk
                if len(body) > WHOLE * self.bounds.answer_bytes:
                    raise self.bounds.too_long()
            return bytes(body)

    @asynccontextmanager
    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> AsyncIterator[Answer]:
        """As `stream`, with the status and headers of the response, and without read timeouts."""
        async with await self._reply(method, url, headers or {}, json, patient=True) as reply:
            yield Answer(reply.status, dict(reply.headers), reply)

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
        async with await self._send(method, url, headers or {}, json, None, origin, content) as reply:
            body = bytearray()
            async with aclosing(unpacked(reply, reply.headers.get("content-encoding", ""))) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) > limit:
                        break
            return Exchange(reply.status, dict(reply.headers), bytes(body[:limit]), len(body) > limit)

    async def _reply(
        self, method: str, url: str, headers: Mapping[str, str], json: Any, *, patient: bool = False
    ) -> Reply:
        """A response that is neither an error nor a redirect."""
        latest = None if patient else asyncio.get_running_loop().time() + self._settings.provider_first_byte_timeout
        reply = (await self._send(method, url, headers, json, latest)).decoded()
        if self._answered is not None:
            self._answered()
        if reply.status < 300:
            return reply
        async with reply:
            if reply.status < 400:
                where = reply.headers.get("location", "nowhere")
                message = f"{_shown(url)} redirects to {where}; the base URL must be the final one"
                raise ProviderError(message, code="model_bad_request")
            wait, given = _retry_after(reply.headers), dict(reply.headers)
            raise UpstreamError(reply.status, await _beginning(reply), wait, given)

    async def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        json: Any,
        latest: float | None,
        origin: _Origin | None = None,
        content: bytes | None = None,
    ) -> Reply:
        fields = _HEADERS | {name.lower(): value for name, value in headers.items()} | _OURS
        body = content if json is None else encode(json)
        if body is not None:
            fields.setdefault("content-type", "application/json")
        connect = self._settings.provider_connect_timeout
        deadline, response = Deadline(), None
        try:
            transport = (origin or self._origin(url)).transport
            request = httpx.Request(
                method,
                _parsed(url),
                headers=fields,
                stream=httpx.ByteStream(body or b""),
                extensions={"timeout": {"connect": connect}},
            )
            with deadline.at(latest):
                response = await transport.handle_async_request(request)
            return Reply(response, deadline, latest, self._settings, self.bounds)
        except TimeoutError as error:
            raise late(self._settings) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, ValueError) as error:
            shown = re.sub("//[^/]*@", "//***@", url)
            raise ProviderError(f"{shown!r} cannot be called: {error}", code="model_bad_request") from error
        except httpx.RemoteProtocolError as error:
            raise no_http(_shown(url), error) from error
        except httpx.RequestError as error:
            raise unreachable(_shown(url), error, connect) from error
        finally:
            if response is None:
                deadline.close()


async def _signed(request: httpx.Request) -> None:
    request.headers.update(_OURS)


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
