"""The MCP servers of an engine, and the tools that agents have from them."""

import asyncio
import logging
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from bytebrew import Agent, Call, Conflict, Detail, NotFound, Record, Result, Risk, Tool, Toolset

from . import pins, store
from .config import Mcp, ServerRow
from .definitions import Definition, Hints, Listed
from .link import Link

if TYPE_CHECKING:
    from bytebrew import Engine

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0
"""How long a turn waits for a server that is being connected to; then it begins without its tools."""
MAX_NAME = 64
_ODD = re.compile(r"[^a-zA-Z0-9_-]")


class McpTool(Tool):
    """A tool of an MCP server, under the name that agents know it by."""

    def __init__(self, name: str, link: Link, definition: Definition, longest: float) -> None:
        hints = definition.annotations or Hints()
        self.name = name
        self.description = definition.description or ""
        self.input_schema = {"type": "object"} | definition.input_schema
        self.timeout = longest
        self.idempotent = bool(hints.read_only_hint or hints.idempotent_hint)
        self.risk = _risk(hints)
        self.source = f"mcp:{link.server.name}"
        self._link = link
        self._definition = definition

    async def run(self, call: Call, input: dict[str, Any]) -> Result:
        return await self._link.run(self._definition, call, input)


class Servers(Toolset):
    """Every configured server with its link; agents name servers in `mcp_servers`."""

    lists = ("mcp_servers",)

    def __init__(self, engine: "Engine") -> None:
        self.links: dict[str, Link] = {}
        self._engine = engine
        self._lock = asyncio.Lock()
        self._ending: dict[asyncio.Task[None], Link] = {}

    async def reload(self) -> None:
        """Brings the links up to what is stored: connects what is new or changed, in the background.

        Calls that run end on the connection that they began on, unless their server is deleted or disabled.
        """
        async with self._lock:
            rows = {row.name: row for row in await self._engine.db.read(store.list_all)}
            for name in self.links.keys() - rows.keys():
                self._end(self.links.pop(name))
            for name, row in rows.items():
                link = self.links.get(name)
                if link is not None and _connection(link.server) == _connection(row):
                    link.server = row
                else:
                    await self._replace(link, row)

    async def _replace(self, old: Link | None, row: ServerRow) -> None:
        pinned = await self._engine.db.read(pins.every, row.id)
        link = self.links[row.name] = Link(self._engine, row, pinned)
        if old is not None:
            old.successor = link if old.server.id == row.id else None
            self._end(old, drains=old.successor is not None and row.enabled)
        link.start(after=[task for task, one in self._ending.items() if one.server.name == row.name and not one.busy])

    def _end(self, link: Link, *, drains: bool = False) -> None:
        older = [] if drains else [one for one in self._ending.values() if one.server.id == link.server.id]
        for one in (link, *older):
            task = asyncio.create_task(one.drain() if drains else one.close())
            self._ending[task] = one
            task.add_done_callback(self._ending.pop)

    async def approve(self, row: ServerRow, tool: str, digest: str | UnsetType, record: Record) -> None:
        """Lets agents have a tool as it is defined now; Conflict where that is not what the digest stands for.

        The record takes the server's pins as they are then.
        """

        def approve(conn: sqlite3.Connection, listed: Listed) -> dict[str, pins.Pin]:
            approved = pins.approve(conn, row.id, listed)
            record(conn, approved)
            return approved

        async with self._lock:
            link = self.links.get(row.name)
            listed = link.tools.get(tool) if link is not None and link.server.id == row.id else None
            if link is None or listed is None:
                raise NotFound(f"MCP server '{row.name}' offers no tool '{tool[:255]}' at the moment")
            if digest not in (UNSET, listed.digest):
                words = (
                    f"The tool '{tool}' has changed again: look at its definition {listed.digest} before you approve it"
                )
                raise Conflict(words, details=[Detail("$.digest", f"is now {listed.digest}")])
            link.pins = await self._engine.db.write(approve, listed)

    async def close(self) -> None:
        """Disconnects from every server."""
        links = (*self.links.values(), *self._ending.values())
        await asyncio.gather(*(link.close() for link in links), *self._ending)

    async def tools(self, agent: Agent) -> Sequence[Tool]:
        """What the agent's servers offer now and its filters let through; a server that is away costs its tools."""
        links = [self.links[name] for name in dict.fromkeys(agent.mcp_servers) if name in self.links]
        async with asyncio.TaskGroup() as group:
            for link in links:
                if link.status.status == "connecting" and link.failures < 2:
                    group.create_task(link.settle(PATIENCE_SECONDS))
        names = _names(
            [
                (link.server.name, tool)
                for link in links
                for tool in sorted({*link.pins, *link.tools})
                if _lets(link.server, agent.name, tool)
            ],
            {*self._engine.tools, self._engine.read_result.name},
        )
        longest = self._engine.settings.of(Mcp).mcp_call_max + 30
        return [
            McpTool(names[link.server.name, name], link, listed.definition, longest)
            for link in links
            if link.status.status == "connected"
            for name, listed in link.tools.items()
            if link.state_of(listed) != "withheld" and _lets(link.server, agent.name, name)
        ]

    async def all(self) -> Sequence[Tool]:
        """Every tool that a server offers now, by the name that it has where no other is called so."""
        longest = self._engine.settings.of(Mcp).mcp_call_max + 30
        return [
            McpTool(_fitting(name), link, listed.definition, longest)
            for link in self.links.values()
            if link.status.status == "connected"
            for name, listed in link.tools.items()
        ]

    def has(self, conn: sqlite3.Connection, name: str) -> bool:
        return self._offering(name) is not None

    def missing(self, conn: sqlite3.Connection, agent: Agent) -> Iterable[str]:
        for name in agent.mcp_servers:
            if (server := store.find(conn, name)) is None:
                yield f"mcp_servers: there is no MCP server '{name}' yet"
            elif not server.enabled:
                yield f"mcp_servers: the MCP server '{name}' is disabled"
        for name in agent.tools:
            if name not in self._engine.tools and (offering := self._offering(name)):
                yield f"tools: '{name}' comes with the MCP server '{offering}' in mcp_servers, not from here"

    def _offering(self, tool: str) -> str | None:
        """The server that offers a tool which agents know by this name."""
        links = tuple(self.links.items())
        return next((name for name, link in links if any(_fitting(one) == tool for one in tuple(link.tools))), None)


def _connection(row: ServerRow) -> ServerRow:
    """The row as far as it needs another connection."""
    return replace(
        row,
        forward_headers=(),
        pin="off",
        allow_tools=None,
        deny_tools=(),
        agent_tools={},
        updated_at="",
        created_at="",
    )


def _lets(server: ServerRow, agent: str, tool: str) -> bool:
    allowed = server.allow_tools is None or tool in server.allow_tools
    return allowed and tool not in server.deny_tools and tool in server.agent_tools.get(agent, (tool,))


def _names(pairs: Sequence[tuple[str, str]], taken: Iterable[str]) -> Mapping[tuple[str, str], str]:
    """A name for each tool of each server: its own, with the server's before it where that is not unique.

    They depend on which tools the servers have ever shown, and not on which servers are there at the moment.
    """
    names: dict[tuple[str, str], str] = {}
    used = set(taken)
    for form in _FORMS:
        left = {pair: form(*pair) for pair in pairs if pair not in names}
        counts = Counter(left.values())
        free = {pair: name for pair, name in left.items() if counts[name] == 1 and name not in used}
        names |= free
        used |= set(free.values())
    return names


def _fitting(name: str) -> str:
    """The name as model vendors take it."""
    plain = _ODD.sub("_", name)
    return plain if 0 < len(plain) <= MAX_NAME else _hashed(name)


def _hashed(name: str) -> str:
    mark = sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{_ODD.sub('_', name)[: MAX_NAME - 9]}_{mark}"


_FORMS: tuple[Callable[[str, str], str], ...] = (
    lambda server, tool: _fitting(tool),
    lambda server, tool: _fitting(f"{server}__{tool}"),
    lambda server, tool: _hashed(f"{server}__{tool}"),
)


def _risk(hints: Hints) -> Risk:
    if hints.read_only_hint:
        return "safe"
    return "dangerous" if hints.destructive_hint else "caution"
