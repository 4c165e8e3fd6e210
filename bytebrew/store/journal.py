"""The durable event log of each session: appends events, reads them from any number on, and follows them live."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from time import time
from typing import Any, ParamSpec, Protocol, TypeVar
from weakref import WeakValueDictionary

import msgspec

from bytebrew.base.errors import Draining, EngineError, NotFound, StorageError
from bytebrew.base.rolling_timeout import ShortWaits
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import Event, LastFrame
from bytebrew.contract.governance.nodes import NodeFigures
from bytebrew.store.database.database import Database, Work
from bytebrew.store.database.write_queue import Rows
from bytebrew.store.queries.event_rows import StoredEvent, grouped
from bytebrew.store.queries.events import FORKED, INSERT, NEWEST, last_number, last_numbers, newer, read_events

P = ParamSpec("P")
T = TypeVar("T")
_log = logging.getLogger(__name__)
_INSERTS = {size: f"{INSERT} {', '.join(['(?, ?, ?, ?, ?)'] * size)}" for size in (64, 8, 1)}
_FRAME = b"id: %d\nevent: %s\ndata: %s\n\n"
HEARTBEAT_SECONDS = 15.0
PING = b": ping\n\n"
"""The SSE comment that keeps a connection alive."""
TAIL_EVENTS = 16
TAIL_BYTES = 128 * 1024
"""A log caches the last TAIL_EVENTS committed events up to this size, and all events of the last two commits.

Followers that are further behind read the database, a page at a time.
"""
_encode = msgspec.json.Encoder().encode
REFRESHED = 50
"""Sessions whose events of other nodes are read at once."""


class EventRange(Protocol):
    """The range of events that a follower sends: from `first` to `last`, each None until it is known."""

    @property
    def first(self) -> int | None:
        """The number of its first event."""

    @property
    def last(self) -> int | None:
        """The number of its last event."""


@dataclass(slots=True)
class OpenEventRange:
    """All events from `first` on, without an end unless `last` is set."""

    first: int | None
    last: int | None = None


class Log:
    """The in-memory tail of one session's journal; it exists while a turn appends to it or a client follows it."""

    __slots__ = (
        "__weakref__",
        "_bytes",
        "_committed_before",
        "_form",
        "_frames",
        "_loading",
        "_waiters",
        "_waits",
        "committed",
        "error",
        "last",
        "loaded",
        "session_id",
    )

    def __init__(self, session_id: str, waits: ShortWaits, form: bytes = _FRAME) -> None:
        self.session_id = session_id
        self._form, self._waits = form, waits
        self.last = 0
        self.committed = 0
        self.error: Exception | None = None
        self.loaded = False
        self._loading: asyncio.Lock | None = None
        self._committed_before = 0
        self._frames: list[bytes] = []
        self._bytes = 0
        self._waiters: set[asyncio.Future[bool]] = set()

    async def load(self, db: Database, new: int | None) -> None:
        """Reads the number of the last event once; from then on only this object appends."""
        if new is not None and not self.loaded:
            self.last = self.committed = new
            self.loaded = True
        if self.loaded:
            return
        self._loading = loading = self._loading or asyncio.Lock()
        async with loading:
            if not self.loaded:
                self.last = self.committed = await db.read(last_number, self.session_id)
                self.loaded, self._loading = True, None

    def add(self, event: Event) -> tuple[str, int, str, bytes, int]:
        """The row of the event, with the next number and the time."""
        data = _encode(event)
        self.last += 1
        framed = frame(self.last, event.name, data, self._form)
        self._frames.append(framed)
        self._bytes += len(framed)
        return (self.session_id, self.last, event.name, data, int(time() * 1000))

    def commit(self, number: int) -> None:
        """Marks the events up to a number as committed, evicts old ones from memory and wakes the followers."""
        last_but_one, self._committed_before, self.committed = self._committed_before, self.committed, number
        uncommitted = self.last - number
        kept = len(self._frames) - uncommitted
        while kept > 1 and (self._bytes > TAIL_BYTES or (kept > TAIL_EVENTS and number - kept < last_but_one)):
            self._bytes -= len(self._frames[-kept - uncommitted])
            kept -= 1
        del self._frames[: -kept - uncommitted]
        self.notify()

    def receive(self, events: Iterable[StoredEvent]) -> Sequence[StoredEvent]:
        """Takes events that another node has committed, unless own ones are on their way; those that are new."""
        new = [one for one in events if one[0] > self.last] if self.last == self.committed else []
        for n, name, data, _ in new:
            if n != self.last + 1:  # frames in memory have no gap
                self._frames.clear()
                self._bytes = 0
            self.last = n
            self._frames.append(frame(n, name, data, self._form))
            self._bytes += len(self._frames[-1])
        if new:
            self.commit(self.last)
        return new

    def fail(self, error: Exception) -> None:
        """Marks the uncommitted events as lost; every further use of the log raises the error."""
        self.error = error
        self.notify()

    def notify(self) -> None:
        """Wakes every follower."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(True)
        self._waiters.clear()

    def between(self, after: int, through: int) -> bytes | None:
        """The frames above `after` up to `through`; None if the first of them is no longer in memory."""
        first = self.last - len(self._frames) + 1
        if after + 1 < first:
            return None
        start, end = after + 1 - first, through + 1 - first
        return self._frames[start] if end - start == 1 else b"".join(self._frames[start:end])

    async def changed(self) -> bool:
        """Waits for `notify`; False after 15 s without one."""
        waiter = self._waits.begin(HEARTBEAT_SECONDS)
        self._waiters.add(waiter)
        try:
            return await waiter
        finally:
            self._waiters.discard(waiter)
            self._waits.end(waiter)


class Journal:
    """The logs of all sessions, with group commit: pending events of all sessions share the next transaction.

    If other nodes share the database, `changed` is called with the ids of the sessions that have new events, or are
    deleted; `refresh` takes the events of other nodes.
    """

    def __init__(self, db: Database, changed: Callable[..., None] | None = None) -> None:
        self._db = db
        self._changed = changed
        self.counts = NodeFigures()
        self.own: Collection[str] = ()
        """The ids of the sessions that this node runs."""
        self._logs: WeakValueDictionary[str, Log] = WeakValueDictionary()
        self._waiting: list[tuple[Any, ...]] = []
        self._writers: dict[str, Log] = {}
        self._taken: dict[str, tuple[Log, int]] = {}
        self.closing = False
        self.epoch = 1
        self._form = _FRAME
        self._waits = ShortWaits()
        db.source(self)

    def begin(self, epoch: int) -> None:
        """Sets the epoch of the history, which prefixes event ids; in epoch 1 they are plain numbers."""
        self.epoch = epoch
        self._form = _FRAME if epoch == 1 else _FRAME.replace(b"id: ", b"id: %d:" % epoch)

    async def log(self, session_id: str, *, new: int | None = None) -> Log:
        """The log of a session; keep a reference while you append or follow.

        A `new` session has no events of its own; the number is that of the last one that it shares, or 0.
        """
        log = self._logs.get(session_id)
        if log is None or log.error is not None:
            log = self._logs[session_id] = Log(session_id, self._waits, self._form)
        await log.load(self._db, new)
        return log

    async def newest(self, log: Log, number: int) -> int:
        """The number of the newest committed event; a reader may see event `number` in the file before the log does."""
        if number > log.committed and self._changed is not None:
            await self.refresh({log.session_id})
        return log.committed if number <= log.committed else await self._db.read(last_number, log.session_id)

    def append(self, log: Log, event: Event) -> int:
        """Numbers the event and queues it for the next transaction; it is sent to clients once that is committed."""
        if log.error is not None:
            raise log.error
        if not self._waiting:
            self._db.wake()
        self._waiting.append(log.add(event))
        self._writers[log.session_id] = log
        return log.last

    async def write(self, log: Log, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of work, once it is committed together with or after the events that were appended before it.

        If one of those events was lost, the work does not run and the log's error is raised.
        """
        return await self._db.write_for(log, work, *args, **kwargs)

    async def flush(self, log: Log, backlog: int = 0) -> None:
        """Waits until at most `backlog` of the log's events are uncommitted."""
        while log.last - log.committed > backlog:
            if log.error is not None:
                raise log.error
            await log.changed()

    async def close(self, log: Log, error: Exception) -> None:
        """Fails the log with an error, once all appended events are either committed or lost."""
        with suppress(EngineError):
            await self.flush(log)
        log.fail(error)

    def take(self) -> Rows:
        """Removes the queued rows and returns them, for the database's writer."""
        rows, self._waiting = self._waiting, []
        self._taken = {session_id: (log, log.last) for session_id, log in self._writers.items()}
        self._writers = {}
        return rows

    def insert(self, conn: Connection, rows: Rows) -> None:
        """Inserts events without a gap; NotFound if a session is deleted, StorageError if an earlier event is lost."""
        last: dict[str, int] = {}
        known = last_numbers(conn, {row[0] for row in rows}) if self._db.driver.shared else None
        for row in rows:
            session_id, n = row[0], row[1]
            if (before := last.get(session_id)) is None:
                before = _last(conn, session_id) if known is None else known.get(session_id)
                if before is None:
                    raise NotFound("The session was deleted")
            if n != before + 1:
                _log.error("event %d of session %s cannot follow upon event %d", n, session_id, before)
                raise StorageError("An event before this one is not in the file; send the message again")
            last[session_id] = n
        stored = grouped(rows)
        if known is not None:
            conn.executemany(_INSERTS[1], stored)
            return
        at = 0
        for size in _INSERTS:  # few statements: the event loop may take the GIL at each
            while len(stored) - at >= size:
                conn.execute(_INSERTS[size], [*chain.from_iterable(stored[at : at + size])])
                at += size

    def settled(self, refused: Mapping[str, Exception]) -> None:
        """Called after each transaction: commits the logs, and fails those of the sessions in `refused`.

        A log that has lost an event accepts no more: later events are dropped, so that no gap appears.
        """
        taken, self._taken = self._taken, {}
        for session_id, (log, number) in taken.items():
            if (error := refused.get(session_id)) is None:
                log.commit(number)
            else:
                self._end(log, error)
        if self._changed is not None and len(taken) > len(refused):
            self._changed(*(taken.keys() - refused.keys()))

    async def refresh(self, session_ids: Set[str] | None) -> None:
        """Takes what other nodes have appended to sessions that are followed here; None: to any of them."""
        wanted = {*self._logs} - {*self.own} if session_ids is None else session_ids
        behind = {one: log for one in wanted if (log := self._logs.get(one)) and log.loaded and log.error is None}
        while behind:
            seen = {one: log.committed for one, log in islice(behind.items(), REFRESHED)}
            found = await self._db.read(newer, seen)
            for session_id, before in seen.items():
                log, (last, events) = behind[session_id], found.get(session_id, (0, ()))
                self.counts.came(at for _, _, _, at in log.receive(events))
                if last < before and (last or session_id not in found):
                    self._end(log, NotFound("The session was deleted"))
                if last <= log.committed or log.last != log.committed:
                    del behind[session_id]

    def lost(self, error: Exception) -> None:
        """Fails every log, because the writer has died."""
        for log in list(self._logs.values()):
            log.fail(error)

    def _end(self, log: Log, error: Exception) -> None:
        log.fail(error)
        if self._writers.get(log.session_id) is log:
            del self._writers[log.session_id]
            self._waiting = [row for row in self._waiting if row[0] != log.session_id]

    async def follow(self, log: Log, event_range: EventRange) -> AsyncGenerator[bytes, None]:
        """The frames of a range, first from the database, then live; a comment after 15 s without an event.

        Keeps at most one page in memory, however slow the client is. Raises NotFound if the session is deleted.
        """
        at = -1
        while event_range.last is None or at < event_range.last:
            if at < 0 and event_range.first is not None:
                at = event_range.first - 1
                continue
            if 0 <= at < log.committed:
                reached = log.committed if event_range.last is None else min(log.committed, event_range.last)
                chunk = log.between(at, reached)
                if chunk is None:
                    try:
                        rows = await self._db.read(read_events, log.session_id, at, reached)
                    except StorageError:
                        if not await self._db.outage.passes(HEARTBEAT_SECONDS):
                            raise
                        yield PING
                        continue
                    if not rows or rows[0][0] != at + 1:  # the removal of a session deletes its first events first
                        raise NotFound("The session was deleted")
                    chunk = b"".join([frame(n, name, data, self._form) for n, name, data, _ in rows])
                    reached = rows[-1][0]
                    del rows
                at = reached
                yield LastFrame(chunk) if reached == event_range.last else chunk
                del chunk  # or each follower would hold up to a page while it waits
            elif log.error is not None:
                raise log.error
            elif self.closing and isinstance(event_range, OpenEventRange):
                return
            elif self.closing and (event_range.first is None or self._is_remote(log)):
                raise Draining
            elif not await log.changed():
                yield PING

    def _is_remote(self, log: Log) -> bool:
        """Whether other nodes append to a log."""
        return self._changed is not None and log.session_id not in self.own

    def close_open_ends(self) -> None:
        """Ends the followers of open ranges."""
        self.closing = True
        for log in list(self._logs.values()):
            log.notify()

    def forget(self, session_id: str) -> None:
        """Ends the followers of a deleted session, on all nodes."""
        if self._changed is not None:
            self._changed(session_id)
        if session_id in self._logs:
            self._end(self._logs[session_id], NotFound("The session was deleted"))


def _last(conn: Connection, session_id: str) -> int | None:
    """The number of the session's last event, or of that which a fork shares; None if it is gone or going."""
    newest: int | None = conn.execute(NEWEST, (session_id,)).fetchone()[0]
    if newest:
        return newest
    sql = f"{FORKED} and id not in (select session_id from removals)"
    row = conn.execute(sql, (session_id,)).fetchone()
    return None if row is None else int(row[0])


def frame(number: int, event: str, data: bytes, form: bytes = _FRAME) -> bytes:
    """The bytes of one event; `data` is JSON on one line."""
    return form % (number, event.encode(), data)
