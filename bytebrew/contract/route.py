"""Routes, from which the server, the tests and the API document are made, and what a route receives and returns."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Concatenate, Generic, Literal, NamedTuple, ParamSpec, Protocol, TypeVar

from msgspec import Meta, Struct

from bytebrew.base.errors import BootError, Detail, InvalidRequest
from bytebrew.base.formats import parse_time, rfc3339
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.engine import Engine
from bytebrew.contract.provider import Provider, Target

Body = TypeVar("Body")
P = ParamSpec("P")
T = TypeVar("T")
Record = Callable[[Connection, Any], None]
"""Stores what a request did within its transaction; the argument is the answer of the route."""
ANYONE = Actor(subject="anyone", name="anyone", kind="user", scopes=frozenset())
"""The actor of a request to a public route."""


class Key(Struct, frozen=True, kw_only=True):
    """The Idempotency-Key of a request, with its caller, method and path, and the digest of its query and body.

    `status` is that of a successful answer; `turn_id` is the turn that the key has begun.
    """

    subject: str
    method: str
    path: str
    text: str
    digest: bytes
    status: int
    turn_id: str | None = None


class TurnPlace(Protocol):
    """The place that a request holds among the turns that the engine admits."""

    def free(self) -> None:
        """Frees it, as the turn counts from now on or there is none; more than once does nothing."""


@dataclass(slots=True, kw_only=True)
class Request(Generic[Body]):
    """One request after authentication; `body` is the route's body struct, or None where it has none.

    Where the route takes its body as a stream, `body` is an async iterator of its pieces as they come; it raises
    PayloadTooLarge, RequestTimeout or InvalidRequest where they stop fitting or coming.

    Header names are lower case; a header that came twice is joined with commas (RFC 9110 section 5.3). `client` is the
    address of the peer that connected, `connection` the address and port of both ends, the peer's first, where they are
    known; `method` and `url_path` are those of the request line. `place` is where the route begins a turn, and is freed
    as soon as that counts. A request `repeats` where its Idempotency-Key has come before, so that it begins nothing:
    guards see that, and nobody where there are none.
    """

    engine: Engine
    actor: Actor
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Body
    client: str
    connection: tuple[tuple[str, int], tuple[str, int]] | None = None
    method: str = ""
    url_path: str = ""
    http_version: str = "1.1"
    key: Key | None = None
    records: tuple[Record, ...] = ()
    recorded: bool = False
    repeats: bool = False
    place: TurnPlace | None = None

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of the request's write, once it is committed together with its records.

        The result is the answer of the route, or for a route without an answer what the records are to show, or None.
        Raises StorageError where the database refuses it, and NotRecorded where a plugin's recorder fails.
        """

        def recorded(conn: Connection) -> T:
            result = work(conn, *args, **kwargs)
            self.record(conn, result)
            return result

        return await self.engine.db.write(recorded)

    def record(self, conn: Connection, answer: Any = None) -> None:
        """Stores the records of the request, in the transaction of its write.

        They are the answer for a repeat of the Idempotency-Key, and what the plugins' recorders store. An exception
        rolls the write back.
        """
        for one in self.records:
            one(conn, answer)
        self.recorded = True


class ChosenModel(NamedTuple):
    """A caller's own model for one message: what is called, with which key, and by `provider` if not by its type's."""

    target: Target
    key: str
    provider: Provider | None = None


class ModelChooser:
    """Lets a chat's headers choose its model, in place of the agent's own.

    `headers` are their names, each with its words for the API document. A chat that has one of them is put to `choose`;
    pages of allowed origins may send them, and no tool is shown them.
    """

    headers: ClassVar[Mapping[str, str]]

    async def choose(self, request: Request[Any]) -> ChosenModel:
        """The model for this message; raises Forbidden or InvalidRequest where the caller may not have it."""
        raise NotImplementedError


@dataclass(slots=True, kw_only=True)
class Reply:
    """An answer with its own status or headers; `body` is bytes as they are, or a value to encode as JSON."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Stream:
    """A streamed answer: Server-Sent Events, unless `headers` name another content-type.

    Closing `frames` must free its resources. If it fails, an SSE stream ends with an error event, any other is cut.
    """

    frames: AsyncGenerator[bytes, None]
    headers: dict[str, str] = field(default_factory=dict)


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


@dataclass(slots=True, frozen=True, kw_only=True)
class Route:
    """A path with a method, the scope that it needs (None: public), and the types of its body and answer.

    `run` answers a value for JSON, None for an empty 204, a Reply or a Stream. `aliases` are further names of the
    body's fields. With `upload` the body may be as large as BYTEBREW_MAX_UPLOAD_BYTES says; with `stream_body` too, and
    it is not read before `run` asks for it: the route decodes it and checks its content type. Where the route keeps it
    `in_memory`, it may be no larger and take no longer than JSON may. `streams` says that the answer may be a stream of
    Server-Sent Events. An `idempotent` route heeds the header Idempotency-Key.
    One that `begins_turn` is refused before anything of it is read where the engine has too many turns.

    The rest is for the API document: parameters of the query string and headers that the route reads, each a text or a
    Parameter, and no others may be in a query string; an `example` of a body, which makes a thing where the route makes
    one; the media types of a streamed body with their JSON Schemas in `takes`, those of an answer that is no JSON in
    `gives`, headers of the answer with what they are in `sends`; and in `also` further statuses with the types of their
    answers, None for a refusal.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    scope: str | None
    run: Callable[[Request[Any]], Awaitable[Any]]
    summary: str
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
    query: Mapping[str, str | Parameter] = field(default_factory=dict)
    headers: Mapping[str, str | Parameter] = field(default_factory=dict)
    example: Mapping[str, Any] | None = None
    takes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gives: Sequence[str] = ()
    sends: Mapping[str, str] = field(default_factory=dict)
    also: Mapping[int, Any] = field(default_factory=dict)


Moment = Annotated[
    str, Meta(extra_json_schema={"anyOf": [{"format": "date-time"}, {"format": "date"}, {"maxLength": 0}]})
]
"""The type of what `moment` reads."""


def moment(query: Mapping[str, str], name: str, *, last: bool = False) -> str:
    """A time of the query string in RFC 3339, or "" where it is left out; with `last` a bare date is its end."""
    text = query.get(name)
    if not text:
        return ""
    try:
        found = parse_time(f"{text}T00:00:00Z" if len(text) == 10 else text)
        return rfc3339(found + timedelta(days=1) if last and len(text) == 10 else found)
    except (ValueError, OverflowError) as error:
        words = "write 2026-03-01 or 2026-03-01T09:00:00Z"
        details = [Detail(f"$.{name}", words)]
        raise InvalidRequest(f"{name}: '{text[:40]}' is not a time; {words}", details=details) from error


def wants_lines(request: Request[Any]) -> bool:
    """Whether the answer is to be NDJSON: by `format=ndjson`, or without `format` by the header Accept."""
    form = request.query.get("format", "")
    if form not in ("", "json", "ndjson"):
        words = "one of json, ndjson"
        raise InvalidRequest(f"format is {words}", details=[Detail("$.format", words)])
    return form == "ndjson" or (not form and NDJSON in request.headers.get("accept", "").lower())


def positive(text: str | None, default: int, most: int) -> int:
    """A number of the query string between 1 and the most; the default for what is left out or no such number."""
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 12 or int(text) < 1:
        return default
    return min(int(text), most)


def unrecorded(conn: Connection, answer: Any) -> None:
    """The Record of a write outside any request."""


@dataclass(slots=True)
class Guard:
    """A check after authentication and before the work; it raises to refuse, or may answer headers for the reply.

    Its plugin sets `active` to False while it would let every request through: it is not called then.
    """

    check: Callable[[Request[Any], Route], Awaitable[Mapping[str, str] | None]]
    active: bool = True


TAKEN = "is the name of a route; take another"


def routes_by_path(routes: Iterable[Route]) -> dict[str, dict[str, Route]]:
    """The routes by path and method; BootError where two are the same."""
    found: dict[str, dict[str, Route]] = {}
    for route in routes:
        methods = found.setdefault(route.path, {})
        if route.method in methods:
            raise BootError(f"{route.method} {route.path} is there twice; a plugin's route takes another path")
        methods[route.method] = route
    return found


def taken_names(paths: Iterable[str]) -> Mapping[str, frozenset[str]]:
    """By the path of a collection, the names that no resource there can have, because a route has them.

    So `registry` is taken at `/models`, because `/models/registry` stands beside `/models/{name}`.
    """
    steps = {tuple(path.split("/")) for path in paths}
    found: dict[str, set[str]] = {}
    for path in steps:
        for n, step in enumerate(path):
            if step.startswith("{"):
                beside = {other[n] for other in steps if other[:n] == path[:n] and len(other) > n}
                found.setdefault("/".join(path[:n]), set()).update(name for name in beside if not name.startswith("{"))
    return {path: frozenset(names) for path, names in found.items() if names}


def check_name(name: object, taken: frozenset[str]) -> None:
    """Raises InvalidRequest for a name that a route has."""
    if name in taken:
        raise InvalidRequest(f"'{name}' {TAKEN}", details=[Detail("$.name", TAKEN)])
