"""Knowledge bases: files that are read, cut, indexed and searched, by agents that are linked and by people."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Struct

from bytebrew import ConfigSection, Migration, Register, Route, Sample, Toolset, hookimpl

from .knowledge import Knowledge, Limits, of
from .routes import ROUTES
from .section import KnowledgeSection
from .tables import MIGRATIONS

if TYPE_CHECKING:
    from bytebrew import Engine


@hookimpl
def register_settings(register: Register[type[Struct]]) -> None:
    register(Limits)


@hookimpl
def register_migrations(register: Register[Migration]) -> None:
    for migration in MIGRATIONS:
        register(migration)


@hookimpl
def register_toolsets(register: Register[Toolset], engine: "Engine") -> None:
    register(Knowledge(engine))


@hookimpl
def register_config_sections(register: Register[ConfigSection]) -> None:
    register(KnowledgeSection())


@hookimpl
def register_routes(register: Register[Route]) -> None:
    for route in ROUTES:
        register(route)


@hookimpl
async def startup(engine: "Engine") -> None:
    await of(engine).start()


@hookimpl
async def shutdown(engine: "Engine") -> None:
    await of(engine).stop()


@hookimpl
def collect_metrics(engine: "Engine") -> Iterable[Sample]:
    return of(engine).samples()
