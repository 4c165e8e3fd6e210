"""The events of a turn as the stream events of a response, and as the response that they make."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET

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
    NotFound,
    Notice,
    Queued,
    Steer,
    Steered,
    Summarised,
    Thinking,
    ToolFinished,
    ToolStarted,
    TurnEvent,
    Usage,
)

from ..errors import CODES
from .items import approval_request, arguments_of, function_call, mcp_call, text_part
from .response import ResponseId, kept_of, response_object

DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode
_TERMINAL = {"completed": "response.completed", "failed": "response.failed"}
_NOT_SHOWN = (Queued, Steer, Steered, Summarised, ContextTrimmed, Notice)


def asks(event: Event | None) -> str | None:
    """The id by which the client answers an event: of its own tool's call, or of a question that it can see."""
    if isinstance(event, ClientToolCalled):
        return event.call_id
    return event.confirmation_id if isinstance(event, ConfirmationAsked) and event.tool else None


class ResponseProjection:
    """The part of a turn that is one response; the stream has the events numbered above `after`.

    A response ends where the turn waits for what the client was asked in it, or with the turn. `questions` are the ids
    that the client answers, `answered` those of the response before in the same turn. `inside` is set once this part
    has begun, `begun` once it has stream events. `behind` is the number of the event where the turn waits, behind which
    its next response begins; 0 if it does not. NotFound is raised where the part does not begin behind a response.
    """

    def __init__(self, turn: FaceTurn, response_id: ResponseId, after: int = -1) -> None:
        self._turn, self._id, self._after = turn, response_id, after
        self._kept = kept_of(turn)
        self._own_tools = frozenset(one["name"] for one in self._kept.repeated["tools"])
        self._sent = self._index = 0
        self.begun = False
        self.inside = not response_id.start
        self._before = ""  # the text of the responses before
        self._answer: list[str] = []  # the pieces of the turn's text
        self._previous = ResponseId(turn.id)
        self._open: dict[str, Any] | None = None
        self._pieces: list[str] = []
        self._text_ended = False  # the open message is whole, and what follows says why it ends
        self._place = b""  # of the open message, as its deltas have it; empty where none may follow
        self._calls: dict[str, ToolStarted] = {}
        self._approvals: dict[str, str] = {}
        self._known: set[str] = set()
        self._usage: Usage | None = None
        self._error: dict[str, Any] | None = None
        self._incomplete: str | None = None
        self._output: list[dict[str, Any]] = []
        self.status = "queued" if self._kept.repeated["background"] else "in_progress"
        self.ended = False
        self.questions: list[str] = []
        self.answered: frozenset[str] = frozenset()
        self.behind = 0
        self.waits = False

    def response(self) -> dict[str, Any]:
        """The response so far."""
        return response_object(
            self._turn,
            self._kept,
            self._id,
            self.status,
            [*self._output, *([self._partial(self._open)] if self._open else [])],
            usage=self._usage,
            error=self._error,
            incomplete=self._incomplete,
            previous=self._previous if self._id.start else None,
        )

    def following(self) -> "ResponseProjection":
        """The next response of the turn, behind this one, which has ended where the turn waits."""
        made = ResponseProjection(self._turn, ResponseId(self._turn.id, self.behind), self._after)
        made.inside, made._previous = True, self._id
        made._before = "".join(self._answer)
        made._answer = [made._before]
        made._known, made.answered = self._known, frozenset(self.questions)
        made._calls, made._approvals = self._calls, self._approvals
        return made

    def _partial(self, item: dict[str, Any]) -> dict[str, Any]:
        text = "".join(self._pieces)
        if item["type"] == "message":
            return item | {"content": [text_part(text)]}
        return item | {"summary": [{"type": "summary_text", "text": text}]}

    def begin(self) -> bytes:
        """The first stream events, which need no event of the turn; empty if they were made before."""
        if self.begun or not self.inside:
            return b""
        self.begun = True
        made = self._send("response.created", response=self.response())
        if self.status == "queued":
            return made + self._send("response.queued", response=self.response())
        return made + self._send("response.in_progress", response=self.response())

    def frames(self, turn_event: TurnEvent) -> bytes:
        """The stream events of the turn's next event."""
        event = turn_event.event
        if self._place and type(event) is MessageDelta and event.agent is UNSET:  # nearly all events are these
            self._answer.append(event.content)
            self._pieces.append(event.content)
            self.waits = False
            return self._delta(event.content)
        if self.ended:
            return b""
        if not self.inside:
            self._pass(turn_event)
            return self.begin()
        made = [self.begin()]
        if self.status == "queued" and turn_event.number:
            self.status = "in_progress"
            made.append(self._send("response.in_progress", response=self.response()))
        if turn_event.event is not None:
            made += self._shown(turn_event.number, turn_event.event)
        self.waits = turn_event.waits
        if turn_event.waits and self.questions and not self.ended:
            self.behind = turn_event.number
            made += self._end("completed")
        if self.ended:
            made.append(DONE)
        return b"".join(made)

    def _pass(self, turn_event: TurnEvent) -> None:
        """Takes an event of the responses before this one."""
        event = turn_event.event
        if isinstance(event, MessageDelta) and event.agent is UNSET:
            self._answer.append(event.content)
        elif isinstance(event, MessageRestarted) and event.agent is UNSET:
            self._answer = [event.content]
        elif isinstance(event, ToolStarted | ConfirmationAsked):
            self._note(event)
        self._ask(event)
        if turn_event.waits and self.questions:
            self.answered, self.questions = frozenset(self.questions), []
            if turn_event.number == self._id.start:
                self.inside, self._before = True, "".join(self._answer)
                return
            self._previous = ResponseId(self._turn.id, turn_event.number)
        if turn_event.number >= self._id.start or isinstance(event, Done | ErrorEvent):
            raise NotFound(f"Response with id '{self._id}' not found.")

    def _ask(self, event: Event | None) -> bool:
        """Whether an event asks the client something new: after a restart a question may come again."""
        question = asks(event)
        if question is None or question in self._known:
            return False
        self._known.add(question)
        self.questions.append(question)
        return True

    def _note(self, event: ToolStarted | ConfirmationAsked) -> None:
        if isinstance(event, ConfirmationAsked):
            self._approvals[event.call_id] = event.confirmation_id
        elif event.agent is UNSET and event.tool not in self._own_tools:
            self._calls[event.call_id] = event

    def _shown(self, number: int, event: Event) -> Iterator[bytes]:
        asked = self._ask(event)
        if self._text_ended and not isinstance(event, Done):
            yield from self._close()
        match event:
            case ConfirmationAsked():
                self._note(event)
                if asked:
                    yield from self._whole(approval_request(event))
            case _ if event.agent is not UNSET:
                return
            case MessageDelta():
                self._answer.append(event.content)
                yield from self._text("message", "msg", number, event.content)
            case Thinking():
                yield from self._text("reasoning", "rs", number, event.content)
            case MessageRestarted():
                self._answer = [event.content]
                yield from self._restart(number, event.content)
            case MessageDone():
                self._text_ended, self._place = self._open is not None, b""
            case ToolStarted():
                self._note(event)
            case ToolFinished():
                yield from self._tool(number, event)
            case ClientToolCalled():
                if asked:
                    yield from self._function(number, event)
            case Done():
                yield from self._done(event)
            case ErrorEvent():
                self._error = {"code": CODES.get(event.code, event.code), "message": event.message}
                yield from self._end("failed", "incomplete")
            case _ if not isinstance(event, _NOT_SHOWN):
                item = {"id": self._id.item("ev", number), "type": f"bytebrew:{event.name}", "status": "completed"}
                yield from self._whole(item | {"data": msgspec.to_builtins(event)})

    def _done(self, event: Done) -> Iterator[bytes]:
        self._usage = event.usage
        if event.status == "cancelled":
            yield from self._end("cancelled", "incomplete")
        elif event.finish_reason == "max_tokens":
            self._incomplete = "max_output_tokens"
            yield from self._end("incomplete", "incomplete")
        else:
            yield from self._end("completed")

    def _end(self, status: str, item_status: str = "completed") -> Iterator[bytes]:
        yield from self._close(item_status)
        self.status, self.ended = status, True
        # a cancelled response has no stream event of its own: it is one that is not complete
        yield self._send(_TERMINAL.get(status, "response.incomplete"), response=self.response())

    def _text(self, kind: str, prefix: str, number: int, delta: str) -> Iterator[bytes]:
        if self._open is None or self._open["type"] != kind:
            yield from self._close()
            yield from self._begin_text(kind, self._id.item(prefix, number))
        self._pieces.append(delta)
        if kind == "message":
            yield self._delta(delta)
        else:
            yield self._part("response.reasoning_summary_text.delta", delta=delta)

    def _delta(self, delta: str) -> bytes:
        """A piece of the answer, the most frequent of all: it is encoded without a dict of its own."""
        number, self._sent = self._sent, self._sent + 1
        if number <= self._after:
            return b""
        return b'event: response.output_text.delta\ndata: %b%d%b%b,"logprobs":[]}\n\n' % (
            b'{"type":"response.output_text.delta","sequence_number":',
            number,
            self._place,
            _encode(delta),
        )

    def _begin_text(self, kind: str, item_id: str) -> Iterator[bytes]:
        if kind == "message":
            self._open = {"id": item_id, "type": kind, "status": "in_progress", "role": "assistant", "content": []}
            place = {"item_id": item_id, "output_index": self._index, "content_index": 0}
            self._place = b"," + _encode(place)[1:-1] + b',"delta":'
            yield self._add(self._open)
            yield self._part("response.content_part.added", part=text_part(""))
        else:
            self._open = {"id": item_id, "type": kind, "status": "in_progress", "summary": []}
            yield self._add(self._open)
            yield self._part("response.reasoning_summary_part.added", part={"type": "summary_text", "text": ""})

    def _close(self, status: str = "completed") -> Iterator[bytes]:
        """Ends the item whose text comes."""
        if (item := self._open) is None:
            return
        text = "".join(self._pieces)
        if item["type"] == "message":
            part = text_part(text)
            item["content"] = [part]
            yield self._part("response.output_text.done", text=text, logprobs=[])
            yield self._part("response.content_part.done", part=part)
        else:
            part = {"type": "summary_text", "text": text}
            item["summary"] = [part]
            yield self._part("response.reasoning_summary_text.done", text=text)
            yield self._part("response.reasoning_summary_part.done", part=part)
        item["status"] = status
        self._open, self._pieces, self._text_ended, self._place = None, [], False, b""
        yield self._finish(item)

    def _restart(self, number: int, content: str) -> Iterator[bytes]:
        """Ends what is no longer the answer, and leaves it out of the response."""
        yield from self._close("incomplete")
        rest = content.removeprefix(self._before) if content.startswith(self._before) else ""
        kept: list[dict[str, Any]] = []
        last_tool = max((n for n, item in enumerate(self._output) if item["type"] == "mcp_call"), default=-1)
        for n, item in enumerate(self._output):
            if item["type"] == "message":
                text = item["content"][0]["text"]
                if item["status"] != "completed" or not rest.startswith(text):
                    continue
                rest = rest.removeprefix(text)
            elif item["type"] == "reasoning" and n > last_tool:
                continue
            kept.append(item)
        self._output = kept
        if rest:
            yield from self._text("message", "msg", number, rest)

    def _tool(self, number: int, event: ToolFinished) -> Iterator[bytes]:
        """A call of the engine's own tool, once it has ended: until then it may be a question."""
        if (call := self._calls.pop(event.call_id, None)) is None:
            return
        yield from self._close()
        arguments, failed = arguments_of(call.input), event.has_error
        item = mcp_call(self._id.item("mcp", number), call.tool, self._approvals.get(event.call_id))
        yield self._add(item)
        about = {"item_id": item["id"], "output_index": self._index}
        yield self._send("response.mcp_call.in_progress", **about)
        yield self._send("response.mcp_call_arguments.delta", **about, delta=arguments)
        yield self._send("response.mcp_call_arguments.done", **about, arguments=arguments)
        yield self._send("response.mcp_call.failed" if failed else "response.mcp_call.completed", **about)
        item |= {"status": "failed" if failed else "completed", "arguments": arguments}
        if failed:
            content = [{"type": "text", "text": event.output}]
            item["error"] = {"type": "mcp_tool_execution_error", "content": content}
        else:
            item["output"] = event.output
        yield self._finish(item)

    def _function(self, number: int, event: ClientToolCalled) -> Iterator[bytes]:
        yield from self._close()
        arguments = arguments_of(event.input)
        item = function_call(self._id.item("fc", number), event)
        yield self._add(item)
        about = {"item_id": item["id"], "output_index": self._index}
        yield self._send("response.function_call_arguments.delta", **about, delta=arguments)
        yield self._send("response.function_call_arguments.done", **about, name=event.tool, arguments=arguments)
        item |= {"status": "completed", "arguments": arguments}
        yield self._finish(item)

    def _whole(self, item: dict[str, Any]) -> Iterator[bytes]:
        yield from self._close()
        yield self._add(item)
        yield self._finish(item)

    def _add(self, item: dict[str, Any]) -> bytes:
        return self._send("response.output_item.added", output_index=self._index, item=item)

    def _finish(self, item: dict[str, Any]) -> bytes:
        self._output.append(item)
        made = self._send("response.output_item.done", output_index=self._index, item=item)
        self._index += 1
        return made

    def _part(self, kind: str, **fields: Any) -> bytes:
        """A stream event of the open item's one part."""
        item = self._open or {}
        place = "content_index" if item["type"] == "message" else "summary_index"
        about = {"item_id": item["id"], "output_index": self._index, place: 0}
        return self._send(kind, **about, **fields)

    def _send(self, kind: str, **fields: Any) -> bytes:
        number, self._sent = self._sent, self._sent + 1
        if number <= self._after:
            return b""
        data = _encode({"type": kind, "sequence_number": number, **fields})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
