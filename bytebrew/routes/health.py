"""Health."""

import importlib.metadata
import time

from msgspec import Struct

from bytebrew.api import Reply, Request, Route
from bytebrew.notation import uptime
from bytebrew.store import agents


class Health(Struct, frozen=True, kw_only=True):
    """Whether the engine serves: `ok`, or `draining` under 503."""

    status: str
    version: str
    agents_count: int
    uptime: str


async def health(request: Request[None]) -> Reply:
    """The engine's state; cheap enough for a probe."""
    engine = request.engine
    draining = engine.runner.draining
    answer = Health(
        status="draining" if draining else "ok",
        version=importlib.metadata.version("bytebrew"),
        agents_count=await engine.db.read(agents.count),
        uptime=uptime(time.monotonic() - engine.started),
    )
    return Reply(body=answer, status=503 if draining else 200)


ROUTES: tuple[Route, ...] = (
    Route(method="GET", path="/api/v1/health", scope=None, run=health, summary="Engine status", answer=Health),
)
