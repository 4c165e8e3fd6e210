"""Turns by chance, as the journal may have them, for tests of what is made of their events."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any, Literal

import hypothesis.internal.conjecture.optimiser  # noqa: F401  CPython 3.11 may fail to parse it deep in a stack
import msgspec
from bytebrew_structured_output import Action, Option, Question, Row, StructuredOutput
from hypothesis import strategies as st
from msgspec import UNSET, Struct
from msgspec.structs import replace

from bytebrew import (
    ConfirmationAsked,
    Done,
    ErrorEvent,
    Event,
    MessageDelta,
    MessageDone,
    Notice,
    PrecedingTurn,
    Thinking,
    ToolFinished,
    ToolStarted,
    TurnEvent,
    Usage,
)
from bytebrew.contract.events import (
    ClientToolCalled,
    ContextTrimmed,
    MessageRestarted,
    Queued,
    Steer,
    Steered,
    Summarised,
)
from bytebrew.store.journal import frame
from bytebrew.web.api_document.openapi import EVENTS
from bytebrew.web.faces.turn_events import EventDecoder, turn_events

SESSION, TURN, OTHER_TURN = (f"0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a{n}b" for n in (1, 2, 3))
SECRET = "s3cr3t"
"""In every text that the public view does not show."""
TOKENS = 987_600_000
"""Less than each number of tokens, which the public view does not show either."""
Turn = Sequence[tuple[int, Event]]
"""Events with their numbers, 0 for those that are not stored."""

DECODER = EventDecoder((*EVENTS, StructuredOutput))
encode = msgspec.json.Encoder().encode
pieces = st.sampled_from(["a", "Hello ", "wörld", "\n\ndata: x\n\n", "\u2028", '"}', "🙂", " "]) | st.text(
    min_size=1, max_size=5
)
values = st.dictionaries(st.sampled_from(["n", "city"]), st.integers(0, 9) | pieces, max_size=2)


def hidden(draw: Any) -> str:
    return f"{SECRET} {draw(pieces)}"


class _Writer:
    """Writes the events of one turn."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.events: list[Event] = []
        self.kept = self.text = ""
        self.open: list[tuple[str, str]] = []  # calls, with the names of their tools
        self._made = 0

    def name(self, word: str) -> str:
        self._made += 1
        return f"{word}_{self._made}"

    def add(self, event: Event) -> None:
        self.events.append(event)

    def say(self) -> None:
        piece = self.draw(pieces)
        self.text += piece
        self.add(MessageDelta(content=piece))

    def think(self) -> None:
        self.add(Thinking(content=hidden(self.draw)))

    def restart(self) -> None:
        self.text = self.kept
        self.add(MessageRestarted(content=self.kept))

    def structured_step(self) -> None:
        self.text = self.kept = ""
        self.add(MessageRestarted(content=""))

    def notice(self) -> None:
        self.add(Notice(code="tools_missing", message=hidden(self.draw), names=(SECRET,)))

    def summarised(self) -> None:
        self.add(
            Summarised(messages=4, turns=2, through=9, tokens_before=TOKENS + 1, tokens_after=TOKENS, model=SECRET)
        )

    def trimmed(self) -> None:
        self.add(ContextTrimmed(reason="too_long", messages=2, window=TOKENS))

    def steered(self) -> None:
        self.add(Steer(turn_id=OTHER_TURN, message=self.draw(pieces)))
        if self.draw(st.booleans()):
            self.add(Steered(turn_id=OTHER_TURN))

    def block(self) -> None:
        kind: Literal["table", "info", "form"] = self.draw(st.sampled_from(["table", "info", "form"]))
        options = (Option(label="Yes"), Option(label="No", value="n"))
        questions = (Question(id="q", label="Sure?", type="select", options=options, default="n"),)
        self.add(
            StructuredOutput(
                call_id=self.name("block"),
                output_type=kind,
                title=self.draw(pieces),
                rows=(Row(label="n", value=1),) if kind == "table" else (),
                actions=(Action(label="Go", type="primary"),) if kind == "info" else (),
                questions=questions if kind == "form" else (),
            )
        )

    def spawned(self) -> None:
        """Something of an agent that was spawned; its questions rise."""
        above: dict[str, Any] = {"agent": SECRET, "parent_call_id": self.open[-1][0] if self.open else f"up_{SECRET}"}
        called = self.name(SECRET)
        for event in self.draw(
            st.sampled_from(
                [
                    (Thinking(content=SECRET),),
                    (MessageDelta(content=SECRET),),
                    (
                        ToolStarted(tool=SECRET, input={"n": SECRET}, call_id=called),
                        ToolFinished(tool=SECRET, output=SECRET, call_id=called),
                    ),
                    (ToolStarted(tool=SECRET, input={"n": SECRET}, call_id=called), self.question(called, SECRET, {})),
                ]
            )
        ):
            self.add(replace(event, **above))

    def question(self, call_id: str, tool: str, input: dict[str, Any]) -> ConfirmationAsked:
        return ConfirmationAsked(
            session_id=SESSION,
            turn_id=TURN,
            confirmation_id=self.name("conf"),
            call_id=call_id,
            source=SECRET,
            tool=tool,
            risk="dangerous",
            input=input,
            args_digest=SECRET,
            kind=self.draw(st.sampled_from(["confirm", "unknown_outcome"])),
            expires_at=self.draw(st.sampled_from([None, "2026-03-01T09:00:00Z"])),
        )

    def call(self) -> None:
        """A call that begins: of a tool of the engine, one that asks first, or one of the client."""
        kind = self.draw(st.sampled_from(["own", "asks", "client", "asks, client"]))
        if "client" in kind:  # its name and input are what the client sent and must run
            call_id, tool, input = self.name("call"), "locate", self.draw(values)
        else:
            call_id, tool, input = self.name(f"call_{SECRET}"), f"tool_{SECRET}", {"n": hidden(self.draw)}
        self.add(ToolStarted(tool=tool, input=input, call_id=call_id))
        self.open.append((call_id, tool))
        if "asks" in kind:
            asked = self.question(call_id, tool, input)
            self.add(asked)
            if self.draw(st.booleans()):
                self.spawned()
            if self.draw(st.integers(0, 4)) == 0:  # a restart asks again
                self.add(asked)
        if "client" in kind:
            self.add(
                ClientToolCalled(
                    session_id=SESSION, turn_id=TURN, call_id=call_id, tool=tool, input=input, expires_at=None
                )
            )

    def results(self) -> None:
        while self.open:
            call_id, tool = self.open.pop(self.draw(st.integers(0, len(self.open) - 1)))
            self.add(
                ToolFinished(tool=tool, output=hidden(self.draw), call_id=call_id, has_error=self.draw(st.booleans()))
            )

    def step(self) -> None:
        acts = [self.say, self.say, self.think, self.notice, self.summarised, self.trimmed, self.steered, self.block]
        acts += [self.spawned, self.restart]
        for act in self.draw(st.lists(st.sampled_from(acts), max_size=6)):
            act()

    def calls(self) -> None:
        count = self.draw(st.integers(0, 3))
        at_once = self.draw(st.booleans())
        for _ in range(count):
            self.call()
            if not at_once:
                self.results()
        if self.draw(st.booleans()):
            self.spawned()

    def end(self, kind: str) -> None:
        ids: dict[str, Any] = {"session_id": SESSION, "turn_id": TURN}
        usage = Usage(input_tokens=TOKENS + 12, output_tokens=TOKENS + 34)
        if kind == "error":
            code = self.draw(
                st.sampled_from(["model_timeout", "budget_exceeded", f"vendor_{SECRET}", "internal_error"])
            )
            wait = self.draw(st.sampled_from([UNSET, 7]))
            self.add(ErrorEvent(**ids, code=code, message=hidden(self.draw), retry_after=wait))
        elif kind == "cancelled":
            self.add(Done(**ids, usage=usage, status="cancelled", finish_reason="cancelled"))
        else:
            data = self.draw(st.sampled_from([UNSET, UNSET, {"n": 1}, None]))
            self.add(MessageDone(content=self.text, data=data))
            self.add(Done(**ids, usage=usage, finish_reason="max_tokens" if kind == "max_tokens" else "stop"))


@st.composite
def turns(draw: Any) -> Turn:
    """A whole turn, from its place in the queue to `done` or `error`."""
    writer = _Writer(draw)
    ends = draw(st.sampled_from(["stop", "stop", "max_tokens", "error", "cancelled"]))
    for position in range(draw(st.integers(0, 2)), 0, -1):
        waits = draw(st.booleans())
        writer.add(Queued(session_id=SESSION, turn_id=TURN, position=position, needs_input=waits))
    for n in range(steps := draw(st.integers(1, 3))):
        writer.step()
        if n < steps - 1:
            writer.kept = writer.text
            writer.calls()
            if ends in ("error", "cancelled") and draw(st.booleans()):
                break
            writer.results()
            if draw(st.integers(0, 5)) == 0:
                writer.structured_step()
    if ends not in ("error", "cancelled"):
        writer.results()
    writer.end(ends)
    first = draw(st.integers(1, 1000))
    queued = sum(isinstance(event, Queued) for event in writer.events)
    return [(0 if n < queued else first + n - queued, event) for n, event in enumerate(writer.events)]


class StoredTurn(Struct, frozen=True, kw_only=True):
    """A turn as `FaceTurn` describes it, with the frames of its events in chunks as they may come."""

    turn: Turn
    kept: Any = None
    public: bool = False
    chunks: Sequence[bytes] = ()
    id: str = TURN
    session_id: str = SESSION
    schema: str = "support"
    created_at: str = "2026-03-01T09:00:00Z"
    ended_at: str | None = None
    message: str = "What is it?"
    newest: bool = True
    key: str = ""
    status: Literal["queued", "running", "completed", "failed", "cancelled"] = "running"
    failure: int | None = None

    @property
    def last(self) -> int | None:
        return self.turn[-1][0]

    def events(self, *, live: bool = True) -> AsyncGenerator[Sequence[TurnEvent], None]:
        return turn_events(_each(self.chunks or frames_of(self.turn)), DECODER, public=self.public)

    async def before(self) -> Sequence[PrecedingTurn] | None:
        return ()


def frames_of(turn: Turn) -> list[bytes]:
    """The frames of the journal, each alone."""
    return [_frame(number, event) for number, event in turn]


def _frame(number: int, event: Event) -> bytes:
    data = encode(event)
    return frame(number, event.name, data) if number else b"event: %s\ndata: %s\n\n" % (event.name.encode(), data)


async def _each(chunks: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        yield chunk


@st.composite
def chunks_of(draw: Any, turn: Turn) -> list[bytes]:
    """The frames of a turn in batches by chance, with comments between them."""
    frames = frames_of(turn)
    chunks: list[bytes] = []
    while frames:
        size = draw(st.integers(1, 5))
        chunks += [b": ping\n\n"] * draw(st.integers(0, 1))
        chunks.append(b"".join(frames[:size]))
        del frames[:size]
    return chunks
