"""A chat's turn: sends the message, reads its events to the end over broken connections, and folds them."""

import json
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from bytebrew_client.errors import APIError, ConnectionLost, InputNeeded, TurnFailed, refusal
from bytebrew_client.event_stream import Parser
from bytebrew_client.events import (
    ClientToolCall,
    Confirmation,
    Done,
    ErrorEvent,
    Event,
    Message,
    MessageDelta,
    MessageRestart,
    StructuredOutput,
    ToolCall,
    ToolResult,
    event_of,
)
from bytebrew_client.flow import Close, Flow, Open, Outcome, Read, Reply, Request, Retries, Run, Sleep, call, path
from bytebrew_client.json_schema import convert, plain
from bytebrew_client.records import Answered, CallRecord, Usage, record
from bytebrew_client.tools import Tool

LONG_ENOUGH = 30.0
"""Seconds after which a connection that breaks off counts as one that worked: two heartbeats of the engine."""
JSON = {"content-type": "application/json"}


def encoded(body: Any) -> bytes:
    """A body as JSON; TypeError or ValueError for what is none."""
    return json.dumps(body, default=plain, allow_nan=False, separators=(",", ":")).encode()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a turn has come to: the end, or with `needs_input` the `questions` to a person or the `form` to fill in.

    `data` is the value of a structured answer.
    """

    session_id: str
    turn_id: str
    text: str
    data: Any
    status: Literal["completed", "cancelled", "needs_input"] | str
    finish_reason: str | None
    usage: Usage
    tool_calls: tuple[CallRecord, ...]
    questions: tuple[Confirmation, ...]
    form: StructuredOutput | None


class EventFlow:
    """Reads the events behind `last_event_id` from a route, each once, and connects again until `seconds` go by."""

    def __init__(self, request: Request, seconds: float, after: str) -> None:
        self._request, self._seconds = request, seconds
        self._retries = Retries(seconds)
        self._parser, self._pending = Parser(), deque[Event]()
        self._open, self._opened = False, 0.0
        self._unnumbered: Event | None = None
        self.last_event_id = after
        self.ended = False

    def next_event(self) -> Flow[Event | None]:
        """The next event; None behind the last. Raises APIError or ConnectionLost once it is no use to try again."""
        while not self.ended:
            try:
                while not self._pending:
                    if not self._open:
                        yield from self._connect()
                    chunk: bytes | None = yield Read()
                    if chunk is None:
                        raise ConnectionLost("The stream ended before its last event")
                    self._pending += self._events(chunk)
                event = self._pending.popleft()
                if isinstance(event, ErrorEvent) and not event.id:  # of the stream: the turn itself may go on
                    raise APIError(event.message, status=503, code=event.code, retry_after=event.retry_after)
            except (ConnectionLost, APIError) as error:
                yield from self._pause(error)
                continue
            if event.id:
                self._retries.progress()
                self.last_event_id, self._unnumbered = event.id, None
            elif event == self._unnumbered:  # another connection says again that the message waits
                continue
            else:
                self._unnumbered = event
            self._take(event)
            return event
        yield Close()
        return None

    def leave(self) -> Flow[None]:
        """Closes the connection; the next event is read over another one."""
        self._open = False
        self._pending.clear()
        yield Close()

    def _take(self, event: Event) -> None:
        """Folds an event."""

    def _events(self, chunk: bytes) -> list[Event]:
        try:
            return [event_of(frame) for frame in self._parser.feed(chunk)]
        except ValueError as error:
            raise ConnectionLost(f"The stream has an event that is no JSON: {error}") from error

    def _connect(self) -> Flow[Reply]:
        seen = {"last-event-id": self.last_event_id} if self.last_event_id else {}
        headers = {**self._request.headers, "accept": "text/event-stream", **seen}
        request = Request(self._request.method, self._request.path, self._request.content, headers, self._request.query)
        reply: Reply = yield Open(request)
        if reply.status != 200:
            raise refusal(*reply)
        if not reply.headers.get("content-type", "").startswith("text/event-stream"):
            raise APIError("The answer is no stream of events", status=reply.status, code="no_event_stream")
        self._parser, self._open, self._opened = Parser(), True, time.monotonic()
        return reply

    def _pause(self, error: ConnectionLost | APIError) -> Flow[None]:
        if self._open and time.monotonic() - self._opened > LONG_ENOUGH:
            self._retries.progress()
        self._open = False
        self._pending.clear()  # they come again
        yield Close()
        yield Sleep(self._retries.pause(error))


class Turn(EventFlow):
    """A message and its turn. Whatever breaks off, the message counts once: it is sent again with the same key."""

    def __init__(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        seconds: float,
        tools: Mapping[str, Tool],
        shape: Any = Any,
        key: str = "",
        after: str = "",
    ) -> None:
        self.key = key or str(uuid.uuid4())
        headers = {**JSON, "idempotency-key": self.key}
        super().__init__(Request("POST", path, encoded(body), headers), seconds, after)
        self._tools, self._shape = tools, shape
        self._due: ClientToolCall | None = None
        self.session_id = self.turn_id = ""
        self.form: StructuredOutput | None = None
        self._text: list[str] = []
        self._data: Any = None
        self._calls: dict[str, CallRecord] = {}
        self._questions: dict[str, Confirmation] = {}
        self._end: Done | ErrorEvent | None = None

    def send(self) -> Flow[None]:
        """Sends the message, and returns once the engine has it."""
        if self.turn_id:
            return
        while not self._open:
            try:
                yield from self._connect()
            except (ConnectionLost, APIError) as error:
                yield from self._pause(error)
        self._open = False
        yield Close()

    def next_event(self) -> Flow[Event | None]:
        """The next event, before which the client's tool runs that the last one was a call of."""
        if self._due is not None:
            yield from self._run(self._due)
            self._due = None
        return (yield from super().next_event())

    def answer(self) -> Flow[Answer]:
        """Reads on to the end of the turn, or to the next question to a person. Raises TurnFailed."""
        while (event := (yield from self.next_event())) is not None:
            if isinstance(event, Confirmation):
                break
        if isinstance(self._end, ErrorEvent):
            end = self._end
            raise TurnFailed(
                end.code, end.message, session_id=self.session_id, turn_id=self.turn_id, retry_after=end.retry_after
            )
        return Answer(
            session_id=self.session_id,
            turn_id=self.turn_id,
            text=self.text_so_far,
            data=self._data,
            status="needs_input" if self.form or self._end is None else self._end.status,
            finish_reason=self._end.finish_reason if self._end else None,
            usage=self._end.usage if self._end else Usage(),
            tool_calls=tuple(self._calls.values()),
            questions=tuple(self._questions.values()),
            form=self.form,
        )

    def whole_answer(self) -> Flow[Answer]:
        """The answer at the turn's end. Raises TurnFailed, and InputNeeded where a person must answer first."""
        answer = yield from self.answer()
        if self._end is None:
            raise InputNeeded(answer)
        return answer

    def value(self) -> Flow[Any]:
        """The value of a structured answer; ValueError if the turn has ended without one."""
        answer = yield from self.whole_answer()
        if answer.form is not None:
            raise InputNeeded(answer)
        return convert(self._shape, answer.data)

    def answer_question(
        self, question: Confirmation, answer: str, *, input: Mapping[str, Any] | None = None, reason: str = ""
    ) -> Flow[Answered]:
        """Answers with a word: approve or reject, or where the kind is unknown_outcome retry, mark_done or fail."""
        body = {
            "confirmation_id": question.confirmation_id,
            "answers": [answer],
            "reason": reason,
            **({"args_digest": question.args_digest} if question.args_digest else {}),
            **({"input": input} if input is not None else {}),
        }
        answered = yield from respond(question.session_id, body, self._seconds)
        self._questions.pop(question.confirmation_id, None)
        return answered

    def approve(
        self, question: Confirmation, *, input: Mapping[str, Any] | None = None, reason: str = ""
    ) -> Flow[Answered]:
        """Lets the call run, with `input` in place of its arguments if there is any.

        Raises Conflict if the question has another answer, or is no longer what the event showed.
        """
        return (yield from self.answer_question(question, "approve", input=input, reason=reason))

    def reject(self, question: Confirmation, *, reason: str = "") -> Flow[Answered]:
        """Lets the call not run; the model reads the reason."""
        return (yield from self.answer_question(question, "reject", reason=reason))

    def send_result(self, call: ClientToolCall, result: Any, *, is_error: bool = False) -> Flow[Answered]:
        """Sends the result of a tool whose declaration is no function: a text, or anything that is JSON."""
        body = {"call_id": call.call_id, "result": result, "is_error": is_error}
        return (yield from respond(call.session_id, body, self._seconds))

    @property
    def text_so_far(self) -> str:
        """The answer as far as it has come."""
        return "".join(self._text)

    def _run(self, call: ClientToolCall) -> Flow[None]:
        if (tool := self._tools.get(call.tool)) is None:
            return
        outcome: Outcome = yield Run(partial(tool.run, call.input), tool.is_async)
        value, error = outcome
        try:
            try:
                if error is None:
                    yield from self.send_result(call, value)
                else:
                    yield from self.send_result(call, f"{type(error).__name__}: {error}", is_error=True)
            except (TypeError, ValueError) as fault:  # it is no JSON
                yield from self.send_result(call, f"The result is no JSON: {fault}", is_error=True)
            except APIError as fault:
                if fault.status != 413:
                    raise
                yield from self.send_result(call, f"The result is too large: {fault.message}", is_error=True)
        except APIError as fault:
            if fault.status not in (409, 410):  # it has a result, or is over: the next events say which
                raise

    def _connect(self) -> Flow[Reply]:
        reply = yield from super()._connect()
        self.session_id = reply.headers.get("x-session-id", "")
        self.turn_id = reply.headers.get("x-turn-id", "")
        return reply

    def _take(self, event: Event) -> None:
        if isinstance(event, Confirmation):  # that of a spawned agent is for the same person
            self._questions[event.confirmation_id] = event
        if event.agent is not None:
            return
        match event:
            case MessageDelta():
                self._text.append(event.content)
            case MessageRestart():
                self._text = [event.content]
            case Message():
                self._text, self._data = [event.content], event.data
            case ToolCall():
                self._calls[event.call_id] = CallRecord(tool=event.tool, input=event.input, call_id=event.call_id)
            case ToolResult():
                call = self._calls.get(event.call_id) or CallRecord(tool=event.tool, call_id=event.call_id)
                self._calls[event.call_id] = CallRecord(
                    tool=call.tool,
                    input=call.input,
                    call_id=call.call_id,
                    output=event.output,
                    has_error=event.has_error,
                )
                self._questions = {id: one for id, one in self._questions.items() if one.call_id != event.call_id}
            case ClientToolCall():
                self._due = event
            case StructuredOutput() if event.output_type == "form":
                self.form = event
            case Done() | ErrorEvent():
                self.ended, self._end = True, event


def respond(session_id: str, body: Mapping[str, Any], seconds: float) -> Flow[Answered]:
    """Answers a question, or sends the result of a client's tool."""
    headers = {**JSON, "idempotency-key": str(uuid.uuid4())}
    reply = yield from call(Request("POST", path("sessions", session_id, "respond"), encoded(body), headers), seconds)
    return record(Answered, json.loads(reply.content))
