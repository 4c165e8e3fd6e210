"""The vendors of the OpenAI wire: what each does otherwise, and the conformance kit over its own wire."""

from collections.abc import Sequence
from typing import Any

import httpx
import msgspec
import pytest
from bytebrew_anthropic import Anthropic
from bytebrew_chat_completions import (
    ChatCompletions,
    azure_openai,
    deepseek,
    mistral,
    openai_compatible,
    openrouter,
    xai,
    zai,
)
from bytebrew_google import google
from bytebrew_ollama import ollama

from bytebrew.base.errors import ProviderError
from bytebrew.base.http_client.client import UpstreamError
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.messages import Attachment, Message, ModelRequest, Stop, ToolCall, ToolSpec
from bytebrew.contract.provider import Provider, ProviderEvent
from bytebrew.testing import CHECKS, THOUGHTS, WORDS, Check, Wire
from tests.upstream import client, data

VENDORS = (openai_compatible, azure_openai, openrouter, deepseek, mistral, xai, zai)
anthropic = Anthropic()
KEY = "sk-echo-0123456789abcdef"
CALLS = (ToolCall("weather", {"city": "Zürich"}, "call_1"), ToolCall("weather", {"city": "北京"}, "call_2"))
THIRDS = [WORDS[:5], WORDS[5:9], WORDS[9:]]


def delta(reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": reason}]}


def counted(prompt: int = 11, completion: int = 7, **more: Any) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": prompt, "completion_tokens": completion, **more}}


def called(index: int, id: str, arguments: str, name: str = "weather") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return delta(tool_calls=[{"index": index, "id": id, "type": "function", "function": function}])


def wire(
    *,
    before: bytes = b"",
    thoughts: Sequence[Any] = (),
    ids: tuple[str, str] = ("call_a", "call_b"),
    usage: bool = True,
    error: Any,
    refusal: Any,
    statuses: Sequence[int] = (401, 429, 500),
    too_long: tuple[int, Any],
) -> Wire:
    """A vendor's wire; `usage` says whether the counts come in a chunk of their own, after the last."""
    first = delta(role="assistant", content="")
    words = [delta(content=third) for third in THIRDS]
    end = [delta("stop"), {"choices": [], **counted()}] if usage else [delta("stop", content="") | counted()]
    calls = [called(0, ids[0], '{"city": "Zürich"}'), called(1, ids[1], '{"city": "北京"}')]
    return Wire(
        text=before + data(first, *words, *end, "[DONE]"),
        tools=before + data(first, *calls, delta("tool_calls"), "[DONE]"),
        thinking=before + data(first, *thoughts, *words, *end, "[DONE]") if thoughts else b"",
        broken_arguments=before + data(first, called(0, ids[0], '{"city": '), delta("tool_calls"), "[DONE]"),
        error=before + data(first, words[0], error),
        refusals={status: msgspec.json.encode(refusal) for status in statuses},
        too_long=(too_long[0], msgspec.json.encode(too_long[1])),
    )


OPENAI_ERROR = {"error": {"message": "BOOM 42", "type": "server_error", "param": None, "code": None}}
OPENAI_LONG = {
    "error": {
        "message": "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }
}
REASONING = [delta(reasoning_content=THOUGHTS[:7]), delta(reasoning_content=THOUGHTS[7:])]
SAFE = {"hate": {"filtered": False, "severity": "safe"}}
WIRES = {
    # https://platform.openai.com/docs/api-reference/chat-streaming, with the thinking of vLLM's servers
    "openai_compatible": wire(
        thoughts=REASONING, error=OPENAI_ERROR, refusal=OPENAI_ERROR, too_long=(400, OPENAI_LONG)
    ),
    # https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-streaming
    "azure_openai": wire(
        before=data({"choices": [], "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}]}),
        error=OPENAI_ERROR,
        refusal={"error": {"code": "429", "message": "BOOM 42"}},
        too_long=(400, OPENAI_LONG),
    ),
    # https://openrouter.ai/docs/api-reference/streaming and /errors
    "openrouter": wire(
        before=b": OPENROUTER PROCESSING\n\n",
        thoughts=[
            delta(content="", reasoning=part, reasoning_details=[{"type": "reasoning.text", "text": part, "index": 0}])
            for part in (THOUGHTS[:9], THOUGHTS[9:])
        ],
        error=delta("error", content="") | {"error": {"code": 502, "message": "BOOM 42"}},
        refusal={"error": {"code": 429, "message": "BOOM 42", "metadata": {"provider_name": "Moon"}}},
        statuses=(401, 429, 500, 503),
        too_long=(400, {"error": {"code": 400, "message": "This endpoint's maximum context length is 8192 tokens."}}),
    ),
    # https://api-docs.deepseek.com/api/create-chat-completion and /quick_start/error_codes
    "deepseek": wire(
        before=b": keep-alive\n\n",
        thoughts=[delta(content=None, reasoning_content=part) for part in (THOUGHTS[:3], THOUGHTS[3:])],
        error=OPENAI_ERROR,
        refusal={"error": {"message": "BOOM 42", "type": "authentication_error", "param": None, "code": "x"}},
        statuses=(401, 429, 500, 503),
        too_long=(400, OPENAI_LONG),
    ),
    # https://docs.mistral.ai/api/endpoint/chat
    "mistral": wire(
        thoughts=[
            delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": part}]}])
            for part in (THOUGHTS[:3], THOUGHTS[3:])
        ],
        ids=("D681PevKs", "a1B2c3D4e"),
        usage=False,
        error={"object": "error", "error": {"message": "BOOM 42", "type": "internal_server_error"}},
        refusal={"object": "error", "message": "BOOM 42", "type": "x", "param": None, "code": "1300"},
        too_long=(
            400,
            {
                "object": "error",
                "message": "Prompt contains 40960 tokens, too large for model with 32768 maximum context length",
                "type": "invalid_request_prompt_too_long",
            },
        ),
    ),
    # https://docs.x.ai/docs/api-reference#chat-completions and /docs/key-information/debugging
    "xai": wire(
        thoughts=REASONING,
        error={"error": "BOOM 42"},
        refusal={"code": "Some resource has been exhausted", "error": "BOOM 42"},
        too_long=(
            400,
            {"code": "x", "error": "This model's maximum prompt length is 131072 but the request contains 200000"},
        ),
    ),
    # https://docs.z.ai/api-reference/llm/chat-completion and /api-reference/api-code
    "zai": wire(
        thoughts=REASONING,
        usage=False,
        error={"error": {"code": "1234", "message": "BOOM 42"}},
        refusal={"error": {"code": "1302", "message": "BOOM 42"}},
        too_long=(400, {"error": {"code": "1261", "message": "Prompt exceeds the model's maximum context length"}}),
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=str)
@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.type)
async def test_conforms(vendor: ChatCompletions, check: Check) -> None:
    await check(vendor, WIRES[vendor.type])


# What each is asked


def request(vendor: Provider, **fields: Any) -> ModelRequest:
    given = {"messages": (Message("user", "Hi"),), "base_url": vendor.base_url or "https://moon.test"}
    return ModelRequest(**{"model_name": "model-1", "api_key": KEY} | given | fields)


async def sent(vendor: ChatCompletions, **fields: Any) -> httpx.Request:
    seen: list[httpx.Request] = []

    def answer(asked: httpx.Request) -> httpx.Response:
        seen.append(asked)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=data(delta("stop")))

    async with client(transport=httpx.MockTransport(answer)) as http:
        assert [event async for event in vendor.stream(request(vendor, **fields), http)] == [Stop()]
    return seen[0]


async def body(vendor: ChatCompletions, **fields: Any) -> Any:
    return msgspec.json.decode((await sent(vendor, **fields)).content)


async def told(vendor: ChatCompletions, message: Message) -> Any:
    return (await body(vendor, messages=(message,)))["messages"][0]


async def heard(vendor: ChatCompletions, *chunks: Any, status: int = 200) -> list[ProviderEvent]:
    kind = "text/event-stream" if status == 200 else "application/json"
    content = data(*chunks) if status == 200 else msgspec.json.encode(chunks[0])
    answer = httpx.Response(status, headers={"content-type": kind}, content=content)
    async with client(transport=httpx.MockTransport(lambda _: answer)) as http:
        return [event async for event in vendor.stream(request(vendor), http)]


async def failure(vendor: ChatCompletions, *chunks: Any, status: int = 200) -> ProviderError:
    with pytest.raises(ProviderError) as raised:
        await heard(vendor, *chunks, status=status)
    return raised.value


@pytest.mark.parametrize(
    ("vendor", "url", "header", "needs"),
    [
        (openai_compatible, "https://api.openai.com/v1/chat/completions", "authorization", set()),
        (
            azure_openai,
            "https://moon.test/openai/deployments/model-1/chat/completions?api-version=2024-10-21",
            "api-key",
            {"base_url", "api_key"},
        ),
        (openrouter, "https://openrouter.ai/api/v1/chat/completions", "authorization", {"api_key"}),
        (deepseek, "https://api.deepseek.com/v1/chat/completions", "authorization", {"api_key"}),
        (mistral, "https://api.mistral.ai/v1/chat/completions", "authorization", {"api_key"}),
        (xai, "https://api.x.ai/v1/chat/completions", "authorization", {"api_key"}),
        (zai, "https://api.z.ai/api/paas/v4/chat/completions", "authorization", {"api_key"}),
    ],
    ids=lambda value: getattr(value, "type", ""),
)
async def test_a_vendor_is_asked_at_its_address_with_its_header(
    vendor: ChatCompletions, url: str, header: str, needs: set[str]
) -> None:
    asked = await sent(vendor)
    assert str(asked.url) == url
    assert asked.headers[header].removeprefix("Bearer ") == KEY
    assert ("authorization" in asked.headers) == (header == "authorization")
    assert vendor.needs == needs


def test_openai_goes_by_other_names_too() -> None:
    assert openai_compatible.aliases == ("openai", "openai-compatible")


async def test_azure_is_asked_with_the_models_own_api_version_and_its_deployment_in_the_path() -> None:
    asked = ModelRequest(model_name="my gpt/4", base_url="https://moon.test", api_version="2025-01-01-preview")
    url = "https://moon.test/openai/deployments/my%20gpt%2F4/embeddings?api-version=2025-01-01-preview"
    assert azure_openai.url(asked, "embeddings") == url


@pytest.mark.parametrize("path", ["chat/completions", "embeddings"])
def test_azure_has_an_api_without_versions_and_deployments_in_the_path(path: str) -> None:
    asked = ModelRequest(model_name="my-gpt", base_url="https://moon.test/openai/v1", api_version="2024-10-21")
    assert azure_openai.url(asked, path) == f"https://moon.test/openai/v1/{path}"


@pytest.mark.parametrize(
    ("model", "effort"),
    [
        ("gpt-5.5", "none"),
        ("gpt-5.6-terra", "none"),
        ("gpt-6-astra", "none"),
        ("gpt-4o-mini", None),
        ("gpt-35-turbo", None),
        ("gpt-5", None),
        ("gpt-5.2", None),
        ("gpt-5.4-mini", None),
        ("gpt-5.6-chat-latest", None),
        ("o3", None),
    ],
)
@pytest.mark.parametrize("vendor", [openai_compatible, azure_openai], ids=lambda vendor: vendor.type)
async def test_models_that_refuse_tools_while_they_think_are_told_not_to(
    vendor: ChatCompletions, model: str, effort: str | None
) -> None:
    tools = (ToolSpec("weather", "", {}),)
    assert (await body(vendor, model_name=model, tools=tools)).get("reasoning_effort") == effort
    assert "reasoning_effort" not in await body(vendor, model_name=model)


async def test_other_servers_are_not_told_what_openais_models_want() -> None:
    tools = (ToolSpec("weather", "", {}),)
    asked = await body(openai_compatible, model_name="gpt-6-astra", tools=tools, base_url="https://proxy.test/v1")
    assert "reasoning_effort" not in asked


async def test_azure_is_told_the_limit_by_its_new_name() -> None:
    asked = await body(azure_openai, max_tokens=7)
    assert asked["max_completion_tokens"] == 7
    assert "max_tokens" not in asked


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.type)
async def test_usage_is_asked_for_where_it_must_be(vendor: ChatCompletions) -> None:
    assert ("stream_options" in await body(vendor)) == (vendor not in (mistral, zai))


@pytest.mark.parametrize(
    ("vendor", "choice", "expected"),
    [
        (openai_compatible, "required", "required"),
        (mistral, "required", "any"),
        (mistral, "auto", "auto"),
        (zai, "auto", None),
        (zai, "required", None),
    ],
)
async def test_the_choice_of_tools_is_in_the_vendors_words(vendor: ChatCompletions, choice: str, expected: Any) -> None:
    asked = await body(vendor, tools=(ToolSpec("weather", "", {}),), tool_choice=choice)
    assert asked.get("tool_choice") == expected
    assert len(asked["tools"]) == 1


async def test_zai_is_offered_no_tools_where_none_may_be_called() -> None:
    assert not {"tools", "tool_choice"} & set(await body(zai, tools=(ToolSpec("weather", "", {}),), tool_choice="none"))


# What each wants back

THOUGHT = Message("assistant", "So.", thinking="Hm.", tool_calls=CALLS)


@pytest.mark.parametrize("vendor", [deepseek, zai], ids=["deepseek", "zai"])
async def test_thinking_goes_back_beside_the_calls_that_came_of_it(vendor: ChatCompletions) -> None:
    message = await told(vendor, THOUGHT)
    assert (message["reasoning_content"], message["content"], len(message["tool_calls"])) == ("Hm.", "So.", 2)
    assert "reasoning_content" not in await told(vendor, Message("assistant", "So."))


async def test_deepseek_is_told_that_nothing_was_thought_before_a_call() -> None:
    message = await told(deepseek, Message("assistant", "So.", tool_calls=CALLS))
    assert message["reasoning_content"] == ""
    assert "reasoning_content" not in await told(zai, Message("assistant", "So.", tool_calls=CALLS))


@pytest.mark.parametrize("vendor", [openai_compatible, azure_openai, xai], ids=lambda vendor: vendor.type)
async def test_thinking_stays_here_where_nobody_asks_for_it(vendor: ChatCompletions) -> None:
    assert set(await told(vendor, THOUGHT)) == {"role", "content", "tool_calls"}


async def test_openrouter_gets_its_reasoning_details_back_unchanged() -> None:
    pieces = [
        {"type": "reasoning.text", "text": "Let me ", "index": 0, "format": "f"},
        {"type": "reasoning.text", "text": "see.", "index": 0, "signature": None},
        {"type": "reasoning.text", "index": 0, "signature": "EqQB"},
        {"type": "reasoning.encrypted", "data": "AbCd", "index": 1},
        {"type": "reasoning.summary", "summary": "No index"},
        {"type": "reasoning.summary", "summary": "of its own"},
    ]
    chunks = [delta(reasoning_details=[piece]) for piece in pieces]
    stop = (await heard(openrouter, *chunks, delta("tool_calls")))[-1]
    assert isinstance(stop, Stop)
    whole = [{"type": "reasoning.text", "text": "Let me see.", "index": 0, "format": "f", "signature": "EqQB"}]
    assert stop.vendor == {"reasoning_details": whole + pieces[3:]}
    message = await told(openrouter, Message("assistant", thinking="Let me see.", tool_calls=CALLS, vendor=stop.vendor))
    assert message["reasoning_details"] == whole + pieces[3:]
    assert "reasoning" not in message


async def test_openrouter_gets_thinking_without_details_as_its_text() -> None:
    message = await told(openrouter, THOUGHT)
    assert message["reasoning"] == "Hm."
    assert "reasoning_details" not in message


async def test_mistral_gets_thinking_back_as_a_part_of_the_content() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    message = await told(mistral, THOUGHT)
    assert message["content"] == [thought, {"type": "text", "text": "So."}]
    assert len(message["tool_calls"]) == 2
    assert (await told(mistral, Message("assistant", thinking="Hm.", tool_calls=CALLS)))["content"] == [thought]


async def test_mistral_hears_an_assistant_between_a_tools_result_and_a_user() -> None:
    result = Message("tool", "rain", call_id="call_1", tool="weather")
    asked = (Message("user", "Hi"), Message("assistant", tool_calls=CALLS[:1]), result, Message("user", "Well?"))
    said = (await body(mistral, messages=asked))["messages"]
    assert [one["role"] for one in said] == ["user", "assistant", "tool", "assistant", "user"]
    assert said[3] == {"role": "assistant", "content": "OK"}
    assert [one["role"] for one in (await body(xai, messages=asked))["messages"]][2:] == ["tool", "user"]


async def test_mistral_gets_ids_of_nine_letters_and_digits_the_same_for_call_and_result() -> None:
    own = ToolCall("weather", {}, "D681PevKs")
    asked = await body(
        mistral,
        messages=(
            Message("assistant", tool_calls=(*CALLS, own)),
            *(Message("tool", "rain", call_id=call.call_id, tool="weather") for call in (*CALLS, own)),
        ),
    )
    said, *results = asked["messages"]
    ids = [call["id"] for call in said["tool_calls"]]
    assert ids == [result["tool_call_id"] for result in results]
    assert len(set(ids)) == 3
    assert all(len(id) == 9 and id.isalnum() for id in ids)
    assert ids[2] == "D681PevKs"


# What ends an answer


@pytest.mark.parametrize(
    ("vendor", "reason", "stop"),
    [
        (azure_openai, "content_filter", "refusal"),
        (mistral, "model_length", "max_tokens"),
        (zai, "sensitive", "refusal"),
        (zai, "model_context_window_exceeded", "max_tokens"),
        (zai, "length", "max_tokens"),
    ],
)
async def test_a_vendors_own_finish_reason_is_a_stop(vendor: ChatCompletions, reason: str, stop: Any) -> None:
    assert await heard(vendor, delta(content="a"), delta(reason)) == [MessageDelta(content="a"), Stop(stop)]


@pytest.mark.parametrize(
    ("vendor", "reason", "code", "retry"),
    [
        (zai, "network_error", "model_unavailable", True),
        (deepseek, "insufficient_system_resource", "model_overloaded", True),
        (mistral, "error", "model_error", False),
    ],
)
async def test_a_vendors_own_finish_reason_is_a_failure(
    vendor: ChatCompletions, reason: str, code: str, retry: bool
) -> None:
    error = await failure(vendor, delta(content="a"), delta(reason))
    assert (error.code, error.retry) == (code, retry)
    assert reason in error.message


FILTERED = {
    "error": {
        "message": "The response was filtered",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {
                "hate": {"filtered": True, "severity": "high"},
                "violence": {"filtered": False, "severity": "safe"},
                "jailbreak": {"filtered": True, "detected": True},
            },
        },
    }
}


async def test_a_prompt_that_azure_filters_is_told_with_its_categories() -> None:
    error = await failure(azure_openai, FILTERED, status=400)
    assert error.message == "HTTP 400: The response was filtered (filtered: hate, jailbreak)"
    assert (error.code, error.retry) == ("model_bad_request", False)


async def test_what_azure_filters_in_the_middle_is_told_with_its_categories() -> None:
    error = await failure(azure_openai, delta(content="a"), FILTERED)
    assert error.message == "The response was filtered (filtered: hate, jailbreak)"
    assert (error.code, error.retry) == ("model_bad_request", False)


async def test_azures_notes_on_what_it_filtered_are_no_words() -> None:
    notes = {"choices": [{"index": 0, "content_filter_results": SAFE, "content_filter_offsets": {"start_offset": 0}}]}
    late = {"choices": [{"index": 0, "finish_reason": None, "content_filter_results": {"error": {"code": "x"}}}]}
    expected = [MessageDelta(content="a"), Stop()]
    assert await heard(azure_openai, notes, delta(content="a"), late, delta("stop"), notes) == expected


async def test_openrouter_passes_on_the_words_of_the_vendor_behind_it() -> None:
    raw = '{"error":"prompt is too long"}'
    fault = {"message": "Provider returned error", "code": 400, "metadata": {"raw": raw, "provider_name": "Moon"}}
    error = await failure(openrouter, {"error": fault}, status=400)
    assert error.message == f"HTTP 400: Provider returned error ({raw})"
    assert error.code == "model_context_too_long"


async def test_openrouters_error_may_be_in_the_choice() -> None:
    chunk = delta("error", content="")
    chunk["choices"][0]["error"] = {"code": 429, "message": "Moon is full"}
    error = await failure(openrouter, delta(content="a"), chunk)
    assert (error.message, error.code) == ("Moon is full", "model_rate_limited")


async def test_a_key_that_xai_does_not_know_is_told_as_such() -> None:
    words = "Incorrect API key provided: xa***. You can obtain an API key from https://console.x.ai."
    error = await failure(xai, {"code": "Client specified an invalid argument", "error": words}, status=400)
    assert (error.message, error.code) == (f"HTTP 400: {words}", "model_auth")


async def test_a_balance_at_zai_that_is_spent_is_not_asked_again() -> None:
    error = await failure(zai, {"error": {"code": "1113", "message": "Insufficient balance"}}, status=429)
    assert (error.code, error.retry) == ("model_rate_limited", False)


# Attachments and embeddings

IMAGE = Attachment("image/png", "iVBORw0=")
PDF = Attachment("application/pdf", "JVBERi0=")
LINKED = Attachment("application/pdf", url="https://papers.test/a.pdf", name="a.pdf")


@pytest.mark.parametrize(
    ("vendor", "file", "part"),
    [
        (
            openrouter,
            LINKED,
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "https://papers.test/a.pdf"}},
        ),
        (mistral, LINKED, {"type": "document_url", "document_url": "https://papers.test/a.pdf"}),
        (mistral, PDF, {"type": "document_url", "document_url": "data:application/pdf;base64,JVBERi0="}),
        *(
            (vendor, IMAGE, {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}})
            for vendor in (azure_openai, openrouter, deepseek, mistral, xai, zai)
        ),
    ],
)
async def test_an_attachment_is_in_the_vendors_words(vendor: ChatCompletions, file: Attachment, part: Any) -> None:
    assert (await told(vendor, Message("user", attachments=(file,))))["content"] == [part]


@pytest.mark.parametrize("vendor", [*VENDORS, anthropic, google, ollama], ids=lambda vendor: vendor.type)
@pytest.mark.parametrize("kind", ["image/png", "application/pdf", "text/plain", "application/msword", "audio/wav"])
@pytest.mark.parametrize("how", [{"data": "aGk="}, {"url": "https://papers.test/a"}], ids=["data", "url"])
async def test_what_capabilities_carry_can_be_sent(vendor: Provider, kind: str, how: dict[str, str]) -> None:
    file = Attachment(kind, **how)
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(400)

    async with client(transport=httpx.MockTransport(answer)) as http:
        with pytest.raises((ProviderError, UpstreamError)) as raised:
            async for _ in vendor.stream(request(vendor, messages=(Message("user", attachments=(file,)),)), http):
                pass
    if vendor.capabilities.carries(file):
        assert asked
    elif not kind.startswith("text/"):  # which some could be told, but do not claim to read
        assert not asked
        assert kind in str(raised.value)


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.type)
async def test_capabilities_say_who_makes_embeddings(vendor: ChatCompletions) -> None:
    answer = httpx.Response(200, content=msgspec.json.encode({"data": [{"index": 0, "embedding": [1, 2]}]}))
    async with client(transport=httpx.MockTransport(lambda _: answer)) as http:
        if vendor.capabilities.embeddings:
            assert await vendor.embed(["a"], request(vendor), http) == [[1.0, 2.0]]
        else:
            with pytest.raises(ProviderError, match="makes no embeddings"):
                await vendor.embed(["a"], request(vendor), http)
