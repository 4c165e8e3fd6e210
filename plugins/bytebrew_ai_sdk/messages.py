"""The messages of `useChat` (UIMessage) and the body of its requests, as far as the engine reads them."""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes

from msgspec import UNSET, Meta, Struct, UnsetType, field

from bytebrew import Attachment, Detail, EarlierTurn, InvalidRequest, Message, ToolSpec, earlier_turns

Id = Annotated[str, Meta(min_length=1, max_length=255)]
ToolName = Annotated[
    str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}\Z", description="a name of letters, digits, _ and -, 64 at most")
]
_NO_DATA = "a data URL such as data:image/png;base64,..."


class Approval(Struct, frozen=True):
    """A person's answer to the question about a call: `id` is that of the part tool-approval-request."""

    id: str = ""
    approved: bool | None = None
    reason: str | None = None


class Part(Struct, frozen=True, rename="camel"):
    """A part of a message: text, file, a call of a tool, or data; other types are passed over."""

    type: str
    text: str = ""
    media_type: str = ""
    url: str = ""
    filename: str | None = None
    tool_call_id: str = ""
    state: str = ""
    output: Any = None
    error_text: str | None = None
    approval: Approval | None = None
    data: Any = None


class UIMessage(Struct, frozen=True):
    """A message as the page has it; of one of the assistant `id` is that of its turn."""

    id: Annotated[str, Meta(max_length=255)]
    role: Literal["system", "user", "assistant"]
    parts: Annotated[tuple[Part, ...], Meta(max_length=10_000)]

    @property
    def text(self) -> str:
        """Its texts."""
        return "\n\n".join(part.text for part in self.parts if part.type == "text" and part.text)

    @property
    def form(self) -> dict[str, Any] | None:
        """Its answers to a form, in a part `data-form`; None without any."""
        return next(
            (part.data for part in self.parts if part.type == "data-form" and isinstance(part.data, dict)), None
        )


class NewTool(Struct, frozen=True, rename="camel"):
    """A tool that the page runs; `parameters` is another name of its `inputSchema`."""

    description: Annotated[str, Meta(max_length=10_000)] | None = None
    input_schema: dict[str, Any] | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET


class ChatBody(Struct, frozen=True, rename="camel"):
    """What `useChat` sends: all messages of the chat, or the last one alone, in `messages` or as `message`.

    `tools` are tools that the page runs, by name, if the schema has `client_tools`. `system` are instructions for this
    turn. Both, like any field of a page's own, come in by the `body` of its transport.
    """

    id: Id
    messages: Annotated[tuple[UIMessage, ...], Meta(max_length=10_000)] = ()
    message: UIMessage | None = None
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = None
    tools: Annotated[dict[ToolName, NewTool], Meta(max_length=64)] = field(default_factory=dict)
    system: str | None = None

    @property
    def all(self) -> tuple[UIMessage, ...]:
        """The messages, the last of which is answered or goes on; InvalidRequest without any."""
        messages = self.messages or ((self.message,) if self.message else ())
        if not messages:
            raise InvalidRequest("messages: send one at least", details=[Detail("$.messages", "send one at least")])
        return messages

    @property
    def instructions(self) -> str:
        """`system` and the messages of that role."""
        own = (one.text for one in self.all if one.role == "system")
        return "\n\n".join(filter(None, (self.system, *own)))

    @property
    def client_tools(self) -> tuple[ToolSpec, ...]:
        """The tools of the page."""
        nothing = {"type": "object", "properties": {}}
        return tuple(
            ToolSpec(name, one.description or "", one.input_schema or one.parameters or nothing)
            for name, one in self.tools.items()
        )


def attachments(message: UIMessage, path: str) -> tuple[Attachment, ...]:
    """The files of a message; InvalidRequest with the path of one that is no data URL and no other."""
    return tuple(
        _attachment(part, f"{path}.parts[{n}].url") for n, part in enumerate(message.parts) if part.type == "file"
    )


def _attachment(part: Part, path: str) -> Attachment:
    name = part.filename or ""
    if not part.url.startswith("data:"):
        return Attachment(part.media_type, url=part.url, name=name)
    head, comma, data = part.url[5:].partition(",")
    media_type, *flags = head.split(";")
    try:
        raw = b64decode(data, validate=True) if "base64" in flags else unquote_to_bytes(data)
    except binascii.Error:
        comma = ""
    if not comma:
        raise InvalidRequest(f"The file is not {_NO_DATA}", details=[Detail(path, f"Expected {_NO_DATA}")])
    return Attachment(media_type or part.media_type, data=b64encode(raw).decode(), name=name)


def history(messages: Sequence[UIMessage]) -> tuple[EarlierTurn, ...]:
    """The turns of a chat that began elsewhere: its texts and files, without tools; a greeting is left out."""
    before: list[Message] = []
    for n, one in enumerate(messages):
        if one.role == "user":
            files = [file for file in attachments(one, f"$.messages[{n}]") if file.url or file.data]  # others are gone
            before.append(Message("user", one.text, attachments=tuple(files)))
        elif one.role == "assistant" and one.text and before:
            before.append(Message("assistant", one.text))
    return earlier_turns(before)


def kept_parts(message: UIMessage) -> list[dict[str, Any]]:
    """The parts of a user's message that are stored beside the turn, to be shown again; files without their bytes."""
    kept: list[dict[str, Any]] = []
    for part in message.parts:
        if part.type == "text":
            kept.append({"type": "text", "text": part.text})
        elif part.type == "file":
            url = "" if part.url.startswith("data:") else part.url
            kept.append({"type": "file", "mediaType": part.media_type, "filename": part.filename or "", "url": url})
        elif part.type == "data-form":
            kept.append({"type": "data-form", "data": part.data})
    return kept
