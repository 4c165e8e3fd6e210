"""Locks by name: within the process, and over all nodes where the database is shared."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from weakref import WeakValueDictionary

from bytebrew.base.errors import StorageError
from bytebrew.nodes import members
from bytebrew.nodes.node import Node
from bytebrew.store.database.database import Database

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
"""Seconds between two attempts to take a lock that another node has; doubled after each."""
RELEASE_PAUSE = 1.0
"""Seconds between two attempts to release a lock."""


class Locks:
    """Locks for work that is longer than a transaction."""

    def __init__(self, db: Database, node: Node) -> None:
        self._db, self._node = db, node
        self._here: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def held(self, name: str) -> AsyncIterator[None]:
        """Excludes every other block with this name, which may be of any length: what is stored is its digest."""
        name = hashlib.sha256(name.encode()).hexdigest()
        async with self._here.setdefault(name, asyncio.Lock()):
            if (node := self._node.id) is None:
                yield
                return
            pause = FIRST_PAUSE
            try:
                while not await self._db.write_in(name, members.lock, name, node):
                    await asyncio.sleep(pause)
                    pause = min(LONGEST_PAUSE, pause * 2)
                yield
            finally:  # if it was never taken, too: a cancelled write is committed all the same
                await self._release(name, node)

    async def _release(self, name: str, node: int) -> None:
        try:
            await self._db.write_in(name, members.unlock, name, node)
        except StorageError as error:  # without another attempt no other node could take it while this one lives
            log.debug("the lock %s is not released yet: %s", name, error)
            self._node.tasks.add(task := asyncio.create_task(self._release_later(name, node)))
            task.add_done_callback(self._node.tasks.discard)

    async def _release_later(self, name: str, node: int) -> None:
        """Releases a lock once the database takes that, unless another node ends this one."""
        async with self._here.setdefault(name, asyncio.Lock()):
            while self._node.id == node and not self._db.lost.is_set():
                await asyncio.sleep(RELEASE_PAUSE)
                with suppress(StorageError):
                    await self._db.write_in(name, members.unlock, name, node)
                    return
