"""Schedules and webhooks over REST."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import asdict

from bytebrew import Connection, Live, Parameter, Request, Route, Row

from . import deliveries, store
from .definition import NewSchedule, NewWebhook, SchedulePatch, Timing, WebhookPatch
from .deliveries import Delivery
from .schedules import Schedules
from .signed_requests import SIGNATURE, STANDARD_ID, STANDARD_SIGNATURE, STANDARD_TIMESTAMP, TIMESTAMP
from .store import SCHEDULE, WEBHOOK, Kind
from .webhooks import Received, Webhooks

Stamp = Annotated[str, Meta(examples=["1772355600"])]
Digest = Annotated[str, Meta(examples=[f"sha256={'0' * 64}"])]


class Schedule(NewSchedule, frozen=True, kw_only=True, omit_defaults=False):
    """A schedule, when it fires next, and what came of it last; `last_error` says why it made no task."""

    next_at: Live[str | None]
    last_at: Live[str | None]
    last_task_id: Live[str | None]
    last_error: Live[str | None]
    created_at: str
    updated_at: Live[str]


class Preview(Struct, frozen=True, kw_only=True):
    """When a schedule would fire next, in UTC."""

    moments: list[str]


class Webhook(Struct, frozen=True, kw_only=True):
    """A webhook and what came of it last; `last_error` says why it made no task."""

    name: str
    agent: str
    title: str
    message: str
    schema: str
    enabled: bool
    last_at: Live[str | None]
    last_task_id: Live[str | None]
    last_error: Live[str | None]
    created_at: str
    updated_at: Live[str]


class CreatedWebhook(Webhook, frozen=True, kw_only=True):
    """A new webhook with its secret, which is shown this once."""

    secret: str


_EXAMPLES: Mapping[Any, Mapping[str, Any]] = {
    NewSchedule: {"name": "daily-report", "cron": "0 9 * * MON-FRI", "agent": "support", "message": "Write the report"},
    SchedulePatch: {"cron": "30 8 * * MON-FRI"},
    NewWebhook: {"name": "new-order", "agent": "support", "message": "A new order: {{body}}"},
    WebhookPatch: {"message": "{{body.order}}"},
}


_PREVIEW = {
    "cron": Parameter(
        "minute, hour, day, month, weekday",
        Annotated[str, Meta(max_length=200, examples=["0 9 * * MON-FRI"])],
        required=True,
    ),
    "timezone": "a time zone of the IANA database, UTC unless told",
}


class ScheduleRoutes:
    """The routes of schedules; changes take effect at once."""

    def __init__(self, schedules: Schedules) -> None:
        self.schedules = schedules

    async def list_schedules(self, request: Request[None]) -> list[Schedule]:
        """Every schedule by name."""
        return [_schedule(row) for row in await request.engine.db.scan(store.list_all, SCHEDULE)]

    async def get_schedule(self, request: Request[None]) -> Schedule:
        """One schedule."""
        return _schedule(await request.engine.db.read(store.get, SCHEDULE, request.path["name"]))

    async def create_schedule(self, request: Request[NewSchedule]) -> Schedule:
        """A new schedule, whose tasks are the caller's."""
        create, new, owner = self.schedules.create, request.body, request.actor.subject
        schedule = await request.write(lambda conn: _schedule(create(conn, new, owner)))
        self.schedules.wake()
        return schedule

    async def update_schedule(self, request: Request[SchedulePatch]) -> Schedule:
        """The schedule with the fields that were sent; whoever changes more than `enabled` has its tasks."""
        update, name, by = self.schedules.update, request.path["name"], request.actor.subject
        schedule = await request.write(lambda conn: _schedule(update(conn, name, request.body, by)))
        self.schedules.wake()
        return schedule

    async def preview_schedule(self, request: Request[None]) -> Preview:
        """The next three times of a `cron` in a `timezone`, before it is a schedule's."""
        query = request.query
        timing = Timing(cron=query.get("cron", ""), timezone=query.get("timezone") or "UTC")
        return Preview(moments=[_written(moment) for moment in self.schedules.moments(timing, 3)])

    async def run_schedule(self, request: Request[None]) -> Received:
        """A task of the schedule at once, also while it is disabled; its next time stays."""

        def run(conn: Connection) -> Received:
            task = self.schedules.run(conn, request.path["name"])
            return Received(task_id=task.id, status=task.status)

        made = await request.write(run)
        request.engine.tasks.wake()
        return made

    async def delete_schedule(self, request: Request[None]) -> None:
        """Removes a schedule; the tasks that it made stay."""
        await request.write(store.delete, SCHEDULE, request.path["name"])


class WebhookRoutes:
    """The routes of webhooks."""

    def __init__(self, webhooks: Webhooks) -> None:
        self.webhooks = webhooks

    async def list_webhooks(self, request: Request[None]) -> list[Webhook]:
        """Every webhook by name."""
        return [Webhook(**_fields(row, WEBHOOK)) for row in await request.engine.db.scan(store.list_all, WEBHOOK)]

    async def get_webhook(self, request: Request[None]) -> Webhook:
        """One webhook."""
        return Webhook(**_fields(await request.engine.db.read(store.get, WEBHOOK, request.path["name"]), WEBHOOK))

    async def create_webhook(self, request: Request[NewWebhook]) -> CreatedWebhook:
        """A new webhook, whose tasks are the caller's."""

        def create(conn: Connection) -> CreatedWebhook:
            row, secret = self.webhooks.create(conn, request.body, request.actor.subject)
            return CreatedWebhook(**_fields(row, WEBHOOK), secret=secret)

        return await request.write(create)

    async def update_webhook(self, request: Request[WebhookPatch]) -> Webhook:
        """The webhook with the fields that were sent; whoever changes more than `enabled` has its tasks."""
        update, name, by = self.webhooks.update, request.path["name"], request.actor.subject
        return await request.write(lambda conn: Webhook(**_fields(update(conn, name, request.body, by), WEBHOOK)))

    async def list_deliveries(self, request: Request[None]) -> list[Delivery]:
        """The last requests to a webhook, newest first: 50 that were signed, and since the engine's start others."""
        name = request.path["name"]
        await request.engine.db.read(store.get, WEBHOOK, name)
        found = await request.engine.db.read(deliveries.stored, name) + self.webhooks.refused.of(name)
        return sorted(found, key=lambda delivery: delivery.at, reverse=True)[: deliveries.MOST]

    async def delete_webhook(self, request: Request[None]) -> None:
        """Removes a webhook; the tasks that it made stay."""
        await request.write(store.delete, WEBHOOK, request.path["name"])


def routes(schedules: Schedules, webhooks: Webhooks) -> Iterator[Route]:
    """The routes of both."""
    s, w = ScheduleRoutes(schedules), WebhookRoutes(webhooks)
    many, one = "/api/v1/schedules", "/api/v1/schedules/{name}"

    def route(method: Any, path: str, run: Any, summary: str, **more: Any) -> Route:
        example = _EXAMPLES.get(more.get("body"))
        return Route(method=method, path=path, run=run, summary=summary, example=example, **{"scope": "config", **more})

    new: dict[str, Any] = {"status": 201, "idempotent": True}
    yield route("GET", many, s.list_schedules, "List schedules", answer=list[Schedule])
    yield route("POST", many, s.create_schedule, "Create a schedule", body=NewSchedule, answer=Schedule, **new)
    yield route("GET", f"{many}/preview", s.preview_schedule, "Preview a schedule", query=_PREVIEW, answer=Preview)
    yield route("GET", one, s.get_schedule, "Get a schedule", answer=Schedule)
    for method in ("PUT", "PATCH"):
        yield route(method, one, s.update_schedule, "Update a schedule", body=SchedulePatch, answer=Schedule)
    yield route("DELETE", one, s.delete_schedule, "Delete a schedule", status=204)
    summary = "Run a schedule now"
    yield route("POST", f"{one}/run", s.run_schedule, summary, answer=Received, status=202, idempotent=True)
    many, one = "/api/v1/webhooks", "/api/v1/webhooks/{name}"
    yield route("GET", many, w.list_webhooks, "List webhooks", answer=list[Webhook])
    yield route("POST", many, w.create_webhook, "Create a webhook", body=NewWebhook, answer=CreatedWebhook, **new)
    yield route("GET", one, w.get_webhook, "Get a webhook", answer=Webhook)
    for method in ("PUT", "PATCH"):
        yield route(method, one, w.update_webhook, "Update a webhook", body=WebhookPatch, answer=Webhook)
    yield route("DELETE", one, w.delete_webhook, "Delete a webhook", status=204)
    yield route("GET", f"{one}/deliveries", w.list_deliveries, "List a webhook's deliveries", answer=list[Delivery])
    summary = "Make a task by a signed request"
    signed: dict[str, Any] = {
        "stream_body": True,
        "in_memory": True,
        "headers": {
            TIMESTAMP: Parameter("the present time in seconds since 1970", Stamp),
            SIGNATURE: Parameter("sha256= and the HMAC-SHA256 of timestamp, dot and body in hex", Digest),
            STANDARD_ID: "the id of a message of Standard Webhooks, in place of the two headers above",
            STANDARD_TIMESTAMP: "its time in seconds since 1970",
            STANDARD_SIGNATURE: "v1, and the HMAC-SHA256 of id, timestamp and body in base64; several with spaces",
        },
        "also": {401: None, 409: None, 422: None},
    }
    yield route("POST", one, webhooks.receive, summary, scope=None, answer=Received, status=202, **signed)


def _fields(row: Row, kind: Kind) -> dict[str, Any]:
    state = ("last_at", "last_task_id", "last_error", "created_at", "updated_at")
    fields = asdict(store.definition(row, kind)) | {name: row[name] for name in state}
    fields.pop("secret", None)
    return fields


def _written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _schedule(row: Row) -> Schedule:
    moment = row["next_at"]
    next_at = None if moment is None else _written(datetime.fromtimestamp(moment, UTC))
    return Schedule(**_fields(row, SCHEDULE), next_at=next_at)
