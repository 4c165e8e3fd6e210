"""Retention: deletes old sessions, tasks and keys, packs events, and returns free pages to the disk."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Annotated, NamedTuple

import anyio
from msgspec import Meta

from bytebrew.base.errors import StorageError
from bytebrew.base.formats import now
from bytebrew.base.machine.clock import WallClock
from bytebrew.contract.configuration.runtime_option import Option, expired_before
from bytebrew.contract.connection import Connection
from bytebrew.contract.hookspecs import Step
from bytebrew.contract.storage.store import Driver
from bytebrew.store import idempotency, sessions
from bytebrew.store.configuration import versions
from bytebrew.store.database.database import Database
from bytebrew.store.database.transactions import transaction
from bytebrew.store.journal import Journal
from bytebrew.store.queries import events

log = logging.getLogger(__name__)

PAUSE = 60.0
"""Seconds between two passes."""
REST = 4
"""Pause after a transaction, as a multiple of its time: retention uses at most a fifth of the writer."""
QUIET = 1.0
"""Seconds without another write after which retention no longer pauses."""

Place = tuple[str, str]
START = ("", "")
SPARE_PAGES = 256
"""Free pages that a running engine keeps, because it will use them again soon."""
SLICE = 1000
"""Approximate number of rows deleted or events packed per transaction: a few milliseconds of work."""
LOOK = 4
"""Cost of checking whether a session or task may be deleted, in rows."""
PASS = 2
"""Cost of passing over a session, in rows."""
LONGEST = 0.004
"""Seconds after which a transaction packs no further turn, because events may be large."""

_Days = Annotated[int, Meta(ge=0, le=36500)]
SESSIONS = Option(
    key="retention.sessions",
    type=_Days,
    default=0,
    help="days after its last message on which a session is deleted with all of it, and after its end a task; 0: never",
)
EVENTS = Option(
    key="retention.events",
    type=_Days,
    default=7,
    help="days after which a finished turn's events are packed, to be replayed byte for byte all the same; 0: never",
)
KEYS = Option(
    key="retention.idempotency",
    type=Annotated[int, Meta(ge=1, le=365)],
    default=1,
    help="days for which the same Idempotency-Key gets the same answer, after the end of its turn where it began one",
)
OPTIONS = (SESSIONS, EVENTS, KEYS, *versions.OPTIONS)


class WalkResult(NamedTuple):
    """What a step did, and the position in the table from which it continues; None at the end."""

    done: Sequence[object]
    after: Place | None


class Walk:
    """A core step that visits a table: continues from its position, and restarts after the end."""

    def __init__(self, what: str, work: Callable[[Connection, Place], WalkResult]) -> None:
        self.what, self.work, self.__name__ = what, work, work.__name__
        self._after: Place | None = START

    def __call__(self, conn: Connection) -> Sequence[object] | None:
        """Does the next bounded part of the work."""
        if self._after is None:
            self._after = START
            return ()
        done, self._after = self.work(conn, self._after)
        return done or None


def expire_keys(conn: Connection, after: Place = START) -> WalkResult:
    """Deletes some expired idempotency keys."""
    before = expired_before(conn, KEYS)
    count = idempotency.expire(conn, before, 200) if before else 0
    return WalkResult(range(count), after if count else None)


def pack_events(conn: Connection, after: Place = START) -> WalkResult:
    """Packs the events of some turns that ended long ago."""
    begun, spent = time.monotonic(), 0
    packed: list[str] = []
    turns = conn.execute(
        """select id, session_id, first_event, last_event from turns where packed = 0 and finished_at is not null
        and finished_at < ? order by finished_at limit ?""",
        (expired_before(conn, EVENTS), SLICE),
    ).fetchall()
    for turn in turns:
        while count := events.pack(conn, turn["session_id"], turn["first_event"] or 0, turn["last_event"] or 0):
            spent += count
            if _enough(spent, begun):
                return WalkResult(packed, after)
        conn.execute("update turns set packed = 1 where id = ?", (turn["id"],))
        packed.append(turn["id"])
        spent += LOOK
        if _enough(spent, begun):
            return WalkResult(packed, after)
    return WalkResult(packed, after if len(turns) == SLICE else None)


def _enough(spent: int, begun: float) -> bool:
    return spent >= SLICE or time.monotonic() - begun >= LONGEST


def remove_rows(conn: Connection, after: Place = START) -> WalkResult:
    """Deletes some rows of deleted sessions."""
    return WalkResult((), after if sessions.continue_removals(conn, SLICE) >= SLICE else None)


def expire_sessions(conn: Connection, after: Place = START) -> WalkResult:
    """Deletes idle sessions, except those with an open turn, or an open task in them or below them."""
    if (spent := sessions.continue_removals(conn, SLICE)) >= SLICE:
        return WalkResult((), after)
    rows = conn.execute(  # includes sessions that were created while the clock was far ahead
        """select created_at, id, updated_at < ?1 as due from sessions
        where parent_id is null and created_at < ?1 and (created_at, id) > (?2, ?3)
        union all select created_at, id, updated_at < ?1 from sessions
        where parent_id is null and (created_at, id) > (?4, ?5) order by created_at, id limit ?6""",
        (expired_before(conn, SESSIONS), *after, *max(after, (now(), "")), SLICE // PASS),
    )
    gone: list[str] = []
    for row in rows.fetchall():
        after, spent = (row["created_at"], row["id"]), spent + PASS
        if row["due"]:
            spent += LOOK
            if not _in_use(conn, row["id"]):
                gone += sessions.start_removal(conn, row["id"])
                spent += sessions.continue_removals(conn, SLICE)
        if spent >= SLICE:
            return WalkResult(gone, after)
    return WalkResult(gone, None)


def _in_use(conn: Connection, session_id: str) -> bool:
    row = conn.execute(  # a cross join stops at the first open task of the tree
        """select exists (select 1 from turns t where t.session_id = ?1 and t.status in ('queued', 'running'))
        or exists (with recursive tree (id) as (
            select cast(?1 as text) union all select b.id from sessions b join tree on b.parent_id = tree.id)
          select 1 from tree cross join tasks k
          where (k.session_id = tree.id or k.made_in = tree.id) and k.completed_at is null)""",
        (session_id,),
    ).fetchone()
    return bool(row[0])


def expire_tasks(conn: Connection, after: Place = START) -> WalkResult:
    """Deletes tasks that ended long ago, except those with subtasks and those that open tasks wait for."""
    before = expired_before(conn, SESSIONS)
    rows = conn.execute(
        """select completed_at, id from tasks where completed_at < ? and (completed_at, id) > (?, ?)
        order by completed_at, id limit ?""",
        (before, *after, SLICE // LOOK),
    ).fetchall()
    gone: list[str] = []
    for row in rows:
        task_id = row["id"]
        while task_id is not None:  # its parent may be deleted if this was the last subtask
            deleted = conn.execute(
                """delete from tasks where id = ?1 and completed_at < ?2
                and not exists (select 1 from tasks below where below.parent_task_id = ?1)
                and not exists (select 1 from task_blockers b join tasks k on k.id = b.task
                  where b.blocker = ?1 and k.completed_at is null) returning id, parent_task_id""",
                (task_id, before),
            ).fetchone()
            gone += [task_id] if deleted else []
            task_id = deleted["parent_task_id"] if deleted else None
    last = rows[-1] if len(rows) == SLICE // LOOK else None
    return WalkResult(gone, (last["completed_at"], last["id"]) if last else None)


def expire_versions(conn: Connection, after: Place = START) -> WalkResult:
    """Deletes some versions of the configuration that are too old or too many."""
    gone = versions.expire(conn)
    return WalkResult(gone, after if gone else None)


def steps() -> Iterator[Walk]:
    """The steps of the core, in order; those of plugins follow, and the file shrinks at the end."""
    yield Walk("idempotency keys", expire_keys)
    yield Walk("sessions", expire_sessions)
    yield Walk("tasks", expire_tasks)
    yield Walk("turns packed", pack_events)
    yield Walk("versions", expire_versions)


class Retention:
    """Runs the steps of the core and of plugins in the background, in small transactions."""

    def __init__(self, db: Database, journal: Journal, clock: WallClock, steps: Iterable[tuple[str, Step]]) -> None:
        self._db, self._journal, self.clock = db, journal, clock
        self.steps = [*steps]
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Starts the next pass at once if a deletion waits."""
        self._woken.set()

    async def run(self) -> None:
        """Runs for ever; starts with deletions that a stopped engine left unfinished."""
        await _logged(self._resume)
        while True:
            with anyio.move_on_after(PAUSE) as waiting:
                await self._woken.wait()
            self._woken.clear()
            await _logged(self.run_once if waiting.cancelled_caught else self._resume)

    async def _resume(self) -> None:
        if await self._db.read(sessions.removal_pending):
            await self.run_once()

    async def run_once(self) -> None:
        """Runs each step to its end, with pauses; a step that fails is logged and retried in the next pass.

        While the clock is not trusted, only deletions that have already started continue.
        """
        pace = Pace(self._db)
        await self._repeat(Walk("", remove_rows), pace)
        for owner, step in self.steps:
            try:
                of_sessions = isinstance(step, Walk) and step.work is expire_sessions
                await self._repeat(_by_a_trusted_clock(self.clock, step), pace, ends_followers=of_sessions)
            except ClockSet:
                break
            except StorageError:
                raise
            except Exception:
                log.exception("%s of %s failed", getattr(step, "__name__", "a step of retention"), owner)
        driver = self._db.driver
        if await self._repeat(lambda conn: driver.shrink(conn, SPARE_PAGES), pace):
            await self._db.checkpoints.begin()

    async def _repeat(self, step: Step, pace: "Pace", *, ends_followers: bool = False) -> bool:
        """Repeats a step until nothing is left; returns whether it did anything."""
        worked = False
        while True:
            begun = pace.begin()
            done = await self._db.write(step)
            if done is not None and not done:
                return worked
            worked = True
            if ends_followers:
                for session_id in done or ():
                    self._journal.forget(str(session_id))
            await anyio.sleep(pace.rest(begun))


async def _logged(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except StorageError as error:
        log.warning("nothing is cleared away for now: %s", error)
    except Exception:
        log.exception("clearing away failed; the next time is in %g s", PAUSE)


class ClockSet(Exception):
    """The wall clock was set recently."""


def _by_a_trusted_clock(clock: WallClock, step: Step) -> Step:
    """The step, rolled back if the wall clock was set recently."""

    def trusting(conn: Connection) -> Sequence[object] | None:
        done = step(conn)
        if not clock.trusted():
            raise ClockSet
        return done

    return trusting


class Pace:
    """Computes the pause after a transaction: none while there are no other writes."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._others = time.monotonic()
        self._before = self._count()

    def _count(self) -> int:
        return self._db.committed_works + self._db.committed_rows

    def begin(self) -> float:
        """The time before a transaction, for `rest`."""
        self._before, begun = self._count(), time.monotonic()
        return begun

    def rest(self, begun: float) -> float:
        """The pause in seconds after a transaction that started at a moment."""
        now = time.monotonic()
        if self._count() > self._before + 1:
            self._others = now
        return REST * (now - begun) if now - self._others < QUIET else 0.0


class SweepResult(NamedTuple):
    """Rows deleted or packed, by step, and the size of the database before and after."""

    counts: dict[str, int]
    before: int
    after: int


def sweep(
    driver: Driver,
    conn: Connection,
    steps: Iterable[tuple[str, Step]],
    done: Callable[[int], None] = lambda count: None,
) -> SweepResult:
    """Runs all steps to their end on one connection, with pauses for an engine that uses the same file.

    `done` is called with the number of rows after each transaction.
    """
    before, counts = driver.bytes(conn), dict[str, int]()
    sum(_all(driver, conn, Walk("", remove_rows), done))
    for owner, step in steps:
        name = step.what if isinstance(step, Walk) else f"rows of {owner}"
        counts[name] = counts.get(name, 0) + sum(_all(driver, conn, step, done))
    sum(_all(driver, conn, lambda conn: driver.shrink(conn, 0), done))
    driver.checkpoint(conn, empty=True)
    return SweepResult(counts, before, driver.bytes(conn))


def _all(driver: Driver, conn: Connection, step: Step, report: Callable[[int], None]) -> Iterator[int]:
    done: Sequence[object] | None = None
    while done is None or done:
        with transaction(driver, conn):
            done = step(conn)
        report(len(done or ()))
        yield len(done or ())
        time.sleep(0.001)
