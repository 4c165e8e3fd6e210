"""HTTP/1.1 by hand, one connection for each request: what a client sees is what came."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from bytebrew.testing import ADMIN
from tests.disturbed.client import Answer

LIMIT = 2**20


class Lost(Exception):
    """The connection ended before the answer was whole, or could not be made."""


class Head(NamedTuple):
    """The first line and the fields of a request or an answer, names in lower case."""

    first: str
    fields: dict[str, str]

    @property
    def status(self) -> int:
        """The status of an answer."""
        return int(self.first.split(" ", 2)[1])


async def read_head(reader: asyncio.StreamReader) -> tuple[Head, bytes]:
    """The head that comes next, and its bytes; IncompleteReadError if none comes."""
    raw = await reader.readuntil(b"\r\n\r\n")
    first, *lines = raw.decode("latin-1").split("\r\n")[:-2]
    pairs = (line.partition(":") for line in lines)
    return Head(first, {name.lower(): value.strip() for name, _, value in pairs}), raw


async def pieces(reader: asyncio.StreamReader, fields: Mapping[str, str]) -> AsyncIterator[bytes]:
    """The body of an answer as it comes."""
    if fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
        return
    if "content-length" in fields:
        if length := int(fields["content-length"]):
            yield await reader.readexactly(length)
        return
    while some := await reader.read(65536):
        yield some


class Exchange:
    """A request that was sent: the head of its answer, and the pieces of the body as they come."""

    def __init__(self, head: Head, reader: asyncio.StreamReader) -> None:
        self.status, self.fields, self._reader = head.status, head.fields, reader

    async def pieces(self, silence: float) -> AsyncIterator[bytes]:
        """The body as it comes; Lost if it breaks off, TimeoutError if nothing comes for so long."""
        body = pieces(self._reader, self.fields)
        while True:
            try:
                async with asyncio.timeout(silence):
                    piece = await anext(body, None)
            except (ConnectionError, asyncio.IncompleteReadError, ValueError) as error:
                raise Lost from error
            if piece is None:
                return
            yield piece

    async def whole(self, silence: float) -> Answer:
        """The whole answer."""
        return Answer(self.status, self.fields, b"".join([piece async for piece in self.pieces(silence)]))


@asynccontextmanager
async def sent(
    port: int,
    method: str,
    path: str,
    body: Any = None,
    *,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    token: str = ADMIN,
    seconds: float = 30.0,
) -> AsyncIterator[Exchange]:
    """Sends a request and waits for the head of its answer; Lost if none comes, TimeoutError after so long."""
    raw = content if content is not None else b"" if body is None else json.dumps(body).encode()
    lines = {"host": f"127.0.0.1:{port}", "authorization": f"Bearer {token}", "connection": "close", **(headers or {})}
    if raw or method == "POST":
        lines = {"content-type": "application/json", "content-length": str(len(raw))} | lines
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer = None
    try:
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LIMIT)
                writer.write(f"{method} /api/v1{path} HTTP/1.1\r\n{text}\r\n".encode() + raw)
                head, _ = await read_head(reader)
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise Lost from error
        yield Exchange(head, reader)
    finally:
        if writer is not None:
            writer.transport.abort()
