"""Runs a reader process, which extracts chunks from files outside the engine."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from bytebrew import within

SOURCE = "import sys; sys.path.insert(0, sys.argv[1]); from reading.process import serve; serve()"
GRACE_SECONDS = 5.0


class ReadFailed(Exception):
    """A file could not be read; the message is for its owner."""


class Reader:
    """Reads one file at a time, within `seconds` and `memory_bytes`."""

    def __init__(self, seconds: float, memory_bytes: int) -> None:
        self._seconds = seconds
        self._memory = memory_bytes
        self._process: asyncio.subprocess.Process | None = None
        self._ending: asyncio.Task[tuple[bytes, bytes]] | None = None

    async def read(self, source: Path, kind: str, target: Path) -> int:
        """Writes a file's chunks to the target as lines of JSON, and returns their number. Raises ReadFailed."""
        process = self._process or await self._start()
        assert process.stdin is not None and process.stdout is not None
        job = {"source": str(source), "type": kind, "target": str(target)}
        limits = {"seconds": round(self._seconds) or 1, "memory": self._memory}
        try:
            with within(self._seconds + GRACE_SECONDS):
                process.stdin.write(msgspec.json.encode({**job, **limits}) + b"\n")
                await process.stdin.drain()
                line = await process.stdout.readline()
            answer = msgspec.json.decode(line, type=dict[str, int | str])
        except (TimeoutError, OSError, ValueError) as error:
            await self.close()
            raise ReadFailed(f"Its reader was lost or took longer than {self._seconds:g} s") from error
        except BaseException:
            await self.close()
            raise
        if "error" in answer:
            raise ReadFailed(str(answer["error"]))
        return int(answer["chunks"])

    async def close(self) -> None:
        """Kills the process group; a cancelled call is completed by the next one."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            self._ending = asyncio.create_task(process.communicate())  # reads its pipes to the end
        if self._ending is not None:
            await asyncio.shield(self._ending)

    async def _start(self) -> asyncio.subprocess.Process:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-c",
            SOURCE,
            str(Path(__file__).parent),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"LC_ALL": "C.UTF-8"},  # not the engine's environment, which contains secrets
            start_new_session=True,
        )
        return self._process
