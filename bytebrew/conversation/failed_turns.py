"""Ends turns that cannot go on, as soon as the file takes their end."""

import logging
import math
import time
from typing import TYPE_CHECKING

import anyio
from msgspec import UNSET
from msgspec.structs import replace

from bytebrew.base.errors import EngineError, NotFound, ProviderError, StorageError, TurnError
from bytebrew.contract.events import Done, ErrorEvent, Event
from bytebrew.store import open_turns, turns
from bytebrew.store.journal import Journal, Log

if TYPE_CHECKING:
    from bytebrew.conversation.turn import Turn
    from bytebrew.engine import Engine

log = logging.getLogger(__name__)

PAUSE = 0.5
"""Seconds between two attempts: what has just failed will hardly do better at once."""
_LONGEST_WAIT = 1e9


def internal(turn_id: str) -> TurnError:
    """The error of a turn at which the engine itself failed."""
    return TurnError(f"The engine failed; its log has the trace of {turn_id}", code="internal_error")


def last_event(session_id: str, turn_id: str, error: EngineError) -> ErrorEvent:
    """The end of a turn that has failed."""
    wait = retry_after(error)
    return ErrorEvent(
        session_id=session_id,
        turn_id=turn_id,
        code=error.code,
        message=error.message,
        retry_after=UNSET if wait is None else wait,
    )


def retry_after(error: EngineError) -> int | None:
    """The whole seconds after which it may go better, where the vendor or the engine knows them."""
    if isinstance(error, ProviderError):
        wait = error.retry_after
        return None if wait is None or not wait < _LONGEST_WAIT else math.ceil(wait)
    return int(error.headers["Retry-After"]) if "Retry-After" in error.headers else None


def logged(turn: "Turn", error: EngineError) -> ErrorEvent:
    """The last event of a turn that has failed, with a line in the log: without the vendor's words, which may quote."""
    tries = f", tries {error.tries}" if isinstance(error, ProviderError) else ""
    seconds = time.monotonic() - turn.began
    log.warning(
        "turn %s of session %s failed after %.1f s: %s (agent %s, model %s%s)",
        *(turn.id, turn.session_id, seconds, error.code, turn.agent.name, turn.model.name, tries),
    )
    return last_event(turn.session_id, turn.id, error)


async def settle_below(engine: "Engine", turn: "Turn", end: Event) -> Event:
    """Ends the spawned turns that a resumed turn did not come to wait for; its own end, with what all of them cost."""
    below = [one for one in engine.runner.turns.values() if one.parent is turn]
    for one in below:
        one.cancel(turn.cancelled_for or "cancelled")
    for one in below:
        await one.end()
    turn.usage = await engine.db.read(open_turns.spent, turn.id)
    for spent in turn.unsaved.spent:
        turn.add(spent.usage)
    return replace(end, usage=turn.usage) if isinstance(end, Done) else end


async def end_later(engine: "Engine", turn: "Turn", error: EngineError) -> None:
    """Ends a turn that the file did not take, as soon as it does; a stopping engine leaves it to the next start."""
    turn.status, turn.last, turn.failure, turn.unrecordable = "failed", None, error, error
    await engine.journal.close(turn.log, error)
    await anyio.sleep(PAUSE)
    broken, ended = turn.log, await closed(engine, turn.session_id, turn.id, error, turn.unsaved)
    if ended is not None:
        turn.log, turn.last = ended
        broken.notify()
        await engine.notify("turn_finished", turn=turn)


async def closed(
    engine: "Engine", session_id: str, turn_id: str, error: EngineError, unsaved: turns.Unsaved | None = None
) -> tuple[Log, int] | None:
    """`give_up` as soon as the file takes it; None where the turn is not open, or it is left to the next start."""
    while not engine.runner.draining:
        try:
            status = await engine.db.read(turns.status, turn_id)
            if status in ("queued", "running"):
                return await give_up(engine.journal, session_id, turn_id, error, unsaved)
            if status is None and unsaved is not None:
                await engine.db.write(turns.spend, unsaved, turn_id)
            return None
        except NotFound:  # its session has just been deleted: what was paid counts all the same
            continue
        except StorageError:
            await anyio.sleep(PAUSE)
    return None


async def give_up(
    journal: Journal, session_id: str, turn_id: str, error: EngineError, unsaved: turns.Unsaved | None = None
) -> tuple[Log, int]:
    """Ends a turn that cannot go on with an error; the number of that event, and its log."""
    entries = await journal.log(session_id)
    last = journal.append(entries, last_event(session_id, turn_id, error))
    await journal.write(entries, open_turns.close, turn_id, last, error.status, unsaved)
    log.warning("turn %s of session %s failed: %s", turn_id, session_id, error.code)
    return entries, last
