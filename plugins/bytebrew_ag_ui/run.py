"""A run: a turn, or a part of one between two waits, as the events of AG-UI 1.0 (https://docs.ag-ui.com)."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, to_builtins

from bytebrew import (
    ClientToolCalled,
    ConfirmationAsked,
    ContextTrimmed,
    Done,
    ErrorEvent,
    Event,
    FaceTurn,
    MessageDelta,
    MessageDone,
    MessageRestarted,
    Notice,
    PrecedingTurn,
    Queued,
    Steer,
    Steered,
    Summarised,
    Thinking,
    ToolFinished,
    ToolStarted,
    TurnEvent,
)

from .cursors import LAST, START, cursor_text
from .kept import Kept
from .outcomes import form_interrupt, interrupt, usage_of
from .transcript import Transcript

VERSION = "1.0"
NAME = "bytebrew"
"""The key of what this engine adds to `metadata`, and the namespace of its own events."""
_ENDS = {
    "TEXT_MESSAGE_END": ("TEXT_MESSAGE_START", "messageId"),
    "REASONING_MESSAGE_END": ("REASONING_MESSAGE_START", "messageId"),
    "REASONING_END": ("REASONING_START", "messageId"),
    "TOOL_CALL_END": ("TOOL_CALL_START", "toolCallId"),
    "STEP_FINISHED": ("STEP_STARTED", "stepName"),
}
"""The events that end something, with those that begin it and the field that names it."""
_STARTS = dict(_ENDS.values())
_ASIDE = (Notice, Summarised, ContextTrimmed, Steer, Steered)
"""Events that become CUSTOM ones."""
_encode = msgspec.json.Encoder().encode
Frame = dict[str, Any]


def frame(event: Frame) -> bytes:
    """An event on the wire."""
    return b"data: %b\n\n" % _encode(event)


class Run:
    """Folds a turn's events into those of a run, which begins behind a place and ends where the turn waits or ends.

    `answers` are the ids of the questions and calls that the run's request has answered: it does not end while only
    these wait. `before` are the turns that precede, if they are loaded; `after` is the cursor of a client that has the
    frames up to it.
    """

    def __init__(
        self,
        turn: FaceTurn,
        kept: Kept,
        run_id: str,
        *,
        behind: tuple[int, ...] = START,
        answers: Collection[str] = (),
        after: tuple[int, ...] = (),
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self.before: tuple[PrecedingTurn, ...] | None = None
        self.ended = False
        self.open: frozenset[str] = frozenset()
        """The ids that the turn waits for after the last event, while it waits."""
        self.client_calls: list[str] = []
        """The ids of all calls of the client's tools so far."""
        self._turn, self._kept, self._run_id = turn, kept, run_id
        self._behind = behind[:2]  # what an earlier run has begun anew there is begun anew again
        self._answers, self._after = frozenset(answers), after
        self._more = dict(more or {})
        self._begun = False
        self._began: dict[tuple[str, str], Frame] = {}  # what the part before has begun and not ended
        self._tools = set(kept.tools)
        self._transcript = Transcript(turn, kept)
        self._messages = self._step = 0
        self._step_name = self._text = self._reasoning = self._parent = ""
        self._shown: set[str] = set()  # calls that the client has
        self._questions: dict[str, ConfirmationAsked] = {}
        self._form: Event | None = None
        self._result: Any = UNSET

    def begin(self) -> bytes:
        """The frame that opens the run, once."""
        if self._begun:
            return b""
        self._begun = True
        if self._after:
            return b""
        ids = {"threadId": self._kept.thread, "runId": self._run_id}
        about = {"cursor": cursor_text(self._behind), "session_id": self._turn.session_id, "turn_id": self._turn.id}
        started = {"type": "RUN_STARTED", **ids, "protocolVersion": VERSION, "metadata": {NAME: about | self._more}}
        return frame(started)

    def frames(self, event: TurnEvent, /) -> bytes:
        """The frames of the next event."""
        if (piece := self._piece(event)) is not None:
            return piece
        made, number = [self.begin()], event.number
        parts = list(self._fold(event))
        for n, part in enumerate(parts):
            place = (number, n + 1 if n + 1 < len(parts) else LAST)
            if place <= self._behind:
                self._track(part)
                continue
            if self._began:
                began, self._began = self._began, {}
                at = max(self._behind, (number, 0))  # cursors only grow
                made += [self._frame((*at, i + 1), again) for i, again in enumerate(began.values())]
            made.append(self._frame(place, part))
            self.ended = self.ended or part["type"] in ("RUN_FINISHED", "RUN_ERROR")
        return b"".join(made)

    def _piece(self, event: TurnEvent) -> bytes | None:
        """The frame of a piece of the text that is open, None for any other event: most events are such a piece."""
        part, place = event.event, (event.number, LAST)
        if type(part) is not MessageDelta or not (self._text and part.content) or part.agent is not UNSET:
            return None
        if self._began or self.open or event.waits or place <= self._behind or place <= self._after:
            return None
        self._transcript.add(self._text, part.content)
        about = (self._text.encode(), _encode(part.content), event.number)
        return (
            b'data: {"type":"TEXT_MESSAGE_CONTENT","messageId":"%b","delta":%b,'
            b'"metadata":{"bytebrew":{"cursor":"%d"}}}\n\n' % about
        )

    def _frame(self, place: tuple[int, ...], event: Frame) -> bytes:
        if place <= self._after:
            return b""
        return frame(event | {"metadata": {NAME: {"cursor": cursor_text(place), **event.get("metadata", {})}}})

    def _track(self, event: Frame) -> None:
        kind = event["type"]
        if kind in _STARTS:
            self._began[kind, event[_STARTS[kind]]] = event
        elif kind in _ENDS:
            start, key = _ENDS[kind]
            self._began.pop((start, event[key]), None)

    def _fold(self, event: TurnEvent) -> Iterator[Frame]:
        """The frames of one event; the transcript follows them as a client does."""
        for part in self._parts(event):
            self._transcript.take(part)
            yield part

    def _parts(self, event: TurnEvent) -> Iterator[Frame]:
        if event.event is not None:
            yield from self._shown_as(event.number, event.event)
        self.open = frozenset()
        if event.waits:
            waiting = {call for call in self.client_calls if call in event.waiting}
            self.open = frozenset(self._questions) | waiting
            answers = self._answers if (event.number, LAST) > self._behind else frozenset()
            if self.open - answers:
                yield from self._waits(self.open - answers)

    def _shown_as(self, number: int, event: Event) -> Iterator[Frame]:
        if event.agent is not UNSET and not isinstance(event, ConfirmationAsked):
            return
        match event:
            case Thinking(content=content) if content:
                yield from self._think(content)
            case MessageDelta(content=content) if content:
                yield from self._say(content)
            case MessageRestarted():
                yield from self._restart(event)
            case MessageDone():
                yield from self._answered(event)
            case ToolStarted():
                if event.tool not in self._tools:
                    yield from self._call(event.call_id, event.tool, event.input)
            case ClientToolCalled():
                self._drop_question(event.call_id)
                if event.call_id not in self.client_calls:
                    self.client_calls.append(event.call_id)
                yield from self._call(event.call_id, event.tool, event.input)
            case ToolFinished():
                yield from self._finished(event)
            case ConfirmationAsked(tool=""):  # the public view, in which nobody can answer
                yield self._custom("confirmation", {"id": event.confirmation_id, "expires_at": event.expires_at})
            case ConfirmationAsked():
                self._questions[event.confirmation_id] = event
            case ErrorEvent():
                yield from self._close()
                yield {"type": "RUN_ERROR", "message": event.message, "code": event.code} | _retry_after(event)
            case Done():
                yield from self._done(event)
            case Queued() | Thinking() | MessageDelta():
                pass
            case _ if isinstance(event, _ASIDE):
                if isinstance(event, Notice) and event.code == "client_tools_hidden":
                    self._tools -= {*event.names}
                yield self._custom(event.name, to_builtins(event))
            case _:  # of a plugin, such as a table or a form
                yield from self._activity(number, event)

    def _open_step(self) -> Iterator[Frame]:
        if not self._step_name:
            self._step += 1
            self._step_name = f"step {self._step}"
            yield {"type": "STEP_STARTED", "stepName": self._step_name}

    def _close(self) -> Iterator[Frame]:
        """Ends all that is open."""
        yield from self._close_messages()
        if self._step_name:
            yield {"type": "STEP_FINISHED", "stepName": self._step_name}
        self._step_name = ""

    def _close_messages(self) -> Iterator[Frame]:
        if self._reasoning:
            yield {"type": "REASONING_MESSAGE_END", "messageId": self._reasoning}
            yield {"type": "REASONING_END", "messageId": self._reasoning}
        if self._text:
            yield {"type": "TEXT_MESSAGE_END", "messageId": self._text}
        self._reasoning = self._text = ""

    def _next_message(self) -> str:
        self._messages += 1
        return f"{self._turn.id}.{self._messages}"

    def _think(self, content: str) -> Iterator[Frame]:
        yield from self._open_step()
        if not self._reasoning:
            yield from self._close_messages()
            self._reasoning = self._next_message()
            yield {"type": "REASONING_START", "messageId": self._reasoning}
            yield {"type": "REASONING_MESSAGE_START", "messageId": self._reasoning, "role": "reasoning"}
        yield {"type": "REASONING_MESSAGE_CONTENT", "messageId": self._reasoning, "delta": content}

    def _say(self, content: str) -> Iterator[Frame]:
        yield from self._open_step()
        if not self._text:
            yield from self._close_messages()
            self._text = self._parent = self._next_message()
            yield {"type": "TEXT_MESSAGE_START", "messageId": self._text, "role": "assistant"}
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": self._text, "delta": content}

    def _call(self, call_id: str, tool: str, input: Mapping[str, Any]) -> Iterator[Frame]:
        if call_id in self._shown:
            return
        self._shown.add(call_id)
        yield from self._open_step()
        yield from self._close_messages()
        self._parent = self._parent or self._next_message()
        about = {"toolCallName": tool, "parentMessageId": self._parent}
        yield {"type": "TOOL_CALL_START", "toolCallId": call_id, **about}
        yield {"type": "TOOL_CALL_ARGS", "toolCallId": call_id, "delta": _encode(input).decode()}
        yield {"type": "TOOL_CALL_END", "toolCallId": call_id}

    def _finished(self, event: ToolFinished) -> Iterator[Frame]:
        yield from self._close()
        self._parent = ""  # the next message is of another step
        self._drop_question(event.call_id)
        if event.call_id in self._shown and event.call_id not in self.client_calls:
            about = {"toolCallId": event.call_id, "content": event.output, "role": "tool"}
            failed = {"metadata": {"error": True}} if event.has_error else {}
            yield {"type": "TOOL_CALL_RESULT", "messageId": f"{self._turn.id}.{event.call_id}", **about, **failed}

    def _drop_question(self, call_id: str) -> None:
        self._questions = {id: one for id, one in self._questions.items() if one.call_id != call_id}

    def _restart(self, event: MessageRestarted) -> Iterator[Frame]:
        """Takes back the text that no longer counts, by all messages as they are now."""
        yield from self._close_messages()
        self._parent = ""
        dropped = self._transcript.back_to(event.content)
        messages = None
        if dropped and self.before is not None and not self.client_calls:  # the client's results are not known here
            messages = self._transcript.messages(self.before)
        if messages:
            yield {"type": "MESSAGES_SNAPSHOT", "messages": messages}
        elif dropped:
            yield self._custom(event.name, {"content": event.content, "messageIds": dropped})

    def _answered(self, event: MessageDone) -> Iterator[Frame]:
        if event.data is UNSET:
            return
        yield from self._close_messages()
        self._result = event.data
        data = event.data.items() if isinstance(event.data, dict) else [(None, event.data)]
        delta = [{"op": "add", "path": _pointer(key), "value": value} for key, value in data]
        yield {"type": "STATE_DELTA", "delta": delta}

    def _activity(self, number: int, event: Event) -> Iterator[Frame]:
        yield from self._close_messages()
        if event.awaits_answer:
            self._form = event
        about = {"messageId": f"{self._turn.id}.e{number}", "activityType": f"{NAME}.{event.name}"}
        yield {"type": "ACTIVITY_SNAPSHOT", **about, "content": to_builtins(event)}

    def _custom(self, name: str, value: Any) -> Frame:
        return {"type": "CUSTOM", "name": f"{NAME}.{name}", "value": value}

    def _waits(self, ids: Collection[str]) -> Iterator[Frame]:
        """The end of a run whose turn goes on once the client answers."""
        yield from self._close()
        self._parent = ""  # the public view has no results, behind which another step begins
        questions = [one for id, one in self._questions.items() if id in ids]
        # questions of spawned agents are answered before the next run, and their calls are not seen to end
        self._questions = {id: one for id, one in self._questions.items() if one.agent is UNSET}
        if questions:
            interrupts = [interrupt(self._turn.id, one, shown=one.call_id in self._shown) for one in questions]
            yield self._end({"type": "interrupt", "interrupts": interrupts})
        else:
            yield self._end({"type": "success"})  # pendingToolCallIds may be absent; clients before 1.0 refuse it

    def _done(self, event: Done) -> Iterator[Frame]:
        yield from self._close()
        outcome: Frame = {"type": "success"}
        if event.status == "cancelled" and self._kept.version:  # clients before 1.0 do not have it
            outcome = {"type": "cancelled"}
        if self._form is not None and event.status != "cancelled":
            outcome = {"type": "interrupt", "interrupts": [form_interrupt(self._turn.id, self._form)]}
        ended = self._end(outcome)
        if self._result is not UNSET and outcome["type"] == "success":
            ended["result"] = self._result
        if usage := usage_of(event.usage):
            ended["usage"] = [usage]
        yield ended | {"metadata": {"finish_reason": event.finish_reason}}

    def _end(self, outcome: Frame) -> Frame:
        return {"type": "RUN_FINISHED", "threadId": self._kept.thread, "runId": self._run_id, "outcome": outcome}


def _pointer(key: str | None) -> str:
    """A JSON Pointer (RFC 6901) to a field of the state, to all of it for None."""
    return "" if key is None else "/" + key.replace("~", "~0").replace("/", "~1")


def _retry_after(event: ErrorEvent) -> Frame:
    return {} if event.retry_after is UNSET else {"metadata": {"retry_after": event.retry_after}}
