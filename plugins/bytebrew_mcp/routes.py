"""MCP servers over REST."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from bytebrew import MASK, Connection, Detail, Forbidden, InvalidRequest, Request, Route, escaped, visible

from . import pins, store
from .config import (
    ALIASES,
    Approval,
    Approved,
    Mcp,
    NewServer,
    Server,
    ServerPatch,
    ServerRow,
    ShownTool,
    Status,
)
from .connection import ServerConnection
from .filter_warnings import unmet
from .pins import Pin
from .tool_definitions import Definition, Listed
from .toolset import Servers

A_MOMENT = 1.0
"""How long a write waits for the server that it has changed; its answer tells how far that came."""

T = TypeVar("T", NewServer, ServerPatch)

_PATH = "/api/v1/mcp-servers/{name}"


def table(servers: Servers) -> tuple[Route, ...]:
    """The routes over an engine's servers."""

    def shown(conn: Connection, rows: Sequence[ServerRow], pinned: Mapping[str, Pin] | None = None) -> list[Server]:
        changed = [
            (row.id, name)
            for row in rows
            if (connection := servers.connections.get(row.name))
            for name, listed in connection.tools.items()
            if connection.state_of(listed, pinned) != "available"
        ]
        approved, agents = pins.definitions(conn, changed), store.agents_of(conn)
        return [
            _shown(
                row,
                agents.get(row.name, ()),
                connection := servers.connections.get(row.name),
                approved,
                pinned,
                unmet(conn, row, connection),
            )
            for row in rows
        ]

    def one(conn: Connection, key: str, pinned: Mapping[str, Pin] | None = None) -> Server:
        [server] = shown(conn, [store.get(conn, key)], pinned)
        return server

    async def list_servers(request: Request[None]) -> list[Server]:
        """Every MCP server by name."""
        return await request.engine.db.scan(lambda conn: shown(conn, store.list_all(conn)))

    async def get_server(request: Request[None]) -> Server:
        """One MCP server."""
        return await request.engine.db.read(one, request.path["name"])

    async def create_server(request: Request[NewServer]) -> Server:
        """A new MCP server, which is connected to at once."""
        return await _written(request, store.create, _literal(request.body))

    async def update_server(request: Request[ServerPatch]) -> Server:
        """The server with the fields that were sent, connected to anew where that matters."""
        return await _written(request, store.update, request.path["name"], _literal(request.body))

    async def _written(request: Request[Any], write: Callable[..., ServerRow], *args: Any) -> Server:
        _no_variables(request.body)
        name = (await request.write(lambda conn: one(conn, _allowed(conn, request, write, *args).name))).name
        await servers.reload()
        if (connection := servers.connections.get(name)) is not None and connection.status.status == "connecting":
            await connection.settle(A_MOMENT)
        return await request.engine.db.read(one, name)

    async def delete_server(request: Request[None]) -> None:
        """Removes a server that no agent names."""
        await request.write(store.delete, request.path["name"])
        await servers.reload()

    async def approve_tool(request: Request[Approval]) -> Server:
        """Lets agents have a tool as it is defined now, though it is new or has changed since it was first seen.

        A `digest` says which definition the caller has seen: 409 where the server has changed the tool again.
        """
        row = await request.engine.db.read(store.get, request.path["name"])

        def record(conn: Connection, approved: Mapping[str, Pin]) -> None:
            request.record(conn, one(conn, row.name, approved))

        await servers.approve(row, request.path["tool"], request.body.digest, record)
        return await request.engine.db.read(one, row.name)

    run: Callable[[Request[Any]], Awaitable[Any]] = update_server
    return (
        Route(
            method="GET",
            path="/api/v1/mcp-servers",
            scope="mcp:read",
            run=list_servers,
            summary="List MCP servers",
            answer=list[Server],
        ),
        Route(
            method="POST",
            path="/api/v1/mcp-servers",
            scope="mcp:write",
            run=create_server,
            summary="Create an MCP server",
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
        Route(method="GET", path=_PATH, scope="mcp:read", run=get_server, summary="Get an MCP server", answer=Server),
        *(
            Route(
                method=method,
                path=_PATH,
                scope="mcp:write",
                run=run,
                summary="Update an MCP server",
                body=ServerPatch,
                example={"deny_tools": ["delete_customer"]},
                answer=Server,
                aliases=ALIASES,
            )
            for method in ("PUT", "PATCH")
        ),
        Route(
            method="DELETE",
            path=_PATH,
            scope="mcp:write",
            run=delete_server,
            summary="Delete an MCP server",
            status=204,
        ),
        Route(
            method="POST",
            path=f"{_PATH}/tools/{{tool:path}}/approve",
            scope="mcp:write",
            run=approve_tool,
            summary="Approve a new or changed MCP tool",
            body=Approval,
            example={},
            answer=Server,
        ),
    )


def _no_variables(body: NewServer | ServerPatch) -> None:
    """Raises InvalidRequest for a `${VAR}`: who sets up a server would have what it stands for sent there."""
    fields = {"$.auth_key": body.auth_key}
    for name, values in (("env", body.env), ("headers", body.headers)):
        fields |= {f"$.{name}.{key[:100]}": value for key, value in (values or {}).items()}
    if found := [path for path, value in fields.items() if value and "${" in value]:
        words = "write the value itself: ${VAR} is read in configuration files alone"
        raise InvalidRequest("A credential over REST is no variable", details=[Detail(path, words) for path in found])


def _literal(body: T) -> T:
    """The body with arguments that stand for themselves, whatever is in them."""
    return replace(body, args=tuple(map(escaped, body.args))) if body.args else body


def _shown(
    row: ServerRow,
    agents: tuple[str, ...],
    connection: ServerConnection | None,
    approved: Mapping[tuple[str, str], str],
    pinned: Mapping[str, Pin] | None,
    warnings: Iterable[str],
) -> Server:
    env = dict.fromkeys(row.env, MASK)
    return Server(
        id=row.id,
        name=row.name,
        type=row.type,
        command=row.command,
        args=(MASK,) * len(row.args),
        url=row.url,
        env=env,
        env_vars=env,
        headers=dict.fromkeys(row.headers, MASK),
        forward_headers=row.forward_headers,
        auth_type=row.auth_type,
        auth_header=row.auth_header,
        has_auth_key=bool(row.sealed_key),
        auth_key_env=row.auth_key_env,
        pin=row.pin,
        allow_tools=row.allow_tools,
        deny_tools=row.deny_tools,
        agent_tools=row.agent_tools,
        enabled=row.enabled,
        status=connection.status if connection else Status(status="disconnected"),
        tools=tuple(
            _tool(connection, one, approved.get((row.id, name), ""), pinned) for name, one in connection.tools.items()
        )
        if connection
        else (),
        agents=agents,
        warnings=tuple(warnings),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _tool(connection: ServerConnection, listed: Listed, approved: str, pinned: Mapping[str, Pin] | None) -> ShownTool:
    tool, state, was = listed.definition, connection.state_of(listed, pinned), None
    if state not in ("available", "new"):
        known = msgspec.json.decode(approved, type=Definition) if approved else None
        was = Approved(
            digest=connection.pins[tool.name].digest,
            description=visible(known.description or "") if known else None,
            input_schema=visible(known.input_schema) if known else None,
            annotations=_hints(known) if known else None,
        )
    return ShownTool(
        name=tool.name,
        description=visible(tool.description or ""),
        input_schema=visible(tool.input_schema),
        annotations=_hints(tool),
        digest=listed.digest,
        state=state,
        approved=was,
    )


def _hints(tool: Definition) -> dict[str, Any] | None:
    hints = msgspec.to_builtins(tool.annotations)
    return {name: hint for name, hint in hints.items() if hint is not None} if hints else None


def _allowed(conn: Connection, request: Request[Any], write: Callable[..., ServerRow], *args: Any) -> ServerRow:
    """Writes a server, unless it is or was a command and the caller may not set up such."""
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
