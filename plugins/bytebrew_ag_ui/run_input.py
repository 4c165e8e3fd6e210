"""RunAgentInput, the body of a run (AG-UI 1.0, spec/1.0/schema.json), and what of it goes to an agent."""

import json
from collections.abc import Iterable, Iterator, Sequence
from mimetypes import guess_type
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from bytebrew import Attachment, Detail, EarlierTurn, InvalidRequest, Message, ToolCall, ToolSpec, earlier_turns

Id = Annotated[str, Meta(min_length=1, max_length=255)]
_MEDIA = {"image": "image/jpeg", "audio": "audio/mpeg", "video": "video/mp4", "document": "application/pdf"}
"""The media type of a URL that says none, by the type of its part."""
ASIDE = frozenset({"system", "developer", "reasoning", "activity"})
"""Roles of messages that are no part of a conversation as the engine has it."""


class Source(Struct, rename="camel"):
    """Where the bytes of a part are: inline in base64 (`data`), or behind a `url`."""

    type: str
    value: str = ""
    mime_type: str | None = None


class Part(Struct, rename="camel"):
    """A part of a message; parts of other types, and files at a vendor, are passed over."""

    type: str
    text: str = ""
    source: Source | None = None


class Function(Struct, rename="camel"):
    """What a tool call calls; `arguments` are JSON as text."""

    name: str
    arguments: str = ""


class Call(Struct, rename="camel"):
    """A tool call of an assistant's message."""

    id: str
    function: Function
    metadata: dict[str, Any] | None = None


class ClientMessage(Struct, rename="camel"):
    """A message of the conversation as the client has it."""

    id: str
    role: Literal["developer", "system", "assistant", "user", "tool", "activity", "reasoning"]
    content: str | list[Part] | dict[str, Any] | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str = ""
    error: str | None = None
    metadata: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """Its text, the parts joined."""
        if isinstance(self.content, list):
            return "\n\n".join(part.text for part in self.content if part.type == "text" and part.text)
        return self.content if isinstance(self.content, str) else ""


class ClientTool(Struct, rename="camel"):
    """A tool that the client runs; `parameters` is a JSON Schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None


class Background(Struct):
    """Something that the agent should know for this run."""

    description: str
    value: str


class ResumeEntry(Struct, rename="camel"):
    """The answer to an interrupt."""

    interrupt_id: str
    status: Literal["resolved", "cancelled"]
    payload: Any = None


class RunInput(Struct, rename="camel"):
    """A run: the client's whole conversation, whose new messages the agent answers, or answers to interrupts.

    `tools` are run by the client. `context` and `state` reach the model as words of the user, for this run alone.
    """

    thread_id: Id
    run_id: Id
    messages: Annotated[list[ClientMessage], Meta(max_length=10_000)]
    protocol_version: str | None = None
    parent_run_id: str | None = None
    state: Any = None
    tools: list[ClientTool] | None = None
    resume: list[ResumeEntry] | None = None
    known: list[Background] | None = field(default=None, name="context")

    def instructions(self) -> str:
        """The client's own instructions, context and state, in words."""
        parts = [one.text for one in self.messages if one.role in ("system", "developer")]
        parts += [f"{one.description}: {one.value}" for one in self.known or ()]
        if self.state not in (None, {}, [], ""):
            parts.append(f"The state of the application: {json.dumps(self.state, ensure_ascii=False)}")
        return "\n\n".join(filter(None, parts))

    def client_tools(self) -> tuple[ToolSpec, ...]:
        """The tools of the client as the model reads them."""
        blank: dict[str, Any] = {"type": "object", "properties": {}}
        return tuple(ToolSpec(one.name, one.description, one.parameters or blank) for one in self.tools or ())


def attachments(message: ClientMessage, path: str) -> Iterator[Attachment]:
    """The images and files of a message; InvalidRequest with the path for one without a media type."""
    for n, part in enumerate(message.content if isinstance(message.content, list) else ()):
        source = part.source
        if part.type not in _MEDIA or source is None or source.type not in ("data", "url"):
            continue
        if source.type == "url":
            guessed = source.mime_type or guess_type(source.value.partition("?")[0])[0] or _MEDIA[part.type]
            yield Attachment(guessed, url=source.value)
        elif source.mime_type:
            yield Attachment(source.mime_type, data=source.value)
        else:
            at = f"{path}.content[{n}].source.mimeType"
            raise InvalidRequest(f"{at}: say what the data is", details=[Detail(at, "say what the data is")])


def history(messages: Sequence[ClientMessage]) -> tuple[EarlierTurn, ...]:
    """A conversation that the engine does not have, from its first message of the user on."""
    results = {one.tool_call_id: one for one in messages if one.role == "tool"}
    names = {call.id: call.function.name for one in messages for call in one.tool_calls or ()}
    found = list(_messages(messages, results.keys(), names))
    first = next((n for n, one in enumerate(found) if one.role == "user"), len(found))
    return earlier_turns(found[first:])


def _messages(messages: Sequence[ClientMessage], answered: Iterable[str], names: dict[str, str]) -> Iterator[Message]:
    known = frozenset(answered)
    for n, one in enumerate(messages):
        if one.role == "user":
            yield Message("user", one.text, attachments=tuple(attachments(one, f"$.messages[{n}]")))
        elif one.role == "assistant":
            calls = tuple(map(_call, (call for call in one.tool_calls or () if call.id in known)))
            if one.text or calls:
                yield Message("assistant", one.text, tool_calls=calls)
        elif one.role == "tool" and one.tool_call_id in names:
            tool, failed = names[one.tool_call_id], one.error is not None
            yield Message("tool", result(one), call_id=one.tool_call_id, tool=tool, has_error=failed)


def _call(call: Call) -> ToolCall:
    try:
        input = msgspec.json.decode(call.function.arguments or "{}")
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        input = None
    if isinstance(input, dict):
        return ToolCall(call.function.name, input, call.id)
    return ToolCall(call.function.name, {}, call.id, malformed=call.function.arguments)


def result(message: ClientMessage) -> str:
    """What the model reads as the result of a client's tool."""
    if message.error and message.error not in message.text:
        return "\n\n".join(filter(None, (message.error, message.text)))
    return message.text
