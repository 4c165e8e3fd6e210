"""Checkpoints: the log of the database is copied into its file by a scanner, as a commit that did it would wait."""

import asyncio
from contextlib import suppress

from bytebrew.contract.connection import Connection
from bytebrew.contract.storage.store import Driver
from bytebrew.store.database.write_queue import Pending

COMMITS = 100
"""Commits from one checkpoint to the next: some hundred pages of lone turns, some thousand of many at once."""


class Checkpoints:
    """Queues a checkpoint after every hundred commits, unless one still waits; a server does that itself."""

    def __init__(self, driver: Driver, scans: "asyncio.Queue[Pending]") -> None:
        self._driver, self._scans = driver, scans
        self._commits = 0
        self._last: asyncio.Future[None] | None = None

    def committed(self) -> None:
        """Counts a commit."""
        self._commits += 1
        if self._commits >= COMMITS and not self._driver.shared and (self._last is None or self._last.done()):
            self._commits = 0
            self._last = self.begin()

    def begin(self) -> asyncio.Future[None]:
        """Queues a checkpoint, after which the future is done."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_forget)
        self._scans.put_nowait(Pending(self._checkpoint, done))
        return done

    def _checkpoint(self, conn: Connection) -> None:
        with suppress(self._driver.error):  # the log keeps what was not copied; a fault that lasts fails the next write
            self._driver.checkpoint(conn)


def _forget(done: "asyncio.Future[None]") -> None:
    if not done.cancelled():
        done.exception()  # asyncio logs one that nobody has read
