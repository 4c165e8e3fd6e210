"""The audit: every tool call, every change over the API and every refused login."""

from typing import TYPE_CHECKING, Any

from bytebrew import Action, Migration, hookimpl

from . import calls, changes

if TYPE_CHECKING:
    from bytebrew import Engine


@hookimpl
def register_migrations(register: Any) -> None:
    register(Migration(1, calls.TABLE + changes.TABLE))


@hookimpl
def register_routes(register: Any, engine: "Engine") -> None:
    register(calls.ROUTE)
    register(changes.Changes(engine).route())


@hookimpl
async def startup(engine: "Engine") -> None:
    await engine.db.write(calls.watch)


@hookimpl
async def actor_acted(action: Action) -> None:
    await changes.of(action.engine).take(action)


@hookimpl
async def shutdown(engine: "Engine") -> None:
    await changes.of(engine).settle()
