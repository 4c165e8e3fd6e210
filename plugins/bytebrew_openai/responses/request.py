"""The body of a new response, and what of it the engine has no use for."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import fields, replace

from bytebrew import Detail, InvalidRequest, ResponseFormat, ToolSpec

from ..schemas import without_dialect

_UNSUPPORTED = {
    "conversation": "conversations are not offered: continue one with previous_response_id",
    "prompt": "prompt templates are not offered: the prompt is the agent's",
}
_FIELDS = {
    "$.response_format": "$.text.format",
    "$.client_tools": "$.tools",
    "$.attachments": "$.input",
    "$.message": "$.input",
}
"""Fields of the engine's chat, and where their values are in a request for a response."""
_LOGPROBS = "message.output_text.logprobs"
_REPEATED = {
    "frequency_penalty": 0.0,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "temperature": 1.0,
    "top_p": 1.0,
}
"""Fields that change nothing and are repeated in the response, with what stands there if they are absent."""


Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
"""What a client notes of a response, within OpenAI's limits."""


class NewResponse(Struct, frozen=True, kw_only=True):
    """A message to a schema, the `model`, or to the agent that gave the response `previous_response_id`.

    `input` is a text, or items of a conversation; `tools` of type function run in the client. `instructions` are for
    this response. With `background` the answer comes at once, to be asked for by GET. A response with `store` false is
    found by no later request. Sampling parameters are accepted and change nothing: they are the agent's.
    """

    model: Annotated[str, Meta(max_length=255)] = ""
    input: str | Annotated[list[dict[str, Any]], Meta(max_length=10_000)] = ""
    instructions: Annotated[str, Meta(max_length=100_000)] | None = None
    previous_response_id: Annotated[str, Meta(max_length=255)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    stream: bool | None = None
    background: bool | None = None
    include: list[str] | None = None
    top_logprobs: int | None = None
    conversation: Any = None
    prompt: Any = None
    user: Annotated[str, Meta(max_length=255)] | None = None
    frequency_penalty: float | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    parallel_tool_calls: bool | None = None
    presence_penalty: float | None = None
    prompt_cache_key: str | None = None
    reasoning: dict[str, Any] | None = None
    safety_identifier: Annotated[str, Meta(max_length=255)] | None = None
    tier: str | None = field(default=None, name="service_tier")
    temperature: float | None = None
    top_p: float | None = None


class FunctionTool(Struct, frozen=True, kw_only=True):
    """A tool that the client runs."""

    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


def invalid(path: str, message: str, code: str | None = None) -> InvalidRequest:
    """The refusal of a field; a message that is no sentence begins with the field."""
    words = message if message.endswith(".") else f"{path.removeprefix('$.')}: {message}"
    return InvalidRequest(words, code=code, details=[Detail(path, message)])


def converted(value: Any, kind: Any, path: str) -> Any:
    """A part of the body as a type; InvalidRequest with the path of what is wrong in it."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, within = str(error).partition(" - at `$")
        raise invalid(path + within.removesuffix("`"), message) from error


def renamed(error: InvalidRequest) -> InvalidRequest:
    """A refusal of the engine's chat, with the fields by the names that they have here."""
    message, details = error.message, error.details
    for name, here in _FIELDS.items():
        message = message.replace(name, here)
        details = tuple(replace(one, path=one.path.replace(name, here)) for one in details)
    return InvalidRequest(message, code=error.code, details=details)


def check(body: NewResponse) -> None:
    """Raises InvalidRequest for what would change the answer and cannot be honoured."""
    for name, message in _UNSUPPORTED.items():
        if getattr(body, name) is not None:
            raise invalid(f"$.{name}", message)
    if body.top_logprobs or _LOGPROBS in (body.include or ()):
        raise invalid("$.top_logprobs" if body.top_logprobs else "$.include", "log probabilities are not offered")
    if body.background and body.store is False:
        raise invalid("$.background", "a response that is not stored cannot run in the background")


def function_tools(body: NewResponse) -> list[FunctionTool]:
    """The tools that the client runs; InvalidRequest for others, which the agent has and no request adds."""
    for n, one in enumerate(body.tools or ()):
        if one.get("type") != "function":
            raise invalid(f"$.tools[{n}].type", "only tools of type function: others are configured with the agent")
    return [converted(one, FunctionTool, f"$.tools[{n}]") for n, one in enumerate(body.tools or ())]


def declared(body: NewResponse, tools: list[FunctionTool]) -> tuple[ToolSpec, ...]:
    """The tools that the model may call, as `tool_choice` limits them."""
    choice, allowed = body.tool_choice, {one.name for one in tools}
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = {
            one.get("name") for one in converted(choice.get("tools"), list[dict[str, Any]], "$.tool_choice.tools")
        }
        choice = choice.get("mode", "auto")
    if choice not in (None, "auto", "none"):
        raise invalid("$.tool_choice", "the model decides which tools it calls: auto, none or allowed_tools")
    if choice == "none":
        return ()
    none: dict[str, Any] = {"type": "object", "properties": {}}
    return tuple(
        ToolSpec(one.name, one.description or "", one.parameters or none) for one in tools if one.name in allowed
    )


def response_format(body: NewResponse) -> ResponseFormat | None:
    """The format of the answer; None for plain text."""
    given = converted((body.text or {}).get("format") or {"type": "text"}, dict[str, Any], "$.text.format")
    if given.get("type") == "text":
        return None
    if given.get("type") == "json_object" or (given.get("type") == "json_schema" and not given.get("schema")):
        given = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}
    present = {name: value for name, value in given.items() if value is not None}
    if isinstance(schema := given.get("schema"), dict):
        present["schema"] = without_dialect(schema)
    made: ResponseFormat = converted(present, ResponseFormat, "$.text.format")
    return made


_SENT = {one.encode_name: one.name for one in fields(NewResponse) if one.encode_name in _REPEATED}


def repeated(body: NewResponse, tools: list[FunctionTool], previous: str | None) -> dict[str, Any]:
    """The fields of the request that its response has."""
    given = {name: getattr(body, field) for name, field in _SENT.items()}
    return {
        **{name: usual if given[name] is None else given[name] for name, usual in _REPEATED.items()},
        "background": bool(body.background),
        "instructions": body.instructions,
        "metadata": body.metadata or {},
        "previous_response_id": previous,
        "store": body.store is not False,
        "text": {"format": {"type": "text"}} | (body.text or {}),
        "tool_choice": "auto" if body.tool_choice is None else body.tool_choice,
        "tools": msgspec.to_builtins(tools),
        "top_logprobs": 0,
        "truncation": "auto",
    }
