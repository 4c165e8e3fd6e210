"""The MCP servers of an engine as a toolset: names, filters and states of their tools."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import count
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from bytebrew import (
    Agent,
    Call,
    Conflict,
    Connection,
    Detail,
    Engine,
    NotFound,
    Notice,
    Record,
    Result,
    Risk,
    StateKey,
    Tool,
    ToolError,
    Toolset,
)

from . import pins, sightings, store
from .config import Mcp, ServerRow
from .connection import WITHHELD, ServerConnection
from .oauth.user_connections import UserConnections, connection_to, unauthorized
from .resources.tools import NAMES as RESOURCE_TOOLS
from .resources.tools import tools_of
from .tool_definitions import Definition, Hints, Listed

log = logging.getLogger(__name__)

SOURCE = "mcp:"
"""Prefix of a tool's source, before the server's name."""
LIST = "mcp_servers"
"""The list of an agent that names its servers."""
MAX_NAME = 64
_ODD = re.compile(r"[^a-zA-Z0-9_-]")


class McpTool(Tool):
    """A tool of an MCP server, under the name that agents use.

    A `shut` tool is not called; `away` is the reason.
    """

    foreign = True

    def __init__(self, name: str, connection: ServerConnection, definition: Definition, longest: float) -> None:
        hints = definition.annotations or Hints()
        self.name = name
        self.description = definition.description or ""
        self.input_schema = {"type": "object"} | definition.input_schema
        self.timeout = longest
        self.idempotent = bool(hints.read_only_hint or hints.idempotent_hint)
        self.risk = risk_of(hints)
        self.source = f"{SOURCE}{connection.server.name}"
        self.shut = False
        self._connection = connection
        self._definition = definition

    @property
    def spare(self) -> tuple[str, ...]:
        return tuple(form(self._connection.server.name, self._definition.name) for form in _FORMS)

    @property
    def names(self) -> frozenset[str]:
        return _known_as(self._connection.server.name, self._definition.name) | {self.name}

    async def run(self, call: Call, input: dict[str, Any]) -> Result:
        if self.shut:
            raise ToolError(self.away)
        return await self._connection.run(self._definition, call, input)


class Servers(Toolset):
    """Every configured server with its connection; agents name servers in `mcp_servers`."""

    lists = (LIST,)
    foreign = "its MCP servers"

    def __init__(self, engine: Engine) -> None:
        self.connections: dict[str, ServerConnection] = {}
        self._engine = engine
        self._lock = asyncio.Lock()
        self._ending: dict[asyncio.Task[None], ServerConnection] = {}

    async def reload(self) -> None:
        """Connects to new and changed servers in the background, and disconnects from removed ones.

        Running calls finish on their old connection, unless their server is deleted or disabled.
        """
        async with self._lock:
            rows = {row.name: row for row in await self._engine.db.read(store.list_all)}
            for name in self.connections.keys() - rows.keys():
                self._end(self.connections.pop(name))
            for name, row in rows.items():
                connection = self.connections.get(name)
                if connection is not None and _connect_fields(connection.server) == _connect_fields(row):
                    repinned, connection.server = connection.server.pin != row.pin, row
                    if repinned:
                        connection.relist()
                    if self._engine.node.id is not None:
                        had, decided = (connection.pins, connection.sightings), await self._decided(row)
                        if (connection.pins, connection.sightings) == had:  # else it has stored newer ones meanwhile
                            connection.follow(*decided)
                else:
                    await self._replace(connection, row)

    async def _decided(self, row: ServerRow) -> tuple[Mapping[str, pins.Pin], Mapping[str, sightings.Sighting]]:
        return await self._engine.db.read(lambda conn: (pins.every(conn, row.id), sightings.every(conn, row.id)))

    async def _replace(self, old: ServerConnection | None, row: ServerRow) -> None:
        pinned, seen = await self._decided(row)
        connection = self.connections[row.name] = connection_to(self._engine, row, pinned)
        connection.sightings = seen
        if old is not None:
            old.successor = connection if old.server.id == row.id else None
            self._end(old, drains=old.successor is not None and row.enabled)
        connection.start(
            after=[task for task, one in self._ending.items() if one.server.name == row.name and not one.busy]
        )

    def _end(self, connection: ServerConnection, *, drains: bool = False) -> None:
        older = [] if drains else [one for one in self._ending.values() if one.server.id == connection.server.id]
        for one in (connection, *older):
            task = asyncio.create_task(one.drain() if drains else one.close())
            self._ending[task] = one
            task.add_done_callback(self._ending.pop)

    async def reconnect(self, row: ServerRow) -> None:
        """Connects to a server anew; calls that run there finish on the old connection."""
        async with self._lock:
            await self._replace(self.connections.get(row.name), row)

    async def approve(self, row: ServerRow, tool: str, digest: str | UnsetType, by: str, record: Record) -> None:
        """Approves a tool as it is defined now; Conflict if its digest differs.

        `record` receives the server's pins after the approval.
        """

        def approve(conn: Connection, listed: Listed) -> dict[str, pins.Pin]:
            approved = pins.approve(conn, row.id, listed, by)
            record(conn, approved)
            return approved

        async with self._lock:
            connection, listed = self._listed(row, tool, digest)
            connection.pins = await self._engine.db.write(approve, listed)

    async def withhold(self, row: ServerRow, tool: str, digest: str | UnsetType, by: str, record: Record) -> None:
        """Keeps a tool as it is defined now withheld; Conflict if its digest differs or agents have it.

        `record` receives the server's pins.
        """

        def withhold(conn: Connection, listed: Listed) -> dict[str, sightings.Sighting]:
            seen = sightings.withhold(conn, row.id, tool, listed.digest, by)
            record(conn, connection.pins)
            return seen

        async with self._lock:
            connection, listed = self._listed(row, tool, digest)
            if connection.state_of(listed) not in WITHHELD:
                message = f"Agents have the tool '{tool}'; deny_tools of its server keeps it from them"
                raise Conflict(message, details=[Detail("$.digest", "is not withheld")])
            connection.sightings = await self._engine.db.write(withhold, listed)

    def _listed(self, row: ServerRow, tool: str, digest: str | UnsetType) -> tuple[ServerConnection, Listed]:
        """A tool as its server defines it now; NotFound if it does not, Conflict if the digest differs."""
        connection = self.connections.get(row.name)
        listed = connection.tools.get(tool) if connection is not None and connection.server.id == row.id else None
        if connection is None or listed is None:
            raise NotFound(f"MCP server '{row.name}' offers no tool '{tool[:255]}' at the moment")
        if digest not in (UNSET, listed.digest):
            message = f"The tool '{tool}' has changed again: look at its definition {listed.digest} before you decide"
            raise Conflict(message, details=[Detail("$.digest", f"is now {listed.digest}")])
        return connection, listed

    async def close(self) -> None:
        """Disconnects from every server."""
        connections = (*self.connections.values(), *self._ending.values())
        await asyncio.gather(*(connection.close() for connection in connections), *self._ending)

    async def ready(self, agent: Agent) -> AsyncIterator[Notice]:
        """Waits for disconnected servers, each at most `mcp_turn_wait` from its disconnect or the engine's start."""
        seconds = self._engine.settings.of(Mcp).mcp_turn_wait
        awaited = [connection for connection in self._connections_of(agent) if connection.awaited(seconds)]
        if awaited:
            names = tuple(connection.server.name for connection in awaited)
            yield Notice(code="tools_awaited", message=f"Waiting for MCP servers: {', '.join(names)}", names=names)
            async with asyncio.TaskGroup() as group:
                for connection in awaited:
                    group.create_task(connection.arrive(seconds))
        connections = {connection.server.name: connection for connection in self._connections_of(agent)}
        for name, connection in connections.items():
            if lost := connection.missing_denied_tools():
                message = (
                    f"deny_tools of MCP server '{name}' names {', '.join(map(repr, lost))}, which it offers no more"
                )
                closed = "until that changes, a person is asked about every tool of it"
                yield Notice(code="gate_unmatched", message=f"{message}: {closed}", names=lost)
        there = {name for name, connection in connections.items() if connection.status.status == "connected"}
        if away := [name for name in dict.fromkeys(agent.lists[LIST]) if name not in there]:
            message = "; ".join(f"MCP server '{name}' {_state(connections.get(name))}" for name in away)
            yield Notice(code="tools_missing", message=f"Tools are missing at the moment: {message}", names=tuple(away))
            for notice in unauthorized(connections.values()):
                yield notice

    async def tools(self, agent: Agent) -> Sequence[Tool]:
        """The tools that the agent's servers offer and its filters allow; known tools that are missing are `away`."""
        connections = self._connections_of(agent)
        away = [connection.server.id for connection in connections if connection.status.status != "connected"]
        stored = {key: await self._engine.db.read(pins.all_definitions, key) for key in away}  # no await below
        longest = self._engine.settings.of(Mcp).mcp_call_max + 30
        pairs = [
            (n, tool) for n, connection in enumerate(connections) for tool in {*connection.pins, *connection.tools}
        ]
        ranked = sorted((_rank(connections[n], agent.name, tool), n, tool) for n, tool in pairs)
        names = _names([(connections[n].server.name, tool) for _, n, tool in ranked], self._engine.reserves)
        found: list[Tool] = [tool for one in connections for tool in tools_of(one, longest, _forms)]
        for connection in connections:
            connected = connection.status.status == "connected"
            asks, approved = bool(connection.missing_denied_tools()), stored.get(connection.server.id, {})
            for tool in {**connection.pins, **connection.tools} if connected else connection.pins:
                listed = connection.tools.get(tool) if connected else None
                definition = listed.definition if listed else _stored(tool, approved.get(tool, ""))
                one = McpTool(names[connection.server.name, tool], connection, definition, longest)
                one.confirm, one.gone = asks, connected and listed is None
                one.away, one.shut = _standing(connection, agent.name, one.name, tool, listed)
                found.append(one)
        return found

    async def all(self) -> Sequence[Tool]:
        """Every tool that a server offers now, named as if no other tool had its name."""
        longest = self._engine.settings.of(Mcp).mcp_call_max + 30
        return [
            McpTool(
                _names([(connection.server.name, name)], self._engine.reserves)[connection.server.name, name],
                connection,
                *rest,
            )
            for connection in self.connections.values()
            if connection.status.status == "connected"
            for name, listed in connection.tools.items()
            for rest in ((listed.definition, longest),)
        ]

    def _connections_of(self, agent: Agent) -> list[ServerConnection]:
        return [self.connections[name] for name in dict.fromkeys(agent.lists[LIST]) if name in self.connections]

    def knows(self, conn: Connection, agent: Agent, gate: str) -> bool:
        listed = [
            (name, tool)
            for name in agent.lists[LIST]
            if (connection := self.connections.get(name))
            for tool in (*connection.tools, *(RESOURCE_TOOLS if connection.server.resources else ()))
        ]
        return any(gate in _known_as(*one) for one in (*pins.tools_of(conn, agent.lists[LIST]), *listed))

    def has(self, conn: Connection, name: str) -> bool:
        return self._offering(name) is not None

    def missing(self, conn: Connection, agent: Agent) -> Iterable[str]:
        for name in agent.lists[LIST]:
            if (server := store.find(conn, name)) is None:
                yield f"mcp_servers: there is no MCP server '{name}' yet"
            elif not server.enabled:
                yield f"mcp_servers: the MCP server '{name}' is disabled"
        for name in agent.tools:
            if name not in self._engine.tools and (offering := self._offering(name)):
                yield f"tools: '{name}' comes with the MCP server '{offering}' in mcp_servers, not from here"

    def _offering(self, tool: str) -> str | None:
        """The server that offers a tool under this name."""
        connections = tuple(self.connections.items())
        return next(
            (name for name, connection in connections if any(_fitting(one) == tool for one in tuple(connection.tools))),
            None,
        )


SERVERS = StateKey[Servers]("mcp_servers")


def _connect_fields(row: ServerRow) -> ServerRow:
    """The row without fields whose change needs no reconnect."""
    return replace(
        row,
        forward_headers=(),
        pin="off",
        allow_tools=None,
        deny_tools=(),
        agent_tools={},
        resources=False,
        updated_at="",
        created_at="",
    )


def _standing(
    connection: ServerConnection, agent: str, name: str, tool: str, listed: Listed | None
) -> tuple[str, bool]:
    """Why a tool is not available, or "", and whether calls of it are rejected."""
    server = f"MCP server '{connection.server.name}'"
    if not connection.server.allows(agent, tool):
        return f"There is no tool named '{name}'", True
    if connection.status.status != "connected":
        return f"{server} {_state(connection)}", False  # the server may be connected when it is called
    if listed is None:
        return f"{server} offers '{tool}' no more", True
    message = WITHHELD.get(connection.state_of(listed))
    return (f"'{tool}' of {server} {message}", True) if message else ("", False)


def _rank(connection: ServerConnection, agent: str, tool: str) -> tuple[int, str]:
    """Sort key of tools with one name: tools that the filters allow first, then by age of the pin."""
    pin = connection.pins.get(tool)
    return (0 if pin else 1) if connection.server.allows(agent, tool) else 2, pin.since if pin else ""


def _names(pairs: Iterable[tuple[str, str]], reserved: Callable[[str], bool]) -> Mapping[tuple[str, str], str]:
    """A unique name for each tool: its own, or with the server's name as prefix if an earlier tool has its name.

    Tools come in order of age, so that a new tool never renames an old one.
    """
    names: dict[tuple[str, str], str] = {}
    used: set[str] = set()
    for server, tool in pairs:
        forms = _forms(server, tool)
        names[server, tool] = name = next(form for form in forms if form not in used and not reserved(form))
        used.add(name)
    return names


def _forms(server: str, tool: str) -> Iterator[str]:
    """Infinitely many candidate names of a tool, best first: a server may give its other tools any of them."""
    yield from (form(server, tool) for form in _FORMS)
    yield from (_hashed(f"{SOURCE}{server}/{tool} {n}") for n in count(2))


@lru_cache(maxsize=10_000)
def _known_as(server: str, tool: str) -> frozenset[str]:
    """The names an operator may use for a tool: the server's own, or that with the server's name as prefix."""
    within = {f"{server}{mark}{tool}" for mark in (".", "/", "__")} | {f"{SOURCE}{server}/{tool}"}
    return frozenset((tool, *within, *(form(server, tool) for form in _FORMS)))


def _state(connection: ServerConnection | None) -> str:
    """The state of a server in our own words, because a server's words must not become instructions of the model."""
    if connection is None:
        return "does not exist"
    if isinstance(connection, UserConnections) and connection.status.status == "disconnected":
        return f"waits for a user to authorize it, at POST /api/v1/connections/{connection.server.name}"
    return {"disabled": "is switched off", "connecting": "is still being connected to"}.get(
        connection.status.status, "cannot be reached"
    )


def _stored(tool: str, text: str) -> Definition:
    """The approved definition of a tool; only the name if it is not stored."""
    return msgspec.json.decode(text, type=Definition) if text else Definition(name=tool, input_schema={})


def _fitting(name: str) -> str:
    """The name, converted to the characters and length that model vendors accept."""
    plain = _ODD.sub("_", name)
    return plain if 0 < len(plain) <= MAX_NAME else _hashed(name)


def _hashed(name: str) -> str:
    mark = sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{_ODD.sub('_', name)[: MAX_NAME - 9]}_{mark}"


_FORMS: tuple[Callable[[str, str], str], ...] = (
    lambda server, tool: _fitting(tool),
    lambda server, tool: _fitting(f"{server}__{tool}"),
    lambda server, tool: _hashed(f"{server}__{tool}"),
    lambda server, tool: _hashed(f"{SOURCE}{server}/{tool}"),
)


def risk_of(hints: Hints) -> Risk:
    """How much harm a tool can do, by what its server says of it."""
    if hints.read_only_hint:
        return "safe"
    return "dangerous" if hints.destructive_hint else "caution"
