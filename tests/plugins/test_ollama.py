"""Ollama's own wire: what we send, what comes back line by line, and what goes wrong on the way."""

from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest
from bytebrew_ollama import Ollama, ollama

from bytebrew.base.errors import ProviderError
from bytebrew.base.http_client.answer_limits import Bounds
from bytebrew.contract.events import MessageDelta, Thinking
from bytebrew.contract.messages import Attachment, Message, ModelRequest, Stop, ToolCall, ToolSpec, Usage
from bytebrew.contract.provider import ProviderEvent
from bytebrew.conversation.model_calls import stream_answer
from bytebrew.testing import CHECKS, THOUGHTS, WORDS, Check, Wire, chat, names, providing, served_engine
from tests.upstream import Act, broken, chunk, client, head, refused, upstream

DEEP = "[" * 5000 + "]" * 5000
WIRE = Path(__file__).parent.parent / "wire" / "ollama"
KEY = "ollama-key-0123456789"


def text(content: str) -> MessageDelta:
    return MessageDelta(content=content)


def thought(content: str) -> Thinking:
    return Thinking(content=content)


def said(**message: Any) -> dict[str, Any]:
    return {"model": "qwen3", "message": {"role": "assistant", "content": "", **message}, "done": False}


def called(name: str, arguments: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}}


def done(reason: str = "stop", **counts: int) -> dict[str, Any]:
    return said() | {"done": True, "done_reason": reason, **counts}


def lines(*values: Any) -> bytes:
    return b"".join(msgspec.json.encode(value) + b"\n" for value in values)


def request(url: str = "http://ollama.test:11434", **fields: Any) -> ModelRequest:
    fields = {"messages": (Message("user", "Hi"),)} | fields
    return ModelRequest(model_name="qwen3:8b", base_url=url, **fields)


class Cut(httpx.AsyncByteStream):
    """A body in pieces of one size."""

    def __init__(self, raw: bytes, size: int) -> None:
        self._pieces = [raw[at : at + size] for at in range(0, len(raw), size)]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


async def replay(raw: bytes, size: int = 1 << 20, into: list[ProviderEvent] | None = None) -> list[ProviderEvent]:
    """The events of an answer of these bytes; `into` has those before a failure."""
    found: list[ProviderEvent] = [] if into is None else into
    headers = {"content-type": "application/x-ndjson"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=Cut(raw, size)))
    async with client(transport=transport) as http, aclosing(ollama.stream(request(), http)) as events:
        async for event in events:
            found.append(event)
    return found


async def failure(raw: bytes, into: list[ProviderEvent] | None = None) -> ProviderError:
    with pytest.raises(ProviderError) as raised:
        await replay(raw, into=into)
    return raised.value


async def refusal_of(status: int, body: Any) -> ProviderError:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    async with client(transport=httpx.MockTransport(lambda _: httpx.Response(status, content=content))) as http:
        with pytest.raises(ProviderError) as raised:
            await anext(ollama.stream(request(), http))
    return raised.value


async def test_a_refusal_that_is_nested_too_deeply_to_be_read_keeps_its_status() -> None:
    assert (await refusal_of(401, DEEP.encode())).code == "model_auth"


async def sent(url: str = "http://ollama.test:11434", **fields: Any) -> httpx.Request:
    seen: list[httpx.Request] = []

    def answer(asked: httpx.Request) -> httpx.Response:
        seen.append(asked)
        return httpx.Response(200, content=lines(done()))

    async with client(transport=httpx.MockTransport(answer)) as http:
        assert [event async for event in ollama.stream(request(url, **fields), http)] == [Stop()]
    return seen[0]


async def body(**fields: Any) -> Any:
    return msgspec.json.decode((await sent(**fields)).content)


# The conformance kit; arguments are objects on this wire, so that broken ones cannot come

PIECES = [said(content=piece) for piece in (WORDS[:4], WORDS[4:9], WORDS[9:])]
COUNTED = done(prompt_eval_count=11, eval_count=7)
CONFORMING = Wire(
    content_type="application/x-ndjson",
    text=lines(*PIECES, COUNTED),
    tools=lines(
        said(tool_calls=[called("weather", {"city": "Zürich"})]),
        said(tool_calls=[called("weather", {"city": "北京"})]),
        COUNTED,
    ),
    thinking=lines(said(thinking=THOUGHTS[:8]), said(thinking=THOUGHTS[8:]), *PIECES, COUNTED),
    error=lines(PIECES[0], {"error": "BOOM 42"}),
    refusals=dict.fromkeys((401, 429, 500, 503), b'{"error":"BOOM 42"}'),
    too_long=(
        400,
        b'{"error":"the prompt is longer than the context length currently available to the model"}',
    ),
)


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_conforms(check: Check) -> None:
    await check(ollama, CONFORMING)


# What comes back: transcripts after Ollama's documentation

TRANSCRIPTS: dict[str, list[ProviderEvent]] = {
    "text": [text("The"), text(" sky 世界"), Usage(26, 282), Stop()],
    "tools": [ToolCall("get_weather", {"city": "Tokyo"}), Usage(169, 15), Stop("tool_calls")],
    "parallel_tools": [
        *(thought("Two "), thought("cities.")),
        ToolCall("get_temperature", {"city": "New York"}),
        ToolCall("get_conditions", {"city": "New York"}),
        ToolCall("get_temperature", {"city": "London"}, "call_8f3k"),
        *(Usage(290, 60), Stop("tool_calls")),
    ],
    "thinking": [thought("Let me "), thought("count."), text("Three"), Usage(17, 40), Stop()],
    "length": [text("Once"), Usage(5, 2), Stop("max_tokens")],
}
BROKEN: dict[str, tuple[list[ProviderEvent], str, bool]] = {
    "error": ([text(" Yes"), text(".")], "an error was encountered while running the model", True),
    "load": ([], "Ollama did no more than load the model", True),
}


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_a_transcript_is_understood_however_it_is_cut(name: str, size: int) -> None:
    assert await replay((WIRE / f"{name}.ndjson").read_bytes(), size) == TRANSCRIPTS[name]


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_a_transcript_is_understood_over_a_socket(name: str) -> None:
    raw = (WIRE / f"{name}.ndjson").read_bytes().splitlines(keepends=True)
    async with upstream([STREAM, *map(chunk, raw), chunk(b"")]) as double, client() as http:
        assert [event async for event in ollama.stream(request(double.url), http)] == TRANSCRIPTS[name]


@pytest.mark.parametrize("name", BROKEN)
async def test_a_transcript_that_ends_in_no_answer_fails_after_its_events(name: str) -> None:
    found: list[ProviderEvent] = []
    error = await failure((WIRE / f"{name}.ndjson").read_bytes(), found)
    assert (found, error.message, error.retry) == BROKEN[name]
    assert error.code == "model_unavailable"


def test_every_transcript_is_used_and_names_its_source() -> None:
    files = list(WIRE.iterdir())
    assert {file.name for file in files} == {f"{name}.ndjson" for name in (*TRANSCRIPTS, *BROKEN, "structured")}
    assert all(file.read_text().startswith('{"_source":"https://') for file in files)


@pytest.mark.parametrize("arguments", [[1], "x=1", '{"city": ', 7])
async def test_arguments_that_are_no_object_are_kept_as_their_text(arguments: Any) -> None:
    events = await replay(lines(said(tool_calls=[called("weather", arguments)]), done()))
    kept = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    assert events == [ToolCall("weather", {}, malformed=kept), Stop("tool_calls")]


async def test_a_call_without_arguments_has_none() -> None:
    events = await replay(lines(said(tool_calls=[{"function": {"name": "now"}}, called("now", None)]), done()))
    assert events == [ToolCall("now", {}), ToolCall("now", {}), Stop("tool_calls")]


async def test_a_line_ends_at_a_line_feed_alone() -> None:
    raw = '{"message":{"content":"a\u2028b\u0085c\\r"},"done":false}\r\n\n \n'.encode() + lines(done())
    assert await replay(raw, 3) == [text("a\u2028b\u0085c\r"), Stop()]


async def test_the_last_line_may_lack_its_line_feed() -> None:
    assert await replay(lines(said(content="a"), done()).rstrip()) == [text("a"), Stop()]


@pytest.mark.parametrize(
    "line", [{}, {"message": None}, {"message": {}}, said(content=None, thinking=None, tool_calls=None), {"new": [1]}]
)
async def test_a_line_that_says_nothing_yields_nothing(line: Any) -> None:
    assert await replay(lines(line, said(content="a"), line, done())) == [text("a"), Stop()]


async def test_what_follows_the_last_line_is_not_read() -> None:
    assert await replay(lines(done()) + b"garbage\n") == [Stop()]


# What goes wrong in a stream


@pytest.mark.parametrize("raw", [b"", lines(said(content="a")), lines(said(content="a")) + b'{"message":{"con'])
async def test_an_answer_without_its_last_line_ended_early(raw: bytes) -> None:
    error = await failure(raw)
    assert "ended early" in error.message
    assert (error.code, error.retry) == ("model_unavailable", True)


@pytest.mark.parametrize("line", [b"{", b"<html>", b"[1]", b'{"message":5}', b'{"message":{"content":{}}}', b"\xff"])
async def test_a_line_that_cannot_be_read_is_told_in_words(line: bytes) -> None:
    found: list[ProviderEvent] = []
    error = await failure(lines(said(content="a")) + line + b"\n" + lines(done()), found)
    assert found == [text("a")]
    assert error.message.startswith("Ollama sent a line that cannot be read (")
    assert (error.code, error.retry) == ("model_unavailable", True)


async def test_a_line_without_an_end_is_not_waited_for() -> None:
    bounds = Bounds()
    error = await failure(b"x" * (bounds.answer_bytes + 1))
    assert (error.message, error.code) == (bounds.too_long().message, "model_answer_too_long")


@pytest.mark.parametrize(
    ("said_error", "words", "code", "retry"),
    [
        ("it broke", "it broke", "model_unavailable", True),
        ({"message": "it broke"}, '{"message":"it broke"}', "model_unavailable", True),
        ("input exceeds context length", "input exceeds context length", "model_context_too_long", False),
        ("x" * 5000, "x" * 1000, "model_unavailable", True),
    ],
)
async def test_an_error_in_the_middle_is_in_ollamas_words(said_error: Any, words: str, code: str, retry: bool) -> None:
    error = await failure(lines(said(content="a"), {"error": said_error}))
    assert (error.message, error.code, error.retry) == (words, code, retry)


# Refusals


@pytest.mark.parametrize("words", ["model 'qwen3:8b' not found", 'model "qwen3:8b" not found, try pulling it first'])
async def test_a_model_that_is_not_there_is_told_with_what_to_run(words: str) -> None:
    error = await refusal_of(404, {"error": words})
    assert error.message.startswith(f"HTTP 404: {words}. Run `ollama pull qwen3:8b` where Ollama runs: it fetches")
    assert (error.code, error.retry) == ("model_bad_request", False)


async def test_a_page_that_is_not_there_is_no_missing_model() -> None:
    assert (await refusal_of(404, b"404 page not found")).message == "HTTP 404: 404 page not found"


async def test_a_model_without_tools_is_told_in_ollamas_words() -> None:
    error = await refusal_of(400, {"error": "registry.ollama.ai/library/gemma:2b does not support tools"})
    assert error.message == "HTTP 400: registry.ollama.ai/library/gemma:2b does not support tools"
    assert (error.code, error.retry) == ("model_bad_request", False)


async def test_a_model_in_the_cloud_says_where_to_sign_in() -> None:
    error = await refusal_of(401, {"error": "unauthorized", "signin_url": "https://ollama.com/connect?k=1"})
    words = "HTTP 401: unauthorized; run `ollama signin` where Ollama runs, or open https://ollama.com/connect?k=1"
    assert (error.message, error.code) == (words, "model_auth")


@pytest.mark.parametrize(
    ("status", "said_body", "words", "code"),
    [
        (503, {"error": "server busy, please try again"}, "server busy, please try again", "model_overloaded"),
        (502, {"error": "cannot reach the cloud"}, "cannot reach the cloud", "model_unavailable"),
        (429, {"error": "slow down"}, "slow down", "model_rate_limited"),
        (400, {"error": {"message": "odd"}}, '{"message":"odd"}', "model_bad_request"),
        (400, b"<h1>Bad</h1>", "<h1>Bad</h1>", "model_bad_request"),
        (400, {"error": "the input length exceeds the context length"}, "the input length", "model_context_too_long"),
    ],
)
async def test_a_refusal_has_the_code_of_what_it_is_about(status: int, said_body: Any, words: str, code: str) -> None:
    error = await refusal_of(status, said_body)
    assert error.message.startswith(f"HTTP {status}: {words}")
    assert error.code == code


# What we send


@pytest.mark.parametrize("end", ["", "/api", "/v1"])
async def test_a_base_url_with_a_path_of_ollamas_is_read_as_the_origin(end: str) -> None:
    asked = await sent(f"http://ollama.test:11434{end}")
    assert (asked.method, str(asked.url)) == ("POST", "http://ollama.test:11434/api/chat")


async def test_ollama_is_on_this_machine_where_nothing_else_is_said_and_needs_no_key() -> None:
    assert (ollama.base_url, ollama.needs) == ("http://localhost:11434", frozenset())
    assert "authorization" not in (await sent()).headers
    assert (await sent(api_key=KEY)).headers["authorization"] == f"Bearer {KEY}"


async def test_a_request_leaves_out_what_is_not_set() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    assert await body() == {"model": "qwen3:8b", "messages": messages, "stream": True}


async def test_the_way_to_sample_is_under_options_zeros_too() -> None:
    asked = await body(temperature=0.0, top_p=0.0, max_tokens=7, context_size=32_000, stop_sequences=("END",))
    options = {"temperature": 0.0, "top_p": 0.0, "num_predict": 7, "num_ctx": 32_000, "stop": ["END"]}
    assert asked["options"] == options


async def test_tools_are_functions_and_none_of_them_is_offered_where_none_may_be_called() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = (ToolSpec("weather", "Tells the weather", schema),)
    function = {"name": "weather", "description": "Tells the weather", "parameters": schema}
    assert (await body(tools=tools))["tools"] == [{"type": "function", "function": function}]
    assert "tools" not in await body(tools=tools, tool_choice="none")


async def test_a_conversation_is_told_in_its_order_with_thinking_and_arguments_as_objects() -> None:
    asked = await body(
        system="Be brief.",
        messages=(
            Message("user", "Weather?"),
            Message("assistant", thinking="Hm.", tool_calls=(ToolCall("weather", {"city": "Köln"}, "c1"),)),
            Message("tool", "rain", call_id="c1", tool="weather"),
            Message("assistant", "Rain."),
        ),
    )
    call = {"id": "c1", "function": {"name": "weather", "arguments": {"city": "Köln"}}}
    assert asked["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call]},
        {"role": "tool", "tool_name": "weather", "tool_call_id": "c1", "content": "rain"},
        {"role": "assistant", "content": "Rain."},
    ]


async def test_images_are_beside_the_text_and_texts_within_it() -> None:
    note = Attachment("text/plain", b64encode("größer".encode()).decode())
    images = Attachment("image/png", "iVBORw0="), Attachment("image/jpeg", "/9j/4A==")
    asked = await body(messages=(Message("user", "Look", attachments=(*images, note)),))
    expected = {"role": "user", "content": "Look\n\ngrößer", "images": ["iVBORw0=", "/9j/4A=="]}
    assert asked["messages"] == [expected]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (Attachment("image/png", url="https://a.test/b.png"), "ollama takes no image/png by its URL"),
        (Attachment("application/pdf", "JVBERi0="), "ollama takes no application/pdf attached"),
    ],
)
async def test_an_attachment_that_is_not_taken_is_told_and_not_sent(file: Attachment, words: str) -> None:
    with pytest.raises(ProviderError) as raised:
        await sent(messages=(Message("user", "Look", attachments=(file,)),))
    assert (raised.value.message, raised.value.code) == (words, "model_bad_request")


# Embeddings


async def embedded(status: int, answer: Any, *texts: str) -> list[list[float]]:
    def respond(asked: httpx.Request) -> httpx.Response:
        assert str(asked.url) == "http://ollama.test:11434/api/embed"
        assert msgspec.json.decode(asked.content) == {"model": "qwen3:8b", "input": list(texts)}
        return httpx.Response(status, content=msgspec.json.encode(answer))

    async with client(transport=httpx.MockTransport(respond)) as http:
        return await ollama.embed(texts, request("http://ollama.test:11434/v1"), http)


async def test_embeddings_come_in_order() -> None:
    answer = {"model": "qwen3:8b", "embeddings": [[1, 0.5], [2, 0.25]], "prompt_eval_count": 8}
    assert await embedded(200, answer, "a", "ü") == [[1.0, 0.5], [2.0, 0.25]]


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (200, {"embeddings": [[1]]}, "1 embeddings for 2 texts"),
        (200, {"embeddings": "none"}, "cannot be read"),
        (404, {"error": "model 'qwen3:8b' not found"}, "ollama pull qwen3:8b"),
    ],
)
async def test_embeddings_that_fail_are_told_in_words(status: int, answer: Any, words: str) -> None:
    with pytest.raises(ProviderError, match=words):
        await embedded(status, answer, "a", "b")


# Over a socket, and within an engine

STREAM = head(content_type="application/x-ndjson", transfer_encoding="chunked")
HI = [STREAM, chunk(lines(said(content="Hi"), done())), chunk(b"")]


async def test_a_busy_server_is_asked_again() -> None:
    busy = refused(503, {"error": "server busy"}, retry_after=0)
    async with upstream(busy, HI) as double, client() as http:
        answer = stream_answer(ollama, request(double.url), http, retries=1)
        assert [event async for event in answer] == [text("Hi"), Stop()]
    assert len(double.requests) == 2


async def test_closing_an_answer_closes_the_connection() -> None:
    hanging = [STREAM, *broken(lines(said(content="a")), Act.HANG)[1:]]
    async with upstream(hanging) as double, client() as http:
        answer = stream_answer(ollama, request(double.url), http, retries=3)
        assert await anext(answer) == text("a")
        await answer.aclose()
        with anyio.fail_after(0.1):
            await double.left.wait()


class Double(Ollama):
    """The provider under a name of its own, beside the installed one."""

    type = "ollama_double"


async def test_two_calls_without_ids_are_run_and_their_results_sent_back(tmp_path: Path) -> None:
    both = [called("current_time", {"timezone": zone}) for zone in ("Asia/Tokyo", "Asia/Kolkata")]
    asking = [STREAM, chunk(lines(said(tool_calls=both), done(prompt_eval_count=3, eval_count=4))), chunk(b"")]
    async with upstream(asking, HI) as double, served_engine(providing(Double()), data=tmp_path) as (_, api):
        model = {
            "name": "test",
            "type": "ollama_double",
            "model_name": "qwen3:8b",
            "base_url": double.url,
            "api_key": "ollama",
        }
        agent = {"name": "test", "model": "test", "tools": ["current_time"]}
        schema = {"name": "test", "entry_agent": "test", "chat_enabled": True}
        for path, new in (("models", model), ("agents", agent), ("schemas", schema)):
            assert (await api.post(f"/api/v1/{path}", json=new)).status_code == 201
        events = await chat(api, "test", "What time is it?")
    assert names(events)[-3:] == ["message_delta", "message", "done"]
    first, second = double.requests
    assert first.headers["authorization"] == "Bearer ollama"
    said_calls, *results = second.json["messages"][-3:]
    assert [call["id"] for call in said_calls["tool_calls"]] == [result["tool_call_id"] for result in results]
    assert [result["content"][-6:] for result in results] == ["+09:00", "+05:30"]
