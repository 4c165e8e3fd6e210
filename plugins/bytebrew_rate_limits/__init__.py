"""Rate limits: rules by key header, API token, subject or address, over a sliding window that survives a restart."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bytebrew import ConfigSection, Migration, Register, Route, Sample, hookimpl

from .limits import Limits
from .routes import of, routes
from .section import RateLimits
from .store import MIGRATIONS

if TYPE_CHECKING:
    from bytebrew import Engine


@hookimpl
def register_migrations(register: Register[Migration]) -> None:
    for migration in MIGRATIONS:
        register(migration)


@hookimpl
def register_routes(register: Register[Route], engine: "Engine") -> None:
    for route in routes(Limits(engine)):
        register(route)


@hookimpl
def register_config_sections(register: Register[ConfigSection]) -> None:
    register(RateLimits())


@hookimpl
def collect_metrics(engine: "Engine") -> Iterable[Sample]:
    return of(engine).samples()


@hookimpl
async def startup(engine: "Engine") -> None:
    await of(engine).load()


@hookimpl
async def shutdown(engine: "Engine") -> None:
    await of(engine).close()
