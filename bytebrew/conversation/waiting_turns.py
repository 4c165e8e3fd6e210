"""Turns that wait for others of their session: their limits, their order, and the events that clients get meanwhile."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, MutableSequence, Sequence
from contextlib import aclosing
from typing import NamedTuple, Protocol

import anyio
import msgspec
from msgspec.structs import replace

from bytebrew.base.errors import Conflict, Overloaded, QueueFull
from bytebrew.base.settings import Core
from bytebrew.contract import messages
from bytebrew.contract.auth import account
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import Queued, Steer, Steered
from bytebrew.conversation.remote.remote_turns import RemoteTurn, Removed
from bytebrew.conversation.turn import Lane, OnBusy, Turn
from bytebrew.nodes import session_requests
from bytebrew.store import confirmations, sessions, turns
from bytebrew.store.confirmations import Confirmation
from bytebrew.store.database.database import Database
from bytebrew.store.journal import PING, EventRange, Journal
from bytebrew.store.queries import waiting_messages

SHARE = 4
"""Fraction of BYTEBREW_QUEUED_BYTES for the waiting messages of one caller, or of all visitors of a page."""
Lanes = Mapping[str, Lane]
Recording = Callable[[Connection], None]
"""Records a request, in the transaction of what it does."""


def enter(lane: Lane, turn: Turn, on_busy: OnBusy) -> list[Turn]:
    """Queues a turn; returns the turns to interrupt once it is admitted. Conflict if `on_busy` is "reject"."""
    if turn.new.parent is None:
        sessions.check_owner(turn.new.actor, lane.owner, turn.session_id)
    if lane.current.storage_error is not None:
        raise lane.current.storage_error
    if on_busy == "reject" and (lane.waiting or lane.current.last is None):
        raise busy()
    return insert(lane, turn, on_busy)


def busy() -> Conflict:
    """The refusal of a message that may not wait."""
    return Conflict("The session is busy with another message; wait for it or use on_busy", code="session_busy")


def insert(lane: Lane, turn: Turn, on_busy: OnBusy) -> list[Turn]:
    """Puts a turn at its place in the queue; returns the turns to interrupt once it is admitted."""
    urgent = [waiting for waiting in lane.waiting if waiting.urgent]
    if on_busy == "interrupt":
        turn.urgent = True
        lane.waiting.insert(len(urgent), turn)
        return [lane.current, *urgent]
    if on_busy == "steer":
        turn.steering = True
        lane.waiting.insert(len(urgent) + sum(waiting.steering for waiting in lane.waiting), turn)
        if lane.current.may_be_steered and lane.current.subject == turn.subject:  # its credentials and headers stay
            turn.new = replace(turn.new, steers=lane.current.id)
    else:
        lane.waiting.append(turn)
    return []


async def steer(journal: Journal, current: Turn, turn: Turn) -> None:
    """Puts a stored message before the running turn, which absorbs it at its next boundary, with an event at once."""
    if not turn.steers_stored:
        turn.steers_stored = await journal.write(current.log, turns.steer, turn.id, current.id)
        if not (turn.steers_stored and current.may_be_steered):  # it was removed, or comes too late
            return
    current.steers.append(turn)
    if turn.steer_event is None:
        turn.steer_event = current.append(Steer(turn_id=turn.id, message=turn.message))
        await journal.write(current.log, turns.announced, turn.id, turn.steer_event)


async def absorb(turn: Turn) -> list[messages.Message]:
    """The messages that steer a turn, which leave the queue and join its history in one transaction."""
    steers, turn.steers = turn.steers, []
    for one in steers:
        turn.append(Steered(turn_id=one.id))
    found = await turn.record(_absorb, turn, [one.id for one in steers])
    for one in steers:
        turn.lane.waiting.remove(one)
        one.first, one.status, one.absorbed_by = one.steer_event, "running", turn
    turn.absorbed += steers
    turn.log.notify()
    return found


def _absorb(conn: Connection, unsaved: turns.Unsaved, turn: Turn, steers: list[str]) -> list[messages.Message]:
    session_requests.entered(conn, steers)
    return turns.absorb(conn, unsaved, turn.id, turn.session_id, steers)


async def remove(db: Database, waiting: MutableSequence[Turn], turn: Turn, record: Recording) -> None:
    """Removes a message that waits, as if it had not been sent; Conflict once a turn has it."""
    await asyncio.wait([turn.admitted])
    if turn not in waiting or turn.steer_event is not None:
        raise Conflict("The message does not wait any more: a turn has it", code="message_taken")

    def delete(conn: Connection) -> None:
        waiting_messages.remove(conn, turn.id)
        session_requests.entered(conn, [turn.id])
        record(conn)

    at = waiting.index(turn)
    del waiting[at]  # it must not begin meanwhile
    try:
        with anyio.CancelScope(shield=True):
            await db.write(delete)
    except BaseException:
        waiting.insert(at, turn)
        raise
    removed(turn)


def removed(turn: Turn) -> None:
    """Ends the turn of a message that was removed from the queue."""
    turn.failure = Removed()
    turn.status, turn.recorded = "cancelled", True
    turn.log.notify()


class Message(Protocol):
    """A message that waits: who sent it, and its size in bytes."""

    @property
    def subject(self) -> str:
        """Who sent it."""

    @property
    def size(self) -> int:
        """Its size in bytes."""


def check_room(core: Core, in_session: int, waiting: Sequence[Message], new: turns.NewTurn) -> None:
    """Raises QueueFull for a full queue of the session or the caller, Overloaded for that of all callers."""
    size, subject = turns.size(new), new.actor.subject
    if in_session >= core.queued_per_session:
        limit = f"Session '{new.session_id}' has {in_session} messages that wait, its most"
        raise QueueFull(f"{limit}; wait for their answers, or raise BYTEBREW_QUEUED_PER_SESSION")
    own = [other for other in waiting if other.subject == subject]
    if len(own) >= core.queued_per_caller:
        limit = f"{len(own)} messages of this caller wait, its most"
        raise QueueFull(f"{limit}; wait for their answers, or raise BYTEBREW_QUEUED_PER_CALLER")
    page = account(subject)  # one person with a page's token can appear as any number of visitors
    shared = sum(other.size for other in waiting if account(other.subject) == page)
    if shared + size > core.queued_bytes // SHARE:
        limit = f"The messages of this caller that wait take {core.queued_bytes // SHARE} bytes, its most"
        raise QueueFull(f"{limit}; wait for their answers, or raise BYTEBREW_QUEUED_BYTES")
    if sum(other.size for other in waiting) + size > core.queued_bytes:
        limit = f"The messages that wait take {core.queued_bytes} bytes, the most for all callers"
        raise Overloaded(f"{limit}; try again in a moment, or raise BYTEBREW_QUEUED_BYTES")


def drop_message(turn: Turn) -> None:
    """Frees the memory of a stored message; `turns.start` reads it when the turn runs."""
    turn.new = replace(turn.new, message="", attachments=())


class Place(NamedTuple):
    """The number of turns of its session before a turn, and the questions that block the first of them."""

    position: int
    questions: list[Confirmation]


async def place(db: Database, lanes: Lanes, turn: Turn | RemoteTurn) -> Place:
    """The turn's current place."""
    if isinstance(turn, RemoteTurn):
        if turn.position:  # behind others, whose questions these are
            return Place(turn.position, await db.read(confirmations.of_session, turn.session_id))
        return Place(0, await db.read(confirmations.of_turn, turn.absorbed_by or turn.id))
    lane = lanes.get(turn.session_id)
    position = lane.position(turn) if lane is not None else 0
    if lane is None or not lane.current.holds:
        return Place(position, [])
    return Place(position, await db.read(confirmations.of_session, turn.root.session_id))


async def wait_ended(db: Database, lanes: Lanes, turn: Turn | RemoteTurn) -> Place | None:
    """Waits until a turn has ended, or waits for a person: then returns its place. Raises the turn's StorageError."""
    if isinstance(turn, Turn):
        await asyncio.wait([turn.admitted])
    while not turn.recorded:
        if turn.storage_error is not None:
            raise turn.storage_error
        before = turn.log.committed
        now = await place(db, lanes, turn)
        if now.questions:
            return now
        if not turn.recorded and turn.log.committed == before:  # otherwise it made progress during the read
            await turn.log.changed()
    return None


async def frames(
    journal: Journal, lanes: Lanes, turn: Turn | RemoteTurn, event_range: EventRange
) -> AsyncGenerator[bytes, None]:
    """The frames of a turn's events, preceded by its place in the queue each time that it changes.

    A frame with the place has no id: it is not an event of the journal.
    """
    last = b""
    while turn.first is None and not turn.recorded and not journal.closing:
        if not (frame := _place_frame(lanes, turn)):
            break
        if frame != last:  # followers also wake for other reasons
            last = frame
            yield frame
        elif not await turn.log.changed():
            yield PING
    if turn.first is None and turn.failure is not None:  # it was removed
        raise turn.failure
    async with aclosing(journal.follow(turn.log, event_range)) as events:
        async for chunk in events:
            yield chunk
    if isinstance(turn.failure, Removed):  # another node has, as its turn was about to begin
        raise turn.failure


def _place_frame(lanes: Lanes, turn: Turn | RemoteTurn) -> bytes:
    """The frame with the place of a turn that waits; empty for one that does not."""
    position, needs_input = 0, False
    if isinstance(turn, RemoteTurn):
        position, needs_input = turn.position, turn.needs_input
    elif lane := lanes.get(turn.session_id):
        position, needs_input = lane.position(turn), lane.current.holds > 0
    if not position:
        return b""
    ids = {"session_id": turn.session_id, "turn_id": turn.id}
    event = Queued(**ids, position=position, needs_input=needs_input)
    return b"event: %s\ndata: %s\n\n" % (event.name.encode(), msgspec.json.encode(event))
