"""What is done to the engine and to what it calls, by a plan of few restarts and by dice."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from tests.chaos.model import Model
from tests.chaos.world import DAY, World
from tests.soak.engine import Engine
from tests.soak.upstreams import Upstream

RESTARTS: tuple[tuple[float, str], ...] = ((0.25, "kill"), (0.42, "stop"), (0.6, "kill"), (0.8, "kill"))
"""Parts of the time after which the engine is killed, or stopped."""
AWAY = 1.5 * DAY
"""How far the clock has gone on at each restart, so that retention finds old events."""


class Disturber(World):
    """Kills, hangs and restarts."""

    def __init__(self, engine: Engine, model: Model, upstreams: Mapping[str, Upstream]) -> None:
        super().__init__(engine, model)
        self.engine, self._upstreams = engine, upstreams
        self.dice = random.Random(f"{model.seed} soak")

    async def restarts(self, until: float, planned: Sequence[tuple[float, str]]) -> None:
        """Those of a plan: parts of the time, and whether the engine is killed or stopped."""
        began = time.monotonic()
        for part, how in planned:
            await asyncio.sleep(max(0.0, began + part * (until - began) - time.monotonic()))
            async with self._lock:
                self.engine.note(how)
                if how == "kill":
                    self.model.count("engine killed")
                    await self.engine.kill()
                else:
                    self.model.count("engine stopped")
                    code = await self.engine.stop()
                    self.model.check(code == 0, f"the engine ended with {code} on SIGTERM")
                self.engine.set_clock(self.engine.offset + AWAY)
                await self.start()
                self.model.jumped = time.monotonic()

    async def outside(self, until: float, gap: float) -> None:
        """Disturbs what the engine calls, one thing after the other."""
        deeds: tuple[tuple[Callable[[], Awaitable[None]], int], ...] = (
            (self.upstream_killed, 4),
            (self.upstream_hangs, 3),
            (self.mcp_killed, 4),
            (self.engine_paused, 1),
        )
        choices, weights = zip(*deeds, strict=True)
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self.dice.uniform(0.5, 1.5) * gap))
            if time.monotonic() < until:
                deed: Callable[[], Awaitable[None]] = self.dice.choices(choices, weights)[0]
                await deed()

    async def upstream_killed(self) -> None:
        """A vendor or a tool's host is killed, and back after a while."""
        one = self._chosen("killed")
        await one.kill()
        await asyncio.sleep(self.dice.uniform(0, 4))
        await one.start()

    async def upstream_hangs(self) -> None:
        """A vendor or a tool's host does nothing for a while."""
        await self._chosen("hung").hang(self.dice.uniform(0.5, 6))

    def _chosen(self, deed: str) -> Upstream:
        one = self._upstreams[self.dice.choice([*self._upstreams])]
        self.model.count(f"{one.kind} {deed}")
        return one

    async def mcp_killed(self) -> None:
        """The MCP server is killed; the engine starts it again."""
        self.model.acts["MCP server killed"] += self.engine.kill_children("mcp_double")

    async def engine_paused(self) -> None:
        """SIGSTOP of the engine for a moment, as on a machine that swaps."""
        async with self._lock:
            self.model.count("engine paused")
            await self.engine.pause(self.dice.uniform(0.2, 1.5))
