"""The Anthropic Messages API: what we send, what comes back, and what goes wrong on the way."""

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
from bytebrew_anthropic import Anthropic
from hypothesis import given
from hypothesis import strategies as st

from bytebrew.base.errors import ProviderError
from bytebrew.base.http_client.client import Http
from bytebrew.contract.events import MessageDelta, Thinking
from bytebrew.contract.messages import Attachment, Message, ModelRequest, Stop, ToolCall, ToolSpec, Usage
from bytebrew.contract.provider import ProviderEvent
from bytebrew.conversation.model_calls import stream_answer
from bytebrew.testing import chat, names, served_engine
from bytebrew.testing.conformance import CHECKS, THOUGHTS, WORDS, Check, Wire
from tests.upstream import Act, Step, Upstream, broken, client, data, refused, streamed, upstream

DEEP = "[" * 5000 + "]" * 5000
WIRE = Path(__file__).parent.parent / "wire" / "anthropic"
KEY = "sk-ant-echo-0123456789abcdef"
MARK = {"cache_control": {"type": "ephemeral"}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = ToolSpec("weather", "Tells the weather", SCHEMA)
STREAM = {"content-type": "text/event-stream"}

anthropic = Anthropic()


def text(content: str) -> MessageDelta:
    return MessageDelta(content=content)


def thought(content: str) -> Thinking:
    return Thinking(content=content)


# The vendor's events

BEGUN: Any = {"type": "message_start", "message": {"id": "msg_1", "content": [], "usage": {"input_tokens": 3}}}
OVER: Any = {"type": "message_stop"}


def block(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **fields}}


def delta(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def end(reason: str | None, **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


def words(*pieces: str, index: int = 0) -> list[Any]:
    return [block(index, "text", text=""), *(delta(index, type="text_delta", text=piece) for piece in pieces)]


def use(index: int, name: str, call_id: str, *pieces: str) -> list[Any]:
    parts = (delta(index, type="input_json_delta", partial_json=piece) for piece in pieces)
    return [block(index, "tool_use", id=call_id, name=name, input={}), *parts]


def thinks(index: int, signature: str, *pieces: str) -> list[Any]:
    parts = (delta(index, type="thinking_delta", thinking=piece) for piece in pieces)
    signed = delta(index, type="signature_delta", signature=signature)
    return [block(index, "thinking", thinking="", signature=""), *parts, signed]


HI = streamed(data(BEGUN, *words("Hi"), end("end_turn", output_tokens=1), OVER))


# Asking


def request(url: str = "http://vendor.test", **fields: Any) -> ModelRequest:
    fields = {"model_name": "claude-sonnet-4-5", "messages": (Message("user", "Hi"),)} | fields
    return ModelRequest(base_url=url, **fields)


class Cut(httpx.AsyncByteStream):
    """A body in pieces of one size."""

    def __init__(self, raw: bytes, size: int) -> None:
        self._pieces = [raw[at : at + size] for at in range(0, len(raw), size)]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


async def replay(
    raw: bytes, size: int = 4096, into: list[ProviderEvent] | None = None, **fields: Any
) -> list[ProviderEvent]:
    """The events of an answer of these bytes; `into` has those before a failure."""
    found: list[ProviderEvent] = [] if into is None else into
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=STREAM, stream=Cut(raw, size)))
    async with client(transport=transport) as http, aclosing(anthropic.stream(request(**fields), http)) as events:
        async for event in events:
            found.append(event)
    return found


async def answered(*events: Any) -> list[ProviderEvent]:
    return [event for event in await replay(data(BEGUN, *events, OVER)) if not isinstance(event, Usage)]


async def refusal_of(status: int, body: Any) -> ProviderError:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=content))
    async with client(transport=transport) as http:
        with pytest.raises(ProviderError) as raised:
            await anext(anthropic.stream(request(), http))
    return raised.value


async def test_a_refusal_that_is_nested_too_deeply_to_be_read_keeps_its_status() -> None:
    assert (await refusal_of(401, DEEP.encode())).code == "model_auth"


async def sent(**fields: Any) -> httpx.Request:
    seen: list[httpx.Request] = []

    def answer(asked: httpx.Request) -> httpx.Response:
        seen.append(asked)
        return httpx.Response(200, headers=STREAM, content=data(BEGUN, *words("Hi"), end("end_turn"), OVER))

    async with client(transport=httpx.MockTransport(answer)) as http:
        assert [event async for event in anthropic.stream(request(**fields), http)][-1] == Stop()
    return seen[0]


async def body(**fields: Any) -> Any:
    return msgspec.json.decode((await sent(**fields)).content)


async def turns(*messages: Message, **fields: Any) -> list[Any]:
    """The roles and blocks that are sent, without the cache's mark, which the last block always has."""
    found = (await body(messages=messages, **fields))["messages"]
    assert found[-1]["content"][-1].pop("cache_control") == MARK["cache_control"]
    return [(turn["role"], turn["content"]) for turn in found]


# What comes back: transcripts after the vendor's documentation

TRANSCRIPTS: dict[str, list[ProviderEvent]] = {
    "text": [text("Hello"), text("!"), Usage(25, 15), Stop()],
    "max_tokens": [text("Quantum physics is"), Usage(12, 10), Stop("max_tokens")],
    "stop_sequence": [text("Beginning: "), Usage(12, 4), Stop("stop_sequence")],
    "refusal": [Usage(20, 0), Stop("refusal")],
    "tool_use": [
        *map(text, ["Okay", ",", " let", "'s", " check", " the", " weather", " for", " San", " Francisco", ","]),
        *map(text, [" CA", ":"]),
        ToolCall(
            "get_weather", {"location": "San Francisco, CA", "unit": "fahrenheit"}, "toolu_01T1x1fJ34qAmk2tNTrN7Up6"
        ),
        Usage(472, 89),
        Stop("tool_calls"),
    ],
    "parallel_tools": [
        thought("Two cities, two calls."),
        text("\n\n"),
        ToolCall("get_weather", {"location": "Paris"}, "toolu_01A09q90qw90lq917835lq9"),
        ToolCall("get_time", {}, "toolu_01A09q90qw90lq917835lq0"),
        Usage(120 + 2048 + 4096, 97, 4096, 21, 2048),
        Stop("tool_calls"),
    ],
    "thinking": [
        thought("I need to find the GCD of 1071 and 462 using the Euclidean algorithm.\n\n1071 = 2 × 462 + 147"),
        thought("\n462 = 3 × 147 + 21"),
        thought("\n147 = 7 × 21 + 0\nThe remainder is 0, so GCD(1071, 462) = 21."),
        text("The greatest common divisor of 1071 and 462 is **21**."),
        Usage(46, 151, 0, 118),
        Stop(),
    ],
    "omitted_thinking": [text("21."), Usage(30, 60), Stop()],
    "web_search": [text("I'll check"), text(" the weather."), text("Cloudy."), Usage(10682, 510), Stop()],
}
KEPT: dict[str, list[dict[str, str]]] = {
    "thinking": [
        {
            "type": "thinking",
            "thinking": "".join(event.content for event in TRANSCRIPTS["thinking"] if isinstance(event, Thinking)),
            "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds...",
        },
        {"type": "text", "text": "The greatest common divisor of 1071 and 462 is **21**."},
    ],
    "omitted_thinking": [
        {"type": "thinking", "thinking": "", "signature": "EosnCkYICxIMMb3LzNrMu"},
        {"type": "text", "text": "21."},
    ],
    "parallel_tools": [
        {"type": "thinking", "thinking": "Two cities, two calls.", "signature": "EpwBCkYIBxgCKkD3"},
        {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix/LafPsn4aDFIT2Xlxh0L5L8rLVyIwxtE3rAFBa8cr3qpP"},
        {"type": "tool_use"},
        {"type": "tool_use"},
    ],
}


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_a_transcript_is_understood_however_it_is_cut(name: str, size: int) -> None:
    *events, stop = await replay((WIRE / f"{name}.sse").read_bytes(), size)
    assert isinstance(stop, Stop)
    assert [*events, Stop(stop.reason)] == TRANSCRIPTS[name]
    assert stop.vendor.get("anthropic", {}).get("blocks", []) == KEPT.get(name, [])


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_a_transcript_is_understood_over_a_socket(name: str) -> None:
    lines = (WIRE / f"{name}.sse").read_bytes().splitlines(keepends=True)
    async with upstream(streamed(*lines)) as double, client() as http:
        *events, stop = await ask(http, double)
    assert isinstance(stop, Stop)
    assert [*events, Stop(stop.reason)] == TRANSCRIPTS[name]


async def test_a_transcript_that_ends_in_an_error_fails_after_its_events() -> None:
    found: list[ProviderEvent] = []
    with pytest.raises(ProviderError) as raised:
        await replay((WIRE / "overloaded.sse").read_bytes(), into=found)
    assert found == [text("Half an")]
    assert (raised.value.message, raised.value.code, raised.value.retry) == ("Overloaded", "model_overloaded", True)


def test_every_transcript_is_used_and_names_its_source() -> None:
    files = list(WIRE.iterdir())
    assert {file.name for file in files} == {f"{name}.sse" for name in (*TRANSCRIPTS, "overloaded", "structured")}
    assert all(file.read_text().startswith(": https://") for file in files)


# The rest of a stream


@st.composite
def cut_up(draw: st.DrawFn) -> tuple[list[Any], list[ToolCall]]:
    """Calls in pieces, in any order but for that within each call, and the calls."""
    inputs = draw(st.lists(st.dictionaries(st.text('ä"\\', max_size=3), st.text(max_size=5)), min_size=1, max_size=4))
    found = [ToolCall(f"tool_{index}", value, f"toolu_{index}") for index, value in enumerate(inputs)]
    queues = []
    for index, call in enumerate(found):
        raw, size = msgspec.json.encode(call.input).decode(), draw(st.integers(1, 5))
        queues.append(use(index, call.tool, call.call_id, *(raw[at : at + size] for at in range(0, len(raw), size))))
    order = draw(st.permutations([index for index, queue in enumerate(queues) for _ in queue]))
    return [queues[index].pop(0) for index in order], found


@given(cut_up())
async def test_the_pieces_of_several_calls_may_come_mixed(case: tuple[list[Any], list[ToolCall]]) -> None:
    events, expected = case
    assert await answered(*events, end("tool_use")) == [*expected, Stop("tool_calls")]


@pytest.mark.parametrize(
    "arguments", ['{"x": ', "[1]", '"text"', "null", "x=1", '{"x":1}{"x":2}', pytest.param(DEEP, id="deep")]
)
async def test_arguments_that_are_no_json_object_are_kept_as_their_text(arguments: str) -> None:
    found = await answered(*use(0, "f", "a", arguments[:2], arguments[2:]), end("tool_use"))
    assert found == [ToolCall("f", {}, "a", malformed=arguments), Stop("tool_calls")]


async def test_a_call_that_the_token_limit_cut_off_is_malformed() -> None:
    found = await answered(*use(0, "f", "a", '{"x"'), end("max_tokens"))
    assert found == [ToolCall("f", {}, "a", malformed='{"x"'), Stop("max_tokens")]


async def test_a_call_that_was_cut_off_before_its_arguments_came_is_malformed() -> None:
    found = await answered(*use(0, "f", "a", "{}"), *use(1, "g", "b", ""), end("max_tokens"))
    assert found == [ToolCall("f", {}, "a"), ToolCall("g", {}, "b", malformed=""), Stop("max_tokens")]


async def test_nothing_before_a_refusal_is_run_or_goes_back_as_it_came() -> None:
    found = await answered(*thinks(0, "c2ln", "Hm."), *words("One", index=1), *use(2, "f", "a", "{}"), end("refusal"))
    assert found == [thought("Hm."), text("One"), Stop("refusal")]


async def test_arguments_may_come_whole_with_the_beginning_of_the_call() -> None:
    found = await answered(block(0, "tool_use", id="a", name="f", input={"x": 1}), end("tool_use"))
    assert found == [ToolCall("f", {"x": 1}, "a"), Stop("tool_calls")]


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("end_turn", "end"),
        ("pause_turn", "end"),
        ("unheard_of", "end"),
        ("max_tokens", "max_tokens"),
        ("model_context_window_exceeded", "max_tokens"),
        ("stop_sequence", "stop_sequence"),
        ("tool_use", "tool_calls"),
        ("refusal", "refusal"),
    ],
)
async def test_a_stop_reason_is_a_stop(reason: str, stop: Any) -> None:
    assert await answered(*words("a"), end(reason)) == [text("a"), Stop(stop)]


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"type": "ping"},
        {"type": "unheard_of", "delta": {"stop_reason": None, "new": 1}, "index": 9},
        {"type": "content_block_stop", "index": 0, "extra": []},
        {"type": "message_delta", "delta": None, "usage": None, "message": None, "content_block": None},
        delta(0, type="text_delta", text=""),
        delta(0, type="text_delta", text=None),
        delta(0, type="thinking_delta", thinking=""),
        delta(7, type="input_json_delta", partial_json="{"),
        delta(0, type="citations_delta", citation={"type": "page_location"}),
    ],
    ids=repr,
)
async def test_an_event_that_says_nothing_yields_nothing(event: Any) -> None:
    assert await answered(event, *words("a"), event, end("end_turn"), event) == [text("a"), Stop()]


async def test_counts_are_running_totals_and_a_null_takes_nothing_back() -> None:
    begun = {"type": "message_start", "message": {"usage": {"input_tokens": 9, "cache_read_input_tokens": 4}}}
    later = end(None, output_tokens=2, output_tokens_details={"thinking_tokens": 1})
    last = end("end_turn", output_tokens=5, input_tokens=None, output_tokens_details=None)
    assert await replay(data(begun, later, last, OVER)) == [Usage(13, 5, 4, 1), Stop()]


async def test_a_stream_may_end_without_a_message_stop_and_what_follows_it_is_not_read() -> None:
    assert await replay(data(BEGUN, end("end_turn"))) == [Usage(3), Stop()]
    assert await replay(data(BEGUN, end("end_turn"), OVER, "garbage")) == [Usage(3), Stop()]


# What goes wrong in a stream


@pytest.mark.parametrize("events", [[], [BEGUN], [BEGUN, *words("a")], [BEGUN, *words("a"), end(None), OVER]])
async def test_an_answer_without_a_stop_reason_ended_early(events: list[Any]) -> None:
    with pytest.raises(ProviderError, match="ended early") as raised:
        await replay(data(*events))
    assert (raised.value.code, raised.value.retry) == ("model_unavailable", True)


@pytest.mark.parametrize("event", ["{", "<html>", "[1]", "null", '{"index":"x"}', '{"delta":{"text":{}}}'])
async def test_an_event_that_cannot_be_read_is_told_in_words(event: str) -> None:
    found: list[ProviderEvent] = []
    with pytest.raises(ProviderError) as raised:
        await replay(data(BEGUN, *words("a"), event), into=found)
    assert found == [text("a")]
    assert raised.value.message.startswith("The vendor sent an event that cannot be read (")
    assert raised.value.message.endswith(event)
    assert (raised.value.code, raised.value.retry) == ("model_unavailable", True)


LONG = "prompt is too long: 207791 tokens > 200000 maximum"
TOO_MUCH = "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input length"


@pytest.mark.parametrize(
    ("error", "message", "code", "retry"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, "Overloaded", "model_overloaded", True),
        ({"type": "api_error", "message": "Sorry"}, "Sorry", "model_unavailable", True),
        ({"type": "timeout_error", "message": "Late"}, "Late", "model_timeout", True),
        ({"type": "rate_limit_error", "message": "Slow"}, "Slow", "model_rate_limited", True),
        ({"type": "invalid_request_error", "message": "No"}, "No", "model_bad_request", False),
        ({"type": "invalid_request_error", "message": LONG}, LONG, "model_context_too_long", False),
        ({"type": "authentication_error", "message": "Key"}, "Key", "model_auth", False),
        ({"type": "new_kind", "message": "What"}, "What", "model_error", False),
        ({"type": "new_kind"}, "The vendor broke its answer off with an error", "model_error", False),
        (None, "The vendor broke its answer off with an error", "model_error", False),
    ],
)
async def test_an_error_in_the_middle_is_in_the_vendors_words(error: Any, message: str, code: str, retry: bool) -> None:
    found: list[ProviderEvent] = []
    with pytest.raises(ProviderError) as raised:
        await replay(data(BEGUN, *words("a"), {"type": "error", "error": error, "request_id": "req_1"}), into=found)
    failure = raised.value
    assert found == [text("a")]
    assert (failure.message, failure.code, failure.retry) == (message, code, retry)


async def test_a_vendors_words_are_bounded() -> None:
    with pytest.raises(ProviderError) as raised:
        await answered({"type": "error", "error": {"type": "api_error", "message": "x" * 10_000}})
    assert len(raised.value.message) == 1000
    error = await refusal_of(500, {"error": {"type": "api_error", "message": "x" * 10_000}})
    assert len(error.message) == len("HTTP 500: ") + 1000


# Refusals


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"type": "error", "error": {"type": "t", "message": "Wrong"}, "request_id": "req_011"}, "Wrong"),
        ({"error": {"message": "Wrong", "code": 400}}, "Wrong"),
        ({"detail": "Wrong"}, '{"detail":"Wrong"}'),
        (b"<h1>Wrong</h1>\n", "<h1>Wrong</h1>"),
        (b"[]", "[]"),
    ],
)
async def test_a_refusal_is_in_the_vendors_words(body: Any, words: str) -> None:
    error = await refusal_of(400, body)
    assert (error.message, error.code, error.retry) == (f"HTTP 400: {words}", "model_bad_request", False)


@pytest.mark.parametrize(
    ("status", "kind", "message", "code", "retry"),
    [
        (400, "invalid_request_error", LONG, "model_context_too_long", False),
        (400, "invalid_request_error", TOO_MUCH, "model_context_too_long", False),
        (413, "request_too_large", "Request exceeds the maximum size", "model_context_too_long", False),
        (400, "invalid_request_error", "`temperature` is deprecated for this model.", "model_bad_request", False),
        (401, "authentication_error", "invalid x-api-key", "model_auth", False),
        (402, "billing_error", "Pay", "model_rate_limited", False),
        (403, "permission_error", "No", "model_auth", False),
        (404, "not_found_error", "model: claude-9", "model_bad_request", False),
        (429, "rate_limit_error", "Slow down", "model_rate_limited", True),
        (500, "api_error", "context window service crashed", "model_unavailable", True),
        (504, "timeout_error", "Late", "model_timeout", True),
        (529, "overloaded_error", "Overloaded", "model_overloaded", True),
    ],
)
async def test_a_refusal_gets_the_code_of_what_it_is_about(
    status: int, kind: str, message: str, code: str, retry: bool
) -> None:
    failure = await refusal_of(status, {"type": "error", "error": {"type": kind, "message": message}})
    assert (failure.message, failure.code, failure.retry) == (f"HTTP {status}: {message}", code, retry)


async def test_json_in_place_of_a_stream_is_an_error_in_words() -> None:
    async with upstream(refused(200, {"type": "message", "content": []})) as double, client() as http:
        with pytest.raises(ProviderError, match=r'in place of a stream of events: \{"type":"message"') as raised:
            await anext(anthropic.stream(request(double.url), http))
    assert raised.value.code == "model_error"


async def test_an_error_under_the_status_200_is_an_error() -> None:
    answer = refused(200, {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}})
    async with upstream(answer) as double, client() as http:
        with pytest.raises(ProviderError, match=r"^Busy$") as raised:
            await anext(anthropic.stream(request(double.url), http))
    assert (raised.value.code, raised.value.retry) == ("model_overloaded", True)


# What we send


async def test_a_request_asks_for_a_stream_and_leaves_out_what_is_not_set() -> None:
    asked = await sent()
    assert (asked.method, str(asked.url)) == ("POST", "http://vendor.test/v1/messages")
    assert msgspec.json.decode(asked.content) == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 32_000,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"} | MARK]}],
        "stream": True,
    }


@pytest.mark.parametrize("base", ["http://vendor.test/api", "http://vendor.test/api/v1"])
async def test_a_base_url_may_end_in_its_version(base: str) -> None:
    assert str((await sent(url=base)).url) == "http://vendor.test/api/v1/messages"


async def test_the_key_and_the_version_of_the_api_are_headers() -> None:
    asked = await sent(api_key=KEY)
    assert (asked.headers["x-api-key"], asked.headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert "authorization" not in asked.headers
    assert "x-api-key" not in (await sent()).headers


@pytest.mark.parametrize(("choice", "kind"), [("auto", "auto"), ("required", "any"), ("none", "none")])
async def test_tools_have_an_input_schema_and_a_choice(choice: str, kind: str) -> None:
    asked = await body(tools=(WEATHER,), tool_choice=choice)
    tool = {"name": "weather", "description": "Tells the weather", "input_schema": SCHEMA}
    assert (asked["tools"], asked["tool_choice"]) == ([tool | MARK], {"type": kind})


async def test_the_cache_is_marked_behind_the_system_and_behind_the_last_message() -> None:
    messages = (Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Go"))
    asked = await body(system="Be brief.", tools=(WEATHER,), messages=messages)
    assert asked["system"] == [{"type": "text", "text": "Be brief."} | MARK]
    assert asked["messages"][-1]["content"] == [{"type": "text", "text": "Go"} | MARK]
    assert msgspec.json.encode(asked).count(b"cache_control") == 2


@pytest.mark.parametrize(
    ("model", "taken"),
    [
        ("claude-3-5-sonnet-20241022", True),
        ("claude-sonnet-4-20250514", True),
        ("claude-opus-4-0", True),
        ("claude-sonnet-4-6", True),
        ("claude-haiku-4-5-20251001", True),
        ("anthropic/claude-opus-4-6", True),
        ("smollm2", True),
        ("claude-opus-4-7", False),
        ("claude-opus-4-8-20260401", False),
        ("claude-opus-5", False),
        ("claude-sonnet-5-5", False),
        ("claude-haiku-5-5", False),
        ("claude-fable-5-1", False),
        ("anthropic.claude-opus-4-7-v1", False),
    ],
)
async def test_a_temperature_goes_to_the_models_that_take_one(model: str, taken: bool) -> None:
    both = await body(model_name=model, temperature=0.0, top_p=0.0)
    assert (both.get("temperature"), "top_p" in both) == (0.0 if taken else None, False)
    assert (await body(model_name=model, top_p=0.0)).get("top_p") == (0.0 if taken else None)


SHOWN = {"type": "adaptive", "display": "summarized"}


@pytest.mark.parametrize(
    ("model", "thinks"),
    [
        ("claude-opus-5", True),
        ("claude-opus-5-5", True),
        ("claude-sonnet-5", True),
        ("claude-sonnet-5-5-20260928", True),
        ("claude-haiku-5-5", True),
        ("claude-fable-5-1", True),
        ("claude-mythos-5", True),
        ("claude-mythos-preview", True),
        ("anthropic.claude-opus-5-v1", True),
        ("claude-opus-4-8", False),
        ("claude-opus-4-6", False),
        ("claude-sonnet-4-5-20250929", False),
        ("claude-haiku-4-5", False),
        ("claude-3-5-sonnet-20241022", False),
        ("smollm2", False),
    ],
)
async def test_a_model_that_thinks_by_itself_is_asked_to_show_its_thoughts(model: str, thinks: bool) -> None:
    assert (await body(model_name=model)).get("thinking") == (SHOWN if thinks else None)


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
async def test_thinking_is_not_asked_for_where_a_call_is_forced(choice: str) -> None:
    asked = await body(model_name="claude-opus-5", tools=(WEATHER,), tool_choice=choice)
    assert asked.get("thinking") == (None if choice == "required" else SHOWN)


async def test_limits_are_passed_on() -> None:
    asked = await body(max_tokens=7, stop_sequences=("END", "\n\n"))
    assert (asked["max_tokens"], asked["stop_sequences"]) == (7, ["END", "\n\n"])


async def test_roles_alternate_and_the_results_of_a_round_are_one_message() -> None:
    called = Message("assistant", "And", tool_calls=(ToolCall("t", {"x": 1}, "c2"), ToolCall("t", {}, "c3")))
    found = await turns(
        Message("user", "Weather?"),
        Message("assistant", "", thinking="hm", tool_calls=(ToolCall("weather", {"city": "Köln"}, "c1"),)),
        Message("tool", "rain", call_id="c1", tool="weather"),
        called,
        Message("tool", "no JSON", call_id="c2", tool="t", has_error=True),
        Message("tool", "", call_id="c3", tool="t"),
        Message("user", "So?"),
        Message("user", "Well?"),
    )
    assert found == [
        ("user", [{"type": "text", "text": "Weather?"}]),
        ("assistant", [{"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Köln"}}]),
        ("user", [{"type": "tool_result", "tool_use_id": "c1", "content": "rain"}]),
        (
            "assistant",
            [
                {"type": "text", "text": "And"},
                {"type": "tool_use", "id": "c2", "name": "t", "input": {"x": 1}},
                {"type": "tool_use", "id": "c3", "name": "t", "input": {}},
            ],
        ),
        (
            "user",
            [
                {"type": "tool_result", "tool_use_id": "c2", "is_error": True, "content": "no JSON"},
                {"type": "tool_result", "tool_use_id": "c3"},
                {"type": "text", "text": "So?"},
                {"type": "text", "text": "Well?"},
            ],
        ),
    ]


async def test_text_of_blanks_is_never_sent() -> None:
    asked = await body(system=" \n", messages=(Message("user", "Hi"), Message("assistant", " "), Message("user", "\n")))
    assert "system" not in asked
    assert asked["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hi"} | MARK]}]


async def test_an_error_without_words_gets_some() -> None:
    found = await turns(Message("tool", "", call_id="c", has_error=True))
    result = {"type": "tool_result", "tool_use_id": "c", "is_error": True, "content": "The tool failed"}
    assert found == [("user", [result])]


async def test_the_ids_of_another_vendor_are_written_in_the_letters_that_are_taken() -> None:
    call = Message("assistant", tool_calls=(ToolCall("t", {}, "functions.t:0"),))
    (_, [used]), (_, [result]) = await turns(call, Message("tool", "ok", call_id="functions.t:0"))
    assert used["id"] == result["tool_use_id"] == "functions_t_0"


@pytest.mark.parametrize(
    ("attachment", "expected"),
    [
        (
            Attachment("image/png", data="iVBO", name="a.png"),
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
        ),
        (
            Attachment("image/jpeg", url="https://x.test/a.jpg"),
            {"type": "image", "source": {"type": "url", "url": "https://x.test/a.jpg"}},
        ),
        (
            Attachment("application/pdf", data="JVBE", name="a.pdf"),
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
                "title": "a.pdf",
            },
        ),
        (
            Attachment("application/pdf", url="https://x.test/a.pdf"),
            {"type": "document", "source": {"type": "url", "url": "https://x.test/a.pdf"}},
        ),
        (
            Attachment("text/csv", data=b64encode("Größe,1".encode()).decode()),
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Größe,1"}},
        ),
    ],
    ids=["image", "image at a URL", "PDF", "PDF at a URL", "text"],
)
async def test_attachments_come_before_the_text(attachment: Attachment, expected: Any) -> None:
    found = await turns(Message("user", "See", attachments=(attachment,)))
    assert found == [("user", [expected, {"type": "text", "text": "See"}])]
    assert await turns(Message("user", attachments=(attachment,))) == [("user", [expected])]


@pytest.mark.parametrize(
    ("attachment", "message"),
    [
        (Attachment("audio/wav", data="UklG"), "not audio/wav"),
        (Attachment("text/plain", url="https://x.test/a.txt"), "not text/plain at a URL"),
        (Attachment("text/plain", data="YQ", name="a.txt"), "The attachment 'a.txt' is not base64"),
    ],
)
async def test_an_attachment_that_cannot_be_read_is_refused_in_words(attachment: Attachment, message: str) -> None:
    with pytest.raises(ProviderError, match=message) as raised:
        await sent(messages=(Message("user", "See", attachments=(attachment,)),))
    assert (raised.value.code, raised.value.retry) == ("model_bad_request", False)


# Thinking goes back

ASKED = Message("user", "Weather?")
ROUND = [
    *thinks(0, "c2ln", "Köln first."),
    block(1, "redacted_thinking", data="ZGF0YQ"),
    *words("\n", index=2),
    *words("One ", "moment.", index=3),
    *use(4, "weather", "toolu_1", '{"city": "Köln"}'),
    *thinks(5, "c2lnMg", "Then Bonn."),
    *use(6, "weather", "toolu_2", '{"city": "Bonn"}'),
    end("tool_use"),
]
BLOCKS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Köln first.", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "ZGF0YQ"},
    {"type": "text", "text": "One moment."},
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Köln"}},
    {"type": "thinking", "thinking": "Then Bonn.", "signature": "c2lnMg"},
    {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {"city": "Bonn"}},
]
UNTHOUGHT = [block for block in BLOCKS if block["type"] in ("text", "tool_use")]


async def remembered(*events: Any, **fields: Any) -> Message:
    """The assistant's message that a turn makes of an answer, read back from the file."""
    found = await replay(data(BEGUN, *events, OVER), **fields)
    stop = found[-1]
    assert isinstance(stop, Stop)
    content = "".join(event.content for event in found if isinstance(event, MessageDelta))
    calls = tuple(event for event in found if isinstance(event, ToolCall))
    message = Message("assistant", content, tool_calls=calls, vendor=stop.vendor)
    return msgspec.json.decode(msgspec.json.encode(message), type=Message)


def results(message: Message, content: str = "rain") -> list[Message]:
    return [Message("tool", content, call_id=call.call_id, tool=call.tool) for call in message.tool_calls]


async def test_thinking_goes_back_unchanged_and_in_its_place_in_every_later_round() -> None:
    first = await remembered(*ROUND, messages=(ASKED,), tools=(WEATHER,))
    history = [ASKED, first, *results(first)]
    assert (await turns(*history, tools=(WEATHER,)))[1] == ("assistant", BLOCKS)
    rain = [*thinks(0, "c2lnMw", "Rain."), *words("It rains.", index=1), end("end_turn")]
    second = await remembered(*rain, messages=tuple(history), tools=(WEATHER,))
    found = await turns(*history, second, Message("user", "Sure?"), tools=(WEATHER,))
    assert [found[1], found[3]] == [
        ("assistant", BLOCKS),
        (
            "assistant",
            [
                {"type": "thinking", "thinking": "Rain.", "signature": "c2lnMw"},
                {"type": "text", "text": "It rains."},
            ],
        ),
    ]


async def test_a_call_goes_back_under_the_id_that_the_turn_gave_it() -> None:
    first = await remembered(*ROUND, messages=(ASKED,))
    calls = tuple(msgspec.structs.replace(call, call_id=f"call_{call.call_id}") for call in first.tool_calls)
    found = await turns(ASKED, msgspec.structs.replace(first, tool_calls=calls))
    assert [block["id"] for block in found[1][1] if block["type"] == "tool_use"] == ["call_toolu_1", "call_toolu_2"]


@pytest.mark.parametrize("change", ["system", "tools", "question"])
async def test_thinking_does_not_go_back_behind_what_has_changed(change: str) -> None:
    first = await remembered(*ROUND, messages=(ASKED,), tools=(WEATHER,), system="Be brief.")
    asked = Message("user", "Weather in Bonn?") if change == "question" else ASKED
    system = "Be long." if change == "system" else "Be brief."
    tools = () if change == "tools" else (WEATHER,)
    found = await turns(asked, first, *results(first), tools=tools, system=system)
    assert found[1] == ("assistant", UNTHOUGHT)


async def test_thinking_before_a_result_that_was_left_out_goes_back_and_that_behind_it_does_not() -> None:
    first = await remembered(*ROUND, messages=(ASKED,))
    again = [*thinks(0, "eA", "x"), *use(1, "weather", "toolu_3", "{}"), end("tool_use")]
    second = await remembered(*again, messages=(ASKED, first, *results(first)))
    shortened = [ASKED, first, *results(first, "[left out]"), second, *results(second)]
    found = await turns(*shortened)
    assert found[1] == ("assistant", BLOCKS)
    assert [block["type"] for block in found[3][1]] == ["tool_use"]
    last = [*thinks(0, "eQ", "y"), *words("So.", index=1), end("end_turn")]
    third = await remembered(*last, messages=tuple(shortened))
    found = await turns(*shortened, third, Message("user", "Go on"))
    assert [[block["type"] for block in content] for role, content in found if role == "assistant"] == [
        [block["type"] for block in BLOCKS],
        ["tool_use"],
        ["thinking", "text"],
    ]


@pytest.mark.parametrize("events", [words("a"), [], thinks(0, "c2ln", "hm"), [*words("a"), *thinks(1, "c2ln", "hm")]])
async def test_nothing_is_kept_of_an_answer_without_thinking_or_that_ends_in_it(events: list[Any]) -> None:
    assert (await answered(*events, end("end_turn")))[-1] == Stop()


# Over a real socket


async def ask(http: Http, double: Upstream, retries: int = 3, **fields: Any) -> list[ProviderEvent]:
    answer = stream_answer(anthropic, request(double.url, **fields), http, retries=retries)
    async with aclosing(answer) as events:
        return [event async for event in events]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
async def test_a_passing_failure_is_no_failure(status: int) -> None:
    async with upstream(refused(status, {}, retry_after=0), HI) as double, client() as http:
        assert await ask(http, double) == [text("Hi"), Usage(3, 1), Stop()]
        assert [seen.body for seen in double.requests] == [double.requests[0].body] * 2


@pytest.mark.parametrize(
    ("answer", "message", "code"),
    [
        pytest.param(broken(data(BEGUN, *words("a")), Act.CLOSE), "broke off", "model_unavailable", id="closed"),
        pytest.param(streamed(data(BEGUN, *words("a"))), "ended early", "model_unavailable", id="ended"),
        pytest.param(broken(data(BEGUN, *words("a")), Act.HANG), "fell silent", "model_timeout", id="silent"),
    ],
)
async def test_what_breaks_in_the_middle_is_told_and_not_made_again(
    answer: list[Step], message: str, code: str
) -> None:
    async with upstream(answer) as double, client(silence=0.2) as http:
        with pytest.raises(ProviderError, match=message) as raised:
            await ask(http, double)
    assert (raised.value.code, len(double.requests)) == (code, 1)


async def test_closing_an_answer_closes_the_connection() -> None:
    async with upstream(broken(data(BEGUN, *words("a")), Act.HANG)) as double, client() as http:
        answer = stream_answer(anthropic, request(double.url), http, retries=3)
        assert await anext(answer) == text("a")
        assert not double.left.is_set()
        await answer.aclose()
        with anyio.fail_after(0.1):
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
    model = {"name": "test", "type": "anthropic", "model_name": "claude-opus-5", "base_url": double.url + "/v1/"}
    agent = {"name": "test", "model": "test", "system": "Be brief.", "tools": ["current_time"], "temperature": 0.2}
    schema = {"name": "test", "entry_agent": "test", "chat_enabled": True}
    async with served_engine(data=data) as (_, client):
        for path, body in (("models", model | {"api_key": KEY}), ("agents", agent), ("schemas", schema)):
            created = await client.post(f"/api/v1/{path}", json=body)
            assert created.status_code == 201
        yield client


async def test_thinking_and_calls_go_back_with_their_results_and_in_the_next_turn(tmp_path: Path) -> None:
    called = [
        *thinks(0, "c2ln", "Two clocks."),
        *use(1, "current_time", "toolu_1", '{"timezone":', '"Asia/Tokyo"}'),
        *use(2, "current_time", "toolu_2", "{timezone: "),
    ]
    first = streamed(data(BEGUN, *called, end("tool_use", output_tokens=4), OVER))
    async with upstream(first, HI) as double, conversing(double, tmp_path) as client:
        events = await chat(client, "test", "What time is it?")
        session = msgspec.json.decode(events[-1].data)["session_id"]
        await chat(client, "test", "And now?", session_id=session)
    assert names(events)[0] == "thinking"
    assert names(events)[-1] == "done"
    asked, told, later = (seen.json["messages"] for seen in double.requests)
    assert [seen.path for seen in double.requests] == ["/v1/messages"] * 3
    assert "temperature" not in double.requests[0].json
    assert [seen.json["thinking"] for seen in double.requests] == [SHOWN] * 3
    assert [turn["role"] for turn in later] == ["user", "assistant", "user", "assistant", "user"]
    assert len(asked) == 1
    answer = [
        {"type": "thinking", "thinking": "Two clocks.", "signature": "c2ln"},
        {"type": "tool_use", "id": "toolu_1", "name": "current_time", "input": {"timezone": "Asia/Tokyo"}},
        {"type": "tool_use", "id": "toolu_2", "name": "current_time", "input": {}},
    ]
    for messages in (told, later):
        assert messages[1]["content"] == answer
        good, bad = messages[2]["content"]
        assert (good["tool_use_id"], bad["tool_use_id"], bad["is_error"]) == ("toolu_1", "toolu_2", True)
        assert good["content"].endswith("+09:00")
        assert bad["content"] == "The arguments are not a JSON object: {timezone: "


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(refused(401, {"error": {"message": f"invalid x-api-key: {KEY}"}}), id="refusal"),
        pytest.param(streamed(data({"type": "error", "error": {"message": f"{KEY} has run out"}})), id="event"),
        pytest.param(streamed(data(f"{{{KEY}")), id="garbage"),
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
    assert double.requests[0].headers["x-api-key"] == KEY
    assert KEY not in " ".join(event.data for event in events)
    assert KEY not in caplog.text
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]


# The kit


def named(*events: Any) -> bytes:
    """The events under their names, as the vendor sends them."""
    return b"".join(b"event: %s\n%s" % (event["type"].encode(), data(event)) for event in events)


def error_body(kind: str, message: str = "BOOM 42") -> bytes:
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})


START: Any = {"type": "message_start", "message": {"usage": {"input_tokens": 4, "cache_read_input_tokens": 7}}}
FULL = end("end_turn", output_tokens=7)
KIT = Wire(
    text=named(START, *words(WORDS[:4], WORDS[4:9], WORDS[9:]), FULL, OVER),
    tools=named(
        START,
        *use(0, "weather", "toolu_1", '{"city": ', '"Zürich"}'),
        *use(1, "weather", "toolu_2", '{"city"', ': "北京"}'),
        end("tool_use", output_tokens=7),
        OVER,
    ),
    thinking=named(START, *thinks(0, "c2ln", THOUGHTS[:5], THOUGHTS[5:]), *words(WORDS, index=1), FULL, OVER),
    broken_arguments=named(START, *use(0, "weather", "toolu_1", '{"city": '), end("tool_use"), OVER),
    error=named(START, *words("Grüße"), {"type": "error", "error": {"type": "api_error", "message": "BOOM 42"}}),
    refusals={
        400: error_body("invalid_request_error"),
        401: error_body("authentication_error"),
        402: error_body("billing_error"),
        403: error_body("permission_error"),
        404: error_body("not_found_error"),
        429: error_body("rate_limit_error"),
        500: error_body("api_error"),
        504: error_body("timeout_error"),
        529: error_body("overloaded_error"),
    },
    too_long=(400, error_body("invalid_request_error", LONG)),
)


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_conforms(check: Check) -> None:
    await check(anthropic, KIT)
