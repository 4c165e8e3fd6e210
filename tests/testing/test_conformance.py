"""The conformance kit: a sound provider passes it, and each planted bug is found by the check that should find it."""

import re
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import msgspec
import pytest
from bytebrew_chat_completions import ChatCompletions, openai_compatible

from bytebrew import (
    Http,
    Message,
    MessageDelta,
    ModelRequest,
    Provider,
    ProviderError,
    ProviderEvent,
    Stop,
    Thinking,
    ToolCall,
    Usage,
)
from bytebrew.base.settings import Core
from bytebrew.testing import CHECKS, THOUGHTS, Check, Wire, provider_conformance
from tests.upstream import data


def delta(reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": reason}]}


def call(index: int, id: str = "", name: str = "", arguments: str = "") -> dict[str, Any]:
    """A piece of a tool call."""
    about = {"id": id, "type": "function"} if id else {}
    function = {"name": name, "arguments": arguments} if name else {"arguments": arguments}
    return delta(tool_calls=[{"index": index, **about, "function": function}])


def fault(type: str, code: str = "") -> bytes:
    return msgspec.json.encode({"error": {"message": "It went BOOM 42.", "type": type, "code": code or None}})


USAGE = {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}}
TEXT = [delta(role="assistant", content=""), *(delta(content=part) for part in ("Grüße, ", "世界", " 🎉!"))]
WIRE = Wire(
    text=data(*TEXT, delta("stop"), USAGE, "[DONE]"),
    tools=data(
        call(0, "call_a", "weather"),
        call(0, arguments='{"city": "Zü'),
        call(0, arguments='rich"}'),
        call(1, "call_b", "weather"),
        call(1, arguments='{"city": "北京"}'),
        delta("tool_calls"),
        USAGE,
        "[DONE]",
    ),
    thinking=data(
        *(delta(reasoning_content=part) for part in (THOUGHTS[:7], THOUGHTS[7:])),
        *TEXT,
        delta("stop"),
        USAGE,
        "[DONE]",
    ),
    broken_arguments=data(call(0, "call_a", "weather", '{"city": '), delta("tool_calls"), USAGE, "[DONE]"),
    error=data(delta(content="Grüße"), {"error": {"message": "The server went BOOM 42.", "type": "server_error"}}),
    refusals={
        401: fault("invalid_request_error", "invalid_api_key"),
        429: fault("requests", "rate_limit_exceeded"),
        500: fault("server_error"),
        503: fault("server_error"),
    },
    too_long=(400, fault("invalid_request_error", "context_length_exceeded")),
)


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_the_bundled_provider_of_the_openai_wire_conforms(check: Check) -> None:
    await check(openai_compatible, WIRE)


Events = AsyncGenerator[ProviderEvent, None]


class Copy(ChatCompletions):
    """A provider of the OpenAI wire, for a bug to be planted in."""

    type = "copy"


class Spoilt(Copy):
    """Its events are spoilt on the way."""

    def __init__(self, spoil: Callable[[Events], Events]) -> None:
        self._spoil = spoil

    def stream(self, request: ModelRequest, http: Http) -> Events:
        return self._spoil(super().stream(request, http))


async def loses_usage(events: Events) -> Events:
    async for event in events:
        if not isinstance(event, Usage):
            yield event


async def counts_twice(events: Events) -> Events:
    async for event in events:
        yield event
        if isinstance(event, Usage):
            yield event


async def waits_for_the_whole_text(events: Events) -> Events:
    found = [event async for event in events]
    yield MessageDelta(content="".join(event.content for event in found if isinstance(event, MessageDelta)))
    for event in found:
        if not isinstance(event, MessageDelta):
            yield event


async def tells_thoughts_as_text(events: Events) -> Events:
    async for event in events:
        yield MessageDelta(content=event.content) if isinstance(event, Thinking) else event


async def thinks_afterwards(events: Events) -> Events:
    thoughts: list[Thinking] = []
    async for event in events:
        if isinstance(event, Thinking):
            thoughts.append(event)
            continue
        if not isinstance(event, MessageDelta):
            while thoughts:
                yield thoughts.pop(0)
        yield event


async def turns_calls_round(events: Events) -> Events:
    calls: list[ToolCall] = []
    async for event in events:
        if isinstance(event, ToolCall):
            calls.append(event)
            continue
        while calls:
            yield calls.pop()
        yield event


async def gives_every_call_one_id(events: Events) -> Events:
    async for event in events:
        yield ToolCall(event.tool, event.input, "call", event.malformed) if isinstance(event, ToolCall) else event


async def raises_at_broken_arguments(events: Events) -> Events:
    async for event in events:
        if isinstance(event, ToolCall) and event.malformed is not None:
            raise ValueError(event.malformed)
        yield event


async def stops_for_one_reason(events: Events) -> Events:
    async for event in events:
        yield Stop("end") if isinstance(event, Stop) else event


async def goes_on_after_the_stop(events: Events) -> Events:
    async for event in events:
        yield event
        if isinstance(event, Stop):
            yield Usage()


async def takes_every_end_for_a_good_one(events: Events) -> Events:
    try:
        async for event in events:
            yield event
    except ProviderError as error:
        if "ended early" not in error.message:
            raise
        yield Stop()


async def takes_an_error_for_the_end(events: Events) -> Events:
    try:
        async for event in events:
            yield event
    except ProviderError as error:
        if "BOOM" not in error.message or "HTTP" in error.message:
            raise
        yield Stop()


async def overlooks_garbage(events: Events) -> Events:
    try:
        async for event in events:
            yield event
    except ProviderError as error:
        if "cannot be read" not in error.message:
            raise
        yield Stop()


async def fails_in_words_of_its_own(events: Events) -> Events:
    try:
        async for event in events:
            yield event
    except ProviderError as error:
        raise ProviderError("Oh no", code=error.code, retry=error.retry, retry_after=error.retry_after) from error


def fails_so(wanted: str, **otherwise: Any) -> Spoilt:
    """A provider whose failures with that code come otherwise."""

    async def spoil(events: Events) -> Events:
        try:
            async for event in events:
                yield event
        except ProviderError as error:
            if error.code == wanted:
                for name, value in otherwise.items():
                    setattr(error, name, value)
            raise

    return Spoilt(spoil)


async def lets_another_exception_out(events: Events) -> Events:
    try:
        async for event in events:
            yield event
    except ProviderError as error:
        raise KeyError("choices") from error


async def cuts_the_vendors_words(events: Events) -> Events:
    try:
        async for event in events:
            yield event
    except ProviderError as error:
        error.message = f"{error.message[:50]}..."
        raise


KEPT: list[Events] = []


async def keeps_the_connection(events: Events) -> Events:
    KEPT.append(events)
    async for event in events:
        yield event


class AsksAgain(Copy):
    """Makes a refused request once more by itself."""

    async def stream(self, request: ModelRequest, http: Http) -> Events:
        try:
            async for event in super().stream(request, http):
                yield event
        except ProviderError as error:
            if error.code != "model_auth":
                raise
            async for event in super().stream(request, http):
                yield event


class DecodesPieces(Copy):
    """Makes text of each piece of the body by itself."""

    async def stream(self, request: ModelRequest, http: Http) -> Events:
        async with http.stream("POST", request.base_url, json={}) as pieces:
            body = "".join([piece.decode(errors="replace") async for piece in pieces])
        answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, text=body)
        async for event in super().stream(request, Http(Core(), httpx.MockTransport(lambda _: answer))):
            yield event


class KeepsCalls(Copy):
    """Collects the calls of all answers in one place."""

    def __init__(self) -> None:
        self._calls: list[ToolCall] = []

    async def stream(self, request: ModelRequest, http: Http) -> Events:
        self._calls.clear()
        async for event in super().stream(request, http):
            if isinstance(event, ToolCall):
                self._calls.append(event)
                continue
            if isinstance(event, Usage):
                for call in self._calls:
                    yield call
            yield event


class ShowsTheKey(Copy):
    """Puts the key where logs have it."""

    def url(self, request: ModelRequest, path: str) -> str:
        return f"{super().url(request, path)}?key={request.api_key}"


class HidesTheKey(Copy):
    """Sends no key."""

    def headers(self, request: ModelRequest) -> dict[str, str]:
        return {}


class Omits(Copy):
    """Leaves something out of the body."""

    def __init__(self, omit: Callable[[dict[str, Any]], Any]) -> None:
        self._omit = omit

    def body(self, request: ModelRequest) -> dict[str, Any]:
        body = super().body(request)
        self._omit(body)
        return body


class ForgetsResults(Copy):
    """Sends the calls without what came of them."""

    def message(self, message: Message) -> dict[str, Any]:
        return super().message(message) | ({"content": "done"} if message.role == "tool" else {})


class LosesIds(Copy):
    """Sends results that belong to no call."""

    def message(self, message: Message) -> dict[str, Any]:
        return super().message(message) | ({"tool_call_id": ""} if message.role == "tool" else {})


BUGS: list[tuple[Provider, str, str]] = [
    (Spoilt(loses_usage), "usage", "expected 11 input tokens, the provider told 0"),
    (Spoilt(counts_twice), "usage", "expected 11 input tokens, the provider told 22"),
    (Spoilt(waits_for_the_whole_text), "text", "expected three deltas or more"),
    (Spoilt(tells_thoughts_as_text), "thinking", f"expected ('{THOUGHTS}', "),
    (Spoilt(thinks_afterwards), "thinking", "expected the thinking first"),
    (DecodesPieces(), "chunking", "\ufffd"),
    (Spoilt(turns_calls_round), "parallel calls", "told [('weather', {'city': '北京'}, None), ("),
    (Spoilt(gives_every_call_one_id), "parallel calls", "two ids or none, the provider told ['call', 'call']"),
    (Spoilt(raises_at_broken_arguments), "broken arguments", "ValueError came out of the provider"),
    (
        Spoilt(stops_for_one_reason),
        "stop",
        "expected ['tool_calls'] as the reasons of all its Stops, the provider told",
    ),
    (Spoilt(goes_on_after_the_stop), "stop", "expected Stop at the end, the provider told Usage("),
    (KeepsCalls(), "many at once", "in each of five answers"),
    (
        fails_so("model_auth", code="model_error"),
        "refusals",
        "expected model_auth, the provider failed with model_error",
    ),
    (fails_so("model_auth", retry=True), "refusals", "expected False as retry of model_auth, the provider told True"),
    (fails_so("model_auth", message="Oh no"), "refusals", "401: expected the words BOOM 42, told 'Oh no'"),
    (fails_so("model_rate_limited", retry_after=None), "refusals", "expected 7.0 seconds as retry_after of 429"),
    (fails_so("model_unavailable", retry=False), "refusals", "expected True as retry of model_unavailable"),
    (AsksAgain(), "refusals", "expected 1 requests where the first is refused with 401, the provider told 2"),
    (fails_so("model_context_too_long", code="model_bad_request"), "too long", "expected model_context_too_long, the"),
    (fails_so("model_timeout", code="model_error"), "silence", "expected model_timeout, the provider failed with"),
    (Spoilt(lets_another_exception_out), "nobody there", "KeyError came out of the provider"),
    (Spoilt(takes_every_end_for_a_good_one), "early end", "expected model_unavailable after 0 of"),
    (Spoilt(takes_an_error_for_the_end), "error in the middle", "expected a piece of text and then the words BOOM 42"),
    (Spoilt(overlooks_garbage), "garbage", "was swallowed"),
    (Spoilt(keeps_the_connection), "closing", "the connection is open 100 ms after the answer was closed"),
    (ShowsTheKey(), "request", "the key is in the URL"),
    (HidesTheKey(), "request", "the key is in no header"),
    (Omits(lambda body: body["messages"].pop(0)), "request", "the system text 'Be brief – kurz.' is not in it"),
    (Omits(lambda body: body.pop("tools")), "request", "the tool's name 'weather' is not in it"),
    (ForgetsResults(), "tool round trip", "'föhn in the south' is not in the second request"),
    (
        Spoilt(cuts_the_vendors_words),
        "key",
        "it is in an error: the provider failed with model_auth: HTTP 401",
    ),
    (LosesIds(), "tool round trip", "the id 'call_a' is not with both"),
]


@pytest.mark.parametrize(("provider", "name", "words"), BUGS, ids=lambda value: value if isinstance(value, str) else "")
async def test_a_planted_bug_is_found_by_its_check_in_words(provider: Provider, name: str, words: str) -> None:
    (check,) = (check for check in CHECKS if str(check) == name)
    with pytest.raises(AssertionError, match=f"^{name}: .*{re.escape(words)}"):
        await check(provider, WIRE)


async def test_all_failures_are_told_at_once() -> None:
    class Bad(ShowsTheKey):
        def stream(self, request: ModelRequest, http: Http) -> Events:
            return loses_usage(super().stream(request, http))

    with pytest.raises(AssertionError) as raised:
        await provider_conformance(Bad(), WIRE)
    assert [line.partition(":")[0] for line in str(raised.value).splitlines()] == ["usage", "request"]


async def test_what_fails_in_every_check_is_told_once_with_the_line_of_the_provider() -> None:
    class Raises(ShowsTheKey):
        def stream(self, request: ModelRequest, http: Http) -> Events:
            raise KeyError("choices")

    with pytest.raises(AssertionError) as raised:
        await provider_conformance(Raises(), WIRE)
    first, *others = str(raised.value).splitlines()
    assert first.startswith("text, chunking, thinking, parallel calls, ")
    place = r"\(test_conformance\.py:\d+\)"
    assert re.search(rf"KeyError came out of the provider, where only ProviderError may: 'choices' {place}$", first)
    assert len(others) == 1
    assert re.fullmatch(rf"closing, response format: it raised KeyError\('choices'\) {place}", others[0])


async def test_a_class_in_the_place_of_its_instance_is_told() -> None:
    with pytest.raises(AssertionError, match=r"^text: <class .*ShowsTheKey'> is no instance of Provider$"):
        await CHECKS[0](ShowsTheKey, WIRE)  # type: ignore[arg-type]


async def test_a_wire_without_the_refusals_that_every_vendor_has_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"^refusals: the wire has no refusal with the status 429$"):
        await provider_conformance(openai_compatible, msgspec.structs.replace(WIRE, refusals={401: WIRE.refusals[401]}))
