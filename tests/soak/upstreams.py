"""What the engine calls, as processes of their own, so that they can be killed and stopped.

`python -m tests.soak.upstreams KIND PORT SEED` serves a `vendor` that is fast, one that is `weak`, or a `tool`.
"""

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from contextlib import suppress
from functools import partial

import uvloop

from tests.bench import double
from tests.chaos.vendor import Vendor
from tests.processes import send

KINDS = ("vendor", "weak", "tool")
PORTS = range(20_000, 32_000)
"""Below those from which the system gives ports to clients, one of which could take that of a killed server."""
OFTEN = 0.5
"""Seconds between two lines of a process about what it did."""


class Upstream:
    """A process that is started again on its port after each kill; `did` counts the faults that it played."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind, self.seed, self.port = kind, seed, 0
        self._before: Counter[str] = Counter()
        self._now: Counter[str] = Counter()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def did(self) -> Counter[str]:
        """What all its processes did so far."""
        return self._before + self._now

    async def start(self) -> None:
        """Starts a process; the first one takes a port that is free."""
        dice = random.Random(f"{os.getpid()} {self.kind}")
        for _ in range(50):
            port = self.port or dice.choice(PORTS)
            command = (sys.executable, "-m", "tests.soak.upstreams", self.kind, str(port), str(self.seed))
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(*command, stdout=pipe, start_new_session=True)
            assert process.stdout is not None
            if await process.stdout.readline():
                self.port, self._process = port, process
                self._reading = asyncio.create_task(self._read(process.stdout))
                return
            await process.wait()
        raise RuntimeError(f"no port for {self.kind}")

    async def _read(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            with suppress(ValueError):
                self._now = Counter(json.loads(line))

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            send(self._process, signal.SIGKILL)
            await self._process.wait()
            assert self._reading is not None
            await self._reading
            self._before, self._now, self._process = self._before + self._now, Counter(), None

    async def hang(self, seconds: float) -> None:
        """SIGSTOP for so long."""
        assert self._process is not None
        send(self._process, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        send(self._process, signal.SIGCONT)


class Tool:
    """The host of an HTTP tool, which fails by dice."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(f"{seed} tool")
        self.faults: Counter[str] = Counter()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                fault = self._dice.choices(("none", "500", "429", "slow", "cut", "huge"), (80, 4, 4, 4, 4, 4))[0]
                self.faults[fault] += 1
                if fault == "cut":
                    break
                if fault == "slow":
                    await asyncio.sleep(1.5)
                status = fault if fault.isdigit() else "200"
                body = b'{"stock": 17}' if fault != "huge" else b'"%s"' % (b"x" * 300_000)
                head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        writer.close()


async def serve(kind: str, port: int, seed: int) -> None:
    """Serves until it is killed."""
    loop = asyncio.get_running_loop()
    faults: Counter[str] = Counter()
    if kind == "vendor":
        await loop.create_server(double.Vendor, "127.0.0.1", port, backlog=1024)
    else:
        server = Vendor(seed) if kind == "weak" else Tool(seed)
        faults = server.faults
        await asyncio.start_server(partial(_connected, server), "127.0.0.1", port)
    print("ready", flush=True)
    while True:
        await asyncio.sleep(OFTEN)
        print(json.dumps(faults), flush=True)


async def _connected(server: Vendor | Tool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        await server.connect(reader, writer)


if __name__ == "__main__":
    with suppress(OSError, KeyboardInterrupt):  # its port is taken, or nobody reads what it says
        uvloop.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
