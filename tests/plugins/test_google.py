"""The Gemini wire: what we send, what comes back, and what goes wrong on the way."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest
from bytebrew_google import Google, google
from hypothesis import given
from hypothesis import strategies as st

from bytebrew.base.errors import ProviderError
from bytebrew.contract.events import MessageDelta, Thinking
from bytebrew.contract.messages import Attachment, Message, ModelRequest, Stop, ToolCall, ToolSpec, Usage
from bytebrew.contract.provider import ProviderEvent
from bytebrew.conversation.model_calls import stream_answer
from bytebrew.testing import chat, names, providing, served_engine
from bytebrew.testing.conformance import CHECKS, Check, Wire
from tests.upstream import client, data, refused, streamed, upstream

DEEP = "[" * 5000 + "]" * 5000
WIRE = Path(__file__).parent.parent / "wire" / "google"
KEY = "AIzaSy-0123456789abcdef"
TYPE = "type.googleapis.com/google.rpc."


def text(content: str) -> MessageDelta:
    return MessageDelta(content=content)


def thought(content: str) -> Thinking:
    return Thinking(content=content)


def parts(*found: Any, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk with these parts of the answer."""
    candidate = {"content": {"role": "model", "parts": list(found)}, "index": 0}
    return {"candidates": [candidate | ({"finishReason": reason} if reason else {}) | fields]}


def call(name: str, args: Any, signature: str | None = None, **fields: Any) -> dict[str, Any]:
    signed = {"thoughtSignature": signature} if signature else {}
    return {"functionCall": {"name": name, "args": args, **fields}, **signed}


def request(url: str = "http://vendor.test/v1beta", model: str = "gemini-2.0-flash", **fields: Any) -> ModelRequest:
    fields = {"messages": (Message("user", "Hi"),)} | fields
    return ModelRequest(model_name=model, base_url=url, **fields)


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
    async with client(transport=transport) as http, aclosing(google.stream(request(), http)) as events:
        async for event in events:
            found.append(event)
    return found


async def answered(*chunks: Any) -> list[ProviderEvent]:
    return await replay(data(*chunks))


async def refusal_of(status: int, body: Any) -> ProviderError:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=content))
    async with client(transport=transport) as http:
        with pytest.raises(ProviderError) as raised:
            await anext(google.stream(request(), http))
    return raised.value


async def test_a_refusal_that_is_nested_too_deeply_to_be_read_keeps_its_status() -> None:
    assert (await refusal_of(401, DEEP.encode())).code == "model_auth"


async def sent(**fields: Any) -> httpx.Request:
    seen: list[httpx.Request] = []

    def answer(asked: httpx.Request) -> httpx.Response:
        seen.append(asked)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=data(parts(reason="STOP")))

    async with client(transport=httpx.MockTransport(answer)) as http:
        assert [event async for event in google.stream(request(**fields), http)] == [Stop()]
    return seen[0]


async def body(**fields: Any) -> Any:
    return msgspec.json.decode((await sent(**fields)).content)


# What comes back: transcripts after the vendor's documentation

CALLS = [
    ToolCall("get_current_temperature", {"location": "Paris"}, "8f2b1a3c"),
    ToolCall("get_current_temperature", {"location": "London"}, "5d04c7e9"),
]
SIGNED_CALLS = [{"functionCall": None, "thoughtSignature": "EqwDCqkDAb4+9vs"}, {"functionCall": None}]
SIGNED_TEXT = [{"text": "Rain in Paris."}, {"text": "", "thoughtSignature": "EpwCCpkCAb4+9vt"}]
TRANSCRIPTS: dict[str, list[ProviderEvent]] = {
    "text": [text("Hello"), text(", "), text("wörld 🌍"), Usage(19, 10, 7), Stop()],
    "thinking": [
        thought("**Comparing**\n\nBoth are decimals. "),
        thought("9.9 is 9.90."),
        text("9.9"),
        text(" is larger."),
        Usage(17, 25, 0, 20),
        Stop(),
    ],
    "signed_text": [text("Rain "), text("in Paris."), Usage(12, 34, 0, 30), Stop("end", {"gemini": SIGNED_TEXT})],
    "signed_tools": [
        thought("Two cities."),
        *CALLS,
        Usage(40, 51, 0, 15),
        Stop("tool_calls", {"gemini": SIGNED_CALLS}),
    ],
    "tools_without_ids": [
        text("Let me look."),
        ToolCall("get_time", {}),
        ToolCall("get_time", {}),
        Usage(31, 14),
        Stop("tool_calls"),
    ],
    "max_tokens": [text("Once upon"), Usage(5, 2), Stop("max_tokens")],
    "safety": [text("Certain"), Usage(9, 1), Stop("refusal")],
    "blocked_prompt": [Usage(7), Stop("refusal")],
}
MALFORMED = "Malformed function call: print(default_api.get_time(zone=)"
BROKEN = {"malformed_call": f"The vendor ended its answer with the finishReason MALFORMED_FUNCTION_CALL: {MALFORMED}"}


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_a_transcript_is_understood_however_it_is_cut(name: str, size: int) -> None:
    assert await replay((WIRE / f"{name}.sse").read_bytes(), size) == TRANSCRIPTS[name]


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_a_transcript_is_understood_over_a_socket(name: str) -> None:
    lines = (WIRE / f"{name}.sse").read_bytes().splitlines(keepends=True)
    async with upstream(streamed(*lines)) as double, client() as http:
        assert [event async for event in google.stream(request(double.url), http)] == TRANSCRIPTS[name]


@pytest.mark.parametrize("name", BROKEN)
async def test_an_answer_that_came_to_nothing_is_asked_for_again(name: str) -> None:
    with pytest.raises(ProviderError) as raised:
        await replay((WIRE / f"{name}.sse").read_bytes())
    assert (raised.value.message, raised.value.code, raised.value.retry) == (BROKEN[name], "model_error", True)


def test_every_transcript_is_used_and_names_its_source() -> None:
    files = list(WIRE.iterdir())
    assert {file.name for file in files} == {f"{name}.sse" for name in (*TRANSCRIPTS, *BROKEN, "structured")}
    assert all(file.read_text().startswith(": https://") for file in files)


# The provider conformance kit

COUNTED = {"usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18}}
WORDS = data(
    parts({"text": "Grüße, "}),
    parts({"text": "世界 "}),
    parts({"text": "🎉"}),
    parts({"text": "!"}, reason="STOP") | COUNTED,
)


def fault(code: int, status: str, message: str = "BOOM 42", *details: Any) -> dict[str, Any]:
    error = {"code": code, "message": message, "status": status}
    return {"error": error | ({"details": details} if details else {})}


TOO_LONG = "The input token count (3475108) exceeds the maximum number of tokens allowed (1048576)."
CONFORMANCE = Wire(
    text=WORDS,
    tools=data(
        parts(call("weather", {"city": "Zürich"}, "c2lnbmVk", id="a1")),
        parts(call("weather", {"city": "北京"}, id="a2")),
        parts({"text": ""}, reason="STOP"),
    ),
    thinking=data(parts({"text": "I think – ", "thought": True}), parts({"text": "therefore…", "thought": True}))
    + WORDS,
    error=data(parts({"text": "Grü"}), fault(503, "UNAVAILABLE")),
    refusals={
        400: msgspec.json.encode(fault(400, "INVALID_ARGUMENT")),
        401: msgspec.json.encode(fault(401, "UNAUTHENTICATED")),
        403: msgspec.json.encode(fault(403, "PERMISSION_DENIED")),
        404: msgspec.json.encode(fault(404, "NOT_FOUND")),
        429: msgspec.json.encode([fault(429, "RESOURCE_EXHAUSTED")]),
        500: msgspec.json.encode(fault(500, "INTERNAL")),
        503: msgspec.json.encode(fault(503, "UNAVAILABLE")),
    },
    too_long=(400, msgspec.json.encode([fault(400, "INVALID_ARGUMENT", TOO_LONG)])),
)


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_conforms(check: Check) -> None:
    await check(google, CONFORMANCE)


# Signatures


def answer_of(events: list[ProviderEvent]) -> Message:
    """The assistant's message that a turn makes of an answer."""
    *_, stop = events
    assert isinstance(stop, Stop)
    return Message(
        "assistant",
        "".join(event.content for event in events if isinstance(event, MessageDelta)),
        tool_calls=tuple(event for event in events if isinstance(event, ToolCall)),
        vendor=stop.vendor,
    )


async def sent_back(*found: Any) -> list[Any]:
    """The parts of the next request's answer of the model, where these came before."""
    answer = answer_of(await answered(*(parts(part) for part in found), parts(reason="STOP")))
    contents = (await body(messages=(Message("user", "Hi"), answer)))["contents"]
    return [part for content in contents[1:] for part in content["parts"]]


@pytest.mark.parametrize(
    ("came", "back"),
    [
        pytest.param(
            [call("f", {"x": 1}, "A", id="1"), call("g", {}, id="2")],
            [call("f", {"x": 1}, "A", id="1"), call("g", {}, id="2")],
            id="on the first of two calls",
        ),
        pytest.param(
            [{"text": "Hm", "thought": True}, {"text": "a"}, {"text": "b", "thoughtSignature": "A"}, {"text": "c"}],
            [{"text": "a"}, {"text": "b", "thoughtSignature": "A"}, {"text": "c"}],
            id="on a piece of text",
        ),
        pytest.param(
            [{"text": "a"}, {"text": "b"}, {"text": "", "thoughtSignature": "A"}],
            [{"text": "ab"}, {"text": "", "thoughtSignature": "A"}],
            id="on no text",
        ),
        pytest.param(
            [{"text": "Hm", "thought": True, "thoughtSignature": "A"}, call("f", {}, id="1")],
            [{"text": "Hm", "thought": True, "thoughtSignature": "A"}, call("f", {}, id="1")],
            id="on a thought",
        ),
        pytest.param(
            [call("f", {}, id="1"), {"text": "a", "thoughtSignature": "A"}],
            [call("f", {}, id="1"), {"text": "a", "thoughtSignature": "A"}],
            id="behind a call",
        ),
        pytest.param(
            [{"text": "Hm", "thought": True}, {"text": "a"}, {"text": "b"}, call("f", {}, id="1")],
            [{"text": "ab"}, call("f", {}, id="1")],
            id="nowhere",
        ),
    ],
)
async def test_a_signature_goes_back_on_the_part_that_it_came_on(came: list[Any], back: list[Any]) -> None:
    assert await sent_back(*came) == back


signatures = st.sampled_from(["", "A", "B"])
pieces = st.one_of(
    st.builds(lambda words, sign: {"text": words, "thoughtSignature": sign}, st.text("aä", max_size=3), signatures),
    st.builds(lambda sign, at: call("f", {"x": at}, sign, id=f"{at}"), signatures, st.integers(0, 9)),
    st.builds(lambda sign: {"text": "hm", "thought": True, "thoughtSignature": sign}, signatures),
)


def without_blanks(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != "thoughtSignature" or value}


@given(st.lists(pieces, max_size=6))
async def test_whatever_comes_goes_back_with_its_text_calls_and_signatures(came: list[Any]) -> None:
    back = await sent_back(*came)

    def signed(found: list[Any]) -> list[Any]:
        return [part for part in found if part.get("thoughtSignature")]

    def said(found: list[Any]) -> str:
        return "".join(part.get("text", "") for part in found if not part.get("thought"))

    def called(found: list[Any]) -> list[Any]:
        return [part for part in map(without_blanks, found) if "functionCall" in part]

    assert (signed(back), said(back), called(back)) == (signed(came), said(came), called(came))


@pytest.mark.parametrize(("model", "signs"), [("gemini-3-pro-preview", True), ("gemini-2.5-pro", False)])
async def test_calls_of_another_model_are_let_through_where_calls_must_be_signed(model: str, signs: bool) -> None:
    calls = (ToolCall("f", {}, "1"), ToolCall("g", {}, "2"))
    told = await body(model=model, messages=(Message("assistant", "Hm", tool_calls=calls, vendor={"other": 1}),))
    first = call("f", {}, "skip_thought_signature_validator" if signs else None, id="1")
    assert told["contents"] == [{"role": "model", "parts": [{"text": "Hm"}, first, call("g", {}, id="2")]}]


# The rest of a stream


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("STOP", "end"),
        ("MAX_TOKENS", "max_tokens"),
        ("SAFETY", "refusal"),
        ("RECITATION", "refusal"),
        ("LANGUAGE", "refusal"),
        ("BLOCKLIST", "refusal"),
        ("PROHIBITED_CONTENT", "refusal"),
        ("SPII", "refusal"),
        ("IMAGE_SAFETY", "refusal"),
        ("IMAGE_RECITATION", "refusal"),
        ("FUNCTION_CALL", "end"),
    ],
)
async def test_a_finish_reason_is_a_stop(reason: str, stop: Any) -> None:
    assert await answered(parts({"text": "a"}, reason=reason)) == [text("a"), Stop(stop)]


@pytest.mark.parametrize("reason", ["SAFETY", "RECITATION", "PROHIBITED_CONTENT"])
async def test_nothing_before_a_refusal_is_run_or_goes_back_as_it_came(reason: str) -> None:
    found = await answered(parts({"text": "a"}, call("f", {}, "c2ln", id="1")), parts(reason=reason))
    assert found == [text("a"), Stop("refusal")]


async def test_a_prompt_that_is_blocked_after_a_call_runs_nothing() -> None:
    found = await answered(parts(call("f", {}, id="1")), {"promptFeedback": {"blockReason": "OTHER"}})
    assert found == [Stop("refusal")]


@pytest.mark.parametrize(
    ("reason", "retry"),
    [
        ("MALFORMED_FUNCTION_CALL", True),
        ("MALFORMED_RESPONSE", True),
        ("UNEXPECTED_TOOL_CALL", True),
        ("OTHER", True),
        ("IMAGE_OTHER", True),
        ("NO_IMAGE", True),
        ("TOO_MANY_TOOL_CALLS", False),
        ("MISSING_THOUGHT_SIGNATURE", False),
    ],
)
async def test_an_answer_that_came_to_nothing_is_a_failure(reason: str, retry: bool) -> None:
    with pytest.raises(ProviderError) as raised:
        await answered(parts(call("f", {}), reason=reason))
    assert raised.value.message == f"The vendor ended its answer with the finishReason {reason}"
    assert (raised.value.code, raised.value.retry) == ("model_error", retry)


@pytest.mark.parametrize(
    "chunk",
    [
        {},
        {"candidates": None},
        {"candidates": []},
        {"candidates": [{}]},
        {"candidates": [{"content": {}}]},
        {"candidates": [{"content": {"role": "model", "parts": None}, "finishReason": None}]},
        {"promptFeedback": {"safetyRatings": []}, "error": None},
        parts({"text": ""}),
        parts({"text": "", "thought": True}),
        parts({"executableCode": {"language": "PYTHON"}}, groundingMetadata={"webSearchQueries": []}),
    ],
    ids=repr,
)
async def test_a_chunk_that_says_nothing_yields_nothing(chunk: Any) -> None:
    assert await answered(chunk, parts({"text": "a"}), chunk, parts(reason="STOP"), chunk) == [text("a"), Stop()]


@pytest.mark.parametrize(
    ("args", "malformed"), [("[1]", "[1]"), ([1], "[1]"), ('{"city": ', '{"city": '), (7, "7"), ("", "")], ids=repr
)
async def test_arguments_that_are_no_json_object_are_kept_as_their_text(args: Any, malformed: str) -> None:
    events = await answered(parts(call("f", args, id="1"), reason="STOP"))
    assert events == [ToolCall("f", {}, "1", malformed=malformed), Stop("tool_calls")]


async def test_the_last_usage_counts() -> None:
    first, last = (
        {"promptTokenCount": 5},
        {"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": None},
    )
    chunks = [parts({"text": "a"}) | {"usageMetadata": first}, parts(reason="STOP") | {"usageMetadata": last}]
    assert await answered(*chunks, {"usageMetadata": None}) == [text("a"), Usage(5, 2), Stop()]


@pytest.mark.parametrize("chunks", [[], [parts({"text": "a"})], [parts(call("f", {}))]])
async def test_an_answer_without_a_finish_reason_ended_early(chunks: list[Any]) -> None:
    with pytest.raises(ProviderError, match="ended early") as raised:
        await answered(*chunks)
    assert (raised.value.code, raised.value.retry) == ("model_unavailable", True)


@pytest.mark.parametrize("chunk", ["{", "<html>", "[1]", '{"candidates": 5}', '{"error": "no"}'])
async def test_a_chunk_that_cannot_be_read_is_told_in_words(chunk: str) -> None:
    found: list[ProviderEvent] = []
    with pytest.raises(ProviderError) as raised:
        await replay(data(parts({"text": "a"}), chunk), into=found)
    assert found == [text("a")]
    assert raised.value.message.startswith("The vendor sent a chunk that cannot be read (")
    assert raised.value.message.endswith(chunk)
    assert (raised.value.code, raised.value.retry) == ("model_unavailable", True)


# Errors, in the middle and in place of an answer

INVALID_KEY = {"@type": f"{TYPE}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
WAIT = {"@type": f"{TYPE}RetryInfo", "retryDelay": "38.5s"}
MINUTE = {"@type": f"{TYPE}QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}]}
DAY = {"@type": f"{TYPE}QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
FAULTS = [
    (fault(400, "INVALID_ARGUMENT", "No"), "model_bad_request", False, None),
    (fault(400, "INVALID_ARGUMENT", "API key not valid.", INVALID_KEY), "model_auth", False, None),
    (fault(400, "INVALID_ARGUMENT", TOO_LONG), "model_context_too_long", False, None),
    (fault(403, "PERMISSION_DENIED", "No key"), "model_auth", False, None),
    (fault(404, "NOT_FOUND", "models/x is not found"), "model_bad_request", False, None),
    (fault(429, "RESOURCE_EXHAUSTED", "Slow down"), "model_rate_limited", True, None),
    (fault(429, "RESOURCE_EXHAUSTED", "Slow down", MINUTE, WAIT), "model_rate_limited", True, 38.5),
    (fault(429, "RESOURCE_EXHAUSTED", "Enough for today", DAY, WAIT), "model_rate_limited", False, 38.5),
    (fault(500, "INTERNAL", "Oh"), "model_unavailable", True, None),
    (fault(503, "UNAVAILABLE", "The model is overloaded."), "model_overloaded", True, None),
    (fault(504, "DEADLINE_EXCEEDED", "Too slow"), "model_timeout", True, None),
]


@pytest.mark.parametrize("listed", [False, True], ids=["alone", "listed"])
@pytest.mark.parametrize(("said", "code", "retry", "wait"), FAULTS)
async def test_a_refusal_gets_the_code_of_what_it_is_about(
    said: Any, code: str, retry: bool, wait: float | None, listed: bool
) -> None:
    failure = await refusal_of(said["error"]["code"], [said] if listed else said)
    assert failure.message == f"HTTP {said['error']['code']}: {said['error']['message']}"
    assert (failure.code, failure.retry, failure.retry_after) == (code, retry, wait)


@pytest.mark.parametrize(("said", "code", "retry", "wait"), FAULTS)
async def test_an_error_in_the_middle_is_in_the_vendors_words(
    said: Any, code: str, retry: bool, wait: float | None
) -> None:
    found: list[ProviderEvent] = []
    with pytest.raises(ProviderError) as raised:
        await replay(data(parts({"text": "a"}), said), into=found)
    failure = raised.value
    assert found == [text("a")]
    assert (failure.message, failure.code, failure.retry) == (said["error"]["message"], code, retry)
    assert failure.retry_after == wait


@pytest.mark.parametrize("body", [b"<h1>Wrong</h1>", b"[]", b'{"unheard":"of"}'])
async def test_a_refusal_in_another_form_is_told_as_it_is(body: bytes) -> None:
    failure = await refusal_of(400, body)
    assert (failure.message, failure.code) == (f"HTTP 400: {body.decode()}", "model_bad_request")


async def test_a_vendors_words_are_bounded() -> None:
    long = fault(500, "INTERNAL", "x" * 10_000)
    with pytest.raises(ProviderError) as raised:
        await answered(long)
    assert len(raised.value.message) == 1000
    assert len((await refusal_of(500, long)).message) == len("HTTP 500: ") + 1000
    with pytest.raises(ProviderError) as raised:
        await answered(parts(reason="OTHER", finishMessage="x" * 10_000))
    assert len(raised.value.message) == 1000


async def test_an_error_under_the_status_200_is_an_error() -> None:
    async with upstream(refused(200, [fault(503, "UNAVAILABLE", "Busy")])) as double, client() as http:
        with pytest.raises(ProviderError, match=r"^Busy$") as raised:
            await anext(google.stream(request(double.url), http))
    assert (raised.value.code, raised.value.retry) == ("model_overloaded", True)


# What we send


@pytest.mark.parametrize("model", ["gemini-2.0-flash", "models/gemini-2.0-flash"])
async def test_a_request_asks_for_a_stream_and_leaves_out_what_is_not_set(model: str) -> None:
    asked = await sent(model=model)
    url = "http://vendor.test/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse"
    assert (asked.method, str(asked.url)) == ("POST", url)
    assert msgspec.json.decode(asked.content) == {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


async def test_a_key_is_a_header_and_no_key_is_no_header() -> None:
    assert (await sent(api_key=KEY)).headers["x-goog-api-key"] == KEY
    assert "x-goog-api-key" not in (await sent()).headers


async def test_the_way_to_sample_is_passed_on_zeros_too() -> None:
    told = await body(temperature=0.0, top_p=0.0, max_tokens=7, stop_sequences=("END", "\n\n"))
    expected = {"temperature": 0.0, "topP": 0.0, "maxOutputTokens": 7, "stopSequences": ["END", "\n\n"]}
    assert told["generationConfig"] == expected


@pytest.mark.parametrize(
    ("model", "thinks"),
    [
        ("gemini-2.5-pro", True),
        ("gemini-2.5-flash", True),
        ("gemini-2.5-flash-preview-09-2025", True),
        ("models/gemini-3-pro-preview", True),
        ("gemini-3.1-flash", True),
        ("gemini-flash-latest", True),
        ("gemini-2.5-flash-lite", False),
        ("gemini-2.5-flash-image", False),
        ("gemini-2.5-pro-preview-tts", False),
        ("gemini-flash-lite-latest", False),
        ("gemini-2.0-flash", False),
        ("gemma-3-27b-it", False),
    ],
)
async def test_thoughts_are_asked_for_where_a_model_has_them(model: str, thinks: bool) -> None:
    config = (await body(model=model)).get("generationConfig")
    assert config == ({"thinkingConfig": {"includeThoughts": True}} if thinks else None)


@pytest.mark.parametrize(("choice", "mode"), [("auto", "AUTO"), ("required", "ANY"), ("none", "NONE")])
async def test_tools_are_functions_with_their_schemas_whole(choice: str, mode: str) -> None:
    city = {"anyOf": [{"$ref": "#/$defs/City"}, {"type": "null"}], "const": None}
    schema = {"type": "object", "properties": {"city": city}, "$defs": {"City": {"type": "string", "minLength": 1}}}
    told = await body(tools=(ToolSpec("weather", "Tells the weather", schema),), tool_choice=choice)
    function = {"name": "weather", "description": "Tells the weather", "parametersJsonSchema": schema}
    assert told["tools"] == [{"functionDeclarations": [function]}]
    assert told["toolConfig"] == {"functionCallingConfig": {"mode": mode}}


async def test_a_conversation_is_told_in_its_order_with_the_results_of_a_step_together() -> None:
    told = await body(
        system="Be brief.",
        messages=(
            Message("user", "Weather?"),
            Message("assistant", "", thinking="hm", tool_calls=(ToolCall("weather", {"city": "Köln"}, "c1"),)),
            Message("tool", "rain", call_id="c1", tool="weather"),
            Message("assistant", "And", tool_calls=(ToolCall("t", {}, "c2", malformed="{"), ToolCall("t", {}, "c3"))),
            Message("tool", "no JSON", call_id="c2", tool="t", has_error=True),
            Message("tool", "", call_id="c3", tool="t"),
            Message("assistant", ""),
            Message("user", "Thanks"),
        ),
    )

    def result(id: str, name: str, **response: str) -> Any:
        return {"functionResponse": {"id": id, "name": name, "response": response}}

    assert told["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert [(content["role"], content["parts"]) for content in told["contents"]] == [
        ("user", [{"text": "Weather?"}]),
        ("model", [call("weather", {"city": "Köln"}, id="c1")]),
        ("user", [result("c1", "weather", output="rain")]),
        ("model", [{"text": "And"}, call("t", {}, id="c2"), call("t", {}, id="c3")]),
        ("user", [result("c2", "t", error="no JSON"), result("c3", "t", output="")]),
        ("user", [{"text": "Thanks"}]),
    ]


async def test_attachments_come_before_the_text_as_bytes_or_as_a_url() -> None:
    image = Attachment("image/png", data="iVBORw0KGgo=", name="a.png")
    paper = Attachment("application/pdf", url="https://files.test/a.pdf")
    told = await body(messages=(Message("user", "What?", attachments=(image, paper)),))
    assert told["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
        {"fileData": {"mimeType": "application/pdf", "fileUri": "https://files.test/a.pdf"}},
        {"text": "What?"},
    ]
    told = await body(messages=(Message("user", "", attachments=(image,)),))
    assert [*told["contents"][0]["parts"][0]] == ["inlineData"]
    assert len(told["contents"][0]["parts"]) == 1


# Embeddings


async def test_texts_are_embedded_in_batches_in_their_order() -> None:
    seen: list[httpx.Request] = []

    def answer(asked: httpx.Request) -> httpx.Response:
        seen.append(asked)
        texts = [one["content"]["parts"][0]["text"] for one in msgspec.json.decode(asked.content)["requests"]]
        return httpx.Response(200, json={"embeddings": [{"values": [float(text), 0.5]} for text in texts]})

    asked = request(model="gemini-embedding-001", api_key=KEY)
    async with client(transport=httpx.MockTransport(answer)) as http:
        vectors = await google.embed([str(n) for n in range(250)], asked, http)
        assert await google.embed([], asked, http) == []
    assert vectors == [[float(n), 0.5] for n in range(250)]
    batches = [msgspec.json.decode(one.content)["requests"] for one in seen]
    assert [len(batch) for batch in batches] == [100, 100, 50]
    assert batches[0][0] == {"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "0"}]}}
    assert str(seen[0].url) == "http://vendor.test/v1beta/models/gemini-embedding-001:batchEmbedContents"
    assert seen[0].headers["x-goog-api-key"] == KEY


@pytest.mark.parametrize(
    ("status", "answer", "words", "code"),
    [
        (400, fault(400, "INVALID_ARGUMENT", "No", INVALID_KEY), "HTTP 400: No", "model_auth"),
        (200, {"embeddings": []}, "The vendor sent 0 embeddings for 1 texts", "model_error"),
        (200, {"embeddings": [{"values": "x"}]}, "embeddings that cannot be read", "model_error"),
    ],
)
async def test_embeddings_fail_in_words(status: int, answer: Any, words: str, code: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=answer))
    async with client(transport=transport) as http:
        with pytest.raises(ProviderError, match=words) as raised:
            await google.embed(["a"], request(), http)
    assert raised.value.code == code


# Over a socket, with the engine's retries, and within an engine

HI = streamed(data(parts({"text": "Hi"}, reason="STOP")))


async def test_a_call_that_came_out_malformed_is_asked_for_again() -> None:
    transcript = (WIRE / "malformed_call.sse").read_bytes()
    async with upstream(streamed(transcript), HI) as double, client() as http:
        answer = stream_answer(google, request(double.url), http, retries=1)
        assert [event async for event in answer] == [text("Hi"), Stop()]


async def test_the_wait_that_is_named_in_the_details_is_kept() -> None:
    wait = {"@type": f"{TYPE}RetryInfo", "retryDelay": "0.2s"}
    slow = refused(429, fault(429, "RESOURCE_EXHAUSTED", "Slow down", wait))
    async with upstream(slow, HI) as double, client() as http:
        begun = anyio.current_time()
        answer = stream_answer(google, request(double.url), http, retries=1)
        assert [event async for event in answer] == [text("Hi"), Stop()]
        assert anyio.current_time() - begun >= 0.2


async def test_a_signature_lives_through_a_turn_and_into_the_next(tmp_path: Path) -> None:
    class Double(Google):
        type = "google_double"

    zone = {"timezone": "Asia/Tokyo"}
    called = streamed(data(parts(call("current_time", zone, "U0lHTg==", id="7")), parts(reason="STOP")))
    async with upstream(called, HI) as double, served_engine(providing(Double()), data=tmp_path) as (_, http):
        model = {"type": "google_double", "model_name": "gemini-3-pro-preview", "base_url": f"{double.url}/v1beta"}
        agent = {"model": "test", "tools": ["current_time"]}
        schema = {"entry_agent": "test", "chat_enabled": True}
        for path, fields in (("models", model | {"api_key": KEY}), ("agents", agent), ("schemas", schema)):
            assert (await http.post(f"/api/v1/{path}", json={"name": "test"} | fields)).status_code == 201
        events = await chat(http, "test", "What time is it?")
        assert names(events) == ["tool_call", "tool_result", "message_delta", "message", "done"]
        session = msgspec.json.decode(events[-1].data)["session_id"]
        await chat(http, "test", "And now?", session_id=session)
    _, second, third = (seen.json["contents"] for seen in double.requests)
    signed = {"role": "model", "parts": [call("current_time", zone, "U0lHTg==", id="7")]}
    assert second[1] == third[1] == signed
    response = second[2]["parts"][0]["functionResponse"]
    assert (response["id"], response["name"]) == ("7", "current_time")
    assert response["response"]["output"].endswith("+09:00")
    assert third[3:] == [
        {"role": "model", "parts": [{"text": "Hi"}]},
        {"role": "user", "parts": [{"text": "And now?"}]},
    ]
