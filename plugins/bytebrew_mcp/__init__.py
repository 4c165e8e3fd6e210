"""Tools from MCP servers: a client for all five versions of the protocol, its routes and a catalog of servers."""

from collections.abc import Iterable

from msgspec import Struct

from bytebrew import (
    AgentList,
    ConfigSection,
    Engine,
    Migration,
    PersonalData,
    Register,
    Route,
    Sample,
    Scope,
    Toolset,
    hookimpl,
)

from . import catalog, routes, sightings, store
from .config import Mcp
from .oauth import routes as oauth_routes
from .oauth import store as oauth_store
from .oauth.credentials import AUTHORIZATIONS, Authorizations
from .oauth.settings import OAuth
from .resources import routes as resource_routes
from .section import ServersSection
from .toolset import LIST, SERVERS, Servers

__all__ = ["Servers"]


@hookimpl
def register_settings(register: Register[type[Struct]]) -> None:
    register(Mcp)
    register(OAuth)


@hookimpl
def register_scopes(register: Register[Scope]) -> None:
    register(
        Scope(
            name="mcp:read",
            bit=256,
            aliases=("mcp", "api"),
            description="Read MCP servers, their tools and the MCP catalog",
        )
    )
    register(
        Scope(name="mcp:write", bit=512, description="Create, change and delete MCP servers, and approve their tools")
    )


@hookimpl
def register_agent_lists(register: Register[AgentList]) -> None:
    register(AgentList(name=LIST))


@hookimpl
def register_migrations(register: Register[Migration]) -> None:
    for migration in (*store.MIGRATIONS, sightings.MIGRATION, oauth_store.MIGRATION, store.REQUESTS):
        register(migration)


@hookimpl
def register_personal_data(register: Register[PersonalData]) -> None:
    register(sightings.DECISIONS)
    register(oauth_store.PERSONAL)


@hookimpl
def register_toolsets(register: Register[Toolset], engine: Engine) -> None:
    engine.state[AUTHORIZATIONS] = Authorizations(engine)
    engine.state[SERVERS] = servers = Servers(engine)
    register(servers)


@hookimpl
def register_config_sections(register: Register[ConfigSection]) -> None:
    register(ServersSection())


@hookimpl
def register_routes(register: Register[Route]) -> None:
    for route in (*routes.ROUTES, *resource_routes.ROUTES, *oauth_routes.ROUTES, catalog.ROUTE):
        register(route)


@hookimpl
async def startup(engine: Engine) -> None:
    await engine.db.write(store.seal_arguments, engine)
    await engine.state[SERVERS].reload()


@hookimpl
async def shutdown(engine: Engine) -> None:
    await engine.state[SERVERS].close()
    await engine.state[AUTHORIZATIONS].close()


@hookimpl
def collect_metrics(engine: Engine) -> Iterable[Sample]:
    for name, connection in sorted(engine.state[SERVERS].connections.items()):
        labels = {"server": name, "status": connection.status.status}
        yield Sample(
            "bytebrew_mcp_server_tools", connection.status.tools_count, labels, help="Tools of each MCP server."
        )
