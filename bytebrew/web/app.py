"""The ASGI application: routing, headers, errors, and the steps of one request."""

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing, closing
from functools import partial
from typing import Any

import msgspec
from starlette.routing import Router, compile_path
from starlette.types import Message, Receive, Scope, Send

from bytebrew.base.errors import (
    Draining,
    EngineError,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    Unauthorized,
    UnsupportedMediaType,
)
from bytebrew.base.formats import canonical_id, headers_by_name, new_id
from bytebrew.base.logs import trace_id
from bytebrew.base.validation import ESCAPED_NUL, MAX_DEPTH, check_shape, check_text
from bytebrew.contract.events import LastFrame
from bytebrew.contract.face import CONVERSATIONS
from bytebrew.contract.route import ANYONE, Face, Reply, Request, Route, Stream, check_name, routes_by_path, taken_names
from bytebrew.engine import Engine
from bytebrew.web import cors, early_answer, idempotency, query, recorded_changes, tickets
from bytebrew.web.admission import PLACES, BodyReader, Place
from bytebrew.web.body_fields import Body, unfit
from bytebrew.web.faces.conversations import Conversations
from bytebrew.web.http_state import HttpState, http_state
from bytebrew.web.idempotency import HEADER, digest_of, repeats
from bytebrew.web.public_view import PublicView
from bytebrew.web.routes import every
from bytebrew.web.routes.versions import keep_versions, section_of
from bytebrew.web.server.presence import Presence

log = logging.getLogger(__name__)

CROWDED = "crowded"
"""Key in the state of a connection above the limit, which gets only the health check."""
HEALTH = "/api/v1/health"
SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
Methods = Mapping[str, Route]
STREAM_HEADERS = {"content-type": "text/event-stream", "cache-control": "no-cache", "x-accel-buffering": "no"}
_FAILED = "The engine failed; its log has the trace"


class Application:
    """An engine as an ASGI application."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._state = state = http_state(engine)
        self.routes = every(engine)
        state.tickets.offer(self.routes)
        by_path = routes_by_path(self.routes)
        taken = taken_names(by_path)
        keys = {path.rpartition("/{")[0]: path.rpartition("/{")[2][:-1] for path in by_path if path.endswith("}")}
        endpoints: dict[str, Endpoint] = {}
        public, engine.state[CONVERSATIONS] = PublicView(engine), Conversations(engine)
        for path, methods in by_path.items():
            names = taken.get(path) or taken.get(path.rpartition("/{")[0], frozenset())
            endpoints[path] = Endpoint(engine, state, public, methods, keys.get(path, "id"), names)
            endpoints[path].section = section_of(engine, path)
        self._plain = {path: endpoint for path, endpoint in endpoints.items() if "{" not in path}
        streaming = {path for path, methods in by_path.items() if any(route.streams for route in methods.values())}
        ordered = sorted(endpoints, key=lambda path: path not in streaming)
        patterns = [(_own_step(path), compile_path(path)[0], endpoints[path]) for path in ordered if "{" in path]
        self._patterns = {
            step: [(pattern, endpoint) for own, pattern, endpoint in patterns if own in (step, "")]
            for step in {"", *(own for own, _, _ in patterns)}
        }
        self._lifespan = Router()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            error = NotFound("Nothing here speaks WebSocket; chats and events are streams of Server-Sent Events")
            await _answer(early_answer.denial(send), error.status, error.body(), {})
            return
        if scope["type"] != "http":
            await self._lifespan(scope, receive, send)
            return
        if self._state.proxies:
            self._state.proxies.apply(scope)
        trace_id.set(request_id := new_id("req"))
        started = time.monotonic()
        exchange = Exchange(scope, receive, send, request_id)
        if origins := self._state.origins:
            sent = headers_by_name(scope["headers"])
            if scope["method"] == "OPTIONS" and cors.is_preflight(sent):
                lines = cors.preflight(sent, origins, self._state.page_headers)
                await exchange.send({"type": "http.response.start", "status": 204, "headers": lines})
                await exchange.send({"type": "http.response.body", "body": b""})
                return
            exchange.headers = cors.headers(sent.get("origin", ""), origins)
        try:
            await self._respond(scope, exchange)
        finally:
            exchange.close()
            await self._record(scope, exchange.status, time.monotonic() - started)

    async def _respond(self, scope: Scope, exchange: "Exchange") -> None:
        """Routes the request, and converts every error into an answer."""
        try:
            self._check_crowd(scope)
            scope["endpoint"], scope["path_params"] = endpoint, _ = self._find(scope["path"])
            await endpoint(scope, exchange.receive, exchange.send)
        except EngineError as error:
            await _refuse(exchange.send, scope, error)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if exchange.status:
                raise
            await _refuse(exchange.send, scope, EngineError(_FAILED))

    def _find(self, path: str) -> "tuple[Endpoint, dict[str, str]]":
        """The endpoint at a path, with the parameters in it; raises NotFound."""
        if (endpoint := self._plain.get(path)) is not None:
            return endpoint, {}
        for pattern, endpoint in self._patterns.get(_step(path), self._patterns[""]):
            if match := pattern.match(path):
                return endpoint, match.groupdict()
        raise NotFound(f"There is nothing at {path[:500]}; the API is at /api/v1, and /docs describes it")

    def _check_crowd(self, scope: Scope) -> None:
        """Raises Overloaded for a connection above the limit, except for the health check."""
        if (full := self._state.admission.crowd) and CROWDED in scope.get("state", {}) and scope["path"] != HEALTH:
            raise Overloaded(full, closes=scope["http_version"] != "2")

    async def _record(self, scope: Scope, status: int, seconds: float) -> None:
        """Logs the request, and notifies observers."""
        log.debug("%s %s %d", scope["method"], scope["path"], status)
        endpoint = scope.get("endpoint")
        path = endpoint.path if isinstance(endpoint, Endpoint) else ""
        await self._engine.notify("request_answered", method=scope["method"], path=path, status=status, seconds=seconds)


class Exchange:
    """One request and its response, to which the headers of every response are added."""

    __slots__ = ("_receive", "_request_id", "_scope", "_send", "_unread", "_whole", "headers", "status")

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        self.headers: list[tuple[bytes, bytes]] = []  # in addition to those of every response
        self.status = 0  # until the response starts
        self._scope, self._receive, self._send, self._request_id = scope, receive, send, request_id
        self._whole = False
        self._unread: early_answer.UnreadBody | None = None

    async def receive(self) -> Message:
        """The next ASGI message of the request."""
        message = await (self._unread.receive() if self._unread else self._receive())
        self._whole = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Sends an ASGI message of the response."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = _complete(self._scope, message["headers"], self._request_id) + self.headers
            if not self._whole and early_answer.may_have_body(self._scope):
                self._unread = early_answer.UnreadBody(self._receive, self._send)
        await (self._unread.send if self._unread else self._send)(message)

    def close(self) -> None:
        """Stops reading the request."""
        if self._unread:
            self._unread.close()


class Endpoint:
    """The routes of one path: authenticates, runs the guards, decodes, runs the route and encodes."""

    def __init__(
        self, engine: Engine, state: HttpState, public: PublicView, methods: Methods, key: str, taken: frozenset[str]
    ) -> None:
        self._engine, self._state, self._public, self._methods = engine, state, public, methods
        self.path = next(iter(methods.values())).path
        self._taken = taken
        self._resource = recorded_changes.Resource(methods.get("GET"), key)
        self.section = ""  # of the configuration, whose items it changes
        self.face = next(iter(methods.values())).face
        with_body = {method: route for method, route in methods.items() if route.body is not None}
        self._bodies = {method: Body(route, methods.get("GET")) for method, route in with_body.items()}
        self._decoders = {method: msgspec.json.Decoder(route.body) for method, route in with_body.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        route = self._methods.get("GET" if method == "HEAD" else method)
        if route is None:
            allowed = ", ".join(sorted(self._methods))
            raise MethodNotAllowed(f"{scope['path']} knows {allowed}", headers={"Allow": allowed})
        if self._engine.runner.draining and route.scope is not None:
            raise Draining
        place = self._state.admission.enter(scope.get("state", {}).get(PLACES)) if route.begins_turn else None
        try:
            await self._answer(scope, receive, send, route, place)
        finally:
            if place is not None:
                place.free()

    async def _answer(self, scope: Scope, receive: Receive, send: Send, route: Route, place: Place | None) -> None:
        engine, method, client, server = self._engine, scope["method"], scope.get("client"), scope.get("server")
        sent = headers_by_name(scope["headers"])
        scope["path_params"] = {name: canonical_id(value) for name, value in scope["path_params"].items()}
        request: Request[Any] = Request(
            engine=engine,
            actor=ANYONE,
            path=scope["path_params"],
            query=query.parse(scope["query_string"]) if scope["query_string"] else {},
            headers=sent,
            body=None,
            client=client[0] if client else "",
            scheme=scope["scheme"],
            host=scope.get("host") or sent.get("host", ""),
            connection=(tuple(scope.get("peer", client)), tuple(server)) if client and server else None,
            method=method,
            url_path=scope["path"],
            http_version=scope["http_version"],
            place=place,
        )
        headers: dict[str, str] = {}
        try:
            has_ticket = bool(request.query) and self._state.tickets.redeem(request, route)
            await self._state.access.require(request, route)
            run = partial(self._run, request, route, scope, receive, headers)
            viewed = route.scope is not None and "admin" not in request.actor.scopes
            answer = await (self._public.run(request, route, run) if viewed else run())
            headers |= tickets.answer_headers(answer) if has_ticket else {}
            if place is not None:
                place.free()
        except (Unauthorized, Forbidden) as error:
            action = recorded_changes.refused(request, route, error)
            self._state.refusals.note(action.client, action.resource, action.status, action.reason)
            await engine.notify("actor_acted", action=action)
            raise
        if isinstance(answer, Stream):
            del run  # frees its memory while the stream waits
            if method == "HEAD":
                await answer.frames.aclose()
            self._state.streams += 1
            answer.frames = self._state.access.while_live(request, route, answer.frames)
            try:
                await _stream(answer, headers, scope, receive, send, route.face)
            finally:
                self._state.streams -= 1
        elif isinstance(answer, Reply):
            await _answer(send, answer.status, answer.body, headers | answer.headers)
        else:
            await _answer(send, 204 if answer is None else route.status, answer, headers)

    async def _run(
        self, request: Request[Any], route: Route, scope: Scope, receive: Receive, headers: dict[str, str]
    ) -> Any:
        if guards := [guard for guard in self._engine.guards if guard.active]:
            request.repeats = await repeats(request, route)
        for guard in guards:
            headers |= await guard.check(request, route) or {}
        if request.query or "\0" in request.url_path:
            query.check(request, route)
        keyed = route.idempotent and not route.stream_body and HEADER in request.headers
        if route.body is None and not route.stream_body:
            return await self._perform(request, route, digest_of(scope["query_string"], b"") if keyed else b"")
        core, raw = self._engine.settings.core, b""
        passed_on = route.stream_body and not route.in_memory
        held = None if passed_on else self._state.bodies if route.scope else self._state.public_bodies
        limit = core.max_upload_bytes if route.upload or passed_on else core.max_body_bytes
        with closing(BodyReader(receive, request.headers, limit, held)) as body:
            if route.in_memory:
                body.check()  # before the database is read for an unauthenticated caller
            if route.stream_body:
                request.body = body
            else:
                raw = await body.whole()
                request.body = await self._decode(request, route, raw)
                if self._taken:
                    check_name(getattr(request.body, "name", None), self._taken)
            digest = digest_of(scope["query_string"], raw) if keyed else b""
            raw = b""  # frees the memory, as the turn may wait for long
            if route.begins_turn:
                body.close()  # from now on its memory counts as the turn's
            return await self._perform(request, route, digest)

    async def _perform(self, request: Request[Any], route: Route, digest: bytes) -> Any:
        engine, change = self._engine, None
        changes = (route.method != "GET" or route.names_person) and not route.streams and route.face is None
        if changes and engine.observers.record_actions:
            change = recorded_changes.Change(request, route, self._resource, engine.record)
            request.records += (change.record,)
        if self.section and route.method != "GET" and not route.streams:
            request.records += (partial(keep_versions, request, self.section),)
        if digest or change:
            run = partial(recorded_changes.perform, request, route, change)
            answer = await (idempotency.answer(request, route, run, digest) if digest else run())
        else:
            answer = await route.run(request)
        if request.query:
            answer = query.paged(answer, request.query, route)
        if change and change.action:  # no action for a repeat, which is answered from the database
            await engine.notify("actor_acted", action=change.action)
        return answer

    async def _decode(self, request: Request[Any], route: Route, raw: bytes) -> Any:
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            raise UnsupportedMediaType("Send the body with Content-Type: application/json")
        if len(raw) > MAX_DEPTH:
            check_shape(raw)
        if ESCAPED_NUL in raw:
            check_text(raw)
        body = self._bodies[route.method]
        if not body.is_plain:
            return await body.read(request, raw)
        try:
            return self._decoders[route.method].decode(raw or b"{}")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise unfit(error, route.body) from error


def _step(path: str) -> str:
    """The first segment of a path, of the API the first after its version: few patterns share it."""
    return path.removeprefix("/api/v1")[1:].partition("/")[0]


def _own_step(pattern: str) -> str:
    """The step that all paths of a pattern have; nothing if they differ in it."""
    start = pattern.partition("{")[0]
    return _step(start) if _step(start) == _step(f"{start}x") and not "/api/v1/".startswith(start) else ""


async def _answer(send: Send, status: int, body: Any, headers: Mapping[str, str]) -> None:
    raw = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
    own = {name.lower(): value for name, value in headers.items() if name.lower() != "content-length"}
    lines = [(name.encode(), value.encode("latin-1", "replace")) for name, value in own.items()]
    if raw and "content-type" not in own:
        lines.append((b"content-type", b"application/json"))
    if status not in (204, 304):  # as of a 304 it would be that of a 200 (RFC 9110 section 8.6)
        lines.append((b"content-length", str(len(raw)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": raw})


async def _refuse(send: Send, scope: Scope, error: EngineError) -> None:
    endpoint = scope.get("endpoint")
    reply = early_answer.refusal(error, endpoint.face if isinstance(endpoint, Endpoint) else None)
    await _answer(send, reply.status, reply.body, reply.headers)


async def _stream(
    stream: Stream, headers: dict[str, str], scope: Scope, receive: Receive, send: Send, face: Face | None
) -> None:
    """Sends frames until they end or the client disconnects."""
    stream.headers = {name.lower(): value for name, value in stream.headers.items()}
    headers = STREAM_HEADERS | headers | stream.headers
    kind, more = headers["content-type"], True
    async with aclosing(stream.frames) as frames:
        lines = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": lines})
        del lines, headers  # frees their memory while the stream waits, as does the `del` below
        if kind == STREAM_HEADERS["content-type"]:
            await send({"type": "http.response.body", "body": b": ok\n\n", "more_body": True})
        async with Presence(scope, receive):
            try:
                async for chunk in frames:
                    more = not isinstance(chunk, LastFrame)
                    await send({"type": "http.response.body", "body": chunk, "more_body": more})
                    del chunk
            except EngineError as error:
                await send(early_answer.ending(kind, stream.headers, error, face))
            except Exception:
                log.exception("a stream failed")
                await send(early_answer.ending(kind, stream.headers, EngineError(_FAILED), face))
    if more:
        await send({"type": "http.response.body", "body": b""})


def _complete(scope: Scope, headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """A response's headers with those of every response; a route's own take precedence."""
    lines = [line for line in headers if line[0] != b"transfer-encoding"]  # which the server chooses
    own = {name for name, _ in lines}
    lines += [*(line for line in SECURITY if line[0] not in own), (b"x-request-id", request_id.encode())]
    if scope["scheme"] == "https":
        lines.append((b"strict-transport-security", b"max-age=31536000"))
    return lines
