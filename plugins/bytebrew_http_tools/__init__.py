"""HTTP tools: an operator defines a request, a model fills in its parameters."""

from collections.abc import Sequence

from bytebrew import (
    Agent,
    ConfigSection,
    Connection,
    Engine,
    Migration,
    Register,
    Route,
    Tool,
    Toolset,
    environment,
    hookimpl,
)

from . import store
from .routes import ROUTES
from .section import ToolsSection
from .tool import DeclaredTool


class HttpTools(Toolset):
    """The HTTP tools in the database, except those with reserved names, which an older engine may have stored."""

    lists = ("tools",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def all(self) -> Sequence[Tool]:
        return self._declared(await self._engine.db.read(store.list_all))

    async def tools(self, agent: Agent) -> Sequence[Tool]:
        wanted = [name for name in agent.tools if not self._engine.reserves(name)]
        return self._declared(await self._engine.db.glance(store.named, wanted)) if wanted else ()

    def knows(self, conn: Connection, agent: Agent, gate: str) -> bool:
        name = gate.removeprefix(f"{DeclaredTool.source}/")
        return name in agent.tools and self.has(conn, name)

    def has(self, conn: Connection, name: str) -> bool:
        return bool(store.named(conn, [name]))

    def _declared(self, stored: Sequence[store.Stored]) -> Sequence[Tool]:
        variables = environment()  # takes longer than a tool does
        return [DeclaredTool(one, self._engine.http, self._engine.secrets.open, variables) for one in stored]


@hookimpl
def register_migrations(register: Register[Migration]) -> None:
    for migration in store.MIGRATIONS:
        register(migration)


@hookimpl
def register_toolsets(register: Register[Toolset], engine: Engine) -> None:
    register(HttpTools(engine))


@hookimpl
def register_config_sections(register: Register[ConfigSection]) -> None:
    register(ToolsSection())


@hookimpl
def register_routes(register: Register[Route]) -> None:
    for route in ROUTES:
        register(route)
