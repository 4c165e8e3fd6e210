"""Retention: sessions, tasks and keys go when they are old, events are packed, and the disk gets its space back."""

import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

import anyio
from msgspec import Meta

from bytebrew import journal
from bytebrew.errors import StorageError
from bytebrew.hookspecs import Step
from bytebrew.options import Option, expired_before
from bytebrew.store import idempotency

if TYPE_CHECKING:
    from bytebrew.engine import Engine

log = logging.getLogger(__name__)

PAUSE = 60.0
"""Seconds between two looks for what is due."""
REST = 4
"""How much longer the worker rests than it worked, so that it takes a fifth of the writer at most."""
SPARE_PAGES = 256
"""Free pages that a running engine keeps: they will be written again soon."""

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
    help="days for which the same Idempotency-Key gets the same answer",
)
OPTIONS = (SESSIONS, EVENTS, KEYS)


def expire_keys(conn: sqlite3.Connection) -> Sequence[object]:
    """Forgets some keys whose time is over."""
    before = expired_before(conn, KEYS)
    return range(idempotency.expire(conn, before, 200)) if before else ()


def pack_events(conn: sqlite3.Connection) -> Sequence[object]:
    """Packs some events of a turn that has ended long ago; a session is packed before it goes, so that it goes fast."""
    before = max(expired_before(conn, EVENTS), expired_before(conn, SESSIONS))
    turn = conn.execute(
        """select id, session_id, first_event, last_event from turns where packed = 0 and finished_at is not null
        and finished_at < ? order by finished_at limit 1""",
        (before,),
    ).fetchone()
    if turn is None:
        return ()
    packed = journal.pack(conn, turn["session_id"], turn["first_event"] or 0, turn["last_event"] or 0)
    if not packed:
        conn.execute("update turns set packed = 1 where id = ?", (turn["id"],))
    return (turn["id"],)


def expire_sessions(conn: sqlite3.Connection) -> Sequence[object]:
    """Deletes a session that nobody has written to for long, unless a turn of it or a task in or below it is open."""
    row = conn.execute(  # a cross join walks the tree no further than to the first open task
        """select id from sessions s where parent_id is null and created_at < ?1 and updated_at < ?1
        and not exists (select 1 from turns t where t.session_id = s.id and t.status in ('queued', 'running'))
        and not exists (with recursive tree (id) as (
            select s.id union all select b.id from sessions b join tree on b.parent_id = tree.id)
          select 1 from tree cross join tasks k on k.session_id = tree.id or k.made_in = tree.id
          where k.completed_at is null)
        order by created_at, id limit 1""",
        (expired_before(conn, SESSIONS),),
    ).fetchone()
    if row is None:
        return ()
    conn.execute("delete from sessions where id = ?", (row["id"],))
    return (row["id"],)


def expire_tasks(conn: sqlite3.Connection) -> Sequence[object]:
    """Deletes some tasks that have ended long ago, unless an open one is below them or waits for them."""
    return conn.execute(
        """delete from tasks where seq in (select t.seq from tasks t where t.completed_at < ?
        and not exists (select 1 from tasks below where below.parent_task_id = t.id)
        and not exists (select 1 from tasks k, json_each(k.blocked_by) b
          where k.completed_at is null and k.blocked_by <> '[]' and b.value = t.id)
        order by t.completed_at limit 50) returning id""",
        (expired_before(conn, SESSIONS),),
    ).fetchall()


def shrink(conn: sqlite3.Connection, spare: int = SPARE_PAGES) -> Sequence[object]:
    """Takes some free pages off the end of the file."""
    free = _number(conn, "freelist_count")
    if free <= spare:
        return ()
    for _ in range(min(64, free - spare)):
        conn.execute("pragma incremental_vacuum(1)")  # the module steps it once only, which is one page
    return range(free - _number(conn, "freelist_count"))


def _number(conn: sqlite3.Connection, pragma: str) -> int:
    return int(conn.execute(f"pragma {pragma}").fetchone()[0])


COUNTED: dict[Step, str] = {
    expire_keys: "idempotency keys",
    pack_events: "turns packed",
    expire_sessions: "sessions",
    expire_tasks: "tasks",
}
"""What the core does, in this order, and what it counts; plugins' steps follow, and at the end the file shrinks."""


async def keep(engine: "Engine", scope: anyio.CancelScope) -> None:
    """Does what is due, a little at a time, until the scope is cancelled."""
    with scope:
        while True:
            await anyio.sleep(PAUSE)
            try:
                await tidy(engine)
            except StorageError as error:
                log.warning("nothing is cleared away for now: %s", error)
            except Exception:
                log.exception("clearing away failed; the next time is in %g s", PAUSE)


async def tidy(engine: "Engine") -> None:
    """Does what is due once, and rests longer than it works; what fails is logged and tried again the next time."""
    for owner, step in engine.retention:
        try:
            await _done(engine, step)
        except StorageError:
            raise
        except Exception:
            log.exception("%s of %s failed", getattr(step, "__name__", "a step of retention"), owner)
    if await _done(engine, shrink):
        await engine.db.checkpoint()


async def _done(engine: "Engine", step: Step) -> bool:
    """Repeats a step until there is no more to do; whether there was any."""
    worked = False
    while True:
        begun = time.monotonic()
        if not (done := await engine.db.write(step)):
            return worked
        worked = True
        if step is expire_sessions:
            for session_id in done:
                engine.journal.forget(str(session_id))
        await anyio.sleep(REST * (time.monotonic() - begun))


class Swept(NamedTuple):
    """How much was cleared away of what, and the size of the database in bytes before and after."""

    counts: dict[str, int]
    before: int
    after: int


def sweep(conn: sqlite3.Connection, steps: Iterable[tuple[str, Step]]) -> Swept:
    """Does all that is due, on a connection of its own, and leaves gaps for an engine that runs on the same file."""
    before, counts = _size(conn), dict.fromkeys(COUNTED.values(), 0)
    for owner, step in steps:
        name = COUNTED.get(step, f"rows of {owner}")
        counts[name] = counts.get(name, 0) + sum(_all(conn, step))
    sum(_all(conn, lambda conn: shrink(conn, 0)))
    conn.execute("pragma wal_checkpoint(truncate)").fetchall()
    return Swept(counts, before, _size(conn))


def _all(conn: sqlite3.Connection, step: Step) -> Iterator[int]:
    done: Sequence[object] = "first"
    while done:
        conn.execute("begin immediate")
        try:
            done = step(conn)
            conn.execute("commit")
        except BaseException:
            if conn.in_transaction:
                conn.execute("rollback")
            raise
        yield len(done)
        time.sleep(0.001)


def _size(conn: sqlite3.Connection) -> int:
    return _number(conn, "page_count") * _number(conn, "page_size")
