"""An MCP session: version negotiation, requests, their answers and notifications."""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from bytebrew import Call, Masker, within

from .jsonrpc import (
    CLIENT,
    INTERNAL_ERROR,
    INVALID_REQUEST,
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
    error_of,
)
from .server_requests.active_call import AbandonedCalls, ActiveCall, PendingRequest
from .server_requests.responder import NOBODY, Responder, Round
from .tool_definitions import Listed, Listing

log = logging.getLogger(__name__)

MAX_PAGES = 100
MAX_ROUNDS = 20
MAX_REPLIES = 100
"""Limit of a server's requests that are answered concurrently; further ones get no answer."""
REPLY_SECONDS = 10.0
_PREFIX = "io.modelcontextprotocol/"


class Session:
    """A session with one server over one transport; `changed` is set when its tools have changed or it is `lost`.

    `mask` removes the server's credentials from its texts. `offers` are the features that the server has announced.
    """

    def __init__(self, name: str, transport: Transport, mask: Masker, responder: Responder) -> None:
        self._name = name
        self._transport = transport
        self._mask = mask
        self._responder = responder
        self._active: list[ActiveCall] = []
        self._abandoned = AbandonedCalls()
        self._pending: dict[float, PendingRequest] = {}
        self._last = 0
        self._replies: set[asyncio.Task[None]] = set()
        self._logged_faults = ""
        self.version = ""
        self.offers: Mapping[str, Any] = {}
        self.lost: ConnectionLost | None = None
        self.changed = asyncio.Event()

    async def open(self, *, probe: bool, probe_seconds: float) -> None:
        """Negotiates the version: the stateless one if the server knows it, else through `initialize`."""
        if probe and probe_seconds > 0 and await self._discovers(probe_seconds):
            self._set_version(MODERN)
            return
        wanted = {"protocolVersion": LEGACY[0], "capabilities": self._responder.capabilities, "clientInfo": CLIENT}
        try:
            result = await self._request("initialize", wanted)
            version = result.get("protocolVersion")
            if version not in LEGACY:
                raise ConnectionLost(
                    f"speaks version {version!r:.40} of the protocol; known are {MODERN}, {', '.join(LEGACY)}"
                )
            self._set_version(version)
            self._set_offers(result)
            await self._transport.send({"jsonrpc": "2.0", "method": "notifications/initialized"}, self.receive, {})
        except JsonRpcError as error:
            if probe and probe_seconds > 0 and await self._discovers(probe_seconds):
                self._set_version(MODERN)  # it was not ready for the first probe
                return
            raise ConnectionLost(f"refuses to begin: {error}") from error

    async def _discovers(self, seconds: float) -> bool:
        """Whether the server supports the stateless version; most failures mean that it does not."""
        try:
            with within(seconds):
                result = await self._request("server/discover", {"_meta": self._meta()})
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
            self._set_offers(result)
        if not isinstance(supported, list):
            return False
        if not any(version in supported for version in (MODERN, *LEGACY)):
            raise ConnectionLost(
                f"speaks versions {supported!r:.100} of the protocol; known are {MODERN}, {', '.join(LEGACY)}"
            )
        return MODERN in supported

    def _set_version(self, version: str) -> None:
        self.version = version
        self._transport.agree(version)

    def _set_offers(self, result: Mapping[str, Any]) -> None:
        self.offers = offers if isinstance(offers := result.get("capabilities"), dict) else {}

    async def tools(self) -> dict[str, Listed]:
        """Every usable tool by name, over all pages; invalid and surplus tools are logged and omitted."""
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
        faults = "; ".join([*dict.fromkeys(listing.faults)][:20])
        if faults and faults != self._logged_faults:
            log.warning("MCP server %s: left out of its tools: %.2000s", self._name, self._mask(faults))
        self._logged_faults = faults
        return listing.tools

    async def page(self, method: str, cursor: str) -> dict[str, Any]:
        """A page of one of the server's lists."""
        return await self._request(method, {"cursor": cursor} if cursor else {})

    async def call(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        call: Call,
        meta: Mapping[str, Any],
        headers: Mapping[str, str],
        seconds: float,
        most: float,
    ) -> dict[str, Any]:
        """The result of a method that may need input; TimeoutError after `seconds` without progress or `most` in total.

        While the server waits for what it has requested, both limits pause.
        """
        needed = msgspec.json.decode(call.resume_state, type=Round) if call.resume_state else None
        if needed is not None and self.version != MODERN:
            raise JsonRpcError(0, "it cannot go on with a call from before it went back to an older protocol")
        try:
            with within(most) as whole:
                active = ActiveCall(call, headers, seconds, whole, most)
                self._active.append(active)
                try:
                    return await self._rounds(method, dict(params), active, needed, meta=meta, seconds=seconds)
                finally:
                    self._active.remove(active)
                    active.close()
        except TimeoutError as error:
            if self.lost is not None:
                raise ConnectionLost(str(self.lost)) from error
            late = f"was still at work after {most:g} s" if whole.over else f"did not answer within {seconds:g} s"
            raise TimeoutError(late) from error

    async def _rounds(
        self,
        method: str,
        params: dict[str, Any],
        active: ActiveCall,
        needed: Round | None,
        *,
        meta: Mapping[str, Any],
        seconds: float,
    ) -> dict[str, Any]:
        """The result of a call, after as many rounds as the server needs (2026-07-28: `input_required`)."""
        for _ in range(MAX_ROUNDS):
            if needed is not None:
                params.pop("inputResponses", None)
                params.pop("requestState", None)
                if needed.requests:
                    params["inputResponses"] = await self._responder.go_on(needed, active)
                if needed.state is not None:
                    params["requestState"] = needed.state
            try:
                with within(seconds) as active.clock:
                    result = await self._request(method, params, meta=meta, active=active, seconds=seconds)
            except JsonRpcError as error:
                if self.version == MODERN or not await self._responder.visit(error, active):
                    raise
                continue
            finally:
                active.clock = None
            needed = self._needed(result)
            if needed is None:
                return result
        raise JsonRpcError(0, f"it had no result after {MAX_ROUNDS} rounds")

    def _needed(self, result: Mapping[str, Any]) -> Round | None:
        """What the server needs before it has a result; None if this is one."""
        kind = result.get("resultType", "complete") if self.version == MODERN else "complete"
        if kind == "complete":
            return None
        if kind != "input_required":
            raise JsonRpcError(0, f"its result is of the unknown type {kind!r:.80}")
        requests, state = result.get("inputRequests") or {}, result.get("requestState")
        if not isinstance(requests, dict) or not (requests or isinstance(state, str)):
            raise JsonRpcError(0, NOBODY)
        return Round(requests, state if isinstance(state, str) else None)

    async def listen(self) -> None:
        """Subscribes to changes of the tool list, if the version requires a subscription."""
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
            self.changed.set()  # the list may have changed between two subscriptions

    def receive(self, message: Message, active: ActiveCall | None = None) -> None:
        """Processes one message from the server; one on the stream of a call's answer belongs to that call."""
        method = message.get("method")
        if not isinstance(method, str):
            self._answered(message)
        elif message.get("id") is not None:
            if self.version != MODERN:
                self._reply(message["id"], method, message.get("params"), active)
        elif method == "notifications/tools/list_changed":
            self.changed.set()
        elif method == "notifications/progress":
            self._progressed(message.get("params"))
        elif method == "notifications/cancelled":
            self._cancelled(message.get("params"))

    def close(self, error: ConnectionLost) -> None:
        """Fails the pending requests; after SessionEnded, those still being sent may yet succeed."""
        self.lost = self.lost or error
        self.changed.set()
        for pending in self._pending.values():
            if pending.sent or not isinstance(self.lost, SessionEnded):
                pending.fail(self.lost)
        for reply in self._replies:
            reply.cancel()

    def _answered(self, message: Message) -> None:
        self._abandoned.ended(message.get("id"))
        pending = self._waiting(message.get("id"))
        if pending is None or pending.answer.done():
            return
        if isinstance(result := message.get("result"), dict) and message.get("error") is None:
            pending.answer.set_result(result)
        else:
            no_result = JsonRpcError(0, "its answer has no result")
            pending.answer.set_exception(error_of(message["error"]) if "error" in message else no_result)

    def _progressed(self, params: Any) -> None:
        pending = self._waiting(params.get("progressToken")) if isinstance(params, dict) else None
        if pending is not None:
            pending.progressed()

    def _cancelled(self, params: Any) -> None:
        """Fails a subscription that the server has cancelled (2026-07-28), or stops to answer a request of it."""
        number = params.get("requestId") if isinstance(params, dict) else None
        if self.version != MODERN:
            for active in self._active if isinstance(number, str | int) else ():
                if (task := active.tasks.pop(number, None)) is not None:
                    task.cancel()
            return
        if (pending := self._waiting(number)) is not None:
            pending.fail(ConnectionLost("has cancelled what it was asked"))

    def _waiting(self, number: Any) -> PendingRequest | None:
        return self._pending.get(number) if isinstance(number, int | float) else None  # 7 may come back as 7.0

    def _reply(self, message_id: Any, method: str, params: Any, active: ActiveCall | None) -> None:
        if len(self._replies) >= MAX_REPLIES:
            return
        reply: Message = {"jsonrpc": "2.0", "id": message_id}
        if method == "ping":
            reply["result"] = {}
        elif not isinstance(message_id, str | int) or not self._responder.offers(method):
            reply["error"] = {"code": METHOD_NOT_FOUND, "message": f"This client does not offer {method[:100]}"}
        elif (active := active or self._only_active()) is None:
            reply["error"] = {"code": INVALID_REQUEST, "message": "It is not clear for which call this is"}
        else:
            self._answer_soon(reply, method, params, active)
            return
        self._send_soon(reply, active.headers if active else None)

    def _only_active(self) -> ActiveCall | None:
        """The oldest of the calls that run, if all are of one turn: then the request cannot be for another person."""
        turns = {active.call.turn_id for active in self._active} | self._abandoned.turns()
        return self._active[0] if self._active and len(turns) == 1 else None

    def _answer_soon(self, reply: Message, method: str, params: Any, active: ActiveCall) -> None:
        """Answers a request of the server in the background; at the end of the call it is dismissed."""
        if reply["id"] in active.tasks:  # it has asked that already
            return

        async def answer() -> None:
            try:
                reply["result"] = await self._responder.answer(method, params, active)
            except JsonRpcError as error:
                reply["error"] = {"code": error.code or INTERNAL_ERROR, "message": str(error)}
            except asyncio.CancelledError:
                if self.lost is None and reply["id"] in active.tasks:  # the server has not cancelled it itself
                    self._send_soon(reply | self._responder.dismissal(method), active.headers)
                raise
            self._send_soon(reply, active.headers)

        task = asyncio.create_task(answer())
        active.tasks[reply["id"]] = task
        self._replies.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._replies.discard(task)
            active.tasks.pop(reply["id"], None)
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("a request of MCP server %s failed", self._name, exc_info=error)

        task.add_done_callback(ended)

    async def _request(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        meta: Mapping[str, Any] | None = None,
        active: ActiveCall | None = None,
        seconds: float = 0,
    ) -> dict[str, Any]:
        if self.lost is not None:
            raise SessionEnded(str(self.lost))  # nothing was sent
        self._last += 1
        number = self._last
        clock, headers = (active.clock, active.headers) if active else (None, {})
        pending = self._pending[number] = PendingRequest(clock, seconds, active)
        meta = dict(meta or {})
        if clock is not None:
            meta["progressToken"] = number
        if self.version == MODERN:
            meta |= self._meta()
        sent = {**params, "_meta": meta} if meta else dict(params)
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": sent}
        try:
            await self._transport.send(message, partial(self.receive, active=active), headers)
            pending.sent = True
            if self.lost is not None and not pending.answer.done():
                raise ConnectionLost(str(self.lost))
            return await pending.answer
        except asyncio.CancelledError:
            self._abandoned.add(number, active)
            leaves = self.version == MODERN and self._transport.stream_each
            if active is not None and not leaves and self.lost is None:
                cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}
                self._send_soon(cancelled, headers)
            raise
        finally:
            del self._pending[number]

    def _send_soon(self, message: Message, headers: Mapping[str, str] | None = None) -> None:
        """Sends a message in the background."""

        async def send() -> None:
            try:
                with within(REPLY_SECONDS):
                    await self._transport.send(message, self.receive, headers or {})
            except (ConnectionLost, JsonRpcError, TimeoutError) as error:
                method = message.get("method", "a reply")
                log.debug("MCP server %s: %s was not taken: %s", self._name, method, self._mask(str(error)))

        task = asyncio.create_task(send())
        self._replies.add(task)
        task.add_done_callback(self._replies.discard)

    def _meta(self) -> dict[str, Any]:
        return {
            f"{_PREFIX}protocolVersion": MODERN,
            f"{_PREFIX}clientInfo": CLIENT,
            f"{_PREFIX}clientCapabilities": self._responder.capabilities,
        }
