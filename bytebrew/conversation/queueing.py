"""What a client is shown of a turn that waits: behind others of its session, or for a person."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bytebrew.contract.events import Queued
from bytebrew.store import confirmations
from bytebrew.store.confirmations import Confirmation
from bytebrew.store.journal import HEARTBEAT_SECONDS, PING, Stretch

if TYPE_CHECKING:
    from bytebrew.conversation.runner import Lane
    from bytebrew.conversation.turn import Turn
    from bytebrew.engine import Engine


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
