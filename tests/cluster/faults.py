"""What is done to a cluster, by dice: kills, stops, cut and held connections, restarts of the database."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from tests.cluster.database import Server
from tests.cluster.history import History
from tests.cluster.nodes import AWAY, Node, Nodes


class Deed(NamedTuple):
    """What a script has done: after how many seconds, what, to which node, and for how long."""

    at: float
    what: str
    node: int
    seconds: float


STOPPED_SECONDS = 20.0
"""How long a stopped node sleeps: twice its lease."""


class World:
    """Disturbs a cluster; whatever it does, all nodes serve again afterwards."""

    def __init__(self, nodes: Nodes, history: History, database: Server | None) -> None:
        self.nodes, self.history, self.database = nodes, history, database
        self.dice = random.Random(f"{history.seed} world")
        self._busy: set[int] = set()
        """The nodes at which something is being done."""

    async def disturb(self, until: float, pause: tuple[float, float] = (1.0, 8.0)) -> None:
        """Does one thing after the other until a moment of the monotonic clock; stops of nodes go on beside others."""
        acts: list[tuple[Callable[[Node], Awaitable[None]], int]] = [(self.kill, 5), (self.cut_clients, 4)]
        acts += [(self.stop, 2), (self.sleep, 3)]
        if self.database is not None:
            acts += [(self.cut, 4), (self.hold, 2), (self.restart, 2), (self.crash, 2)]
        async with asyncio.TaskGroup() as group:
            while (left := until - time.monotonic()) > 0 and not self.history.violations:
                await asyncio.sleep(min(left, self.dice.uniform(*pause)))
                free = [node for node in self.nodes if node.number not in self._busy]
                if time.monotonic() >= until or not free:
                    continue
                act = self.dice.choices([one for one, _ in acts], [weight for _, weight in acts])[0]
                group.create_task(self._done(act.__name__, act, self.dice.choice(free)))

    async def play(self, script: Sequence[Deed]) -> None:
        """Does what a script says."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for one in script:
                await asyncio.sleep(began + one.at - time.monotonic())
                act = partial(getattr(self, one.what), seconds=one.seconds)
                group.create_task(self._done(one.what, act, self.nodes[one.node]))

    async def _done(self, name: str, act: Callable[[Node], Awaitable[None]], node: Node) -> None:
        while node.number in self._busy:
            await asyncio.sleep(0.1)
        self._busy.add(node.number)
        one = self.history.disturb(f"{name} of node {node.number}")
        print(f"{self.history.now:6.1f} s: {one.what}", flush=True)
        try:
            await act(node)
        finally:
            one.until = time.monotonic()
            self._busy.discard(node.number)

    async def watch(self) -> None:
        """Starts a node again that ended because the database was away; another end by itself is a violation."""
        while True:
            await asyncio.sleep(0.5)
            for node in self.nodes:
                if not node.ended or node.number in self._busy:
                    continue
                if AWAY not in node.log()[-2000:] or not self.history.disturbed(time.monotonic()):
                    self.history.violation(f"node {node.number} ended by itself: {node.log()[-1500:]}")
                    return
                await self._done("start again", self.nodes.run, node)

    async def kill(self, node: Node, seconds: float | None = None) -> None:
        """SIGKILL, and a start at once or after the lease."""
        await self.nodes.kill(node)
        away = self.dice.choice((0.0, 1.0, self.dice.uniform(0, 20)))
        await asyncio.sleep(away if seconds is None else seconds)
        await self.nodes.run(node)

    async def stop(self, node: Node) -> None:
        """SIGTERM, which ends well, and a start."""
        self.nodes.balancer.ports.pop(node.number, None)
        code = await node.stop()
        self.history.check(code == 0, f"node {node.number} ended with {code} on SIGTERM")
        await self.nodes.run(node)

    async def sleep(self, node: Node, seconds: float | None = None) -> None:
        """SIGSTOP for longer than the lease, and SIGCONT."""
        node.pause()
        await asyncio.sleep(seconds or (STOPPED_SECONDS if len(self.nodes) > 1 else 2.0))
        node.go_on()

    async def cut_clients(self, node: Node, seconds: float = 0) -> None:
        """The balancer loses some connections of clients."""
        self.nodes.balancer.cut(self.dice.uniform(0.2, 1.0))

    async def cut(self, node: Node, seconds: float = 0) -> None:
        """A node loses its connections to the database."""
        assert node.link is not None
        node.link.cut()

    async def hold(self, node: Node, seconds: float | None = None) -> None:
        """Nothing comes through between a node and the database for a while, longer than the lease perhaps."""
        assert node.link is not None
        await node.link.hold(seconds or self.dice.choice((2.0, 6.0, 15.0)))

    async def restart(self, node: Node, seconds: float = 0) -> None:
        """The database is restarted in good order."""
        assert self.database is not None
        await self.database.restart("fast")

    async def crash(self, node: Node, seconds: float = 0) -> None:
        """The database crashes and recovers."""
        assert self.database is not None
        await self.database.restart("immediate")
