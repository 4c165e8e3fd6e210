"""The nodes of a cluster as processes: starts, kills, stops and continues them."""

import asyncio
import os
import random
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bytebrew.testing import ADMIN
from tests.cluster.balancer import Balancer, Link
from tests.commands import environment
from tests.processes import send

START_SECONDS = 150.0
"""How long a start may take on a machine that is busy with other nodes."""
ATTEMPTS = 10
"""How often a node is started while the database is away, as a supervisor does."""
AWAY = " cannot be opened: "
"""What a node says that ends because the database is away."""


def free_port() -> int:
    """A port that nobody listens on, below those that systems give to outgoing connections."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Node:
    """One engine after the other on one data folder; `link` is its way to the database."""

    def __init__(self, number: int, folder: Path, settings: Mapping[str, str], link: Link | None) -> None:
        self.number, self.link = number, link
        self.data = folder / f"node-{number}"
        self.port = free_port()
        """The same for each engine: one that has lost its lease begins anew in its process."""
        self.alive = False
        self._log = folder / f"node-{number}.log"
        self._settings = {"BYTEBREW_DATA_DIR": str(self.data), "BYTEBREW_PORT": str(self.port), **settings}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def ended(self) -> bool:
        """Whether the process has ended though nobody ended it."""
        return self.alive and self._process is not None and self._process.returncode is not None

    async def start(self, code: Path | None = None) -> bool:
        """Starts an engine, of another copy of the code perhaps; whether it serves."""
        settings = environment(self._settings)
        if code is not None:  # which comes before the working folder, where `python -m` looks first
            settings["PYTHONSAFEPATH"] = "1"
            settings["PYTHONPATH"] = f"{code}:{code / 'plugins'}:{settings.get('PYTHONPATH', '')}"
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bytebrew", "serve"), env=settings, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                line = (await self._process.stdout.readline()).decode()
        except TimeoutError:
            line = ""
        if " is ready at " not in line:
            await self.kill()
            return False
        self.alive = True
        return True

    async def kill(self) -> int:
        """SIGKILL; the exit code."""
        self.alive = False
        assert self._process is not None
        send(self._process, signal.SIGKILL)
        return await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.alive = False
        assert self._process is not None
        send(self._process, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                return await self._process.wait()
        await self.kill()
        return -1

    def pause(self) -> None:
        """SIGSTOP."""
        assert self._process is not None
        send(self._process, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        send(self._process, signal.SIGCONT)

    def kill_now(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends the process without waiting; with SIGABRT it leaves the stacks of its threads in its log."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, how)
                os.kill(self._process.pid, signal.SIGCONT)

    def log(self) -> str:
        """What all engines of this folder have written to standard error."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


class Nodes(Sequence[Node]):
    """The nodes and the balancer before them."""

    def __init__(self, folder: Path, seed: int, count: int, settings: Mapping[str, str], database: int = 0) -> None:
        """`database` is the port of a PostgreSQL server; its URL in `settings` has `{port}` in the place of it."""
        self.balancer = Balancer(seed)
        self._nodes: list[Node] = []
        self._settings = {
            "BYTEBREW_BOOTSTRAP_ADMIN_TOKEN": ADMIN,
            "BYTEBREW_DRAIN_SECONDS": "1",
            "PYTHONFAULTHANDLER": "1",
            "BYTEBREW_TASK_RETRIES": "1",
            **settings,
        }
        self._folder, self._count, self._database = folder, count, database
        self.code: dict[int, Path] = {}
        """Copies of the engine's code that nodes run in the place of this one."""

    def __getitem__(self, number: int) -> Node:  # type: ignore[override]
        return self._nodes[number]

    def __len__(self) -> int:
        return len(self._nodes)

    async def start(self) -> None:
        """Starts all nodes, with the key file of the first."""
        await self.balancer.start(self._count)
        for number in range(self._count):
            link, settings = None, dict(self._settings)
            if self._database:
                link = Link(self._database)
                await link.start()
                url = settings["BYTEBREW_DATABASE_URL"]
                settings["BYTEBREW_DATABASE_URL"] = url.replace("{port}", str(link.port))
            node = Node(number, self._folder, settings, link)
            self._nodes.append(node)
            if number:
                node.data.mkdir(mode=0o700)
                shutil.copytree(self._nodes[0].data / "keys", node.data / "keys")
            else:
                await self.run(node)
        await asyncio.gather(*(self.run(node) for node in self._nodes[1:]))

    async def run(self, node: Node) -> None:
        """Starts a node, again while the database is away; RuntimeError if it does not serve."""
        for _ in range(ATTEMPTS):
            if await node.start(self.code.get(node.number)):
                self.balancer.ports[node.number] = node.port
                return
            if AWAY not in (log := node.log()[-4000:]) and "psycopg.OperationalError" not in log:
                break
            await asyncio.sleep(1)
        raise RuntimeError(f"node {node.number} does not start: {node.log()[-3000:]}")

    async def kill(self, node: Node) -> None:
        """SIGKILL, after which the balancer knows of no port."""
        self.balancer.ports.pop(node.number, None)
        await node.kill()

    async def stop(self) -> list[int]:
        """Stops all; the exit codes."""
        return list(await asyncio.gather(*(node.stop() for node in self._nodes if node.alive)))

    async def close(self) -> None:
        """Ends what is left, and all connections."""
        self.kill_now()
        await self.balancer.stop()
        for node in self._nodes:
            if node.link is not None:
                await node.link.stop()

    def kill_now(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends all processes without waiting."""
        for node in self._nodes:
            node.kill_now(how)
