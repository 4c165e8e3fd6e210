"""A vendor's API that means harm: a raw HTTP server whose answers do not end, or unpack into far more than was sent.

`python -m tests.hostile_vendor` serves it on a free port and prints that.
"""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count, repeat
from typing import Any

EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
PACKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n\r\n"
LINES = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n"
KILOBYTE = "x" * 1024
LONG = KILOBYTE * 30
ENDS = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}


def event(value: Any) -> bytes:
    return b"data: %b\n\n" % (value.encode() if isinstance(value, str) else json.dumps(value).encode())


def line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def openai(**delta: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": delta}]})


def pieces(size: int) -> bytes:
    """One event of so many bytes, full of the beginnings of tool calls."""
    each = [{"id": f"c{n}", "function": {"name": "f"}} for n in range(size // 38)]
    return openai(tool_calls=each)


def bomb(unpacked: bytes, times: int) -> Iterator[bytes]:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    for _ in range(times):
        yield packer.compress(unpacked)
    yield packer.flush()


def anthropic(*values: dict[str, Any]) -> bytes:
    return b"".join(event(value) for value in values)


def block(n: int, kind: str) -> bytes:
    start = {"type": kind, "id": f"c{n}", "name": "f"} if kind == "tool_use" else {"type": kind, "text": ""}
    return anthropic({"type": "content_block_start", "index": n, "content_block": start})


def anthropic_blocks(starts: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """A whole answer of these blocks and a text."""
    for n, start in enumerate((*starts, {"type": "text", "text": "hi"})):
        yield anthropic({"type": "content_block_start", "index": n, "content_block": start})
    yield anthropic({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"})


def google(*parts: dict[str, Any]) -> bytes:
    return event({"candidates": [{"content": {"parts": parts}}]})


def ollama(**message: Any) -> bytes:
    return line({"message": message})


def attack(name: str) -> Iterator[bytes]:
    """What is sent to a request whose path begins with the attack's name, its head first."""
    match name:
        case "text":
            yield from (EVENTS, *repeat(openai(content=KILOBYTE), 64))
            yield from repeat(openai(content=KILOBYTE))
        case "thoughts":
            yield EVENTS
            yield from repeat(openai(reasoning_content=KILOBYTE))
        case "letters":
            yield EVENTS
            yield from repeat(openai(content="x") * 50)
        case "pieces":
            yield from (EVENTS, pieces(245_000))
        case "calls":
            yield EVENTS
            yield from (openai(tool_calls=[{"index": n, "id": f"c{n}", "function": {"name": "f"}}]) for n in count())
        case "arguments":
            yield EVENTS
            yield openai(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":"'}}])
            yield from repeat(openai(tool_calls=[{"index": 0, "function": {"arguments": "xxx"}}] * 50))
        case "names":
            yield EVENTS
            yield from repeat(openai(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": '{"a":"}'}}] * 50))
        case "nothing":
            yield EVENTS
            yield from repeat(openai(tool_calls=[{}] * 5000))
        case "ids":
            yield EVENTS
            yield from (
                openai(tool_calls=[{"index": n, "id": f"{n}{LONG}", "function": {"name": "f"}}]) for n in range(10)
            )
            yield from (event(ENDS), event("[DONE]"))
        case "long names":
            yield EVENTS
            yield from (openai(tool_calls=[{"index": n, "function": {"name": f"{n}{LONG}"}}]) for n in range(10))
            yield from (event(ENDS), event("[DONE]"))
        case "details":
            yield EVENTS
            yield from repeat(openai(reasoning_details=[{"type": "reasoning.text", "index": 0, "text": "xx"}] * 50))
        case "event":
            yield from (EVENTS, b"data: ")
            yield from repeat(KILOBYTE.encode())
        case "comments":
            yield EVENTS
            yield from repeat(b": ping\n\n" * 100)
        case "empty":
            yield EVENTS
            yield from repeat(event({"choices": []}) * 100)
        case "bomb":
            yield PACKED
            yield from bomb(b"data: " + b"x" * 1024 * 1024, 1000)
        case "packed events":
            yield PACKED
            yield from bomb(openai(content="x") * 10_000, 1000)
        case "header":
            yield b"HTTP/1.1 200 OK\r\nx: "
            yield from repeat(KILOBYTE.encode())
        case "headers":
            yield b"HTTP/1.1 200 OK\r\n"
            yield from (b"x-%d: x\r\n" % n for n in count())
        case "refusal":
            yield b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n\r\n"
            yield from repeat(KILOBYTE.encode())
        case "vectors":
            yield b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"data": [{"embedding": [0'
            yield from repeat(b",0" * 512)
        case "anthropic text":
            yield from (EVENTS, block(0, "text"))
            piece = {"type": "content_block_delta", "index": 0, "delta": {"text": KILOBYTE}}
            yield from repeat(anthropic(piece))
        case "anthropic blocks":
            yield EVENTS
            yield from (block(n, "text") for n in count())
        case "anthropic calls":
            yield EVENTS
            yield from (block(n, "tool_use") for n in count())
        case "anthropic arguments":
            yield from (EVENTS, block(0, "tool_use"))
            yield from repeat(anthropic({"type": "content_block_delta", "index": 0, "delta": {"partial_json": "xxx"}}))
        case "anthropic inputs":
            yield EVENTS
            starts = ({"type": "tool_use", "id": f"c{n}", "name": "f", "input": {"a": LONG}} for n in range(10))
            yield from anthropic_blocks(starts)
        case "anthropic signatures":
            yield EVENTS
            yield from anthropic_blocks({"type": "thinking", "thinking": "x", "signature": LONG} for _ in range(10))
        case "anthropic data":
            yield EVENTS
            yield from anthropic_blocks({"type": "redacted_thinking", "data": LONG} for _ in range(10))
        case "google text":
            yield EVENTS
            yield from repeat(google({"text": KILOBYTE}))
        case "google signatures":
            yield EVENTS
            yield from repeat(google({"thoughtSignature": KILOBYTE}))
        case "google calls":
            yield EVENTS
            yield from repeat(google({"functionCall": {"name": "f", "args": {}}}))
        case "google arguments":
            yield EVENTS
            yield from repeat(google({"functionCall": {"name": "f", "args": {"a": KILOBYTE}}}))
        case "ollama text":
            yield LINES
            yield from repeat(ollama(content=KILOBYTE))
        case "ollama line":
            yield from (LINES, b'{"message": "')
            yield from repeat(b"x" * 100)
        case "ollama calls":
            yield LINES
            yield from repeat(ollama(tool_calls=[{"function": {"name": "f", "arguments": {}}}]))
        case "ollama arguments":
            yield LINES
            yield from repeat(ollama(tool_calls=[{"function": {"name": "f", "arguments": {"a": KILOBYTE}}}]))
        case _:
            raise ValueError(name)


class Hostile:
    """The server: `sent` counts the bytes of all answers, `requests` the questions."""

    def __init__(self) -> None:
        self.url = ""
        self.sent = self.requests = 0

    def base_url(self, name: str) -> str:
        """The base URL of a model that is attacked so."""
        return f"{self.url}/{name.replace(' ', '_')}"

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request until its client has gone."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            await reader.readexactly(length)
            self.requests += 1
            for piece in attack(head.split()[1].split(b"/")[1].decode().replace("_", " ")):
                writer.write(piece)
                self.sent += len(piece)
                await writer.drain()
                if not self.sent % 64:
                    await asyncio.sleep(0)
            await reader.read()
        writer.close()


@asynccontextmanager
async def hostile_vendor() -> AsyncIterator[Hostile]:
    """The server on a free port."""
    vendor = Hostile()
    async with await asyncio.start_server(vendor.connect, "127.0.0.1", 0) as server:
        vendor.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield vendor


async def _serve() -> None:
    async with hostile_vendor() as vendor:
        print(vendor.url, flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(_serve())
