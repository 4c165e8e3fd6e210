"""How a running engine is, for the operator at its machine: over a socket in the data folder that nobody else may open.

That works in every auth mode, without a token, and while the engine takes no more requests.
"""

import asyncio
import logging
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from bytebrew.base.errors import BootError, EngineError
from bytebrew.base.formats import uptime
from bytebrew.store.sqlite.epoch import log_of
from bytebrew.version import __version__
from bytebrew.web.routes.health import database_of, state_of

if TYPE_CHECKING:
    from bytebrew.engine import Engine

log = logging.getLogger(__name__)

SOCKET = "engine.sock"
SECONDS = 10.0
"""How long the engine may take to answer."""


class Turns(Struct, frozen=True, kw_only=True):
    """Turns by what they do at this moment, and how many there may be."""

    running: int
    waiting: int
    asking: Annotated[int, Meta(description="of those that run, the ones that wait for a person")]
    most: int
    refused: int


class Model(Struct, frozen=True, kw_only=True):
    """A model that has failed lately: its breaker, and in how many seconds it is tried again."""

    name: str
    breaker: str
    failures: int
    seconds: int


class Figure(Struct, frozen=True, kw_only=True):
    """What a plugin tells of itself, as /metrics has it."""

    name: str
    labels: Mapping[str, str]
    value: float


class Status(Struct, frozen=True, kw_only=True):
    """How an engine is; bytes are of the data folder and its disk."""

    status: str
    words: str
    version: str
    uptime: str
    process: int
    turns: Turns
    streams: int
    tasks: Mapping[str, int]
    models: tuple[Model, ...]
    refused_callers: int
    database_bytes: int
    log_bytes: int
    disk_free_bytes: int
    plugins: tuple[Figure, ...]


async def status_of(engine: "Engine") -> Status:
    """How the engine is now; what the database cannot say is left out."""
    _, fault = await database_of(engine, deep=True)
    words = fault or engine.admission.words()
    turns, path = list(engine.runner.turns.values()), engine.db.path
    try:
        tasks = await engine.db.scan(_open_tasks)
    except EngineError as error:
        tasks, words = {}, words or error.message
    breakers = engine.models.breakers.items()
    return Status(
        status=state_of(engine, fault),
        words=words,
        version=__version__,
        uptime=uptime(time.monotonic() - engine.started),
        process=os.getpid(),
        turns=Turns(
            running=sum(turn.status == "running" for turn in turns),
            waiting=sum(turn.status == "queued" for turn in turns),
            asking=sum(bool(turn.holds) for turn in turns),
            most=engine.admission.most,
            refused=engine.admission.refused,
        ),
        streams=engine.streams,
        tasks=tasks,
        models=tuple(
            Model(name=name, breaker=one.state, failures=one.failure_count, seconds=round(one.remaining()))
            for name, one in sorted(breakers)
            if one.failure_count
        ),
        refused_callers=engine.refusals.count,
        database_bytes=_size(path),
        log_bytes=_size(log_of(path)),
        disk_free_bytes=shutil.disk_usage(engine.data_dir).free,
        plugins=tuple(Figure(name=one.name, labels=dict(one.labels), value=one.value) for one in engine.samples()),
    )


def _open_tasks(conn: sqlite3.Connection) -> dict[str, int]:
    sql = """select status, count(*) from tasks where status in ('draft', 'pending', 'approved', 'in_progress')
      group by status"""
    return dict(conn.execute(sql).fetchall())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@asynccontextmanager
async def answering(engine: "Engine") -> AsyncIterator[None]:
    """Answers whoever opens the engine's socket with its status; hold the folder's lock.

    Where the disk knows no sockets the log says so, and the engine goes on.
    """
    path = engine.data_dir / SOCKET

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                writer.write(msgspec.json.encode(await status_of(engine)))
                await writer.drain()
        except (OSError, TimeoutError) as error:
            log.info("the status could not be sent: %r", error)
        finally:
            writer.close()

    served = None
    try:
        path.unlink(missing_ok=True)
        with _reached(path) as address, socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen()
            listening.setblocking(False)
            served = await asyncio.start_unix_server(answer, sock=listening.dup())
        path.chmod(0o600)
    except OSError as error:
        log.warning("bytebrew status will not find this engine: %s: %s", path, error.strerror)
    try:
        yield
    finally:
        if served is not None:
            served.close()
            path.unlink(missing_ok=True)


def ask(data: Path) -> Status:
    """The status of the engine that runs on a data folder; BootError where none answers."""
    path = data / SOCKET
    try:
        with _reached(path) as address, socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(SECONDS)
            asking.connect(address)
            raw = b"".join(iter(lambda: asking.recv(65536), b""))
        return msgspec.json.decode(raw, type=Status)
    except PermissionError as error:
        raise BootError(f"{path} is another user's: run this as the engine's own user") from error
    except TimeoutError as error:
        raise BootError(f"the engine on {data} has not answered within {SECONDS:g} s") from error
    except (OSError, msgspec.MsgspecError) as error:
        words = f"no engine runs on {data}; set BYTEBREW_DATA_DIR to the data folder of the one that you mean"
        raise BootError(words) from error


@contextmanager
def _reached(path: Path) -> Iterator[str]:
    """An address of the socket that is short enough: 107 bytes is all that there is place for."""
    if len(os.fsencode(path)) < 100 or not Path("/proc/self/fd").exists():
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
