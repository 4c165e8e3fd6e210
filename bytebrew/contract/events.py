"""The events that clients receive: one Struct per event type."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from msgspec import UNSET, Struct, UnsetType, to_builtins

from bytebrew.contract.messages import Usage

FinishReason = Literal["stop", "max_tokens", "cancelled"]


Risk = Literal["safe", "caution", "dangerous"]
"""The risk that a tool declares, after MCP's annotations: none, some, or irreversible damage."""


REFUSED = "A person refused this call"
"""How the output of a call begins that did not run because a person refused it."""


class LastFrame(bytes):
    """The bytes of events after which a stream ends: the end of the answer is sent with them."""


class Event(Struct, frozen=True, kw_only=True):
    """An entry of a session's journal; `name` is its SSE event type.

    `agent` and `parent_call_id` are there only on a sub-agent's events in its parent's stream. A form overrides
    `awaits_answer` and `answered`: a turn that ends with it is `needs_input` until the session goes on.

    `public` are the fields that the public view shows: none of a type that does not name any, which is left out there.
    An event that `rises` goes to the root's stream where a sub-agent sends it, whether its client wants those or not.
    """

    name: ClassVar[str]
    public: ClassVar[tuple[str, ...]] = ()
    rises: ClassVar[bool] = False
    agent: str | UnsetType = UNSET
    parent_call_id: str | UnsetType = UNSET

    @property
    def awaits_answer(self) -> bool:
        """Whether it is a form, which the person's next message may answer by `{"form": {...}}`."""
        return False

    def answered(self, answers: Mapping[str, Any]) -> str:
        """The answers to the form as a message that a model can read.

        Raises Unprocessable with a detail for each invalid answer, whose path begins with `$.message.form`.
        """
        raise NotImplementedError


def form_of(event: Event) -> dict[str, Any] | None:
    """The event's data if it is a form for the person; nobody can answer that of a spawned agent."""
    return to_builtins(event) if event.awaits_answer and event.agent is UNSET else None


class Thinking(Event, frozen=True):
    """A piece of the model's reasoning, to be joined to those before it."""

    name = "thinking"
    public = ()
    content: str


class MessageDelta(Event, frozen=True):
    """A piece of the answer, to be joined to those before it."""

    name = "message_delta"
    public = ("content",)
    content: str


class MessageRestarted(Event, frozen=True):
    """The engine was stopped in the middle of an answer, and the model now says something else.

    Or the answer is structured and a step follows: then nothing of the steps before stays.

    `content` is the turn's text that stays, that of the steps before: clients drop all other pieces of text, and the
    reasoning since the turn's last tool result. The new pieces follow.
    """

    name = "message_restart"
    public = ("content",)
    content: str


class MessageDone(Event, frozen=True):
    """The whole answer: all the turn's deltas joined; `data` is its value if it is a structured one."""

    name = "message"
    public = ("content", "role", "data")
    content: str
    role: Literal["assistant"] = "assistant"
    data: Any | UnsetType = UNSET


class ToolStarted(Event, frozen=True):
    """A tool is about to run with these arguments."""

    name = "tool_call"
    public = ()
    tool: str
    input: dict[str, Any]
    call_id: str


class ToolFinished(Event, frozen=True):
    """A tool's result, or what went wrong with it."""

    name = "tool_result"
    public = ()
    tool: str
    output: str
    call_id: str
    has_error: bool = False

    @property
    def refused(self) -> bool:
        """Whether the call did not run because a person refused it."""
        return self.has_error and self.output.startswith(REFUSED)


class Notice(Event, frozen=True):
    """Something that a person may want to know; `names` are what it is about.

    `code` says what: `tools_awaited` and `tools_missing` are about sources of the agent's tools, `gate_unmatched` about
    names in its `confirm_before`, `client_tools_hidden` about tools of the client that the agent has by the same names,
    `budget_near` about a budget that is almost used up, `authorization_required` about MCP servers that the person
    has to authorize first.
    """

    name = "notice"
    public = ()
    code: str
    message: str
    names: tuple[str, ...] = ()


class ConfirmationAsked(Event, frozen=True):
    """A person is asked about a tool call; an answer names the question by `confirmation_id`, or its call by `call_id`.

    `session_id` and `turn_id` are those of the person's own turn, also where an agent asks that was spawned in it.
    `risk` is what the tool says of itself. `args_digest` is SHA-256 in hex over the tool's source, its name and its
    exact arguments, which `tool_call` has. Here an invisible character in them is shown by its number, as in
    `[U+202E]`.

    An `elicitation` comes from the tool's source while the call runs: `input` is what that says, a `message` and
    perhaps a `url`, and `input_schema` has the fields of the answer, which is sent as `input`. Its words are those of
    another system: they are not to be trusted.
    """

    name = "confirmation"
    public = ("session_id", "turn_id", "confirmation_id", "call_id", "expires_at")
    rises = True
    session_id: str
    turn_id: str
    confirmation_id: str
    call_id: str
    source: str
    tool: str
    risk: Risk
    input: dict[str, Any]
    args_digest: str
    kind: Literal["confirm", "unknown_outcome", "elicitation"]
    expires_at: str | None
    input_schema: dict[str, Any] | UnsetType = UNSET


class ClientToolCalled(Event, frozen=True):
    """The turn waits for the result of a tool that the chat request declared: run it and send what it returns.

    `input` is what the model calls it with, or what a person has put in its place. The result goes to
    POST /sessions/{session_id}/respond with the `call_id`.
    """

    name = "client_tool_call"
    public = ("session_id", "turn_id", "call_id", "tool", "input", "expires_at")
    session_id: str
    turn_id: str
    call_id: str
    tool: str
    input: dict[str, Any]
    expires_at: str | None


class Queued(Event, frozen=True):
    """The message waits until so many others of its session are answered; it comes again when that changes.

    With `needs_input` the first of them waits for a person. It has no id, for it is no event of the session.
    """

    name = "queued"
    public = ("session_id", "turn_id", "position", "needs_input")
    session_id: str
    turn_id: str
    position: int
    needs_input: bool


class Steer(Event, frozen=True):
    """A message has come for the turn that runs, which absorbs it at its next boundary: see `steered`.

    `turn_id` is the id that the request got. A turn that ends first leaves the message to a turn of that id.
    """

    name = "steer"
    public = ("turn_id", "message")
    turn_id: str
    message: str


class Steered(Event, frozen=True):
    """From here on the model has the message of the `steer` event with this `turn_id`; the turn goes on with it."""

    name = "steered"
    public = ("turn_id",)
    turn_id: str


class Summarised(Event, frozen=True):
    """Older turns of the session were replaced by a summary for the model; the session keeps all messages.

    `messages` of so many `turns` went into the summary, through the message number `through`. `tokens_before` is an
    estimate of what they and the summary before took, `tokens_after` of what the summary takes.
    """

    name = "summarised"
    public = ("messages", "turns")
    messages: int
    turns: int
    through: int
    tokens_before: int
    tokens_after: int
    model: str


class ContextTrimmed(Event, frozen=True):
    """The model answers without so many of the session's oldest messages, and perhaps without the ends of tool results.

    They are too long for its `window`, in tokens where the vendor has said how many, or could not be summarised.
    """

    name = "context_trimmed"
    public = ()
    reason: Literal["too_long", "no_summary"]
    messages: int
    window: int | None = None


class ErrorEvent(Event, frozen=True):
    """The last event of a failed turn; of a stream that failed by itself, where `turn_id` may be empty.

    Of a stream it has no id: the turn may go on, such as after a restart, and the session's events have its end.
    `retry_after` is in seconds, where the model's vendor named a wait. The public view has a sentence for the code in
    place of the message, which may be a vendor's own words.
    """

    name = "error"
    public = ("session_id", "turn_id", "code", "message", "retry_after")
    session_id: str
    turn_id: str
    code: str
    message: str
    retry_after: int | UnsetType = UNSET


class Done(Event, frozen=True):
    """The last event of a turn that ended well or was cancelled.

    `finish_reason` is `max_tokens` where the model came to its token limit in the middle of the answer.
    """

    name = "done"
    public = ("session_id", "turn_id", "status", "finish_reason")
    session_id: str
    turn_id: str
    usage: Usage
    status: Literal["completed", "cancelled"] = "completed"
    finish_reason: FinishReason = "stop"
