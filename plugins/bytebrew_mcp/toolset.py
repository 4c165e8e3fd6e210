"""The MCP servers of an engine, and the tools that agents have from them."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from bytebrew import Agent, Call, Result, Risk, Tool, ToolError, Toolset

from . import store
from .config import Mcp, ServerRow
from .link import Link
from .session import Definition, Hints

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
        try:
            result = await self._link.run(self._definition, call, input)
        except ToolError as error:
            raise ToolError(self._link.blotted(str(error))) from error
        return replace(result, text=self._link.blotted(result.text))


class Servers(Toolset):
    """Every configured server with its link; agents name servers in `mcp_servers`."""

    lists = ("mcp_servers",)

    def __init__(self, engine: "Engine") -> None:
        self.links: dict[str, Link] = {}
        self._engine = engine
        self._lock = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def reload(self) -> None:
        """Brings the links up to what is stored: connects what is new or changed, in the background."""
        async with self._lock:
            rows = {row.name: row for row in await self._engine.db.read(store.list_all)}
            for name in self.links.keys() - rows.keys():
                task = asyncio.create_task(self.links.pop(name).close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
            for name, row in rows.items():
                link = self.links.get(name)
                if link is None or link.server.id != row.id:
                    if link is not None:
                        await link.close()
                    link = self.links[name] = Link(self._engine, row)
                    link.pins = await self._engine.db.read(store.pins, row.id)
                    link.start(row)
                elif _connection(link.server) != _connection(row):
                    link.start(row)
                else:
                    link.server = row

    async def close(self) -> None:
        """Disconnects from every server."""
        await asyncio.gather(*(link.close() for link in self.links.values()), *self._closing)

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
            self._engine.tools.keys(),
        )
        longest = self._engine.settings.of(Mcp).mcp_call_max + 30
        return [
            McpTool(names[link.server.name, name], link, definition, longest)
            for link in links
            if link.status.status == "connected"
            for name, definition in link.tools.items()
            if link.state_of(definition) != "withheld" and _lets(link.server, agent.name, name)
        ]

    async def all(self) -> Sequence[Tool]:
        """Every tool that a server offers now, by the name that it has where no other is called so."""
        longest = self._engine.settings.of(Mcp).mcp_call_max + 30
        return [
            McpTool(_fitting(name), link, definition, longest)
            for link in self.links.values()
            if link.status.status == "connected"
            for name, definition in link.tools.items()
        ]


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
