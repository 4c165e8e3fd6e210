"""Lists: one shape for all of them, by `limit` and `offset` or from a cursor on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin
from urllib.parse import parse_qsl

from msgspec import Meta, Struct

from bytebrew.base.errors import Detail, InvalidRequest
from bytebrew.base.formats import canonical_id
from bytebrew.contract.route import Parameter, Route, positive

Row = TypeVar("Row")
MOST = 1000
"""Rows of a page of a list that is answered whole without these parameters."""
AFTER = Parameter("the `next` of the page before", Annotated[int, Meta(ge=0, lt=10**9)])
OFFSET = Parameter("rows that come before the page, 0 for none", Annotated[int, Meta(ge=0, lt=10**9)])
PAGING: Mapping[str, str | Parameter] = MappingProxyType(
    {
        "limit": Parameter(f"rows of a page, {MOST} at most", Annotated[int, Meta(ge=1, le=MOST)]),
        "offset": OFFSET,
        "after": AFTER,
    }
)
WORDS = """Every list can be had as a page: `data` are its rows, `total` is how many there are on all pages, `limit`
and `offset` are what was asked for (`?limit=20&offset=40`), and `next` is what to send as `after` for the page
behind, null on the last. Lists that are an array without these parameters are a page with one of them; a schema's
memories are with `offset` or `after`, and a session's messages with `offset` alone, beside which `after` may stand
(`?offset=0&after=17`). Older names stay beside the new ones: `page`, `per_page` and `total_pages`, and `sessions`,
`tasks` and `events` for `data`. Events alone have no `offset`, for their ids are numbers: they are read from the one
`after` an id on."""
_IDS = ("session_id", "after")
"""Parameters that are ids of the engine's own; who a user is says somebody else."""


class Page(Struct, Generic[Row], frozen=True, kw_only=True):
    """A page of a list: some rows out of `total`; `next` is the `after` of the page behind."""

    data: list[Row]
    total: int
    limit: int
    offset: int
    next: str | None


class NumberedPage(Page[Row], frozen=True, kw_only=True):
    """A page under its older names too: `page` counts from 1, `per_page` is `limit`."""

    page: int
    per_page: int
    total_pages: int


def is_paged(route: Route) -> bool:
    """Whether the engine makes the pages of a route's list, which answers all of it."""
    return route.method == "GET" and get_origin(route.answer) is list and route.query.keys().isdisjoint(PAGING)


def parameters(route: Route) -> Mapping[str, str | Parameter]:
    """All that a query string may say to a route."""
    return {**route.query, **PAGING} if is_paged(route) else route.query


def with_paging(route: Route) -> Route:
    """The route with all that it takes and gives where the engine makes the pages of its list."""
    if not is_paged(route):
        return route
    pages: Any = Page
    return replace(route, query=parameters(route), answer=route.answer | pages[get_args(route.answer)])


def check(query: Mapping[str, str], route: Route) -> None:
    """Raises InvalidRequest for a parameter that the route does not have: a misspelt filter would let all through."""
    known = parameters(route)
    open_ended = tuple(name.partition("<")[0] for name in known if "<" in name)
    strange = [name for name in query if name not in known and not (open_ended and name.startswith(open_ended))]
    if strange:
        words = f"is no parameter; known are {', '.join(known) or 'none'}"
        details = [Detail(f"$.{name[:100]}", words) for name in strange[:100]]
        raise InvalidRequest(f"'{strange[0][:100]}' {words}", details=details)


def read(text: bytes) -> dict[str, str]:
    """A query string by name; the last of a name counts, and ids are as they are stored."""
    pairs = parse_qsl(text.decode("latin-1"), keep_blank_values=True)
    return {name: canonical_id(value) if name in _IDS else value for name, value in pairs}


def answered(answer: Any, query: Mapping[str, str], route: Route) -> Any:
    """The answer of a route, or the page of it that the query string asks for."""
    pages = isinstance(answer, list) and is_paged(route) and not query.keys().isdisjoint(PAGING)
    return page(answer, query) if pages else answer


def page(rows: Sequence[Row], query: Mapping[str, str]) -> Page[Row]:
    """The page of a whole list that a query string asks for."""
    limit, start = number(query, "limit", MOST, 1, MOST), offset_of(query)
    return page_of(rows[start : start + limit], len(rows), limit, start)


def page_of(rows: Sequence[Row], total: int, limit: int, offset: int) -> Page[Row]:
    """A page of these rows out of all, where `next` is the offset of the page behind."""
    end = offset + limit
    return Page(data=[*rows], total=total, limit=limit, offset=offset, next=str(end) if end < total else None)


def offset_of(query: Mapping[str, str]) -> int:
    """How many rows come before a page, by `offset` or by an `after` that is one."""
    return number(query, "after", number(query, "offset", 0, 0, 10**9 - 1), 0, 10**9 - 1)


def page_window(query: Mapping[str, str], default: int, most: int) -> tuple[int, int]:
    """How many rows a query string asks for and how many come before them: by `limit` and `offset`, or by `page`."""
    limit = positive(query.get("limit") or query.get("per_page"), default, most)
    if "offset" in query:
        return limit, number(query, "offset", 0, 0, 10**9 - 1)
    return limit, (positive(query.get("page"), 1, 10**9) - 1) * limit


def page_numbers(total: int, limit: int, offset: int) -> dict[str, int]:
    """The numbers of a NumberedPage."""
    named = {"page": offset // limit + 1, "per_page": limit, "total_pages": -(-total // limit)}
    return {"total": total, "limit": limit, "offset": offset, **named}


def number(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """A whole number of the query string; InvalidRequest where it is none between the two."""
    text: Any = query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 12 or not least <= int(text) <= most:
        words = f"is a whole number from {least} to {most}"
        raise InvalidRequest(f"{name} {words}", details=[Detail(f"$.{name}", words)])
    return int(text)
