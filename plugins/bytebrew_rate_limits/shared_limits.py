"""The guard where several nodes share the database: the counts are there, so that a limit holds over all nodes."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from bytebrew import Connection, Request, Route

from . import limits, store
from .limits import Known, Limits, Live, RateLimited, counts, headers_of, refusal
from .sliding_window import SlidingWindow

LOCK = "rate limits"
"""What a count locks where a request may count under several keys."""
ROOM_SECONDS = 1.0
"""How long the number of a rule's keys is not counted again."""


class Refused(NamedTuple):
    """A limit that is reached."""

    live: Live
    error: RateLimited


class SharedLimits(Limits):
    """Counts each request in a transaction that no other node's count of the same key shares.

    A tier without a limit is not counted, so that nothing is written for it. The bound of keys holds but for those that
    other nodes add within a second.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._room: dict[int, _Room] = {}

    async def check(self, request: Request[Any], route: Route) -> dict[str, str] | None:
        if not counts(request, route):
            return None
        bound = [live for live in self._live if live.limits[live.tier(request)].requests is not None]
        if not bound:
            return None
        now = self._clock()
        if len(self._live) > 1 or bound[0].rule.key_header:
            lock = LOCK
        elif keys := bound[0].keys(request, now, bound[0]):
            lock = f"{LOCK} {keys[0]}"
        else:
            return None
        outcome = await self._engine.db.write_in(lock, partial(_count, bound, request, now, self._room))
        if isinstance(outcome, Refused):
            outcome.live.refused += 1
            raise outcome.error
        return outcome

    async def _windows(self, live: Live, key: str, now: float) -> dict[str, SlidingWindow]:
        def windows(conn: Connection) -> dict[str, SlidingWindow]:
            return {
                name: store.window(conn, live.id, name, key, limit.seconds, now) for name, limit in live.limits.items()
            }

        return await self._engine.db.read(windows)

    def forget(self, keys: Iterable[str]) -> None:
        """Has none in memory."""

    async def load(self) -> None:
        self.use(await self._engine.db.read(store.list_all))

    async def save(self) -> None:
        """Has nothing that is not stored."""


@dataclass(slots=True)
class _Room:
    """How many further keys a rule may have, as counted at a time: to count them takes long if there are many."""

    counted_at: float
    keys: int


class _Stored(Known):
    """The keys of callers in the database."""

    def __init__(self, conn: Connection, live: Live, now: float, rooms: dict[int, _Room]) -> None:
        self._conn, self._live, self._now, self._rooms = conn, live, now, rooms

    def has_window(self, tier: str, key: str) -> bool:
        if store.is_counted(self._conn, self._live.id, tier, key, self._now):
            return True
        room = self._rooms.get(self._live.id)
        if room is None or not 0 <= self._now - room.counted_at < ROOM_SECONDS:
            used = store.count_keys(self._conn, self._live.id, self._now, limits.MOST_KEYS)
            room = self._rooms[self._live.id] = _Room(self._now, limits.MOST_KEYS - used)
        room.keys -= 1
        return room.keys >= 0

    def may_name(self, caller: str, key: str, now: float) -> bool:
        return store.may_name(self._conn, self._live.id, caller, key, now, self._live.longest, self._live.most_keys)


def _count(
    lives: Iterable[Live], request: Request[Any], now: float, rooms: dict[int, _Room], conn: Connection
) -> Refused | dict[str, str]:
    """Counts a request under all rules, or under none if the limit of one is reached."""
    counting = []
    for live in lives:
        tier = live.tier(request)
        limit = live.limits[tier]
        assert limit.requests is not None
        for key in live.keys(request, now, _Stored(conn, live, now, rooms)):
            window = store.window(conn, live.id, tier, key, limit.seconds, now)
            if window.used >= limit.requests:
                return Refused(live, refusal(live.rule.name, limit.requests, window, now))
            counting.append((live, tier, key, window, limit.requests))
    for live, tier, key, window, _ in counting:
        entry = window.add(now)
        store.keep(conn, [store.Counted(live.id, tier, key, entry, entry.last + window.seconds)])
    for *_, window, most in counting:
        return headers_of(most, most - window.used, window.resets_at(now))
    return {}
