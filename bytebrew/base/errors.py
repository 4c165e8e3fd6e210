"""Exceptions, with the HTTP status and the code that clients see; their docstrings are in the API document."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

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
    """The request is malformed or breaks a rule of its fields."""

    status = 400
    code = "invalid_request"


class Unauthorized(EngineError):
    """No credential, or one that is not valid (RFC 6750 section 3)."""

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


class BudgetExceeded(EngineError):
    """A budget has no room for the turn or for its next model call."""

    status = 402
    code = "budget_exceeded"


class Forbidden(EngineError):
    """The credential is good and does not allow this."""

    status = 403
    code = "forbidden"


class NotFound(EngineError):
    """No such thing, or one that the caller may not know of."""

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
    """The name is taken, the thing is in use, or the state does not allow it."""

    status = 409
    code = "conflict"


class Stale(Conflict):
    """What would be approved is not what was shown; `current` is what there is now, with its own digest."""

    code = "stale_digest"

    def __init__(self, message: str, current: object, *, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.current = current

    def body(self) -> dict[str, object]:
        return super().body() | {"current": self.current}


class Gone(EngineError):
    """It was there, and its time is over."""

    status = 410
    code = "gone"


class HistoryChanged(Gone):
    """The cursor is of events that the database does not have, or no longer has."""

    code = "history_changed"


class PayloadTooLarge(EngineError):
    """The body is over its limit."""

    status = 413
    code = "payload_too_large"


class UnsupportedMediaType(EngineError):
    """The body's content type is not the one that the route reads."""

    status = 415
    code = "unsupported_media_type"


class Unprocessable(EngineError):
    """Well formed, and it cannot mean what it says."""

    status = 422
    code = "unprocessable"


class Draining(EngineError):
    """The engine is shutting down and takes no new work."""

    status = 503
    code = "draining"

    def __init__(self, message: str = "The engine is shutting down; try again in a moment") -> None:
        super().__init__(message, headers={"Retry-After": "5"})


class Overloaded(EngineError):
    """The engine has as much to do as it can do well, and takes no more for the moment."""

    status = 503
    code = "overloaded"

    def __init__(self, message: str, *, closes: bool = False) -> None:
        super().__init__(message, headers={"Retry-After": "1"} | ({"Connection": "close"} if closes else {}))


class QueueFull(EngineError):
    """As much of the session's or the caller's own waits as may."""

    status = 429
    code = "queue_full"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"Retry-After": "5"})


class StorageError(EngineError):
    """The database does not take or give what it should: the disk is full or fails, or the file is damaged.

    A `lasting` fault does not pass while the engine runs.
    """

    status = 503
    code = "storage"

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message, headers={"Retry-After": "5"})
        self.lasting = lasting


class Fenced(StorageError):
    """This engine may commit nothing more: another node has ended it, or the database has lost what it holds."""

    def __init__(self, message: str = "Another node has taken over the work of this one, which starts anew") -> None:
        super().__init__(message, lasting=True)


class NotRecorded(EngineError):
    """A plugin could not record what the request did, so all that the request stored is undone."""

    status = 503
    code = "not_recorded"


class TooSlow(EngineError):
    """A list, a sum or a page of an export that takes longer than the engine works on one."""

    status = 503
    code = "too_slow"

    def __init__(self, seconds: float) -> None:
        message = f"This takes longer than the {seconds:g} s that the engine works on a list: narrow the request"
        super().__init__(f"{message}, with `from` and `to` or another filter, or follow `next` instead of `page`")


class ProviderError(EngineError):
    """The model's vendor failed or refused, in the vendor's own words.

    `code` is one of model_auth, model_rate_limited, model_overloaded, model_context_too_long, model_bad_request,
    model_unavailable, model_timeout, model_answer_too_long, model_error. `retry_after` is in seconds, where the vendor
    named a wait.
    `retry` says whether the same request may succeed later, `tries` how often it was sent, `begun` whether a part of
    the answer had come. `too_long` names a fallback that was asked in its place and found the conversation too long,
    with that refusal.
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
        self.begun = False


class TurnError(EngineError):
    """A turn that cannot go on."""

    code = "turn_failed"


class TurnTimeout(TurnError):
    """The turn ran longer than its agent's max_turn_duration."""

    status = 504
    code = "turn_timeout"


class AnswerInvalid(TurnError):
    """The model's final answer is not what the response format says, after one repair; the message has the path.

    The request was fine, and the model's vendor gave an answer that cannot be used.
    """

    status = 502
    code = "answer_invalid"


class TurnInterrupted(TurnError):
    """The engine stopped in the middle of the turn, which cannot go on."""

    status = 503
    code = "interrupted"


class ToolError(Exception):
    """Raised by a tool to tell the model what went wrong, so that it can try something else.

    `events` are sent to the client, as those of a result are.
    """

    def __init__(self, message: str, *, events: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.events = events


class BootError(Exception):
    """The engine cannot start; the message says what to change."""


class SettingsError(BootError):
    """Invalid settings; the message names every one (exit code 2)."""
