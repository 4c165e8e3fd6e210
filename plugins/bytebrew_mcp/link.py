"""The standing connection to one MCP server: connects, lists, pins, reconnects, and runs calls through a breaker."""

import asyncio
import logging
import math
import random
from contextlib import suppress
from contextvars import Context
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import msgspec
from msgspec.structs import replace

from bytebrew import Breaker, Call, EngineError, Result, ToolError, masked, now

from . import store
from .config import Mcp, ServerRow, State, Status
from .params import marked, mirrored
from .results import result_of
from .session import Definition, Session
from .stdio import Stdio
from .web import Sse, Streamable
from .words import MODERN, Channel, Lost, Refused, SessionEnded

if TYPE_CHECKING:
    from bytebrew import Engine

log = logging.getLogger(__name__)

BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 60.0
STABLE_SECONDS = 30.0
RELIST_SECONDS = 0.2
RECONNECT_SECONDS = 10.0
"""How long a call waits for a server that is being connected to."""
MIN_CREDENTIAL = 8
"""Characters of what is blotted out of a server's answers: anything shorter may be a word."""
FORWARDED = "ai.bytebrew/headers"
"""Where the headers of the chat request are in the `_meta` of a call over stdio."""

ToolState = Literal["available", "changed", "withheld"]


class Link:
    """One server, from its row on; `tools` are those that it last listed, by its own names."""

    def __init__(self, engine: "Engine", server: ServerRow) -> None:
        self.server = server
        self.tools: dict[str, Definition] = {}
        self.digests: dict[str, str] = {}
        self.pins: dict[str, str] = {}
        self.status = Status(status="disconnected")
        self.failures = 0
        self._engine = engine
        self._settings = engine.settings.of(Mcp)
        self._breaker = Breaker(3, 60, 120)
        self._session: Session | None = None
        self._up = asyncio.Event()
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._probes = True
        self._complaint = ""
        self._credentials: tuple[str, ...] = ()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, server: ServerRow) -> None:
        """Connects to the server as it is now described, once an earlier connection is closed."""
        self.server = server
        self.failures, self.tools, self._probes, self._breaker = 0, {}, True, Breaker(3, 60, 120)
        self._up.clear()
        self._become("connecting")
        for earlier in self._tasks:
            earlier.cancel()
        task = asyncio.create_task(self._run(frozenset(self._tasks)), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Disconnects; a command is then gone."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._become("disconnected")

    def state_of(self, tool: Definition) -> ToolState:
        """Whether agents get a tool: one that has changed since it was pinned is withheld if its server says so."""
        if self.server.pin == "off" or self.pins.get(tool.name) == self.digests.get(tool.name):
            return "available"
        return "withheld" if self.server.pin == "block" else "changed"

    def blotted(self, text: str) -> str:
        """The text without the credentials that the server is sent, for it may repeat them."""
        for credential in self._credentials:
            text = masked(text, credential)
        return text

    async def run(self, tool: Definition, call: Call, arguments: dict[str, Any]) -> Result:
        """The result of a call; ToolError in words for the model whatever goes wrong."""
        name, breaker = self.server.name, self._breaker
        if not breaker.allows():
            raise ToolError(f"MCP server '{name}' keeps failing; it is tried again in {breaker.remaining():.0f} s")
        try:
            result = await self._call(tool, call, arguments)
        except Lost as error:
            breaker.failed()
            raise ToolError(f"MCP server '{name}' {error}") from error
        except TimeoutError as error:
            breaker.failed()
            words = f"'{tool.name}' of MCP server '{name}' did not answer within {self._settings.mcp_call_timeout:g} s"
            raise ToolError(words) from error
        except Refused as error:
            breaker.succeeded()
            raise ToolError(f"MCP server '{name}' refuses the call: {error}") from error
        except BaseException:
            breaker.released()
            raise
        breaker.succeeded()
        return result_of(result)

    async def _call(self, tool: Definition, call: Call, arguments: dict[str, Any]) -> dict[str, Any]:
        server, stdio = self.server, self.server.type == "stdio"
        auth = {"api_key": [server.auth_header], "bearer": ["authorization"]}.get(server.auth_type, [])
        own = {name.lower() for name in (*server.headers, *auth)}
        wanted = {name.lower() for name in server.forward_headers} - own
        given = {name: value for name, value in call.headers.items() if name in wanted}
        for again in (True, False):
            session = await self._connected()
            headers = {} if stdio else given
            if session.version == MODERN and not stdio:
                headers = headers | mirrored(marked(tool.input_schema), arguments)
            try:
                return await session.call(
                    tool.name,
                    arguments,
                    meta={FORWARDED: given} if stdio and given else {},
                    headers=headers,
                    seconds=self._settings.mcp_call_timeout,
                    most=self._settings.mcp_call_max,
                )
            except Lost as error:
                session.close(error)
                if not again or not isinstance(error, SessionEnded):
                    raise
                self._up.clear()
        raise AssertionError("the second time returns or raises")

    async def _connected(self) -> Session:
        if not self._up.is_set() and self.status.status in ("connecting", "connected", "error"):
            self._wake.set()
            if self.status.status != "connecting":
                self._settled.clear()
            await self.settle(RECONNECT_SECONDS)
        if self._session is None or not self._up.is_set():
            raise Lost(self.status.status_message or "is not connected")
        return self._session

    async def settle(self, seconds: float) -> None:
        """Waits a while for the attempt to connect that is under way."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._settled.wait()

    async def _run(self, earlier: frozenset[asyncio.Task[None]]) -> None:
        if earlier:
            await asyncio.wait(earlier)
        if not self.server.enabled or (self.server.type == "stdio" and self._settings.mcp_stdio == "off"):
            self._become("disabled", "BYTEBREW_MCP_STDIO is off" if self.server.enabled else "")
            return
        while True:
            begun = asyncio.get_running_loop().time()
            self._become("connecting")
            error: Exception = Lost("is gone")
            try:
                async with asyncio.TaskGroup() as group:
                    await self._serve(group)
            except* (Lost, TimeoutError, EngineError) as many:
                error = many.exceptions[0]
            except* Exception as many:
                log.exception("the connection to MCP server %s failed", self.server.name)
                error = many.exceptions[0]
            if (task := asyncio.current_task()) and task.cancelling():
                return  # a group that fails while it is cancelled tells of the failure alone
            if not self._up.is_set() and self.server.type == "stdio":
                self._probes = not self._probes
                if not self._probes:
                    continue  # some commands end when they are asked what they do not know
            if self._up.is_set() and asyncio.get_running_loop().time() - begun > STABLE_SECONDS:
                self.failures = 0
            self._up.clear()
            self.failures += 1
            if self.failures == 1 and isinstance(error, SessionEnded):
                continue
            words = self.blotted(str(error)) or f"did not begin within {self._settings.mcp_connect_timeout:g} s"
            if words != self._complaint:
                log.warning("MCP server %s %s", self.server.name, words)
            self._complaint = words
            self._become("error", words)
            await self._pause()

    async def _serve(self, group: asyncio.TaskGroup) -> NoReturn:
        async with self._channel() as channel:
            session = self._session = Session(self.server.name, channel)
            reading = group.create_task(channel.read(session.receive))
            try:
                async with asyncio.timeout(self._settings.mcp_connect_timeout):
                    await session.open(probe=self._probes, probe_seconds=self._settings.mcp_probe_timeout)
                    await self._list(session)
                self._probes = session.version == MODERN
                self._complaint = ""
                self._up.set()
                self._become("connected", version=session.version)
                group.create_task(session.listen())
                while True:
                    await session.news.wait()
                    session.news.clear()
                    if session.lost is not None:
                        raise session.lost
                    await self._list(session)
                    self.status = replace(self.status, tools_count=len(self.tools))
                    await asyncio.sleep(RELIST_SECONDS)
            finally:
                gone = reading.exception() if reading.done() and not reading.cancelled() else None
                session.close(gone if isinstance(gone, Lost) else Lost("is gone"))
                reading.cancel()

    async def _list(self, session: Session) -> None:
        async with asyncio.timeout(self._settings.mcp_connect_timeout):
            tools = await session.tools()
        seen = self.digests = {tool.name: _digest(tool) for tool in tools}
        if seen.keys() - self.pins.keys():
            self.pins = await self._engine.db.write(store.pin_new, self.server.id, seen)
        self.tools = {tool.name: tool for tool in tools}
        for tool in self.tools.values():
            if (state := self.state_of(tool)) != "available":
                log.warning("MCP server %s: the tool %s has changed and is %s", self.server.name, tool.name, state)

    def _channel(self) -> Channel:
        server, engine = self.server, self._engine
        env = store.opened(server.env, engine)
        headers = store.opened(server.headers, engine)
        key = env.get(server.auth_key_env) or store.opened({"": server.sealed_key}, engine)[""]
        sent = (key, *(value.rpartition(" ")[2] for value in headers.values()))
        self._credentials = tuple(one for one in sent if len(one) >= MIN_CREDENTIAL)
        if server.auth_type == "api_key":
            headers[server.auth_header] = key
        elif server.auth_type == "bearer":
            headers["Authorization"] = f"Bearer {key}"
        if server.type == "stdio":
            return Stdio(
                server.name,
                [server.command, *server.args],
                env,
                memory_kb=self._settings.mcp_stdio_memory_mb * 1024,
                cpu_seconds=math.ceil(self._settings.mcp_stdio_cpu),
                secrets=env.values(),
            )
        return (Sse if server.type == "sse" else Streamable)(engine.http, server.url, headers)

    async def _pause(self) -> None:
        """Waits longer each time but the first, unless a call wants the server now."""
        longest = min(BACKOFF_SECONDS * (2 ** min(self.failures - 1, 10) - 1), MAX_BACKOFF_SECONDS)
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(longest / 2, longest)):  # noqa: S311 - it spreads load
                await self._wake.wait()

    def _become(self, state: State, message: str = "", version: str | None = None) -> None:
        connected = state == "connected"
        self.status = Status(
            status=state,
            status_message=message,
            tools_count=len(self.tools) if connected else 0,
            connected_at=now() if connected else None,
            protocol_version=version,
        )
        if state == "connecting":
            self._settled.clear()
        else:
            self._settled.set()


def _digest(tool: Definition) -> str:
    """Stands for all of a definition that counts."""
    return sha256(msgspec.json.encode(tool, order="deterministic")).hexdigest()
