"""Turns that wait for others of their session: how many may, who goes first, and how little is kept of them.

Their messages are in the file, and are read when their turn comes.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from bytebrew.base.errors import Conflict, Overloaded, QueueFull
from bytebrew.contract.auth import account
from bytebrew.contract.events import Queued
from bytebrew.store import confirmations, sessions, turns
from bytebrew.store.confirmations import Confirmation
from bytebrew.store.journal import HEARTBEAT_SECONDS, PING, Stretch

if TYPE_CHECKING:
    from bytebrew.conversation.runner import Lane
    from bytebrew.conversation.turn import Turn
    from bytebrew.engine import Engine
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bytebrew.conversation.runner import Lane
    from bytebrew.conversation.turn import Turn
    from bytebrew.engine import Engine

SHARE = 4
"""One caller's messages, or those of all visitors of a page, may take this part of the bytes for all that wait."""
OnBusy = Literal["queue", "interrupt", "reject"]


def make_way(lane: "Lane", turn: "Turn", on_busy: OnBusy) -> "list[Turn]":
    """Takes a turn into a lane; the turns that it interrupts once it is admitted.

    Raises Conflict where a busy session was not wanted.
    """
    sessions.check_owner(turn.new.actor, lane.owner, turn.session_id)
    if lane.current.unrecordable is not None:
        raise lane.current.unrecordable
    if on_busy == "reject" and (lane.waiting or lane.current.last is None):
        raise Conflict("The session is busy with another message; wait for it or use on_busy", code="session_busy")
    if on_busy != "interrupt":
        lane.waiting.append(turn)
        return []
    turn.urgent = True
    before = [one for one in lane.waiting if one.urgent]
    lane.waiting.insert(len(before), turn)
    return [lane.current, *before]


def check_room(engine: "Engine", lane: "Lane", turn: "Turn") -> None:
    """Raises QueueFull where the session or the caller has as much waiting as it may, Overloaded where all have."""
    core, size = engine.settings.core, turns.size(turn.new)
    if len(lane.waiting) >= core.queued_per_session:
        words = f"Session '{turn.session_id}' has {len(lane.waiting)} messages that wait, its most"
        raise QueueFull(f"{words}; wait for their answers, or raise BYTEBREW_QUEUED_PER_SESSION")
    waiting = [one for one in engine.runner.turns.values() if one.status == "queued"]
    own = [one for one in waiting if one.subject == turn.subject]
    if len(own) >= core.queued_per_caller:
        words = f"{len(own)} messages of this caller wait, its most"
        raise QueueFull(f"{words}; wait for their answers, or raise BYTEBREW_QUEUED_PER_CALLER")
    page = account(turn.subject)  # whoever reads a page's token can be any number of visitors
    shared = sum(one.size for one in waiting if account(one.subject) == page)
    if shared + size > core.queued_bytes // SHARE:
        words = f"The messages of this caller that wait take {core.queued_bytes // SHARE} bytes, its most"
        raise QueueFull(f"{words}; wait for their answers, or raise BYTEBREW_QUEUED_BYTES")
    if sum(one.size for one in waiting) + size > core.queued_bytes:
        words = f"The messages that wait take {core.queued_bytes} bytes, the most for all callers"
        raise Overloaded(f"{words}; try again in a moment, or raise BYTEBREW_QUEUED_BYTES")


def leave_to_the_file(turn: "Turn") -> None:
    """Keeps no more of what a turn is to answer than how long it is."""
    turn.new = replace(turn.new, message="", attachments=())


class Place(NamedTuple):
    """How many turns of its session come before a turn, and the questions for which the first of them waits."""

    position: int
    questions: list[Confirmation]


async def place(engine: "Engine", turn: "Turn") -> Place:
    """Where a turn stands now."""
    lane = engine.runner.lanes.get(turn.session_id)
    position = _position(lane, turn)
    if lane is None or not lane.current.holds:
        return Place(position, [])
    return Place(position, await engine.db.read(confirmations.of_session, turn.root.session_id))


def _position(lane: "Lane | None", turn: "Turn") -> int:
    return lane.waiting.index(turn) + 1 if lane is not None and turn in lane.waiting else 0


async def ended(engine: "Engine", turn: "Turn") -> Place | None:
    """Returns once a turn has ended, or has to wait until a person has answered; raises StorageError as `Turn.end`."""
    await asyncio.wait([turn.admitted])
    while not turn.recorded:
        if turn.unrecordable is not None:
            raise turn.unrecordable
        before = turn.log.committed
        found = await place(engine, turn)
        if found.questions:
            return found
        if not turn.recorded and turn.log.committed == before:  # it may have gone on while the file was read
            await turn.log.changed()
    return None


async def frames(engine: "Engine", turn: "Turn", stretch: Stretch) -> AsyncGenerator[bytes, None]:
    """A turn's events, and before them its place in the queue whenever that changes, without ids: no journal has it."""
    last = b""
    while turn.first is None and not turn.recorded and not engine.runner.draining:
        lane = engine.runner.lanes.get(turn.session_id)
        if lane is None or not (position := _position(lane, turn)):
            break
        needs_input = lane.current.holds > 0
        ids = {"session_id": turn.session_id, "turn_id": turn.id}
        event = Queued(**ids, position=position, needs_input=needs_input)
        frame = b"event: %s\ndata: %s\n\n" % (event.name.encode(), msgspec.json.encode(event))
        if frame != last:
            last = frame
            yield frame
        elif not await turn.log.changed(HEARTBEAT_SECONDS):
            yield PING
    async with aclosing(engine.journal.follow(turn.log, stretch)) as events:
        async for chunk in events:
            yield chunk
