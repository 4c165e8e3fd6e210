"""A fake vendor on a real socket, and the outcomes of a provider's requests to it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Literal, NamedTuple

from msgspec import Struct

from bytebrew.base.errors import ProviderError
from bytebrew.base.formats import Duration
from bytebrew.base.http_client.client import Http
from bytebrew.base.settings import Core
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.messages import Message, ModelRequest, ToolCall, ToolSpec
from bytebrew.contract.provider import Provider, ProviderEvent
from bytebrew.conversation.model_calls import stream_answer
from bytebrew.plugins import place

WORDS = "Grüße, 世界 🎉!"
"""The text of every answer."""
THOUGHTS = "I think – therefore…"
"""The thinking before the text, in answers with thinking."""

CITIES, RESULTS = ["Zürich", "北京"], ["föhn in the south", "雪 in the north"]


class Wire(Struct, frozen=True, kw_only=True):
    """Recorded bytes of a vendor: whole bodies for the kit's conversations.

    `text` is WORDS in three chunks or more, with 11 tokens of input and 7 of output; `tools` two parallel calls and no
    text, weather {"city": "Zürich"} and weather {"city": "北京"}; `thinking` THOUGHTS in chunks and then WORDS;
    `broken_arguments` one call of weather whose arguments are the text `{"city": `; `error` one chunk of text and then
    an error with the message "BOOM 42". `refusals` are error bodies by status, at least 401, 429 and 500, each with
    "BOOM 42"; `too_long` is the status and the body for a prompt longer than the context. Omit what the vendor's API
    does not support.
    """

    content_type: str = "text/event-stream"
    text: bytes
    tools: bytes
    thinking: bytes = b""
    broken_arguments: bytes = b""
    error: bytes
    refusals: dict[int, bytes]
    too_long: tuple[int, bytes]


class Answer(NamedTuple):
    """An answer of the vendor: a body in chunks, after which it ends, breaks off or stays open."""

    pieces: Sequence[bytes]
    content_type: str = "application/json"
    status: int = 200
    end: Literal["whole", "broken", "open"] = "whole"
    retry_after: str = "0"


class ReceivedRequest(NamedTuple):
    """A received request; header names are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


class Vendor:
    """Sends its answers in order, then repeats the last; `closed` is set when a connection is closed."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = answers
        self._open: set[asyncio.StreamWriter] = set()
        self.requests: list[ReceivedRequest] = []
        self.closed = asyncio.Event()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        self._open.add(writer)
        try:
            while True:
                await self._exchange(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self._open.discard(writer)
            self.closed.set()
            writer.close()

    def abort(self) -> None:
        """Aborts every connection."""
        for writer in self._open:
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append(ReceivedRequest(first.split(" ")[1], headers, body))
        answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
        head = f"HTTP/1.1 {answer.status} Said\r\nContent-Type: {answer.content_type}\r\nTransfer-Encoding: chunked\r\n"
        retry_after = f"Retry-After: {answer.retry_after}\r\n" if answer.status >= 400 else ""
        writer.write(f"{head}{retry_after}\r\n".encode())
        for piece in filter(None, answer.pieces):
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
            for _ in range(3):  # lets the client read this chunk separately
                await asyncio.sleep(0)
        if answer.end == "whole":
            writer.write(b"0\r\n\r\n")
            return
        if answer.end == "open":
            await reader.read(1)
        raise ConnectionAbortedError


@asynccontextmanager
async def vendor(*answers: Answer, seconds: float = 5) -> AsyncIterator[tuple[Vendor, str, Http]]:
    """A running vendor, its URL, and a client with timeouts of `seconds`."""
    double, limit = Vendor(answers), Duration(seconds)
    server = await asyncio.start_server(double.connected, "127.0.0.1", 0)
    http = Http(Core(provider_connect_timeout=limit, provider_first_byte_timeout=limit, provider_silence_timeout=limit))
    try:
        yield double, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", http
    finally:
        await http.aclose()
        server.close()
        double.abort()


class Outcome(NamedTuple):
    """The events or failure of an answer, and the requests that were sent."""

    events: list[ProviderEvent]
    failure: ProviderError | None
    requests: list[ReceivedRequest]

    def __str__(self) -> str:
        if self.failure:
            return f"the provider failed with {self.failure.code}: {self.failure.message}"
        return f"the provider told {self.events}"

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(event.content for event in self.events if isinstance(event, MessageDelta))

    @property
    def calls(self) -> list[ToolCall]:
        """The tool calls."""
        return [event for event in self.events if isinstance(event, ToolCall)]


class Subject(NamedTuple):
    """The provider under test, and its vendor's recorded bytes."""

    provider: Provider
    wire: Wire

    def answer(self, *pieces: bytes, **how: Any) -> Answer:
        """An answer with the vendor's content type."""
        return Answer(pieces, self.wire.content_type, **how)

    def refusal(self, status: int, **how: Any) -> Answer:
        """The vendor's error body for a status."""
        require(status in self.wire.refusals, f"the wire has no refusal with the status {status}")
        return Answer([self.wire.refusals[status]], status=status, **how)

    @property
    def beginning(self) -> bytes:
        """The first two thirds of the lines of the text answer."""
        lines = self.wire.text.splitlines(keepends=True)
        return b"".join(lines[: len(lines) * 2 // 3])

    async def call(self, url: str, http: Http, *further: Message, retries: int = 0) -> Outcome:
        """The outcome of one request to a URL."""
        events: list[ProviderEvent] = []
        try:
            async with aclosing(stream_answer(self.provider, asking(url, *further), http, retries=retries)) as answer:
                async for event in answer:
                    events.append(event)
        except ProviderError as failure:
            return Outcome(events, failure, [])
        except Exception as error:
            message = (
                f"{type(error).__name__} came out of the provider, where only ProviderError may: {error}{place(error)}"
            )
            raise AssertionError(message) from error
        return Outcome(events, None, [])

    async def exchange(
        self, *answers: Answer, further: Sequence[Message] = (), seconds: float = 5, retries: int = 0
    ) -> Outcome:
        """The outcome of one request to a vendor with these answers."""
        async with vendor(*answers, seconds=seconds) as (double, url, http):
            outcome = await self.call(url, http, *further, retries=retries)
        return outcome._replace(requests=double.requests)

    async def succeed(self, *pieces: bytes) -> Outcome:
        """The outcome of a valid answer, which must not fail."""
        outcome = await self.exchange(self.answer(*pieces))
        require(not outcome.failure, f"expected an answer, {outcome}")
        return outcome

    async def fail(self, answer: Answer, code: str, *, retry: bool, seconds: float = 5) -> ProviderError:
        """The failure that an answer must cause."""
        outcome = await self.exchange(answer, seconds=seconds)
        if outcome.failure is None or outcome.failure.code != code:
            raise AssertionError(f"expected {code}, {outcome}")
        expect(f"as retry of {code}", retry, outcome.failure.retry)
        return outcome.failure


def asking(url: str, *further: Message) -> ModelRequest:
    """The standard request, with further messages."""
    schema = {"type": "object", "properties": {"city": {"type": "string", "description": "a city's own name"}}}
    return ModelRequest(
        model_name="conformance-model-1",
        base_url=url,
        api_key="sk-conformance-0123456789abcdef",
        api_version="2024-10-21",
        system="Be brief – kurz.",
        messages=(Message("user", "Will it rain in 京都?"), *further),
        tools=(ToolSpec("weather", "Asks for the forecast of a city.", schema),),
    )


def require(condition: object, message: str) -> None:
    """Raises AssertionError unless the condition is true."""
    if not condition:
        raise AssertionError(message)


def expect(what: str, expected: object, actual: object) -> None:
    """Requires the expected value."""
    require(expected == actual, f"expected {expected!r} {what}, the provider told {actual!r}")
