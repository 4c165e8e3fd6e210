"""Finds calls that block an engine's event loop, by Python's audit events (PEP 578), which no load changes.

A call counts if an engine makes it while a loop runs in its thread, in a task that no test awaits: what a test awaits
itself is an engine's start and end, and parts of it that are tried alone.
"""

import asyncio
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, SupportsIndex

import pytest

ROOT = Path(__file__).parents[1]
ENGINE = (f"{ROOT}/bytebrew/", f"{ROOT}/plugins/")
TESTS = (f"{ROOT}/tests/", f"{ROOT}/clients/", f"{ROOT}/bytebrew/testing/")
PYTHON = (sys.base_prefix, sys.prefix, "<")
EVENTS = frozenset(
    {
        *("open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"),
        *("os.chmod", "os.link", "os.symlink", "os.utime", "shutil.copyfile", "shutil.move", "shutil.rmtree"),
        *("subprocess.Popen", "os.posix_spawn", "os.system", "time.sleep", "sqlite3.connect"),
        *("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"),
        *("fcntl.flock", "fcntl.lockf", "tempfile.mkstemp", "tempfile.mkdtemp"),
    }
)
"""What waits for a disk, a network, another process or the time."""
FILES = re.compile("^/dev/null$|^/(proc|sys)/|/zoneinfo/|^<unknown>$")
"""Files of the kernel, which are on no disk, and time zones, each of which is read once.

`<unknown>` is the source that Python looks for when `ast.parse` fails, as it does for a trace in the log since 3.13.
"""
ALLOWED = {
    "<frozen importlib._bootstrap> _find_and_load": "a module is imported once",
    "/linecache.py updatecache": "a trace in the log shows lines of the source",
    "/asyncio/unix_events.py _start": "asyncio begins processes in its own thread",
    **dict.fromkeys(
        (f"/bytebrew_auth_local/sign_in_token.py {one}" for one in ("taken", "_claim", "_read", "_write")),
        "the operator signs in by a link: a file of 44 bytes is moved",
    ),
    "/bytebrew_auth_external/key_file.py _load": "keys are read again once their file has changed",
    "/bytebrew_auth_local/keys.py _load": "a key is read again once its file has changed",
    "/bytebrew/base/secrets.py write_private": "a key is made where its file is gone",
    "/operations/backups.py write": "a backup that cannot be recorded is removed, also where its request is cancelled",
    "/bytebrew_knowledge/indexer.py _fill": "a file is opened, which is then read in a thread",
}
"""Files and functions from which a call may come, and why."""


class Detector:
    """Keeps the blocking calls, each with where it was made."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def look(self, event: str, args: tuple[Any, ...]) -> None:
        """Takes one of EVENTS."""
        if asyncio._get_running_loop() is None or _passing(event, args):
            return
        frames = [one for one in _above(sys._getframe(1)) if one.f_code.co_filename != __file__]
        names = [one.f_code.co_filename for one in frames]
        if any(one.startswith(TESTS) for one in names) or not any(one.startswith(ENGINE) for one in names):
            return
        own = next(n for n, one in enumerate(names) if not one.startswith(PYTHON))
        if any(f"{one.f_code.co_filename} {one.f_code.co_name}".endswith((*ALLOWED,)) for one in frames[: own + 1]):
            return
        places = [_place(one) for one in frames if not one.f_code.co_filename.startswith(PYTHON)]
        self.found.append(f"{event}({', '.join(map(repr, args))[:200]}) at {' < '.join(places[:4])}")


def _passing(event: str, args: tuple[Any, ...]) -> bool:
    """Whether a call returns at once: of a socket that does not block, a descriptor, or one of FILES."""
    if event == "socket.connect":
        return bool(args[0].gettimeout() == 0)
    return event == "open" and (isinstance(args[0], int) or FILES.search(str(args[0])) is not None)


def _above(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _place(frame: FrameType) -> str:
    name = frame.f_code.co_filename.removeprefix(f"{ROOT}/")
    return f"{name}:{frame.f_lineno} {frame.f_code.co_name}"


_detector = Detector()


def watch() -> None:
    """Begins; called once a process, as a hook cannot be removed."""
    look = _detector.look
    events = EVENTS

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in events:  # most are others: a closure is the fastest way to tell
            look(event, args)

    sys.addaudithook(hook)


if sys.version_info < (3, 13):  # from which on it has an event of its own
    _sleep = time.sleep

    def _audited(seconds: float | SupportsIndex, /) -> None:
        sys.audit("time.sleep", seconds)
        _sleep(seconds)

    time.sleep = _audited


@contextmanager
def refused() -> Iterator[None]:
    """Fails the test if an engine blocks its event loop meanwhile."""
    _detector.found.clear()
    yield
    found, _detector.found = _detector.found, []
    if found:
        pytest.fail("an engine blocks its event loop: " + "\n".join(dict.fromkeys(found)), pytrace=False)
