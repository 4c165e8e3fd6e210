"""Knowledge bases: files that are read, cut, indexed and searched, by agents that are linked and by people."""

from typing import TYPE_CHECKING, Any

from bytebrew import hookimpl

from .knowledge import Knowledge, Limits, of
from .routes import ROUTES
from .section import KnowledgeSection
from .tables import MIGRATIONS

if TYPE_CHECKING:
    from bytebrew import Engine


@hookimpl
def register_settings(register: Any) -> None:
    register(Limits)


@hookimpl
def register_migrations(register: Any) -> None:
    for migration in MIGRATIONS:
        register(migration)


@hookimpl
def register_toolsets(register: Any, engine: "Engine") -> None:
    register(Knowledge(engine))


@hookimpl
def register_config_sections(register: Any) -> None:
    register(KnowledgeSection())


@hookimpl
def register_routes(register: Any) -> None:
    for route in ROUTES:
        register(route)


@hookimpl
async def startup(engine: "Engine") -> None:
    await of(engine).start()


@hookimpl
async def shutdown(engine: "Engine") -> None:
    await of(engine).stop()
