"""Tickets: a caller's own credential, sealed for one event stream, as the EventSource of browsers sends no headers."""

import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec import Struct
from starlette.routing import compile_path

from bytebrew.base.errors import Detail, InvalidRequest, Unauthorized, Unprocessable
from bytebrew.base.secrets import Secrets
from bytebrew.contract.route import Request, Route, Stream
from bytebrew.web.query import TICKET, takes_ticket

PREFIX = "bbt_"
SECONDS = 60
"""How long a ticket opens its stream; the stream itself goes on as long as the credential is good."""
_INVALID = "The ticket has expired, or is for another path; POST /api/v1/auth/tickets answers a new one"


class _Sealed(Struct, array_like=True, frozen=True):
    path: str
    until: float
    authorization: str


class Tickets:
    """Issues and redeems the tickets of an engine; nothing of them is stored."""

    def __init__(self, secrets: Secrets, clock: Callable[[], float] = time.time) -> None:
        self._secrets, self._clock = secrets.derived(b"ticket"), clock
        self._streams: list[tuple[re.Pattern[str], Route]] = []

    def offer(self, routes: Iterable[Route]) -> None:
        """Sets the routes that tickets are for."""
        self._streams = [(compile_path(route.path)[0], route) for route in routes if takes_ticket(route)]

    def route_of(self, path: str) -> Route:
        """The event stream at a path; InvalidRequest if there is none."""
        for pattern, route in self._streams:
            if pattern.fullmatch(unquote(path)):
                return route
        known = ", ".join(route.path for _, route in self._streams)
        message = f"is no path of an event stream; these are {known}"
        raise InvalidRequest(f"'{path[:100]}' {message}", details=[Detail("$.path", message)])

    def issue(self, path: str, authorization: str) -> str:
        """A ticket for a path with the caller's header Authorization; Unprocessable without one."""
        if not authorization:
            raise Unprocessable("A ticket holds the token in the header Authorization, and this request has none")
        sealed = _Sealed(unquote(path), self._clock() + SECONDS, authorization)
        raw = self._secrets.seal(msgspec.json.encode(sealed).decode())
        return PREFIX + _encoded(raw)

    def redeem(self, request: Request[Any], route: Route) -> bool:
        """Puts the credential of a ticket in the query string into the request's headers; whether there was one.

        Raises Unauthorized for an invalid ticket, InvalidRequest if the request has a credential besides.
        """
        if TICKET not in request.query or request.method != "GET" or not takes_ticket(route):
            return False
        if "authorization" in request.headers:
            message = "send a ticket or the header Authorization, not both"
            raise InvalidRequest(message.capitalize(), details=[Detail(f"$.{TICKET}", message)])
        text = request.query[TICKET]
        request.query = {name: value for name, value in request.query.items() if name != TICKET}
        ticket = self._opened(text)
        if ticket is None or ticket.path != request.url_path or ticket.until <= self._clock():
            raise Unauthorized(_INVALID)
        request.headers = {**request.headers, "authorization": ticket.authorization}
        return True

    def _opened(self, text: str) -> _Sealed | None:
        if not text.startswith(PREFIX):
            return None
        body = text.removeprefix(PREFIX)
        try:
            raw = urlsafe_b64decode(body + "=" * (-len(body) % 4))
            if _encoded(raw) != body:  # a ticket has one spelling, though the last letter has bits to spare
                return None
            return msgspec.json.decode(self._secrets.open(raw), type=_Sealed)
        except (
            ValueError,
            msgspec.MsgspecError,
            Unprocessable,
        ):  # no base64, too short for a sealed text, or sealed by no key of ours
            return None


def _encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def answer_headers(answer: object) -> dict[str, str]:
    """Headers that keep the address with the ticket to the browser; InvalidRequest if the answer is no stream."""
    if not isinstance(answer, Stream):
        message = "a ticket opens event streams alone; send the header Authorization for an answer in JSON"
        raise InvalidRequest(message.capitalize(), details=[Detail(f"$.{TICKET}", message)])
    return {"referrer-policy": "no-referrer", "cache-control": "no-store"}
