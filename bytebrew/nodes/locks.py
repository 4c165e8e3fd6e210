"""Locks by name: within the process, and over all nodes where the database is shared."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from bytebrew.base.errors import StorageError
from bytebrew.nodes.node import Node
from bytebrew.store import nodes
from bytebrew.store.database.database import Database

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
"""Seconds between two attempts to take a lock that another node has; doubled after each."""


class Locks:
    """Locks for work that is longer than a transaction."""

    def __init__(self, db: Database, node: Node) -> None:
        self._db, self._node = db, node
        self._here: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def held(self, name: str) -> AsyncIterator[None]:
        """Excludes every other block with this name."""
        async with self._here.setdefault(name, asyncio.Lock()):
            if (node := self._node.id) is None:
                yield
                return
            pause = FIRST_PAUSE
            try:
                while not await self._db.write_in(name, nodes.lock, name, node):
                    await asyncio.sleep(pause)
                    pause = min(LONGEST_PAUSE, pause * 2)
                yield
            finally:  # if it was never taken, too: a cancelled write is committed all the same
                await self._release(name, node)

    async def _release(self, name: str, node: int) -> None:
        try:
            await self._db.write_in(name, nodes.unlock, name, node)
        except StorageError as error:  # the next block of this node takes it over, and others once the lease has ended
            log.warning("the lock %s is not released yet: %s", name, error)
