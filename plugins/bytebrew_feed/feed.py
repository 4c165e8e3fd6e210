"""The changes of an engine in memory: the last of them, and everybody who waits for the next."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Collection, Sequence

from msgspec import json

from bytebrew import KEEP_ALIVE, Connection, Engine, StorageError, dialect, new_uuid

from . import changes, shared, triggers
from .changes import Change

log = logging.getLogger(__name__)

TICK = 0.25
"""Seconds between two looks at whether anything was committed."""
HEARTBEAT = 15.0
LINGER = 30.0
"""How long changes are noted after the last follower has left, so that one that comes again misses none."""
KEPT = 1000
"""The changes that a follower may be behind."""


class Feed:
    """Notes changes while somebody follows.

    The id of an event is `<run>-<number>`: the run is one time of noting, and numbers count within it. A follower that
    comes with an id of another run, or of a change that is no longer here, has missed some, and is told so.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: deque[Change] = deque(maxlen=KEPT)
        self._run, self._last = "", 0
        self._followers = 0
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    @property
    def watching(self) -> bool:
        """Whether changes are noted for this engine."""
        return bool(self._run)

    def is_watched(self, conn: Connection) -> bool:
        """Whether changes are noted, for this engine or for another node."""
        return shared.is_watched(conn) if dialect(conn) == "postgresql" else self.watching

    async def begin(self) -> None:
        """Begins to note, unless that is under way."""
        if self._task is None:
            self._task = asyncio.create_task(self._run_on(), name="feed")
            self._kept.clear()
            self._run, self._last = new_uuid()[-12:], 0
            self._watched: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._watched)

    async def follow(self, seen: str, topics: Collection[str]) -> AsyncGenerator[bytes, None]:
        """The frames of a follower that has seen the event of this id: those of some topics, until the engine stops."""
        self._followers += 1
        try:
            await self.begin()
            at = self._place(seen)
            if at is None:
                at = self._last
                yield _frame(self._id(at), "missed", b"{}")
            else:
                yield KEEP_ALIVE  # the client knows that it is connected
            idle = 0.0
            while not self._engine.draining and self._task is not None:
                if at < self._last - len(self._kept):
                    at = self._last
                    yield _frame(self._id(at), "missed", b"{}")
                elif fresh := [*self._kept][len(self._kept) - (self._last - at) :]:
                    wanted = [(at + n, one) for n, one in enumerate(fresh, 1) if one.topic in topics]
                    at = self._last
                    if wanted:
                        yield b"".join(_frame(self._id(n), one.topic, json.encode(one)) for n, one in wanted)
                        idle = 0.0
                elif await self._changed():
                    continue
                elif (idle := idle + TICK) >= HEARTBEAT:
                    yield KEEP_ALIVE
                    idle = 0.0
        finally:
            self._followers -= 1

    async def stop(self) -> None:
        """Ends the noting."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _id(self, n: int) -> str:
        return f"{self._run}-{n}"

    def _place(self, seen: str) -> int | None:
        """The number of the last change that was seen; None if some since then may be unknown."""
        if not seen:
            return self._last
        run, _, number = seen.rpartition("-")
        known = run == self._run and number.isascii() and number.isdecimal() and len(number) < 16
        return int(number) if known and self._last - len(self._kept) <= int(number) <= self._last else None

    async def _changed(self) -> bool:
        """Waits for news; False if there are none within a tick."""
        try:
            async with asyncio.timeout(TICK):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def _run_on(self) -> None:
        """Notes changes until nobody has followed for a while."""
        database = self._engine.db
        try:
            place = await database.write(triggers.watch, self._run)
            self._watched.set_result(None)
            await (self._follow_own() if place is None else self._follow_all(place))
            await database.write(triggers.unwatch, self._run)
        except StorageError as error:
            log.warning("the feed has ended: %s", error)
            if not self._watched.done():
                self._watched.set_exception(error)
        finally:
            self._run, self._task = "", None
            self._wake()

    async def _follow_own(self) -> None:
        """Spreads the changes of this engine, which has the database alone."""
        database, seen, lonely, looks = self._engine.db, -1, 0.0, 0
        while lonely < LINGER:
            if database.commits != seen:
                looks = 2  # what is noted behind the first look may be in its own transaction
            if looks:
                looks, seen = looks - 1, database.commits + 1
                self._spread(await database.write(changes.taken))
            await asyncio.sleep(TICK)
            lonely = 0.0 if self._followers else lonely + TICK

    async def _follow_all(self, place: shared.Place) -> None:
        """Spreads the changes of all nodes."""
        lonely, renewed = 0.0, 0.0
        while lonely < LINGER:
            if rows := await self._engine.db.glance(shared.after, place):
                place = shared.Place(rows[-1]["made_in"], rows[-1]["n"])
                self._spread(changes.made(rows))
            await asyncio.sleep(TICK)
            lonely = 0.0 if self._followers else lonely + TICK
            renewed += TICK
            if renewed >= shared.WATCH_SECONDS / 3:
                renewed = 0.0
                await self._engine.db.write(shared.renew, self._run)

    def _spread(self, fresh: Sequence[Change]) -> None:
        if fresh:
            self._kept.extend(fresh)
            self._last += len(fresh)
            self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def _frame(id: str, event: str, data: bytes) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (id.encode(), event.encode(), data)
