"""The least that a gateway can do with a tool: calls vendor and tool, and passes the vendor's next stream through."""

import sys

import httpx
import msgspec
import uvloop
from httpx_aiohttp import AiohttpTransport
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from tests.bench.floors.bare import serve_bare


def called(answer: bytes) -> dict[str, str]:
    """The one call in a streamed answer: its `id`, and its function's `name` and `arguments`."""
    for line in answer.splitlines():
        if b'"tool_calls":[' in line:
            call = msgspec.json.decode(line.removeprefix(b"data: "))["choices"][0]["delta"]["tool_calls"][0]
            return {"id": call["id"], **call["function"]}
    raise ValueError("the vendor calls no tool")


async def main(vendor: str, tool: str) -> None:
    """Serves."""
    limits = httpx.Limits(max_connections=4096, max_keepalive_connections=256, keepalive_expiry=30)
    client = httpx.AsyncClient(transport=AiohttpTransport(limits=limits), timeout=60)
    head = {"content-type": "application/json"}

    async def relay(request: Request) -> StreamingResponse:
        body = await request.body()
        first = await client.post(vendor, content=body, headers=head)
        call = called(first.content)
        result = await client.get(tool + msgspec.json.decode(call["arguments"])["sku"])
        function = {"name": call["name"], "arguments": call["arguments"]}
        asked = msgspec.json.decode(body)
        asked["messages"] += [
            {"role": "assistant", "tool_calls": [{"id": call["id"], "type": "function", "function": function}]},
            {"role": "tool", "tool_call_id": call["id"], "content": result.text},
        ]
        again = client.build_request("POST", vendor, content=msgspec.json.encode(asked), headers=head)
        answer = await client.send(again, stream=True)
        close = BackgroundTask(answer.aclose)
        return StreamingResponse(answer.aiter_bytes(), media_type="text/event-stream", background=close)

    await serve_bare([Route("/", relay, methods=["POST"])])


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
