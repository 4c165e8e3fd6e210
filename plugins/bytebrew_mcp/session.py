"""One conversation with an MCP server: the version agreed upon, requests and their answers."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from .params import marked
from .words import (
    CLIENT,
    LEGACY,
    METHOD_NOT_FOUND,
    MODERN,
    MODERN_ERRORS,
    UNSUPPORTED_VERSION,
    Channel,
    Lost,
    Message,
    Refused,
    refusal,
)

log = logging.getLogger(__name__)

MAX_PAGES = 100
MAX_ROUNDS = 5
_PREFIX = "io.modelcontextprotocol/"


class Hints(Struct, frozen=True, rename="camel"):
    """What a server says of how a tool behaves."""

    read_only_hint: bool | None = None
    destructive_hint: bool | None = None
    idempotent_hint: bool | None = None


class Definition(Struct, frozen=True, rename="camel"):
    """A tool as its server lists it."""

    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    annotations: Hints | None = None


class Asked:
    """A request that waits for its answer; progress sets its `clock` to so many seconds from then."""

    def __init__(self, clock: asyncio.Timeout | None, seconds: float) -> None:
        self.answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._clock = clock
        self._seconds = seconds

    def progressed(self) -> None:
        """Begins the time limit anew."""
        if self._clock is not None and not self._clock.expired():
            self._clock.reschedule(asyncio.get_running_loop().time() + self._seconds)


class Session:
    """Speaks with one server over one channel; `news` is set when its tools have changed or it is `lost`."""

    def __init__(self, name: str, channel: Channel) -> None:
        self._name = name
        self._channel = channel
        self._asked: dict[int, Asked] = {}
        self._last = 0
        self._replies: set[asyncio.Task[None]] = set()
        self.version = ""
        self.lost: Lost | None = None
        self.news = asyncio.Event()

    async def open(self, *, probe: bool, probe_seconds: float) -> None:
        """Agrees on a version: the stateless one if the server knows it, else by `initialize`; Lost if on none."""
        if probe and probe_seconds > 0 and await self._discovers(probe_seconds):
            self._agree(MODERN)
            return
        wanted = {"protocolVersion": LEGACY[0], "capabilities": {}, "clientInfo": CLIENT}
        try:
            result = await self._request("initialize", wanted)
        except Refused as error:
            raise Lost(f"refuses to begin: {error}") from error
        version = result.get("protocolVersion")
        if version not in LEGACY:
            raise Lost(f"speaks version {version!r:.40} of the protocol; known are {MODERN}, {', '.join(LEGACY)}")
        self._agree(version)
        await self._notify("notifications/initialized")

    async def _discovers(self, seconds: float) -> bool:
        """Whether the server speaks the stateless version; whatever goes wrong says that it does not."""
        try:
            async with asyncio.timeout(seconds):
                result = await self._request("server/discover", {"_meta": _meta()})
        except Refused as error:
            if error.code not in MODERN_ERRORS:
                return False
            supported = error.data.get("supported") if isinstance(error.data, dict) else None
            if error.code != UNSUPPORTED_VERSION or not isinstance(supported, list):
                raise Lost(f"refuses to begin: {error}") from error
        except (Lost, TimeoutError):
            return False
        else:
            supported = result.get("supportedVersions")
        known = supported if isinstance(supported, list) else []
        if MODERN not in known and not set(LEGACY) & {one for one in known if isinstance(one, str)}:
            raise Lost(f"speaks versions {known!r:.100} of the protocol; known are {MODERN}, {', '.join(LEGACY)}")
        return MODERN in known

    def _agree(self, version: str) -> None:
        self.version = version
        self._channel.agree(version)

    async def tools(self) -> list[Definition]:
        """Every tool that can be used, over all pages; one whose definition is broken is logged and left out."""
        found: list[Definition] = []
        cursor = None
        for _ in range(MAX_PAGES):
            try:
                page = await self._request("tools/list", {} if cursor is None else {"cursor": cursor})
            except Refused as error:
                if error.code == METHOD_NOT_FOUND:
                    return []
                raise Lost(f"does not list its tools: {error}") from error
            found += self._definitions(page.get("tools"))
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str):
                break
        return found

    def _definitions(self, listed: Any) -> Iterator[Definition]:
        for one in listed if isinstance(listed, list) else []:
            try:
                definition = msgspec.convert(one, Definition)
                if definition.input_schema.get("type", "object") != "object":
                    raise ValueError("its inputSchema is not of type object")
                if self.version == MODERN:
                    marked(definition.input_schema)
                yield definition
            except (ValueError, RecursionError) as error:
                name = one.get("name") if isinstance(one, dict) else one
                log.warning("MCP server %s: the tool %.80r is left out: %s", self._name, name, error)

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        meta: Mapping[str, Any],
        headers: Mapping[str, str],
        seconds: float,
        most: float,
    ) -> dict[str, Any]:
        """The result of a tool; TimeoutError after the seconds without progress, or at the most that there may be."""
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        async with asyncio.timeout(most):
            for _ in range(MAX_ROUNDS):
                async with asyncio.timeout(seconds) as clock:
                    result = await self._request(
                        "tools/call", params, meta=meta, headers=headers, clock=clock, seconds=seconds
                    )
                if result.get("resultType") != "input_required":
                    return result
                if result.get("inputRequests") or "requestState" not in result:
                    raise Refused(0, "it asks for input that nobody here can give")
                params["requestState"] = result["requestState"]
        raise Refused(0, f"it had no result after {MAX_ROUNDS} rounds")

    async def listen(self) -> None:
        """Has the server tell of changes, where the version wants to be asked for that."""
        if self.version != MODERN:
            return
        pause = 1.0
        while True:
            begun = asyncio.get_running_loop().time()
            try:
                await self._request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
            except Refused:
                return
            except Lost:
                if self.lost is not None:
                    return
            pause = 1.0 if asyncio.get_running_loop().time() - begun > 60 else min(pause * 2, 60.0)
            await asyncio.sleep(pause)
            self.news.set()  # it may have changed while nobody listened

    def receive(self, message: Message) -> None:
        """Takes in one message from the server."""
        method = message.get("method")
        if not isinstance(method, str):
            self._answered(message)
        elif "id" in message:
            if self.version != MODERN:
                self._reply(message["id"], method)
        elif method == "notifications/tools/list_changed":
            self.news.set()
        elif method == "notifications/progress":
            self._progressed(message.get("params"))

    def close(self, error: Lost) -> None:
        """Fails whatever still waits for the server."""
        self.lost = self.lost or error
        self.news.set()
        for asked in self._asked.values():
            if not asked.answer.done():
                asked.answer.set_exception(type(error)(str(error)))
                asked.answer.exception()
        for reply in self._replies:
            reply.cancel()

    def _answered(self, message: Message) -> None:
        asked = self._asked.get(message["id"]) if isinstance(message.get("id"), int) else None
        if asked is None or asked.answer.done():
            return
        if "error" in message:
            asked.answer.set_exception(refusal(message["error"]))
        else:
            result = message.get("result")
            asked.answer.set_result(result if isinstance(result, dict) else {})

    def _progressed(self, params: Any) -> None:
        token = params.get("progressToken") if isinstance(params, dict) else None
        asked = self._asked.get(token) if isinstance(token, int) else None
        if asked is not None:
            asked.progressed()

    def _reply(self, message_id: Any, method: str) -> None:
        reply: Message = {"jsonrpc": "2.0", "id": message_id}
        if method == "ping":
            reply["result"] = {}
        else:
            reply["error"] = {"code": METHOD_NOT_FOUND, "message": f"This client does not offer {method[:100]}"}
        self._soon(reply)

    async def _request(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        meta: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        clock: asyncio.Timeout | None = None,
        seconds: float = 0,
    ) -> dict[str, Any]:
        if self.lost is not None:
            raise type(self.lost)(str(self.lost))
        self._last += 1
        number = self._last
        asked = self._asked[number] = Asked(clock, seconds)
        about = dict(meta or {})
        if clock is not None:
            about["progressToken"] = number
        if self.version == MODERN:
            about |= _meta()
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": dict(params)}
        if about:
            message["params"] = {**params, "_meta": about}
        try:
            await self._channel.send(message, self.receive, headers or {})
            return await asked.answer
        except asyncio.CancelledError:
            if method == "tools/call" and not (self.version == MODERN and self._channel.stream_each):
                self._soon({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}})
            raise
        finally:
            del self._asked[number]

    async def _notify(self, method: str) -> None:
        await self._channel.send({"jsonrpc": "2.0", "method": method}, self.receive, {})

    def _soon(self, message: Message) -> None:
        """Sends what nobody waits for."""

        async def send() -> None:
            try:
                await self._channel.send(message, self.receive, {})
            except (Lost, Refused) as error:
                log.debug("MCP server %s: %s was not taken: %s", self._name, message.get("method", "a reply"), error)

        task = asyncio.create_task(send())
        self._replies.add(task)
        task.add_done_callback(self._replies.discard)


def _meta() -> dict[str, Any]:
    return {
        f"{_PREFIX}protocolVersion": MODERN,
        f"{_PREFIX}clientInfo": CLIENT,
        f"{_PREFIX}clientCapabilities": {},
    }
