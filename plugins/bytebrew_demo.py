"""The demo model, which needs no key and no network: it thinks, streams and calls tools."""

import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

import bytebrew
from bytebrew import (
    Capabilities,
    Engine,
    Http,
    Message,
    MessageDelta,
    ModelRequest,
    Provider,
    ProviderEvent,
    Register,
    Stop,
    Thinking,
    Tool,
    ToolCall,
    ToolError,
    ToolSpec,
    Usage,
    hookimpl,
)

SYSTEM = "You are the demo agent of a ByteBrew engine."


class DemoProvider(Provider):
    """Returns the same answer for the same message; with a response format, the smallest example of its schema.

    A message with the name of one of the agent's tools calls it, with the JSON object in the message as arguments.
    """

    type = "demo"
    capabilities = Capabilities(thinking=True, structured=True)
    demo = True

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        message = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
        results = _results(request.messages)
        named = [tool for tool in request.tools if tool.name in message]
        yield Thinking(content=f"The user wrote {len(message)} characters. ")
        spent = sum(len(message.content) for message in request.messages) // 4
        if named and not results:
            yield Thinking(content=f"They want {named[0].name}.")
            yield ToolCall(named[0].name, _arguments(message))
            yield Usage(input_tokens=spent, output_tokens=8)
            yield Stop("tool_calls")
            return
        yield Thinking(content="I answer at once.")
        text = _answer(message, results, request.tools)
        if request.response_format is not None:
            text = msgspec.json.encode(_example(request.response_format.schema)).decode()
        for piece in re.findall(r"\S+\s*", text):
            yield MessageDelta(content=piece)
        yield Usage(input_tokens=spent, output_tokens=len(text) // 4, thinking_tokens=8)
        yield Stop()


def _results(messages: tuple[Message, ...]) -> list[Message]:
    """The tool results since the last user message."""
    results: list[Message] = []
    for message in reversed(messages):
        if message.role == "user":
            break
        if message.role == "tool":
            results.insert(0, message)
    return results


def _arguments(message: str) -> dict[str, Any]:
    """The JSON object in the message, from its first brace to its last."""
    try:
        return msgspec.json.decode(message[message.find("{") : message.rfind("}") + 1], type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return {}


def _answer(message: str, results: list[Message], tools: tuple[ToolSpec, ...]) -> str:
    if results:
        return " ".join(f"{result.tool} says: {result.content}" for result in results)
    answer = f"You said: {message.strip()} "
    if tools:
        answer += f"I can also call {', '.join(tool.name for tool in tools)}: write its name in your message. "
    return answer + "I am the demo model; create a model with POST /api/v1/models to talk to a real one."


def _example(schema: Any) -> Any:
    """A value of the simple keywords of a schema: those of types, objects and arrays."""
    if not isinstance(schema, dict):
        return None
    if "const" in schema or schema.get("enum"):
        return schema["const"] if "const" in schema else schema["enum"][0]
    kind = schema.get("type", "object")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            return {name: _example(one) for name, one in schema.get("properties", {}).items()}
        case "array":
            return [_example(schema.get("items", {}))] * max(1, schema.get("minItems", 1))
        case "string":
            return "x" * schema.get("minLength", 1)
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return True
    return None


@bytebrew.tool(idempotent=True)
async def current_time(timezone: str = "UTC") -> str:
    """The date and time in a time zone of the IANA database, such as Europe/Berlin."""
    try:
        zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as error:  # unknown, malformed, or a directory of zones
        raise ToolError(f"'{timezone}' is not a time zone; try Europe/Berlin") from error
    return datetime.now(zone).isoformat(timespec="seconds")


@hookimpl
def register_providers(register: Register[Provider]) -> None:
    register(DemoProvider())


@hookimpl
def register_tools(register: Register[Tool]) -> None:
    register(current_time)


@hookimpl
async def startup(engine: Engine) -> None:
    await engine.offer(
        {
            "models": [{"name": "demo", "type": "demo", "model_name": "demo"}],
            "agents": [{"name": "demo", "model": "demo", "system": SYSTEM, "tools": ["current_time"]}],
            "schemas": [{"name": "demo", "entry_agent": "demo", "chat_enabled": True, "description": "Try me"}],
        }
    )
