"""Clients who mean harm: malformed requests, half heads, huge bodies, wrong tokens, floods within bounds."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from bytebrew.testing import ADMIN
from tests.bench import floods
from tests.chaos.client import Client
from tests.soak.raw import GONE, Raw

HELD_SECONDS = 3.0
ANSWERS = (501, 503, 505)
"""Statuses from 500 on that a malformed request may have."""
_AS_ADMIN = f"Host: a\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\n".encode()
_CHAT = b"POST /api/v1/schemas/parallel/chat HTTP/1.1\r\n" + _AS_ADMIN

REQUESTS: dict[str, Callable[[], bytes]] = {
    "noise": lambda: random.Random(1).randbytes(3000) + b"\r\n\r\n",
    "no version": lambda: b"GET /api/v1/health\r\n\r\n",
    "another version": lambda: b"GET /api/v1/health HTTP/9.9\r\nHost: a\r\n\r\n",
    "no host": lambda: b"GET /api/v1/health HTTP/1.1\r\n\r\n",
    "a nul in the path": lambda: b"GET /api/v1/\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "two lengths": lambda: _CHAT + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}}",
    "a length and chunks": lambda: _CHAT + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a false chunk": lambda: _CHAT + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a huge length": lambda: _CHAT + b"Content-Length: 99999999999999\r\n\r\n{",
    "a huge body": lambda: _CHAT + b"Content-Length: 3000000\r\n\r\n" + b"[" * 3_000_000,
    "deep brackets": lambda: _CHAT + b"Content-Length: 500000\r\n\r\n" + b"[" * 500_000,
    "no JSON": lambda: _CHAT + b"Content-Length: 3\r\n\r\nyes",
    "a huge header": lambda: b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 300_000 + b"\r\n\r\n",
    "many headers": lambda: b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: a\r\n" * 3000 + b"\r\n",
    "half a head": lambda: b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ",
    "half a body": lambda: _CHAT + b"Content-Length: 5000\r\n\r\n{",
    "a wrong token": lambda: b"GET /api/v1/sessions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer bb_no\r\n\r\n",
    "a method of its own": lambda: b"BREW /api/v1/health HTTP/1.1\r\nHost: a\r\n\r\n",
    "resets over HTTP/2": lambda: floods.resets(300),
    "PINGs over HTTP/2": lambda: floods.many(floods.PING, bytes(8), 5000),
    "a head that goes on over HTTP/2": lambda: floods.continued(5000),
    "malformed over HTTP/2": lambda: floods.malformed(300),
    "windows that overflow": lambda: floods.overflowing(300),
}
CROWDS = ("half a head", "half a body", "a wrong token")
CROWD = 150
"""Connections of a flood."""


class Hostile:
    """Sends what no client should; `counts` has what it sent, and the statuses of answers."""

    def __init__(self, client: Client) -> None:
        self._client, self._dice = client, client.dice
        self.counts: Counter[str] = Counter()

    async def run(self, pause: float) -> None:
        """One attack after the other until it is cancelled."""
        while True:
            await asyncio.sleep(self._dice.uniform(0, 2 * pause))
            await self._client.process.up.wait()
            if self._dice.random() < 0.1:
                name = self._dice.choice(CROWDS)
                self.counts[f"{CROWD} times {name}"] += 1
                await asyncio.gather(*(self._send(name) for _ in range(CROWD)))
            else:
                name = self._dice.choice([*REQUESTS])
                self.counts[name] += 1
                await self._send(name)

    async def _send(self, name: str) -> None:
        """Sends one, and looks at what comes within a while."""
        with suppress(*GONE, TimeoutError, ValueError, IndexError):
            connection = await Raw.open(self._client.process.url)
            try:
                async with asyncio.timeout(HELD_SECONDS):
                    connection.writer.write(REQUESTS[name]())
                    status = (await connection.head()).status
                self.counts[f"answered {status}"] += 1
                fine = status < 500 or status in ANSWERS
                self._client.model.check(fine, f"the request with {name} was answered {status}")
            finally:  # also where the soak ends meanwhile
                connection.close(at_once=True)
