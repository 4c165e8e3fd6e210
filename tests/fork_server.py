"""Processes of `bytebrew` that begin with its modules imported: a tenth of the time that a new interpreter takes."""

import array
import atexit
import ctypes
import gc
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
BEFORE_IMPORTS = ("PYTHON", "LANG", "LC_", "LD_", "TZ", "SSL_", "OPENSSL")
"""Variables that an interpreter and its libraries read when they start begin so."""


def fits(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a fork of the server would be as a new process."""
    return (
        sys.platform == "linux"
        and [*command[:3]] == [sys.executable, "-m", "bytebrew"]
        and (_early(environment) == _early(os.environ))
    )


def _early(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(BEFORE_IMPORTS)}


class Popen(subprocess.Popen[Any]):
    """A `python -m bytebrew` that is forked off the server; a child of this process like every other."""

    def _execute_child(self, args: Any, *rest: Any) -> None:
        """Instead of a fork of this process; the arguments' order is that of CPython 3.9 and later."""
        (_, _, _, _, cwd, env, *_), pipes = rest[:9], rest[9:15]
        theirs, ours = (pipes[0], pipes[3], pipes[5]), (pipes[1], pipes[2], pipes[4])
        streams = [own if own != -1 else number for number, own in enumerate(theirs)]
        self.pid = _server().fork([*args][3:], env, cwd or Path.cwd(), streams)
        self._child_created = True
        for own, other in zip(theirs, ours, strict=True):
            if other != -1:
                os.close(own)
        if (devnull := getattr(self, "_devnull", None)) is not None:
            os.close(devnull)


class _Server:
    """The process that forks others."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())]
        root = Path(__file__).parents[1]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=root, stdin=subprocess.DEVNULL)
        theirs.close()
        atexit.register(self._end)

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, streams: Sequence[int]) -> int:
        """The id of a new child of this process."""
        _adopt(True)
        try:
            wanted = json.dumps([[*arguments], dict(environment), os.fspath(cwd)]).encode()
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))
            self._socket.sendmsg([wanted], [rights])
            return int(self._socket.recv(64))
        finally:
            _adopt(False)

    def _end(self) -> None:
        self._socket.close()
        self._process.wait()


_servers: list[_Server] = []


def _server() -> _Server:
    if not _servers:
        _servers.append(_Server())
    return _servers[0]


def _adopt(yes: bool) -> None:
    """Whether orphans further down become children of this process."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0)


def _serve(server: socket.socket) -> None:
    """Forks for each request; returns in the child."""
    while True:
        wanted, rights, *_ = server.recvmsg(1 << 20, 1024)
        if not wanted:
            os._exit(0)
        streams = array.array("i")
        for _, _, data in rights:
            streams.frombytes(data)
        reading, writing = os.pipe()
        if (between := os.fork()) == 0:
            if (child := os.fork()) == 0:
                os.closerange(reading, writing + 1)
                server.close()
                return _become(wanted, streams)
            os.write(writing, str(child).encode())
            os._exit(0)
        os.waitpid(between, 0)  # the child is the tests' from here on
        server.send(os.read(reading, 64))
        for opened in (*streams, reading, writing):
            os.close(opened)


def _become(wanted: bytes, streams: Sequence[int]) -> None:
    arguments, environment, cwd = json.loads(wanted)
    for n, stream in enumerate(streams):
        os.dup2(stream, n)
    for stream in streams:
        os.close(stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    tempfile.tempdir = None
    random.seed()
    sys.path[0] = cwd
    sys.argv = ["bytebrew", *arguments]


def _end(code: int) -> None:
    """Ends as the interpreter does, but frees no modules: that takes longer than most commands."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    from bytebrew.cli.main import main
    from bytebrew.engine import Engine

    with tempfile.TemporaryDirectory() as folder:  # loads the plugins, and looks at the types of their routes once
        Engine({"BYTEBREW_DATA_DIR": folder})
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        main()
    except SystemExit as error:
        if not isinstance(error.code, int | None):
            raise
        _end(error.code or 0)
    else:
        _end(0)
