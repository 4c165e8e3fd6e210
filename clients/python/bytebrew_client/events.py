"""The events of a stream: one dataclass for each type. A type that this version does not know is an UnknownEvent."""

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from bytebrew_client.event_stream import Frame
from bytebrew_client.records import Usage, record


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event of a session; `id` is empty for one that is not stored.

    `agent` and `parent_call_id` are those of an agent that was spawned, None for the turn's own.
    """

    name: ClassVar[str] = ""
    id: str = ""
    agent: str | None = None
    parent_call_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Thinking(Event):
    """A piece of the model's reasoning."""

    name = "thinking"
    content: str = ""


@dataclass(frozen=True, kw_only=True)
class MessageDelta(Event):
    """A piece of the answer."""

    name = "message_delta"
    content: str = ""


@dataclass(frozen=True, kw_only=True)
class MessageRestart(Event):
    """Drop the pieces of the answer so far: `content` stays, and new pieces follow."""

    name = "message_restart"
    content: str = ""


@dataclass(frozen=True, kw_only=True)
class Message(Event):
    """The whole answer; `data` is its value if it is a structured one."""

    name = "message"
    content: str = ""
    role: str = "assistant"
    data: Any = None


@dataclass(frozen=True, kw_only=True)
class ToolCall(Event):
    """The model calls a tool."""

    name = "tool_call"
    tool: str = ""
    input: dict[str, Any] = field(default_factory=dict)
    call_id: str = ""


@dataclass(frozen=True, kw_only=True)
class ToolResult(Event):
    """A call has ended; with `has_error` the output says what went wrong."""

    name = "tool_result"
    tool: str = ""
    output: str = ""
    call_id: str = ""
    has_error: bool = False


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """Something that a person may want to know; `names` are what it is about."""

    name = "notice"
    code: str = ""
    message: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Confirmation(Event):
    """A call waits for a person. The public view has neither its tool nor its input, and no answer to it.

    An `elicitation` is a question of the tool's source: its `message` and `url` are in `input`, the answer's fields
    in `input_schema`, and `approve(question, input={...})` answers it.
    """

    name = "confirmation"
    session_id: str = ""
    turn_id: str = ""
    confirmation_id: str = ""
    call_id: str = ""
    source: str = ""
    tool: str = ""
    risk: Literal["safe", "caution", "dangerous"] | str = ""
    input: dict[str, Any] = field(default_factory=dict)
    args_digest: str = ""
    kind: Literal["confirm", "unknown_outcome", "elicitation"] | str = "confirm"
    expires_at: str | None = None
    input_schema: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ClientToolCall(Event):
    """A tool that the request declared is to run here; a function of the chat's `tools` does so by itself."""

    name = "client_tool_call"
    session_id: str = ""
    turn_id: str = ""
    call_id: str = ""
    tool: str = ""
    input: dict[str, Any] = field(default_factory=dict)
    expires_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class Queued(Event):
    """The message waits behind `position` others of its session; with `needs_input` the first waits for a person."""

    name = "queued"
    session_id: str = ""
    turn_id: str = ""
    position: int = 0
    needs_input: bool = False


@dataclass(frozen=True, kw_only=True)
class Steer(Event):
    """A message has come for the turn that runs; the model does not have it yet."""

    name = "steer"
    turn_id: str = ""
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Steered(Event):
    """From here on the model has the message of that `turn_id`."""

    name = "steered"
    turn_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Summarised(Event):
    """Older turns went into a summary for the model; the session keeps them."""

    name = "summarised"
    messages: int = 0
    turns: int = 0
    through: int = 0
    tokens_before: int = 0
    tokens_after: int = 0
    model: str = ""


@dataclass(frozen=True, kw_only=True)
class ContextTrimmed(Event):
    """The model answers without the oldest `messages` of the session."""

    name = "context_trimmed"
    reason: Literal["too_long", "no_summary"] | str = ""
    messages: int = 0
    window: int | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table."""

    label: str = ""
    value: str | int | float | bool = ""


@dataclass(frozen=True, kw_only=True)
class Action:
    """A button; its value is the user's next message."""

    label: str = ""
    type: Literal["primary", "secondary"] | str = "secondary"
    value: str = ""


@dataclass(frozen=True, kw_only=True)
class Option:
    """A choice of a question."""

    label: str = ""
    value: str = ""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A field of a form, answered under its `id`: a text, an option's value, or a list of values (multiselect)."""

    id: str = ""
    label: str = ""
    type: Literal["text", "select", "multiselect"] | str = "text"
    options: tuple[Option, ...] = ()
    default: str | tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class StructuredOutput(Event):
    """A table or a note to show, or a form, which ends the turn and is answered by the next message."""

    name = "structured_output"
    call_id: str = ""
    output_type: Literal["table", "info", "form"] | str = ""
    title: str = ""
    description: str = ""
    rows: tuple[Row, ...] = ()
    actions: tuple[Action, ...] = ()
    questions: tuple[Question, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ErrorEvent(Event):
    """The turn has failed: its last event."""

    name = "error"
    session_id: str = ""
    turn_id: str = ""
    code: str = ""
    message: str = ""
    retry_after: int | None = None


@dataclass(frozen=True, kw_only=True)
class Done(Event):
    """The turn has ended well or was cancelled: its last event. The public view has no usage."""

    name = "done"
    session_id: str = ""
    turn_id: str = ""
    usage: Usage = field(default_factory=Usage)
    status: Literal["completed", "cancelled"] | str = "completed"
    finish_reason: Literal["stop", "max_tokens", "cancelled"] | str = "stop"


@dataclass(frozen=True, kw_only=True)
class UnknownEvent(Event):
    """An event of a type that this version does not know, such as one of a plugin."""

    type: str = ""
    data: Any = None


EVENTS: dict[str, type[Event]] = {
    kind.name: kind
    for kind in (
        *(Thinking, MessageDelta, MessageRestart, Message, ToolCall, ToolResult, Notice, Confirmation),
        *(ClientToolCall, Queued, Steer, Steered, Summarised, ContextTrimmed, StructuredOutput, ErrorEvent, Done),
    )
}
"""The types of events by their names on the wire."""


def event_of(frame: Frame) -> Event:
    """The event of a frame; ValueError if its data is no JSON."""
    data = json.loads(frame.data)
    kind = EVENTS.get(frame.event)
    if kind is None or not isinstance(data, dict):
        sub_agent = {name: data.get(name) for name in ("agent", "parent_call_id")} if isinstance(data, dict) else {}
        return UnknownEvent(id=frame.id, type=frame.event, data=data, **sub_agent)
    return record(kind, data, id=frame.id)
