"""Rate limit on wrong secrets, per client address."""

import math

from .addresses import network_of

BURST = 5
"""Number of wrong secrets that an address may send before it has to wait."""
SECONDS = 10.0
"""Wait for each further one."""
MOST = 1024
"""Limit of tracked addresses; further ones share one counter."""


class AttemptLimiter:
    """Leaky buckets of wrong secrets by address, in bounded memory.

    `now` is monotonic time in seconds.
    """

    def __init__(self) -> None:
        self._wrong: dict[str, tuple[float, float]] = {}  # count and time

    def wait(self, address: str, now: float) -> int:
        """Seconds until the address may try again; 0 if it may now."""
        return math.ceil(max(0.0, self._left(self._key(address), now) - BURST + 1) * SECONDS)

    def failed(self, address: str, now: float) -> None:
        """Counts a wrong secret."""
        if len(self._wrong) >= MOST:
            self._wrong = {key: self._wrong[key] for key in self._wrong if self._left(key, now)}
        key = self._key(address)
        self._wrong[key] = self._left(key, now) + 1, now

    def _key(self, address: str) -> str:
        key = network_of(address)
        return key if key in self._wrong or len(self._wrong) < MOST else ""

    def _left(self, key: str, now: float) -> float:
        wrong, since = self._wrong.get(key, (0.0, now))
        return max(0.0, wrong - (now - since) / SECONDS)
