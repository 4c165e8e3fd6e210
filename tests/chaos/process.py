"""The engine under test as a process: starts, kills, stops, pauses, its clock, and commands on its data folder."""

import asyncio
import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

from bytebrew.testing import ADMIN
from tests import ledger
from tests.chaos.model import Model
from tests.commands import BYTEBREW, environment, install
from tests.faults import layer
from tests.faults.clock import Clock
from tests.processes import send

START_SECONDS = 40.0
"""How long a start may take on a machine that is busy with other things; alone it takes one second."""
STOP_SECONDS = 40.0


class Process:
    """One engine after the other on one data folder; `up` is set while one serves and is not paused."""

    def __init__(self, folder: Path, model: Model) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.ledger = ledger.Ledger(folder / "ledger")
        self.model = model
        self.url = ""
        self.up = asyncio.Event()
        self.offset = 0.0
        self.disturbed = time.monotonic()
        """When the engine was last killed, stopped, paused or started."""
        self._log = folder / "engine.log"
        self._clock = Clock(folder)
        install(folder / "plugins", "ledger", Path(ledger.__file__).read_text())
        install(folder / "plugins", "chaos", Path(__file__).with_name("plugin.py").read_text())
        self.environment = environment(
            {
                "BYTEBREW_DATA_DIR": str(self.data),
                "BYTEBREW_PORT": "0",
                "BYTEBREW_BOOTSTRAP_ADMIN_TOKEN": ADMIN,
                "BYTEBREW_PLUGINS_DIR": str(folder / "plugins"),
                "BYTEBREW_LEDGER": str(folder / "ledger"),
                "BYTEBREW_DRAIN_SECONDS": "1",
                "BYTEBREW_TASK_RETRIES": "1",
                "BYTEBREW_PROVIDER_FIRST_BYTE_TIMEOUT": "3",
                "BYTEBREW_PROVIDER_SILENCE_TIMEOUT": "2",
                "BYTEBREW_PROVIDER_RETRIES": "1",
            }
        )
        self.disk = layer.Control(folder / "faults")
        self._layered = layer.environment(self.disk.path, self.data)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def alive(self) -> bool:
        """Whether an engine runs."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The process id of the engine that was started last."""
        assert self._process is not None
        return self._process.pid

    def disturbed_by(self) -> dict[str, str]:
        """What the engine needs in its environment so that its clock and its disk can be disturbed."""
        preloaded = f"{self._clock.environment['LD_PRELOAD']}:{self._layered['LD_PRELOAD']}"
        return self._layered | self._clock.environment | {"LD_PRELOAD": preloaded}

    def set_clock(self, seconds: float) -> None:
        """Sets how far the engine's wall clock is off."""
        self.offset = seconds
        self._clock.set(seconds)

    def note(self, words: str) -> None:
        """Writes into the engine's log what is done to it."""
        with self._log.open("a") as log:
            log.write(f"--- {time.monotonic() - self.model.began:.1f} s: {words}\n")

    async def spawn(self) -> asyncio.subprocess.Process:
        """An engine of which it is not known yet whether it will serve."""
        self.note("start")
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *BYTEBREW,
                "serve",
                env={**self.environment, **self.disturbed_by()},
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )

    async def start(self) -> bool:
        """Starts an engine; whether it serves. One that neither serves nor ends is a violation."""
        self.disturbed = began = time.monotonic()
        self._process = await self.spawn()
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                line = (await self._process.stdout.readline()).decode()
                if " is ready at " not in line:
                    await self._process.wait()
        except TimeoutError:
            self.model.violation(f"the engine was not ready {START_SECONDS:g} s after its start")
            await self.kill()
            return False
        self.disturbed = time.monotonic()
        self.model.acts["ms to start"] = max(self.model.acts["ms to start"], int(1000 * (self.disturbed - began)))
        if " is ready at " not in line:
            return False
        self.url = line.rsplit(" ", 1)[1].strip()
        self.up.set()
        return True

    async def kill(self) -> int:
        """SIGKILL; the exit code."""
        self.up.clear()
        self.disturbed = time.monotonic()
        assert self._process is not None
        send(self._process, signal.SIGKILL)
        code = await self._process.wait()
        self.disturbed = time.monotonic()
        return code

    async def stop(self) -> int:
        """SIGTERM; the exit code. One that does not end is a violation."""
        self.up.clear()
        self.disturbed = time.monotonic()
        assert self._process is not None
        send(self._process, signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                code = await self._process.wait()
        except TimeoutError:
            self.model.violation(f"the engine had not stopped {STOP_SECONDS:g} s after SIGTERM")
            code = await self.kill()
        self.disturbed = time.monotonic()
        return code

    async def pause(self, seconds: float) -> None:
        """SIGSTOP for so long."""
        assert self._process is not None
        self.disturbed = time.monotonic()
        send(self._process, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        send(self._process, signal.SIGCONT)
        self.disturbed = time.monotonic()

    async def ended(self) -> int:
        """Returns once the engine has ended; its exit code."""
        assert self._process is not None
        return await self._process.wait()

    async def command(self, *arguments: str, seconds: float = 60.0) -> tuple[int, str]:
        """A command of bytebrew on the same data folder: its exit code and what it wrote."""
        process = await asyncio.create_subprocess_exec(
            *BYTEBREW,
            *arguments,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(seconds):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            return -1, f"it had not ended after {seconds:g} s"
        return process.returncode or 0, output.decode(errors="replace")

    def errors(self) -> str:
        """What all engines have written to standard error."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def remove(self) -> None:
        """Removes all that the seed has left."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill_now(self) -> None:
        """Ends the engine without waiting."""
        if self.alive and self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
