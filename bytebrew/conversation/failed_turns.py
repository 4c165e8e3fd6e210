"""Ends turns that cannot be completed, as soon as the database accepts the write."""

import logging
import time
from collections.abc import Iterable

import anyio
from msgspec import UNSET
from msgspec.structs import replace

from bytebrew.base.errors import EngineError, NotFound, ProviderError, StorageError, TurnError
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import Done, ErrorEvent, Event
from bytebrew.contract.notifications import Subscriber
from bytebrew.conversation.turn import Notify, Turn, retry_after
from bytebrew.store import notifications, open_turns, turns
from bytebrew.store.database.database import Database
from bytebrew.store.journal import Journal, Log

log = logging.getLogger(__name__)

PAUSE = 0.5
"""Seconds between two attempts, because a database rarely recovers at once."""


def internal_error(turn_id: str) -> TurnError:
    """The error for a turn that failed because of an internal error."""
    return TurnError(f"The engine failed; its log has the trace of {turn_id}", code="internal_error")


def error_event(session_id: str, turn_id: str, error: EngineError) -> ErrorEvent:
    """The last event of a failed turn."""
    wait = retry_after(error)
    return ErrorEvent(
        session_id=session_id,
        turn_id=turn_id,
        code=error.code,
        message=error.message,
        retry_after=UNSET if wait is None else wait,
    )


def logged(turn: Turn, error: EngineError) -> ErrorEvent:
    """The last event of a failed turn, and a log line without the vendor's message, which may quote a chat."""
    tries = f", tries {error.tries}" if isinstance(error, ProviderError) else ""
    seconds = time.monotonic() - turn.started_at
    log.warning(
        "turn %s of session %s failed after %.1f s: %s (agent %s, model %s%s)",
        *(turn.id, turn.session_id, seconds, error.code, turn.agent.name, turn.model.name, tries),
    )
    return error_event(turn.session_id, turn.id, error)


async def end_children(db: Database, others: Iterable[Turn], turn: Turn, end: Event) -> Event:
    """Ends the spawned turns that a resumed turn did not wait for; returns its last event with the usage of all."""
    children = [child for child in others if child.parent is turn]
    for child in children:
        child.cancel(turn.cancelled_for or "cancelled")
    for child in children:
        await child.wait_recorded()
    turn.usage = await db.read(open_turns.spent, turn.id)
    # includes its last step, which is not stored yet
    for spent in turn.unsaved.spent:
        turn.add(spent.usage)
    return replace(end, usage=turn.usage) if isinstance(end, Done) else end


async def end_later(
    db: Database, journal: Journal, notify: Notify, publish: Subscriber, turn: Turn, error: EngineError
) -> None:
    """Retries to store the end of a turn until it succeeds; a stopping engine leaves it to recovery."""
    turn.status, turn.last, turn.failure, turn.storage_error = "failed", None, error, error
    await journal.close(turn.log, error)
    await anyio.sleep(PAUSE)
    broken, ended = turn.log, await fail(db, journal, publish, turn.session_id, turn.id, error, turn.unsaved)
    if ended is not None:
        turn.log, turn.last = ended
        broken.notify()
        await notify("turn_finished", turn=turn)


async def fail(
    db: Database,
    journal: Journal,
    publish: Subscriber,
    session_id: str,
    turn_id: str,
    error: EngineError,
    unsaved: turns.Unsaved | None = None,
) -> tuple[Log, int] | None:
    """Repeats `fail_now` until the database accepts it; None if the turn is not open, or the engine stops."""
    while not journal.closing:
        try:
            status = await db.read(turns.status, turn_id)
            if status in ("queued", "running"):
                return await fail_now(journal, publish, session_id, turn_id, error, unsaved)
            if status is None and unsaved is not None:
                await db.write(turns.spend, unsaved, turn_id)
            return None
        except NotFound:  # its session was deleted during the attempt: the usage is still recorded
            continue
        except StorageError:
            await anyio.sleep(PAUSE)
    return None


async def fail_now(
    journal: Journal,
    publish: Subscriber,
    session_id: str,
    turn_id: str,
    error: EngineError,
    unsaved: turns.Unsaved | None = None,
) -> tuple[Log, int]:
    """Stores an error as the end of a turn; returns the session's log and the number of the event."""
    entries = await journal.log(session_id)
    last = journal.append(entries, error_event(session_id, turn_id, error))

    def close(conn: Connection) -> None:
        open_turns.close(conn, turn_id, last, error.status, error.code, unsaved)
        publish(conn, notifications.turn_failed(conn, turn_id, error))

    await journal.write(entries, close)
    log.warning("turn %s of session %s failed: %s", turn_id, session_id, error.code)
    return entries, last
