"""The OpenAPI 3.1 document, made from the routes and their structs."""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from bytebrew.base import errors
from bytebrew.contract import events
from bytebrew.contract.route import Face, Parameter, Reply, Request, Route
from bytebrew.web import query
from bytebrew.web.api_document import openapi_components as components
from bytebrew.web.event_cursor import EventId

_IN_PATH = re.compile(r"\{(\w+)(?::\w+)?\}")  # Starlette's syntax, with or without a converter
_NO_NAME = re.compile(r"\W+")
EVENTS: tuple[type[events.Event], ...] = (
    events.Thinking,
    events.MessageDelta,
    events.MessageRestarted,
    events.MessageDone,
    events.ToolStarted,
    events.ToolFinished,
    events.Notice,
    events.ConfirmationAsked,
    events.ClientToolCalled,
    events.Queued,
    events.Steer,
    events.Steered,
    events.Summarised,
    events.ContextTrimmed,
    events.ErrorEvent,
    events.Done,
)
_TEXT = {"type": "string"}
_FRAME = {
    "description": "One event of a stream of Server-Sent Events, as the protocol has it",
    "type": "object",
    "properties": {"id": _TEXT, "event": _TEXT, "data": _TEXT},
    "required": ["data"],
}
_KEY = Parameter("the same key gives the same answer for a day", Annotated[str, Meta(min_length=1, max_length=255)])
_FOLLOWS = Parameter("the id of the last event that was seen; it counts before `after`", EventId)
_ABOUT = "A self-hosted engine for AI agents. Chats and events are streams of Server-Sent Events."
_LISTS = """Every list can be had as a page: `data` are its rows, `total` is how many there are on all pages, `limit`
and `offset` are what was asked for (`?limit=20&offset=40`), and `next` is what to send as `after` for the page
behind, null on the last. Lists that are an array without these parameters are a page with one of them; a schema's
memories are with `offset` or `after`, and a session's messages with `offset` alone, beside which `after` may stand
(`?offset=0&after=17`). Older names stay beside the new ones: `page`, `per_page` and `total_pages`, and `sessions`,
`tasks` and `events` for `data`. Events alone have no `offset`, for their ids are numbers: they are read from the one
`after` an id on."""
_KINDS = (
    errors.InvalidRequest,
    errors.Unauthorized,
    errors.BudgetExceeded,
    errors.Forbidden,
    errors.NotFound,
    errors.MethodNotAllowed,
    errors.RequestTimeout,
    errors.Conflict,
    errors.Gone,
    errors.PayloadTooLarge,
    errors.UnsupportedMediaType,
    errors.Unprocessable,
    errors.ProviderError,
    errors.TurnTimeout,
)
_REFUSALS: dict[int, tuple[str, str]] = {
    kind.status: (kind.__name__, (kind.__doc__ or "").partition("\n")[0]) for kind in _KINDS
} | {
    412: ("PreconditionFailed", "The thing has changed since the client saw it."),
    429: ("RateLimited", "There have been too many requests; Retry-After says when to come again."),
    500: ("Failure", "The engine failed; its log has the trace."),
    503: ("Unavailable", "The engine stops, has too much to do, or its database does not take or give this in time."),
}
_CODES = {kind.status: kind.code for kind in _KINDS} | {
    412: "precondition_failed",
    429: "rate_limited",
    500: "internal_error",
    503: "overloaded",
}
_OF_TURN = ("X-Session-Id", "X-Turn-Id")
_HEADERS = {
    "X-Request-Id": "the id of the request, which the log has too",
    "Retry-After": "seconds to wait before trying again",
    "WWW-Authenticate": "the challenge of RFC 6750",
    "X-Session-Id": "the session whose events or turn it is",
    "X-Turn-Id": "the turn that answers the message",
    "Location": "where the turn is, and once it has ended its end",
    "ETag": "the version that there is now",
    "X-RateLimit-Limit": "requests in the window of a rate limit: of the one that refuses, or the first that counts",
    "X-RateLimit-Remaining": "requests that are left under the same rate limit",
    "X-RateLimit-Reset": "when its window has more room, in seconds since 1970",
}
_OF_REFUSALS = {
    401: ("WWW-Authenticate",),
    402: ("Retry-After", *_OF_TURN),
    412: ("ETag",),
    429: ("Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
    502: ("Retry-After", *_OF_TURN),
    503: ("Retry-After", *_OF_TURN),
    **dict.fromkeys((500, 504), _OF_TURN),
}
_SO_FAR = "A person must answer before it goes on; ask again later."


class Fault(errors.Detail, frozen=True, omit_defaults=True):
    """One fault in a request: a JSON path such as `$.max_steps`, and what is wrong there.

    In a configuration file it has its `line` and `column` too, which count from 1.
    """

    line: int = 0
    column: int = 0


class Error(msgspec.Struct, omit_defaults=True):
    """The one shape of every refusal; `details` are there where the request itself is at fault.

    `session_id` and `turn_id` are those of a failed chat. `current` is what there is now where the digest of an
    approval is that of something else. `retry_after` is the header Retry-After of a rate limit once more.
    """

    error: str
    message: str
    details: tuple[Fault, ...] = ()
    retry_after: int = 0
    session_id: str = ""
    turn_id: str = ""
    current: dict[str, Any] = {}


def document(
    routes: Iterable[Route], version: str, kinds_of_events: Sequence[type[events.Event]] = EVENTS
) -> dict[str, Any]:
    """The document as JSON values; every struct that a route reads or writes, and every event, is a component."""
    routes = [query.with_paging(route) for route in routes if not route.page]
    bodies = [route.body for route in routes if route.body is not None]
    kinds = [*bodies, *(kind for route in routes for kind in (route.answer, *route.also.values()) if kind is not None)]
    kinds += [one.type for route in routes for one in _parameters(route).values()]
    kinds += [Error, *kinds_of_events]
    schemas, named = components.described(kinds, bodies)
    schema_of = {id(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _IN_PATH.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ByteBrew", "version": version, "description": f"{_ABOUT}\n\n{_LISTS}"},
        "servers": [{"url": "/", "description": "the engine that this document is from"}],
        "security": [{"bearer": []}],
        "tags": [*_tags(routes)],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted((named | _frames(kinds_of_events, schema_of)).items())),
            # a method that a path does not have is documented by faces alone, which refuse in their own shape
            "responses": {
                name: _refusal(status, words) for status, (name, words) in sorted(_REFUSALS.items()) if status != 405
            },
            "headers": {name: _header(words) for name, words in _HEADERS.items()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "an API token or a JWT"},
                "ticket": {
                    "type": "apiKey",
                    "in": "query",
                    "name": query.TICKET,
                    "description": "of POST /auth/tickets",
                },
            },
        },
    }


def _tags(routes: Sequence[Route]) -> Iterator[dict[str, str]]:
    """The tags, faces last, each described by the docstring of the file with most of its routes."""
    faces = {route.face.name for route in routes if route.face is not None}
    words: dict[str, Counter[str]] = {}
    for route in routes:
        said = inspect.getdoc(inspect.getmodule(_function(route))) or route.summary
        words.setdefault(_tag(route), Counter()).update([said.partition("\n")[0]])
    for name, counts in sorted(words.items(), key=lambda item: (item[0] in faces, item[0])):
        yield {"name": name, "description": counts.most_common(1)[0][0]}


def _function(route: Route) -> Any:
    """The function of a route, without its bound arguments."""
    return route.run.func if isinstance(route.run, partial) else route.run


def _tag(route: Route) -> str:
    if route.face is not None:
        return route.face.name
    return route.path.removeprefix("/api/v1").strip("/.").partition("/")[0] or "docs"


def _frames(kinds: Sequence[type[events.Event]], schema_of: dict[int, Any]) -> dict[str, Any]:
    """The schema of each kind of event in a stream, and of any event.

    Before OpenAPI 3.2 the schema of a stream is that of each of its events.
    """
    found, by_name = dict[str, Any](), dict[str, str]()
    for kind in kinds:
        name = f"{kind.__name__}Frame"
        data = _TEXT | {"contentMediaType": "application/json", "contentSchema": schema_of[id(kind)]}
        found[name] = {
            "title": name,
            "description": (inspect.getdoc(kind) or "").partition("\n")[0],
            "type": "object",
            "properties": {"id": _TEXT, "event": _TEXT | {"const": kind.name}, "data": data},
            "required": ["event", "data"],
        }
        by_name[kind.name] = components.TEMPLATE.format(name=name)
    found["StreamEvent"] = {
        "title": "StreamEvent",
        "description": "One event of a stream of Server-Sent Events; `event` says which, `data` is its JSON.",
        "oneOf": [{"$ref": target} for target in by_name.values()],
        "discriminator": {"propertyName": "event", "mapping": by_name},
    }
    return found


def _parameters(route: Route) -> dict[tuple[str, str], Parameter]:
    """The parameters of a route by location and name."""
    found = {("query", name): one for name, one in route.query.items()}
    found |= {("header", name): one for name, one in route.headers.items()}
    if route.idempotent:
        found["header", "Idempotency-Key"] = _KEY
    if route.streams and route.method == "GET" and route.face is None:
        found["header", "Last-Event-ID"] = _FOLLOWS
    return {at: Parameter(one) if isinstance(one, str) else one for at, one in found.items()}


def _operation(route: Route, schema_of: dict[int, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT | {"minLength": 1}}
        for name in _IN_PATH.findall(route.path)
    ]
    parameters += [
        {
            "name": name,
            "in": place,
            "required": one.required,
            "description": one.description,
            "schema": schema_of[id(one.type)],
        }
        for (place, name), one in _parameters(route).items()
    ]
    words = _NO_NAME.sub("_", route.path.removeprefix("/api/v1/")).strip("_")
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{words or 'root'}",
        "summary": route.summary,
        "description": inspect.cleandoc(_function(route).__doc__ or ""),
        "tags": [_tag(route)],
        "responses": _responses(route, schema_of),
    }
    if parameters:
        operation["parameters"] = parameters
    example = {"example": route.example} if route.example is not None else {}
    if route.body is not None:
        body = {"application/json": {"schema": schema_of[id(route.body)]} | example}
        operation["requestBody"] = {"required": not _may_be_left_out(route.body), "content": body}
    elif route.stream_body:
        content = {kind: {"schema": schema} | example for kind, schema in route.takes.items()}
        operation["requestBody"] = {"required": True, "content": content or {"*/*": {"schema": {}}}}
    tickets: list[dict[str, list[str]]] = [{"ticket": []}] if query.takes_ticket(route) else []
    operation["security"] = [] if route.scope is None else [{"bearer": []}, *tickets]
    if route.scope is not None:
        operation["x-scope"] = route.scope
    return operation


def _may_be_left_out(body: Any) -> bool:
    try:
        msgspec.convert({}, body)
    except msgspec.ValidationError:
        return False
    return True


def _responses(route: Route, schema_of: dict[int, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {kind: {"schema": _TEXT} if kind.startswith("text/") else {} for kind in route.gives}
    if "text/event-stream" in content:
        content["text/event-stream"] = {"schema": _FRAME}
    if route.answer is not None:
        content["application/json"] = {"schema": schema_of[id(route.answer)]}
    headers = ["X-Request-Id"]
    if route.streams:
        own = {"$ref": components.TEMPLATE.format(name="StreamEvent")}
        content["text/event-stream"] = {"schema": _FRAME if route.face else own}
        headers += ["X-Session-Id", "X-Turn-Id"] if route.method == "POST" else ["X-Session-Id"]
    told = _headers(*headers) | {name: _header(message) for name, message in route.sends.items()}
    answer = {"description": route.summary, "headers": told} | ({"content": content} if content else {})
    found: dict[int, dict[str, Any]] = {route.status: answer}
    for status in _refusals(route):
        name, words = _REFUSALS[status]
        of_all = {"$ref": f"#/components/responses/{name}"}
        found[status] = of_all if route.face is None else _faces_refusal(route.face, status, words)
    for status, kind in route.also.items():
        if kind is not None:
            body = {"application/json": {"schema": schema_of[id(kind)]}}
            names = ["X-Request-Id", "X-Session-Id", "X-Turn-Id", "Location"] if route.streams else ["X-Request-Id"]
            message = _SO_FAR if status == 202 else route.summary
            found[status] = {"description": message, "headers": _headers(*names), "content": body}
        elif status < 400:
            found[status] = {"description": "There is nothing", "headers": _headers("X-Request-Id")}
    return {str(status): one for status, one in sorted(found.items())}


def _refusals(route: Route) -> set[int]:
    """The error statuses that a route of its kind can return."""
    found = {400, 429, 500, 503, *(status for status, kind in route.also.items() if kind is None and status >= 400)}
    if route.scope is not None:
        found |= {401, 403}
    if "{" in route.path:
        found.add(404)
    if route.body is not None or route.stream_body:
        found |= {408, 413, 415}
    if route.method != "GET" and route.scope is not None:
        found |= {409, 422}
    if route.streams and route.method != "GET":
        found |= {402, 410, 502, 504}
    return found


def _refusal(status: int, text: str) -> dict[str, Any]:
    headers = _OF_REFUSALS.get(status, ())
    example = {"error": _CODES.get(status, "failed"), "message": text.rstrip(".")}
    content = {"application/json": {"schema": components.ref(Error), "example": example}}
    return {"description": text, "headers": _headers("X-Request-Id", *headers), "content": content}


def _faces_refusal(face: Face, status: int, text: str) -> dict[str, Any]:
    made = face.refusal(errors.EngineError(text.rstrip(".")))
    media = made.headers.get("content-type", "application/json").partition(";")[0]
    example = made.body.decode() if isinstance(made.body, bytes) else msgspec.to_builtins(made.body)
    content = {media: {"schema": _TEXT if media.startswith("text/") else {}, "example": example}}
    return {"description": text, "headers": _headers("X-Request-Id", *_OF_REFUSALS.get(status, ())), "content": content}


def _header(text: str) -> dict[str, Any]:
    return {"description": text, "schema": _TEXT}


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def route(described: Callable[[], Mapping[str, Any]]) -> Route:
    """The route of a document, which is encoded when it is first requested."""

    @cache
    def encoded() -> bytes:
        return msgspec.json.encode(described())

    async def get_document(request: Request[None]) -> Reply:
        """This document."""
        return Reply(body=encoded(), headers={"content-type": "application/json"})

    return Route("GET", "/api/v1/openapi.json", None, get_document, "The OpenAPI document", answer=dict[str, Any])
