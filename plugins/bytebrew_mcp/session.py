"""One conversation with an MCP server: the version agreed upon, requests and their answers."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from bytebrew import Deadline, Masker, within

from .jsonrpc import (
    CLIENT,
    LEGACY,
    METHOD_NOT_FOUND,
    MODERN,
    MODERN_ERRORS,
    UNSUPPORTED_VERSION,
    ConnectionLost,
    JsonRpcError,
    Message,
    SessionEnded,
    Transport,
    refusal,
)
from .tool_definitions import Listed, Listing

log = logging.getLogger(__name__)

MAX_PAGES = 100
MAX_ROUNDS = 5
MAX_REPLIES = 100
"""Requests of a server that are answered at a time; it waits in vain for an answer to any further one."""
REPLY_SECONDS = 10.0
_PREFIX = "io.modelcontextprotocol/"


class PendingRequest:
    """A request that waits for its answer; progress sets its `clock` to so many seconds from then."""

    def __init__(self, clock: Deadline | None, seconds: float) -> None:
        self.answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.sent = False
        self._clock = clock
        self._seconds = seconds

    def progressed(self) -> None:
        """Begins the time limit anew."""
        if self._clock is not None and not self._clock.over:
            self._clock.at(asyncio.get_running_loop().time() + self._seconds)

    def fail(self, error: ConnectionLost) -> None:
        """Ends the wait: for the answer with the error, for a transport that still sends by the clock."""
        if self.answer.done():
            return
        clock, self._clock = self._clock, None
        if clock is None or self.sent:
            self.answer.set_exception(ConnectionLost(str(error)))
            self.answer.exception()
        elif not clock.over:
            clock.at(asyncio.get_running_loop().time())


class Session:
    """Speaks with one server over one transport; `news` is set when its tools have changed or it is `lost`.

    `mask` takes out of what the server says whatever it was given in confidence.
    """

    def __init__(self, name: str, transport: Transport, mask: Masker) -> None:
        self._name = name
        self._transport = transport
        self._mask = mask
        self._asked: dict[float, PendingRequest] = {}
        self._last = 0
        self._replies: set[asyncio.Task[None]] = set()
        self._left_out = ""
        self.version = ""
        self.lost: ConnectionLost | None = None
        self.news = asyncio.Event()

    async def open(self, *, probe: bool, probe_seconds: float) -> None:
        """Agrees on a version: the stateless one if the server knows it, else through `initialize`."""
        if probe and probe_seconds > 0 and await self._discovers(probe_seconds):
            self._agree(MODERN)
            return
        wanted = {"protocolVersion": LEGACY[0], "capabilities": {}, "clientInfo": CLIENT}
        try:
            result = await self._request("initialize", wanted)
            version = result.get("protocolVersion")
            if version not in LEGACY:
                raise ConnectionLost(
                    f"speaks version {version!r:.40} of the protocol; known are {MODERN}, {', '.join(LEGACY)}"
                )
            self._agree(version)
            await self._transport.send({"jsonrpc": "2.0", "method": "notifications/initialized"}, self.receive, {})
        except JsonRpcError as error:
            if probe and probe_seconds > 0 and await self._discovers(probe_seconds):
                self._agree(MODERN)  # it was not there yet when it was asked
                return
            raise ConnectionLost(f"refuses to begin: {error}") from error

    async def _discovers(self, seconds: float) -> bool:
        """Whether the server speaks the stateless version; whatever goes wrong says that it does not."""
        try:
            with within(seconds):
                result = await self._request("server/discover", {"_meta": _meta()})
        except JsonRpcError as error:
            if error.code not in MODERN_ERRORS:
                return False
            supported = error.data.get("supported") if isinstance(error.data, dict) else None
            if error.code != UNSUPPORTED_VERSION or not isinstance(supported, list):
                raise ConnectionLost(f"refuses to begin: {error}") from error
        except (ConnectionLost, TimeoutError):
            return False
        else:
            supported = result.get("supportedVersions")
        if not isinstance(supported, list):
            return False
        if not any(version in supported for version in (MODERN, *LEGACY)):
            raise ConnectionLost(
                f"speaks versions {supported!r:.100} of the protocol; known are {MODERN}, {', '.join(LEGACY)}"
            )
        return MODERN in supported

    def _agree(self, version: str) -> None:
        self.version = version
        self._transport.agree(version)

    async def tools(self) -> dict[str, Listed]:
        """Every tool that can be used, by name, over all pages; what is broken or too much is logged and left out."""
        listing, cursor = Listing(self._mask, modern=self.version == MODERN), None
        for _ in range(MAX_PAGES):
            try:
                page = await self._request("tools/list", {} if cursor is None else {"cursor": cursor})
            except JsonRpcError as error:
                if error.code == METHOD_NOT_FOUND:
                    break
                raise ConnectionLost(f"does not list its tools: {error}") from error
            cursor = page.get("nextCursor")
            if not listing.take(page.get("tools")) or not isinstance(cursor, str):
                break
        else:
            listing.faults.insert(0, f"all beyond {MAX_PAGES} pages")
        words = "; ".join([*dict.fromkeys(listing.faults)][:20])
        if words and words != self._left_out:
            log.warning("MCP server %s: left out of its tools: %.2000s", self._name, self._mask(words))
        self._left_out = words
        return listing.tools

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
        try:
            with within(most) as whole:
                for _ in range(MAX_ROUNDS):
                    with within(seconds) as clock:
                        result = await self._request(
                            "tools/call", params, meta=meta, headers=headers, clock=clock, seconds=seconds
                        )
                    kind = result.get("resultType", "complete") if self.version == MODERN else "complete"
                    if kind == "complete":
                        return result
                    if kind != "input_required":
                        raise JsonRpcError(0, f"its result is of the unknown type {kind!r:.80}")
                    if result.get("inputRequests") or "requestState" not in result:
                        raise JsonRpcError(0, "it asks for input that nobody here can give")
                    params["requestState"] = result["requestState"]
        except TimeoutError as error:
            if self.lost is not None:
                raise ConnectionLost(str(self.lost)) from error
            late = f"was still at work after {most:g} s" if whole.over else f"did not answer within {seconds:g} s"
            raise TimeoutError(late) from error
        raise JsonRpcError(0, f"it had no result after {MAX_ROUNDS} rounds")

    async def listen(self) -> None:
        """Has the server tell of changes, where the version wants to be asked for that."""
        if self.version != MODERN:
            return
        pause = 1.0
        while True:
            begun = asyncio.get_running_loop().time()
            try:
                await self._request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
            except JsonRpcError:
                return
            except ConnectionLost:
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
        elif message.get("id") is not None:
            if self.version != MODERN:
                self._reply(message["id"], method)
        elif method == "notifications/tools/list_changed":
            self.news.set()
        elif method == "notifications/progress":
            self._progressed(message.get("params"))
        elif method == "notifications/cancelled" and self.version == MODERN:
            self._cancelled(message.get("params"))

    def close(self, error: ConnectionLost) -> None:
        """Fails whatever still waits for the server; where it has forgotten the session, but not what it is sending."""
        self.lost = self.lost or error
        self.news.set()
        for asked in self._asked.values():
            if asked.sent or not isinstance(self.lost, SessionEnded):
                asked.fail(self.lost)
        for reply in self._replies:
            reply.cancel()

    def _answered(self, message: Message) -> None:
        asked = self._waiting(message.get("id"))
        if asked is None or asked.answer.done():
            return
        if isinstance(result := message.get("result"), dict) and message.get("error") is None:
            asked.answer.set_result(result)
        else:
            no_result = JsonRpcError(0, "its answer has no result")
            asked.answer.set_exception(refusal(message["error"]) if "error" in message else no_result)

    def _progressed(self, params: Any) -> None:
        asked = self._waiting(params.get("progressToken")) if isinstance(params, dict) else None
        if asked is not None:
            asked.progressed()

    def _cancelled(self, params: Any) -> None:
        """Ends the wait for what it no longer tells of (2026-07-28); of any other version it means its own requests."""
        asked = self._waiting(params.get("requestId")) if isinstance(params, dict) else None
        if asked is not None:
            asked.fail(ConnectionLost("has cancelled what it was asked"))

    def _waiting(self, number: Any) -> PendingRequest | None:
        return self._asked.get(number) if isinstance(number, int | float) else None  # 7 may come back as 7.0

    def _reply(self, message_id: Any, method: str) -> None:
        if len(self._replies) >= MAX_REPLIES:
            return
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
        clock: Deadline | None = None,
        seconds: float = 0,
    ) -> dict[str, Any]:
        if self.lost is not None:
            raise SessionEnded(str(self.lost))  # before anything was sent
        self._last += 1
        number = self._last
        asked = self._asked[number] = PendingRequest(clock, seconds)
        about = dict(meta or {})
        if clock is not None:
            about["progressToken"] = number
        if self.version == MODERN:
            about |= _meta()
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": dict(params)}
        if about:
            message["params"] = {**params, "_meta": about}
        try:
            await self._transport.send(message, self.receive, headers or {})
            asked.sent = True
            if self.lost is not None and not asked.answer.done():
                raise ConnectionLost(str(self.lost))
            return await asked.answer
        except asyncio.CancelledError:
            leaves = self.version == MODERN and self._transport.stream_each
            if method == "tools/call" and not leaves and self.lost is None:
                cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}
                self._soon(cancelled, headers)
            raise
        finally:
            del self._asked[number]

    def _soon(self, message: Message, headers: Mapping[str, str] | None = None) -> None:
        """Sends what nobody waits for."""

        async def send() -> None:
            try:
                with within(REPLY_SECONDS):
                    await self._transport.send(message, self.receive, headers or {})
            except (ConnectionLost, JsonRpcError, TimeoutError) as error:
                said = self._mask(str(error))
                log.debug("MCP server %s: %s was not taken: %s", self._name, message.get("method", "a reply"), said)

        task = asyncio.create_task(send())
        self._replies.add(task)
        task.add_done_callback(self._replies.discard)


def _meta() -> dict[str, Any]:
    return {
        f"{_PREFIX}protocolVersion": MODERN,
        f"{_PREFIX}clientInfo": CLIENT,
        f"{_PREFIX}clientCapabilities": {},
    }
