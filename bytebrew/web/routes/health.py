"""Health."""

import shutil
import time
from contextlib import suppress
from functools import partial

from msgspec import UNSET, Struct, UnsetType

from bytebrew.base.errors import StorageError
from bytebrew.base.formats import uptime
from bytebrew.base.rolling_timeout import within
from bytebrew.contract.connection import Connection
from bytebrew.contract.route import Parameter, Reply, Request, Route
from bytebrew.engine import Engine
from bytebrew.store.configuration import agents, changed_options
from bytebrew.version import __version__
from bytebrew.web.access import check_scope
from bytebrew.web.http_state import http_state

SECONDS = 3.0
"""Time limit of the database; probes give up soon after."""
_PROBE = "health.probe"


class Health(Struct, frozen=True, kw_only=True):
    """Whether the engine serves: `ok`, or under 503 `draining` or `degraded`, where `database` says what it lacks.

    `overloaded` is a 200: what runs goes on, and `overload` says why no more begins for the moment. `started_at` is
    another if the engine was started again meanwhile.

    `database` and `disk_free_bytes` are there too if the request says `deep=true`, which takes the scope `config`.
    """

    status: str
    version: str
    agents_count: int
    uptime: str
    started_at: str
    overload: str | UnsetType = UNSET
    database: str | UnsetType = UNSET
    disk_free_bytes: int | UnsetType = UNSET


async def health(engine: Engine, request: Request[None]) -> Reply:
    """The engine's state, cheap enough for a probe, to anyone.

    With `deep=true`, and a token with the scope `config`, the database is written to, to see that it can be.
    """
    deep = False
    if request.query.get("deep", "").lower() in ("true", "1", "yes"):
        with suppress(StorageError, TimeoutError), within(SECONDS):  # the database's fault, which is in the answer
            request.actor = await http_state(engine).access.authenticate(request)
            check_scope(request.actor, "config", engine.scopes)
            deep = True
    count, fault = await database_of(engine, deep=deep)
    overload = http_state(engine).admission.overload()
    answer = Health(
        status=state_of(engine, fault),
        version=__version__,
        agents_count=count,
        uptime=uptime(time.monotonic() - engine.started),
        started_at=engine.started_at,
        overload=overload or UNSET,
        database=fault or ("ok" if deep else UNSET),
        disk_free_bytes=shutil.disk_usage(engine.data_dir).free if deep else UNSET,
    )
    return Reply(body=answer, status=503 if engine.runner.draining or fault else 200)


async def database_of(engine: Engine, *, deep: bool) -> tuple[int, str]:
    """The number of agents, and the database's fault, "" if none; `deep` writes to it."""
    count, fault = 0, ""
    try:
        with within(SECONDS):
            count = await engine.db.glance(agents.count)
            if deep or engine.db.fault is not None:
                await engine.db.write(_probe)
    except StorageError as error:
        fault = error.message
    except TimeoutError:
        fault = f"The database has not answered for {SECONDS:g} s"
    if engine.db.fault is not None:
        fault = engine.db.fault.message
    for name, seconds in engine.db.stalled(SECONDS).items():
        fault = fault or f"The database's {name} has been at one piece of work for {seconds:.0f} s"
    return count, fault


def state_of(engine: Engine, fault: str) -> str:
    """The status of the engine; `fault` is that of its database."""
    overload = http_state(engine).admission.overload()
    return "draining" if engine.runner.draining else "degraded" if fault else "overloaded" if overload else "ok"


def _probe(conn: Connection) -> None:
    """Writes a few pages, and deletes them."""
    changed_options.put(conn, _PROBE, "x" * 16384)
    changed_options.reset(conn, _PROBE)


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    return (
        Route(
            "GET",
            "/api/v1/health",
            None,
            partial(health, engine),
            "Engine status",
            query={"deep": Parameter("true to try the database and the disk, with the scope config", bool | str)},
            answer=Health,
            also={401: None, 403: None, 503: Health},
        ),
    )
