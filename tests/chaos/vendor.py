"""A vendor's API that fails in all the ways that vendors do, by the seed."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

FAULTS = (
    "429",
    "500",
    "503",
    "html",
    "silent",
    "silent within",
    "reset",
    "closed",
    "truncated",
    "malformed",
    "no usage",
    "no reason",
    "error chunk",
    "slow",
    "empty",
    "malformed call",
)


class Vendor:
    """Answers what is asked of it; the same message meets the same faults in the same order."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._times: Counter[str] = Counter()
        self.url = ""
        self.faults: Counter[str] = Counter()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                    length = int(head.partition("content-length:")[2].partition("\r\n")[0].strip() or 0)
                    asked = json.loads(await reader.readexactly(length)) if length else {}
                    if not await self._answer(asked, writer):
                        break
        finally:
            writer.close()

    async def _answer(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        """Sends an answer; False where the connection ends with it."""
        message = next(one["content"] for one in reversed(asked["messages"]) if one["role"] == "user")
        results = sum(one["role"] == "tool" for one in asked["messages"])
        at = f"{asked['model']} {message} {results}"
        self._times[at] += 1
        dice = random.Random(f"{self._seed} {at} {self._times[at]}")
        chance = 0.45 if asked["model"] == "weak" else 0.1
        fault = dice.choice(FAULTS) if dice.random() < chance else "none"
        self.faults[fault] += 1
        if fault in ("429", "500", "503"):
            body = b'{"error": {"message": "not now", "code": "overloaded"}}'
            more = b"retry-after: 1\r\n" if dice.random() < 0.5 else b""
            return await _whole(writer, int(fault), b"application/json", body, more)
        if fault == "html":
            return await _whole(writer, 200, b"text/html", b"<h1>Bad gateway</h1>")
        if fault == "malformed":
            return await _whole(writer, 200, b"application/json", b'{"choices": [')
        if fault == "silent":
            await asyncio.sleep(20)
            return False
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        await _sent(writer, head)
        if fault == "closed":
            return False
        calls = results == 0 and dice.random() < 0.4
        chunks = list(_chunks(dice, fault, calls))
        stop = dice.randrange(len(chunks)) if fault in ("silent within", "reset", "truncated", "error chunk") else -1
        for n, chunk in enumerate(chunks):
            if n == stop:
                if fault == "error chunk":
                    await _piece(writer, b'data: {"error": {"message": "overloaded", "code": 529}}\n\n')
                    await _piece(writer, b"")
                    return True
                if fault == "silent within":
                    await asyncio.sleep(20)
                elif fault == "reset":
                    writer.transport.abort()
                return False
            await _piece(writer, chunk)
            await asyncio.sleep(dice.uniform(0.2, 0.6) if fault == "slow" else dice.uniform(0, 0.02))
        await _piece(writer, b"data: [DONE]\n\n")
        await _piece(writer, b"")
        return True


def _chunks(dice: random.Random, fault: str, calls: bool) -> list[bytes]:
    made: list[dict[str, Any]] = []
    for n in range(0 if fault == "empty" else dice.randint(1, 6)):
        made.append({"choices": [{"delta": {"content": f"word {n} "}}]})
    if calls:
        arguments = '{"n": 1' if fault == "malformed call" else '{"n": 1}'
        call = {"index": 0, "id": "call_v", "function": {"name": "look", "arguments": arguments}}
        made.append({"choices": [{"delta": {"tool_calls": [call]}}]})
    if fault != "no reason":
        made.append({"choices": [{"delta": {}, "finish_reason": "tool_calls" if calls else "stop"}]})
    if fault != "no usage":
        made.append({"choices": [], "usage": {"prompt_tokens": dice.randint(1, 90), "completion_tokens": 7}})
    return [b"data: " + json.dumps(one).encode() + b"\n\n" for one in made]


async def _whole(writer: asyncio.StreamWriter, status: int, kind: bytes, body: bytes, more: bytes = b"") -> bool:
    head = b"HTTP/1.1 %d Scripted\r\ncontent-type: %s\r\ncontent-length: %d\r\n%s\r\n" % (status, kind, len(body), more)
    await _sent(writer, head + body)
    return True


async def _piece(writer: asyncio.StreamWriter, content: bytes) -> None:
    await _sent(writer, b"%x\r\n%s\r\n" % (len(content), content))


async def _sent(writer: asyncio.StreamWriter, content: bytes) -> None:
    if writer.is_closing():
        raise ConnectionResetError
    writer.write(content)
    await writer.drain()


@asynccontextmanager
async def vendor(seed: int) -> AsyncIterator[Vendor]:
    """A running one on a free port."""
    double = Vendor(seed)
    playing: set[asyncio.Task[None]] = set()

    def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        playing.add(task := asyncio.get_running_loop().create_task(double.connect(reader, writer)))
        task.add_done_callback(playing.discard)

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    double.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield double
    finally:
        server.close()
        for task in list(playing):
            task.cancel()
        await asyncio.gather(*playing, return_exceptions=True)
