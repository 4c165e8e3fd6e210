"""Lost connections, lost answers and refusals: each event comes once, and no message counts twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from both import BOTH, Kind, calling
from bytebrew import Guard, MessageDelta, Request, Route, Thinking, ToolCall, tool
from bytebrew.base.errors import Overloaded
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, plugin, providing, scripted_schema, served_engine
from bytebrew_client import ConnectionLost, Done, Event, Gone, InvalidRequest, NotFound, Unavailable
from bytebrew_client.errors import APIError
from bytebrew_client.flow import LONGEST, Retries
from cutting import cutting

ENOUGH = 900
"""Bytes that are more than the head of an answer and its longest event here."""


@tool(idempotent=True)
async def weather(city: str) -> str:
    """The weather."""
    return f"Sunny\u2028in {city}"


ANSWERS: tuple[list[Any], list[Any]] = (
    [
        Thinking(content="Hm, "),
        *(MessageDelta(content=f"wörd {n} \u2028") for n in range(12)),
        ToolCall("weather", {"city": "Oslo"}, "call_1"),
    ],
    [MessageDelta(content=f"and {n} ") for n in range(12)],
)


class Twice(ScriptedProvider):
    """Says the same in each turn."""

    async def stream(self, request: Any, http: Any) -> Any:
        self.answers = [ANSWERS[request.messages[-1].role == "tool"]]
        async for event in super().stream(request, http):
            yield event


@asynccontextmanager
async def talking(*plugins: Any) -> AsyncIterator[tuple[Twice, Engine, str]]:
    """An engine whose schema `test` says much in each turn."""
    model = Twice([])
    tools = plugin(register_tools=lambda register: register(weather))
    async with served_engine(tools, *plugins, providing(model)) as (running, http):
        await scripted_schema(running, tools=("weather",))
        yield model, running, str(http.base_url)


def transcript(events: list[Event]) -> list[Any]:
    """Events without the ids of their session and turn."""
    return [(type(event), event.id, getattr(event, "content", ""), getattr(event, "output", "")) for event in events]


async def undisturbed(url: str) -> list[Any]:
    async with calling("async", url) as call:
        return transcript(await call.events(call.client.chat("test", "Hi")))


class Talk(NamedTuple):
    """An engine for several tests, and the transcript of an undisturbed turn of it."""

    model: Twice
    url: str
    calm: list[Any]


@pytest.fixture(scope="module")
async def talk(anyio_backend: str) -> AsyncIterator[Talk]:
    async with talking() as (model, _, url):
        yield Talk(model, url, await undisturbed(url))


@BOTH
@pytest.mark.parametrize("length", [*range(ENOUGH, ENOUGH + 130, 13), 2000, 4001, 8000])
async def test_a_transcript_is_whole_where_each_connection_is_broken_off(kind: Kind, length: int, talk: Talk) -> None:
    before = len(talk.model.requests)
    async with cutting(talk.url, [length], reset=length % 2 == 1) as proxy, calling(kind, proxy.url) as call:
        chat = call.client.chat("test", "Hi")
        assert transcript(await call.events(chat)) == talk.calm
        assert chat.session_id
    assert len(talk.model.requests) - before == 2  # the steps of one turn
    if length < 2000:
        assert proxy.connections > 2


@BOTH
@given(lengths=st.lists(st.integers(0, 5000), max_size=4), reset=st.booleans())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_transcript_is_whole_wherever_connections_are_broken_off(
    kind: Kind, talk: Talk, lengths: list[int], reset: bool
) -> None:
    before = len(talk.model.requests)
    async with cutting(talk.url, [*lengths, 1 << 30], reset=reset) as proxy, calling(kind, proxy.url) as call:
        assert transcript(await call.events(call.client.chat("test", "Hi"))) == talk.calm
    assert len(talk.model.requests) - before == 2


@BOTH
async def test_a_message_whose_answer_never_came_is_not_run_twice(kind: Kind) -> None:
    async with talking() as (model, _, url):
        async with cutting(url, [0, 0, 1 << 30]) as proxy, calling(kind, proxy.url) as call:
            chat = await call.run(call.client.chat("test", "Hi").send)
            await call.run(chat.text)
            assert proxy.connections >= 3
            page = await call(lambda client: client.sessions.list())
        assert (page.total, len(model.requests)) == (1, 2)


@BOTH
async def test_what_else_is_made_is_made_once(kind: Kind) -> None:
    async with talking() as (_, _, url):
        async with cutting(url, [0, 0, 1 << 30]) as proxy, calling(kind, proxy.url) as call:
            made = await call(lambda client: client.tasks.create("test", "Look", require_approval=True))
        async with cutting(url, [0, 1 << 30]) as proxy, calling(kind, proxy.url) as call:
            chat = await call.run(call.client.chat("test", "Hi").send)
            await call.run(chat.text)
        async with cutting(url, [0, 1 << 30]) as proxy, calling(kind, proxy.url) as call:
            await call(lambda client: client.sessions.delete(chat.session_id))
        async with calling(kind, url) as call:
            assert [one.id for one in (await call(lambda client: client.tasks.list())).data] == [made.id]
            with pytest.raises(NotFound):
                await call(lambda client: client.sessions.delete(chat.session_id))


@BOTH
async def test_a_cancellation_is_not_sent_twice_where_the_engine_may_have_it(kind: Kind) -> None:
    async with talking() as (_, _, url):
        async with calling(kind, url) as call:
            chat = await call.run(call.client.chat("test", "Hi").send)
        async with cutting(url, [0]) as proxy, calling(kind, proxy.url) as call:
            with pytest.raises(ConnectionLost):
                await call(lambda client: client.sessions.cancel(chat.session_id))
            assert proxy.connections == 1


@BOTH
async def test_a_stream_goes_on_after_it_was_left(kind: Kind) -> None:
    async with talking() as (_, _, url):
        calm = await undisturbed(url)
        async with calling(kind, url) as call:
            chat, events = call.client.chat("test", "Hi"), list[Event]()
            while len(events) < len(calm):
                events += await call.events(chat, count=5)
                await call.run(chat.close)
            assert await call.events(chat) == []
    assert transcript(events) == calm


@BOTH
async def test_another_process_goes_on_with_a_chat(kind: Kind) -> None:
    async with talking() as (model, _, url):
        calm = await undisturbed(url)
        async with calling(kind, url) as call:
            chat = call.client.chat("test", "Hi")
            first = await call.events(chat, count=7)
            key, seen = chat.idempotency_key, chat.last_event_id
        async with calling(kind, url) as call:
            rest = await call.events(call.client.chat("test", "Hi", idempotency_key=key, after=seen))
        assert transcript([*first, *rest]) == calm
        async with calling(kind, url) as call:
            with pytest.raises(InvalidRequest) as caught:
                await call.run(call.client.chat("test", "Another", idempotency_key=key).text)
            assert caught.value.code == "idempotency_key_reused"
            with pytest.raises(Gone) as changed:
                await call.run(call.client.chat("test", "Hi", idempotency_key=key, after="999").text)
            assert changed.value.code == "history_changed"
    assert len(model.requests) == 4


def strict(refusals: list[Exception]) -> Any:
    """A plugin that refuses chats, the last refusal first, until none is left."""

    async def guard(request: Request[Any], route: Route) -> None:
        if refusals and route.path.endswith("/chat"):
            raise refusals.pop()

    return plugin("strict", register_guards=lambda register: register(Guard(guard)))


@BOTH
async def test_a_message_that_is_refused_for_a_while_is_sent_again(kind: Kind) -> None:
    refusals: list[Exception] = [Overloaded("too much to do"), Overloaded("too much to do")]
    async with talking(strict(refusals)) as (model, _, url), calling(kind, url) as call:
        began = asyncio.get_running_loop().time()
        assert await call.run(call.client.chat("test", "Hi").text)
        assert asyncio.get_running_loop().time() - began >= 2  # what Retry-After says, twice
    assert (refusals, len(model.requests)) == ([], 2)


@BOTH
async def test_the_limit_of_time_ends_what_has_no_progress(kind: Kind) -> None:
    refusals: list[Exception] = [Overloaded("too much to do")] * 50
    async with talking(strict(refusals)) as (_, _, url), calling(kind, url, retry_seconds=0.5) as call:
        with pytest.raises(Unavailable) as caught:
            await call.run(call.client.chat("test", "Hi").text)
        assert (caught.value.status, caught.value.retry_after, caught.value.code) == (503, 1, "overloaded")
        assert len(refusals) == 49  # it would have to wait for longer than it may
    async with calling(kind, url, retry_seconds=0.5) as call:  # the engine is gone
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionLost):
                await call.run(call.client.chat("test", "Hi").text)
            with pytest.raises(ConnectionLost):
                await call(lambda client: client.sessions.list())


@BOTH
async def test_a_stream_that_never_says_anything_ends_at_the_limit(kind: Kind) -> None:
    async with talking() as (_, _, url), cutting(url, [500]) as proxy:
        async with calling(kind, proxy.url, retry_seconds=1) as call:
            with pytest.raises(ConnectionLost):
                await call.run(call.client.chat("test", "Hi").text)
        assert 2 < proxy.connections < 20


@BOTH
async def test_a_message_that_waits_says_so_once_over_many_connections(kind: Kind) -> None:
    slow = ScriptedProvider([1.5, MessageDelta(content="First.")], [MessageDelta(content="Second.")])
    async with served_engine(providing(slow)) as (running, http):
        await scripted_schema(running)
        async with calling(kind, str(http.base_url)) as call:
            first = await call.run(call.client.chat("test", "Hi").send)
        async with cutting(str(http.base_url), behind=b"queued") as proxy, calling(kind, proxy.url) as call:
            events = await call.events(call.client.chat("test", "And?", session_id=first.session_id))
        assert proxy.connections > 3
    names = [event.name for event in events]
    assert names == ["queued", "message_delta", "message", "done"]


@BOTH
async def test_a_message_that_waits_for_ever_on_broken_connections_ends_at_the_limit(kind: Kind) -> None:
    async with served_engine(providing(ScriptedProvider([60.0]))) as (running, http):
        await scripted_schema(running)
        async with calling(kind, str(http.base_url)) as call:
            first = await call.run(call.client.chat("test", "Hi").send)
            async with cutting(str(http.base_url), behind=b"queued") as proxy:
                async with calling(kind, proxy.url, retry_seconds=1) as cut:
                    second, read = cut.client.chat("test", "And?", session_id=first.session_id), list[Event]()
                    with pytest.raises(ConnectionLost):
                        await cut.events(second, read.append)
                assert proxy.connections < 20
            assert [event.name for event in read] == ["queued"]
            await call.run(first.cancel)


@BOTH
async def test_what_is_wrong_is_not_sent_again(kind: Kind) -> None:
    refused = 0

    async def guard(request: Request[Any], route: Route) -> None:
        nonlocal refused
        refused += 1

    counting = plugin("counting", register_guards=lambda register: register(Guard(guard)))
    async with talking(counting) as (_, _, url), calling(kind, url) as call:
        with pytest.raises(NotFound):
            await call.run(call.client.chat("nobodys", "Hi").text)
        with pytest.raises(InvalidRequest) as caught:
            await call.run(call.client.chat("test", "").text)
    assert refused == 2
    assert caught.value.details[0].path == "$.message"


@BOTH
async def test_an_answer_that_is_no_stream_of_events_is_an_error(kind: Kind) -> None:
    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        body = b"<html>sign in</html>"
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    server = await asyncio.start_server(page, "127.0.0.1", 0)
    async with server, calling(kind, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as call:
        with pytest.raises(APIError) as caught:
            await call.run(call.client.chat("test", "Hi").text)
    assert caught.value.code == "no_event_stream"


class Clock:
    """Time that goes on where it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_pauses_grow_to_a_limit_and_start_anew_with_progress() -> None:
    clock, lost = Clock(), ConnectionLost("gone")
    retries = Retries(60, clock)
    pauses = [retries.pause(lost) for _ in range(12)]
    assert 0.05 <= pauses[0] <= 0.1
    assert all(low <= high * 2.1 for low, high in pairwise(pauses))
    assert LONGEST / 2 <= pauses[-1] <= LONGEST
    retries.progress()
    assert retries.pause(lost) == 0
    assert 0 < retries.pause(lost) < 1


def test_the_limit_counts_from_the_first_failure_without_progress() -> None:
    clock, lost = Clock(), ConnectionLost("gone")
    retries = Retries(10, clock)
    retries.pause(lost)
    clock.now += 9
    retries.progress()
    clock.now += 9
    retries.pause(lost)
    clock.now += 10.1
    with pytest.raises(ConnectionLost):
        retries.pause(lost)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConnectionLost("gone"), True),
        (ConnectionLost("no certificate", permanent=True), False),
        *((APIError("", status=status), True) for status in (408, 429, 502, 503, 504)),
        *((APIError("", status=status), False) for status in (302, 400, 401, 402, 403, 404, 409, 410, 413, 422, 500)),
        (APIError("", status=429, retry_after=10), True),
        (APIError("", status=429, retry_after=3600), False),
    ],
)
def test_what_passes_is_tried_again_and_nothing_else(error: ConnectionLost | APIError, again: bool) -> None:
    retries = Retries(60, Clock())
    if again:
        assert retries.pause(error) >= (getattr(error, "retry_after", None) or 0)
    else:
        with pytest.raises(type(error)):
            retries.pause(error)


async def test_tasks_of_one_async_client_read_many_chats_at_once() -> None:
    async with talking() as (_, _, url), calling("async", url) as call:
        calm = await undisturbed(url)
        chats = [call.client.chat("test", "Hi") for _ in range(20)]
        for events in await asyncio.gather(*map(call.events, chats)):
            assert transcript(events) == calm
            assert isinstance(events[-1], Done)


async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    slow = [one for n in range(10) for one in (MessageDelta(content=f"{n} "), 0.02)]
    async with served_engine(providing(ScriptedProvider(slow))) as (running, http):
        await scripted_schema(running)
        async with calling("async", str(http.base_url)) as call:
            chat, events = call.client.chat("test", "Hi"), list[Event]()
            while not (events and isinstance(events[-1], Done)):
                try:
                    async with asyncio.timeout(0.03):
                        async for event in chat:
                            events.append(event)
                except TimeoutError:
                    continue
    assert [event.id for event in events] == [str(n) for n in range(1, 13)]


async def test_a_client_of_the_callers_own_is_used_and_stays_open() -> None:
    from bytebrew_client import AsyncClient

    seen: list[str] = []

    async def note(request: httpx.Request) -> None:
        seen.append(request.url.path)

    async with talking() as (_, _, url), httpx.AsyncClient(event_hooks={"request": [note]}) as http:
        async with AsyncClient(url, "bb_" + "a" * 64, http=http) as client:
            assert await client.chat("test", "Hi").text()
        assert not http.is_closed
    assert seen == ["/api/v1/schemas/test/chat"]
