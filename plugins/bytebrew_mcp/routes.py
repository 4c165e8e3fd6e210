"""MCP servers over REST."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from msgspec.structs import replace

from bytebrew import Connection, Detail, Forbidden, InvalidRequest, Request, Route, escaped

from . import store
from .config import ALIASES, Decision, Mcp, NewServer, Server, ServerPatch, ServerRow
from .pins import Pin
from .server_views import show, show_all
from .toolset import SERVERS

SETTLE_SECONDS = 1.0
"""How long a write waits for the changed server to connect, so that its answer has the new status."""

T = TypeVar("T", NewServer, ServerPatch)


async def list_servers(request: Request[None]) -> list[Server]:
    """Every MCP server by name."""
    connections = request.engine.state[SERVERS].connections
    return await request.engine.db.scan(lambda conn: show_all(conn, connections, store.list_all(conn)))


async def get_server(request: Request[None]) -> Server:
    """One MCP server."""
    return await _read(request, request.path["name"])


async def create_server(request: Request[NewServer]) -> Server:
    """A new MCP server, which is connected to at once."""
    return await _written(request, store.create, _with_literal_args(request.body))


async def update_server(request: Request[ServerPatch]) -> Server:
    """The server with the fields that were sent, connected to anew where that matters."""
    return await _written(request, store.update, request.path["name"], _with_literal_args(request.body))


async def delete_server(request: Request[None]) -> None:
    """Removes a server that no agent names."""
    await request.write(store.delete, request.path["name"])
    await request.engine.state[SERVERS].reload()


async def approve_tool(request: Request[Decision]) -> Server:
    """Lets agents have a tool as it is defined now, though it is new or has changed since it was first seen.

    A `digest` says which definition the caller has seen: 409 where the server has changed the tool again.
    """
    return await _decided(request, request.engine.state[SERVERS].approve)


async def withhold_tool(request: Request[Decision]) -> Server:
    """Keeps a new or changed tool from agents as it is defined now: it was looked at, and waits for nobody.

    A `digest` says which definition the caller has seen: 409 where the server has changed the tool again, or where
    agents have it, which `deny_tools` changes. The next change of the tool waits for a person again.
    """
    return await _decided(request, request.engine.state[SERVERS].withhold)


async def reconnect_server(request: Request[None]) -> Server:
    """Connects to a server anew; calls that run there finish on the old connection."""
    servers = request.engine.state[SERVERS]
    row = await request.engine.db.read(store.get, request.path["name"])
    await servers.reconnect(row)
    await servers.connections[row.name].settle(SETTLE_SECONDS)
    return await _read(request, row.name)


async def _decided(request: Request[Decision], decide: Callable[..., Awaitable[None]]) -> Server:
    """Stores what a person has decided about a tool, and shows its server."""
    servers = request.engine.state[SERVERS]
    row = await request.engine.db.read(store.get, request.path["name"])

    def record(conn: Connection, pinned: Mapping[str, Pin]) -> None:
        request.record(conn, show(conn, servers.connections, row.name, pinned))

    await decide(row, request.path["tool"], request.body.digest, request.actor.subject, record)
    return await _read(request, row.name)


async def _read(request: Request[Any], name: str) -> Server:
    return await request.engine.db.read(show, request.engine.state[SERVERS].connections, name)


async def _written(request: Request[Any], write: Callable[..., ServerRow], *args: Any) -> Server:
    """Stores a server, lets the engine connect to it, and shows it."""
    _check_no_variables(request.body)
    servers = request.engine.state[SERVERS]

    def work(conn: Connection) -> Server:
        return show(conn, servers.connections, _allowed(conn, request, write, *args).name)

    name = (await request.write(work)).name
    await servers.reload()
    if (connection := servers.connections.get(name)) is not None and connection.status.status == "connecting":
        await connection.settle(SETTLE_SECONDS)
    return await _read(request, name)


def _check_no_variables(body: NewServer | ServerPatch) -> None:
    """Raises InvalidRequest for a `${VAR}`: its value would be sent to a server of the caller's choice."""
    fields = {"$.auth_key": body.auth_key}
    for name, values in (("env", body.env), ("headers", body.headers)):
        fields |= {f"$.{name}.{key[:100]}": value for key, value in (values or {}).items()}
    if paths := [path for path, value in fields.items() if value and "${" in value]:
        message = "write the value itself: ${VAR} is read in configuration files alone"
        raise InvalidRequest("A credential over REST is no variable", details=[Detail(path, message) for path in paths])


def _with_literal_args(body: T) -> T:
    """The body with `${` escaped in its arguments."""
    return replace(body, args=tuple(map(escaped, body.args))) if body.args else body


def _allowed(conn: Connection, request: Request[Any], write: Callable[..., ServerRow], *args: Any) -> ServerRow:
    """Writes a server; Forbidden if it is or becomes a stdio server that the caller may not set up."""
    engine = request.engine
    before = store.get(conn, args[0]) if isinstance(args[0], str) else None
    after = write(conn, *args, engine)
    if after.type != "stdio" and (before is None or before.type != "stdio"):
        return after
    policy = engine.settings.of(Mcp).mcp_stdio
    if policy == "off":
        raise Forbidden("MCP servers of type stdio are switched off by BYTEBREW_MCP_STDIO")
    if policy == "admin" and not request.actor.is_admin:
        raise Forbidden(
            "An MCP server of type stdio is a command on this machine: only the scope 'admin' may set it up"
        )
    return after


def _route(method: Any, path: str, run: Any, summary: str, **more: Any) -> Route:
    scope = "mcp:read" if method == "GET" else "mcp:write"
    return Route(method=method, path=path, scope=scope, run=run, summary=summary, **more)


_LIST, _PATH = "/api/v1/mcp-servers", "/api/v1/mcp-servers/{name}"

ROUTES = (
    _route("GET", _LIST, list_servers, "List MCP servers", answer=list[Server]),
    _route(
        "POST",
        _LIST,
        create_server,
        "Create an MCP server",
        action="mcp.create",
        idempotent=True,
        body=NewServer,
        example={
            "name": "crm",
            "url": "https://crm.example/mcp",
            "auth_type": "bearer",
            "auth_key": "a-secret",
            "headers": {"X-Team": "support"},
        },
        answer=Server,
        status=201,
        aliases=ALIASES,
    ),
    _route("GET", _PATH, get_server, "Get an MCP server", answer=Server),
    *(
        _route(
            method,
            _PATH,
            update_server,
            "Update an MCP server",
            action="mcp.update",
            body=ServerPatch,
            example={"deny_tools": ["delete_customer"]},
            answer=Server,
            aliases=ALIASES,
        )
        for method in ("PUT", "PATCH")
    ),
    _route("DELETE", _PATH, delete_server, "Delete an MCP server", action="mcp.delete", status=204),
    _route(
        "POST",
        f"{_PATH}/reconnect",
        reconnect_server,
        "Connect to an MCP server anew",
        action="mcp.reconnect",
        answer=Server,
    ),
    _route(
        "POST",
        f"{_PATH}/tools/{{tool:path}}/approve",
        approve_tool,
        "Approve a new or changed MCP tool",
        action="mcp_tool.approve",
        body=Decision,
        example={},
        answer=Server,
    ),
    _route(
        "POST",
        f"{_PATH}/tools/{{tool:path}}/withhold",
        withhold_tool,
        "Keep a new or changed MCP tool withheld",
        action="mcp_tool.withhold",
        body=Decision,
        example={},
        answer=Server,
    ),
)
