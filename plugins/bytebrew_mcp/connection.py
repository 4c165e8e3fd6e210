"""The persistent connection to one MCP server: connects, lists and pins tools, reconnects, and calls tools."""

import asyncio
import logging
import math
import random
from collections.abc import Collection, Mapping
from contextlib import suppress
from contextvars import Context
from typing import Any, Literal, NoReturn

from msgspec.structs import replace

from bytebrew import Breaker, Call, Engine, EngineError, Masker, Result, ToolError, masker, now, within

from . import pins, sightings
from .config import Mcp, ServerRow, State, Status
from .credentials import forwarded_headers, is_plain, resolve
from .header_params import marked, mirrored
from .http_transports import Requests, SseTransport, StreamableHttpTransport
from .jsonrpc import MODERN, AccessDenied, ConnectionLost, JsonRpcError, RequestFailed, SessionEnded, Transport
from .resources.requests import answer_of, request_of
from .server_requests.responder import Responder
from .session import Session
from .stdio import StdioTransport
from .tool_definitions import Definition, Listed
from .tool_results import result_of

log = logging.getLogger(__name__)

BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 60.0
STABLE_SECONDS = 30.0
RELIST_SECONDS, RELIST_RETRY_SECONDS = 1.0, 5.0
"""Pause between two `tools/list` requests, and after a failed one."""
RECONNECT_SECONDS = 10.0
"""How long a call waits for a server that is connecting."""
FORWARDED = "ai.bytebrew/headers"
"""Key in `_meta` of a stdio call for the forwarded headers of the chat request."""
CALL_ID, KEY = "ai.bytebrew/call_id", "ai.bytebrew/idempotency_key"
"""Keys in `_meta` for the tool call's id and its idempotency key."""

ToolState = Literal["available", "changed", "withheld", "new"]
WITHHELD = {"withheld": "has changed, and waits to be approved", "new": "is new, and waits to be approved"}
"""States in which agents cannot call a tool, as error texts."""


class ServerConnection:
    """The connection to one configured server; `tools` are those of its last `tools/list`, by the server's own names.

    When the configuration changes, a `successor` replaces it: running calls finish here, new calls go there.
    """

    def __init__(self, engine: Engine, server: ServerRow, pinned: Mapping[str, pins.Pin]) -> None:
        self.server = server
        self.tools: dict[str, Listed] = {}
        self.pins = pinned
        self.sightings: Mapping[str, sightings.Sighting] = {}
        self.status = Status(status="disconnected")
        self.failures = 0
        self.away_since: float | None = None
        self.successor: ServerConnection | None = None
        self._engine = engine
        self._settings = engine.settings.of(Mcp)
        self._breaker = Breaker(3, 60, 120)
        self._session: Session | None = None
        self._wake = asyncio.Event()
        self._tried = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._calls = 0
        self._probes = True
        self._seen: set[str] = set()  # digests of definitions
        self._logged_error = ""
        self._last_error: tuple[str, str] | None = None
        self._mask_credentials = self._mask_values = masker((), 0)
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def mask(self) -> Masker:
        """Removes the server's credentials from its texts."""
        return self._mask_credentials

    def offers(self, feature: str) -> bool:
        """Whether the server may have announced a feature."""
        return (session := self._live()) is not None and feature in session.offers

    async def page(self, feature: str, cursor: str, subject: str) -> dict[str, Any]:
        """A page of a list of the server, as a user sees it; ConnectionLost, TimeoutError or JsonRpcError otherwise."""
        with within(self._settings.mcp_call_timeout):
            session = await self._connected()
            return await session.page(f"{feature}/list", cursor) if feature in session.offers else {}

    @property
    def busy(self) -> bool:
        """Whether a call is running."""
        return not self._idle.is_set()

    def start(self, after: Collection[asyncio.Task[None]] = ()) -> None:
        """Connects in the background, after these tasks have ended."""
        self._set_status("connecting")
        self._task = asyncio.create_task(self._run(after), context=Context())

    async def close(self) -> None:
        """Disconnects, and waits until a stdio server's process has ended."""
        if self._task is not None:
            if not self._closing:  # a second cancellation would interrupt the shutdown
                self._closing = True
                self._task.cancel()
            await asyncio.wait([self._task])
        self._set_status("disconnected")
        self._tried.set()

    async def drain(self) -> None:
        """Disconnects as soon as no call is running."""
        await self._idle.wait()
        await self.close()

    def state_of(self, listed: Listed, pinned: Mapping[str, pins.Pin] | None = None) -> ToolState:
        """The state of a tool against its pin; with `pin: block`, new and changed tools are withheld from agents."""
        pin = (self.pins if pinned is None else pinned).get(listed.definition.name)
        if self.server.pin == "off" or (pin is not None and pin.digest == listed.digest):
            return "available"
        if self.server.pin == "warn":
            return "changed"
        return "new" if pin is None else "withheld"

    def missing_denied_tools(self) -> tuple[str, ...]:
        """Denied tools that the server no longer offers: it may offer them under another name now."""
        if self.status.status != "connected":
            return ()
        return tuple(tool for tool in self.server.deny_tools if tool in self.pins and tool not in self.tools)

    def awaited(self, seconds: float) -> bool:
        """Whether it may still connect and was disconnected less than `seconds` ago."""
        coming = self.status.status in ("connecting", "error") and self.away_since is not None
        return coming and self._remaining(seconds) > 0

    async def arrive(self, seconds: float) -> None:
        """Waits until it is connected or has been disconnected for `seconds`."""
        self._wake.set()
        with suppress(TimeoutError), within(self._remaining(seconds)):
            while self.awaited(seconds):
                await self._trying().wait()

    def _remaining(self, seconds: float) -> float:
        now = asyncio.get_running_loop().time()
        return (now if self.away_since is None else self.away_since) + seconds - now

    def follow(self, pinned: Mapping[str, pins.Pin], seen: Mapping[str, sightings.Sighting]) -> None:
        """Takes decisions of another node, and lists the tools again if that has seen one which this has not."""
        self.pins, self.sightings = pinned, seen
        digests = {one.digest for one in seen.values()}
        if digests - self._seen:
            self._seen |= digests
            self.relist()

    def relist(self) -> None:
        """Lists the tools again."""
        if (session := self._live()) is not None:
            session.changed.set()

    async def run(self, tool: Definition, call: Call, arguments: dict[str, Any]) -> Result:
        """Calls a tool; every failure is a ToolError for the model."""
        connection = self
        while connection.successor is not None:
            connection = connection.successor
        return await connection._run_call(tool, call, arguments)

    async def _run_call(self, tool: Definition, call: Call, arguments: dict[str, Any]) -> Result:
        self._calls += 1
        self._idle.clear()
        try:
            result = result_of(answer_of(tool, await self._guarded(tool, call, arguments)))
            return replace(result, text=self._mask_credentials(result.text))
        except ToolError as error:
            raise ToolError(self._mask_credentials(str(error)), events=error.events) from None
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def _guarded(self, tool: Definition, call: Call, arguments: dict[str, Any]) -> dict[str, Any]:
        name, breaker = self.server.name, self._breaker
        if not breaker.allows():
            raise ToolError(f"MCP server '{name}' keeps failing; it is tried again in {breaker.remaining():.0f} s")
        try:
            result = await self._call(tool, call, arguments)
        except ConnectionLost as error:
            breaker.failed()
            raise ToolError(f"MCP server '{name}' {error}") from error
        except TimeoutError as error:
            breaker.failed()
            raise ToolError(f"'{tool.name}' of MCP server '{name}' {error}") from error
        except JsonRpcError as error:
            breaker.succeeded()
            raise ToolError(f"MCP server '{name}' refuses the call: {error}") from error
        except BaseException:
            breaker.released()
            raise
        breaker.succeeded()
        return result

    async def _call(self, tool: Definition, call: Call, arguments: dict[str, Any]) -> dict[str, Any]:
        server, stdio = self.server, self.server.type == "stdio"
        method, params = request_of(tool, arguments)
        if method == "tools/call" and not server.allows(call.agent, tool.name):  # the filters may have changed
            raise ToolError(f"'{tool.name}' of MCP server '{server.name}' is denied to the agent '{call.agent}' now")
        forwarded, trace = forwarded_headers(server, call)
        own = {FORWARDED: forwarded} if stdio and forwarded else {}
        for again in (True, False):
            session = await self._connected()
            listed = self.tools.get(tool.name) if method == "tools/call" else None
            if listed is not None and (shut := WITHHELD.get(self.state_of(listed))):
                raise ToolError(f"'{tool.name}' of MCP server '{server.name}' {shut}")
            headers = {} if stdio else trace | forwarded
            if session.version == MODERN and not stdio:
                headers = headers | mirrored(marked(tool.input_schema), arguments)
            try:
                return await session.call(
                    method,
                    params,
                    call=call,
                    meta={CALL_ID: call.call_id, KEY: call.key, **trace, **own},
                    headers=headers,
                    seconds=self._settings.mcp_call_timeout,
                    most=self._settings.mcp_call_max,
                )
            except ConnectionLost as error:
                if isinstance(error, AccessDenied) and server.forward_headers:
                    raise JsonRpcError(0, str(error)) from error  # other callers' headers may have access
                if not isinstance(error, RequestFailed):
                    session.close(error)
                if not again or not isinstance(error, SessionEnded):
                    raise
        raise AssertionError("the second time returns or raises")

    async def _connected(self) -> Session:
        if self._live() is None and self.status.status in ("connecting", "connected", "error"):
            self._wake.set()
            await self.settle(RECONNECT_SECONDS)
        if (session := self._live()) is None:
            raise ConnectionLost(self.status.status_message or "is not connected")
        return session

    def _live(self) -> Session | None:
        return self._session if self._session is not None and self._session.lost is None else None

    async def settle(self, seconds: float) -> None:
        """Waits for the outcome of the current attempt to connect, or else of the next."""
        with suppress(TimeoutError), within(seconds):
            await self._trying().wait()

    def _trying(self) -> asyncio.Event:
        if self._tried.is_set():
            self._tried = asyncio.Event()
        return self._tried

    async def _run(self, after: Collection[asyncio.Task[None]]) -> None:
        if not self.server.enabled or (self.server.type == "stdio" and self._settings.mcp_stdio == "off"):
            self._set_status("disabled", "BYTEBREW_MCP_STDIO is off" if self.server.enabled else "")
            self._tried.set()
            return
        if after:
            await asyncio.wait(after)
        while True:
            begun, before = asyncio.get_running_loop().time(), self._session
            self._set_status("connecting")
            self._wake.clear()
            tried = self._trying()
            error: Exception = ConnectionLost("is gone")
            try:
                async with asyncio.TaskGroup() as group:
                    await self._serve(group)
            except* (ConnectionLost, TimeoutError, EngineError) as many:
                error = many.exceptions[0]
            except* Exception as many:
                log.exception("the connection to MCP server %s failed", self.server.name)
                error = many.exceptions[0]
            if (task := asyncio.current_task()) and task.cancelling():
                return  # a TaskGroup that fails during cancellation raises only the failure
            connected = self._session is not before
            if not connected:
                self._probes = self.server.type != "stdio" or not self._probes
                if not self._probes:
                    continue  # some commands exit on the unknown method server/discover
            if connected and asyncio.get_running_loop().time() - begun > STABLE_SECONDS:
                self.failures = 0
            self.failures += 1
            message = self._mask_values(str(error)) or f"did not begin within {self._settings.mcp_connect_timeout:g} s"
            self._last_error = message, now()
            if message != self._logged_error:
                log.warning("MCP server %s %s", self.server.name, message)
            self._logged_error = message
            if connected and self.failures == 1:
                continue  # the server may have restarted
            self._set_status("error", message)
            tried.set()
            await self._pause()

    async def _serve(self, group: asyncio.TaskGroup) -> NoReturn:
        server = self.server.name
        async with self._transport() as transport:
            responder = Responder(self._engine, self.server, self._mask_credentials)
            session = Session(server, transport, self._mask_credentials, responder)
            reading = group.create_task(transport.read(session.receive))
            try:
                with within(self._settings.mcp_connect_timeout):
                    await session.open(probe=self._probes, probe_seconds=self._settings.mcp_probe_timeout)
                    await self._list(session)
                self._probes = session.version == MODERN
                self._logged_error = ""
                self._session = session
                self._set_status("connected", version=session.version)
                self._tried.set()
                group.create_task(session.listen())
                while True:
                    await session.changed.wait()
                    session.changed.clear()
                    if session.lost is not None:
                        raise session.lost
                    pause = RELIST_SECONDS
                    try:
                        await self._list(session)
                    except RequestFailed as error:
                        log.warning("MCP server %s %s when asked for its tools", server, self._mask_values(str(error)))
                        session.changed.set()
                        pause = RELIST_RETRY_SECONDS
                    self.status = replace(self.status, tools_count=len(self.tools))
                    await asyncio.sleep(pause)
            finally:
                gone = reading.exception() if reading.done() and not reading.cancelled() else None
                session.close(gone if isinstance(gone, ConnectionLost) else ConnectionLost("is gone"))
                reading.cancel()
                self._set_status("connecting")

    async def _list(self, session: Session) -> None:
        seconds = self._settings.mcp_connect_timeout
        try:
            with within(seconds):
                listed = await session.tools()
        except TimeoutError as error:
            raise ConnectionLost(f"did not list its tools within {seconds:g} s") from error
        self._seen |= {one.digest for one in listed.values()}
        strict = self.server.pin == "block"
        if any(pins.is_new(one, self.pins, strict=strict) for one in listed.values()):
            self.pins = await self._engine.db.write(pins.add_new, self.server.id, tuple(listed.values()), strict=strict)
        if sightings.are_news(listed.values(), self.sightings):
            self.sightings = await self._engine.db.write(sightings.note, self.server.id, tuple(listed.values()))
        known, self.tools = self.tools, {name: one for name, one in listed.items() if strict or name in self.pins}
        if len(self.tools) < len(listed):
            log.warning("MCP server %s has shown %d tools; new ones are left out", self.server.name, len(self.pins))
        states = {name: self.state_of(one) for name, one in self.tools.items() if known.get(name) != one}
        shut = {name: WITHHELD.get(state, "has changed") for name, state in states.items() if state != "available"}
        sightings.log_unavailable(self.server.name, shut)

    def _transport(self) -> Transport:
        server, engine = self.server, self._engine
        args, env, headers, self._mask_credentials, self._mask_values = resolve(server, engine)
        if server.type == "stdio":
            return StdioTransport(
                server.name,
                [server.command, *args],
                env,
                memory_kb=self._settings.mcp_stdio_memory_mb * 1024,
                cpu_seconds=math.ceil(self._settings.mcp_stdio_cpu),
                mask=self._mask_values,
                hidden=engine.data_dir,
            )
        if not all(map(is_plain, headers.values())):
            raise ConnectionLost("is to be sent a header or key that is not plain text")
        return (SseTransport if server.type == "sse" else StreamableHttpTransport)(self._http(), server.url, headers)

    def _http(self) -> Requests:
        return self._engine.http

    async def _pause(self) -> None:
        """Waits with exponential backoff, until a call needs the server."""
        longest = min(BACKOFF_SECONDS * (2 ** min(self.failures - 1, 10) - 1), MAX_BACKOFF_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(longest / 2, longest)):  # noqa: S311 - it spreads load
                await self._wake.wait()

    def _set_status(self, state: State, message: str = "", version: str | None = None) -> None:
        connected = state == "connected"
        if connected:
            self.away_since = None
        elif self.away_since is None:
            self.away_since = asyncio.get_running_loop().time()
        self.status = Status(
            status=state,
            status_message=message,
            tools_count=len(self.tools) if connected else 0,
            connected_at=now() if connected else None,
            protocol_version=version,
            tries=self.failures,
            last_error=self._last_error[0] if self._last_error else None,
            last_error_at=self._last_error[1] if self._last_error else None,
        )
