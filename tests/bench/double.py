"""A double of a vendor that speaks the OpenAI chat completions wire, fast enough never to be what is measured.

The model `paced` waits 20 ms before each delta, any other gives its whole answer at once: `tool` calls a tool first,
whose result the double serves too, and `words-500` says 500 words of four characters that no two answers share. Of
`vectors-384` texts get vectors of 384 dimensions by chance.
"""

import asyncio
import random
import re
from typing import cast

import msgspec
import uvloop

DELTAS = 50
GAP = 0.02
TOOL = "get_stock"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(*choices: dict[str, object], **rest: object) -> bytes:
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "double", "choices": choices}
    return _chunk(b"data: %s\n\n" % msgspec.json.encode(body | rest))


FIRST = _event({"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None})
PIECES = [
    _event({"index": 0, "delta": {"content": f" word{n:02}"}, "finish_reason": None}) for n in range(1, DELTAS + 1)
]


def _last(reason: str) -> bytes:
    return (
        _event({"index": 0, "delta": {}, "finish_reason": reason})
        + _event(usage={"prompt_tokens": 20, "completion_tokens": DELTAS, "total_tokens": 20 + DELTAS})
        + _chunk(b"data: [DONE]\n\n")
        + b"0\r\n\r\n"
    )


LAST = _last("stop")
WHOLE = HEAD + FIRST + b"".join(PIECES) + LAST
_CALL = {"id": "call_1", "type": "function", "function": {"name": TOOL, "arguments": '{"sku":"a7"}'}}
CALL = (
    HEAD
    + FIRST
    + _event({"index": 0, "delta": {"tool_calls": [{"index": 0, **_CALL}]}, "finish_reason": None})
    + _last("tool_calls")
)
_DICE = random.Random(1)
_WORDS = [" " + "".join(_DICE.choices("aeioudlmnrst", k=3)) for _ in range(1000)]
_FREQUENCY = [1 / rank for rank in range(1, len(_WORDS) + 1)]
_VALUES = [round(_DICE.gauss(0, 1), 4) for _ in range(200_000)]
"""Of which every vector is a part: to draw each value would take longer than the engine does."""


def _json(body: object) -> bytes:
    raw = msgspec.json.encode(body)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(raw), raw)


STOCK = _json({"sku": "a7", "stock": 12})


def _words(count: int) -> bytes:
    """An answer of so many words of four characters, as frequent as in a language (Zipf 1949)."""
    said = _DICE.choices(_WORDS, _FREQUENCY, k=count)
    deltas = [_event({"index": 0, "delta": {"content": word}, "finish_reason": None}) for word in said]
    return HEAD + FIRST + b"".join(deltas) + LAST


def _vectors(body: bytes, dimensions: int) -> bytes:
    starts = [_DICE.randrange(len(_VALUES) - dimensions) for _ in msgspec.json.decode(body)["input"]]
    data = [{"index": n, "embedding": _VALUES[start : start + dimensions]} for n, start in enumerate(starts)]
    return _json({"object": "list", "model": "double", "data": data})


class Vendor(asyncio.Protocol):
    """A keep-alive connection; its client sends one request at a time, with a Content-Length."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0):
            return
        self._received = b""
        if head.startswith(b"GET "):
            self._transport.write(STOCK)
        elif vectors := re.search(rb'"vectors-(\d+)"', body):
            self._transport.write(_vectors(body, int(vectors[1])))
        elif b'"tool"' in body and b'"tool_call_id"' not in body:
            self._transport.write(CALL)
        elif words := re.search(rb'"words-(\d+)"', body):
            self._transport.write(_words(int(words[1])))
        elif b'"paced"' in body:
            self._transport.write(HEAD + FIRST)
            self._started = self._loop.time()
            self._loop.call_at(self._started + GAP, self._pace, 0)
        else:
            self._transport.write(WHOLE)

    def _pace(self, n: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(PIECES[n] if n < DELTAS - 1 else PIECES[n] + LAST)
        if n < DELTAS - 1:
            self._loop.call_at(self._started + (n + 2) * GAP, self._pace, n + 1)


async def main() -> None:
    """Serves on a free port, which is printed."""
    server = await asyncio.get_running_loop().create_server(Vendor, "127.0.0.1", 0, backlog=1024)
    print(f"ready at http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
