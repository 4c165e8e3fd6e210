"""Routes, which define the server, the tests and the API document, with their requests and answers."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Concatenate, Generic, Literal, NamedTuple, ParamSpec, Protocol, TypeVar

from msgspec import Meta, Struct

from bytebrew.base.errors import BootError, Detail, EngineError, InvalidRequest
from bytebrew.base.formats import parse_time, rfc3339
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.engine import Engine
from bytebrew.contract.provider import Provider, Target

Body = TypeVar("Body")
P = ParamSpec("P")
T = TypeVar("T")
Record = Callable[[Connection, Any], None]
"""Stores the records of a request within its transaction; the argument is the answer of the route."""
ANYONE = Actor(subject="anyone", name="anyone", kind="user", scopes=frozenset())
"""The actor of a request to a public route."""


class Key(Struct, frozen=True, kw_only=True):
    """The Idempotency-Key of a request, with its caller, method and path, and the digest of its query and body.

    `status` is the status of a successful answer; `turn_id` is the turn that the first request with the key began.
    """

    subject: str
    method: str
    path: str
    text: str
    digest: bytes
    status: int
    turn_id: str | None = None


class TurnPlace(Protocol):
    """The place of a request among the turns that the engine admits."""

    def free(self) -> None:
        """Releases the place once the turn itself is counted, or if there will be none; safe to call twice."""


@dataclass(slots=True, kw_only=True)
class Request(Generic[Body]):
    """One request after authentication; `body` is the route's body struct, or None if the route has none.

    If the route takes its body as a stream, `body` is an async iterator of chunks. It raises PayloadTooLarge,
    RequestTimeout or InvalidRequest if the body is too large, too slow or incomplete.

    Header names are lower case; repeated headers are joined with commas (RFC 9110 section 5.3). `client` is the address
    of the client, and `scheme` and `host` are those of the URL that it called, by the headers of trusted proxies.
    `connection` is the address and port of both ends, the peer's first, if they are known; the peer may be a proxy.
    `method` and `url_path` are those of the request line. `place` is the place of a new turn among the admitted ones;
    it is released once the turn itself is counted. `repeats` is set if the Idempotency-Key was used before, so that the
    request starts nothing new; it is looked up only if the engine has guards.
    """

    engine: Engine
    actor: Actor
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Body
    client: str
    scheme: str = "http"
    host: str = ""
    connection: tuple[tuple[str, int], tuple[str, int]] | None = None
    method: str = ""
    url_path: str = ""
    http_version: str = "1.1"
    key: Key | None = None
    records: tuple[Record, ...] = ()
    recorded: bool = False
    repeats: bool = False
    place: TurnPlace | None = None

    def free_place(self) -> None:
        """Releases the place of a new turn, if there is one: the turn itself is counted, or there will be none."""
        if self.place is not None:
            self.place.free()

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `work` in a transaction together with the request's records; returns its result after the commit.

        The result is the answer of the route; for a route without an answer it is what the records should show, or
        None. Raises StorageError if the database refuses the write, and NotRecorded if a plugin's recorder fails.
        """

        def recorded(conn: Connection) -> T:
            result = work(conn, *args, **kwargs)
            self.record(conn, result)
            return result

        return await self.engine.db.write(recorded)

    def record(self, conn: Connection, answer: Any = None) -> None:
        """Stores the records of the request, in the transaction of its write.

        They are the answer for a repeated Idempotency-Key, and the records of plugins. An exception rolls the write
        back.
        """
        for one in self.records:
            one(conn, answer)
        self.recorded = True


class ChosenModel(NamedTuple):
    """A caller's own model for one message: address, key, and optionally a `provider` that overrides its type."""

    target: Target
    key: str
    provider: Provider | None = None


class ModelChooser:
    """Chooses the model of a chat by request headers, instead of the agent's own.

    `headers` maps their names to descriptions for the API document. `choose` is called if a chat has one of them. CORS
    allows these headers; they are never forwarded to tools.
    """

    headers: ClassVar[Mapping[str, str]]

    async def choose(self, request: Request[Any]) -> ChosenModel:
        """The model for this message; raises Forbidden or InvalidRequest if the caller may not use it."""
        raise NotImplementedError


@dataclass(slots=True, kw_only=True)
class Reply:
    """An answer with its own status or headers; `body` is bytes, or a value to encode as JSON."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Stream:
    """A streamed answer: Server-Sent Events, unless `headers` set another content type.

    Closing `frames` must free its resources. If it raises, an SSE stream ends with an error event, and any other stream
    is aborted.
    """

    frames: AsyncGenerator[bytes, None]
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Face:
    """A protocol other than the engine's own, set as `face` of its routes.

    `name` is its tag in the API document. `refusal` is an error as the protocol has it before a stream begins; headers
    of the error are added. `ending` are the frames that end a stream with an error.
    """

    name: str
    refusal: Callable[[EngineError], Reply]
    ending: Callable[[EngineError], bytes]


class Parameter(Struct, frozen=True):
    """A parameter of the query string or a header; `type` is what its text is converted to."""

    description: str
    type: Any = str
    required: bool = False


NDJSON = "application/x-ndjson"
FORMAT = Parameter(
    "ndjson for all rows, one a line, as the header Accept: application/x-ndjson", Literal["json", "ndjson", ""]
)
"""The query parameter `format`, which `wants_lines` reads."""


@dataclass(slots=True, frozen=True)
class Route:
    """A path with a method, the scope that it needs (None: public), and the types of its body and answer.

    `run` returns a value for JSON, None for an empty 204, a Reply or a Stream. `aliases` are further names of the
    body's fields. With `upload` the body may be as large as BYTEBREW_MAX_UPLOAD_BYTES. With `stream_body` it may be as
    large too, and is not read before `run` reads it: the route decodes it and checks its content type. If the route
    keeps such a body `in_memory`, the limits of size and time are those of JSON. With `streams` the answer may be a
    stream of Server-Sent Events. An `idempotent` route accepts the header Idempotency-Key. A request to a route that
    `begins_turn` is rejected before it is read if the engine has too many turns. An `overridable` route is left out if
    another plugin has one with its method and path. `action` is the name of its recorded action, such as
    `token.revoke`, unless the default from its path and method fits. The path of a route that `names_person` ends with
    the name of a person, or with it and one more word; records have a pseudonym in its place.

    A route for `own_pages` rejects the pages of other origins, whatever their credential, unless CORS allows them (DNS
    rebinding). `resource_metadata` is the path of the metadata that its 401 refers to (RFC 9728). `counts` decides by
    the head of a request whether rate limits count it.

    `face` is set if the route speaks another protocol: its errors are in that, and it applies the view of its caller by
    `CONVERSATIONS`. A `page` is for people to look at, and not in the API document.

    The other fields are for the API document. `query` and `headers` are the parameters that the route reads, each as a
    description or a Parameter; other parameters in a query string are rejected. `example` is a body that creates
    something, if the route does. `takes` has the media types of a streamed body with their JSON Schemas, `gives` the
    media types of an answer that is not JSON, and `sends` headers of the answer with their descriptions. `also` has
    further statuses with the types of their answers, None for an error or for no content.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    scope: str | None
    run: Callable[[Request[Any]], Awaitable[Any]]
    summary: str
    _: KW_ONLY
    body: Any = None
    answer: Any = None
    status: int = 200
    aliases: Mapping[str, str] = field(default_factory=dict)
    upload: bool = False
    streams: bool = False
    stream_body: bool = False
    in_memory: bool = False
    idempotent: bool = False
    begins_turn: bool = False
    overridable: bool = False
    action: str = ""
    names_person: bool = False
    own_pages: bool = False
    resource_metadata: str = ""
    counts: Callable[[Request[Any]], bool] | None = None
    face: Face | None = None
    page: bool = False
    query: Mapping[str, str | Parameter] = field(default_factory=dict)
    headers: Mapping[str, str | Parameter] = field(default_factory=dict)
    example: Mapping[str, Any] | None = None
    takes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gives: Sequence[str] = ()
    sends: Mapping[str, str] = field(default_factory=dict)
    also: Mapping[int, Any] = field(default_factory=dict)


_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]+")


def own_origin(request: Request[Any]) -> str:
    """The engine's origin as the client knows it; empty if the host is malformed."""
    return f"{request.scheme}://{request.host}" if _HOST.fullmatch(request.host) else ""


Moment = Annotated[
    str, Meta(extra_json_schema={"anyOf": [{"format": "date-time"}, {"format": "date"}, {"maxLength": 0}]})
]
"""The type of what `moment` reads."""


def moment(query: Mapping[str, str], name: str, *, last: bool = False) -> str:
    """A time of the query string in RFC 3339, "" if absent; with `last` a date alone means the end of that day."""
    text = query.get(name)
    if not text:
        return ""
    try:
        found = parse_time(f"{text}T00:00:00Z" if len(text) == 10 else text)
        return rfc3339(found + timedelta(days=1) if last and len(text) == 10 else found)
    except (ValueError, OverflowError) as error:
        message = "write 2026-03-01 or 2026-03-01T09:00:00Z"
        details = [Detail(f"$.{name}", message)]
        raise InvalidRequest(f"{name}: '{text[:40]}' is not a time; {message}", details=details) from error


def wants_lines(request: Request[Any]) -> bool:
    """Whether the client wants NDJSON: by `format=ndjson`, or without `format` by the header Accept."""
    form = choice(request.query, "format", ("json", "ndjson"))
    return form == "ndjson" or (not form and NDJSON in request.headers.get("accept", "").lower())


def choice(query: Mapping[str, str], name: str, known: Sequence[str], default: str = "") -> str:
    """A word of the query string, or the default; InvalidRequest for one that is not known."""
    word = query.get(name, default)
    if word != default and word not in known:
        message = f"one of {', '.join(known)}"
        raise InvalidRequest(f"{name} is {message}", details=[Detail(f"$.{name}", message)])
    return word


def positive(text: str | None, default: int, most: int) -> int:
    """A number of the query string, at most `most`; the default if it is absent or not a positive integer."""
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 12 or int(text) < 1:
        return default
    return min(int(text), most)


def unrecorded(conn: Connection, answer: Any) -> None:
    """The Record of a write outside any request."""


@dataclass(slots=True)
class Guard:
    """A check after authentication and before the route; it raises to reject, or returns headers for the answer.

    Its plugin may set `active` to False while the check accepts every request, which skips it.
    """

    check: Callable[[Request[Any], Route], Awaitable[Mapping[str, str] | None]]
    active: bool = True


TAKEN = "is the name of a route; take another"


def routes_by_path(routes: Iterable[Route]) -> dict[str, dict[str, Route]]:
    """The routes by path and method; BootError for duplicates."""
    found: dict[str, dict[str, Route]] = {}
    for route in routes:
        methods = found.setdefault(route.path, {})
        if route.method in methods:
            raise BootError(f"{route.method} {route.path} is there twice; a plugin's route takes another path")
        methods[route.method] = route
    return found


def taken_names(paths: Iterable[str]) -> Mapping[str, frozenset[str]]:
    """The reserved names of each collection by its path: names that a route has in place of a resource.

    For example `registry` is reserved at `/models`, because the route `/models/registry` would hide a model of this
    name.
    """
    beside: dict[tuple[str, ...], set[str]] = {}
    for steps in {tuple(path.split("/")) for path in paths}:
        for n, step in enumerate(steps):
            beside.setdefault(steps[:n], set()).add("{" if step.startswith("{") else step)
    found = {"/".join(path): frozenset(names - {"{"}) for path, names in beside.items() if "{" in names}
    return {path: names for path, names in found.items() if names}


def check_name(name: object, taken: frozenset[str]) -> None:
    """Raises InvalidRequest for a reserved name."""
    if name in taken:
        raise InvalidRequest(f"'{name}' {TAKEN}", details=[Detail("$.name", TAKEN)])
