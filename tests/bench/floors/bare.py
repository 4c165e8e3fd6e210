"""How bare servers of this stack serve: hypercorn and Starlette, as in tests/bench/floor.py."""

import asyncio
from collections.abc import Sequence

from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.routing import Route

from bytebrew.web.server import server


async def serve_bare(routes: Sequence[Route]) -> None:
    """Serves on a free port, which is printed."""
    sock = server.listen("127.0.0.1", 0)
    print(f"ready at http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
    config = Config()
    config.bind = [f"fd://{sock.detach()}"]
    config.accesslog = None
    config.errorlog = None
    config.keep_alive_max_requests = 1_000_000
    config.backlog = 1024
    await serve(Starlette(routes=routes), config, shutdown_trigger=asyncio.Event().wait)  # type: ignore[arg-type]
