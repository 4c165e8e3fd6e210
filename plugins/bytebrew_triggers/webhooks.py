"""Webhooks: each signed request creates one task."""

import logging
import re
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from bytebrew import (
    Conflict,
    Connection,
    Detail,
    Duration,
    Engine,
    EngineError,
    InvalidRequest,
    NewTask,
    NotFound,
    Request,
    Row,
    StateKey,
    Unauthorized,
    Unprocessable,
    new_webhook_secret,
    now,
    resolved,
)

from . import deliveries, store
from .definition import LEAST_SECRET, NewWebhook, WebhookPatch, changes, owner_after
from .signed_requests import UNSIGNED, Claim, claim
from .store import WEBHOOK

log = logging.getLogger(__name__)
MOST_TEXT = 65_536
"""Limit in characters of a task's message."""
ID_SECONDS = 3 * 86400.0
"""Seconds for which a `webhook-id` is remembered: senders try again for days."""
_HOLE = re.compile(r"\{\{\s*body((?:\.[^{}.\s]+)*)\s*\}\}")


class WebhookSettings(Struct, frozen=True, kw_only=True):
    """The plugin's settings for webhooks."""

    webhook_window: Annotated[Duration, Meta(description="how far a webhook's timestamp may be off")] = Duration(300)


class Received(Struct, frozen=True, kw_only=True):
    """The task that a webhook has made."""

    task_id: str
    status: str


class Webhooks:
    """Verifies signed requests and creates their tasks."""

    def __init__(self, engine: Engine, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._clock = clock
        self.refused = deliveries.Refused()

    def create(self, conn: Connection, new: NewWebhook, owner: str) -> tuple[Row, str]:
        """Creates a webhook whose tasks belong to the owner; returns it and its secret."""
        self._check(conn, new)
        secret = _checked_secret(new.secret) or new_webhook_secret()
        sealed = self._engine.secrets.seal(secret)
        return store.create(conn, WEBHOOK, replace(new, secret=""), owner=owner, sealed_secret=sealed), secret

    def update(self, conn: Connection, name: str, patch: WebhookPatch, by: str) -> Row:
        """The webhook with the patch merged in."""
        row = store.get(conn, WEBHOOK, name)
        if patch.secret is None:
            message = "stays or is replaced: without one anybody could make tasks"
            raise InvalidRequest(f"The secret of a webhook {message}", details=[Detail("$.secret", message)])
        old: NewWebhook = store.definition(row, WEBHOOK)
        new = replace(old, **changes(patch))
        self._check(conn, new)
        with suppress(Unprocessable):  # one that was sealed with another key is replaced
            if new.secret == self._engine.secrets.open(row["sealed_secret"]):
                new = replace(new, secret="")
        sealed = self._engine.secrets.seal(_checked_secret(new.secret)) or row["sealed_secret"]
        owner = owner_after(row["owner"], old, new, by)
        return store.update(conn, WEBHOOK, replace(new, secret=""), sealed_secret=sealed, owner=owner)

    def _check(self, conn: Connection, webhook: NewWebhook) -> None:
        if webhook.enabled:  # a disabled one may name a deleted agent
            self._engine.tasks.check(conn, webhook.agent, webhook.schema)

    async def receive(self, request: Request[AsyncIterator[bytes]]) -> Received:
        """A task out of a signed request.

        The header X-Webhook-Timestamp has the seconds since 1970, X-Webhook-Signature the HMAC-SHA256 of timestamp, a
        dot and body under the webhook's secret, in hex behind `sha256=`. Or the request is one of Standard Webhooks:
        if its `webhook-id` has come before, within three days, it gets the answer of the first. Nothing of a body is
        read where a header is malformed, or there is no such webhook; the answer is then that to a wrong secret.
        """
        engine, name = self._engine, request.path["name"]
        window = engine.settings.of(WebhookSettings).webhook_window
        try:
            sent = claim(request.headers, self._clock().timestamp(), window)
            row = await engine.db.read(store.find, WEBHOOK, name)
            if row is None:
                raise Unauthorized(UNSIGNED)
            secret = self._secret(name, row["sealed_secret"])
            body = b"".join([piece async for piece in request.body])
            mark = sent.mark(secret, body)
        except Unauthorized as error:
            self.refused.add(name, error)
            raise

        def fire(conn: Connection) -> Received | EngineError:
            made = self._fire(conn, name, sent, mark, window, body)
            if isinstance(made, Received):
                deliveries.keep(conn, name, 202, task_id=made.task_id)
                request.record(conn, made)
            else:
                deliveries.keep(conn, name, made.status, made.message)
            return made

        made = await engine.db.write(fire)
        if isinstance(made, EngineError):
            raise made
        engine.tasks.wake()
        return made

    def _secret(self, name: str, sealed: bytes) -> str:
        """The secret of a webhook; a random one if it is unknown or too short."""
        try:
            return _strong(resolved(self._engine.secrets.open(sealed)))
        except EngineError as error:
            log.warning("webhook %s takes no request: %s", name, error)
            return secrets.token_hex(32)

    def _fire(
        self, conn: Connection, name: str, sent: Claim, mark: bytes, window: float, body: bytes
    ) -> Received | EngineError:
        row = store.get(conn, WEBHOOK, name)
        webhook: NewWebhook = store.definition(row, WEBHOOK)
        if not webhook.enabled:
            return NotFound(f"The webhook '{name}' is disabled")
        moment = self._clock().timestamp()
        expires_at = moment + ID_SECONDS if sent.message_id else sent.stamp + window
        if not store.is_new(conn, name, mark, expires_at, moment):
            if sent.message_id:
                return msgspec.json.decode(store.answer_of(conn, name, mark), type=Received)
            return Conflict("This very request has come before, and its task was made", code="replayed")
        new = NewTask(
            agent=webhook.agent,
            title=" ".join(rendered(webhook.title, body).split())[:256] or webhook.name,
            description=rendered(webhook.message, body)[:MOST_TEXT],
            schema=webhook.schema,
        )
        try:
            task = self._engine.tasks.add(conn, new, row["owner"], "webhook")
        except EngineError as error:
            store.put(conn, WEBHOOK, name, last_task_id=None, last_error=error.message, last_at=now())
            conn.execute("delete from triggers_signatures where webhook = ? and signature = ?", (name, mark))
            return error
        store.put(conn, WEBHOOK, name, last_task_id=task.id, last_error=None, last_at=now())
        made = Received(task_id=task.id, status=task.status)
        if sent.message_id:
            store.keep_answer(conn, name, mark, msgspec.json.encode(made).decode())
        return made


def rendered(template: str, body: bytes) -> str:
    """The template with `{{body}}` and `{{body.a.b}}` replaced; missing values are empty, and no text has U+0000."""
    text = body.decode("utf-8", "replace")
    try:
        whole = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        whole = None

    def value(match: re.Match[str]) -> str:
        return _written(_at(whole, match[1][1:].split("."))) if match[1] else text

    return _HOLE.sub(value, template).replace("\0", "\N{REPLACEMENT CHARACTER}")


def _at(value: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isascii() and part.isdecimal() and int(part[:9]) < len(value):
            value = value[int(part[:9])]
        else:
            return None
    return value


def _written(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError:  # nested too deeply to encode
        return ""


def _checked_secret(secret: str) -> str:
    """A secret set by an operator; a variable is resolved at each request."""
    return secret if not secret or secret.startswith("${") else _strong(secret)


def _strong(secret: str) -> str:
    if len(secret) < LEAST_SECRET:
        message = f"is shorter than {LEAST_SECRET} characters"
        raise InvalidRequest(f"The secret {message}", details=[Detail("$.secret", message)])
    return secret


WEBHOOKS = StateKey[Webhooks]("webhooks")
