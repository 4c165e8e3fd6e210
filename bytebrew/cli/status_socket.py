"""The status of a running engine over a Unix socket in the data folder, which only the engine's own user may open.

It works in every auth mode, without a token, and during shutdown.
"""

import asyncio
import logging
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from bytebrew.base.errors import BootError, EngineError
from bytebrew.base.formats import uptime
from bytebrew.contract.connection import Connection
from bytebrew.engine import Engine
from bytebrew.store.sqlite.data_folder import worker_folders
from bytebrew.store.sqlite.epoch import log_of
from bytebrew.version import __version__
from bytebrew.web.http_state import http_state
from bytebrew.web.routes.health import database_of, state_of

log = logging.getLogger(__name__)

SOCKET = "engine.sock"
SECONDS = 10.0
"""Time limit of an answer."""


class Turns(Struct, frozen=True, kw_only=True):
    """Turns by state, and the limit of turns."""

    running: int
    waiting: int
    needs_input: int = msgspec.field(name="asking")
    """Running turns that wait for a person."""
    most: int
    refused: int


class Model(Struct, frozen=True, kw_only=True):
    """The circuit breaker of a model that failed recently; `seconds` until the next attempt."""

    name: str
    breaker: str
    failures: int
    seconds: int


class Figure(Struct, frozen=True, kw_only=True):
    """A sample of a plugin, as in /metrics."""

    name: str
    labels: Mapping[str, str]
    value: float


class OtherNode(Struct, frozen=True, kw_only=True):
    """Another node; `silent_seconds` since it was last heard of, null where that is not known after an outage."""

    id: int
    name: str
    version: str
    leads: bool
    silent_seconds: float | None


class Node(Struct, frozen=True, kw_only=True):
    """The engine among the nodes that share its database, as of its last sign of life."""

    id: int
    leads: bool
    lease_seconds: float
    """Since it renewed its lease."""
    others: tuple[OtherNode, ...]


class Status(Struct, frozen=True, kw_only=True):
    """Status of an engine; sizes are in bytes. `node` is null where it has its database alone."""

    status: str
    message: str = msgspec.field(name="words")
    version: str
    uptime: str
    process: int
    turns: Turns
    streams: int
    tasks: Mapping[str, int]
    models: tuple[Model, ...]
    refused_callers: int
    database: str
    database_bytes: int
    log_bytes: int
    disk_free_bytes: int
    node: Node | None
    plugins: tuple[Figure, ...]


async def status_of(engine: Engine) -> Status:
    """The current status; without tasks if the database cannot be read."""
    _, fault = await database_of(engine, deep=True)
    http = http_state(engine)
    message = fault or http.admission.overload()
    turns, path = list(engine.runner.turns.values()), engine.folder.database
    try:
        tasks, size = await engine.db.scan(_open_tasks), await engine.db.read(engine.driver.bytes)
    except EngineError as error:
        tasks, size, message = {}, 0, message or error.message
    breakers = engine.models.breakers.items()
    return Status(
        status=state_of(engine, fault),
        message=message,
        version=__version__,
        uptime=uptime(time.monotonic() - engine.started),
        process=os.getpid(),
        turns=Turns(
            running=sum(turn.status == "running" for turn in turns),
            waiting=sum(turn.status == "queued" for turn in turns),
            needs_input=sum(bool(turn.holds) for turn in turns),
            most=http.admission.most,
            refused=http.admission.refused,
        ),
        streams=http.streams,
        tasks=tasks,
        models=tuple(
            Model(name=name, breaker=breaker.state, failures=breaker.failure_count, seconds=round(breaker.remaining()))
            for name, breaker in sorted(breakers)
            if breaker.failure_count
        ),
        refused_callers=http.refusals.count,
        database=engine.driver.place,
        database_bytes=size,
        log_bytes=_size(log_of(path)),
        disk_free_bytes=shutil.disk_usage(engine.data_dir).free,
        node=_node(engine),
        plugins=tuple(
            Figure(name=sample.name, labels=dict(sample.labels), value=sample.value) for sample in engine.samples()
        ),
    )


def _node(engine: Engine) -> Node | None:
    figures, silence, rows = engine.node.figures(), engine.node.silence(), engine.node.all
    if figures is None or engine.node.id is None:
        return None
    others = [
        OtherNode(
            id=one.id, name=one.name, version=one.version, leads=one is rows[0], silent_seconds=silence.get(one.id)
        )
        for one in rows
        if one.id != engine.node.id
    ]
    return Node(id=engine.node.id, leads=engine.node.leads, lease_seconds=figures.lease_age, others=tuple(others))


def _open_tasks(conn: Connection) -> dict[str, int]:
    sql = """select status, count(*) from tasks where status in ('draft', 'pending', 'approved', 'in_progress')
      group by status"""
    return dict(conn.execute(sql).fetchall())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@asynccontextmanager
async def serve_status(engine: Engine) -> AsyncIterator[None]:
    """Serves the status on the socket; the caller holds the lock of the data folder.

    If the disk does not support sockets, it logs a warning and serves nothing.
    """
    path = engine.folder.own / SOCKET

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
        with _short_address(path) as address, socket.socket(socket.AF_UNIX) as listening:
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


class Workers(Struct, frozen=True, kw_only=True):
    """The workers of a data folder in their order, null for one that does not answer."""

    workers: tuple[Status | None, ...]


def fetch_workers(data: Path) -> Workers | None:
    """The status of each worker; None unless the engine of a data folder has workers, and BootError if none answers."""
    if not (data / SOCKET).exists() and (folders := worker_folders(data)):
        answers = [_fetch_or_error(folder) for folder in folders]
        if all(isinstance(answer, BootError) for answer in answers):
            raise BootError(f"no engine runs on {data}: {answers[0]}")
        return Workers(workers=tuple(answer if isinstance(answer, Status) else None for answer in answers))
    return None


def _fetch_or_error(folder: Path) -> Status | BootError:
    try:
        return fetch(folder)
    except BootError as error:
        return error


def fetch(data: Path) -> Status:
    """The status of the engine that runs on a data folder; BootError if none answers."""
    path = data / SOCKET
    try:
        with _short_address(path) as address, socket.socket(socket.AF_UNIX) as client:
            client.settimeout(SECONDS)
            client.connect(address)
            raw = b"".join(iter(lambda: client.recv(65536), b""))
        return msgspec.json.decode(raw, type=Status)
    except PermissionError as error:
        raise BootError(f"{path} is another user's: run this as the engine's own user") from error
    except TimeoutError as error:
        raise BootError(f"the engine on {data} has not answered within {SECONDS:g} s") from error
    except (OSError, msgspec.MsgspecError) as error:
        message = f"no engine runs on {data}; set BYTEBREW_DATA_DIR to the data folder of the one that you mean"
        raise BootError(message) from error


@contextmanager
def _short_address(path: Path) -> Iterator[str]:
    """An address of the socket within 107 bytes, the limit of a Unix socket address."""
    if len(os.fsencode(path)) < 100 or not Path("/proc/self/fd").exists():
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
