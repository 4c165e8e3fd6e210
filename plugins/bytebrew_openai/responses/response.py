"""The response object, its ids, and what is stored with the turn that it is a part of."""

import re
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

from bytebrew import FaceTurn, NotFound, Usage, parse_time

_ID = re.compile(r"resp_([0-9a-f]{24})(?:_([0-9]{1,18}))?")
_ITEM = re.compile(r"[a-z]{2,8}_([0-9a-f]{24})_([0-9]{1,18})")


class Kept(Struct, frozen=True, kw_only=True):
    """What is stored with a turn: fields of the request that each response repeats, and its input items.

    `begins` is set if its session began with it. `deleted` are ids of its responses that were deleted.
    """

    face: Literal["openai_responses"] = "openai_responses"
    repeated: dict[str, Any]
    input: list[dict[str, Any]]
    begins: bool = False
    deleted: tuple[str, ...] = ()


class ResponseId(NamedTuple):
    """The id of a response: its turn, and the number of the event behind which its part of the turn begins.

    A turn that waits for its client ends one response; the next one goes on behind that event. The first has 0.
    """

    turn_id: str
    start: int = 0

    def __str__(self) -> str:
        digits = self.turn_id.removeprefix("turn_")
        return f"resp_{digits}_{self.start}" if self.start else f"resp_{digits}"

    def item(self, prefix: str, number: int) -> str:
        """The id of the item that begins with an event of the turn."""
        return f"{prefix}_{self.turn_id.removeprefix('turn_')}_{number}"


def read_id(text: str) -> ResponseId:
    """NotFound for a text that is the id of no response."""
    if (found := _ID.fullmatch(text)) is None:
        raise NotFound(f"Response with id '{text[:255]}' not found.")
    return ResponseId(f"turn_{found[1]}", int(found[2] or 0))


def turn_of_item(item_id: str) -> str | None:
    """The id of the turn that an item is of; None if the id is of no item of ours."""
    found = _ITEM.fullmatch(item_id)
    return f"turn_{found[1]}" if found else None


def kept_of(turn: FaceTurn) -> Kept:
    """What is stored with a turn; NotFound for one that another protocol began."""
    try:
        return msgspec.convert(turn.kept, Kept)
    except msgspec.ValidationError as error:
        raise NotFound("This turn is no response") from error


def response_object(
    turn: FaceTurn,
    kept: Kept,
    response_id: ResponseId,
    status: str,
    output: list[dict[str, Any]],
    *,
    usage: Usage | None = None,
    error: dict[str, Any] | None = None,
    incomplete: str | None = None,
    previous: ResponseId | None = None,
) -> dict[str, Any]:
    """A response; `previous` is that of the same turn, if it is not the turn's first.

    The time of its end is not shown, for no event has it.
    """
    return {
        "id": str(response_id),
        "object": "response",
        "created_at": int(parse_time(turn.created_at).timestamp()),
        "completed_at": None,
        "status": status,
        "error": error,
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "model": turn.schema,
        "output": output,
        "usage": usage and _tokens(usage),
        **kept.repeated,
        **({"previous_response_id": str(previous)} if previous else {}),
    }


def _tokens(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.thinking_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
