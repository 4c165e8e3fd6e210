"""Has this node follow changes of the configuration that other nodes have made."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bytebrew.base.errors import StorageError
from bytebrew.config.import_export import ConfiguredEngine, reconnect
from bytebrew.contract.connection import Connection
from bytebrew.nodes.signals import SignalCentre

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""Seconds between two looks at whether anything has changed: a second is the longest that another node may take."""


class SectionChanges:
    """Calls `changed` of each section whose count of changes is another than at the last look."""

    def __init__(self, engine: ConfiguredEngine, signals: SignalCentre) -> None:
        self._engine = engine
        self._seen: dict[str, int] = {}
        self._looking = asyncio.Lock()
        signals.on("configuration", self.look)

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Follows all changes since the beginning of the engine's start within the block."""
        polling = asyncio.create_task(self._poll(), name="changes of the configuration")
        try:
            yield
        finally:
            polling.cancel()
            await asyncio.wait([polling])

    async def begin(self) -> None:
        """Remembers what has changed so far, before anything of it is read."""
        self._seen = await self._engine.db.read(_counts)

    async def look(self, _: object = None) -> None:
        """Follows what has changed since the last look."""
        async with self._looking:
            counts = await self._engine.db.read(_counts)
            changed = {key for key, n in counts.items() if n != self._seen.get(key)}
            self._seen = counts
            await reconnect(self._engine, changed)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.look()
            except StorageError as error:
                log.debug("changes of the configuration are not seen: %s", error)


def _counts(conn: Connection) -> dict[str, int]:
    return {row["section"]: row["n"] for row in conn.execute("select section, n from section_changes")}
