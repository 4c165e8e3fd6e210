"""How each vendor is asked for a structured answer, with tools and without, and what comes back."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from bytebrew_anthropic import Anthropic
from bytebrew_chat_completions import azure_openai, deepseek, mistral, openai_compatible, openrouter, xai, zai
from bytebrew_google import google
from bytebrew_ollama import ollama

from bytebrew import Message, MessageDelta, ModelRequest, Provider, ResponseFormat, Stop, ToolSpec, Usage
from tests.upstream import client

WIRE = Path(__file__).parent.parent / "wire"
SCHEMA = {
    "type": "object",
    "properties": {
        "items": {"type": "array", "items": {"type": "object", "properties": {"price": {"type": "number"}}}}
    },
    "required": ["items"],
}
VALUE = {"items": [{"price": 1}, {"price": 2.5}]}
FORMAT = ResponseFormat(type="json_schema", name="prices", schema=SCHEMA, strict=True)
TOOL = ToolSpec("look", "Looks", {"type": "object", "properties": {}})
NESTED = {"type": "json_schema", "json_schema": {"name": "prices", "strict": True, "schema": SCHEMA}}
OBJECT = {"type": "json_object"}
anthropic = Anthropic()
CLOSED: dict[str, Any] = {
    "type": "object",
    "required": ["items"],
    "properties": {
        "items": {
            "type": "array",
            "items": {"type": "object", "properties": {"price": {"type": "number"}}, "additionalProperties": False},
        }
    },
    "additionalProperties": False,
}
"""The schema as Anthropic takes it."""


async def sent(provider: Provider, model: str = "m", base_url: str = "", **fields: Any) -> dict[str, Any]:
    """The body of a request, whose answer is read from the recorded one."""
    folder, name = {
        "anthropic": ("anthropic", "structured.sse"),
        "google": ("google", "structured.sse"),
        "ollama": ("ollama", "structured.ndjson"),
    }.get(provider.type, ("openai", "structured.sse"))
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        kind = "application/x-ndjson" if name.endswith("ndjson") else "text/event-stream"
        return httpx.Response(200, headers={"content-type": kind}, content=(WIRE / folder / name).read_bytes())

    url = base_url or provider.base_url or "https://azure.test"
    given: dict[str, Any] = {
        "system": "Be kind.",
        "messages": (Message("user", "Prices?"),),
        "response_format": FORMAT,
    } | fields
    request = ModelRequest(model_name=model, base_url=url, api_key="sk-0123456789", **given)
    async with client(transport=httpx.MockTransport(answer)) as http:
        events = [event async for event in provider.stream(request, http)]
    assert json.loads("".join(event.content for event in events if isinstance(event, MessageDelta))) == VALUE
    assert sum(event.output_tokens for event in events if isinstance(event, Usage)) == 14
    assert events[-1] == Stop()
    body: dict[str, Any] = json.loads(seen[0].content)
    return body


def system(body: dict[str, Any]) -> str:
    """The system text of a body."""
    if "messages" in body and isinstance(body.get("system"), list):
        return "".join(part["text"] for part in body["system"])
    if "systemInstruction" in body:
        return "".join(part["text"] for part in body["systemInstruction"]["parts"])
    return "".join(one["content"] for one in body["messages"] if one["role"] == "system")


def in_words(body: dict[str, Any]) -> bool:
    """Whether the system text has the schema."""
    return json.dumps(SCHEMA, separators=(",", ":")) in system(body)


@pytest.mark.parametrize(
    ("provider", "model", "base_url", "expected", "words"),
    [
        (openai_compatible, "gpt-5.4", "", NESTED, False),
        (openai_compatible, "llama", "http://localhost:8080/v1", NESTED, True),
        (azure_openai, "gpt", "", NESTED, False),
        (openrouter, "vendor/m", "", NESTED, False),
        (mistral, "mistral-large", "", NESTED, False),
        (xai, "grok-4", "", NESTED, False),
        (deepseek, "deepseek-chat", "", OBJECT, True),
        (zai, "glm-5", "", OBJECT, True),
    ],
)
async def test_a_format_without_tools_on_the_openai_wire(
    provider: Provider, model: str, base_url: str, expected: Any, words: bool
) -> None:
    body = await sent(provider, model, base_url)
    assert (body["response_format"], in_words(body)) == (expected, words)
    assert body.get("provider") == ({"require_parameters": True} if provider is openrouter else None)


@pytest.mark.parametrize(
    ("provider", "model", "base_url", "together"),
    [
        (openai_compatible, "gpt-5.4", "", True),
        (openai_compatible, "llama", "http://localhost:8080/v1", False),
        (azure_openai, "gpt", "", True),
        (openrouter, "vendor/m", "", True),
        (mistral, "mistral-large", "", False),
        (xai, "grok-4", "", True),
        (xai, "grok-3", "", False),
        (deepseek, "deepseek-chat", "", False),
        (zai, "glm-5", "", False),
    ],
)
async def test_beside_tools_the_format_is_sent_or_in_words_until_no_tool_may_be_called(
    provider: Provider, model: str, base_url: str, together: bool
) -> None:
    body = await sent(provider, model, base_url, tools=(TOOL,))
    assert ("response_format" in body, in_words(body)) == (together, not together)
    assert "tools" in body
    last = await sent(provider, model, base_url, tools=(TOOL,), tool_choice="none")
    assert "response_format" in last


@pytest.mark.parametrize("provider", [deepseek, zai])
async def test_an_object_is_not_asked_for_where_the_schema_is_of_something_else(provider: Provider) -> None:
    array = ResponseFormat(type="json_schema", schema={"type": ["object", "array"]})
    assert "response_format" not in await sent(provider, response_format=array)


async def test_anthropic_takes_what_it_supports_of_the_schema_with_tools_too() -> None:
    for tools in ((), (TOOL,)):
        body = await sent(anthropic, "claude-opus-4-8", tools=tools)
        assert body["output_config"] == {"format": {"type": "json_schema", "schema": CLOSED}}
        assert not in_words(body)


@pytest.mark.parametrize(
    ("model", "schema"),
    [
        ("claude-3-5-haiku-latest", SCHEMA),
        ("claude-opus-5", {"$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}, "$ref": "#/$defs/n"}),
        ("claude-opus-5", {"type": "object"}),
    ],
)
async def test_anthropic_is_asked_in_words_where_model_or_schema_are_not_supported(model: str, schema: Any) -> None:
    body = await sent(anthropic, model, response_format=ResponseFormat(type="json_schema", schema=schema))
    assert "output_config" not in body
    assert json.dumps(schema, separators=(",", ":")) in system(body)


async def test_anthropic_gets_references_resolved_and_no_bounds() -> None:
    schema = {
        "$defs": {"p": {"type": "number", "minimum": 0, "description": "in euros"}},
        "type": "object",
        "properties": {"p": {"$ref": "#/$defs/p"}, "c": {"oneOf": [{"const": 1}, {"type": "string", "maxLength": 3}]}},
        "required": ["p"],
    }
    body = await sent(anthropic, "claude-sonnet-5", response_format=ResponseFormat(type="json_schema", schema=schema))
    assert body["output_config"]["format"]["schema"] == {
        "type": "object",
        "required": ["p"],
        "properties": {
            "p": {"type": "number", "description": "in euros"},
            "c": {"anyOf": [{"const": 1}, {"type": "string"}]},
        },
        "additionalProperties": False,
    }


@pytest.mark.parametrize(("model", "together"), [("gemini-2.5-pro", False), ("gemini-3.1-pro", True)])
async def test_gemini_takes_the_schema_beside_tools_from_version_3_on(model: str, together: bool) -> None:
    enforced = {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
    body = await sent(google, model)
    assert enforced.items() <= body["generationConfig"].items()
    assert not in_words(body)
    body = await sent(google, model, tools=(TOOL,))
    assert ("responseJsonSchema" in body["generationConfig"], in_words(body)) == (together, not together)
    last = await sent(google, model, tools=(TOOL,), tool_choice="none")
    assert enforced.items() <= last["generationConfig"].items()
    assert ("tools" in last) == together  # older models refuse tools beside a format even if none may be called


async def test_ollama_has_the_schema_in_the_format_and_in_words_and_beside_tools_in_words_alone() -> None:
    body = await sent(ollama)
    assert (body["format"], in_words(body)) == (SCHEMA, True)
    body = await sent(ollama, tools=(TOOL,))
    assert ("format" in body, in_words(body), "tools" in body) == (False, True, True)
    body = await sent(ollama, tools=(TOOL,), tool_choice="none")
    assert (body["format"], "tools" in body) == (SCHEMA, False)
    assert "format" not in await sent(ollama, "gpt-oss:120b-cloud")


@pytest.mark.parametrize(
    "provider", [openai_compatible, azure_openai, openrouter, mistral, xai, deepseek, zai, anthropic, google, ollama]
)
async def test_a_request_without_a_format_says_nothing_of_one(provider: Provider) -> None:
    body = await sent(provider, response_format=None)
    assert system(body) == "Be kind."
    keys = {"response_format", "provider", "output_config", "format", "generationConfig"}
    assert not keys & body.keys() or body.get("generationConfig", {}).keys() <= {"thinkingConfig"}
