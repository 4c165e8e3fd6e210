"""A conversation that is too long for its model: what the vendor says of its window, and what is left out for it."""

import logging
import re
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from bytebrew.base.errors import ProviderError
from bytebrew.contract.events import ContextTrimmed
from bytebrew.contract.messages import Message
from bytebrew.store import messages, models

if TYPE_CHECKING:
    from bytebrew.conversation.turn import Turn

log = logging.getLogger(__name__)

MOST_TRIMS = 3
"""Times that a step is tried again with less."""
_LEAST_WINDOW, _MOST_WINDOW = 1000, 10**8
_WINDOW = re.compile(
    "|".join(
        (
            r"max(?:imum)? (?:context|prompt|input|model) length\D{0,12}(\d[\d,]*)",  # OpenAI, vLLM, DeepSeek, xAI
            r"(\d[\d,]*) maximum context length",  # Mistral
            r"tokens > (\d[\d,]*) maximum",  # Anthropic
            r"context limit: [\d,]+ \+ [\d,]+ > (\d[\d,]*)",  # Anthropic, with the answer's
            r"maximum number of tokens allowed \(?(\d[\d,]*)",  # Google
            r"context (?:size|window|length)\D{0,12}(\d[\d,]*)",  # llama.cpp, LM Studio
        )
    ),
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d[\d,]*")
_ELIDED = "[left out to fit the context: {} characters]"


class Told(NamedTuple):
    """The tokens that a vendor says a model takes, and those that it says were sent; None where it does not."""

    window: int | None
    sent: int | None


class Trimmed(NamedTuple):
    """The messages of earlier turns, with the user's new one, and of this turn's own, and how many were left out."""

    earlier: list[Message]
    own: list[Message]
    dropped: int


def read(words: str) -> Told:
    """What a vendor's refusal says in numbers."""
    if (found := _WINDOW.search(words)) is None:
        return Told(None, None)
    window = _number(next(filter(None, found.groups())))
    if not _LEAST_WINDOW <= window <= _MOST_WINDOW:
        return Told(None, None)
    larger = [number for number in map(_number, _NUMBER.findall(words)) if window < number <= 100 * window]
    return Told(window, max(larger, default=None))


async def trim(
    turn: "Turn", error: ProviderError, sent: list[Message], earlier: list[Message], own: list[Message]
) -> Trimmed:
    """What is sent in place of what was too long, of which clients are told; raises the error where nothing can go.

    What the vendor says of the window is remembered for the model, which may be a fallback of the turn's.
    """
    name, refusal = error.too_long or (turn.model.name, error)
    told, size = read(refusal.message), sum(map(messages.tokens, sent))
    factor = 0.5 if told.window is None else 0.9 * told.window / (told.sent or max(size, told.window))
    limit = int(size * min(factor, 0.75))
    trimmed = fitted(earlier, own, limit)
    if sum(map(messages.tokens, trimmed.earlier)) + sum(map(messages.tokens, trimmed.own)) >= size:
        raise error
    log.warning("model %s takes less than it was sent: %s", name, refusal)
    if told.window is not None and not turn.model.own_key:
        await turn.engine.db.write(models.remember_window, name, told.window)
    if told.window is not None and error.too_long is None:
        turn.model = replace(turn.model, window=told.window)
    turn.append(ContextTrimmed(reason="too_long", messages=trimmed.dropped, window=told.window))
    return trimmed


def fitted(earlier: list[Message], own: list[Message], limit: int) -> Trimmed:
    """The messages without the oldest turns, and with the ends of long tool results left out, until they fit."""
    *before, asked = earlier
    excess = sum(map(messages.tokens, [*earlier, *own])) - limit
    starts = [n for n, message in enumerate(before) if message.role == "user"][1:]
    dropped = 0
    for start in [*starts, len(before)]:
        if excess <= 0:
            break
        excess -= sum(map(messages.tokens, before[dropped:start]))
        dropped = start
    shorter = list(own)
    for n in sorted(range(len(own)), key=lambda n: -len(own[n].content)):
        if excess <= 0 or own[n].role != "tool":
            continue
        kept = max(200, len(own[n].content) - 4 * excess)
        if kept >= len(own[n].content):
            continue
        content = own[n].content[:kept] + "\n" + _ELIDED.format(len(own[n].content) - kept)
        shorter[n] = replace(own[n], content=content)
        excess -= messages.tokens(own[n]) - messages.tokens(shorter[n])
    return Trimmed([*before[dropped:], asked], shorter, dropped)


def _number(text: str) -> int:
    return int(text.replace(",", "") or 0)
