"""Responses that are stored: found by their ids, folded from their turns, deleted."""

import sys
from contextlib import aclosing
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from bytebrew import Conversations, FaceTurn, NotFound, Request, ToolFinished, TurnEvent

from .projection import ResponseProjection
from .response import Kept, ResponseId, kept_of, read_id, turn_of_item


async def get(chats: Conversations, request: Request[Any], text: str) -> tuple[FaceTurn, ResponseId]:
    """The turn of a response of the caller; NotFound for one that was deleted or is not stored, too."""
    response_id = read_id(text)
    try:
        turn = await chats.turn(request, response_id.turn_id)
        kept = kept_of(turn)
    except NotFound as error:
        raise _missing(text) from error
    if not kept.repeated["store"] or str(response_id) in kept.deleted:
        raise _missing(text)
    return turn, response_id


def _missing(text: str) -> NotFound:
    return NotFound(f"Response with id '{text[:255]}' not found.")


async def folded(turn: FaceTurn, response_id: ResponseId) -> ResponseProjection:
    """A response as far as it is stored; NotFound if its turn has no such part."""
    made = ResponseProjection(turn, response_id, after=sys.maxsize)
    async with aclosing(turn.events(live=False)) as batches:
        async for batch in batches:
            for one in batch:
                made.frames(one)
                if made.ended:
                    return made
    made.begin()
    if not made.inside:
        raise _missing(str(response_id))
    return made


async def responses_of(turn: FaceTurn) -> list[ResponseProjection]:
    """All responses of a turn so far."""
    found = [ResponseProjection(turn, ResponseId(turn.id), after=sys.maxsize)]
    async with aclosing(turn.events(live=False)) as batches:
        async for batch in batches:
            for one in batch:
                found[-1].frames(one)
                if found[-1].behind:
                    found.append(found[-1].following())
    if len(found) > 1 and not found[-1].begun:
        found.pop()  # the turn waits still
    return found


def status_of(turn: FaceTurn, made: ResponseProjection) -> dict[str, Any]:
    """The response as it is now."""
    response = made.response()
    return response if made.ended else response | {"status": "queued" if turn.status == "queued" else "in_progress"}


async def delete(chats: Conversations, request: Request[Any], turn: FaceTurn, response_id: ResponseId) -> None:
    """Hides a response from all that asks for it; deletes its session if that has no other response.

    A turn of a longer session stays in it, for later turns go on from it.
    """
    kept = kept_of(turn)
    deleted = {*kept.deleted, str(response_id)}
    whole = kept.begins and turn.newest and len(deleted) == len(await responses_of(turn))
    if whole:
        await chats.delete(request, turn.session_id)
    else:
        await chats.keep(request, turn.id, to_builtins(replace(kept, deleted=tuple(sorted(deleted)))))


async def input_items(turn: FaceTurn, response_id: ResponseId, kept: Kept) -> list[dict[str, Any]]:
    """The input items of a response, oldest first; those of a later one in its turn are the results of client tools."""
    if not response_id.start:
        return kept.input
    made = await folded(turn, response_id)
    items = []
    async with aclosing(turn.events(live=False)) as batches:
        async for batch in batches:
            items += [_output(response_id, one) for one in batch if _answers(one, made.answered)]
    return items


def _answers(turn_event: TurnEvent, questions: frozenset[str]) -> bool:
    return isinstance(turn_event.event, ToolFinished) and turn_event.event.call_id in questions


def _output(response_id: ResponseId, turn_event: TurnEvent) -> dict[str, Any]:
    assert isinstance(turn_event.event, ToolFinished)
    return {
        "id": response_id.item("fco", turn_event.number),
        "type": "function_call_output",
        "status": "completed",
        "call_id": turn_event.event.call_id,
        "output": turn_event.event.output,
    }


async def with_references(
    chats: Conversations, request: Request[Any], items: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The items, with what each item_reference refers to in its place; NotFound if that is no item of the caller."""
    return [
        await _referred(chats, request, str(one.get("id"))) if one.get("type") == "item_reference" else one
        for one in items
    ]


async def _referred(chats: Conversations, request: Request[Any], item_id: str) -> dict[str, Any]:
    turn_id = turn_of_item(item_id)
    if turn_id is not None:
        turn = await chats.turn(request, turn_id)
        kept = kept_of(turn)
        for made in await responses_of(turn) if kept.repeated["store"] else ():
            response = made.response()
            for item in response["output"] if response["id"] not in kept.deleted else ():
                if item["id"] == item_id:
                    return dict(item)
    raise NotFound(f"Item with id '{item_id[:255]}' not found.")
