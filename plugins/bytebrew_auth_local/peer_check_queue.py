"""Runs `check_owner` off the event loop, one check at a time."""

import asyncio
from pathlib import Path

from .peer_process import Address, NotProven, check_owner

MOST = 16
"""Limit of waiting checks: each takes a few milliseconds of CPU, and anyone can cause one."""


class PeerCheckQueue:
    """Runs checks of callers' processes one after another; `folder` is the data folder, which they must see."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def check(self, client: Address, server: Address) -> None:
        """Raises NotProven unless the connection belongs to this user and not to a proxy."""
        if self._waiting >= MOST:
            raise NotProven("too many connections are being looked at")
        self._waiting += 1
        try:
            async with self._lock:
                await asyncio.to_thread(check_owner, client, server, self._folder)
        finally:
            self._waiting -= 1
