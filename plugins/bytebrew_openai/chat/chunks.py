"""An answer as OpenAI's clients read it: chunks of a stream, or whole."""

from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.json import encode

from bytebrew import EngineError, ErrorEvent, FaceTurn, MessageDelta, Reply, TurnEvent, Usage, parse_time

from .answers import Answer, Answers, Kept, tool_call
from .errors import Failure, error_object, refusal

DONE = b"data: [DONE]\n\n"


def kept_of(turn: FaceTurn) -> Kept:
    """What is stored with a turn; of one that another face or the engine's own API began, nothing."""
    try:
        return msgspec.convert(turn.kept, Kept)
    except msgspec.ValidationError:
        return Kept()


async def answers_of(turn: FaceTurn) -> list[Answer]:
    """The answers of a turn, as far as they are stored."""
    fold = Answers(kept_of(turn))
    async with aclosing(turn.events(live=False)) as batches:
        async for batch in batches:
            for one in batch:
                fold.add(one)
    return fold.all


class Chunks:
    """The projection: the chunks of the answer number `n` of a turn, with its usage in the last one if wanted."""

    def __init__(self, turn: FaceTurn, n: int = 0, *, usage: bool = False) -> None:
        self.ended = False
        self._fold, self._n, self._usage = Answers(kept_of(turn)), n, usage
        self._head = b"data: " + encode(_head(turn, kept_of(turn), n, "chat.completion.chunk"))[:-1]
        self._begin = self._head + b',"choices":[{"index":0,"delta":'
        self._end = b"}]" + (b',"usage":null}\n\n' if usage else b"}\n\n")
        self._begun = False

    def frames(self, event: TurnEvent, /) -> bytes:
        """The chunks of the next event."""
        deltas = self._fold.add(event)
        if len(self._fold.all) - 1 != self._n:
            return b""
        if self._begun and len(deltas) == 1 and type(event.event) is MessageDelta:  # nearly all events are these
            return self._chunk(deltas[0])
        answer = self._fold.all[-1]
        if not self._begun and (deltas or answer.finish is not None):
            self._begun = True
            first = None if deltas and "tool_calls" in deltas[0] else ""
            deltas = [{"role": "assistant", "content": first}, *deltas]
        made = [self._chunk(delta) for delta in deltas]
        if answer.error is not None:
            made.append(ending(_failure(answer.error, 500)))
        elif answer.finish is not None:
            made.append(self._chunk({}, answer.finish))
            if self._usage:
                made.append(b'%b,"choices":[],"usage":%b}\n\n' % (self._head, encode(usage_of(answer.usage))))
            made.append(DONE)
        self.ended = answer.ended
        return b"".join(made)

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        ends = b"null" if finish is None else encode(finish)
        return b'%b%b,"logprobs":null,"finish_reason":%b%b' % (self._begin, encode(delta), ends, self._end)


async def whole(turn: FaceTurn, n: int) -> Reply:
    """The answer number `n` of a turn, once it has ended, or the error that ended the turn."""
    kept = kept_of(turn)
    fold = Answers(kept)
    async with aclosing(turn.events()) as batches:
        async for batch in batches:
            for one in batch:
                fold.add(one)
                if len(fold.all) > n and fold.all[n].ended:
                    return _whole(turn, kept, n, fold.all[n])
    raise EngineError("The turn has ended without this answer")


def _whole(turn: FaceTurn, kept: Kept, n: int, answer: Answer) -> Reply:
    if answer.error is not None:
        reply = refusal(_failure(answer.error, turn.failure or 500))
        if answer.error.retry_after is not UNSET:
            reply.headers["retry-after"] = str(answer.error.retry_after)
        return reply
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if not answer.text and (answer.calls or answer.refusal) else answer.text,
        "refusal": answer.refusal or None,
        "annotations": [],
    }
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        message["tool_calls"] = [tool_call(one) for one in answer.calls]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish}
    head = _head(turn, kept, n, "chat.completion")
    return Reply(body={**head, "choices": [choice], "usage": usage_of(answer.usage)})


def ending(error: EngineError) -> bytes:
    """The end of a stream that fails."""
    return b"data: %b\n\n" % encode({"error": error_object(error)})


def usage_of(usage: Usage) -> dict[str, Any]:
    """Tokens as OpenAI counts them."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.thinking_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _failure(event: ErrorEvent, status: int) -> EngineError:
    return Failure(event.message, event.code, status)


def _head(turn: FaceTurn, kept: Kept, n: int, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{turn.id}" + (f"-{n}" if n else ""),
        "object": kind,
        "created": int(parse_time(turn.created_at).timestamp()),
        "model": turn.schema,
        "system_fingerprint": kept.fingerprint or None,
    }
