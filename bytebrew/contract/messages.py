"""The input of a model: messages, tool calls, and one request to a provider."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field
from msgspec.json import encode
from msgspec.structs import force_setattr

from bytebrew.base.http_client.answer_limits import Bounds

Role = Literal["user", "assistant", "tool"]
StopReason = Literal["end", "tool_calls", "max_tokens", "stop_sequence", "refusal"]


class ToolCall(Struct, frozen=True):
    """A model's request to run a tool.

    `input` are the parsed arguments. If the model's text is not a JSON object, `input` is empty and `malformed` is that
    text, which is reported to the model. An empty `call_id` is filled in by the turn.
    """

    tool: str
    input: dict[str, Any]
    call_id: str = ""
    malformed: str | None = None


class Attachment(Struct, frozen=True, omit_defaults=True):
    """An image or a file of a user's message: its bytes in base64, or a URL that the vendor fetches."""

    media_type: str
    data: str = ""
    url: str = ""
    name: str = ""


class Message(Struct, frozen=True, omit_defaults=True):
    """One entry of a conversation; `vendor` is returned to the provider unchanged, such as a thinking signature.

    `broken_off` of an incomplete answer is the status of its turn, `failed` or `cancelled`; it is `invalid` for one
    that the response format does not allow.
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
    """The description of a tool for a model; `input_schema` is a JSON Schema of type object."""

    name: str
    description: str
    input_schema: dict[str, Any]


FormatName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}\Z", description="letters, digits, _ and -, at most 64")]


class JsonSchemaFormat(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of a response format as OpenAI nests them."""

    name: FormatName = "answer"
    description: Annotated[str, Meta(max_length=2000)] = ""
    schema: dict[str, Any]
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a final answer is: JSON that is valid against `schema`, a JSON Schema (draft 2020-12), or any `text`.

    `name`, `description` and `strict` are for vendors that take them. OpenAI's form, with these fields in
    `json_schema`, is read and becomes this one.
    """

    type: Literal["json_schema", "text"]
    name: FormatName = "answer"
    description: Annotated[str, Meta(max_length=2000)] = ""
    schema: dict[str, Any] = {}
    strict: bool | None = None
    json_schema: JsonSchemaFormat | None = None

    def __post_init__(self) -> None:
        if nested := self.json_schema:
            for name in nested.__struct_fields__:
                force_setattr(self, name, getattr(nested, name))
            force_setattr(self, "json_schema", None)
        if (self.type == "json_schema") is not bool(self.schema):
            raise ValueError("a format of type json_schema has a `schema` that is not empty, one of type text has none")

    def instructions(self) -> str:
        """The format in words, to be added to the system text for a vendor that does not enforce the schema."""
        schema = encode(self.schema).decode()
        about = f" ({self.description})" if self.description else ""
        return (
            "Your final answer, once you need no more tools, is JSON alone, without a code fence and without any text"
            f" before or after it. The JSON{about} must be valid against this JSON Schema: {schema}"
        )


class ModelRequest(Struct, frozen=True, kw_only=True):
    """One model call; None leaves a parameter to the vendor.

    `context_size` is the number of tokens that the conversation was trimmed to, for vendors that need it. `bounds`
    limit the size of the answer; a provider counts what it buffers with an `Intake`. `response_format`, of type
    json_schema, is set for providers with the capability `structured` only.
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
    response_format: ResponseFormat | None = None
    bounds: Bounds = Bounds()

    @property
    def instructed_system(self) -> str:
        """The system text with the response format in words, for a vendor that does not enforce it as it is."""
        words = self.response_format.instructions() if self.response_format else ""
        return "\n\n".join(filter(None, (self.system, words)))


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
    """The end of a model's answer and its reason; `vendor` is stored with the message."""

    reason: StopReason = "end"
    vendor: dict[str, Any] = field(default_factory=dict)


class Spent(Struct, frozen=True):
    """The tokens of one model call; `model` is the configured one that answered, `model_name` its vendor's name.

    `started_at` and `finished_at` are in seconds since 1970, retries included. `stop` is why the answer ended, empty if
    it did not. `purpose` is what the call was for: a step of the turn, a summary of older turns, or a tool
    that asked for it (`sampling`). `first_token_at` is when the answer began, 0 if it did not.
    """

    model: str
    usage: Usage
    provider: str = ""
    model_name: str = ""
    started_at: float = 0.0
    finished_at: float = 0.0
    stop: StopReason | Literal[""] = ""
    purpose: Literal["step", "summary", "sampling"] = "step"
    first_token_at: float = 0.0
