"""Short requests: clients on keep-alive connections that ask the same over and over."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from bytebrew.testing import ADMIN

Requests = Callable[[int], Sequence[bytes]]
"""What the client of a number asks."""


class Rate(NamedTuple):
    """How many requests were answered in a second, CPU microseconds of one, and the slowest of a hundred."""

    per_second: float
    cpu_us: float
    p99_ms: float


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """The bytes of a request of the admin."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {ADMIN}", "Accept: */*"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Client(asyncio.Protocol):
    """A keep-alive connection with one request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0):
            self._answer.set_result(self._received)
            self._received = b""

    def connection_lost(self, error: Exception | None) -> None:
        if hasattr(self, "_answer") and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the server hung up"))

    async def ask(self, request: bytes) -> None:
        """One request; raises ValueError unless it succeeds."""
        self._answer: asyncio.Future[bytes] = self._loop.create_future()
        self.transport.write(request)
        answer = await self._answer
        if not answer.startswith(b"HTTP/1.1 2"):
            raise ValueError(f"{request[:80]!r}: {answer[:300].decode('utf-8', 'replace')}")


async def over_and_over(port: int, clients: int, requests: Requests, seconds: float) -> list[float]:
    """Seconds of each request of so many clients, each of whom goes through its own for so many seconds."""
    times: list[float] = []
    until = time.perf_counter() + seconds

    async def run(number: int) -> None:
        _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
        try:
            while time.perf_counter() < until:
                for one in requests(number):
                    started = time.perf_counter()
                    await client.ask(one)
                    times.append(time.perf_counter() - started)
        finally:
            client.transport.close()

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(run(number))
    return times
