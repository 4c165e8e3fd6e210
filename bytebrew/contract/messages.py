"""What a model sees: messages, tool calls, and one request to a provider."""

from typing import Any, Literal

from msgspec import Struct, field

from bytebrew.base.http_client.answer_limits import Bounds

Role = Literal["user", "assistant", "tool"]
StopReason = Literal["end", "tool_calls", "max_tokens", "stop_sequence", "refusal"]


class ToolCall(Struct, frozen=True):
    """A model's wish to run a tool.

    `input` holds the arguments with their JSON types. Where the model's text was no JSON object, `input` is empty and
    `malformed` holds that text: the turn tells the model so. An empty `call_id` is filled in by the turn.
    """

    tool: str
    input: dict[str, Any]
    call_id: str = ""
    malformed: str | None = None


class Attachment(Struct, frozen=True, omit_defaults=True):
    """An image or a file of a user's message: its bytes in base64, or the URL at which the vendor finds it."""

    media_type: str
    data: str = ""
    url: str = ""
    name: str = ""


class Message(Struct, frozen=True, omit_defaults=True):
    """One entry of a conversation; `vendor` is what a provider wants back unchanged, such as a thinking signature.

    `broken_off` is there on an answer that did not come to its end: its turn's status, `failed` or `cancelled`.
    """

    role: Role
    content: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    tool: str = ""
    has_error: bool = False
    ends_turn: bool = False
    attachments: tuple[Attachment, ...] = ()
    broken_off: str = ""
    vendor: dict[str, Any] = field(default_factory=dict)


class ToolSpec(Struct, frozen=True):
    """A tool as a model is told of it; `input_schema` is a JSON Schema of type object."""

    name: str
    description: str
    input_schema: dict[str, Any]


class ModelRequest(Struct, frozen=True, kw_only=True):
    """One call of a model: where, what, and how; None leaves a choice to the vendor.

    `context_size` is how many tokens the conversation is made to fit into, for vendors that do not know. `bounds` say
    how much of the answer is taken in; what a provider keeps until the end it counts with an `Intake`.
    """

    model_name: str
    base_url: str
    api_key: str = ""
    api_version: str = ""
    system: str = ""
    messages: tuple[Message, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: Literal["auto", "required", "none"] = "auto"
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    context_size: int | None = None
    stop_sequences: tuple[str, ...] = ()
    bounds: Bounds = Bounds()


class Usage(Struct, frozen=True):
    """Tokens of one or more model calls; `thinking_tokens` are part of the output.

    `cached_tokens`, which came out of a vendor's cache, and `cache_write_tokens`, which went into it, are of the input.

    `cost_usd` is of the calls whose price is known, and None where no price is; a provider leaves it so.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    thinking_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float | None = None


class Stop(Struct, frozen=True):
    """The end of a model's answer and why it ended; `vendor` is kept with the message."""

    reason: StopReason = "end"
    vendor: dict[str, Any] = field(default_factory=dict)


class Spent(Struct, frozen=True):
    """The tokens of one call, under the name of the model that answered."""

    model: str
    usage: Usage
