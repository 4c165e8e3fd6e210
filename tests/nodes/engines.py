"""Engines of this process that share one database of PostgreSQL, each a node of its own."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx

from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, client, databases


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
