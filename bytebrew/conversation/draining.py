"""Brings what runs to an end, or to a record, before the engine stops."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from bytebrew.conversation.runner import Lane
    from bytebrew.conversation.turn import Turn


async def drain(turns: "Mapping[str, Turn]", lanes: "Mapping[str, Lane]", seconds: float) -> None:
    """Lets the turns that run come to an end, and stops the rest, to go on at the next start.

    Those that wait for a person are stopped at once.
    """
    for turn in list(turns.values()):
        if turn.holds:
            turn.cancel("stopped")
    with anyio.move_on_after(seconds):
        for lane in list(lanes.values()):
            await asyncio.wait([lane.empty])
    for lane in list(lanes.values()):
        lane.current.cancel("stopped")
    for lane in list(lanes.values()):
        await asyncio.wait([lane.empty])
