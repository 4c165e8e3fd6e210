"""Sliding window counter of requests."""

from collections import deque
from collections.abc import Iterator

from msgspec import Struct

GRAINS = 100
"""Entries with one request each; later ones may span a hundredth of the window, and expire with the last request."""


class Entry(Struct):
    """Requests close together; times in seconds since 1970."""

    first: float
    last: float
    requests: int


class SlidingWindow:
    """The requests of the last `seconds`, in about 200 entries at most."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.used = 0
        self._entries: deque[Entry] = deque()

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    @property
    def latest(self) -> float:
        """Time of the newest request; 0 without one."""
        return self._entries[-1].last if self._entries else 0.0

    def slide(self, now: float) -> None:
        """Drops expired entries; entries in the future, after the clock was set back, move to now."""
        entries, before = self._entries, now - self.seconds
        for entry in reversed(entries):
            if entry.last <= now:
                break
            entry.last = now
        while entries and entries[0].last <= before:
            self.used -= entries.popleft().requests

    def add(self, now: float) -> Entry:
        """Counts a request; returns its entry."""
        entry = self._entries[-1] if self._entries else None
        grain = self.seconds / GRAINS if len(self._entries) >= GRAINS else 0.0
        if entry is None or not 0 <= now - entry.first <= grain:
            return self.put(Entry(now, now, 1))
        entry.last = now
        entry.requests += 1
        self.used += 1
        return entry

    def put(self, entry: Entry) -> Entry:
        """Appends an entry that is later than all others."""
        self._entries.append(entry)
        self.used += entry.requests
        return entry

    def wait(self, limit: int, now: float) -> float:
        """Seconds until another request is allowed."""
        excess, seconds = self.used - limit, 0.0
        for entry in self._entries:
            if excess < 0:
                break
            excess -= entry.requests
            seconds = entry.last + self.seconds - now
        return seconds

    def resets_at(self, now: float) -> float:
        """Time at which the oldest request expires; for an empty window, one made now."""
        return (self._entries[0].last if self._entries else now) + self.seconds
