"""The answers that a client has of one turn: a request each, because the protocol ends an answer at a tool call."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from msgspec import UNSET, Struct
from msgspec.json import encode

from bytebrew import (
    ClientToolCalled,
    ConfirmationAsked,
    Done,
    ErrorEvent,
    Event,
    MessageDelta,
    MessageDone,
    MessageRestarted,
    Thinking,
    ToolFinished,
    ToolStarted,
    TurnEvent,
    Usage,
)

from . import questions
from .questions import APPROVE

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
GOES_ON = (MessageDelta, MessageRestarted, MessageDone, Done, ErrorEvent)
"""Events that come only once no call waits."""
FINISHES: Mapping[str, FinishReason] = {"max_tokens": "length"}


class Kept(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is stored with a turn of this face: what its answers have beside events.

    `link` is where a person answers questions. With `as_tools` these are calls of a tool of the client. A `whole` text
    comes at the end of the turn, because steps before it may be dropped. `fingerprint` is of the engine that began it.
    """

    face: Literal["openai_chat"] = "openai_chat"
    link: str = ""
    as_tools: bool = False
    whole: bool = False
    fingerprint: str = ""


class ShownCall(NamedTuple):
    """A call that an answer asks the client for, which is a question to its person if it has the tool APPROVE."""

    call_id: str
    tool: str
    input: Mapping[str, Any]


@dataclass(slots=True)
class Answer:
    """One answer of a turn: `pieces` of its text, and those that a stream had, of which some may have been taken back.

    `results` are of the calls that it asks for, as far as they are there and may be seen. `question` is the text that
    asks a person.
    """

    pieces: list[str] = field(default_factory=list)
    streamed: list[str] = field(default_factory=list)
    question: str = ""
    reasoning: str = ""
    calls: tuple[ShownCall, ...] = ()
    questions: tuple[ConfirmationAsked, ...] = ()
    results: dict[str, str] = field(default_factory=dict)
    finish: FinishReason | None = None
    error: ErrorEvent | None = None
    refusal: str = ""
    usage: Usage = field(default_factory=Usage)

    @property
    def text(self) -> str:
        """Its whole text."""
        said = "".join(self.pieces)
        return f"{said.rstrip()}\n\n{self.question}".lstrip() if self.question else said

    @property
    def streamed_text(self) -> str:
        """Its text as a stream had it."""
        return "".join(self.streamed)

    @property
    def ended(self) -> bool:
        """Whether nothing more comes in this answer."""
        return self.finish is not None or self.error is not None


class Answers:
    """Folds the events of a turn into its answers.

    An answer ends where the turn waits: with calls for the client, or else with questions to a person. The next one
    begins once all of these are answered, whoever did that.
    """

    def __init__(self, kept: Kept) -> None:
        self.all = [Answer()]
        self._kept = kept
        self._before = ""  # the turn's text before the newest answer
        self._reasoned = 0
        self._started: set[str] = set()
        self._open: dict[str, ClientToolCalled | ConfirmationAsked] = {}
        self._awaited: dict[str, None] = {}

    def add(self, entry: TurnEvent) -> list[dict[str, Any]]:
        """Takes the next event; returns what it adds to the newest answer, as `delta`s of the protocol."""
        answer, awaited, event = self.all[-1], bool(self._awaited), entry.event
        if type(event) is MessageDelta and event.agent is UNSET and not (self._open or awaited or answer.ended):
            return list(self._say(answer, event.content))  # nearly all events are these
        self._close(entry)
        if self._awaited:
            return []
        if awaited:
            self._before, self._reasoned = self._before + "".join(answer.pieces), 0
            answer = Answer()
            self.all.append(answer)
        if answer.ended:
            return []
        made = list(self._content(answer, event))
        if entry.waits and not answer.ended:
            made += self._wait(answer)
        return made

    def _close(self, entry: TurnEvent) -> None:
        """Drops the calls and questions that the event shows to be answered."""
        event = entry.event
        if isinstance(event, ToolFinished) and event.agent is UNSET and event.call_id in self._awaited:
            self.all[-1].results[event.call_id] = event.output
        if entry.waits:  # their results may be hidden
            for key in [key for key, asked in self._open.items() if asked.parent_call_id is UNSET]:
                if key not in entry.waiting:
                    self._settle(key)
        if isinstance(event, ToolFinished) and event.agent is UNSET:
            self._settle(event.call_id)
            self._settle_below(lambda above: above == event.call_id or above not in self._started)
        elif isinstance(event, ClientToolCalled | ConfirmationAsked):
            if self._open.get(_key(event)) != event:
                self._settle(_key(event))
            if event.parent_call_id is not UNSET:  # a spawned agent asks one question at a time
                self._settle_below(lambda above: above == event.parent_call_id)
        elif isinstance(event, GOES_ON) and event.agent is UNSET:
            self._awaited.clear()
            self._open.clear()

    def _settle_below(self, is_above: Callable[[str], bool]) -> None:
        """Drops the questions of spawned agents by the call that spawned them."""
        for key, asked in list(self._open.items()):
            if asked.parent_call_id is not UNSET and is_above(asked.parent_call_id):
                self._settle(key)

    def _settle(self, key: str) -> None:
        self._open.pop(key, None)
        self._awaited.pop(key, None)

    def _content(self, answer: Answer, event: Event | None) -> Iterator[dict[str, Any]]:
        if isinstance(event, ClientToolCalled | ConfirmationAsked):
            self._open[_key(event)] = event
        if event is None or event.agent is not UNSET:
            return
        if isinstance(event, ToolStarted):
            self._started.add(event.call_id)
        elif isinstance(event, ToolFinished):
            self._reasoned = len(answer.reasoning)
        elif isinstance(event, Thinking):
            answer.reasoning += event.content
            yield {"reasoning_content": event.content}
        elif isinstance(event, MessageDelta):
            yield from self._say(answer, event.content)
        elif isinstance(event, MessageRestarted):
            answer.reasoning = answer.reasoning[: self._reasoned]
            yield from self._restart(answer, event.content)
        elif isinstance(event, MessageDone):
            text = self._before + "".join(answer.pieces)
            if not event.content.startswith(text):
                yield from self._restart(answer, text := "")
            yield from self._say(answer, event.content[len(text) :])
            yield from self._release(answer)
        elif isinstance(event, Done):
            yield from self._release(answer)
            answer.finish, answer.usage = FINISHES.get(event.finish_reason, "stop"), event.usage
        elif isinstance(event, ErrorEvent) and event.code == "model_refusal":
            answer.finish, answer.refusal = "content_filter", event.message
            yield {"refusal": event.message}
        elif isinstance(event, ErrorEvent):
            answer.error = event

    def _say(self, answer: Answer, content: str) -> Iterator[dict[str, Any]]:
        answer.pieces.append(content)
        if content and not self._kept.whole:
            yield _streamed(answer, content)

    def _release(self, answer: Answer) -> Iterator[dict[str, Any]]:
        """The text that was held back."""
        if self._kept.whole and not answer.streamed and (text := answer.text):
            yield _streamed(answer, text)

    def _restart(self, answer: Answer, kept: str) -> Iterator[dict[str, Any]]:
        """Goes on behind another text; what a stream has had stays there, and the new text is set off from it."""
        own = len(self._before)
        self._before, answer.pieces = kept[:own], [kept[own:]]
        if answer.streamed_text not in ("", kept[own:]):
            yield _streamed(answer, "\n\n")

    def _wait(self, answer: Answer) -> Iterator[dict[str, Any]]:
        """Ends an answer with what is open: calls for the client, or else questions in words."""
        asked = [one for one in self._open.values() if isinstance(one, ConfirmationAsked)]
        as_calls = [one for one in asked if self._kept.as_tools and not _is_hidden(one)]
        for one in self._open.values():
            if isinstance(one, ClientToolCalled):
                answer.calls += (ShownCall(one.call_id, one.tool, one.input),)
        answer.calls += tuple(ShownCall(one.confirmation_id, APPROVE, questions.arguments(one)) for one in as_calls)
        if answer.calls:
            left = [one for one in asked if one not in as_calls]
            self._awaited = {key: None for key, one in self._open.items() if one not in left}
            answer.finish = "tool_calls"
            yield {"tool_calls": [{"index": n, **tool_call(one)} for n, one in enumerate(answer.calls)]}
        elif asked:
            self._awaited = dict.fromkeys(self._open)
            answer.questions, answer.finish = tuple(asked), "stop"
            answer.question = questions.text(asked, self._kept.link)
            yield _streamed(answer, f"\n\n{answer.question}" if answer.streamed else answer.question)


def _streamed(answer: Answer, text: str) -> dict[str, Any]:
    answer.streamed.append(text)
    return {"content": text}


def tool_call(call: ShownCall) -> dict[str, Any]:
    """A call as the protocol has it."""
    function = {"name": call.tool, "arguments": encode(call.input).decode()}
    return {"id": call.call_id, "type": "function", "function": function}


def _key(event: ClientToolCalled | ConfirmationAsked) -> str:
    """The id of the call that waits; ids of spawned agents' calls may be those of the root's."""
    if isinstance(event, ConfirmationAsked) and event.parent_call_id is not UNSET:
        return event.confirmation_id
    return event.call_id


def _is_hidden(event: ClientToolCalled | ConfirmationAsked) -> bool:
    """Whether it is a question in the public view."""
    return isinstance(event, ConfirmationAsked) and not event.tool
