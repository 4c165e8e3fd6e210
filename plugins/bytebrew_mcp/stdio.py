"""Transport to an MCP server that is a command, in its own process group and a clean environment."""

import asyncio
import ctypes
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Self, cast

from msgspec.json import encode

from bytebrew import Masker, environment

from .jsonrpc import MAX_MESSAGE_BYTES, ConnectionLost, Message, Receive, Transport, decode

log = logging.getLogger(__name__)

INHERITED = ("PATH", "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME")
"""Variables of the engine's environment that a command inherits."""
LAUNCH = """
[ "$1" = 0 ] || ulimit -d "$1" || exit 126
[ "$2" = 0 ] || ulimit -t "$2" || exit 126
(trap '' HUP INT TERM; read -r _ <"$3"; kill -s KILL 0) </dev/null >/dev/null 2>&1 &
shift 3
exec "$@"
"""
"""Sets the limits, forks a watcher that kills the process group when the engine's end of a pipe closes (even if the
engine is killed), and executes the command."""
PR_SET_DUMPABLE = 4
"""The option of prctl(2) that denies processes of the same user access to /proc/<pid> (PR_SET_DUMPABLE)."""
END_SECONDS = 2.0
UNREAD_BYTES = 16 * 1024 * 1024
LINES_A_MINUTE = 60
LINE_CHARACTERS = 500
LINE_BYTES = 4096
"""Longest line that is logged; a longer one is dropped, because a truncated secret would not be masked."""


class StdioTransport(Transport, asyncio.SubprocessProtocol):
    """A server's standard streams; messages are lines. `mask` removes secrets from its standard error.

    Its working directory is the engine's, unless that is within the `hidden` folder. It inherits only its three streams
    and the pipe that kills it when it closes.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        *,
        memory_kb: int,
        cpu_seconds: int,
        mask: Masker,
        hidden: Path,
    ) -> None:
        self._name = name
        self._command = command
        self._env = {key: value for key, value in environment().items() if key in INHERITED} | dict(env)
        self._cwd = _working_directory(hidden)
        self._limits = (str(memory_kb), str(cpu_seconds))
        self._mask = mask
        self._logged: deque[float] = deque(maxlen=LINES_A_MINUTE)
        self._last = b""
        self._fault = ""
        self._rest = {1: bytearray(), 2: bytearray()}
        self._receive: Receive | None = None
        self._exited = asyncio.Event()
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        close_memory()
        watched, self._leash = os.pipe()
        arguments = ("/bin/sh", "-c", LAUNCH, "mcp", *self._limits, f"/dev/fd/{watched}", *self._command)
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: self,
                *arguments,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
                pass_fds=(watched,),
            )
        except BaseException as error:
            os.close(self._leash)
            if isinstance(error, OSError | ValueError):
                raise ConnectionLost(f"cannot be started: {error}") from error
            raise
        finally:
            os.close(watched)
        self._input = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Closes the server's standard input, then terminates it, then kills its process group."""
        self._input.close()
        try:
            for ask in (0, signal.SIGTERM, signal.SIGKILL):
                self._signal(ask)
                with suppress(TimeoutError):
                    async with asyncio.timeout(END_SECONDS):
                        await self._exited.wait()
                        break
        finally:
            os.close(self._leash)  # kills the rest of the group
            self._transport.close()

    async def read(self, receive: Receive) -> NoReturn:
        """Receives messages; other lines are logged and ignored."""
        self._receive = receive
        await self._over.wait()
        raise self._lost()

    def _lost(self) -> ConnectionLost:
        """The exception for its end, with its last line on standard error."""
        code = self._transport.get_returncode()
        if code is None:
            how = self._fault or "closed its output"
        else:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return ConnectionLost(f"{how}: {message}" if (message := self._last_line_masked()) else how)

    async def send(self, message: Message, receive: Receive, headers: Mapping[str, str]) -> None:
        """Writes one line; `read` receives the answer."""
        if self._over.is_set() or self._input.is_closing():
            with suppress(TimeoutError):  # the process may end within a second, which says more
                async with asyncio.timeout(END_SECONDS):
                    await self._over.wait()
            raise self._lost() if self._over.is_set() else ConnectionLost("is gone")
        self._input.write(encode(message) + b"\n")
        if self._input.get_write_buffer_size() > UNREAD_BYTES:
            self._end("does not read what it is sent")
            raise ConnectionLost(self._fault)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        rest = self._rest[fd]
        rest += data
        if b"\n" in data:
            *lines, tail = rest.split(b"\n")
            rest[:] = tail
            for line in lines:
                if fd == 1:
                    self._take(bytes(line))
                else:
                    self._log(line)
        if fd == 2:
            del rest[LINE_BYTES:]
        if len(rest) > MAX_MESSAGE_BYTES:
            self._end(f"sent a line of more than {MAX_MESSAGE_BYTES} bytes")
            rest.clear()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 2:
            self._log(self._rest[2])
        if fd == 1 and self._transport.get_returncode() is None:
            asyncio.get_running_loop().call_later(
                1, self._over.set
            )  # the process may end within a second, which says more

    def process_exited(self) -> None:
        self._signal(signal.SIGKILL)  # other processes of the group hold the pipes open
        self._exited.set()
        asyncio.get_running_loop().call_later(1, self._reap)

    def connection_lost(self, exc: Exception | None) -> None:
        self._over.set()

    def _end(self, fault: str) -> None:
        self._fault = fault
        self._over.set()

    def _reap(self) -> None:
        """Closes pipes that processes outside the group may hold, and reaps orphans if the engine is process 1."""
        self._over.set()
        with suppress(ChildProcessError):
            while os.waitpid(-self._transport.get_pid(), os.WNOHANG)[0]:
                pass

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._transport.get_pid(), number)

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            for message in decode(line):
                if self._receive is not None:
                    self._receive(message)
        except ValueError:
            self._log(b"no message: " + line[:LINE_BYTES])

    def _log(self, raw: bytes | bytearray) -> None:
        if not raw.strip():
            return
        self._last = bytes(raw[:LINE_BYTES])
        moment = time.monotonic()
        if len(self._logged) < LINES_A_MINUTE or moment - self._logged[0] > 60:
            self._logged.append(moment)
            log.info("MCP server %s: %s", self._name, self._last_line_masked())

    def _last_line_masked(self) -> str:
        return self._mask(self._last.decode("utf-8", "replace").strip())[:LINE_CHARACTERS]


def close_memory() -> None:
    """Denies commands, which run as the engine's user, access to its memory, environment and open files, on Linux.

    They can still read files of that user, such as the data folder: to prevent that, run them as another user or in a
    container.
    """
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        log.warning("commands of MCP servers can read the engine's memory: the kernel does not let it be closed")


def _working_directory(hidden: Path) -> str:
    """The engine's working directory, or `/` if that is within the hidden folder."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was deleted
        return "/"
    return "/" if here.is_relative_to(hidden.resolve()) else str(here)
