"""Rate limits: rules by key header, API token, subject or address, over a sliding window that survives a restart."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bytebrew import (
    ConfigSection,
    Connection,
    Engine,
    Guard,
    Migration,
    Person,
    PersonalData,
    Register,
    Route,
    Sample,
    Step,
    hookimpl,
)

from .limits import LIMITS, Limits, subject_key
from .routes import routes
from .section import RateLimits
from .shared_limits import SharedLimits
from .store import MIGRATIONS, counts_of, delete_counts, expire


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
    engine.state[LIMITS] = limits = (SharedLimits if engine.db.shared else Limits)(engine)
    register(limits.guard)


@hookimpl
def register_config_sections(register: Register[ConfigSection]) -> None:
    register(RateLimits())


@hookimpl
def register_retention(register: Register[Step], engine: Engine) -> None:
    def expire_counts(conn: Connection) -> Sequence[object]:
        return range(expire(conn, time.time()))

    if engine.db.shared:
        register(expire_counts)


@hookimpl
def collect_metrics(engine: Engine) -> Iterable[Sample]:
    return engine.state[LIMITS].samples()


@hookimpl
async def startup(engine: Engine) -> None:
    await engine.state[LIMITS].load()


@hookimpl
async def shutdown(engine: Engine) -> None:
    await engine.state[LIMITS].close()


@hookimpl
def register_personal_data(register: Register[PersonalData], engine: Engine) -> None:
    def forget(conn: Connection, person: Person) -> int:
        keys = [subject_key(name) for name in person.names]
        engine.state[LIMITS].forget(keys)
        return delete_counts(conn, keys)

    register(PersonalData("rate_limit_counts", _counts, forget))


def _counts(conn: Connection, person: Person) -> Iterator[Mapping[str, Any]]:
    yield from counts_of(conn, [subject_key(name) for name in person.names])
