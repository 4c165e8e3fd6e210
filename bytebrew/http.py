"""The one place that makes an HTTP client: transport, pools, time limits, and a vendor's stream of events."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from time import time
from typing import Any
from urllib.parse import urlsplit

import httpx
from httpx_aiohttp import AiohttpTransport

from bytebrew.errors import ProviderError
from bytebrew.settings import Core
from bytebrew.sse import Parser, ServerSentEvent

MAX_ERROR_BYTES = 65536


class UpstreamError(Exception):
    """A vendor's answer with a status of 400 or more; `body` is its beginning, `retry_after` in seconds."""

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
        """A request whose answer comes in pieces; leaving the block closes the connection.

        Raises UpstreamError for a refusal and ProviderError (model_unavailable, model_timeout) where the vendor cannot
        be reached, does not begin in time, or falls silent.
        """
        client = self.client(url)
        try:
            request = client.build_request(method, url, headers=dict(headers or {}), json=json)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ProviderError(
                f"{url!r} is not a URL that can be called: {error}", code="model_bad_request"
            ) from error
        try:
            async with asyncio.timeout(self._settings.provider_first_byte_timeout):
                response = await client.send(request, stream=True)
        except TimeoutError as error:
            wait = self._settings.provider_first_byte_timeout
            raise ProviderError(f"No answer within {wait:g} s", code="model_timeout", retry=True) from error
        except httpx.TransportError as error:
            raise _unreachable(error, url) from error
        try:
            if response.status_code >= 400:
                raise UpstreamError(response.status_code, await _beginning(response), _retry_after(response.headers))
            yield _chunks(response)
        except httpx.TransportError as error:
            raise _broken(error) from error
        finally:
            await response.aclose()

    @asynccontextmanager
    async def stream_events(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
        """`stream`, read as Server-Sent Events."""
        async with self.stream(
            method, url, headers={"Accept": "text/event-stream"} | dict(headers or {}), json=json
        ) as chunks:
            yield _events(chunks)


async def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    async for chunk in response.aiter_bytes():
        yield chunk


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[ServerSentEvent]:
    parser = Parser()
    async for chunk in chunks:
        try:
            events = parser.feed(chunk)
        except ValueError as error:
            raise ProviderError(f"The vendor's stream is malformed: {error}") from error
        for event in events:
            yield event


async def _beginning(response: httpx.Response) -> bytes:
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) >= MAX_ERROR_BYTES:
            break
    return body[:MAX_ERROR_BYTES]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, or a date (RFC 9110 section 10.2.3)."""
    text = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except ValueError:
        return None


def _unreachable(error: httpx.TransportError, url: str) -> ProviderError:
    origin = urlsplit(url)
    where = f"{origin.scheme}://{origin.hostname}" + (f":{origin.port}" if origin.port else "")
    return ProviderError(f"Cannot reach {where}: {_words(error)}", code="model_unavailable", retry=True)


def _broken(error: httpx.TransportError) -> ProviderError:
    if isinstance(error, httpx.ReadTimeout):
        return ProviderError("The vendor's stream fell silent", code="model_timeout", retry=True)
    return ProviderError(f"The vendor's stream broke off: {_words(error)}", code="model_unavailable", retry=True)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
