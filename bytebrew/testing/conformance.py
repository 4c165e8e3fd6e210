"""Conformance checks for providers, run over a real socket with recorded bytes of the vendor."""

import asyncio
import random
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from msgspec import DecodeError
from msgspec.json import decode
from msgspec.structs import replace

from bytebrew.contract.events import MessageDelta, Thinking
from bytebrew.contract.messages import Message, ResponseFormat, Stop, Usage
from bytebrew.contract.provider import Provider, ProviderEvent
from bytebrew.plugins import place
from bytebrew.testing.fake_vendor import (
    CITIES,
    RESULTS,
    THOUGHTS,
    WORDS,
    Answer,
    Subject,
    Wire,
    asking,
    expect,
    require,
    vendor,
)

__all__ = ["CHECKS", "THOUGHTS", "WORDS", "Check", "Wire", "provider_conformance"]


class Check(NamedTuple):
    """A check of a provider against recorded bytes; raises AssertionError with the check's name."""

    run: Callable[[Subject], Awaitable[None]]

    def __str__(self) -> str:
        return self.run.__name__.replace("_", " ")

    async def __call__(self, provider: Provider, wire: Wire) -> None:
        require(isinstance(provider, Provider), f"{self}: {provider!r} is no instance of Provider")
        try:
            async with asyncio.timeout(20):
                await self.run(Subject(provider, wire))
        except AssertionError as error:
            raise AssertionError(f"{self}: {error}") from error
        except Exception as error:
            message = "no end after 20 s" if isinstance(error, TimeoutError) else f"it raised {error!r}{place(error)}"
            raise AssertionError(f"{self}: {message}") from error


async def provider_conformance(provider: Provider, wire: Wire) -> None:
    """Runs all checks; one AssertionError lists the failures, grouped by cause."""
    failures: dict[str, list[str]] = {}
    for check in CHECKS:
        try:
            await check(provider, wire)
        except AssertionError as error:
            failures.setdefault(str(error).removeprefix(f"{check}: "), []).append(str(check))
    require(not failures, "\n".join(f"{', '.join(checks)}: {message}" for message, checks in failures.items()))


async def text(subject: Subject) -> None:
    """Text arrives in deltas, in order."""
    outcome = await subject.succeed(subject.wire.text)
    expect("as the whole text", WORDS, outcome.text)
    deltas = [event.content for event in outcome.events if isinstance(event, MessageDelta)]
    require(len(deltas) > 2 and all(deltas), f"expected three deltas or more, none empty, the provider told {deltas}")


async def chunking(subject: Subject) -> None:
    """The events do not depend on how the bytes are split, even within a character or a call."""
    dice = random.Random(42)  # noqa: S311
    for body in filter(None, (subject.wire.text, subject.wire.tools, subject.wire.thinking)):
        whole = (await subject.succeed(body)).events
        characters = [[at] for at, byte in enumerate(body) if byte & 0xC0 == 0x80]
        for places in (range(len(body)), *characters, *(dice.sample(range(len(body)), 9) for _ in range(9))):
            pieces = [body[a:b] for a, b in pairwise([0, *sorted(places), len(body)])]
            outcome = await subject.exchange(subject.answer(*pieces))
            require(outcome.events == whole, f"cut at {places}: expected {whole}, {outcome}")


async def thinking(subject: Subject) -> None:
    """Thinking arrives complete and before the text, and the capabilities declare it."""
    expect(
        "as capabilities.thinking with this wire", bool(subject.wire.thinking), subject.provider.capabilities.thinking
    )
    if subject.wire.thinking:
        outcome = await subject.succeed(subject.wire.thinking)
        kinds = [type(event) for event in outcome.events if isinstance(event, Thinking | MessageDelta)]
        thoughts = "".join(event.content for event in outcome.events if isinstance(event, Thinking))
        expect("as the thinking and the text", (THOUGHTS, WORDS), (thoughts, outcome.text))
        require(MessageDelta not in kinds[: kinds.count(Thinking)], f"expected the thinking first, {outcome}")


async def parallel_calls(subject: Subject) -> None:
    """Both calls arrive in order, with decoded arguments, and with distinct ids or none."""
    calls = (await subject.succeed(subject.wire.tools)).calls
    expected = [("weather", {"city": city}, None) for city in CITIES]
    expect("as calls", expected, [(call.tool, call.input, call.malformed) for call in calls])
    ids = [call.call_id for call in calls]
    require(len({*ids}) == 2 or not any(ids), f"expected two ids or none, the provider told {ids}")


async def broken_arguments(subject: Subject) -> None:
    """Arguments that are not a JSON object are passed on as `malformed`."""
    if subject.wire.broken_arguments:
        calls = (await subject.succeed(subject.wire.broken_arguments)).calls
        found = [(call.tool, call.input, (call.malformed or "").strip()) for call in calls]
        expect("as a malformed call", [("weather", {}, '{"city":')], found)


async def usage(subject: Subject) -> None:
    """Tokens are counted once."""
    outcome = await subject.succeed(subject.wire.text)
    found = [event for event in outcome.events if isinstance(event, Usage)]
    expect("input tokens", 11, sum(one.input_tokens for one in found))
    expect("output tokens", 7, sum(one.output_tokens for one in found))


async def stop(subject: Subject) -> None:
    """The last event is the only Stop, with the reason."""
    wire = subject.wire
    for body in filter(None, (wire.text, wire.thinking, wire.tools, wire.broken_arguments)):
        events = (await subject.succeed(body)).events
        reason = "tool_calls" if body in (wire.tools, wire.broken_arguments) else "end"
        expect("as the reasons of all its Stops", [reason], [event.reason for event in events if type(event) is Stop])
        require(type(events[-1]) is Stop, f"expected Stop at the end, the provider told {events[-1]} after it")


async def many_at_once(subject: Subject) -> None:
    """Concurrent answers are not mixed up."""
    body = subject.wire.tools
    pieces = [body[at : at + 9] for at in range(0, len(body), 9)]
    async with vendor(subject.answer(*pieces)) as (_, url, http):
        for outcome in await asyncio.gather(*(subject.call(url, http) for _ in range(5))):
            found = [call.input.get("city") for call in outcome.calls]
            require(found == CITIES, f"expected calls for {CITIES} in each of five answers, {outcome}")


async def refusals(subject: Subject) -> None:
    """An error has the code of its status, the vendor's message and wait, and is retried only if that may help."""
    codes = {401: "model_auth", 402: "model_rate_limited", 403: "model_auth", 429: "model_rate_limited"}
    codes |= {503: "model_overloaded", 504: "model_timeout", 529: "model_overloaded"}
    for status in sorted({401, 429, 500, *subject.wire.refusals}):
        code = codes.get(status, "model_bad_request" if status < 500 else "model_unavailable")
        again = status == 429 or status >= 500
        failure = await subject.fail(subject.refusal(status, retry_after="7"), code, retry=again)
        require("BOOM 42" in failure.message, f"{status}: expected the words BOOM 42, told {failure.message!r}")
        if again:
            expect(f"seconds as retry_after of {status}", 7.0, failure.retry_after)
        outcome = await subject.exchange(subject.refusal(status), subject.answer(subject.wire.text), retries=1)
        expect(f"requests where the first is refused with {status}", 1 + again, len(outcome.requests))


async def too_long(subject: Subject) -> None:
    """A prompt longer than the context has its own code and is not retried."""
    status, body = subject.wire.too_long
    await subject.fail(Answer([body], status=status), "model_context_too_long", retry=False)


async def silence(subject: Subject) -> None:
    """A silent vendor times out, at once or in the middle."""
    for sent in (b"", subject.beginning):
        await subject.fail(subject.answer(sent, end="open"), "model_timeout", retry=True, seconds=0.2)


async def nobody_there(subject: Subject) -> None:
    """A vendor that cannot be reached is unavailable."""
    async with vendor() as (_, url, _):
        pass
    async with vendor() as (_, _, http):
        outcome = await subject.call(url, http)
    require(outcome.failure and outcome.failure.code == "model_unavailable", f"expected model_unavailable, {outcome}")


async def early_end(subject: Subject) -> None:
    """A truncated answer is a failure."""
    lines = subject.wire.text.splitlines(keepends=True)
    for count in range(len(lines)):
        outcome = await subject.exchange(subject.answer(*lines[:count]))
        fine = outcome.failure.code == "model_unavailable" if outcome.failure else outcome.text == WORDS
        require(fine, f"expected model_unavailable after {count} of {len(lines)} lines, {outcome}")
    await subject.fail(subject.answer(subject.beginning[:-3], end="broken"), "model_unavailable", retry=True)


async def error_in_the_middle(subject: Subject) -> None:
    """An error in the middle comes after the text before it, with the vendor's message."""
    outcome = await subject.exchange(subject.answer(subject.wire.error))
    complete = outcome.text and outcome.failure and "BOOM 42" in outcome.failure.message
    require(complete, f"expected a piece of text and then the words BOOM 42, {outcome}")


async def garbage(subject: Subject) -> None:
    """With a damaged line the provider raises ProviderError or still yields the whole text."""
    lines, failures = subject.wire.text.splitlines(keepends=True), 0
    for number, line in enumerate(lines):
        if content := re.search(rb"\{.*\}", line):
            for junk in (content[0][: len(content[0]) // 2] + b"\xff", b"[]", b"null", b"7"):
                damaged = line.replace(content[0], junk)
                outcome = await subject.exchange(subject.answer(*lines[:number], damaged, *lines[number + 1 :]))
                failures += outcome.failure is not None
                require(outcome.failure or outcome.text == WORDS, f"{junk!r} was swallowed, {outcome}")
    require(failures, "expected ProviderError for lines of garbage, the provider never failed")


async def closing(subject: Subject) -> None:
    """Closing or cancelling early closes the connection within 100 ms."""
    for cancelled in (False, True):
        async with vendor(subject.answer(subject.beginning, end="open")) as (double, url, http):
            answer = subject.provider.stream(asking(url), http)
            await anext(answer)
            if cancelled:
                reading = asyncio.create_task(_exhaust(answer))
                await asyncio.sleep(0.05)
                reading.cancel()
                await asyncio.wait([reading])
            await answer.aclose()
            try:
                async with asyncio.timeout(0.1):
                    await double.closed.wait()
            except TimeoutError:
                how = "cancelled" if cancelled else "closed"
                raise AssertionError(f"the connection is open 100 ms after the answer was {how}") from None


async def request(subject: Subject) -> None:
    """The request has everything the vendor needs, and the key only in a header."""
    received = (await subject.succeed(subject.wire.text)).requests[0]
    strings = [received.path, *_strings(decode(received.body))]
    expected = asking("")
    weather = expected.tools[0]
    for what, message in (
        ("model's name", expected.model_name),
        ("system text", expected.system),
        ("user's text", expected.messages[0].content),
        ("tool's name", weather.name),
        ("tool's description", weather.description),
        ("tool's schema", weather.input_schema["properties"]["city"]["description"]),
    ):
        require(any(message in part for part in strings), f"the {what} {message!r} is not in it")
    require(any(expected.api_key in value for value in received.headers.values()), "the key is in no header")
    require(not any(expected.api_key in part for part in strings), "the key is in the URL or in the body")


async def response_format(subject: Subject) -> None:
    """A structured provider sends the schema of a format, in a field of the request or in the system text."""
    if subject.provider.capabilities.structured:
        schema = {"type": "object", "properties": {"total": {"type": "number", "description": "SUM 42"}}}
        format = ResponseFormat(type="json_schema", schema=schema)
        async with vendor(subject.answer(subject.wire.text)) as (double, url, http):
            await _exhaust(subject.provider.stream(replace(asking(url), response_format=format), http))
            sent = "\n".join(_strings(decode(double.requests[0].body)))
        require("SUM 42" in sent, "the schema is neither in a field of the request nor in the system text")


async def tool_round_trip(subject: Subject) -> None:
    """The next request has the question, the calls and their results, in order."""
    outcome = await subject.succeed(subject.wire.tools)
    end = outcome.events[-1]
    calls = [replace(call, call_id=call.call_id or f"call_{i}") for i, call in enumerate(outcome.calls)]
    answer = Message("assistant", tool_calls=tuple(calls), vendor=end.vendor if isinstance(end, Stop) else {})
    results = [Message("tool", RESULTS[i], call_id=c.call_id, tool=c.tool) for i, c in enumerate(calls[:2])]
    second = await subject.exchange(subject.answer(subject.wire.text), further=[answer, *results])
    expect("as the answer to the results", WORDS, second.text)
    sent = "\n".join(_strings(decode(second.requests[0].body)))
    at = -1
    for message in (asking("").messages[0].content, *CITIES, *RESULTS):
        require(message in sent, f"{message!r} is not in the second request")
        at, before = sent.index(message), at
        require(at > before, f"{message!r} is too early in the second request")
    for call in outcome.calls:
        once = call.call_id and sent.count(call.call_id) == 1
        require(not once, f"the id {call.call_id!r} is not with both its call and its result in the second request")


async def key(subject: Subject) -> None:
    """No error contains the key or a part of it, even if the vendor's does."""
    secret = asking("").api_key
    for answer in (*map(subject.refusal, subject.wire.refusals), subject.answer(subject.wire.error)):
        body = answer.pieces[0].replace(b"BOOM 42", f"BOOM 42 for {secret}".encode())
        outcome = await subject.exchange(answer._replace(pieces=[body]))
        require(outcome.failure, f"expected a failure, {outcome}")
        require(secret[:8] not in str(outcome) and secret[-8:] not in str(outcome), f"it is in an error: {outcome}")


async def _exhaust(answer: AsyncGenerator[ProviderEvent, None]) -> None:
    async for _ in answer:
        pass


def _strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys and strings of nested JSON texts included."""
    if isinstance(value, str):
        try:
            inner = decode(value)
        except DecodeError:
            inner = None
        yield from _strings(inner) if isinstance(inner, dict | list) else (value,)
    elif isinstance(value, dict | list):
        for inner in value if isinstance(value, list) else (part for pair in value.items() for part in pair):
            yield from _strings(inner)


CHECKS = (
    *map(Check, (text, chunking, thinking, parallel_calls, broken_arguments, usage, stop, many_at_once, refusals)),
    *map(Check, (too_long, silence, nobody_there, early_end, error_in_the_middle, garbage, closing)),
    *map(Check, (request, response_format, tool_round_trip, key)),
)
