"""The OpenAI wire: what we send, what comes back, and what goes wrong on the way."""

import asyncio
import logging
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest
from bytebrew_chat_completions import ChatCompletions, openai_compatible
from hypothesis import given
from hypothesis import strategies as st

from bytebrew.base.errors import ProviderError
from bytebrew.base.http_client.client import Http
from bytebrew.contract.events import MessageDelta, Thinking
from bytebrew.contract.messages import Attachment, Message, ModelRequest, Stop, ToolCall, ToolSpec, Usage
from bytebrew.contract.provider import ProviderEvent
from bytebrew.conversation.model_calls import stream_answer
from bytebrew.testing import chat, names, served_engine
from tests.upstream import Act, Step, Upstream, broken, client, data, refused, streamed, upstream

DEEP = "[" * 5000 + "]" * 5000
WIRE = Path(__file__).parent.parent / "wire" / "openai"
KEY = "sk-echo-0123456789abcdef"


def text(content: str) -> MessageDelta:
    return MessageDelta(content=content)


def thought(content: str) -> Thinking:
    return Thinking(content=content)


def delta(reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": reason}]}


def piece(index: int | None = None, id: str | None = None, name: str | None = None, arguments: Any = "") -> Any:
    """A chunk with a piece of a tool call; what is None is left out."""
    given = {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}
    return delta(tool_calls=[{field: value for field, value in given.items() if value is not None}])


def request(url: str = "http://vendor.test/v1", **fields: Any) -> ModelRequest:
    fields = {"messages": (Message("user", "Hi"),)} | fields
    return ModelRequest(model_name="gpt-4o-mini", base_url=url, **fields)


class Cut(httpx.AsyncByteStream):
    """A body in pieces of one size."""

    def __init__(self, raw: bytes, size: int) -> None:
        self._pieces = [raw[at : at + size] for at in range(0, len(raw), size)]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


async def replay(raw: bytes, size: int = 4096, into: list[ProviderEvent] | None = None) -> list[ProviderEvent]:
    """The events of an answer of these bytes; `into` has those before a failure."""
    found: list[ProviderEvent] = [] if into is None else into
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=Cut(raw, size)))
    async with client(transport=transport) as http, aclosing(openai_compatible.stream(request(), http)) as events:
        async for event in events:
            found.append(event)
    return found


async def answered(*chunks: Any) -> list[ProviderEvent]:
    return await replay(data(*chunks, "[DONE]"))


async def calls(*chunks: Any) -> list[ToolCall]:
    events = await answered(*chunks, delta("tool_calls"))
    assert events[-1] == Stop("tool_calls")
    return [event for event in events if isinstance(event, ToolCall)]


async def refusal_of(status: int, body: Any) -> ProviderError:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=content))
    async with client(transport=transport) as http:
        with pytest.raises(ProviderError) as raised:
            await anext(openai_compatible.stream(request(), http))
    return raised.value


async def test_a_refusal_that_is_nested_too_deeply_to_be_read_keeps_its_status() -> None:
    assert (await refusal_of(401, DEEP.encode())).code == "model_auth"


async def sent(provider: ChatCompletions = openai_compatible, **fields: Any) -> httpx.Request:
    seen: list[httpx.Request] = []

    def answer(asked: httpx.Request) -> httpx.Response:
        seen.append(asked)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=data(delta("stop")))

    async with client(transport=httpx.MockTransport(answer)) as http:
        assert [event async for event in provider.stream(request(**fields), http)] == [Stop()]
    return seen[0]


# What comes back: transcripts after the vendors' documentation

FORMAT = "anthropic-claude-v1"


def details(*whole: Any) -> dict[str, Any]:
    return {"reasoning_details": list(whole)}


TRANSCRIPTS: dict[str, list[ProviderEvent]] = {
    "text": [text("Hello"), text(", "), text("wörld 🌍"), Usage(19, 10, 7, 3), Stop()],
    "interleaved_tools": [
        ToolCall("get_weather", {"location": "Paris, France"}, "call_DdmO9pD3xa9XTPNJ32zg2hcA"),
        ToolCall("get_time", {"zone": "Europe/Paris"}, "call_kNP0mS7Yq2vTnBxcWz51dLhE"),
        Stop("tool_calls"),
    ],
    "length": [text("Once upon"), Usage(5, 2), Stop("max_tokens")],
    "refusal": [text("I'm sorry, "), text("I cannot assist with that."), Stop()],
    "azure_filtered": [text("Certain"), Stop("refusal")],
    "deepseek_reasoning": [thought("9.11 or "), thought("9.8?"), text("9.8"), Usage(17, 25, 0, 20), Stop()],
    "openrouter_reasoning": [
        *(thought("Let me "), thought("see."), text("Yes."), Usage(10, 8, 0, 5)),
        Stop("end", details({"type": "reasoning.text", "text": "Let me see.", "format": FORMAT, "index": 0})),
    ],
    "openrouter_tools": [
        thought("Both."),
        ToolCall("get_weather", {"city": "Rome"}, "toolu_01"),
        ToolCall("get_weather", {"city": "Oslo"}, "toolu_02"),
        Usage(30, 40),
        Stop(
            "tool_calls",
            details(
                {"type": "reasoning.text", "text": "Both.", "signature": "EqQB", "format": FORMAT, "index": 0},
                {"type": "reasoning.encrypted", "data": "AbCd", "format": FORMAT, "index": 1},
            ),
        ),
    ],
    "gemini_tools": [
        ToolCall("get_weather", {"location": "Sydney"}, "function-call-1"),
        ToolCall("get_weather", {"location": "Perth"}, "function-call-2"),
        Usage(40, 30),
        Stop("tool_calls"),
    ],
    "mistral_tools": [
        ToolCall("retrieve_payment_status", {"transaction_id": "T1001"}, "D681PevKs"),
        Usage(94, 31),
        Stop("tool_calls"),
    ],
    "mistral_thinking": [thought("John's "), thought("brother."), text("Four"), text("."), Usage(20, 9), Stop()],
    "xai_reasoning": [thought("101 times 3."), text("303"), Usage(32, 103, 6, 94), Stop()],
    "zai_tools": [
        thought("Two calls."),
        ToolCall("get_weather", {"city": "北京"}, "call_-8059"),
        ToolCall("get_weather", {"city": "上海"}, "call_-8060"),
        Usage(171, 31, 43, 12),
        Stop("tool_calls"),
    ],
    "vllm_tools": [
        thought("The user wants weather."),
        ToolCall("get_weather", {"city": "Dallas"}, "chatcmpl-tool-1"),
        Usage(8, 12),
        Stop("tool_calls"),
    ],
    "ollama_tools": [
        ToolCall("get_weather", {"city": "Rome"}, "call_x1"),
        ToolCall("get_weather", {"city": "Oslo"}, "call_x2"),
        Stop("tool_calls"),
    ],
}
BROKEN: dict[str, tuple[list[ProviderEvent], str, str]] = {
    "openrouter_error": ([text("Half an")], "Provider disconnected unexpectedly", "model_unavailable"),
}


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_a_transcript_is_understood_however_it_is_cut(name: str, size: int) -> None:
    assert await replay((WIRE / f"{name}.sse").read_bytes(), size) == TRANSCRIPTS[name]


@pytest.mark.parametrize("name", BROKEN)
async def test_a_transcript_that_ends_in_an_error_fails_after_its_events(name: str) -> None:
    events, words, code = BROKEN[name]
    found: list[ProviderEvent] = []
    with pytest.raises(ProviderError) as raised:
        await replay((WIRE / f"{name}.sse").read_bytes(), into=found)
    assert (found, raised.value.message, raised.value.code) == (events, words, code)


def test_every_transcript_is_used_and_names_its_source() -> None:
    files = list(WIRE.iterdir())
    assert {file.name for file in files} == {f"{name}.sse" for name in (*TRANSCRIPTS, *BROKEN, "structured")}
    assert all(file.read_text().startswith(": https://") for file in files)


# Tool calls, in all the ways in which servers cut them up


async def test_calls_come_in_the_order_of_their_indexes() -> None:
    found = await calls(piece(1, "b", "second", "{}"), piece(0, "a", "first", "{}"))
    assert found == [ToolCall("first", {}, "a"), ToolCall("second", {}, "b")]


@st.composite
def cut_up(draw: st.DrawFn) -> tuple[list[Any], list[ToolCall]]:
    """Calls in pieces, in any order but for that within each call, and the calls."""
    inputs = draw(st.lists(st.dictionaries(st.text('ä"\\', max_size=3), st.text(max_size=5)), min_size=1, max_size=4))
    found = [ToolCall(f"tool_{index}", value, f"call_{index}") for index, value in enumerate(inputs)]
    queues = []
    for index, call in enumerate(found):
        raw, size = msgspec.json.encode(call.input).decode(), draw(st.integers(1, 5))
        parts = [piece(index, arguments=raw[at : at + size]) for at in range(0, len(raw), size)]
        queues.append([piece(index, call.call_id, call.tool), *parts])
    order = draw(st.permutations([index for index, queue in enumerate(queues) for _ in queue]))
    return [queues[index].pop(0) for index in order], found


@given(cut_up())
async def test_the_pieces_of_several_calls_may_come_mixed(case: tuple[list[Any], list[ToolCall]]) -> None:
    chunks, expected = case
    assert await calls(*chunks) == expected


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(
            [piece(None, "a", "f", '{"x":'), piece(None, arguments="1}"), piece(None, "b", "g")], id="no index"
        ),
        pytest.param(
            [piece(None, "a", "f", '{"x"'), piece(None, "b", "g"), piece(None, "a", None, ":1}")], id="only an id"
        ),
        pytest.param(
            [piece(0, "a", "f", '{"x":'), piece(0, "a", "f", "1}"), piece(1, "b", "g"), piece(1, "b", "g")],
            id="id and name in every piece",
        ),
        pytest.param(
            [piece(None, "a", "f", '{"x":1}'), piece(None, "b", "g", "{"), piece(None, "other", None, "}")],
            id="no index and new ids on the way",
        ),
        pytest.param(
            [piece(0, "a", "f", '{"x":'), piece(0, "", None, "1}"), piece(0, "b", "g", "{"), piece(0, "", None, "}")],
            id="one index for all",
        ),
        pytest.param(
            [piece(0, "a", "f", '{"x":'), piece(0, "other", None, "1}"), piece(1, "b", "g")], id="new ids on the way"
        ),
        pytest.param([piece(0, "a", "f", '{"x":'), piece(0, "", "", "1}"), piece(1, "b", "g")], id="empty id and name"),
        pytest.param([piece(0, "a", "f", {"x": 1}), piece(1, "b", "g", {})], id="arguments as an object"),
        pytest.param([piece(0, "a", "f", '{"x":1}'), piece(1, "b", "g", None)], id="arguments as null"),
        pytest.param([piece(0, "a", "f", '{"x":1}'), piece(1, "b", "g", " \n")], id="arguments of blanks"),
        pytest.param([piece(3, "a", "f", '{"x":1}'), piece(7, "b", "g")], id="indexes with gaps"),
    ],
)
async def test_servers_cut_two_calls_up_in_their_own_ways(chunks: list[Any]) -> None:
    assert await calls(*chunks) == [ToolCall("f", {"x": 1}, "a"), ToolCall("g", {}, "b")]


async def test_calls_without_ids_are_told_apart_by_their_names() -> None:
    found = await calls(piece(name="f", arguments='{"x":'), piece(arguments="1}"), piece(name="f"))
    assert found == [ToolCall("f", {"x": 1}), ToolCall("f", {})]


@pytest.mark.parametrize("id", [None, "", "same"], ids=repr)
@pytest.mark.parametrize("index", [None, 0], ids=repr)
async def test_another_name_is_another_call_whatever_its_index_and_id(index: int | None, id: str | None) -> None:
    found = await calls(piece(index, id, "f", '{"x":1}'), piece(index, id, "g"))
    assert [(call.tool, call.input) for call in found] == [("f", {"x": 1}), ("g", {})]


async def test_calls_of_one_tool_without_ids_are_told_apart_where_the_first_is_whole() -> None:
    found = await calls(piece(0, "", "f", '{"x":1}'), piece(0, "", "f", '{"x":'), piece(0, "", "f", "2}"))
    assert found == [ToolCall("f", {"x": 1}), ToolCall("f", {"x": 2})]
    assert await calls(piece(0, "", "f", '{"x":1}'), piece(0, "", "f")) == [ToolCall("f", {"x": 1})]


@pytest.mark.parametrize(
    "arguments", ['{"x": ', "[1]", '"text"', "null", "x=1", '{"x":1}{"x":2}', pytest.param(DEEP, id="deep")]
)
async def test_arguments_that_are_no_json_object_are_kept_as_their_text(arguments: str) -> None:
    assert await calls(piece(0, "a", "f", arguments)) == [ToolCall("f", {}, "a", malformed=arguments)]


async def test_a_call_that_the_token_limit_cut_off_is_malformed() -> None:
    events = await answered(piece(0, "a", "f", '{"x"'), delta("length"))
    assert events == [ToolCall("f", {}, "a", malformed='{"x"'), Stop("max_tokens")]


@pytest.mark.parametrize("arguments", ["", " ", None], ids=repr)
async def test_a_call_that_was_cut_off_before_its_arguments_came_is_malformed(arguments: str | None) -> None:
    events = await answered(piece(0, "a", "f", "{}"), piece(1, "b", "g", arguments), delta("length"))
    cut = ToolCall("g", {}, "b", malformed=arguments or "")
    assert events == [ToolCall("f", {}, "a"), cut, Stop("max_tokens")]


async def test_nothing_of_an_answer_that_was_filtered_is_run() -> None:
    events = await answered(delta(content="One"), piece(0, "a", "f", "{}"), delta("content_filter"))
    assert events == [text("One"), Stop("refusal")]


async def test_text_may_come_before_calls() -> None:
    events = await answered(delta(content="Let me look."), piece(0, "a", "f"), delta("tool_calls"))
    assert events == [text("Let me look."), ToolCall("f", {}, "a"), Stop("tool_calls")]


# The rest of a stream


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("stop", "end"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("length", "max_tokens"),
        ("content_filter", "refusal"),
        ("eos", "end"),
    ],
)
async def test_a_finish_reason_is_a_stop(reason: str, stop: Any) -> None:
    assert await answered(delta(reason)) == [Stop(stop)]


@pytest.mark.parametrize(
    "chunk",
    [
        {},
        {"choices": None},
        {"choices": []},
        {"choices": [{}]},
        {"choices": [{"delta": None, "finish_reason": None}]},
        delta(),
        delta(content=None, tool_calls=None, reasoning=None, reasoning_content=None),
        delta(content="", tool_calls=[], reasoning=""),
        {"usage": None, "error": None, "x_groq": {"id": 1}, "choices": [{"delta": {"audio": {}}, "logprobs": [1]}]},
    ],
    ids=repr,
)
async def test_a_chunk_that_says_nothing_yields_nothing(chunk: Any) -> None:
    assert await answered(chunk, delta(content="a"), chunk, delta("stop"), chunk) == [text("a"), Stop()]


async def test_reasoning_under_both_its_names_is_told_once() -> None:
    events = await answered(delta(reasoning="hm", reasoning_content="hm"), delta("stop"))
    assert events == [thought("hm"), Stop()]


async def test_the_last_usage_counts() -> None:
    first, last = {"prompt_tokens": 5, "completion_tokens": 1}, {"prompt_tokens": 5, "completion_tokens": 2}
    chunks = [delta(content="a") | {"usage": first}, delta("stop") | {"usage": last}, delta() | {"usage": None}]
    assert await answered(*chunks) == [text("a"), Usage(5, 2), Stop()]


async def test_cached_tokens_may_be_beside_their_details() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4}
    assert await answered(delta("stop") | {"usage": usage}) == [Usage(9, 2, 4), Stop()]


async def test_usage_of_nulls_is_zero() -> None:
    nulls = {"prompt_tokens": None, "prompt_tokens_details": {"cached_tokens": None}, "completion_tokens_details": None}
    assert await answered(delta("stop") | {"usage": nulls}) == [Usage(), Stop()]


async def test_a_stream_may_end_without_done_and_what_follows_done_is_not_read() -> None:
    assert await replay(data(delta("stop"))) == [Stop()]
    assert await replay(data(delta("stop"), "[DONE]", "garbage")) == [Stop()]


# What goes wrong in a stream


@pytest.mark.parametrize("chunks", [[], [delta(content="a")], [delta(content="a"), "[DONE]"]])
async def test_an_answer_without_a_finish_reason_ended_early(chunks: list[Any]) -> None:
    with pytest.raises(ProviderError, match="ended early") as raised:
        await replay(data(*chunks))
    assert (raised.value.code, raised.value.retry) == ("model_unavailable", True)


@pytest.mark.parametrize("chunk", ["{", "<html>", "[1]", '{"choices": 5}', '{"choices":[{"delta":{"content":{}}}]}'])
async def test_a_chunk_that_cannot_be_read_is_told_in_words(chunk: str) -> None:
    found: list[ProviderEvent] = []
    with pytest.raises(ProviderError) as raised:
        await replay(data(delta(content="a"), chunk), into=found)
    assert found == [text("a")]
    assert raised.value.message.startswith("The vendor sent a chunk that cannot be read (")
    assert raised.value.message.endswith(chunk)
    assert (raised.value.code, raised.value.retry) == ("model_unavailable", True)


@pytest.mark.parametrize(
    ("error", "words", "code", "retry"),
    [
        ({"message": "Sorry", "type": "server_error", "code": None}, "Sorry", "model_unavailable", True),
        ({"message": "Slow", "type": "requests", "code": "rate_limit_exceeded"}, "Slow", "model_rate_limited", True),
        ({"message": "Pay", "type": "insufficient_quota"}, "Pay", "model_rate_limited", False),
        ({"message": "Busy", "type": "overloaded_error"}, "Busy", "model_overloaded", True),
        ({"message": "Down", "code": 502}, "Down", "model_unavailable", True),
        ({"message": "Slow", "type": "throttling_error", "code": "429"}, "Slow", "model_rate_limited", True),
        ({"message": "Down", "code": "503"}, "Down", "model_overloaded", True),
        ({"message": "Odd", "code": "1113 2"}, "Odd", "model_error", False),
        ({"message": "No", "type": "invalid_request_error"}, "No", "model_bad_request", False),
        ({"message": "Long", "code": "context_length_exceeded"}, "Long", "model_context_too_long", False),
        ({"message": "Key", "code": "invalid_api_key"}, "Key", "model_auth", False),
        ({"message": "What", "type": "new_kind"}, "What", "model_error", False),
        ("In a word", "In a word", "model_error", False),
        ({"code": "x"}, "The vendor broke its answer off with an error", "model_error", False),
    ],
)
async def test_an_error_in_the_middle_is_in_the_vendors_words(error: Any, words: str, code: str, retry: bool) -> None:
    found: list[ProviderEvent] = []
    with pytest.raises(ProviderError) as raised:
        await replay(data(delta(content="a"), {"error": error}), into=found)
    failure = raised.value
    assert found == [text("a")]
    assert (failure.message, failure.code, failure.retry) == (words, code, retry)


async def test_an_error_in_the_place_of_a_chunk_is_in_the_vendors_words() -> None:
    with pytest.raises(ProviderError) as raised:
        await replay(data({"object": "error", "message": "BOOM 42", "type": "BadRequestError", "code": 400}))
    assert (raised.value.message, raised.value.code) == ("BOOM 42", "model_bad_request")


@pytest.mark.parametrize("thinking", ["", "Hm."])
async def test_an_answer_of_nothing_is_not_sent_back(thinking: str) -> None:
    asked = [Message("user", "Hi"), Message("assistant", thinking=thinking), Message("user", "Well?")]
    told = msgspec.json.decode((await sent(messages=tuple(asked))).content)["messages"]
    assert [one["content"] for one in told] == ["Hi", "Well?"]


async def test_a_vendors_words_are_bounded() -> None:
    with pytest.raises(ProviderError) as raised:
        await answered({"error": {"message": "x" * 10_000}})
    assert len(raised.value.message) == 1000


async def test_the_finish_reason_error_is_a_failure() -> None:
    with pytest.raises(ProviderError, match="finish_reason 'error'"):
        await answered(delta("error"))


# Refusals

LONG = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "Wrong", "type": "t", "code": "c", "param": None}}, "Wrong"),
        ({"error": "Wrong"}, "Wrong"),
        ({"message": "Wrong", "object": "error"}, "Wrong"),
        ({"detail": "Wrong"}, "Wrong"),
        ({"detail": [{"loc": ["body"], "msg": "Wrong"}]}, '[{"loc":["body"],"msg":"Wrong"}]'),
        ([{"error": {"message": "Wrong", "code": 400}}], "Wrong"),
        ({"unheard": "of"}, '{"unheard":"of"}'),
        (b"<h1>Wrong</h1>\n", "<h1>Wrong</h1>"),
        (b"[]", "[]"),
    ],
)
async def test_a_refusal_is_in_the_vendors_words(body: Any, words: str) -> None:
    error = await refusal_of(400, body)
    assert (error.message, error.code, error.retry) == (f"HTTP 400: {words}", "model_bad_request", False)


@pytest.mark.parametrize(
    ("status", "error", "code", "retry"),
    [
        (400, {"message": LONG, "type": "invalid_request_error", "code": "context_length_exceeded"}, "too_long", False),
        (400, {"message": LONG}, "too_long", False),
        (400, {"message": "It is too much", "code": "context_length_exceeded"}, "too_long", False),
        (400, {"message": "request exceeds the available context size", "code": 400}, "too_long", False),
        (413, {"message": "Prompt is too long"}, "too_long", False),
        (400, {"message": "Unknown parameter: 'foo'", "code": "unknown_parameter"}, "bad_request", False),
        (429, {"message": "Quota", "type": "insufficient_quota", "code": "insufficient_quota"}, "rate_limited", False),
        (429, {"message": "Slow down", "code": "rate_limit_exceeded"}, "rate_limited", True),
        (401, {"message": "Incorrect API key", "code": "invalid_api_key"}, "auth", False),
        (500, {"message": "context window service crashed"}, "unavailable", True),
    ],
)
async def test_a_refusal_gets_the_code_of_what_it_is_about(status: int, error: Any, code: str, retry: bool) -> None:
    failure = await refusal_of(status, {"error": error})
    assert failure.code == ("model_context_" if code == "too_long" else "model_") + code
    assert failure.retry is retry


async def test_json_in_place_of_a_stream_is_an_error_in_words() -> None:
    answer = refused(200, {"object": "chat.completion", "choices": [{"message": {"content": "Hi"}}]})
    async with upstream(answer) as double, client() as http:
        with pytest.raises(ProviderError, match=r'in place of a stream of events: \{"object"') as raised:
            await anext(openai_compatible.stream(request(double.url), http))
    assert raised.value.code == "model_error"


async def test_an_error_under_the_status_200_is_an_error() -> None:
    answer = refused(200, {"error": {"message": "No provider is up", "code": 503}})
    async with upstream(answer) as double, client() as http:
        with pytest.raises(ProviderError, match=r"^No provider is up$") as raised:
            await anext(openai_compatible.stream(request(double.url), http))
    assert (raised.value.code, raised.value.retry) == ("model_overloaded", True)


# What we send


async def test_a_request_asks_for_a_stream_with_usage_and_leaves_out_what_is_not_set() -> None:
    asked = await sent()
    assert (asked.method, str(asked.url)) == ("POST", "http://vendor.test/v1/chat/completions")
    assert msgspec.json.decode(asked.content) == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_key_is_a_bearer_token_and_no_key_is_no_header() -> None:
    assert (await sent(api_key=KEY)).headers["authorization"] == f"Bearer {KEY}"
    assert "authorization" not in (await sent()).headers


@pytest.mark.parametrize("choice", ["auto", "required", "none"])
async def test_tools_are_functions(choice: str) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    asked = await sent(tools=(ToolSpec("weather", "Tells the weather", schema),), tool_choice=choice)
    body = msgspec.json.decode(asked.content)
    function = {"name": "weather", "description": "Tells the weather", "parameters": schema}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert body["tool_choice"] == choice


async def test_the_way_to_sample_is_passed_on_zeros_too() -> None:
    asked = await sent(temperature=0.0, top_p=0.0, max_tokens=7, stop_sequences=("END", "\n\n"))
    body = msgspec.json.decode(asked.content)
    expected = {"temperature": 0.0, "top_p": 0.0, "max_tokens": 7, "stop": ["END", "\n\n"]}
    assert {name: body.get(name) for name in expected} == expected


async def test_openai_itself_is_told_the_limit_by_its_new_name() -> None:
    body = msgspec.json.decode((await sent(url=openai_compatible.base_url, max_tokens=7)).content)
    assert body["max_completion_tokens"] == 7
    assert "max_tokens" not in body


async def test_a_conversation_is_told_in_its_order_the_system_first() -> None:
    asked = await sent(
        system="Be brief.",
        messages=(
            Message("user", "Weather?"),
            Message("assistant", "", thinking="hm", tool_calls=(ToolCall("weather", {"city": "Köln"}, "c1"),)),
            Message("tool", "rain", call_id="c1", tool="weather"),
            Message("assistant", "And", tool_calls=(ToolCall("t", {}, "c2", malformed="{"), ToolCall("t", {}, "c3"))),
            Message("tool", "no JSON", call_id="c2", tool="t", has_error=True),
            Message("tool", "", call_id="c3", tool="t"),
            Message("assistant", "Rain."),
            Message("user", "Thanks"),
        ),
    )

    def call(id: str, name: str, arguments: str) -> Any:
        return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}

    assert msgspec.json.decode(asked.content)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call("c1", "weather", '{"city":"Köln"}')]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "assistant", "content": "And", "tool_calls": [call("c2", "t", "{}"), call("c3", "t", "{}")]},
        {"role": "tool", "tool_call_id": "c2", "content": "no JSON"},
        {"role": "tool", "tool_call_id": "c3", "content": ""},
        {"role": "assistant", "content": "Rain."},
        {"role": "user", "content": "Thanks"},
    ]


PDF = Attachment("application/pdf", "JVBERi0=", name="bill.pdf")


@pytest.mark.parametrize(
    ("file", "part"),
    [
        (
            Attachment("image/png", "iVBORw0="),
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}},
        ),
        (
            Attachment("image/jpeg", url="https://pictures.test/a.jpg"),
            {"type": "image_url", "image_url": {"url": "https://pictures.test/a.jpg"}},
        ),
        (
            PDF,
            {"type": "file", "file": {"filename": "bill.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
        ),
        (Attachment("text/csv", b64encode("ä;1".encode()).decode()), {"type": "text", "text": "ä;1"}),
    ],
)
async def test_an_attachment_is_a_part_after_the_text(file: Attachment, part: Any) -> None:
    asked = await sent(messages=(Message("user", "Look", attachments=(file,)), Message("user", attachments=(file,))))
    first, second = msgspec.json.decode(asked.content)["messages"]
    assert first == {"role": "user", "content": [{"type": "text", "text": "Look"}, part]}
    assert second == {"role": "user", "content": [part]}


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (Attachment("audio/wav", "UklGRg=="), "openai_compatible takes no audio/wav attached"),
        (Attachment("application/pdf", url="https://a.test/"), "openai_compatible takes no application/pdf by its URL"),
    ],
)
async def test_an_attachment_that_is_not_taken_is_told_and_not_sent(file: Attachment, words: str) -> None:
    with pytest.raises(ProviderError) as raised:
        await sent(messages=(Message("user", "Hear", attachments=(file,)),))
    assert (raised.value.message, raised.value.code) == (words, "model_bad_request")


# Embeddings


async def embedded(status: int, answer: Any, *texts: str) -> list[list[float]]:
    def respond(asked: httpx.Request) -> httpx.Response:
        assert str(asked.url) == "http://vendor.test/v1/embeddings"
        assert asked.headers["authorization"] == f"Bearer {KEY}"
        assert msgspec.json.decode(asked.content) == {"model": "gpt-4o-mini", "input": list(texts)}
        return httpx.Response(status, content=msgspec.json.encode(answer))

    async with client(transport=httpx.MockTransport(respond)) as http:
        return await openai_compatible.embed(texts, request(api_key=KEY), http)


async def test_embeddings_come_in_the_order_of_the_texts() -> None:
    vectors = [{"index": 1, "embedding": [2, 0.5]}, {"index": 0, "embedding": [1, 0.25], "object": "embedding"}]
    assert await embedded(200, {"object": "list", "data": vectors}, "a", "ü") == [[1.0, 0.25], [2.0, 0.5]]


@pytest.mark.parametrize(
    ("status", "answer", "words", "code"),
    [
        (200, {"data": [{"index": 0, "embedding": [1]}]}, "1 embeddings for 2 texts", "model_error"),
        (200, {"data": 5}, "cannot be read", "model_error"),
        (401, {"error": {"message": "No such key"}}, "HTTP 401: No such key", "model_auth"),
        (429, {"error": {"message": "Slow"}}, "HTTP 429: Slow", "model_rate_limited"),
    ],
)
async def test_embeddings_that_fail_are_told_in_words(status: int, answer: Any, words: str, code: str) -> None:
    with pytest.raises(ProviderError, match=words) as raised:
        await embedded(status, answer, "a", "b")
    assert raised.value.code == code


async def test_a_vendor_of_this_wire_is_a_handful_of_lines() -> None:
    class Deployments(ChatCompletions):
        type = "deployments"
        base_url = "http://deployments.test"
        stops = {"sensitive": "refusal"}

        def url(self, request: ModelRequest, path: str) -> str:
            return f"{request.base_url}/{request.model_name}/{path}?api-version={request.api_version}"

        def headers(self, request: ModelRequest) -> dict[str, str]:
            return {"api-key": request.api_key}

    asked = await sent(Deployments(), url=Deployments.base_url, api_key="k", api_version="1")
    assert str(asked.url) == "http://deployments.test/gpt-4o-mini/chat/completions?api-version=1"
    assert asked.headers["api-key"] == "k"
    assert "authorization" not in asked.headers


# Over a socket, with the engine's retries

HI = streamed(data(delta(content="Hi"), delta("stop"), "[DONE]"))
AGAIN = {"retry_after": 0}


async def ask(http: Http, double: Upstream, retries: int = 3) -> list[ProviderEvent]:
    asked = request(double.url, api_key=KEY)
    return [event async for event in stream_answer(openai_compatible, asked, http, retries=retries)]


async def failure(answer: list[Step], silence: float = 5) -> ProviderError:
    """How one request fails that is not made again."""
    async with upstream(answer, HI) as double, client(silence=silence) as http:
        with pytest.raises(ProviderError) as raised:
            await ask(http, double)
    assert len(double.requests) == 1
    return raised.value


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_a_transcript_is_understood_over_a_socket(name: str) -> None:
    lines = (WIRE / f"{name}.sse").read_bytes().splitlines(keepends=True)
    async with upstream(streamed(*lines)) as double, client() as http:
        assert await ask(http, double) == TRANSCRIPTS[name]


async def test_text_may_be_cut_anywhere_even_within_a_letter() -> None:
    raw = data('{"choices":[{"delta":{"content":"é€🌍"}}]}', delta("stop"), "[DONE]")
    start, end = raw.index("é".encode()), raw.index(b'"}}]}')
    answers = [streamed(raw[:cut], 0.001, raw[cut:]) for cut in range(start, end + 1)]
    async with upstream(*answers) as double, client() as http:
        for _ in answers:
            assert await ask(http, double) == [text("é€🌍"), Stop()]


async def test_too_many_requests_are_made_again_after_the_wait_that_was_named() -> None:
    async with upstream(refused(429, {"error": "slow down"}, retry_after=0.6), HI) as double, client() as http:
        begun = asyncio.get_running_loop().time()
        assert await ask(http, double) == [text("Hi"), Stop()]
        assert asyncio.get_running_loop().time() - begun >= 0.6
    assert [seen.body for seen in double.requests] == [double.requests[0].body] * 2


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 529])
async def test_a_passing_failure_is_no_failure(status: int) -> None:
    async with upstream(refused(status, {}, **AGAIN), refused(status, {}, **AGAIN), HI) as double, client() as http:
        assert await ask(http, double) == [text("Hi"), Stop()]


@pytest.mark.parametrize(
    "answer",
    [[Act.HANG], broken(Act.HANG), [Act.CLOSE], broken(Act.RESET), streamed()],
    ids=["no head", "no body", "closed", "reset", "empty"],
)
async def test_a_vendor_that_gives_nothing_is_asked_again(answer: list[Step]) -> None:
    async with upstream(answer, HI) as double, client(first_byte=0.1) as http:
        assert await ask(http, double) == [text("Hi"), Stop()]


async def test_a_wrong_key_is_told_at_once() -> None:
    error = await failure(refused(401, {"error": {"message": f"Incorrect API key provided: {KEY}."}}, **AGAIN))
    assert (error.message, error.code) == ("HTTP 401: Incorrect API key provided: ***.", "model_auth")


async def test_a_spent_quota_is_told_at_once() -> None:
    error = await failure(refused(429, {"error": {"message": "Pay", "code": "insufficient_quota"}}, **AGAIN))
    assert (error.message, error.code) == ("HTTP 429: Pay", "model_rate_limited")


@pytest.mark.parametrize(
    ("answer", "words", "code"),
    [
        pytest.param(broken(data(delta(content="a")), Act.CLOSE), "broke off", "model_unavailable", id="closed"),
        pytest.param(broken(data(delta(content="a")), 0.01, Act.RESET), "broke off", "model_unavailable", id="reset"),
        pytest.param(streamed(data(delta(content="a"))), "ended early", "model_unavailable", id="ended"),
        pytest.param(broken(data(delta(content="a")), Act.HANG), "fell silent", "model_timeout", id="silent"),
        pytest.param(streamed(data(delta(content="a"), "{")), "cannot be read", "model_unavailable", id="not JSON"),
        pytest.param(
            streamed(data(delta(content="a"), {"error": {"message": "Oh", "type": "server_error"}})),
            "Oh",
            "model_unavailable",
            id="error",
        ),
    ],
)
async def test_what_breaks_in_the_middle_is_told_and_not_made_again(answer: list[Step], words: str, code: str) -> None:
    error = await failure(answer, silence=0.2)
    assert words in error.message
    assert error.code == code


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with upstream() as double:
        pass
    async with client() as http:
        with pytest.raises(ProviderError, match="Cannot reach") as raised:
            await ask(http, double, retries=1)
    assert raised.value.code == "model_unavailable"


async def test_closing_an_answer_closes_the_connection() -> None:
    async with upstream(broken(data(delta(content="a")), Act.HANG)) as double, client() as http:
        answer = stream_answer(openai_compatible, request(double.url), http, retries=3)
        assert await anext(answer) == text("a")
        assert not double.left.is_set()
        await answer.aclose()
        with anyio.fail_after(1):
            await double.left.wait()


async def test_many_answers_over_one_connection() -> None:
    async with upstream(HI) as double, client() as http:
        for _ in range(5):
            await ask(http, double)
    assert double.connections == 1


# Within an engine


@asynccontextmanager
async def conversing(double: Upstream, data: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an engine whose schema `test` talks to the double with the key and may call current_time."""
    model = {"name": "test", "type": "openai_compatible", "model_name": "gpt-4o-mini", "base_url": double.url + "/v1/"}
    agent = {"name": "test", "model": "test", "system": "Be brief.", "tools": ["current_time"]}
    schema = {"name": "test", "entry_agent": "test", "chat_enabled": True}
    async with served_engine(data=data) as (_, client):
        for path, body in (("models", model | {"api_key": KEY}), ("agents", agent), ("schemas", schema)):
            created = await client.post(f"/api/v1/{path}", json=body)
            assert created.status_code == 201
            assert KEY not in created.text
        yield client


async def test_a_tool_call_is_run_and_its_result_sent_back(tmp_path: Path) -> None:
    called = streamed(
        data(piece(0, "call_7", "current_time", '{"timezone":'), piece(0, arguments='"Asia/Tokyo"}')),
        data(delta("tool_calls"), {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}, "[DONE]"),
    )
    async with upstream(called, HI) as double, conversing(double, tmp_path) as client:
        events = await chat(client, "test", "What time is it?")
    assert names(events) == ["tool_call", "tool_result", "message_delta", "message", "done"]
    first, second = (seen.json for seen in double.requests)
    assert [seen.path for seen in double.requests] == ["/v1/chat/completions"] * 2
    assert first["messages"][0]["role"] == "system"
    assert first["tools"][0]["function"]["name"] == "current_time"
    *earlier, call, result = second["messages"]
    assert earlier == first["messages"]
    arguments = call["tool_calls"][0]["function"]["arguments"]
    assert msgspec.json.decode(arguments) == {"timezone": "Asia/Tokyo"}
    assert (call["tool_calls"][0]["id"], result["tool_call_id"], result["role"]) == ("call_7", "call_7", "tool")
    assert result["content"].endswith("+09:00")


async def test_a_call_whose_arguments_are_no_json_is_told_to_the_model(tmp_path: Path) -> None:
    called = streamed(data(piece(0, "call_7", "current_time", "{timezone: "), delta("tool_calls"), "[DONE]"))
    async with upstream(called, HI) as double, conversing(double, tmp_path) as client:
        events = await chat(client, "test", "What time is it?")
    assert names(events) == ["tool_call", "tool_result", "message_delta", "message", "done"]
    call, result = double.requests[1].json["messages"][-2:]
    assert call["tool_calls"][0]["function"]["arguments"] == "{}"
    assert (result["tool_call_id"], result["content"]) == ("call_7", "The arguments are not a JSON object: {timezone: ")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(refused(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}), id="refusal"),
        pytest.param(refused(400, f"<h1>Bad header {KEY}</h1>".encode()), id="page"),
        pytest.param(streamed(data({"error": {"message": f"{KEY} has run out", "code": 401}})), id="event"),
        pytest.param(streamed(data(f"{{{KEY}")), id="chunk"),
        pytest.param(refused(200, {"key": KEY}), id="JSON"),
    ],
)
async def test_a_key_that_the_vendor_repeats_is_found_nowhere(
    answer: list[Step], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with upstream(answer) as double, conversing(double, tmp_path) as client:
        events = await chat(client, "test", "Hi")
        assert events[-1].event == "error"
        assert "***" in events[-1].data
        whole = await client.post("/api/v1/schemas/test/chat", json={"message": "Hi", "stream": False})
        models = await client.get("/api/v1/models")
    assert double.requests[0].headers["authorization"] == f"Bearer {KEY}"
    answers = " ".join(event.data for event in events) + whole.text + models.text
    assert KEY not in answers
    assert KEY not in caplog.text
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]


async def test_a_cancelled_turn_closes_the_connection_to_the_vendor(tmp_path: Path) -> None:
    answer = broken(data(delta(content="a")), Act.HANG)
    asking = {"message": "Hi"}
    async with (
        upstream(answer) as double,
        conversing(double, tmp_path) as client,
        client.stream("POST", "/api/v1/schemas/test/chat", json=asking) as response,
    ):
        chunks = response.aiter_text()
        while "message_delta" not in await anext(chunks):
            pass
        session = response.headers["x-session-id"]
        assert (await client.post(f"/api/v1/sessions/{session}/cancel")).status_code == 204
        with anyio.fail_after(5):
            await double.left.wait()
        assert '"status":"cancelled"' in "".join([chunk async for chunk in chunks])
