"""The world outside of a cluster: a model that plays scripts, tools that count, and a receiver of callbacks."""

import asyncio
import json
import time
from typing import Any

from tests.cluster.balancer import Listener
from tests.cluster.history import History, Run
from tests.cluster.wire import Head, read_head

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = "end "
"""What the model says behind the last step of a script."""


class Outside:
    """An API of a vendor at /v1, tools at /tools and a receiver at /callback, on one port."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._listener = Listener(self._serve)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._listener.port}"

    async def start(self) -> None:
        """Begins to listen."""
        await self._listener.start()

    async def stop(self) -> None:
        """Ends all connections."""
        await self._listener.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, _ = await read_head(reader)
            body = await reader.readexactly(int(head.fields.get("content-length", "0")))
            path = head.first.split(" ")[1]
            if path.startswith("/v1"):
                await self._complete(json.loads(body), writer)
            elif path.startswith("/tools/"):
                await self._run(path, head, body, writer)
            else:
                self._history.delivered[head.fields["webhook-id"]].append((time.monotonic(), body))
                await _whole(writer, {})

    async def _run(self, path: str, head: Head, body: bytes, writer: asyncio.StreamWriter) -> None:
        """Counts a call before it is answered: a caller that is killed meanwhile has called."""
        tool = path.removeprefix("/tools/").partition("?")[0]
        query = dict(pair.split("=") for pair in path.partition("?")[2].split("&") if pair)
        input = query or json.loads(body)
        self._history.runs.append(Run(tool, head.fields["idempotency-key"], input["mark"], time.monotonic()))
        await asyncio.sleep(float(input["seconds"]))
        await _whole(writer, {"ran": input["mark"]})

    async def _complete(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        """Plays the step of the last script that comes after those that were answered."""
        messages = request["messages"]
        told = max(n for n, one in enumerate(messages) if one["role"] == "user" and "[[" in _text(one))
        script = _text(messages[told])
        steps = json.loads(script[script.index("[[") :])
        done = sum(one["role"] == "assistant" for one in messages[told:])
        writer.write(STREAM)
        calls = 0
        for n, item in enumerate(steps[done] if done < len(steps) else [END]):
            if isinstance(item, float):
                await writer.drain()
                await asyncio.sleep(item)
            elif isinstance(item, list):
                function = {"name": item[0], "arguments": json.dumps(item[1])}
                call = {"index": calls, "id": f"call_{done}_{n}", "type": "function", "function": function}
                calls += 1
                _event(writer, {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
            else:
                _event(writer, {"choices": [{"index": 0, "delta": {"content": item}}]})
        _event(writer, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"}]})
        _event(writer, {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}})
        _piece(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _event(writer: asyncio.StreamWriter, chunk: dict[str, Any]) -> None:
    _piece(writer, b"data: " + json.dumps(chunk).encode() + b"\n\n")


def _piece(writer: asyncio.StreamWriter, data: bytes) -> None:
    if writer.is_closing():
        raise ConnectionResetError
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


async def _whole(writer: asyncio.StreamWriter, value: Any) -> None:
    body = json.dumps(value).encode()
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
