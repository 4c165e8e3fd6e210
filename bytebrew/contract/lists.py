"""Lists: one shape for all of them, by `limit` and `offset` or from a cursor on."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar

from msgspec import Meta, Struct

from bytebrew.base.errors import Detail, InvalidRequest
from bytebrew.contract.route import Parameter, positive

Row = TypeVar("Row")
MOST = 1000
"""Rows of a page of a list that is answered whole without these parameters."""
AFTER = Parameter("the `next` of the page before", Annotated[int, Meta(ge=0, lt=10**9)])
OFFSET = Parameter("rows that come before the page, 0 for none", Annotated[int, Meta(ge=0, lt=10**9)])


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
