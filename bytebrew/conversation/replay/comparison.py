"""Compares a recorded turn with a candidate's: tool calls, answers and figures."""

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any, Literal

import msgspec
from msgspec import Struct

from bytebrew.contract.messages import Message, ToolCall

COMPARED_LENGTH = 5000
"""Length in words up to which answers are compared for likeness."""
MOST_TEXT = 2000
"""Characters of a message or an answer in a report."""


class Figures(Struct, frozen=True, kw_only=True):
    """What the model calls of a turn took; `cost_usd` is null where no price is known."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    seconds: float = 0.0


class CallComparison(Struct, frozen=True, kw_only=True):
    """A tool call of either side: `missing` was recorded only, `extra` is the candidate's only."""

    verdict: Literal["same", "different_arguments", "missing", "extra"]
    tool: str
    recorded: dict[str, Any] | None
    candidate: dict[str, Any] | None


class TurnReport(Struct, frozen=True, kw_only=True):
    """How a candidate's turn differs from the recorded one.

    `complete` is false if the candidate called a tool of which no result is recorded: there its turn ends, and its
    answer is not compared. `similarity` of the answers is from 0 to 1, by words. `diverges` is the verdict within the
    tolerances of the replay.
    """

    session_id: str
    turn_id: str
    message: str
    calls: tuple[CallComparison, ...]
    order_changed: bool
    complete: bool
    same_answer: bool
    similarity: float
    recorded_answer: str
    candidate_answer: str
    recorded_error: str
    candidate_error: str
    recorded: Figures
    candidate: Figures
    diverges: bool


def canonical(input: dict[str, Any]) -> bytes:
    """Arguments as bytes that are equal for equal arguments, whatever the order of their names."""
    return msgspec.json.encode(input, order="deterministic")


def compare_calls(recorded: Sequence[ToolCall], matched: Sequence[tuple[ToolCall, int | None]]) -> list[CallComparison]:
    """The calls of both sides; each of the candidate's has the index of the recorded one that it was matched with."""
    found = [
        CallComparison(
            verdict="extra"
            if at is None
            else "same"
            if canonical(recorded[at].input) == canonical(call.input)
            else "different_arguments",
            tool=call.tool,
            recorded=None if at is None else recorded[at].input,
            candidate=call.input,
        )
        for call, at in matched
    ]
    used = {at for _, at in matched}
    return found + [
        CallComparison(verdict="missing", tool=call.tool, recorded=call.input, candidate=None)
        for at, call in enumerate(recorded)
        if at not in used
    ]


def same(answer: str, other: str) -> bool:
    """Whether two answers are the same but for whitespace, or as JSON."""
    if answer.split() == other.split():
        return True
    try:
        return bool(msgspec.json.decode(answer) == msgspec.json.decode(other))
    except (msgspec.DecodeError, RecursionError):
        return False


def similarity(answer: str, other: str) -> float:
    """How alike two answers are, from 0 to 1, by words in common order."""
    if same(answer, other):
        return 1.0
    pair = answer.split()[:COMPARED_LENGTH], other.split()[:COMPARED_LENGTH]
    return round(SequenceMatcher(None, *pair, autojunk=False).ratio(), 3)


def answer_of(messages: Sequence[Message]) -> str:
    """The text of the last message of a model."""
    return next((message.content for message in reversed(messages) if message.role == "assistant"), "")
