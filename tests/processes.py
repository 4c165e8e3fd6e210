"""Real engines in processes of their own, and a plugin folder with a model that takes its time."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import IO

from bytebrew.testing import ADMIN

from .commands import BYTEBREW, start

SLOW = '''
"""A provider whose deltas come one by one; the message says how many."""
import asyncio
from bytebrew import MessageDelta, Provider, Stop, Thinking, ToolCall, Usage, hookimpl, tool

@tool(idempotent=True)
async def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b

class Slow(Provider):
    type = "slow"

    async def stream(self, request, http):
        count = int(request.messages[-1].content) if request.messages[-1].role == "user" else 10
        yield Thinking(content="counting ")
        for n in range(count):
            await asyncio.sleep(0.002)
            yield MessageDelta(content=f"delta {n} \\u00fc\\u2028 ")
        if request.tools and request.messages[-1].role == "user":
            yield ToolCall("add", {"a": 1, "b": 2})
        yield Usage(1, count)
        yield Stop()

@hookimpl
def register_providers(register):
    register(Slow())

@hookimpl
def register_tools(register):
    register(add)
'''


def plugins_folder(folder: Path) -> Path:
    """The folder, filled as pip install --target would with a plugin `slow`."""
    info = folder / "slow-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "slow_provider.py").write_text(SLOW)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bytebrew]\nslow = slow_provider\n")
    return folder


def send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Sends a signal, if the process still lives.

    asyncio's own way looks first whether it has ended, and takes its exit code from who waits for it (`Popen.poll`):
    of one that dies at that moment asyncio says that it ended with 255.
    """
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)


class Process:
    """A running `bytebrew serve`; `output` and `errors` are what it has written after the ready line."""

    def __init__(
        self, data: Path, settings: Mapping[str, str] | None = None, command: Sequence[str] = BYTEBREW
    ) -> None:
        given = {
            "BYTEBREW_DATA_DIR": str(data),
            "BYTEBREW_PORT": "0",
            "BYTEBREW_BOOTSTRAP_ADMIN_TOKEN": ADMIN,
            **(settings or {}),
        }
        self.process = start([*command, "serve"], given, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdout is not None and self.process.stderr is not None
        ready = self.process.stdout.readline().decode()
        self._output, self._errors = Read(self.process.stdout), Read(self.process.stderr)
        if " is ready at " not in ready:
            self.ended()
            raise AssertionError(f"the engine did not start: {ready}{self.errors}")
        self.ready = ready
        self.url = ready.rsplit(" ", 1)[1].strip().removesuffix('"}')

    @property
    def output(self) -> str:
        return self._output.text

    @property
    def errors(self) -> str:
        return self._errors.text

    def ended(self) -> int:
        """The exit code, once it has ended by itself or by a signal."""
        code = self.process.wait(timeout=30)
        self._output.join()
        self._errors.join()
        return code

    def kill(self) -> None:
        """SIGKILL: no word of farewell."""
        self.process.kill()
        self.ended()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()


class Read(Thread):
    """What comes out of a pipe, read at once: a pipe that is full would hold the engine."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._pipe, self._lines = pipe, list[bytes]()
        self.start()

    def run(self) -> None:
        with self._pipe:
            self._lines.extend(self._pipe)

    @property
    def text(self) -> str:
        return b"".join(self._lines).decode()


@contextmanager
def serving(
    data: Path, settings: Mapping[str, str] | None = None, command: Sequence[str] = BYTEBREW
) -> Iterator[Process]:
    """A process that is gone afterwards, whatever happens."""
    process = Process(data, settings, command)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.kill()
