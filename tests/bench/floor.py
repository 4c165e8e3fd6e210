"""The least that a gateway on this stack can do: pass a vendor's stream through, without authentication or storage."""

import asyncio
import sys

import httpx
import uvloop
from httpx_aiohttp import AiohttpTransport
from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from bytebrew.web.server import server


async def main(vendor: str) -> None:
    """Serves on a free port, which is printed."""
    limits = httpx.Limits(max_connections=4096, max_keepalive_connections=256, keepalive_expiry=30)
    client = httpx.AsyncClient(transport=AiohttpTransport(limits=limits), timeout=60)

    async def relay(request: Request) -> StreamingResponse:
        body = await request.body()
        asked = client.build_request("POST", vendor, content=body, headers={"content-type": "application/json"})
        answer = await client.send(asked, stream=True)
        close = BackgroundTask(answer.aclose)
        return StreamingResponse(answer.aiter_bytes(), media_type="text/event-stream", background=close)

    sock = server.listen("127.0.0.1", 0)
    print(f"ready at http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
    config = Config()
    config.bind = [f"fd://{sock.detach()}"]
    config.accesslog = None
    config.errorlog = None
    config.keep_alive_max_requests = 1_000_000
    config.backlog = 1024
    await serve(Starlette(routes=[Route("/", relay, methods=["POST"])]), config, shutdown_trigger=asyncio.Event().wait)  # type: ignore[arg-type]


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
