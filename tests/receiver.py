"""A server on a socket that receives callbacks, and answers each request as its script says."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import anyio
from standardwebhooks.webhooks import Webhook


class Received(NamedTuple):
    """A request: its headers in lower case, its body, and when it came by the loop's clock."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> dict[str, Any]:
        """The body, once the specification's own library has verified its signature."""
        message: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return message

    def json(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.body)
        return message


class Receiver:
    """What came, and `script`: what the next requests get, a status with headers, or "hang" or "reset"; then 200."""

    def __init__(self, *script: str) -> None:
        self.script = list(script)
        self.received: list[Received] = []
        self.url = ""
        self.hanging = 0
        self.most_at_once = 0
        self._at_once = 0

    async def wait(self, count: int, seconds: float = 10) -> list[Received]:
        """The requests, once there are so many."""
        with anyio.fail_after(seconds):
            while len(self.received) < count:
                await anyio.sleep(0.01)
        return self.received

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self._at_once -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.received.append(Received(first.split()[1], headers, body, asyncio.get_running_loop().time()))
        answer = self.script.pop(0) if self.script else "200"
        if answer == "hang":
            self.hanging += 1
            await reader.read()
            return
        if answer == "reset":
            writer.transport.abort()
            return
        status, *more = answer.split("\n")
        text = f"HTTP/1.1 {status} X\r\n" + "".join(f"{line}\r\n" for line in more)
        writer.write(f"{text}Connection: close\r\nContent-Length: 5\r\n\r\nwords".encode())
        await writer.drain()


@asynccontextmanager
async def receiving(*script: str) -> AsyncIterator[Receiver]:
    """A receiver that listens on this machine."""
    receiver = Receiver(*script)
    server = await asyncio.start_server(receiver.take, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield receiver
    finally:
        server.close()
