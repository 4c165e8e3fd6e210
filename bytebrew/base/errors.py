"""Exceptions, with the HTTP status and the code that clients see."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec import Struct


class Detail(Struct, frozen=True):
    """One fault in a request: a JSON path such as `$.max_steps`, and its message."""

    path: str
    message: str


class EngineError(Exception):
    """An error response: `{"error": code, "message": ...}` with `status`."""

    status: ClassVar[int] = 500
    code: str = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        details: Sequence[Detail] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.details = tuple(details)
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        """The JSON body of the response."""
        body: dict[str, object] = {"error": self.code, "message": self.message}
        return {**body, "details": self.details} if self.details else body


class InvalidRequest(EngineError):
    """The request is malformed, or a field is invalid."""

    status = 400
    code = "invalid_request"


class Unauthorized(EngineError):
    """The credential is missing or invalid (RFC 6750 section 3)."""

    status = 401
    code = "unauthorized"

    def __init__(
        self,
        message: str = "Invalid or expired API token",
        *,
        missing: bool = False,
        challenge: str = 'Bearer realm="bytebrew"',
    ) -> None:
        line = challenge if missing else f'{challenge}, error="invalid_token"'
        super().__init__(message, headers={"WWW-Authenticate": line})


class Forbidden(EngineError):
    """The credential is valid but does not allow this."""

    status = 403
    code = "forbidden"


class NotFound(EngineError):
    """The resource does not exist, or the caller may not know of it."""

    status = 404
    code = "not_found"


class MethodNotAllowed(EngineError):
    """The path exists; the method does not."""

    status = 405
    code = "method_not_allowed"


class RequestTimeout(EngineError):
    """The body did not arrive in time."""

    status = 408
    code = "request_timeout"


class Conflict(EngineError):
    """The name is taken, the resource is in use, or its state does not allow this."""

    status = 409
    code = "conflict"


class Stale(Conflict):
    """What would be approved has changed since it was shown; `current` is the present state, with its digest."""

    code = "stale_digest"

    def __init__(self, message: str, current: object, *, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.current = current

    def body(self) -> dict[str, object]:
        return super().body() | {"current": self.current}


class Gone(EngineError):
    """The resource has expired."""

    status = 410
    code = "gone"


class HistoryChanged(Gone):
    """The cursor points to events that the database does not have any more."""

    code = "history_changed"


class PayloadTooLarge(EngineError):
    """The body is over its limit."""

    status = 413
    code = "payload_too_large"


class UnsupportedMediaType(EngineError):
    """The route does not accept the body's content type."""

    status = 415
    code = "unsupported_media_type"


class Unprocessable(EngineError):
    """The request is well formed but cannot be executed."""

    status = 422
    code = "unprocessable"


class Draining(EngineError):
    """The engine is shutting down and accepts no new work."""

    status = 503
    code = "draining"

    def __init__(self, message: str = "The engine is shutting down; try again in a moment") -> None:
        super().__init__(message, headers={"Retry-After": "5"})


class Overloaded(EngineError):
    """The engine is overloaded and accepts no more work for the moment."""

    status = 503
    code = "overloaded"

    def __init__(self, message: str, *, closes: bool = False) -> None:
        super().__init__(message, headers={"Retry-After": "1"} | ({"Connection": "close"} if closes else {}))


class QueueFull(EngineError):
    """The queue of the session or the caller is full."""

    status = 429
    code = "queue_full"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"Retry-After": "5"})


class StorageError(EngineError):
    """The database cannot be read or written: the disk is full or fails, or the file is damaged.

    A `lasting` fault needs a restart of the engine.
    """

    status = 503
    code = "storage"

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message, headers={"Retry-After": "5"})
        self.lasting = lasting


class NotRecorded(EngineError):
    """A plugin could not record the request's changes, so they were rolled back."""

    status = 503
    code = "not_recorded"


class TooSlow(EngineError):
    """A list, sum or export exceeded the time limit."""

    status = 503
    code = "too_slow"

    def __init__(self, seconds: float) -> None:
        words = f"This takes longer than the {seconds:g} s that the engine works on a list: narrow the request"
        super().__init__(f"{words}, with `from` and `to` or another filter, or follow `next` instead of `page`")


class ProviderError(EngineError):
    """The model's vendor failed or refused the request; the message is the vendor's.

    `code` is one of model_auth, model_rate_limited, model_overloaded, model_context_too_long, model_bad_request,
    model_unavailable, model_timeout, model_answer_too_long, model_error. `retry_after` is the vendor's wait in seconds.
    `retry` says whether the same request may succeed later, `tries` how often it was sent. `too_long` has a fallback
    model that refused the conversation as too long, with its error.
    """

    status = 502
    code = "model_error"
    too_long: "tuple[str, ProviderError] | None" = None

    def __init__(
        self, message: str, *, code: str = "model_error", retry: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.retry = retry
        self.retry_after = retry_after
        self.tries = 1


class TurnError(EngineError):
    """A turn has failed."""

    code = "turn_failed"


class TurnTimeout(TurnError):
    """The turn ran longer than its agent's max_turn_duration."""

    status = 504
    code = "turn_timeout"


class TurnInterrupted(TurnError):
    """The engine stopped during the turn, which cannot be resumed."""

    status = 503
    code = "interrupted"


class ToolError(Exception):
    """Raised by a tool to tell the model what went wrong, so that it can try something else."""


class BootError(Exception):
    """The engine cannot start; the message says what to change."""


class SettingsError(BootError):
    """Invalid settings; the message names every one (exit code 2)."""
