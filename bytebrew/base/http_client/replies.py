"""A response that is being received: its time limits, its size limit, and the release of its connection."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import TracebackType

import httpx

from bytebrew.base.errors import ProviderError
from bytebrew.base.http_client.answer_limits import Bounds
from bytebrew.base.http_client.decompression import unpacked
from bytebrew.base.http_client.network_errors import broken_off
from bytebrew.base.http_client.pools import Body
from bytebrew.base.rolling_timeout import Deadline, within
from bytebrew.base.settings import Core

DRAIN_SECONDS = 0.05
FRAMING = 32
"""Limit of a streamed body, as a multiple of the answer limit: vendors send 300 bytes of JSON per short word."""


def late(settings: Core) -> ProviderError:
    """The error for an answer that does not begin in time."""
    wait = settings.provider_first_byte_timeout
    return ProviderError(f"No answer within {wait:g} s", code="model_timeout", retry=True)


def _reading(pieces: AsyncIterator[bytes]) -> Callable[[], Awaitable[bytes]]:
    return lambda: anext(pieces, b"")


class Reply:
    """A response, and its body in chunks; leaving the block releases the connection.

    The first chunk must arrive before `latest`, each further one within the read timeout; without `latest` there are no
    limits on time and size. The chunks are as they were sent, or decompressed with `decoded`.
    """

    def __init__(
        self, response: httpx.Response, deadline: Deadline, latest: float | None, settings: Core, bounds: Bounds
    ) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self.status, self.headers = response.status_code, response.headers
        self._body = body = response.stream
        self._read = body.read if isinstance(body, Body) else _reading(aiter(body))
        self._deadline, self._latest = deadline, latest
        self._settings, self._bounds = settings, bounds
        self._left = math.inf if latest is None else FRAMING * bounds.answer_bytes
        self._begun = False

    def decoded(self) -> "Reply":
        """Decompresses the body."""
        if encoding := self.headers.get("content-encoding", ""):
            self._read = _reading(unpacked(aiter(self._body), encoding))
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._begun and self._latest is not None:
            self._latest = self._deadline.now() + self._settings.provider_silence_timeout
        try:
            with self._deadline.at(self._latest):
                piece = await self._read()
        except TimeoutError as error:
            if not self._begun:
                raise late(self._settings) from error
            message = f"The vendor's stream fell silent for {self._settings.provider_silence_timeout:g} s"
            raise ProviderError(message, code="model_timeout", retry=True) from error
        except httpx.RequestError as error:
            raise broken_off(error) from error
        if not piece:
            raise StopAsyncIteration
        self._begun = True
        self._left -= len(piece)
        if self._left < 0:
            raise self._bounds.too_long()
        return piece

    async def __aenter__(self) -> "Reply":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not (isinstance(self._body, Body) and self._body.whole):
                await self._drain()
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Releases the connection, which is used again if the body has been read."""
        self._deadline.close()
        await self._body.aclose()

    async def _drain(self) -> None:
        """Reads the rest of the body for a short time, so that the connection can be reused."""
        with suppress(ProviderError, TimeoutError), within(DRAIN_SECONDS):
            async for _ in self:
                pass
