"""What clients of Chat Completions send; fields that are not named here change nothing."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.json import decode

from bytebrew import Attachment, Detail, InvalidRequest, Message, ResponseFormat, ToolCall, ToolSpec

from ..attachments import attachment
from ..schemas import without_dialect

MOST_MESSAGES = 10_000
AUDIO = {"wav": "audio/wav", "mp3": "audio/mpeg"}


class TextPart(Struct, frozen=True, tag_field="type", tag="text"):
    """A part with text."""

    text: str


class RefusalPart(Struct, frozen=True, tag_field="type", tag="refusal"):
    """A part with the refusal of an assistant."""

    refusal: str


class ImageUrl(Struct, frozen=True):
    """Where an image is: a data URL, or one of HTTP that the vendor fetches."""

    url: str


class ImagePart(Struct, frozen=True, tag_field="type", tag="image_url"):
    """A part with an image."""

    image_url: ImageUrl | str


class AudioData(Struct, frozen=True):
    """Audio in base64."""

    data: str
    format: Literal["wav", "mp3"]


class AudioPart(Struct, frozen=True, tag_field="type", tag="input_audio"):
    """A part with audio."""

    input_audio: AudioData


class FileData(Struct, frozen=True):
    """A file as a data URL, a URL, or base64; files that were uploaded before are unknown here."""

    file_data: str = ""
    filename: str = ""
    file_id: str | None = None


class FilePart(Struct, frozen=True, tag_field="type", tag="file"):
    """A part with a file."""

    file: FileData


Texts = str | list[TextPart]


class SystemMessage(Struct, frozen=True, tag_field="role", tag="system"):
    """Instructions of the client."""

    content: Texts


class DeveloperMessage(Struct, frozen=True, tag_field="role", tag="developer"):
    """Instructions of the client, by their newer name."""

    content: Texts


class UserMessage(Struct, frozen=True, tag_field="role", tag="user"):
    """A message of the user."""

    content: str | list[TextPart | ImagePart | AudioPart | FilePart]


class CalledFunction(Struct, frozen=True):
    """The function of a call, with its arguments as JSON."""

    name: str
    arguments: str


class FunctionCall(Struct, frozen=True):
    """A tool call of the assistant."""

    id: str
    function: CalledFunction


class AssistantMessage(Struct, frozen=True, tag_field="role", tag="assistant"):
    """An answer, as the client has it."""

    content: str | list[TextPart | RefusalPart] | None = None
    tool_calls: list[FunctionCall] | None = None


class ToolMessage(Struct, frozen=True, tag_field="role", tag="tool"):
    """The result of a call."""

    tool_call_id: str
    content: Texts


class FunctionDefinition(Struct, frozen=True):
    """A function that the client runs."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class FunctionTool(Struct, frozen=True):
    """A tool of the client."""

    function: FunctionDefinition
    type: Literal["function"] = "function"


class AnswerSchema(Struct, frozen=True):
    """A schema for the answer."""

    schema: dict[str, Any]
    name: str = "answer"
    description: str | None = None
    strict: bool | None = None


class AnswerFormat(Struct, frozen=True):
    """What the answer is."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: AnswerSchema | None = None


class FunctionName(Struct, frozen=True):
    """The name of a function."""

    name: str


class NamedFunction(Struct, frozen=True):
    """A tool by the name of its function."""

    function: FunctionName


class AllowedTools(Struct, frozen=True):
    """The tools that the model may call now."""

    tools: list[NamedFunction]
    mode: Literal["auto", "required"] = "auto"


class ToolChoice(Struct, frozen=True):
    """A choice among the tools."""

    type: str
    allowed_tools: AllowedTools | None = None


class StreamOptions(Struct, frozen=True):
    """What a stream has besides the answer."""

    include_usage: bool | None = None


class Completion(Struct, frozen=True, kw_only=True):
    """A conversation, of which the last messages are new; `model` is the name of a schema."""

    model: Annotated[str, Meta(min_length=1, max_length=255)]
    messages: Annotated[
        list[SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage],
        Meta(min_length=1, max_length=MOST_MESSAGES),
    ]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: str | ToolChoice | None = None
    response_format: AnswerFormat | None = None
    n: int | None = None
    logprobs: bool | None = None
    modalities: list[str] | None = None
    functions: list[Any] | None = None
    user: Annotated[str, Meta(max_length=255)] | None = None
    safety_identifier: Annotated[str, Meta(max_length=255)] | None = None

    def check(self) -> None:
        """InvalidRequest for a parameter that would change the shape of the answer and has no meaning here."""
        if self.n not in (None, 1):
            raise _unsupported("n", "an agent gives one answer; leave it out or send 1")
        if self.logprobs:
            raise _unsupported("logprobs", "they are not known here; leave it out")
        if "audio" in (self.modalities or ()):
            raise _unsupported("modalities", "answers are text")
        if self.functions:
            raise _unsupported("functions", "send tools, which have replaced it")
        among = isinstance(self.tool_choice, ToolChoice) and self.tool_choice.allowed_tools
        if not (among and among.mode == "auto") and self.tool_choice not in (None, "auto", "none"):
            raise _unsupported("tool_choice", "the agent decides what it calls; send auto, none or allowed_tools")

    def conversation(self) -> list[Message]:
        """The messages of user, assistant and tools."""
        made: list[Message] = []
        called: dict[str, str] = {}
        for n, one in enumerate(self.messages):
            if isinstance(one, UserMessage):
                made.append(_user(one, f"$.messages[{n}].content"))
            elif isinstance(one, AssistantMessage):
                calls = tuple(_call(call) for call in one.tool_calls or ())
                called |= {call.call_id: call.tool for call in calls}
                made.append(Message("assistant", _text(one.content), tool_calls=calls))
            elif isinstance(one, ToolMessage):
                tool = called.get(one.tool_call_id, "")
                made.append(Message("tool", _text(one.content), call_id=one.tool_call_id, tool=tool))
        return made

    def instructions(self) -> str:
        """What the client's own prompt says."""
        return "\n\n".join(
            _text(one.content) for one in self.messages if isinstance(one, SystemMessage | DeveloperMessage)
        )

    def client_tools(self, without: str) -> tuple[ToolSpec, ...]:
        """The tools that the client runs, without the one of this name."""
        tools = [] if self.tool_choice == "none" else [tool.function for tool in self.tools or ()]
        if isinstance(self.tool_choice, ToolChoice) and self.tool_choice.allowed_tools:
            allowed = {one.function.name for one in self.tool_choice.allowed_tools.tools}
            tools = [one for one in tools if one.name in allowed]
        return tuple(
            ToolSpec(one.name, one.description or "", {"type": "object", "properties": {}, **(one.parameters or {})})
            for one in tools
            if one.name != without
        )

    def format(self) -> ResponseFormat | None:
        """The format of the answer; any JSON object if the client wants JSON, None for that of the agent."""
        if self.response_format is None:
            return None
        if self.response_format.type == "text":
            return ResponseFormat(type="text")
        if self.response_format.type == "json_object":
            return ResponseFormat(type="json_schema", schema={"type": "object"})
        if (nested := self.response_format.json_schema) is None:
            raise _unsupported("response_format.json_schema", "send the schema of the answer")
        fields = {name: value for name, value in msgspec.to_builtins(nested).items() if value is not None}
        fields |= {"type": "json_schema", "schema": without_dialect(nested.schema)}
        try:
            return msgspec.convert(fields, ResponseFormat)
        except msgspec.ValidationError as error:
            raise _unsupported("response_format.json_schema", str(error)) from error


def _unsupported(name: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{name}: {message}", code="unsupported_value", details=[Detail(f"$.{name}", message)])


def _text(content: str | Sequence[Any] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(one.text for one in content if isinstance(one, TextPart))


def _user(message: UserMessage, path: str) -> Message:
    parts = [] if isinstance(message.content, str) else message.content
    files = tuple(_attached(one, f"{path}[{n}]") for n, one in enumerate(parts) if not isinstance(one, TextPart))
    return Message("user", _text(message.content), attachments=files)


def _attached(part: ImagePart | AudioPart | FilePart, path: str) -> Attachment:
    if isinstance(part, ImagePart):
        image = part.image_url
        where = f"{path}.image_url" + ("" if isinstance(image, str) else ".url")
        return attachment(image if isinstance(image, str) else image.url, where, usual="image/jpeg")
    if isinstance(part, AudioPart):
        audio = part.input_audio
        return attachment(audio.data, f"{path}.input_audio.data", usual=AUDIO[audio.format])
    if part.file.file_id:
        message = "there are no uploaded files here; send file_data"
        raise InvalidRequest(f"{path}.file.file_id: {message}", details=[Detail(f"{path}.file.file_id", message)])
    name = part.file.filename
    return attachment(part.file.file_data, f"{path}.file.file_data", name=name, usual="application/pdf")


def _call(call: FunctionCall) -> ToolCall:
    try:
        return ToolCall(call.function.name, decode(call.function.arguments or "{}", type=dict[str, Any]), call.id)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return ToolCall(call.function.name, {}, call.id, malformed=call.function.arguments)
