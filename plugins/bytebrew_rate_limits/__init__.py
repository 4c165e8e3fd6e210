"""Rate limits: rules by key header, API token, subject or address, over a sliding window that survives a restart."""

from collections.abc import Iterable

from bytebrew import ConfigSection, Engine, Guard, Migration, Register, Route, Sample, hookimpl

from .limits import LIMITS, Limits
from .routes import routes
from .section import RateLimits
from .store import MIGRATIONS


@hookimpl
def register_migrations(register: Register[Migration]) -> None:
    for migration in MIGRATIONS:
        register(migration)


@hookimpl
def register_routes(register: Register[Route], engine: Engine) -> None:
    for route in routes(engine.state[LIMITS]):
        register(route)


@hookimpl(trylast=True)  # requests that other guards reject are not counted
def register_guards(register: Register[Guard], engine: Engine) -> None:
    engine.state[LIMITS] = limits = Limits(engine)
    register(limits.guard)


@hookimpl
def register_config_sections(register: Register[ConfigSection]) -> None:
    register(RateLimits())


@hookimpl
def collect_metrics(engine: Engine) -> Iterable[Sample]:
    return engine.state[LIMITS].samples()


@hookimpl
async def startup(engine: Engine) -> None:
    await engine.state[LIMITS].load()


@hookimpl
async def shutdown(engine: Engine) -> None:
    await engine.state[LIMITS].close()
