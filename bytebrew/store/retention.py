"""Retention: sessions, tasks and keys go when they are old, events are packed, and the disk gets its space back."""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import anyio

from bytebrew.base.errors import StorageError
from bytebrew.base.machine.clock import WallClock
from bytebrew.contract.connection import Connection
from bytebrew.contract.hookspecs import Step
from bytebrew.store import expiry, removals
from bytebrew.store.expiry import Walk
from bytebrew.store.sqlite.database import Database
from bytebrew.store.sqlite.pragmas import roll_back

if TYPE_CHECKING:
    from bytebrew.engine import Engine

log = logging.getLogger(__name__)

PAUSE = 60.0
"""Seconds between two looks for what is due."""
REST = 4
"""How much longer the worker rests than it worked, so that it takes a fifth of the writer at most."""
QUIET = 1.0
"""Seconds without a write of anybody else after which the worker rests no more."""
SPARE_PAGES = 256
"""Free pages that a running engine keeps: they will be written again soon."""


def shrink(conn: Connection, spare: int = SPARE_PAGES) -> Sequence[object]:
    """Takes some free pages off the end of the file."""
    free = _number(conn, "freelist_count")
    if free <= spare:
        return ()
    for _ in range(min(64, free - spare)):
        conn.execute("pragma incremental_vacuum(1)")  # the module steps it once only, which is one page
    return range(free - _number(conn, "freelist_count"))


def _number(conn: Connection, pragma: str) -> int:
    return int(conn.execute(f"pragma {pragma}").fetchone()[0])


async def keep(engine: "Engine", scope: anyio.CancelScope) -> None:
    """Does what is due, a little at a time, until the scope is cancelled; at once where `engine.overdue` is set."""
    with scope:
        await _logged(_remember, engine)
        while True:
            with anyio.move_on_after(PAUSE):
                await engine.overdue.wait()
            engine.overdue.clear()
            await _logged(tidy, engine)


async def _remember(engine: "Engine") -> None:
    """Goes on at once with what a stopped engine had begun to remove."""
    if await engine.db.read(removals.pending):
        engine.overdue.set()


async def _logged(work: Callable[["Engine"], Awaitable[None]], engine: "Engine") -> None:
    try:
        await work(engine)
    except StorageError as error:
        log.warning("nothing is cleared away for now: %s", error)
    except Exception:
        log.exception("clearing away failed; the next time is in %g s", PAUSE)


async def tidy(engine: "Engine") -> None:
    """Does what is due once, and rests longer than it works; what fails is logged and tried again the next time.

    While the clock is not trusted it only goes on with what has been deleted already.
    """
    pace = Pace(engine.db)
    await _done(engine, Walk("", expiry.remove_rows), pace)
    for owner, step in engine.retention:
        try:
            of_sessions = isinstance(step, Walk) and step.work is expiry.expire_sessions
            await _done(engine, _by_a_trusted_clock(engine.clock, step), pace, sessions=of_sessions)
        except ClockSet:
            break
        except StorageError:
            raise
        except Exception:
            log.exception("%s of %s failed", getattr(step, "__name__", "a step of retention"), owner)
    if await _done(engine, shrink, pace):
        await engine.db.checkpoint()


class ClockSet(Exception):
    """The wall clock was set a while ago."""


def _by_a_trusted_clock(clock: WallClock, step: Step) -> Step:
    """The step, undone where the clock that it has read turns out to have been set."""

    def trusting(conn: Connection) -> Sequence[object] | None:
        done = step(conn)
        if not clock.trusted():
            raise ClockSet
        return done

    return trusting


class Pace:
    """How long to rest after a transaction: not at all while nobody else writes."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._others = time.monotonic()
        self._before = self._count()

    def _count(self) -> int:
        return self._db.committed_works + self._db.committed_rows

    def begin(self) -> float:
        """The moment before a transaction."""
        self._before, begun = self._count(), time.monotonic()
        return begun

    def rest(self, begun: float) -> float:
        """Seconds to rest after a transaction that began at a moment."""
        now = time.monotonic()
        if self._count() > self._before + 1:
            self._others = now
        return REST * (now - begun) if now - self._others < QUIET else 0.0


async def _done(engine: "Engine", step: Step, pace: Pace, *, sessions: bool = False) -> bool:
    """Repeats a step until there is no more to do; whether there was any."""
    worked = False
    while True:
        begun = pace.begin()
        done = await engine.db.write(step)
        if done is not None and not done:
            return worked
        worked = True
        if sessions:
            for session_id in done or ():
                engine.journal.forget(str(session_id))
        await anyio.sleep(pace.rest(begun))


class Swept(NamedTuple):
    """How much was cleared away of what, and the size of the database in bytes before and after."""

    counts: dict[str, int]
    before: int
    after: int


def sweep(
    conn: Connection, steps: Iterable[tuple[str, Step]], done: Callable[[int], None] = lambda count: None
) -> Swept:
    """Does all that is due, on a connection of its own, and leaves gaps for an engine that runs on the same file.

    `done` is called with how much each step has done.
    """
    before, counts = _size(conn), dict[str, int]()
    sum(_all(conn, Walk("", expiry.remove_rows), done))
    for owner, step in steps:
        name = step.what if isinstance(step, Walk) else f"rows of {owner}"
        counts[name] = counts.get(name, 0) + sum(_all(conn, step, done))
    sum(_all(conn, lambda conn: shrink(conn, 0), done))
    conn.execute("pragma wal_checkpoint(truncate)").fetchall()
    return Swept(counts, before, _size(conn))


def _all(conn: Connection, step: Step, tell: Callable[[int], None]) -> Iterator[int]:
    done: Sequence[object] | None = None
    while done is None or done:
        conn.execute("begin immediate")
        try:
            done = step(conn)
            conn.execute("commit")
        except BaseException:
            roll_back(conn)
            raise
        tell(len(done or ()))
        yield len(done or ())
        time.sleep(0.001)


def _size(conn: Connection) -> int:
    return _number(conn, "page_count") * _number(conn, "page_size")
