"""A turn's events without what an answer took back, so that a page that comes later never shows it."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from bytebrew import KEEP_ALIVE, FaceTurn, MessageDelta, MessageRestarted, Thinking, ToolFinished, TurnEvent

from .projection import UIMessageStream


async def stored_events(turn: FaceTurn) -> list[TurnEvent]:
    """The events of a turn that are stored now."""
    return [one async for batch in turn.events(live=False) for one in batch]


def settled(events: Iterable[TurnEvent]) -> list[TurnEvent]:
    """The events without the text and reasoning that a later `message_restart` among them makes clients drop."""
    kept: list[TurnEvent] = []
    for one in events:
        if isinstance(one.event, MessageRestarted):
            kept = _without(kept, len(one.event.content))
        else:
            kept.append(one)
    return kept


def _without(events: list[TurnEvent], length: int) -> list[TurnEvent]:
    """The events without text beyond this length, and without the reasoning since the last result of a tool."""
    size = sum(len(one.event.content) for one in events if isinstance(one.event, MessageDelta))
    kept: list[TurnEvent] = []
    in_step = True
    for one in reversed(events):
        event = one.event
        if isinstance(event, ToolFinished):
            in_step = False
        if isinstance(event, MessageDelta) and size > length:
            size -= len(event.content)
        elif not (isinstance(event, Thinking) and in_step):
            kept.append(one)
    return kept[::-1]


async def resumed(
    turn: FaceTurn, stored: Iterable[TurnEvent], projection: UIMessageStream
) -> AsyncGenerator[bytes, None]:
    """The frames of a turn that has these events stored, and of those that follow.

    The protocol cannot take text back. So the pieces of an answer that is not complete wait for the next event, which
    after a restart may be that the model says something else; 15 seconds at most.
    """
    events = settled(stored)
    through = max((one.number for one in stored), default=0)
    begins = len(events)
    while begins and isinstance(events[begins - 1].event, MessageDelta | Thinking):
        begins -= 1
    ready, pieces = events[:begins], events[begins:]
    if chunk := _frames(projection, ready):
        yield chunk
    if projection.ended:
        return
    async with aclosing(turn.events()) as batches:
        async for batch in batches:
            new = [one for one in batch if one.number == 0 or one.number > through]
            if new and isinstance(new[0].event, MessageRestarted):
                pieces = []
            elif batch and not new:
                continue
            chunk = _frames(projection, [*pieces, *new])
            pieces = []
            if chunk or not batch:
                yield chunk or KEEP_ALIVE
            if projection.ended:
                return


def _frames(projection: UIMessageStream, events: Iterable[TurnEvent]) -> bytes:
    made: list[bytes] = []
    for one in events:
        made.append(projection.frames(one))
        if projection.ended:
            break
    return b"".join(made)
