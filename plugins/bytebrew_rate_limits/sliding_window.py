"""A sliding window: how many requests there were in the seconds that have just passed."""

from collections import deque
from collections.abc import Iterator

from msgspec import Struct

GRAINS = 100
"""Entries of one request each; those after them may be of a hundredth of the window, and leave with the last of it."""


class Entry(Struct):
    """Requests that came close together, in seconds since 1970."""

    first: float
    last: float
    requests: int


class SlidingWindow:
    """The requests of the last `seconds`, in at most about 200 entries however many they are."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.used = 0
        self._entries: deque[Entry] = deque()

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    @property
    def latest(self) -> float:
        """When the newest request came; 0 where there is none."""
        return self._entries[-1].last if self._entries else 0.0

    def slide(self, now: float) -> None:
        """Forgets what is no longer of the last seconds; a clock that was set back has all in its future made now."""
        entries, before = self._entries, now - self.seconds
        for entry in reversed(entries):
            if entry.last <= now:
                break
            entry.last = now
        while entries and entries[0].last <= before:
            self.used -= entries.popleft().requests

    def add(self, now: float) -> Entry:
        """Counts a request; the entry that it went into."""
        entry = self._entries[-1] if self._entries else None
        grain = self.seconds / GRAINS if len(self._entries) >= GRAINS else 0.0
        if entry is None or not 0 <= now - entry.first <= grain:
            return self.put(Entry(now, now, 1))
        entry.last = now
        entry.requests += 1
        self.used += 1
        return entry

    def put(self, entry: Entry) -> Entry:
        """Takes a whole entry, later than all that are there."""
        self._entries.append(entry)
        self.used += entry.requests
        return entry

    def wait(self, limit: int, now: float) -> float:
        """Seconds until there is room for one more request."""
        excess, seconds = self.used - limit, 0.0
        for entry in self._entries:
            if excess < 0:
                break
            excess -= entry.requests
            seconds = entry.last + self.seconds - now
        return seconds

    def resets_at(self, now: float) -> float:
        """When the oldest request leaves; with none, when one made now would."""
        return (self._entries[0].last if self._entries else now) + self.seconds
