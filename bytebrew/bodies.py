"""Bodies of requests: they are read for as long as they keep coming, and no further than they may be long."""

import asyncio
from collections.abc import Mapping

from starlette.types import Receive

from bytebrew.deadline import until
from bytebrew.errors import InvalidRequest, PayloadTooLarge, RequestTimeout

BODY_SECONDS = 15.0
"""The longest time for a whole body, or between the pieces of one that is a stream."""
STREAM_SECONDS = 900.0


async def whole(receive: Receive, headers: Mapping[str, str], limit: int) -> bytes:
    """A body of at most `limit` bytes; raises PayloadTooLarge, RequestTimeout or InvalidRequest."""
    return b"".join([piece async for piece in Body(receive, headers, limit, BODY_SECONDS)])


class Body:
    """A body as it comes, for as long as it keeps coming."""

    def __init__(self, receive: Receive, headers: Mapping[str, str], limit: int, seconds: float) -> None:
        self._receive, self._headers, self._limit, self._seconds = receive, headers, limit, seconds
        self._until = asyncio.get_running_loop().time() + seconds
        self._size = 0
        self._more = True

    def __aiter__(self) -> "Body":
        return self

    async def __anext__(self) -> bytes:
        if not self._more:
            raise StopAsyncIteration
        declared = self._headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:19]) > self._limit:
            raise self._too_large()
        try:
            with until(min(self._until, asyncio.get_running_loop().time() + BODY_SECONDS)):
                piece = await self._next()
        except TimeoutError as error:
            self._more = False
            words = f"The body did not arrive within {self._seconds:g} s, or fell silent for {BODY_SECONDS:g} s"
            raise RequestTimeout(words) from error
        self._size += len(piece)
        if self._size > self._limit:
            raise self._too_large()
        return piece

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The body is larger than {self._limit} bytes")

    async def _next(self) -> bytes:
        message = await self._receive()
        self._more = message.get("more_body", False)
        if message["type"] == "http.disconnect":
            raise InvalidRequest("The client left before its body was whole")
        body: bytes = message.get("body", b"")
        return body
