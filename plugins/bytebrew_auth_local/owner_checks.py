"""Asks whose a connection is, one question at a time."""

import asyncio
from pathlib import Path

from .peer_process import Address, NotProven, check_owner

MOST = 16
"""Questions that wait; each takes the processor for a few milliseconds, and anyone may have them asked."""


class OwnerChecks:
    """Asks away from the loop, about processes that are to see the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._one = asyncio.Lock()
        self._waiting = 0

    async def check(self, client: Address, server: Address) -> None:
        """Raises NotProven unless the connection is this user's own and no proxy's."""
        if self._waiting >= MOST:
            raise NotProven("too many connections are being looked at")
        self._waiting += 1
        try:
            async with self._one:
                await asyncio.to_thread(check_owner, client, server, self._folder)
        finally:
            self._waiting -= 1
