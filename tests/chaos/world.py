"""What the world does to an engine, by dice: kills, stops, pauses, clocks, second engines, commands, a bad disk."""

import asyncio
import random
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.archives import unpacked
from tests.chaos.model import Model
from tests.chaos.process import START_SECONDS, Process
from tests.faults import layer
from tests.faults.invariants import Seen, violations
from tests.faults.layer import Fault
from tests.stored import ON_POSTGRESQL

DAY = 86400.0
EXCUSED_SECONDS = 6.0
"""How long after a fault of the disk requests may still fail for it."""
FAULTS = [one for one in layer.FAULTS if one.kind != "statement"]
WEIGHTS = {"write": 5, "read": 3, "memory": 3}
Disturbance = Callable[[], Awaitable[None]]


class World:
    """Disturbs an engine; whatever it does, one serves again afterwards."""

    def __init__(self, process: Process, model: Model) -> None:
        self.process, self.model = process, model
        self.dice = random.Random(f"{model.seed} world")
        self._lock = asyncio.Lock()
        self._copies = 0

    async def disturb(self, until: float) -> None:
        """Does one thing after the other until a moment of the monotonic clock."""
        disturbances: tuple[tuple[Disturbance, int], ...] = (
            (self.kill, 6),
            (self.kill_at_start, 2),
            (self.stop, 4),
            (self.pause, 3),
            (self.second, 1),
            (self.clock, 4),
            (self.disk, 8),
            (self.start_on_bad_disk, 2),
            (self.collect, 1),
            *(() if ON_POSTGRESQL else ((self.copy, 1),)),
        )
        acts, weights = zip(*disturbances, strict=True)
        while (left := until - time.monotonic()) > 0 and not self.model.violations:
            await asyncio.sleep(min(left, self.dice.uniform(0.5, 3.5)))
            if time.monotonic() >= until:
                return
            act: Disturbance = self.dice.choices(acts, weights)[0]
            self.model.count(act.__name__)
            async with self._lock:
                self.process.note(act.__name__)
                await act()

    async def watch(self) -> None:
        """Starts another engine where one has ended by itself, which is a violation unless its disk was bad."""
        while True:
            await asyncio.sleep(0.1)
            if self.process.up.is_set() and not self.process.alive:
                async with self._lock:
                    if self.process.up.is_set() and not self.process.alive:
                        code = await self.process.kill()
                        self.model.check(self.model.faulty and code > 0, f"the engine ended by itself with {code}")
                        self.model.count("ended by itself")
                        await self.start()

    async def start(self) -> None:
        """Starts an engine; one that does not serve is a violation."""
        for _ in range(10):
            if await self.process.start():
                return
            if not self.model.faulty:
                break
            await asyncio.sleep(1)
        if not self.model.violations:
            self.model.violation(f"the engine does not start: {self.process.errors()[-1500:]}")
        raise RuntimeError("no engine")

    async def kill(self) -> None:
        """SIGKILL."""
        await self.process.kill()
        await asyncio.sleep(self.dice.uniform(0, 0.5))
        await self.start()

    async def kill_at_start(self) -> None:
        """SIGKILL, and again while it starts or takes up what was left."""
        await self.process.kill()
        for _ in range(self.dice.randint(1, 2)):
            starting = await self.process.spawn()
            await asyncio.sleep(self.dice.uniform(0.3, 1.8))
            if starting.returncode is None:
                starting.kill()
            await starting.wait()
        await self.start()

    async def stop(self) -> None:
        """SIGTERM, which ends well."""
        code = await self.process.stop()
        self.model.check(code == 0 or self.model.faulty, f"the engine ended with {code} on SIGTERM")
        await self.start()

    async def pause(self) -> None:
        """SIGSTOP for a while."""
        await self.process.pause(self.dice.uniform(0.1, 3.0))

    async def second(self) -> None:
        """Another engine on the same folder, which is refused in words."""
        before = len(self.process.errors())
        other = await self.process.spawn()
        try:
            async with asyncio.timeout(START_SECONDS):
                assert other.stdout is not None
                line = await other.stdout.readline()
                code = await other.wait() if not line else 0
        except TimeoutError:
            line, code = b"", 0
        if other.returncode is None:
            other.kill()
            await other.wait()
        words = self.process.errors()[before:]
        fine = (code == 1 and "is running" in words) or "another" in words.lower() or "already" in words.lower()
        self.model.check(not line and code == 1 and fine, f"a second engine: {code} {line!r} {words[-300:]!r}")

    async def clock(self) -> None:
        """Sets the wall clock: a little back, an hour ahead, or far away and back."""
        jump = self.dice.choice((-10.0, -10.0, 3600.0, 400 * DAY, 0.0))
        self.model.jumped = time.monotonic()
        if jump > DAY:
            self.model.era += 1
        self.process.set_clock(jump)
        if jump > DAY:
            await asyncio.sleep(self.dice.uniform(0.5, 3.0))
            self.process.set_clock(0.0)
            self.model.jumped = time.monotonic()
            self.model.era += 1

    async def disk(self) -> None:
        """The disk or the memory refuses what the engine asks of it, once or for a while."""
        fault = self._arm(40)
        await asyncio.sleep(self.dice.uniform(0.3, 2.5))
        self._disarm(fault)

    async def start_on_bad_disk(self) -> None:
        """The disk or the memory refuses what a start asks of it; the engine serves or ends, and serves once it can."""
        await self.process.kill()
        fault = self._arm(15)
        served = await self.process.start()
        await asyncio.sleep(self.dice.uniform(0, 0.5))
        self._disarm(fault)
        if not served:
            await self.start()

    def _arm(self, most: int) -> Fault:
        fault = self.dice.choices(FAULTS, [WEIGHTS.get(one.kind, 1) for one in FAULTS])[0]
        n, lasting = self.dice.randint(1, 75 * most if fault.kind == "memory" else most), self.dice.random() < 0.4
        self.process.note(f"{fault} at {n}{' and after' if lasting else ''}")
        self.model.faulty_until = float("inf")
        self.process.disk.arm(fault, n, lasting=lasting)
        return fault

    def _disarm(self, fault: Fault) -> None:
        self.process.disk.disarm()
        self.model.acts[f"{fault}"] += self.process.disk.hits
        self.model.faulty_until = time.monotonic() + EXCUSED_SECONDS

    async def collect(self) -> None:
        """`bytebrew gc` beside the engine."""
        code, words = await self.process.command("gc")
        self.model.check(code == 0, f"bytebrew gc ended with {code}: {words[-500:]}")

    async def copy(self) -> None:
        """`bytebrew backup` beside the engine; the copy is whole."""
        self._copies += 1
        folder: Path = self.process.folder / f"copy-{self._copies}"
        folder.mkdir()
        archive = folder / "backup.tar"
        code, words = await self.process.command("backup", str(archive))
        if code != 0:
            self.model.violation(f"bytebrew backup ended with {code}: {words[-500:]}")
            return
        await asyncio.to_thread(unpacked, archive, folder)
        seen = Seen(imported={"demo", *self.model.imported})
        for one in await asyncio.to_thread(violations, folder, seen, idle=False):
            self.model.violation(f"in a backup: {one}")
        shutil.rmtree(folder)
