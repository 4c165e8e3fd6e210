"""Callbacks: create, change, and replace their secrets."""

from collections.abc import Callable

from msgspec.structs import replace

from bytebrew import (
    Action,
    Connection,
    Detail,
    Engine,
    InvalidRequest,
    Row,
    StateKey,
    Unprocessable,
    new_webhook_secret,
)

from . import store
from .definition import CallbackPatch, CallbackSettings, NewCallback, Policy, changes, checked_secret

OVERLAP = 86400.0
"""Seconds for which the secret before signs too, once it is replaced."""


class Callbacks:
    """The registered callbacks of an engine."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        settings = engine.settings.of(CallbackSettings)
        self._engine, self._clock = engine, clock
        self._policy, self._default = Policy(settings.callback_origins), settings.callback_secret

    def create(self, conn: Connection, new: NewCallback) -> tuple[Row, str]:
        """Creates a callback; returns it and its secret."""
        self._check(new)
        secret = checked_secret(new.secret) or new_webhook_secret()
        return store.create(conn, new, self._engine.secrets.seal(secret)), secret

    def update(self, conn: Connection, name: str, patch: CallbackPatch) -> Row:
        """The callback with the patch merged in; with another secret the one before signs too for a day."""
        if patch.secret is None:
            message = "stays or is replaced: without one a receiver cannot tell who calls"
            raise InvalidRequest(f"The secret of a callback {message}", details=[Detail("$.secret", message)])
        row = store.get(conn, name)
        new = replace(store.definition(row), **changes(patch))
        self._check(new)
        secret = checked_secret(new.secret)
        if secret and secret != self._engine.secrets.open(row["sealed_secret"]):
            self._replace(conn, name, secret)
        return store.change(conn, new)

    def rotate(self, conn: Connection, name: str) -> tuple[Row, str]:
        """Gives a callback a new secret, which is returned with it."""
        secret = new_webhook_secret()
        return self._replace(conn, name, secret), secret

    def _replace(self, conn: Connection, name: str, secret: str) -> Row:
        return store.rotate(conn, name, self._engine.secrets.seal(secret), self._clock() + OVERLAP)

    def _check(self, callback: NewCallback) -> None:
        if not callback.url:
            raise InvalidRequest("A callback needs a url", details=[Detail("$.url", "is empty")])
        self._policy.check(callback.url, "$.url")

    def check_task(self, conn: Connection, action: Action) -> None:
        """Refuses a new task whose own URL may not be called, or could not be signed for."""
        if action.name != "task.create" or not (action.after or {}).get("callback_url"):
            return
        row = conn.execute("select callback_url from tasks where id = ?", (action.resource_id,)).fetchone()
        self._policy.check(row["callback_url"], "$.callback_url")
        if not self._default:
            details = [Detail("$.callback_url", "cannot be signed for: BYTEBREW_CALLBACK_SECRET is not set")]
            message = "Set BYTEBREW_CALLBACK_SECRET to the secret that signs what a callback_url is sent"
            raise Unprocessable(message, details=details)


CALLBACKS = StateKey[Callbacks]("callbacks")
