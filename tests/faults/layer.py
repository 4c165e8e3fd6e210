"""The n-th operation fails, once: file calls and allocations in C, statements in a connection of our own."""

import errno
import functools
import mmap
import signal
import sqlite3
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

KINDS = ("write", "sync", "open", "truncate", "map", "read", "memory", "statement")
_HEAD = struct.Struct("=qqqqq")
"""Kind, n, whether all after the n-th fail too, error code, and how many have failed."""
_COUNTS = struct.Struct(f"={len(KINDS)}q")
_SIZE = _HEAD.size + _COUNTS.size

PLUGIN = '''
"""Fails the n-th statement of all connections, and has them and the scanners copy the log into the file often."""
import mmap, os, sqlite3, struct, threading
from functools import cache
from pathlib import Path
from bytebrew import hookimpl
from bytebrew.store.database import checkpoints
from bytebrew.store.sqlite import pragmas

checkpoints.COMMITS, pragmas.LATE_PAGES = 8, 16

with Path(os.environ["FAULTS_CONTROL"]).open("r+b") as file:
    shared = mmap.mmap(file.fileno(), 0)
STATEMENT, COUNT = 7, struct.Struct("=q")
lock = threading.Lock()

def tick():
    with lock:
        kind, at, lasting, code, hits = struct.unpack_from("=qqqqq", shared)
        n = COUNT.unpack_from(shared, 40 + 8 * STATEMENT)[0] + 1
        COUNT.pack_into(shared, 40 + 8 * STATEMENT, n)
        if kind != STATEMENT or not at or n < at or (n > at and not lasting):
            return
        COUNT.pack_into(shared, 32, hits + 1)
    if not code:
        raise MemoryError
    if code < 0:
        os.kill(os.getpid(), -code)
    error = sqlite3.OperationalError("ordered")
    error.sqlite_errorcode = code
    raise error

class Ticking:
    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        super().execute("pragma wal_autocheckpoint = 16")

    def execute(self, *given):
        tick()
        return super().execute(*given)

    def executemany(self, *given):
        tick()
        return super().executemany(*given)

@hookimpl
async def startup(engine):
    """Nothing; this module has taken its place by then."""

@cache
def ticking(kind):
    return type(kind.__name__, (Ticking, kind), {})

connect = sqlite3.connect
sqlite3.connect = lambda *given, factory=sqlite3.Connection, **named: connect(*given, factory=ticking(factory), **named)
'''


_STATEMENTS = {0: "MemoryError", sqlite3.SQLITE_FULL: "FULL", -signal.SIGKILL: "SIGKILL"}


class Fault(NamedTuple):
    """A kind of operation and the code with which it fails: an errno, or for a statement SQLite's.

    A statement's 0 is a MemoryError, and a negative one the signal that ends the process there.
    """

    kind: str
    code: int

    def __str__(self) -> str:
        named = _STATEMENTS if self.kind == "statement" else errno.errorcode
        return f"{self.kind} {named[self.code]}"


FAULTS = (
    Fault("write", errno.ENOSPC),
    Fault("write", errno.EIO),
    Fault("sync", errno.EIO),
    Fault("open", errno.EMFILE),
    Fault("truncate", errno.EIO),
    Fault("map", errno.ENOMEM),
    Fault("read", errno.EIO),
    Fault("memory", errno.ENOMEM),
    Fault("statement", sqlite3.SQLITE_FULL),
    Fault("statement", 0),
    Fault("statement", -signal.SIGKILL),
)


class Control:
    """The file that a test and an engine share: the test arms a fault and reads what was counted since."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _SIZE)

    def arm(self, fault: Fault, n: int, *, lasting: bool = False) -> None:
        """From now on counts anew and fails the n-th operation, and with `lasting` all after it; n = 0 only counts."""
        self._shared[:] = bytes(_SIZE)
        _HEAD.pack_into(self._shared, 0, KINDS.index(fault.kind), n, lasting, int(fault.code), 0)

    def disarm(self) -> None:
        """Nothing fails any more; the counts go on."""
        self._shared[8:16] = bytes(8)

    @property
    def hits(self) -> int:
        """How many operations have failed since it was armed."""
        hits: int = _HEAD.unpack_from(self._shared)[4]
        return hits

    def count(self, kind: str) -> int:
        """How many operations of a kind there were since it was armed."""
        count: int = _COUNTS.unpack_from(self._shared, _HEAD.size)[KINDS.index(kind)]
        return count


@functools.cache
def library() -> Path:
    """The library that fails calls, compiled."""
    target = Path(tempfile.mkdtemp(prefix="faults-")) / "nth.so"
    source = Path(__file__).with_name("nth.c")
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", target, source, "-ldl"], check=True)
    return target


def environment(control: Path, folder: Path) -> dict[str, str]:
    """What a process needs so that its calls on the files of a folder are counted."""
    return {"LD_PRELOAD": str(library()), "FAULTS_CONTROL": str(control), "FAULTS_FOLDER": str(folder)}
