"""A connection over HTTP/1.1 that shows all that comes, and reads as slowly as it is to."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from bytebrew.testing import ADMIN

SMALL = 4096
"""The buffer of the socket of a slow reader, which the system rounds up."""


class Head(NamedTuple):
    """The head of an answer; names of headers are lower case."""

    status: int
    headers: Mapping[str, str]


class Raw:
    """A connection with one request at a time; `pause` is how long a slow one waits before each read, and its size."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pause: Callable[[], tuple[float, int]] | None = None,
    ) -> None:
        self._reader, self.writer, self._pause = reader, writer, pause

    @classmethod
    async def open(cls, url: str, pause: Callable[[], tuple[float, int]] | None = None) -> "Raw":
        """Connects to the engine."""
        host, port = url.removeprefix("http://").split(":")
        if pause is None:
            return cls(*await asyncio.open_connection(host, int(port), limit=2**20))
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        one.setblocking(False)
        await asyncio.get_running_loop().sock_connect(one, (host, int(port)))
        return cls(*await asyncio.open_connection(sock=one, limit=SMALL), pause)

    def close(self, *, at_once: bool = False) -> None:
        """Ends the connection; at once is with what has not come yet."""
        with suppress(OSError, RuntimeError):
            if at_once:
                self.writer.transport.abort()
            self.writer.close()

    async def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Head:
        """Sends a request, and reads the head of its answer."""
        content = encoded(body) if body is not None else b""
        lines = [f"{method} /api/v1{path} HTTP/1.1", "Host: a", f"Authorization: Bearer {ADMIN}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}", "", ""]
        self.writer.write("\r\n".join(lines).encode() + content)
        return await self.head()

    async def head(self) -> Head:
        """Reads the head of an answer."""
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Head(int(first.split()[1]), headers)

    async def whole(self, head: Head) -> bytes:
        """The body of an answer."""
        if head.headers.get("transfer-encoding") == "chunked":
            return b"".join([piece async for piece in self.pieces()])
        return await self._reader.readexactly(int(head.headers.get("content-length", 0)))

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body in chunks, as they come."""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            if self._pause is None:
                yield (await self._reader.readexactly(size + 2))[:size]
                continue
            while size:
                wait, most = self._pause()
                await asyncio.sleep(wait)
                piece = await self._reader.read(min(size, most))
                if not piece:
                    raise asyncio.IncompleteReadError(b"", size)
                size -= len(piece)
                yield piece
            await self._reader.readexactly(2)
        await self._reader.readuntil(b"\r\n")


GONE = (OSError, EOFError, asyncio.LimitOverrunError)
"""What is raised where the engine has gone away in the middle; asyncio.IncompleteReadError is an EOFError."""


def encoded(body: Any) -> bytes:
    """The bytes that httpx makes of it: under an Idempotency-Key the same request has the same bytes."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
