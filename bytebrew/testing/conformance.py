"""The provider conformance kit: what every provider must do, checked over a real socket with its vendor's own bytes."""

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
from bytebrew.contract.messages import Message, Stop, Usage
from bytebrew.contract.provider import Provider, ProviderEvent
from bytebrew.plugins import place
from bytebrew.testing.fake_vendor import (
    CITIES,
    RESULTS,
    THOUGHTS,
    WORDS,
    Answer,
    Trial,
    Wire,
    asking,
    expect,
    require,
    vendor,
)

__all__ = ["CHECKS", "THOUGHTS", "WORDS", "Check", "Wire", "provider_conformance"]


class Check(NamedTuple):
    """One check of a provider against its wire: raises AssertionError, in words that begin with the check's name."""

    run: Callable[[Trial], Awaitable[None]]

    def __str__(self) -> str:
        return self.run.__name__.replace("_", " ")

    async def __call__(self, provider: Provider, wire: Wire) -> None:
        require(isinstance(provider, Provider), f"{self}: {provider!r} is no instance of Provider")
        try:
            async with asyncio.timeout(20):
                await self.run(Trial(provider, wire))
        except AssertionError as error:
            raise AssertionError(f"{self}: {error}") from error
        except Exception as error:
            words = "no end after 20 s" if isinstance(error, TimeoutError) else f"it raised {error!r}{place(error)}"
            raise AssertionError(f"{self}: {words}") from error


async def provider_conformance(provider: Provider, wire: Wire) -> None:
    """Runs all the checks; one AssertionError names every failure, those of one cause on one line."""
    failures: dict[str, list[str]] = {}
    for check in CHECKS:
        try:
            await check(provider, wire)
        except AssertionError as error:
            failures.setdefault(str(error).removeprefix(f"{check}: "), []).append(str(check))
    require(not failures, "\n".join(f"{', '.join(checks)}: {words}" for words, checks in failures.items()))


async def text(trial: Trial) -> None:
    """The answer in words comes in its pieces, in order."""
    outcome = await trial.hear(trial.wire.text)
    expect("as the whole text", WORDS, outcome.text)
    deltas = [event.content for event in outcome.events if isinstance(event, MessageDelta)]
    require(len(deltas) > 2 and all(deltas), f"expected three deltas or more, none empty, the provider told {deltas}")


async def cuts(trial: Trial) -> None:
    """The events are the same however the bytes are cut, even within a letter or a call."""
    dice = random.Random(42)  # noqa: S311
    for body in filter(None, (trial.wire.text, trial.wire.tools, trial.wire.thinking)):
        whole = (await trial.hear(body)).events
        letters = [[at] for at, byte in enumerate(body) if byte & 0xC0 == 0x80]
        for places in (range(len(body)), *letters, *(dice.sample(range(len(body)), 9) for _ in range(9))):
            cut = [body[a:b] for a, b in pairwise([0, *sorted(places), len(body)])]
            outcome = await trial.ask(trial.says(*cut))
            require(outcome.events == whole, f"cut at {places}: expected {whole}, {outcome}")


async def thinking(trial: Trial) -> None:
    """What the model thinks is told, whole, before its words; the capabilities say whether it can be."""
    expect("as capabilities.thinking with this wire", bool(trial.wire.thinking), trial.provider.capabilities.thinking)
    if trial.wire.thinking:
        outcome = await trial.hear(trial.wire.thinking)
        kinds = [type(event) for event in outcome.events if isinstance(event, Thinking | MessageDelta)]
        thoughts = "".join(event.content for event in outcome.events if isinstance(event, Thinking))
        expect("as the thinking and the text", (THOUGHTS, WORDS), (thoughts, outcome.text))
        require(MessageDelta not in kinds[: kinds.count(Thinking)], f"expected the thinking first, {outcome}")


async def parallel_calls(trial: Trial) -> None:
    """Both calls are told whole and in order, with decoded arguments and ids of their own or none."""
    calls = (await trial.hear(trial.wire.tools)).calls
    expected = [("weather", {"city": city}, None) for city in CITIES]
    expect("as calls", expected, [(call.tool, call.input, call.malformed) for call in calls])
    ids = [call.call_id for call in calls]
    require(len({*ids}) == 2 or not any(ids), f"expected two ids or none, the provider told {ids}")


async def broken_arguments(trial: Trial) -> None:
    """Arguments that are no JSON object are handed on as `malformed`."""
    if trial.wire.broken_arguments:
        calls = (await trial.hear(trial.wire.broken_arguments)).calls
        found = [(call.tool, call.input, (call.malformed or "").strip()) for call in calls]
        expect("as a malformed call", [("weather", {}, '{"city":')], found)


async def usage(trial: Trial) -> None:
    """The tokens are counted, once."""
    outcome = await trial.hear(trial.wire.text)
    found = [event for event in outcome.events if isinstance(event, Usage)]
    expect("input tokens", 11, sum(one.input_tokens for one in found))
    expect("output tokens", 7, sum(one.output_tokens for one in found))


async def stop(trial: Trial) -> None:
    """Exactly one Stop is the last event and says why."""
    wire = trial.wire
    for body in filter(None, (wire.text, wire.thinking, wire.tools, wire.broken_arguments)):
        events = (await trial.hear(body)).events
        reason = "tool_calls" if body in (wire.tools, wire.broken_arguments) else "end"
        expect("as the reasons of all its Stops", [reason], [event.reason for event in events if type(event) is Stop])
        require(type(events[-1]) is Stop, f"expected Stop at the end, the provider told {events[-1]} after it")


async def many_at_once(trial: Trial) -> None:
    """Answers that come at the same time are not mixed up."""
    body = trial.wire.tools
    pieces = [body[at : at + 9] for at in range(0, len(body), 9)]
    async with vendor(trial.says(*pieces)) as (_, url, http):
        for outcome in await asyncio.gather(*(trial.listen(url, http) for _ in range(5))):
            found = [call.input.get("city") for call in outcome.calls]
            require(found == CITIES, f"expected calls for {CITIES} in each of five answers, {outcome}")


async def refusals(trial: Trial) -> None:
    """A refusal has its status's code, the vendor's words and wait, and is tried again only where that may help."""
    codes = {401: "model_auth", 402: "model_rate_limited", 403: "model_auth", 429: "model_rate_limited"}
    codes |= {503: "model_overloaded", 504: "model_timeout", 529: "model_overloaded"}
    for status in sorted({401, 429, 500, *trial.wire.refusals}):
        code = codes.get(status, "model_bad_request" if status < 500 else "model_unavailable")
        again = status == 429 or status >= 500
        failure = await trial.fail(trial.refuses(status, retry_after="7"), code, retry=again)
        require("BOOM 42" in failure.message, f"{status}: expected the words BOOM 42, told {failure.message!r}")
        if again:
            expect(f"seconds as retry_after of {status}", 7.0, failure.retry_after)
        outcome = await trial.ask(trial.refuses(status), trial.says(trial.wire.text), retries=1)
        expect(f"requests where the first is refused with {status}", 1 + again, len(outcome.requests))


async def too_long(trial: Trial) -> None:
    """A prompt that is longer than the context is told as such and not tried again."""
    status, body = trial.wire.too_long
    await trial.fail(Answer([body], status=status), "model_context_too_long", retry=False)


async def silence(trial: Trial) -> None:
    """A vendor that falls silent, at once or in the middle, is not waited for."""
    for said in (b"", trial.beginning):
        await trial.fail(trial.says(said, end="open"), "model_timeout", retry=True, seconds=0.2)


async def nobody_there(trial: Trial) -> None:
    """A vendor that cannot be reached is unavailable."""
    async with vendor() as (_, url, _):
        pass
    async with vendor() as (_, _, http):
        outcome = await trial.listen(url, http)
    require(outcome.failure and outcome.failure.code == "model_unavailable", f"expected model_unavailable, {outcome}")


async def early_end(trial: Trial) -> None:
    """An answer that ends before its text does is no answer."""
    lines = trial.wire.text.splitlines(keepends=True)
    for count in range(len(lines)):
        outcome = await trial.ask(trial.says(*lines[:count]))
        fine = outcome.failure.code == "model_unavailable" if outcome.failure else outcome.text == WORDS
        require(fine, f"expected model_unavailable after {count} of {len(lines)} lines, {outcome}")
    await trial.fail(trial.says(trial.beginning[:-3], end="broken"), "model_unavailable", retry=True)


async def error_in_the_middle(trial: Trial) -> None:
    """An error in the middle comes after the text before it, in the vendor's words."""
    outcome = await trial.ask(trial.says(trial.wire.error))
    told = outcome.text and outcome.failure and "BOOM 42" in outcome.failure.message
    require(told, f"expected a piece of text and then the words BOOM 42, {outcome}")


async def garbage(trial: Trial) -> None:
    """Whatever takes the place of a line, the provider fails with ProviderError or tells the whole text."""
    lines, failures = trial.wire.text.splitlines(keepends=True), 0
    for number, line in enumerate(lines):
        if content := re.search(rb"\{.*\}", line):
            for junk in (content[0][: len(content[0]) // 2] + b"\xff", b"[]", b"null", b"7"):
                damaged = line.replace(content[0], junk)
                outcome = await trial.ask(trial.says(*lines[:number], damaged, *lines[number + 1 :]))
                failures += outcome.failure is not None
                require(outcome.failure or outcome.text == WORDS, f"{junk!r} was swallowed, {outcome}")
    require(failures, "expected ProviderError for lines of garbage, the provider never failed")


async def closing(trial: Trial) -> None:
    """Being closed or cancelled early closes the connection within 100 ms."""
    for cancelled in (False, True):
        async with vendor(trial.says(trial.beginning, end="open")) as (double, url, http):
            answer = trial.provider.stream(asking(url), http)
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


async def request(trial: Trial) -> None:
    """The request carries all that the vendor must know, and the key in a header alone."""
    asked = (await trial.hear(trial.wire.text)).requests[0]
    told = [asked.path, *_strings(decode(asked.body))]
    expected = asking("")
    weather = expected.tools[0]
    for what, words in (
        ("model's name", expected.model_name),
        ("system text", expected.system),
        ("user's text", expected.messages[0].content),
        ("tool's name", weather.name),
        ("tool's description", weather.description),
        ("tool's schema", weather.input_schema["properties"]["city"]["description"]),
    ):
        require(any(words in part for part in told), f"the {what} {words!r} is not in it")
    require(any(expected.api_key in value for value in asked.headers.values()), "the key is in no header")
    require(not any(expected.api_key in part for part in told), "the key is in the URL or in the body")


async def tool_round_trip(trial: Trial) -> None:
    """The next request has the question, the calls and their results, in order."""
    outcome = await trial.hear(trial.wire.tools)
    end = outcome.events[-1]
    calls = [replace(call, call_id=call.call_id or f"call_{i}") for i, call in enumerate(outcome.calls)]
    said = Message("assistant", tool_calls=tuple(calls), vendor=end.vendor if isinstance(end, Stop) else {})
    results = [Message("tool", RESULTS[i], call_id=c.call_id, tool=c.tool) for i, c in enumerate(calls[:2])]
    second = await trial.ask(trial.says(trial.wire.text), further=[said, *results])
    expect("as the answer to the results", WORDS, second.text)
    told = "\n".join(_strings(decode(second.requests[0].body)))
    at = -1
    for words in (asking("").messages[0].content, *CITIES, *RESULTS):
        require(words in told, f"{words!r} is not in the second request")
        at, before = told.index(words), at
        require(at > before, f"{words!r} is too early in the second request")
    for call in outcome.calls:
        once = call.call_id and told.count(call.call_id) == 1
        require(not once, f"the id {call.call_id!r} is not with both its call and its result in the second request")


async def key(trial: Trial) -> None:
    """A key that the vendor repeats is in no error, not even a part of it."""
    secret = asking("").api_key
    for answer in (*map(trial.refuses, trial.wire.refusals), trial.says(trial.wire.error)):
        body = answer.pieces[0].replace(b"BOOM 42", f"BOOM 42 for {secret}".encode())
        outcome = await trial.ask(answer._replace(pieces=[body]))
        require(outcome.failure, f"expected a failure, {outcome}")
        require(secret[:8] not in str(outcome) and secret[-8:] not in str(outcome), f"it is in an error: {outcome}")


async def _exhaust(answer: AsyncGenerator[ProviderEvent, None]) -> None:
    async for _ in answer:
        pass


def _strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value, names too, and those in JSON within a string."""
    if isinstance(value, str):
        try:
            inner = decode(value)
        except DecodeError:
            inner = None
        yield from _strings(inner) if isinstance(inner, dict | list) else (value,)
    elif isinstance(value, dict | list):
        for inner in value if isinstance(value, list) else (part for pair in value.items() for part in pair):
            yield from _strings(inner)


CHECKS = tuple(
    map(
        Check,
        (
            *(text, cuts, thinking, parallel_calls, broken_arguments, usage, stop, many_at_once, refusals, too_long),
            *(silence, nobody_there, early_end, error_in_the_middle, garbage, closing, request, tool_round_trip, key),
        ),
    )
)
