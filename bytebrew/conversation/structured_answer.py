"""Structured answers: checks a turn's final answer against its response format, and has the model repair it once."""

from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from bytebrew.base.errors import AnswerInvalid
from bytebrew.base.json_schema.schemas import compiled
from bytebrew.base.validation import depth
from bytebrew.contract.events import MessageRestarted
from bytebrew.contract.messages import Message, ResponseFormat
from bytebrew.conversation.turn import Turn
from bytebrew.store import turns
from bytebrew.store.messages import INVALID

MOST_LEVELS = 99
"""Nesting limit of an answer, as of a call's arguments."""
_REPAIR = "This answer is not valid. {}. Answer once more, with the corrected JSON alone."


class Reading(NamedTuple):
    """The value of an answer, and what is wrong with it: a path and a sentence, empty if it is valid."""

    value: Any
    fault: str


def read(format: ResponseFormat, text: str) -> Reading:
    """Parses an answer and checks it."""
    try:
        raw = text.encode()
        if depth(raw) > MOST_LEVELS:
            return Reading(None, f"$: it is nested deeper than {MOST_LEVELS} levels")
        value = msgspec.json.decode(raw)
        msgspec.json.encode(value)  # as the event has it
    except (msgspec.DecodeError, UnicodeError) as error:
        return Reading(None, f"$: it is not JSON ({error})" if text.strip() else "$: it is empty")
    return Reading(value, compiled(format.schema).fault(value, raw))


def begin_step(turn: Turn) -> None:
    """Makes clients drop the text of the steps before: the turn's text is that of its final answer alone."""
    if turn.resumed_step is None and any(turn.text):
        turn.append(MessageRestarted(content=""))
        turn.text.clear()


async def accept(turn: Turn, format: ResponseFormat, own: list[Message]) -> bool:
    """Whether the turn ends with the last of its own messages; sets the turn's `data`.

    An invalid answer is marked and stored, so that a restart repairs it without asking for it again. The second one in
    a row, and one that came to the model's token limit, raises AnswerInvalid. What a tool ended is not checked.
    """
    if any(message.ends_turn for message in own):
        return True
    answer = own[-1]
    value, fault = read(format, answer.content)
    if not fault:
        turn.data = value
        return True
    own[-1] = turn.unsaved.messages[-1] = replace(answer, broken_off=INVALID)
    if turn.stop_reason == "max_tokens":
        limit = "The answer reached the model's token limit before its JSON was whole; raise the agent's max_tokens"
        raise AnswerInvalid(f"{limit}. {fault}")
    if _repairs(own):
        raise AnswerInvalid(f"The model's answer is not what response_format says, after one repair. {fault}")
    begin_step(turn)
    await turn.record(turns.step_rejected, turn.id, turn.session_id)
    return False


def _repairs(own: list[Message]) -> bool:
    """Whether the last answer was to repair the one before it."""
    return len(own) > 1 and own[-2].broken_off == INVALID


def repairing(own: list[Message]) -> bool:
    """Whether the next step repairs an answer."""
    return bool(own) and own[-1].broken_off == INVALID


def with_faults(sent: list[Message], format: ResponseFormat) -> list[Message]:
    """The messages, each invalid answer followed by what is wrong with it."""
    shown: list[Message] = []
    for message in sent:
        shown.append(message)
        if message.broken_off == INVALID:
            fault = read(format, message.content).fault or "It is not what was asked for"
            shown.append(Message("user", _REPAIR.format(fault)))
    return shown
