"""Flows: what the client does, as generators that yield commands and do no I/O themselves.

A transport carries the commands out, with or without asyncio, so that the logic is written once. A command that fails
for the network raises ConnectionLost at its `yield`.
"""

import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from bytebrew_client.errors import APIError, ConnectionLost, refusal

T = TypeVar("T")


def path(*parts: str) -> str:
    """A path of the API, out of names and ids as they are."""
    return "/".join(quote(part, safe="") for part in parts)


@dataclass(frozen=True)
class Request:
    """A request to the API; the path is behind `/api/v1/`. Its repr has no headers and no body."""

    method: str
    path: str
    content: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)


class Reply(NamedTuple):
    """An answer; header names are lower case. The content of a stream is empty: `Read` has it."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Send(NamedTuple):
    """Sends a request; its result is the whole Reply."""

    request: Request


class Open(NamedTuple):
    """Sends a request whose answer is a stream, which stays open; its result is the Reply, whole if it is an error."""

    request: Request


class Read(NamedTuple):
    """The next chunk of the open stream, None at its end."""


class Close(NamedTuple):
    """Closes the open stream, if there is one."""


class Sleep(NamedTuple):
    """Waits for so many seconds."""

    seconds: float


class Run(NamedTuple):
    """Calls a function of the user's; its result is an Outcome. One that is not async may block."""

    function: Callable[[], Any]
    is_async: bool


class Outcome(NamedTuple):
    """What a function returned, or the exception that it raised."""

    value: Any = None
    error: Exception | None = None


Command = Send | Open | Read | Close | Sleep | Run
Flow = Generator[Command, Any, T]

AGAIN = frozenset({408, 429, 502, 503, 504})
"""Statuses after which the same request may be sent again: it was not taken, or a proxy has lost the engine."""
REFUSED = frozenset({429, 503})
"""Those of them after which the request has certainly done nothing."""
FIRST, LONGEST = 0.1, 5.0
"""Seconds between the first two attempts, doubled each time, up to the longest pause."""


class Retries:
    """Decides whether and when to try again: until `seconds` have gone by without progress."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._failures, self._since = 0, 0.0
        self._at_once = False

    @property
    def failed(self) -> bool:
        """Whether an attempt has failed since the last progress."""
        return self._failures > 0

    def progress(self) -> None:
        """Something came: the limit starts anew, and the next attempt is made at once."""
        self._failures, self._at_once = 0, True

    def pause(self, error: ConnectionLost | APIError) -> float:
        """Seconds to wait before the next attempt; raises the error if there is to be none."""
        if isinstance(error, ConnectionLost):
            if error.permanent:
                raise error
            pause = 0.0
        elif error.status not in AGAIN:
            raise error
        else:
            pause = error.retry_after or 0.0
        now = self._clock()
        if not self._failures:
            self._since = now
        backoff = min(LONGEST, FIRST * 2.0 ** min(self._failures, 20)) * random.uniform(0.5, 1)  # noqa: S311
        self._failures += 1
        if not self._at_once:
            pause = max(pause, backoff)
        self._at_once = False
        if now + pause > self._since + self._seconds:
            raise error
        return pause


def call(request: Request, seconds: float, *, repeatable: bool = True) -> Flow[Reply]:
    """The good answer to a request, which is sent again where that is safe; raises APIError or ConnectionLost."""
    retries = Retries(seconds)
    while True:
        try:
            reply: Reply = yield Send(request)
            deleted = request.method == "DELETE" and reply.status == 404 and retries.failed
            if reply.status < 300 or deleted:  # by an attempt whose answer was lost
                return reply
            raise refusal(*reply)
        except (ConnectionLost, APIError) as error:
            taken = error.sent if isinstance(error, ConnectionLost) else error.status not in REFUSED
            if taken and not repeatable:
                raise
            pause = retries.pause(error)
        yield Sleep(pause)
