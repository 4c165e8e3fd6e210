"""A turn's events as the chunks of the AI SDK's UI message stream, as its majors 6 and 7 read them.

Source: `ui-message-chunks.ts` and `process-ui-message-stream.ts` of the npm package `ai`.
"""

from collections.abc import Collection, Iterator
from typing import Any

import msgspec
from msgspec import UNSET, to_builtins

from bytebrew import (
    ClientToolCalled,
    ConfirmationAsked,
    Done,
    ErrorEvent,
    Event,
    FaceTurn,
    MessageDelta,
    MessageDone,
    MessageRestarted,
    Queued,
    Thinking,
    ToolFinished,
    ToolStarted,
    TurnEvent,
)

Chunk = dict[str, Any]
DONE = b"data: [DONE]\n\n"
_FINISH_REASONS = {"stop": "stop", "max_tokens": "length"}
_AGAIN = "The engine was stopped during this call: approve to run it again"
_encode = msgspec.json.Encoder().encode


def frame(chunk: Chunk) -> bytes:
    """A chunk as a Server-Sent Event."""
    return b"data: %s\n\n" % _encode(chunk)


class UIMessageStream:
    """The stream of one response: from the turn's first event, or from where a request answers calls, to a wait.

    `answers` are ids of calls and questions that the request answers: the response begins behind the event after which
    the turn waited for all of them. `answered` are the calls of client tools whose results are known to be there, so
    that no page runs them again. The response ends where the turn waits for the client or a person, at the event number
    `until` or later, or where the turn ends.
    """

    def __init__(
        self, turn: FaceTurn, *, answers: Collection[str] = (), answered: Collection[str] = (), until: int = 0
    ) -> None:
        self._start: Chunk = {
            "type": "start",
            "messageId": turn.id,
            "messageMetadata": {"sessionId": turn.session_id, "turnId": turn.id, "createdAt": turn.created_at},
        }
        self._answers, self._answered, self._until = frozenset(answers), frozenset(answered), until
        self._unseen = set(answers)
        self._waiting_for: dict[str, str] = {}  # answers whose calls show no effect of them yet: ids of the calls
        self._begun = not answers
        self._started = self.ended = False
        self._text = self._reasoning = ""  # ids of open parts
        self._parts = 0
        self._in_step = self._has_results = False
        self._inputs: dict[str, Any] = {}  # of the calls that have a part
        self._gated: set[str] = set()
        self._to_client: dict[str, ClientToolCalled] = {}
        self._nested: dict[str, str] = {}  # questions of spawned agents that have no output yet: the calls above them

    def frames(self, at: TurnEvent) -> bytes:
        """The frames of the next event."""
        event = at.event
        if type(event) is MessageDelta and self._text and self._started and event.agent is UNSET and event.content:
            return b'data: {"type":"text-delta","id":"%s","delta":%s}\n\n' % (
                self._text.encode(),
                _encode(event.content),
            )
        sent = b"".join(map(frame, self.chunks(at)))
        return sent + DONE if self.ended else sent

    def chunks(self, at: TurnEvent) -> list[Chunk]:
        """The chunks of the next event."""
        event = at.event
        made = [] if event is None else list(self._of(at.number, event))
        if not self._begun:
            return self._begin(at, made)
        if not self._started:
            self._started = True
            made.insert(0, self._start)
        if at.waits and not self._waiting_for and at.number >= self._until and not self.ended:
            made += self._wait()
        return made

    def _begin(self, at: TurnEvent, made: list[Chunk]) -> list[Chunk]:
        """The first chunks of a response to answers, once the turn has waited for all of them."""
        if self.ended:
            self._begun = True
            return [self._start, *made[-1:]]
        if not at.waits or self._unseen:
            return []
        self._begun = self._started = True
        self._in_step = self._has_results = False  # the response before has finished the step
        return [self._start, *(self._closed(one) for one in [*self._nested] if one in self._answers)]

    def _of(self, number: int, event: Event) -> Iterator[Chunk]:
        if isinstance(event, ConfirmationAsked):
            yield from self._question(number, event)
        elif event.agent is not UNSET:
            return
        elif isinstance(event, MessageDelta):
            if event.content:
                yield from self._open_text()
                yield {"type": "text-delta", "id": self._text, "delta": event.content}
        elif isinstance(event, Thinking):
            if event.content:
                yield from self._open_reasoning()
                yield {"type": "reasoning-delta", "id": self._reasoning, "delta": event.content}
        elif isinstance(event, MessageRestarted):
            yield from self._close()
        elif isinstance(event, MessageDone):
            if event.data is not UNSET:
                yield from self._close()
                yield {"type": "data-answer", "id": str(number), "data": event.data}
        elif isinstance(event, ToolStarted):
            yield from self._step()
            yield self._input(event.call_id, event.tool, event.input)
        elif isinstance(event, ToolFinished):
            yield from self._result(event)
        elif isinstance(event, ClientToolCalled):
            yield from self._client_call(event)
        elif isinstance(event, Done | ErrorEvent):
            yield from self._end(event)
        else:
            yield from self._data(number, event)

    def _open_text(self) -> Iterator[Chunk]:
        if not self._text:
            yield from self._step()
            self._parts += 1
            self._text = f"text-{self._parts}"
            yield {"type": "text-start", "id": self._text}

    def _open_reasoning(self) -> Iterator[Chunk]:
        if not self._reasoning:
            yield from self._step()
            self._parts += 1
            self._reasoning = f"reasoning-{self._parts}"
            yield {"type": "reasoning-start", "id": self._reasoning}

    def _close(self) -> Iterator[Chunk]:
        """Ends the open text or reasoning."""
        if self._text:
            yield {"type": "text-end", "id": self._text}
        if self._reasoning:
            yield {"type": "reasoning-end", "id": self._reasoning}
        self._text = self._reasoning = ""

    def _step(self) -> Iterator[Chunk]:
        """What precedes new output of the model; behind results it is that of another model call."""
        yield from self._close()
        self._waiting_for.clear()  # the model has all results
        if self._in_step and not self._has_results:
            return
        if self._in_step:
            yield {"type": "finish-step"}
        self._in_step, self._has_results = True, False
        yield {"type": "start-step"}

    def _input(self, call_id: str, tool: str, input: Any, *, in_engine: bool = True) -> Chunk:
        """The call of a tool; the page runs it unless it is run `in_engine`."""
        self._inputs[call_id] = input
        return {
            "type": "tool-input-available",
            "toolCallId": call_id,
            "toolName": tool,
            "input": input,
            "providerExecuted": in_engine,
        }

    def _question(self, number: int, event: ConfirmationAsked) -> Iterator[Chunk]:
        self._ask(event.confirmation_id, event.call_id)
        yield from self._close()
        # the public view: whoever may see the call answers elsewhere; and a form, which the protocol does not have
        if not event.tool or event.kind == "elicitation":
            yield from self._data(number, event)
            return
        call_id = event.call_id
        if event.parent_call_id is not UNSET:  # its other events are not in this stream
            call_id = event.confirmation_id
            self._nested[call_id] = event.parent_call_id
            self._waiting_for.pop(call_id, None)
        if self._inputs.get(call_id) != event.input:
            yield from self._step() if call_id not in self._inputs else ()
            yield self._input(call_id, event.tool, event.input)
        self._gated.add(call_id)
        chunk: Chunk = {"type": "tool-approval-request", "approvalId": event.confirmation_id, "toolCallId": call_id}
        yield {**chunk, "reason": _AGAIN} if event.kind == "unknown_outcome" else chunk

    def _ask(self, key: str, call_id: str) -> None:
        """Notes that a call or question waits, which settles what the call waited for before."""
        self._settle(call_id)
        if self._begun and call_id not in self._inputs:  # the public view, which has no results
            self._waiting_for.clear()
        if key in self._unseen:
            self._unseen.discard(key)
            self._waiting_for[key] = call_id

    def _settle(self, call_id: str) -> None:
        self._waiting_for = {key: about for key, about in self._waiting_for.items() if about != call_id}

    def _client_call(self, event: ClientToolCalled) -> Iterator[Chunk]:
        self._ask(event.call_id, event.call_id)
        if event.call_id not in self._inputs:  # the public view
            yield from self._step()
            yield self._input(event.call_id, event.tool, event.input)
        if event.call_id not in self._answered | self._answers:
            self._to_client[event.call_id] = event

    def _result(self, event: ToolFinished) -> Iterator[Chunk]:
        yield from self._close()
        self._has_results = True
        self._settle(event.call_id)
        self._to_client.pop(event.call_id, None)
        for question in [one for one, above in self._nested.items() if above == event.call_id]:
            yield self._closed(question)
        if event.call_id in self._answers:  # the page has what it has sent
            return
        chunk: Chunk = {"toolCallId": event.call_id, "providerExecuted": True}
        if event.refused and event.call_id in self._gated:
            yield {"type": "tool-output-denied", "toolCallId": event.call_id}
        elif event.has_error:
            yield {"type": "tool-output-error", "errorText": event.output, **chunk}
        else:
            yield {"type": "tool-output-available", "output": _value(event.output), **chunk}

    def _closed(self, question: str) -> Chunk:
        """What makes the part of a spawned agent's call wait no more."""
        del self._nested[question]
        return {"type": "tool-output-available", "toolCallId": question, "output": None, "providerExecuted": True}

    def _wait(self) -> Iterator[Chunk]:
        """The end of a response after which the page, or a person, has something to do.

        The page learns here which tools it runs, and not before: a stream that is replayed has past this point what it
        ran already.
        """
        for event in self._to_client.values():
            yield self._input(event.call_id, event.tool, event.input, in_engine=False)
        yield from self._finish_step()
        self.ended = True
        yield {"type": "finish", "finishReason": "tool-calls"}

    def _end(self, event: Done | ErrorEvent) -> Iterator[Chunk]:
        yield from self._finish_step()
        self.ended = True
        if isinstance(event, ErrorEvent):
            yield {"type": "error", "errorText": event.message}
        elif event.status == "cancelled":
            yield {"type": "abort", "reason": "cancelled"}
        else:
            chunk: Chunk = {"type": "finish", "finishReason": _FINISH_REASONS.get(event.finish_reason, "other")}
            usage = to_builtins(event.usage)
            yield {**chunk, "messageMetadata": {"usage": usage}} if any(usage.values()) else chunk

    def _finish_step(self) -> Iterator[Chunk]:
        yield from self._close()
        if self._in_step:
            self._in_step = False
            yield {"type": "finish-step"}

    def _data(self, number: int, event: Event) -> Iterator[Chunk]:
        """An event that the protocol has no part for, as a data part named after it; after what a block shows."""
        fields = to_builtins(event)
        name = fields.get("output_type") if event.name == "structured_output" else event.name
        chunk: Chunk = {"type": f"data-{name}", "data": fields}
        yield {**chunk, "transient": True} if isinstance(event, Queued) else {**chunk, "id": str(number)}


def _value(output: str) -> Any:
    """The output of a tool, as JSON where it is an object or a list."""
    if output[:1] in ("{", "["):
        try:
            return msgspec.json.decode(output)
        except (msgspec.DecodeError, RecursionError):
            return output
    return output
