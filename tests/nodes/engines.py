"""Engines of this process that share one database of PostgreSQL, each a node of its own."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, client, databases


class Node:
    """An engine and a client of it, with the admin's token."""

    def __init__(self, engine: Engine, http: httpx.AsyncClient) -> None:
        self.engine, self.http = engine, http


def _migrate(made: Engine) -> None:
    with made.driver.migrated(made.migrations, lambda conn: None):
        pass


@asynccontextmanager
async def nodes(
    *plugins: Sequence[tuple[str, object]], settings: Mapping[str, str] | None = None
) -> AsyncIterator[list[Node]]:
    """Nodes with these plugins each, which end in the order of their start."""
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            started = []
            for n, extra in enumerate(plugins):
                data = Path(folder, str(n))
                if n:
                    shutil.copytree(Path(folder, "0", "keys"), data / "keys")
                environment = {
                    "BYTEBREW_DATA_DIR": str(data),
                    "BYTEBREW_BOOTSTRAP_ADMIN_TOKEN": ADMIN,
                    "BYTEBREW_DRAIN_SECONDS": "0",
                    "BYTEBREW_DISABLED_PLUGINS": "knowledge,memory",
                    "BYTEBREW_DATABASE_URL": databases.url_of(Path(folder)),
                    **(settings or {}),
                }
                made = Engine(environment, extra)
                databases.make(Path(folder), repr(made.migrations), lambda made=made: _migrate(made))
                running = await stack.enter_async_context(made)
                started.append(Node(running, await stack.enter_async_context(client(running))))
            try:
                yield started
            finally:
                await stack.aclose()
                databases.drop(Path(folder))
