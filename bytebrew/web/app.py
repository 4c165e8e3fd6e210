"""From an engine to an ASGI application: routes, one error shape, headers, streams."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import aclosing, closing
from functools import partial
from typing import Any

import msgspec
from starlette.routing import Route as PathRoute
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from bytebrew.base.errors import (
    Detail,
    Draining,
    EngineError,
    Forbidden,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    Unauthorized,
    UnsupportedMediaType,
)
from bytebrew.base.formats import canonical_id, new_id
from bytebrew.base.logs import trace_id
from bytebrew.base.validation import depth
from bytebrew.contract import paths
from bytebrew.contract.events import ErrorEvent
from bytebrew.contract.route import ANYONE, Reply, Request, Route, Stream
from bytebrew.engine import Engine
from bytebrew.web import change_feed, cors, early_answer, query
from bytebrew.web.access import require, while_live
from bytebrew.web.admission import PLACES, Arrival, Place
from bytebrew.web.body_fields import Body, unfit
from bytebrew.web.http_state import HttpState, http_state
from bytebrew.web.idempotency import HEADER, Keys, digest_of, repeats
from bytebrew.web.routes import every

log = logging.getLogger(__name__)

CROWDED = "crowded"
"""Why a connection is one too many, in its state: while there are, health is all that it is told."""
HEALTH = "/api/v1/health"
MAX_DEPTH = 100
"""Brackets within brackets of a JSON body: what is taken in must fit into an answer, where msgspec stops near 1000."""
MAX_VALUES = 1 << 20
"""Brackets and commas of a JSON body, so many as one without files may have: a value takes 30 times its bytes."""
SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
STREAM_HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
_INTERNAL = {"error": "internal_error", "message": "The engine failed; its log has the trace"}


class Application:
    """The whole of the HTTP side: gives each request an id, answers every failure in one shape."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._state = state = http_state(engine)
        self.routes = every(engine)
        by_path = paths.grouped(self.routes)
        taken = paths.taken(by_path)
        keys = {path.rpartition("/{")[0]: path.rpartition("/{")[2][:-1] for path in by_path if path.endswith("}")}
        endpoints = {
            path: Endpoint(
                engine,
                state,
                methods,
                keys.get(path, "id"),
                taken.get(path) or taken.get(path.rpartition("/{")[0], frozenset()),
            )
            for path, methods in by_path.items()
        }
        self._plain = {path: endpoint for path, endpoint in endpoints.items() if "{" not in path}
        streaming = {path for path, methods in by_path.items() if any(route.streams for route in methods.values())}
        by_pattern = [
            PathRoute(path, endpoint=endpoint)
            for path, endpoint in sorted(endpoints.items(), key=lambda item: item[0] not in streaming)
            if "{" in path
        ]
        self._router = Router(by_pattern, redirect_slashes=False, default=_no_such_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            error = NotFound("Nothing here speaks WebSocket; chats and events are streams of Server-Sent Events")
            await _answer(early_answer.rejecting(send), error.status, error.body(), {})
            return
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        trace_id.set(request_id := new_id("req"))
        arrived = time.monotonic()
        begun = whole = False
        status = 0
        shared: list[tuple[bytes, bytes]] = []
        rest: early_answer.Rest | None = None

        async def receive_noting() -> Message:
            nonlocal whole
            message = await (rest.receive() if rest else receive())
            whole = not message.get("more_body", False)
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal begun, rest, status
            if message["type"] == "http.response.start":
                begun = True
                status = message["status"]
                message["headers"] = _complete(scope, message["headers"], request_id) + shared
                if not whole and early_answer.announced(scope):
                    rest = early_answer.Rest(receive, send)
            await (rest.send if rest else send)(message)

        if origins := self._state.origins:
            asked = _joined(scope["headers"])
            if scope["method"] == "OPTIONS" and (lines := cors.preflight(asked, origins)) is not None:
                await send_with_headers({"type": "http.response.start", "status": 204, "headers": lines})
                await send_with_headers({"type": "http.response.body", "body": b""})
                return
            shared = cors.headers(asked.get("origin", ""), origins)

        try:
            if (full := self._state.admission.crowd) and CROWDED in scope.get("state", {}) and scope["path"] != HEALTH:
                raise Overloaded(full, closes=scope["http_version"] != "2")
            if (endpoint := self._plain.get(scope["path"])) is not None:
                scope["endpoint"], scope["path_params"] = endpoint, {}
                await endpoint(scope, receive_noting, send_with_headers)
            else:
                await self._router(scope, receive_noting, send_with_headers)
        except EngineError as error:
            await _answer(send_with_headers, error.status, error.body(), error.headers)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if begun:
                raise
            await _answer(send_with_headers, 500, _INTERNAL, {})
        finally:
            if rest:
                rest.end()
            log.debug("%s %s %d", scope["method"], scope["path"], status)
            found = scope.get("endpoint")
            path = found.path if isinstance(found, Endpoint) else ""
            told = {"method": scope["method"], "path": path, "status": status, "seconds": time.monotonic() - arrived}
            await self._engine.notify("request_answered", **told)


class Endpoint:
    """One path: authenticates, runs the guards, decodes, runs the route and encodes."""

    def __init__(
        self, engine: Engine, state: HttpState, methods: Mapping[str, Route], key: str, taken: frozenset[str]
    ) -> None:
        self._engine = engine
        self._state = state
        self._methods = methods
        self.path = next(iter(methods.values())).path
        self._taken = taken
        self._thing = change_feed.Thing(methods.get("GET"), key)
        self._keys = Keys()
        bodies = {
            method: Body(route, methods.get("GET")) for method, route in methods.items() if route.body is not None
        }
        self._decoders = {
            method: msgspec.json.Decoder(methods[method].body) for method, body in bodies.items() if body.is_plain
        }
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        route = self._methods.get("GET" if method == "HEAD" else method)
        if route is None:
            allowed = ", ".join(sorted(self._methods))
            raise MethodNotAllowed(f"{scope['path']} knows {allowed}", headers={"Allow": allowed})
        engine = self._engine
        if engine.runner.draining and route.scope is not None:
            raise Draining
        place = self._state.admission.enter(scope.get("state", {}).get(PLACES)) if route.begins_turn else None
        try:
            await self._answer(scope, receive, send, route, place)
        finally:
            if place is not None:
                place.free()

    async def _answer(self, scope: Scope, receive: Receive, send: Send, route: Route, place: Place | None) -> None:
        engine, method, client, server = self._engine, scope["method"], scope.get("client"), scope.get("server")
        request: Request[Any] = Request(
            engine=engine,
            actor=ANYONE,
            path={name: canonical_id(value) for name, value in scope["path_params"].items()},
            query=query.parse(scope["query_string"]) if scope["query_string"] else {},
            headers=_joined(scope["headers"]),
            body=None,
            client=client[0] if client else "",
            connection=(tuple(client), tuple(server)) if client and server else None,
            method=method,
            url_path=scope["path"],
            http_version=scope["http_version"],
            place=place,
        )
        told: dict[str, str] = {}
        try:
            await require(request, route)
            if guards := [guard for guard in engine.guards if guard.active]:
                request.repeats = await repeats(request, route, scope["path"])
            for guard in guards:
                told |= await guard.check(request, route) or {}
            answer = await self._run(request, route, scope, receive)
            if place is not None:
                place.free()
        except (Unauthorized, Forbidden) as error:
            action = change_feed.refused(request, method, scope["path"], error)
            self._state.refusals.note(action.client, action.resource, action.status, action.reason)
            await engine.notify("actor_acted", action=action)
            raise
        if isinstance(answer, Stream) and method == "HEAD":
            await answer.frames.aclose()
            await _answer(send, 200, None, STREAM_HEADERS | told | answer.headers)
        elif isinstance(answer, Stream):
            self._state.streams += 1
            answer.frames = while_live(request, route, answer.frames)
            try:
                await _stream(answer, told, receive, send)
            finally:
                self._state.streams -= 1
        elif isinstance(answer, Reply):
            await _answer(send, answer.status, answer.body, told | answer.headers)
        else:
            await _answer(send, 204 if answer is None else route.status, answer, told)

    async def _run(self, request: Request[Any], route: Route, scope: Scope, receive: Receive) -> Any:
        if request.query:
            query.check(request.query, route)
        if route.body is None and not route.stream_body:
            return await self._perform(request, route, scope, _digest(request, route, scope, b""))
        core, raw = self._engine.settings.core, b""
        passed_on = route.stream_body and not route.in_memory
        held = None if passed_on else self._state.bodies if route.scope else self._state.public_bodies
        limit = core.max_upload_bytes if route.upload or passed_on else core.max_body_bytes
        with closing(Arrival(receive, request.headers, limit, held)) as body:
            if route.in_memory:
                body.check()  # before anything is looked up for a stranger
            if route.stream_body:
                request.body = body
            else:
                raw = b"".join([piece async for piece in body])
                request.body = await self._decode(request, route, raw)
                if self._taken:
                    paths.check(getattr(request.body, "name", None), self._taken)
            digest, raw = _digest(request, route, scope, raw), b""  # a turn may wait for long
            if route.begins_turn:
                body.close()  # which counts from now on
            return await self._perform(request, route, scope, digest)

    async def _perform(self, request: Request[Any], route: Route, scope: Scope, digest: bytes) -> Any:
        engine, act = self._engine, None
        if route.method != "GET" and not route.streams and engine.observers.record_actions:
            act = change_feed.Act(request, route, scope["path"], self._thing)
            request.records += (act.record,)
        run = partial(change_feed.perform, request, route, act) if act or digest else partial(route.run, request)
        if digest:
            answer = await self._keys.answer(request, route, run, scope["path"], digest)
        else:
            answer = await run()
        if request.query:
            answer = query.paged(answer, request.query, route)
        if act and act.action:  # an answer out of the store is no second act
            await engine.notify("actor_acted", action=act.action)
        return answer

    async def _decode(self, request: Request[Any], route: Route, raw: bytes) -> Any:
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            raise UnsupportedMediaType("Send the body with Content-Type: application/json")
        brackets = raw.count(b"[") + raw.count(b"{")
        if len(raw) > MAX_VALUES and brackets + raw.count(b",") > MAX_VALUES:
            words = f"The body has more than {MAX_VALUES} brackets and commas; send fewer values in one"
            raise PayloadTooLarge(words, details=[Detail("$", "too many values")])
        if brackets > MAX_DEPTH and depth(raw) > MAX_DEPTH:
            words = f"The body is nested deeper than {MAX_DEPTH} levels"
            raise InvalidRequest(words, details=[Detail("$", "too deep")])
        if (decoder := self._decoders.get(route.method)) is None:
            return await self._bodies[route.method].read(request, raw)
        try:
            return decoder.decode(raw or b"{}")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise unfit(error, route.body) from error


def _digest(request: Request[Any], route: Route, scope: Scope, raw: bytes) -> bytes:
    """What a repeat of the request has too; nothing where it has no key."""
    keyed = route.idempotent and not route.stream_body and HEADER in request.headers
    return digest_of(scope["query_string"], raw) if keyed else b""


def _joined(lines: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in lines:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def _answer(send: Send, status: int, body: Any, headers: Mapping[str, str]) -> None:
    raw = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
    lines = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    if raw and not any(name == b"content-type" for name, _ in lines):
        lines.append((b"content-type", b"application/json"))
    if status != 204:
        lines.append((b"content-length", str(len(raw)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": raw})


async def _stream(stream: Stream, told: dict[str, str], receive: Receive, send: Send) -> None:
    """Sends frames until they end or the client leaves, and says nothing after that."""
    headers = STREAM_HEADERS | told | stream.headers
    events = headers["content-type"] == STREAM_HEADERS["content-type"]
    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    presence = asyncio.timeout(None)
    watch = None
    try:
        async with presence, aclosing(stream.frames) as frames:
            await send({"type": "http.response.start", "status": 200, "headers": lines})
            if events:
                await send({"type": "http.response.body", "body": b": ok\n\n", "more_body": True})
            watch = asyncio.create_task(_until_gone(receive, presence))
            try:
                async for chunk in frames:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except EngineError as error:
                await _last_words(send, headers, error.code, error.message)
            except Exception:
                log.exception("a stream failed")
                await _last_words(send, headers, _INTERNAL["error"], _INTERNAL["message"])
    except TimeoutError:
        if not presence.expired():
            raise
    finally:
        if watch is not None:
            watch.cancel()
    await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive, presence: asyncio.Timeout) -> None:
    """Ends the client's presence once it has left; lighter than a task group, and there is one for each stream."""
    while (await receive())["type"] != "http.disconnect":
        pass
    presence.reschedule(asyncio.get_running_loop().time())


async def _last_words(send: Send, headers: Mapping[str, str], code: str, message: str) -> None:
    """Tells followers of events what went wrong; another content breaks off, so that nobody takes it for whole."""
    if headers["content-type"] != STREAM_HEADERS["content-type"]:
        raise RuntimeError(message)
    session_id, turn_id = headers.get("x-session-id", ""), headers.get("x-turn-id", "")
    event = ErrorEvent(session_id=session_id, turn_id=turn_id, code=code, message=message)
    body = b"event: %s\ndata: %s\n\n" % (event.name.encode(), msgspec.json.encode(event))
    await send({"type": "http.response.body", "body": body, "more_body": True})


def _complete(scope: Scope, headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    lines = list(headers)
    given = {name for name, _ in lines}
    lines += [line for line in SECURITY if line[0] not in given]
    lines.append((b"x-request-id", request_id.encode()))
    if scope["scheme"] == "https" or (b"x-forwarded-proto", b"https") in scope["headers"]:
        lines.append((b"strict-transport-security", b"max-age=31536000"))
    return lines


async def _no_such_path(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    raise NotFound(f"There is nothing at {scope['path'][:500]}; the API is at /api/v1, and /docs describes it")
