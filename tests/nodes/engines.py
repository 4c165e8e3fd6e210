"""Nodes: engines of this process, or processes of their own, that share one database of PostgreSQL."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx

from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, client, databases
from bytebrew.testing.postgres import USER, shared_server
from tests.processes import Process, serving


class Node:
    """An engine that runs until `stop`, and a client of it, with the admin's token."""

    engine: Engine
    http: httpx.AsyncClient

    def __init__(self, made: Engine) -> None:
        self._stop, self._started = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._run(made))

    async def _run(self, made: Engine) -> None:
        async with made as self.engine, client(self.engine) as self.http:
            self._started.set()
            await self._stop.wait()

    async def start(self) -> "Node":
        started = asyncio.create_task(self._started.wait())
        await asyncio.wait([started, self._task], return_when="FIRST_COMPLETED")
        if self._task.done():
            started.cancel()
            await self._task
        return self

    async def stop(self) -> None:
        self._stop.set()
        await self._task


def _migrate(made: Engine) -> None:
    with made.driver.migrated(made.migrations, lambda conn: None):
        pass


@asynccontextmanager
async def nodes(
    *plugins: Sequence[tuple[str, object]], settings: Mapping[str, str] | None = None
) -> AsyncIterator[list[Node]]:
    """Nodes with these plugins each, which end in the order of their start."""
    with tempfile.TemporaryDirectory() as folder:
        started: list[Node] = []
        try:
            for n, extra in enumerate(plugins):
                data = Path(folder, str(n))
                if n:
                    shutil.copytree(Path(folder, "0", "keys"), data / "keys")
                environment = {
                    "BYTEBREW_DATA_DIR": str(data),
                    "BYTEBREW_BOOTSTRAP_ADMIN_TOKEN": ADMIN,
                    "BYTEBREW_DRAIN_SECONDS": "0",
                    "BYTEBREW_DATABASE_URL": databases.url_of(Path(folder)),
                    **(settings or {}),
                }
                made = Engine(environment, extra)
                databases.make(Path(folder), repr(made.migrations), partial(_migrate, made))
                started.append(await Node(made).start())
            yield started
        finally:
            for node in started:
                await node.stop()
            databases.drop(Path(folder))


@contextmanager
def processes(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[tuple[Process, Process]]:
    """Two nodes in processes of their own, with the data folders `a` and `b`; the first of them leads."""
    server, name = shared_server(), f"nodes_{uuid4().hex}"
    server.execute(f"create database {name} owner {USER}")
    given = {**(settings or {}), "BYTEBREW_DATABASE_URL": server.local_url(name)}
    command = (sys.executable, "-u", "-m", "bytebrew")  # not a fork of the tests' server: one that is ended begins anew
    try:
        with serving(folder / "a", given, command) as a:
            shutil.copytree(folder / "a" / "keys", folder / "b" / "keys")
            with serving(folder / "b", given, command) as b:
                yield a, b
    finally:
        server.execute(f"drop database {name} with (force)")
