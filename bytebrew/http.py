"""The one place that makes an HTTP client: transport, pools, time limits, and a vendor's stream of events."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from time import time
from typing import Any
from urllib.parse import urlsplit

import httpx
from aiohttp import ClientResponseError
from httpx_aiohttp import AiohttpTransport
from msgspec.json import encode

from bytebrew.errors import ProviderError
from bytebrew.settings import Core
from bytebrew.sse import Parser, ServerSentEvent

MAX_ERROR_BYTES = 65536
MAX_BODY_BYTES = 64 * 1024 * 1024
ERROR_BODY_SECONDS = 5.0
DRAIN_SECONDS = 0.05


class UpstreamError(Exception):
    """A vendor's answer that is no answer; `body` is its beginning, `retry_after` in seconds.

    `status` is 400 or more, or less where JSON or a page came in place of a stream of events.
    """

    def __init__(self, status: int, body: bytes, retry_after: float | None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body
        self.retry_after = retry_after


class Http:
    """Clients by origin, each with a pool of its own, and the requests that providers make."""

    def __init__(self, settings: Core, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        self._transport = transport
        self._clients: dict[str, httpx.AsyncClient] = {}

    def client(self, url: str) -> httpx.AsyncClient:
        """The client of the URL's origin; it follows no redirects."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        client = self._clients.get(origin)
        if client is None:
            limits = httpx.Limits(max_connections=4096, max_keepalive_connections=256, keepalive_expiry=30)
            transport = self._transport or AiohttpTransport(limits=limits)
            timeout = httpx.Timeout(
                self._settings.provider_silence_timeout,
                connect=self._settings.provider_connect_timeout,
                pool=None,
            )
            client = self._clients[origin] = httpx.AsyncClient(transport=transport, timeout=timeout)
        return client

    async def aclose(self) -> None:
        """Closes every pool."""
        while self._clients:
            await self._clients.popitem()[1].aclose()

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A request whose answer comes in pieces; leaving the block frees the connection.

        Raises UpstreamError for a refusal and ProviderError (model_unavailable, model_timeout, model_bad_request) where
        the vendor cannot be reached, does not begin in time, breaks off, falls silent, or sends elsewhere.
        """
        async with self._answer(method, url, headers or {}, json) as (_, chunks):
            yield chunks

    @asynccontextmanager
    async def stream_events(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
        """`stream`, read as Server-Sent Events."""
        accept = {"Accept": "text/event-stream"}
        async with self._answer(method, url, accept | dict(headers or {}), json) as (response, chunks):
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind in ("application/json", "text/html"):
                raise UpstreamError(response.status_code, await _beginning(chunks), None)
            async with aclosing(_events(chunks)) as events:
                yield events

    async def fetch(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> bytes:
        """The whole body of an answer of at most 64 MiB; raises as `stream`."""
        async with self._answer(method, url, headers or {}, json) as (_, chunks):
            body = bytearray()
            async for chunk in chunks:
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise ProviderError(f"The vendor's answer is longer than {MAX_BODY_BYTES} bytes")
            return bytes(body)

    @asynccontextmanager
    async def _answer(
        self, method: str, url: str, headers: Mapping[str, str], json: Any
    ) -> AsyncIterator[tuple[httpx.Response, AsyncGenerator[bytes, None]]]:
        until = asyncio.get_running_loop().time() + self._settings.provider_first_byte_timeout
        response = await self._send(method, url, headers, json, until)
        chunks = self._chunks(response, until)
        try:
            if response.is_redirect:
                where = response.headers.get("location", "nowhere")
                words = f"{_origin(url)} redirects to {where}; the base URL must be the final one"
                raise ProviderError(words, code="model_bad_request")
            if response.is_error:
                raise UpstreamError(response.status_code, await _beginning(chunks), _retry_after(response.headers))
            yield response, chunks
            await _drain(chunks)
        finally:
            await chunks.aclose()
            await response.aclose()

    async def _send(self, method: str, url: str, headers: Mapping[str, str], json: Any, until: float) -> httpx.Response:
        body = None if json is None else encode(json)
        if body is not None:
            headers = {"Content-Type": "application/json", **headers}
        try:
            client = self.client(url)
            timeout = httpx.Timeout(None, connect=self._settings.provider_connect_timeout)
            request = client.build_request(method, url, headers=headers, content=body, timeout=timeout)
            async with asyncio.timeout_at(until):
                return await client.send(request, stream=True)
        except TimeoutError as error:
            raise self._late() from error
        except httpx.RequestError as error:
            words = f"Cannot reach {_origin(url)}: {_words(error)}"
            raise ProviderError(words, code="model_unavailable", retry=True) from error
        except ClientResponseError as error:  # of a head that is not HTTP; the transport lets it through
            words = f"{_origin(url)} does not speak HTTP: {' '.join(error.message.split())}"
            raise ProviderError(words, code="model_unavailable", retry=True) from error
        except (httpx.InvalidURL, ValueError) as error:
            shown = re.sub("//[^/]*@", "//***@", url)
            raise ProviderError(f"{shown!r} cannot be called: {error}", code="model_bad_request") from error

    async def _chunks(self, response: httpx.Response, until: float) -> AsyncGenerator[bytes, None]:
        """The body: its first piece comes before `until`, each further one before the silence is too long."""
        now, silence = asyncio.get_running_loop().time, self._settings.provider_silence_timeout
        pieces = response.aiter_bytes()
        begun = False
        while True:
            try:
                async with asyncio.timeout_at(until):
                    piece = await anext(pieces, b"")
            except TimeoutError as error:
                if not begun:
                    raise self._late() from error
                words = f"The vendor's stream fell silent for {silence:g} s"
                raise ProviderError(words, code="model_timeout", retry=True) from error
            except httpx.RequestError as error:
                words = f"The vendor's stream broke off: {_words(error)}"
                raise ProviderError(words, code="model_unavailable", retry=True) from error
            if not piece:
                return
            yield piece
            begun, until = True, now() + silence

    def _late(self) -> ProviderError:
        wait = self._settings.provider_first_byte_timeout
        return ProviderError(f"No answer within {wait:g} s", code="model_timeout", retry=True)


async def _events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[ServerSentEvent, None]:
    parser = Parser()
    async for chunk in chunks:
        try:
            events = parser.feed(chunk)
        except ValueError as error:
            raise ProviderError(f"The vendor's stream is malformed: {error}") from error
        for event in events:
            yield event


async def _beginning(chunks: AsyncIterator[bytes]) -> bytes:
    """The beginning of a body that explains a refusal, or as much of it as comes."""
    body = b""
    with suppress(ProviderError, TimeoutError):
        async with asyncio.timeout(ERROR_BODY_SECONDS):
            async for chunk in chunks:
                body += chunk
                if len(body) >= MAX_ERROR_BYTES:
                    break
    return body[:MAX_ERROR_BYTES]


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Waits a moment for the end of a body, for only then can the connection be used again."""
    with suppress(ProviderError, TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in chunks:
                pass


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, or a date (RFC 9110 section 10.2.3)."""
    text = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except (ValueError, OverflowError):
        return None


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
