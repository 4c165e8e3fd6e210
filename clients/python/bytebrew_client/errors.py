"""What can go wrong: each exception says what happened, and none has a credential in it."""

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from bytebrew_client.turn import Answer


class ByteBrewError(Exception):
    """Any failure of this client."""


class ConnectionLost(ByteBrewError):
    """The engine could not be reached, or the connection broke off, for longer than the client retries.

    `sent` is False if the request cannot have reached the engine; a `permanent` fault does not go away by itself.
    """

    def __init__(self, message: str, *, sent: bool = True, permanent: bool = False) -> None:
        super().__init__(message)
        self.sent, self.permanent = sent, permanent


class Detail(NamedTuple):
    """A fault in a request: a JSON path, such as `$.message`, and what is wrong there."""

    path: str
    message: str


class APIError(ByteBrewError):
    """The engine has refused a request.

    `code` is for programs, `details` are the faults of the request by their paths, `retry_after` is in seconds,
    `current` is what there is now in place of what was to be approved, `request_id` identifies the request in the logs.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str = "",
        details: tuple[Detail, ...] = (),
        request_id: str = "",
        retry_after: float | None = None,
        current: Any = None,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.code, self.details = message, status, code, details
        self.request_id, self.retry_after, self.current = request_id, retry_after, current

    def __str__(self) -> str:
        faults = "; ".join(f"{one.path}: {one.message}" for one in self.details)
        return f"{self.code}: {self.message}{f' ({faults})' if faults else ''}"


class InvalidRequest(APIError):
    """400 or 422: the request breaks a rule; `details` say where."""


class Unauthorized(APIError):
    """401: there is no token, or it is not valid."""


class Forbidden(APIError):
    """403: the token does not allow this, or the schema does not."""


class NotFound(APIError):
    """404: there is no such thing, or the token may not know of it."""


class Conflict(APIError):
    """409: the state does not allow it."""


class Gone(APIError):
    """410: it was there. The code `history_changed` says that the engine's database was restored."""


class RateLimited(APIError):
    """429: too many requests, for longer than the client retries."""


class Unavailable(APIError):
    """503: the engine is too busy, or stops, for longer than the client retries."""


_BY_STATUS: dict[int, type[APIError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: InvalidRequest,
    429: RateLimited,
    503: Unavailable,
}


class TurnFailed(ByteBrewError):
    """The turn ended with an `error` event; `retry_after` is in seconds, where the model's vendor named a wait."""

    def __init__(self, code: str, message: str, *, session_id: str, turn_id: str, retry_after: int | None) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.retry_after = code, message, retry_after
        self.session_id, self.turn_id = session_id, turn_id


class InputNeeded(ByteBrewError):
    """A person must answer before the turn goes on: the `questions` of the `answer` so far."""

    def __init__(self, answer: "Answer") -> None:
        super().__init__(
            "a person must answer first: see the questions of the answer, and Chat.approve and Chat.reject"
        )
        self.answer = answer


def refusal(status: int, headers: Mapping[str, str], content: bytes) -> APIError:
    """The exception of an answer that is not a good one, be it the engine's or that of a proxy before it."""
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = {}
    details = tuple(
        Detail(str(one.get("path", "")), str(one.get("message", "")))
        for one in body.get("details") or ()
        if isinstance(one, dict)
    )
    return _BY_STATUS.get(status, APIError)(
        str(body.get("message", "The answer is none of the engine's")),
        status=status,
        code=str(body.get("error", f"http_{status}")),
        details=details,
        request_id=headers.get("x-request-id", ""),
        retry_after=seconds_of(headers.get("retry-after", "")),
        current=body.get("current"),
    )


def seconds_of(retry_after: str) -> float | None:
    """The seconds of a Retry-After header, which has a number or a date (RFC 9110, section 10.2.3)."""
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
