"""A model's answer: what is tried again, what is not, and in whose words it fails."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import anyio
import pytest

from bytebrew.base.errors import ProviderError
from bytebrew.base.http_client.client import Http, UpstreamError
from bytebrew.base.settings import Core
from bytebrew.contract.events import MessageDelta, Thinking
from bytebrew.contract.messages import ModelRequest, Stop, ToolCall, Usage
from bytebrew.contract.provider import Provider, ProviderEvent, refusal
from bytebrew.conversation.model_calls import LONGEST_WAIT, stream_answer
from bytebrew.testing import ScriptedProvider

KEY = "sk-very-secret"
REQUEST = ModelRequest(model_name="m", base_url="http://vendor.test", api_key=KEY)
HELLO: list[ProviderEvent] = [MessageDelta(content="hello"), Stop()]


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    http = Http(Core())
    yield http
    await http.aclose()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited for, in no time."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("anyio.sleep", sleep)
    return waited


async def answer(provider: Provider, http: Http, retries: int = 3) -> list[ProviderEvent]:
    return [event async for event in stream_answer(provider, REQUEST, http, retries=retries)]


async def failure(provider: Provider, http: Http, retries: int = 3) -> ProviderError:
    with pytest.raises(ProviderError) as raised:
        await answer(provider, http, retries)
    return raised.value


async def test_the_events_of_an_answer_come_as_they_are(http: Http) -> None:
    script: list[ProviderEvent] = [
        Thinking(content="hm"),
        MessageDelta(content="a"),
        ToolCall("t", {}, "1"),
        Usage(1, 2),
        Stop("tool_calls"),
    ]
    assert await answer(ScriptedProvider(script), http) == script


@pytest.mark.parametrize(
    ("status", "code", "retried"),
    [
        (400, "model_bad_request", False),
        (401, "model_auth", False),
        (402, "model_rate_limited", False),
        (403, "model_auth", False),
        (404, "model_bad_request", False),
        (408, "model_timeout", True),
        (409, "model_bad_request", True),
        (413, "model_bad_request", False),
        (422, "model_bad_request", False),
        (429, "model_rate_limited", True),
        (500, "model_unavailable", True),
        (502, "model_unavailable", True),
        (503, "model_overloaded", True),
        (504, "model_timeout", True),
        (529, "model_overloaded", True),
    ],
)
async def test_a_refusal_has_a_code_and_is_tried_again_where_that_may_help(
    status: int, code: str, retried: bool, http: Http, waits: list[float]
) -> None:
    provider = ScriptedProvider([UpstreamError(status, b"their words", None)])
    error = await failure(provider, http, retries=2)
    assert (error.message, error.code) == (f"HTTP {status}: their words", code)
    assert len(provider.requests) == (3 if retried else 1)


async def test_an_answer_that_comes_at_a_later_try_is_an_answer(http: Http, waits: list[float]) -> None:
    provider = ScriptedProvider([UpstreamError(500, b"", None)], [ProviderError("off", retry=True)], HELLO)
    assert await answer(provider, http) == HELLO
    assert len(provider.requests) == 3


async def test_the_last_failure_is_the_one_that_is_told(http: Http, waits: list[float]) -> None:
    provider = ScriptedProvider([UpstreamError(503, b"busy", None)], [UpstreamError(429, b"slow", None)])
    assert (await failure(provider, http, retries=1)).message == "HTTP 429: slow"


@pytest.mark.parametrize("begun", [[MessageDelta(content="Half")], [Thinking(content="Hm")]], ids=["text", "thinking"])
async def test_nothing_is_tried_again_once_the_answer_has_begun(begun: list[ProviderEvent], http: Http) -> None:
    provider = ScriptedProvider([*begun, ProviderError("broken", code="model_unavailable", retry=True)])
    events = []
    with pytest.raises(ProviderError, match="broken"):
        async for event in stream_answer(provider, REQUEST, http, retries=3):
            events.append(event)
    assert events == begun
    assert len(provider.requests) == 1


async def test_no_further_tries_means_none(http: Http) -> None:
    provider = ScriptedProvider([UpstreamError(500, b"", None)])
    await failure(provider, http, retries=0)
    assert len(provider.requests) == 1


async def test_waits_double_up_to_eight_seconds_and_are_scattered(http: Http, waits: list[float]) -> None:
    for _ in range(20):
        await failure(ScriptedProvider([UpstreamError(500, b"", None)]), http, retries=7)
    rounds = [waits[at : at + 7] for at in range(0, len(waits), 7)]
    for longest, seen in zip((0.5, 1, 2, 4, 8, 8, 8), zip(*rounds, strict=True), strict=True):
        assert all(longest / 2 <= wait <= longest for wait in seen)
        assert len(set(seen)) > 10


async def test_the_wait_that_a_vendor_names_is_kept(http: Http, waits: list[float]) -> None:
    provider = ScriptedProvider([UpstreamError(429, b"", 17.0)], [UpstreamError(503, b"", 0.0)], HELLO)
    assert await answer(provider, http) == HELLO
    assert waits == [17.0, 0.0]


@pytest.mark.parametrize("wait", [LONGEST_WAIT + 1, float("inf")])
async def test_a_wait_that_is_too_long_is_told_at_once(wait: float, http: Http, waits: list[float]) -> None:
    error = await failure(ScriptedProvider([UpstreamError(429, b"", wait)]), http)
    assert (error.code, error.retry_after, waits) == ("model_rate_limited", wait, [])


@pytest.mark.parametrize(
    "odd",
    [
        MessageDelta(content=5),  # type: ignore[arg-type]
        MessageDelta(content="\ud83d"),
        Thinking(content=None),  # type: ignore[arg-type]
        ToolCall("t", '{"a": 1}'),  # type: ignore[arg-type]
        "Hello",
    ],
    ids=["number", "surrogate", "nothing", "arguments as text", "text"],
)
async def test_what_no_client_could_be_sent_is_the_plugins_fault(odd: Any, http: Http) -> None:
    error = await failure(ScriptedProvider([MessageDelta(content="Hi"), odd]), http)
    assert (error.code, error.retry) == ("model_error", False)
    assert error.message.startswith(f"Provider 'scripted' told {odd!r}"[:60])
    assert error.message.endswith("which is no event")


async def test_what_is_nested_too_deeply_to_be_read_is_the_vendors_fault(http: Http) -> None:
    error = await failure(ScriptedProvider([MessageDelta(content="Hello"), RecursionError("maximum depth")]), http)
    assert (error.code, error.message) == ("model_error", "The vendor sent JSON that is nested too deeply to be read")


async def test_an_answer_without_an_end_is_a_failure(http: Http) -> None:
    class Endless(Provider):
        type = "endless"

        async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
            yield MessageDelta(content="and")

    error = await failure(Endless(), http)
    assert (error.message, error.code) == ("endless ended its answer without saying why", "model_unavailable")


@pytest.mark.parametrize(
    "failed", [ProviderError(f"bad key {KEY}", code="model_auth"), UpstreamError(401, f"bad key {KEY}".encode(), None)]
)
async def test_a_key_that_a_vendor_repeats_is_blotted_out(failed: Exception, http: Http) -> None:
    error = await failure(ScriptedProvider([failed]), http)
    assert error.message.endswith("bad key ***")
    assert error.code == "model_auth"
    assert KEY not in f"{error!r} {error.__cause__!r} {error.__context__!r}"


async def test_closing_an_answer_closes_the_provider(http: Http) -> None:
    provider = ScriptedProvider(HELLO)
    events = stream_answer(provider, REQUEST, http, retries=3)
    await anext(events)
    await events.aclose()
    assert provider.cancelled == 1


async def test_a_wait_ends_when_it_is_cancelled(http: Http) -> None:
    provider = ScriptedProvider([UpstreamError(429, b"", 30.0)])
    asking = asyncio.create_task(answer(provider, http))
    while not provider.requests:
        await asyncio.sleep(0)
    asking.cancel()
    with anyio.fail_after(1), pytest.raises(asyncio.CancelledError):
        await asking
    assert len(provider.requests) == 1


def test_a_refusal_is_one_line_of_bounded_length() -> None:
    assert (
        refusal(UpstreamError(500, b"<html>\n\n  Bad\xff gateway ", None)).message
        == "HTTP 500: <html> Bad\ufffd gateway"
    )
    assert refusal(UpstreamError(500, b"", None)).message == "HTTP 500"
    assert refusal(UpstreamError(500, b"{...}", None), "Their\nwords").message == "HTTP 500: Their words"
    assert len(refusal(UpstreamError(500, b"x" * 65536, None)).message) < 1100


def test_a_page_in_place_of_a_stream_is_told_in_words() -> None:
    error = refusal(UpstreamError(200, b"<html>Welcome</html>", None))
    assert error.message == "The vendor sent this in place of a stream of events: <html>Welcome</html>"
    assert (error.code, error.retry) == ("model_error", False)
