"""Connections to MCP servers with OAuth: one for the engine itself, or one for each user who needs it."""

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from bytebrew import Call, Engine, EngineError, Notice, Result, ToolError

from .. import pins
from ..config import ServerRow
from ..connection import RECONNECT_SECONDS, ServerConnection
from ..jsonrpc import ConnectionLost, Transport
from ..pins import Pin
from ..session import Session
from ..tool_definitions import Definition, Listed
from . import store
from .authorized_http import AuthorizedHttp
from .credentials import AUTHORIZATIONS
from .errors import AuthorizationRequired
from .settings import OAuth

log = logging.getLogger(__name__)

MIN_IDLE_SECONDS = 1.0
MOST_LISTS = 1000
"""Users whose last list of tools is remembered for each server."""
REQUIRED = "authorization_required"
CONNECTIONS = "/api/v1/connections"


class AuthorizedConnection(ServerConnection):
    """A connection whose requests carry an access token: with the subject `OWN` one of the engine's own."""

    def __init__(self, engine: Engine, server: ServerRow, pinned: Mapping[str, Pin], subject: str = store.OWN) -> None:
        super().__init__(engine, server, pinned)
        self._access = AuthorizedHttp(engine.http, engine.state[AUTHORIZATIONS], server, subject)

    def _http(self) -> AuthorizedHttp:
        return self._access

    def _transport(self) -> Transport:
        transport = super()._transport()
        credentials, values = self._mask_credentials, self._mask_values
        self._mask_credentials = lambda text: self._access.mask(credentials(text))
        self._mask_values = lambda text: self._access.mask(values(text))
        return transport


class UserConnection(AuthorizedConnection):
    """The connection of one user, opened for a call and closed when it is idle; its tools count as the server's."""

    def __init__(self, engine: Engine, users: "UserConnections", subject: str) -> None:
        self._users = users
        self._listed: dict[str, Listed] = {}
        self._subject = subject
        super().__init__(engine, users.server, users.pins, subject)
        self.sightings = users.sightings
        self.used = asyncio.get_running_loop().time()
        self._failure: Exception | None = None

    @property
    def tools(self) -> dict[str, Listed]:
        """The tools that the server has listed to this user."""
        return self._listed

    @tools.setter
    def tools(self, listed: dict[str, Listed]) -> None:
        self._listed = listed
        if listed:
            self._users.sightings = self.sightings
            self._users.take(self._subject, listed)

    @property
    def pins(self) -> Mapping[str, Pin]:
        """The pins of the server, which are the same for all users."""
        return self._users.pins

    @pins.setter
    def pins(self, pinned: Mapping[str, Pin]) -> None:
        self._users.pins = pinned

    async def _run(self, after: Collection[asyncio.Task[None]]) -> None:
        """Connects once: the next call connects again."""
        self._failure = None
        try:
            async with asyncio.TaskGroup() as group:
                await self._serve(group)
        except* (ConnectionLost, TimeoutError, EngineError) as many:
            self._failure = many.exceptions[0]
        except* Exception as many:
            log.exception("a connection to MCP server %s failed", self.server.name)
            self._failure = many.exceptions[0]
        self._session = None
        self._set_status("error", self._mask_values(str(self._failure)))
        self._tried.set()

    async def _connected(self) -> Session:
        if self._live() is None:
            lost = self._task if self._session is not None else None
            if lost is not None:
                await asyncio.wait([lost])  # a session that was lost ends first
            tried = self._trying()
            if self._task is None or self._task.done():
                self.start()
            try:
                async with asyncio.timeout(RECONNECT_SECONDS + self._settings.mcp_connect_timeout):
                    await tried.wait()
            except TimeoutError as error:
                raise ConnectionLost("does not begin in time") from error
        if (session := self._live()) is None:
            raise self._failure if isinstance(self._failure, ConnectionLost) else ConnectionLost("is not connected")
        return session

    async def _call(self, tool: Definition, call: Call, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            return await super()._call(tool, call, arguments)
        except AuthorizationRequired as error:
            raise required(self.server.name, str(error)) from error

    async def open(self) -> None:
        """Connects, so that the server lists its tools."""
        await self._connected()


class UserConnections(ServerConnection):
    """The users' connections to one server, with the tools that it has listed to any of them."""

    def __init__(self, engine: Engine, server: ServerRow, pinned: Mapping[str, Pin]) -> None:
        super().__init__(engine, server, pinned)
        self._users: dict[str, UserConnection] = {}  # in the order of their last use
        self._offered: dict[str, frozenset[str]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def take(self, subject: str, listed: Mapping[str, Listed]) -> None:
        """Offers what the server has listed to a user, and what it has last listed to others, who may see more."""
        self._offered.pop(subject, None)
        self._offered[subject] = frozenset(listed)
        if len(self._offered) > MOST_LISTS:
            del self._offered[next(name for name in self._offered if name != store.OWN)]
        offered = frozenset().union(*self._offered.values())
        self.tools = {tool: one for tool, one in (self.tools | dict(listed)).items() if tool in offered}
        self._set_status("connected")

    def forget(self, subject: str, *, drains: bool = False) -> None:
        """Closes the connection of a user whose credentials have changed."""
        if (user := self._users.pop(subject, None)) is not None:
            self._end(user.drain() if drains else user.close())

    async def close(self) -> None:
        users = [*self._users.values()]
        self._users.clear()
        await super().close()
        await asyncio.gather(*(user.close() for user in users), *self._ending)

    def relist(self) -> None:
        for user in self._users.values():
            user.relist()

    def offers(self, feature: str) -> bool:
        return True  # the session of the user who calls says it

    async def page(self, feature: str, cursor: str, subject: str) -> dict[str, Any]:
        return await (await self._of(subject)).page(feature, cursor, subject)

    async def open(self, subject: str) -> None:
        """Connects as a user."""
        user = await self._of(subject)
        await user.open()

    async def _run(self, after: Collection[asyncio.Task[None]]) -> None:
        if not self.server.enabled:
            self._set_status("disabled")
            self._tried.set()
            return
        if after:
            await asyncio.wait(after)
        known = await self._engine.db.read(pins.all_definitions, self.server.id)
        if not self.tools:
            self.tools = {tool: _listed(text, self.pins[tool]) for tool, text in known.items() if tool in self.pins}
            self._offered[store.OWN] = frozenset(self.tools)
        if self.tools:
            self._set_status("connected")
        else:
            self._set_status("disconnected", f"waits for a user: POST {CONNECTIONS}/{self.server.name}")
        self._tried.set()
        idle = max(self._engine.settings.of(OAuth).mcp_user_idle, MIN_IDLE_SECONDS)
        while True:
            await asyncio.sleep(idle / 2)
            oldest = asyncio.get_running_loop().time() - idle
            for subject in [name for name, user in self._users.items() if user.used < oldest and not user.busy]:
                self.forget(subject)

    async def _run_call(self, tool: Definition, call: Call, arguments: dict[str, Any]) -> Result:
        self._calls += 1
        self._idle.clear()
        try:
            user = await self._of(call.subject)
            return await user.run(tool, call, arguments)
        except AuthorizationRequired as error:
            raise required(self.server.name, str(error)) from error
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def _of(self, subject: str) -> UserConnection:
        """The connection of a user; AuthorizationRequired without credentials."""
        grant = await self._engine.db.glance(store.find, self.server, subject, self._engine)
        if grant is None or grant.tokens is None:
            raise AuthorizationRequired("needs your authorization" + ("" if grant is None else " again"))
        user = self._users.pop(subject, None)
        if user is None:
            self._make_room()
            user = UserConnection(self._engine, self, subject)
        self._users[subject] = user
        user.server, user.used = self.server, asyncio.get_running_loop().time()
        return user

    def _make_room(self) -> None:
        if len(self._users) < self._engine.settings.of(OAuth).mcp_user_sessions:
            return
        spare = next((name for name, user in self._users.items() if not user.busy), None)
        if spare is None:
            raise ToolError(f"MCP server '{self.server.name}' has as many users at work as it may; try again later")
        self.forget(spare)

    def _end(self, ending: Any) -> None:
        task = asyncio.create_task(ending)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def unauthorized(connections: Iterable[ServerConnection]) -> list[Notice]:
    """A notice for each server whose tools nobody can know before a user has authorized it."""
    waiting = [one for one in connections if isinstance(one, UserConnections) and one.status.status == "disconnected"]
    return [notice(one.server.name, "needs your authorization") for one in waiting]


def connection_to(engine: Engine, server: ServerRow, pinned: Mapping[str, Pin]) -> ServerConnection:
    """The connection to a server, as its kind of authentication needs it."""
    if server.auth_type != "oauth2":
        return ServerConnection(engine, server, pinned)
    return (UserConnections if server.auth_grant == "authorization_code" else AuthorizedConnection)(
        engine, server, pinned
    )


def required(server: str, reason: str) -> ToolError:
    """The error of a call for which a user has to authorize; the client is sent a notice too."""
    told = notice(server, reason)
    return ToolError(told.message, events=(told,))


def notice(server: str, reason: str) -> Notice:
    """What a client is told to do."""
    message = f"MCP server '{server}' {reason}: POST {CONNECTIONS}/{server} returns the address to open"
    return Notice(code=REQUIRED, message=message, names=(server,))


def _listed(text: str, pin: Pin) -> Listed:
    """A tool as it was approved."""
    return Listed(msgspec.json.decode(text, type=Definition), text, pin.digest)
