"""An MCP server that is a command: a process group of its own with a clean environment, gone when the engine is."""

import asyncio
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from msgspec.json import encode

from .words import MAX_MESSAGE_BYTES, Lost, Message, Receive, decode

log = logging.getLogger(__name__)

KEPT = ("PATH", "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME")
"""What a command sees of the engine's environment."""
LAUNCH = """
[ "$1" = 0 ] || ulimit -d "$1" || exit 126
[ "$2" = 0 ] || ulimit -t "$2" || exit 126
(read -r _ <"$3"; kill -s KILL 0) </dev/null >/dev/null 2>&1 &
shift 3
exec "$@"
"""
"""Sets the limits, leaves a watcher that ends the whole group once the engine's end of a pipe is closed, and becomes
the command. The engine's death closes the pipe too, whatever it dies of."""
END_SECONDS = 2.0
LINES_A_MINUTE = 60
LINE_CHARACTERS = 500


class Stdio:
    """A server's standard streams; messages are lines. `secrets` are blotted out of what it writes to its log."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        *,
        memory_kb: int,
        cpu_seconds: int,
        secrets: Iterable[str],
    ) -> None:
        self._name = name
        self._command = command
        self._env = {key: os.environ[key] for key in KEPT if key in os.environ} | dict(env)
        self._limits = (str(memory_kb), str(cpu_seconds))
        self._secrets = sorted((one for one in secrets if len(one) >= 4), key=len, reverse=True)
        self._logged: deque[float] = deque(maxlen=LINES_A_MINUTE)
        self._last_words = ""

    async def __aenter__(self) -> "Stdio":
        watched, self._leash = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                LAUNCH,
                "mcp",
                *self._limits,
                f"/dev/fd/{watched}",
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._env,
                start_new_session=True,
                pass_fds=(watched,),
            )
        except (OSError, ValueError) as error:
            os.close(self._leash)
            raise Lost(f"cannot be started: {error}") from error
        finally:
            os.close(watched)
        self._log_reader = asyncio.create_task(self._read_log())
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Closes the server's input, then asks it to end, then ends it and all that it has started."""
        process = self._process
        if process.stdin:
            process.stdin.close()
        for ask in (None, signal.SIGTERM):
            if ask is not None:
                with suppress(ProcessLookupError):
                    process.send_signal(ask)
            with suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await process.wait()
                    break
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        os.close(self._leash)
        await process.wait()
        self._log_reader.cancel()
        await asyncio.wait([self._log_reader])

    async def read(self, receive: Receive, version: Callable[[], str]) -> None:
        """Hands in each message; a line that is none is logged and left out."""
        assert self._process.stdout is not None
        rest = bytearray()
        while chunk := await self._process.stdout.read(65536):
            *lines, tail = chunk.split(b"\n")
            for line in lines:
                rest += line
                self._take(bytes(rest), receive)
                rest.clear()
            rest += tail
            if len(rest) > MAX_MESSAGE_BYTES:
                raise Lost(f"sent a line of more than {MAX_MESSAGE_BYTES} bytes")
        raise Lost(await self._epitaph())

    async def send(self, message: Message, receive: Receive, headers: Mapping[str, str]) -> None:
        """Writes one line; the answer comes through `read`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(encode(message) + b"\n")
            await self._process.stdin.drain()
        except (OSError, RuntimeError) as error:
            raise Lost(f"does not read any more: {error}") from error

    def _take(self, line: bytes, receive: Receive) -> None:
        if not line.strip():
            return
        try:
            for message in decode(line):
                receive(message)
        except ValueError:
            self._log(f"on its standard output, which is for messages: {line.decode('utf-8', 'replace')}")

    async def _epitaph(self) -> str:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await self._process.wait()
                await asyncio.wait([self._log_reader])
        code = self._process.returncode
        if code is None:
            how = "closed its output"
        else:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{how}: {self._last_words}" if self._last_words else how

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        rest = b""
        while chunk := await self._process.stderr.read(4096):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in [*lines, rest] if len(rest) > 8192 else lines:
                self._log(line.decode("utf-8", "replace").strip())
            rest = b"" if len(rest) > 8192 else rest
        self._log(rest.decode("utf-8", "replace").strip())

    def _log(self, line: str) -> None:
        if not line:
            return
        for secret in self._secrets:
            line = line.replace(secret, "***")
        line = line[:LINE_CHARACTERS]
        self._last_words = line
        moment = time.monotonic()
        if len(self._logged) < LINES_A_MINUTE or moment - self._logged[0] > 60:
            self._logged.append(moment)
            log.info("MCP server %s: %s", self._name, line)
