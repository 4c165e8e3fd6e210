"""The routes of OpenAI's Responses."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from bytebrew import (
    CONVERSATIONS,
    Conflict,
    Conversations,
    EngineError,
    Face,
    FaceTurn,
    Parameter,
    Queued,
    Request,
    Route,
    Stream,
    project,
)

from ..errors import error_object, refusal
from . import new_responses, stored_responses
from .projection import ResponseProjection
from .request import NewResponse, invalid
from .response import ResponseId, kept_of
from .stored_responses import folded, status_of


def _ending(error: EngineError) -> bytes:
    """The event `error`, with its fields where OpenAI has them and where Open Responses does.

    It is of this stream alone, so it has no number of its own: the turn may go on, and `starting_after` finds the rest.
    """
    about = error_object(error)
    body = {"type": "error", "sequence_number": 0, **about, "error": about} | {"type": "error"}
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode(body)


FACE = Face(name="OpenAI Responses", refusal=refusal, ending=_ending)
_TYPES: Mapping[str, Any] = {
    "stream": bool,
    "starting_after": int,
    "limit": Annotated[int, Meta(ge=1, le=100)],
    "order": Literal["asc", "desc"],
}
"""Types of parameters in query strings."""
_INCLUDE = {
    "include": "accepted, and changes nothing",
    "include[<n>]": "accepted, and changes nothing",
}


async def create(request: Request[NewResponse]) -> Any:
    """Begins a response, or goes on with the turn that waits for what the input answers."""
    chats = request.engine.state[CONVERSATIONS]
    streams, background = request.body.stream, request.body.background
    turn, response_id = await new_responses.begin(chats, request)
    if streams:
        return _stream(turn, response_id)
    made = await folded(turn, response_id)
    if not background and not made.ended:
        made = await _awaited(chats, request, turn, response_id)
    return status_of(turn, made)


def _stream(turn: FaceTurn, response_id: ResponseId, after: int = -1) -> Stream:
    headers = {"x-session-id": turn.session_id, "x-turn-id": turn.id}
    return Stream(frames=_frames(turn, ResponseProjection(turn, response_id, after)), headers=headers)


async def _frames(turn: FaceTurn, projection: ResponseProjection) -> AsyncGenerator[bytes, None]:
    if first := projection.begin():
        yield first
    async with aclosing(project(turn, projection)) as frames:
        async for chunk in frames:
            yield chunk


async def _awaited(
    chats: Conversations, request: Request[Any], turn: FaceTurn, response_id: ResponseId
) -> ResponseProjection:
    """A response that has ended, or waits for somebody who is not its client: it may be asked for again."""
    made = ResponseProjection(turn, response_id, after=1 << 62)
    async with aclosing(turn.events()) as batches:
        async for batch in batches:
            for one in batch:
                made.frames(one)
                if made.ended or (isinstance(one.event, Queued) and one.event.needs_input):
                    return made
            if made.waits and await chats.open_calls(request, turn.session_id):
                return made
    return made


async def retrieve(request: Request[None]) -> Any:
    """A response as it is now, or its stream behind an event."""
    chats = request.engine.state[CONVERSATIONS]
    turn, response_id = await stored_responses.get(chats, request, request.path["id"])
    after = _query(request, "starting_after", -1)
    if _query(request, "stream", False):
        if response_id.start:
            await folded(turn, response_id)
        return _stream(turn, response_id, after)
    return status_of(turn, await folded(turn, response_id))


def _query(request: Request[None], name: str, usual: Any) -> Any:
    """A parameter of the query string; InvalidRequest if it is not of its type."""
    if (text := request.query.get(name)) is None:
        return usual
    for spelling in (msgspec.json.encode(text), text.encode()):
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(spelling, type=_TYPES[name])
    raise invalid(f"$.{name}", f"'{text[:40]}' cannot be read")


async def cancel(request: Request[None]) -> Any:
    """Cancels the turn of a response; one that has ended stays as it is."""
    chats = request.engine.state[CONVERSATIONS]
    turn, response_id = await stored_responses.get(chats, request, request.path["id"])
    if turn.status == "queued":
        raise Conflict("The response waits behind another one of its session; cancel that first")
    if turn.status == "running":
        await chats.cancel(request, turn.session_id)
        turn = await chats.turn(request, turn.id)
    return status_of(turn, await folded(turn, response_id))


async def delete(request: Request[None]) -> Any:
    """Deletes a response; one that runs is cancelled first."""
    chats = request.engine.state[CONVERSATIONS]
    turn, response_id = await stored_responses.get(chats, request, request.path["id"])
    if turn.status in ("queued", "running"):
        await cancel(request)
    await stored_responses.delete(chats, request, turn, response_id)
    return {"id": str(response_id), "object": "response", "deleted": True}


async def input_items(request: Request[None]) -> Any:
    """A page of the input items of a response, newest first unless `order` is asc."""
    chats = request.engine.state[CONVERSATIONS]
    turn, response_id = await stored_responses.get(chats, request, request.path["id"])
    items = await stored_responses.input_items(turn, response_id, kept_of(turn))
    order, limit, after = _query(request, "order", "desc"), _query(request, "limit", 20), request.query.get("after")
    if order != "asc":
        items = items[::-1]
    if after:
        at = next((n for n, one in enumerate(items) if one["id"] == after), None)
        if at is None:
            raise invalid("$.after", "the response has no such input item")
        items = items[at + 1 :]
    page = items[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(items) > len(page),
    }


ROUTES = (
    Route(
        "POST",
        "/v1/responses",
        "chat",
        create,
        "Create a response",
        body=NewResponse,
        answer=dict[str, Any],
        example={"model": "support", "input": "What laptops do you have under $1000?"},
        upload=True,
        idempotent=True,
        begins_turn=True,
        streams=True,
        also={404: None},
        face=FACE,
    ),
    Route(
        "GET",
        "/v1/responses/{id}",
        "chat",
        retrieve,
        "A response, or its stream from an event on",
        answer=dict[str, Any],
        query={
            "stream": Parameter("true for its stream events", _TYPES["stream"]),
            "starting_after": Parameter(
                "the sequence_number of the last event that the client has", _TYPES["starting_after"]
            ),
            "include_obfuscation": "accepted, and changes nothing",
            **_INCLUDE,
        },
        streams=True,
        face=FACE,
    ),
    Route("POST", "/v1/responses/{id}/cancel", "chat", cancel, "Cancel a response", answer=dict[str, Any], face=FACE),
    Route("DELETE", "/v1/responses/{id}", "chat", delete, "Delete a response", answer=dict[str, Any], face=FACE),
    Route(
        "GET",
        "/v1/responses/{id}/input_items",
        "chat",
        input_items,
        "The input items of a response",
        answer=dict[str, Any],
        query={
            "limit": Parameter("items of a page", _TYPES["limit"]),
            "order": Parameter("desc unless asc", _TYPES["order"]),
            "after": "the id of the item before the page",
            **_INCLUDE,
        },
        face=FACE,
    ),
)
