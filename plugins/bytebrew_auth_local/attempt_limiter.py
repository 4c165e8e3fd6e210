"""Slows down who guesses a secret, each address for itself."""

import math

from .addresses import network_of

BURST = 5
"""Wrong secrets from one address before it has to wait."""
SECONDS = 10.0
"""How long each further one takes."""
MOST = 1024
"""Addresses that are known at a time; those past it count as one."""


class AttemptLimiter:
    """How many more guesses each address has: buckets that empty again with time, in bounded memory.

    `now` is in seconds of a clock that is never set.
    """

    def __init__(self) -> None:
        self._wrong: dict[str, tuple[float, float]] = {}  # how many, as of when

    def wait(self, address: str, now: float) -> int:
        """Seconds until the address may try again, 0 where it may at once."""
        return math.ceil(max(0.0, self._left(self._key(address), now) - BURST + 1) * SECONDS)

    def failed(self, address: str, now: float) -> None:
        """Takes note of a wrong secret."""
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
