"""Query strings: decodes them, checks them and paths against the route's parameters, and applies paging to lists."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any, get_args, get_origin
from urllib.parse import parse_qsl

from msgspec import Meta

from bytebrew.base.errors import Detail, InvalidRequest
from bytebrew.base.formats import canonical_id
from bytebrew.base.validation import NUL
from bytebrew.contract.lists import AFTER, MOST, OFFSET, Page, number, offset_of, page_of
from bytebrew.contract.route import Parameter, Request, Route

PAGING: Mapping[str, str | Parameter] = MappingProxyType(
    {
        "limit": Parameter(f"rows of a page, {MOST} at most", Annotated[int, Meta(ge=1, le=MOST)]),
        "offset": OFFSET,
        "after": AFTER,
    }
)
TICKET = "ticket"
"""The parameter of a ticket, in place of the header Authorization."""
_IDS = ("session_id", "after")
"""Parameters that are ids of the engine, also accepted in upper case."""


def is_paged(route: Route) -> bool:
    """Whether the engine pages the route's answer, which is a whole list."""
    return route.method == "GET" and get_origin(route.answer) is list and route.query.keys().isdisjoint(PAGING)


def takes_ticket(route: Route) -> bool:
    """Whether the route answers the engine's own event streams, which a browser's EventSource opens with a ticket."""
    return route.method == "GET" and route.streams and route.scope is not None and route.face is None


def parameters(route: Route) -> Mapping[str, str | Parameter]:
    """Every parameter that a route accepts."""
    return {**route.query, **PAGING} if is_paged(route) else route.query


def with_paging(route: Route) -> Route:
    """The route, with the parameters and the answer type of a paged list if `is_paged`."""
    if not is_paged(route):
        return route
    pages: Any = Page
    return replace(route, query=parameters(route), answer=route.answer | pages[get_args(route.answer)])


def check(request: Request[Any], route: Route) -> None:
    """Raises InvalidRequest for an unknown parameter: a misspelt filter would match every row; and for U+0000."""
    known, query = parameters(route), request.query
    open_ended = tuple(name.partition("<")[0] for name in known if "<" in name)
    unknown = [name for name in query if name not in known and not (open_ended and name.startswith(open_ended))]
    if unknown:
        message = f"is no parameter; known are {', '.join(known) or 'none'}"
        details = [Detail(f"$.{name[:100]}", message) for name in unknown[:100]]
        raise InvalidRequest(f"'{unknown[0][:100]}' {message}", details=details)
    if with_nul := [name for name, value in {**request.path, **query}.items() if "\0" in value]:
        raise InvalidRequest(f"{with_nul[0]} {NUL}", details=[Detail(f"$.{name}", NUL) for name in with_nul])


def parse(text: bytes) -> dict[str, str]:
    """The parameters by name, ids in their stored form; the last of several with one name counts."""
    pairs = parse_qsl(text.decode("latin-1"), keep_blank_values=True)
    return {name: canonical_id(value) if name in _IDS else value for name, value in pairs}


def paged(answer: Any, query: Mapping[str, str], route: Route) -> Any:
    """The answer of a route, or the page that the query string selects from it."""
    if not isinstance(answer, list) or not is_paged(route) or query.keys().isdisjoint(PAGING):
        return answer
    limit, start = number(query, "limit", MOST, 1, MOST), offset_of(query)
    return page_of(answer[start : start + limit], len(answer), limit, start)
