"""MCP servers as the API shows them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from bytebrew import MASK, Connection, visible

from . import pins, store
from .config import Approved, Server, ServerRow, ShownTool, Status, Withheld
from .connection import ServerConnection
from .filter_warnings import unmet
from .pins import Pin
from .sightings import Sighting
from .tool_definitions import Definition, Hints, Listed
from .toolset import risk_of

Pinned = Mapping[str, Pin] | None
"""The pins of one server that a transaction is about to store; None for the current ones."""


def show_all(
    conn: Connection, connections: Mapping[str, ServerConnection], rows: Sequence[ServerRow], pinned: Pinned = None
) -> list[Server]:
    """Servers with their status, tools and warnings."""
    changed = [
        (row.id, name)
        for row in rows
        if (connection := connections.get(row.name))
        for name, listed in connection.tools.items()
        if connection.state_of(listed, pinned) != "available"
    ]
    approved, agents = pins.definitions(conn, changed), store.agents_of(conn)
    return [
        _shown(
            row,
            agents.get(row.name, ()),
            connection := connections.get(row.name),
            approved,
            pinned,
            unmet(conn, row, connection),
        )
        for row in rows
    ]


def show(conn: Connection, connections: Mapping[str, ServerConnection], name: str, pinned: Pinned = None) -> Server:
    """One server; NotFound if there is none."""
    [server] = show_all(conn, connections, [store.get(conn, name)], pinned)
    return server


def _shown(
    row: ServerRow,
    agents: tuple[str, ...],
    connection: ServerConnection | None,
    approved: Mapping[tuple[str, str], str],
    pinned: Pinned,
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
        auth_grant=row.auth_grant,
        auth_client_id=row.auth_client_id,
        auth_issuer=row.auth_issuer,
        auth_scopes=row.auth_scopes,
        pin=row.pin,
        allow_tools=row.allow_tools,
        deny_tools=row.deny_tools,
        agent_tools=row.agent_tools,
        elicitation=row.elicitation,
        sampling=row.sampling,
        sampling_model=row.sampling_model,
        sampling_max_tokens=row.sampling_max_tokens,
        resources=row.resources,
        enabled=row.enabled,
        status=connection.status if connection else Status(status="disconnected"),
        tools=tuple(
            _tool(connection, one, agents, approved.get((row.id, name), ""), pinned)
            for name, one in connection.tools.items()
        )
        if connection
        else (),
        agents=agents,
        warnings=tuple(warnings),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _tool(
    connection: ServerConnection, listed: Listed, agents: Iterable[str], approved: str, pinned: Pinned
) -> ShownTool:
    tool, state, approved_as = listed.definition, connection.state_of(listed, pinned), None
    if state not in ("available", "new"):
        known = msgspec.json.decode(approved, type=Definition) if approved else None
        pin = connection.pins[tool.name]
        approved_as = Approved(
            digest=pin.digest,
            at=pin.approved_at,
            by=pin.approved_by,
            description=visible(known.description or "") if known else None,
            input_schema=visible(known.input_schema) if known else None,
            annotations=_hints(known) if known else None,
        )
    seen = connection.sightings.get(tool.name)
    return ShownTool(
        name=tool.name,
        description=visible(tool.description or ""),
        input_schema=visible(tool.input_schema),
        annotations=_hints(tool),
        digest=listed.digest,
        state=state,
        security_zone=risk_of(tool.annotations or Hints()),
        agents=tuple(agent for agent in agents if connection.server.allows(agent, tool.name)),
        first_seen_at=seen.first_seen_at if seen else None,
        changed_at=seen.changed_at if seen else None,
        approved=approved_as,
        withheld=_decision(seen, listed),
    )


def _decision(seen: Sighting | None, listed: Listed) -> Withheld | None:
    if seen is None or seen.withheld_digest != listed.digest or not (seen.withheld_at and seen.withheld_by):
        return None
    return Withheld(at=seen.withheld_at, by=seen.withheld_by)


def _hints(tool: Definition) -> dict[str, Any] | None:
    hints = msgspec.to_builtins(tool.annotations)
    return {name: hint for name, hint in hints.items() if hint is not None} if hints else None
