"""Callbacks and their deliveries over REST."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from msgspec import Struct
from msgspec.structs import asdict

from bytebrew import (
    OFFSET,
    Connection,
    Detail,
    Engine,
    InvalidRequest,
    Live,
    NotFound,
    NotificationName,
    Page,
    Parameter,
    Request,
    Route,
    Row,
    Selection,
    page_window,
    rfc3339,
    rows_of,
)

from . import store
from .callbacks import CALLBACKS, Callbacks
from .definition import CallbackPatch, NewCallback
from .deliveries import DELIVERIES
from .store import LISTING

Status = Literal["pending", "delivered", "dead"]


class Callback(Struct, frozen=True, kw_only=True):
    """A callback and what came of its last try; `previous_until` is how long the secret before signs too."""

    name: str
    url: str
    events: tuple[NotificationName, ...]
    schema: str
    enabled: bool
    disabled_because: Live[str | None]
    previous_until: Live[str | None]
    last_at: Live[str | None]
    last_status: Live[int | None]
    last_error: Live[str | None]
    created_at: str
    updated_at: Live[str]


class CreatedCallback(Callback, frozen=True, kw_only=True):
    """A callback with its new secret, which is shown this once."""

    secret: str


class Delivery(Struct, frozen=True, kw_only=True):
    """One message to one receiver: a callback, or the `callback_url` of a task, whose `callback` is null.

    The id is that of the header `webhook-id`. A `dead` one was given up, or its callback was disabled.
    """

    id: str
    callback: str | None
    task_id: str | None
    url: str
    type: NotificationName
    subject: str
    status: Status
    attempts: int
    next_at: str | None
    last_at: str | None
    last_status: int | None
    last_error: str | None
    created_at: str
    delivered_at: str | None


class DeliveryPage(Page[Delivery], frozen=True, kw_only=True):
    """A page of deliveries, newest first."""


class CallbackRoutes:
    """The routes; changes take effect at once."""

    def __init__(self, engine: Engine, callbacks: Callbacks) -> None:
        self._engine, self._callbacks = engine, callbacks

    async def list_callbacks(self, request: Request[None]) -> list[Callback]:
        """Every callback by name."""
        return [Callback(**_fields(row)) for row in await request.engine.db.scan(store.list_all)]

    async def get_callback(self, request: Request[None]) -> Callback:
        """One callback."""
        return Callback(**_fields(await request.engine.db.read(store.get, request.path["name"])))

    async def create_callback(self, request: Request[NewCallback]) -> CreatedCallback:
        """A new callback, which is sent what happens from now on."""
        return await request.write(lambda conn: _created(*self._callbacks.create(conn, request.body)))

    async def update_callback(self, request: Request[CallbackPatch]) -> Callback:
        """The callback with the fields that were sent.

        What is pending goes to the URL that it has now; if it is disabled, it becomes dead letters.
        """
        update, name = self._callbacks.update, request.path["name"]
        callback = await request.write(lambda conn: Callback(**_fields(update(conn, name, request.body))))
        self._engine.state[DELIVERIES].wake()
        return callback

    async def rotate_secret(self, request: Request[None]) -> CreatedCallback:
        """The callback with a new secret; the one before signs too for 24 hours."""
        rotate, name = self._callbacks.rotate, request.path["name"]
        return await request.write(lambda conn: _created(*rotate(conn, name)))

    async def delete_callback(self, request: Request[None]) -> None:
        """Removes a callback with its deliveries, sent or not."""
        await request.write(store.delete, request.path["name"])
        self._engine.state[DELIVERIES].wake()

    async def list_deliveries(self, request: Request[None]) -> DeliveryPage:
        """Deliveries of a `status` or a `callback`, newest first."""
        query = request.query
        status, callback = query.get("status", ""), query.get("callback", "")
        if status not in ("", *get_args(Status)):
            message = f"is one of {', '.join(get_args(Status))}"
            raise InvalidRequest(f"status {message}", details=[Detail("$.status", message)])
        limit, offset = page_window(query, 50, 200)
        return await request.engine.db.scan(_page, status, callback, query.get("after", ""), limit, offset)

    async def send_again(self, request: Request[None]) -> Delivery:
        """Sends a dead letter again, under the same id and from the start of the schedule; a pending one at once."""
        moment = datetime.now(UTC).timestamp()
        delivery = await request.write(lambda conn: _delivery(store.send_again(conn, request.path["id"], moment)))
        self._engine.state[DELIVERIES].wake()
        return delivery


def routes(engine: Engine) -> Iterator[Route]:
    """All routes of callbacks."""
    r = CallbackRoutes(engine, engine.state[CALLBACKS])
    many, one = "/api/v1/callbacks", "/api/v1/callbacks/{name}"
    example = {"name": "ops", "url": "https://hooks.example.com/bytebrew", "events": ["turn.failed", "task.ended"]}

    def route(method: Any, path: str, run: Callable[..., Any], summary: str, **more: Any) -> Route:
        return Route(method=method, path=path, run=run, summary=summary, scope="config", **more)

    yield route("GET", many, r.list_callbacks, "List callbacks", answer=list[Callback])
    new: Mapping[str, Any] = {"body": NewCallback, "example": example, "status": 201, "idempotent": True}
    yield route("POST", many, r.create_callback, "Create a callback", answer=CreatedCallback, **new)
    yield route("GET", one, r.get_callback, "Get a callback", answer=Callback)
    change: Mapping[str, Any] = {"body": CallbackPatch, "example": {"events": ["approval.waiting"]}}
    for method in ("PUT", "PATCH"):
        yield route(method, one, r.update_callback, "Update a callback", answer=Callback, **change)
    yield route("DELETE", one, r.delete_callback, "Delete a callback", status=204)
    yield route("POST", f"{one}/rotate", r.rotate_secret, "Replace a callback's secret", answer=CreatedCallback)
    query = {
        "status": Parameter("in this state", Status | Literal[""]),
        "callback": "of this callback",
        "limit": Parameter("rows, 200 at most, and a megabyte", int | str),
        "offset": OFFSET,
        "after": "the last id before",
    }
    yield route(
        *("GET", f"{many}/deliveries", r.list_deliveries, "List deliveries of callbacks"),
        query=query,
        answer=DeliveryPage,
        also={404: None},
    )
    again = f"{many}/deliveries/{{id}}/retry"
    yield route("POST", again, r.send_again, "Send a delivery again", answer=Delivery, also={409: None})


def _page(conn: Connection, status: str, callback: str, after: str, limit: int, offset: int) -> DeliveryPage:
    chosen = Selection(kinds={"status": status} if status else {}, keys={"callback": callback} if callback else {})
    place = None
    if after:
        try:
            place = (store.delivery(conn, after)["seq"],)
        except NotFound as error:
            raise NotFound(f"{error.message} to go on after; read the list from the start") from error
    found = LISTING.page(conn, chosen, limit + 1, 0 if after else offset, place)
    rows = [_delivery(row) for row in rows_of(conn, "select * from callbacks_deliveries where seq = ?", found[:limit])]
    following = rows[-1].id if len(found) > len(rows) else None
    total = LISTING.total(conn, chosen)
    return DeliveryPage(data=rows, total=total, limit=limit, offset=offset, next=following)


def _delivery(row: Row) -> Delivery:
    fields = {name: row[name] for name in Delivery.__struct_fields__}
    return Delivery(**fields | {"callback": row["callback"] or None, "next_at": _moment(row["next_at"])})


def _created(row: Row, secret: str) -> CreatedCallback:
    return CreatedCallback(**_fields(row), secret=secret)


def _fields(row: Row) -> dict[str, Any]:
    state = ("disabled_because", "last_at", "last_status", "last_error", "created_at", "updated_at")
    fields = asdict(store.definition(row)) | {name: row[name] for name in state}
    del fields["secret"]
    until = row["previous_until"]
    overlaps = row["sealed_previous"] and until > datetime.now(UTC).timestamp()
    return fields | {"previous_until": _moment(until) if overlaps else None}


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(datetime.fromtimestamp(seconds, UTC))
