"""Paged lists by `limit` and `offset` or from a cursor, and fast totals of long tables.

A long table has a second table with counts, by day (or by 1,024 ids) and by the columns with few values. Triggers,
which a Migration creates, update it with every change of a row. A total is then a sum of few rows, and the counts of
the days lead to a distant page.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from typing import Annotated, Any, Generic, Literal, TypeVar

from msgspec import Meta, Struct

from bytebrew.base.errors import Detail, InvalidRequest
from bytebrew.contract.connection import Connection, Row
from bytebrew.contract.route import Parameter, positive

Item = TypeVar("Item")
MOST = 1000
"""Largest page of a list that is returned whole if the query has no paging parameters."""
AFTER = Parameter("the `next` of the page before", Annotated[int, Meta(ge=0, lt=10**9)])
OFFSET = Parameter("rows that come before the page, 0 for none", Annotated[int, Meta(ge=0, lt=10**9)])


class Page(Struct, Generic[Item], frozen=True, kw_only=True):
    """A page of a list: some rows out of `total`; `next` is the `after` of the page behind."""

    data: list[Item]
    total: int
    limit: int
    offset: int
    next: str | None


class NumberedPage(Page[Item], frozen=True, kw_only=True):
    """A page under its older names too: `page` counts from 1, `per_page` is `limit`."""

    page: int
    per_page: int
    total_pages: int


def page_of(rows: Sequence[Item], total: int, limit: int, offset: int) -> Page[Item]:
    """A page with these rows; `total` counts the rows of the whole list, and `next` is the offset of the next page."""
    end = offset + limit
    return Page(data=[*rows], total=total, limit=limit, offset=offset, next=str(end) if end < total else None)


def offset_of(query: Mapping[str, str]) -> int:
    """The number of rows before a page: the query's `after`, which is an offset in such a list, or else `offset`."""
    return number(query, "after", number(query, "offset", 0, 0, 10**9 - 1), 0, 10**9 - 1)


def page_window(query: Mapping[str, str], default: int, most: int) -> tuple[int, int]:
    """Limit and offset of a query string, from `limit` and `offset`, or from `page` and `per_page`."""
    limit = positive(query.get("limit") or query.get("per_page"), default, most)
    if "offset" in query:
        return limit, number(query, "offset", 0, 0, 10**9 - 1)
    return limit, (positive(query.get("page"), 1, 10**9) - 1) * limit


def page_numbers(total: int, limit: int, offset: int) -> dict[str, int]:
    """The numbers of a NumberedPage."""
    named = {"page": offset // limit + 1, "per_page": limit, "total_pages": -(-total // limit)}
    return {"total": total, "limit": limit, "offset": offset, **named}


def number(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """An integer of the query string; InvalidRequest unless it is within the range."""
    text: Any = query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 12 or not least <= int(text) <= most:
        message = f"is a whole number from {least} to {most}"
        raise InvalidRequest(f"{name} {message}", details=[Detail(f"$.{name}", message)])
    return int(text)


NEAR = 1000
"""Offsets up to this are skipped row by row; larger ones use the stored counts."""


FEW = 1000
"""A key value with at most this many rows is looked up in its index, and the other conditions filter its rows."""


PAGE_BYTES = 1024 * 1024
"""A page ends with the row that brings its text to this size."""


Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Rows with these values in columns with few values (`kinds`) or many (`keys`), from `since` up to `until`.

    `also` is an SQL condition on the table under the alias `listed`. It is evaluated row by row, so the other
    conditions should leave few rows.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    since: str = ""
    until: str = ""
    also: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A table that is listed in descending order of its columns `order`, with stored totals.

    The first of one or two `order` columns is a time, or with `unit` "thousand" an integer; totals are stored for each
    day, or for each 1,024 integers. The table needs an index on `order`, one on `kinds` and `order`, and one on each
    key and `order`. `only` is an SQL condition that all listed rows meet and that these indexes have; its `{}` are
    replaced by a prefix of column names, such as `new.`. `kept` is a key, such as the owner, of which one value may
    have very many rows: a total is stored for each of its values.
    """

    table: str
    order: tuple[str, ...]
    kinds: tuple[str, ...]
    kept: str
    unit: Literal["day", "thousand"] = "day"
    only: str = "true"

    def total(self, conn: Connection, chosen: Selection) -> int:
        """The number of rows."""
        if self.kept in chosen.keys and chosen == Selection(keys={self.kept: chosen.keys[self.kept]}):
            sql = f"select coalesce(sum(rows), 0) from {self.table}_of where {self.kept} = ?"
            return int(conn.execute(sql, (chosen.keys[self.kept],)).fetchone()[0])
        if chosen.keys or chosen.also:
            return self._counted(conn, chosen)
        if chosen.since or chosen.until:
            return sum(rows for _, _, rows in self._stretches(conn, chosen))
        where, values = _equal(chosen.kinds)
        sql = f"select coalesce(sum(rows), 0) from {self.table}_counts where unit = '' and {where}"
        return int(conn.execute(sql, values).fetchone()[0])

    def page(
        self, conn: Connection, chosen: Selection, limit: int, offset: int = 0, after: Key | None = None
    ) -> list[Key]:
        """The order columns of a page's rows, from an offset, or after those of a row."""
        high: Any = chosen.until
        if offset > NEAR and after is None and not (chosen.keys or chosen.also):
            for _, end, rows in self._stretches(conn, chosen):
                high = end
                if offset < rows:
                    break
                offset -= rows
            else:
                return []
        streams = [self._select(kinds, keys, chosen, high, after) for kinds, keys in self._drivers(conn, chosen)]
        columns, order = ", ".join(self.order), ", ".join(f"{name} desc" for name in self.order)
        if len(streams) == 1:
            [(source, values)] = streams
            sql = f"select {columns} {source} order by {order} limit ? offset ?"
            return [tuple(row) for row in conn.execute(sql, (*values, limit, offset))]
        found = [
            map(tuple, conn.execute(f"select {columns} {sql} order by {order}", values)) for sql, values in streams
        ]
        return list(islice(merge(*found, reverse=True), offset, offset + limit))

    def _counted(self, conn: Connection, chosen: Selection) -> int:
        streams = [self._select(kinds, keys, chosen, chosen.until) for kinds, keys in self._drivers(conn, chosen)]
        return sum(conn.execute(f"select count(*) {sql}", values).fetchone()[0] for sql, values in streams)

    def _stretches(self, conn: Connection, chosen: Selection) -> Iterator[tuple[Any, Any, int]]:
        """Intervals as start, end and number of rows, newest first; only the first and the last are counted anew."""
        first, last = chosen.since[:10], chosen.until[:10]
        if first and last and chosen.since >= chosen.until:
            return
        if first and first == last:
            yield chosen.since, chosen.until, self._counted(conn, chosen)
            return
        if last:
            yield last, chosen.until, self._counted(conn, Selection(kinds=chosen.kinds, since=last, until=chosen.until))
        where, values = _equal(chosen.kinds)
        sql = f"""select unit, sum(rows) from {self.table}_counts where unit > ? and unit < ? and {where}
          group by unit order by unit desc"""
        for unit, rows in conn.execute(sql, (first, last or "~", *values)):
            yield *self._bounds(unit), rows
        if first:
            end = self._bounds(first)[1]
            yield chosen.since, end, self._counted(conn, Selection(kinds=chosen.kinds, since=chosen.since, until=end))

    def _bounds(self, unit: str) -> tuple[Any, Any]:
        return (unit, f"{unit}~") if self.unit == "day" else (int(unit) << 10, (int(unit) + 1) << 10)

    def _drivers(self, conn: Connection, chosen: Selection) -> list[tuple[Mapping[str, str], Sequence[str]]]:
        """The conditions of index lookups, one query each: every combination of kinds that has rows, or one key."""
        rare = [key for key in chosen.keys if self._is_rare(conn, key, chosen)]
        if rare or not chosen.kinds:
            return [({}, (rare or [*chosen.keys])[:1])]
        where, values = _equal(chosen.kinds)
        sql = f"select {', '.join(self.kinds)} from {self.table}_counts where unit = '' and rows > 0 and {where}"
        return [(dict(zip(self.kinds, row, strict=True)), ()) for row in conn.execute(sql, values).fetchall()]

    def _is_rare(self, conn: Connection, key: str, chosen: Selection) -> bool:
        where = f"{self.only.format('')} and {key} = ? and {key} <> ''"
        sql = f"select count(*) from (select 1 from {self.table} where {where} limit ?) few"
        return int(conn.execute(sql, (chosen.keys[key], FEW + 1)).fetchone()[0]) <= FEW

    def _select(
        self, kinds: Mapping[str, str], keys: Sequence[str], chosen: Selection, high: Any, after: Key | None = None
    ) -> tuple[str, list[Any]]:
        parts, values = [self.only.format("")], list[Any]()
        for name, value in {**chosen.kinds, **kinds, **chosen.keys}.items():
            parts.append(f"{name} = ?" if name in kinds or name in keys else f"{name} || '' = ?")  # not by its index
            values.append(value)
        parts += [f"{name} <> ''" for name in keys]  # some of their indexes are partial
        for sign, bound in ((">=", chosen.since), ("<", high)):
            if bound != "":
                parts.append(f"{self.order[0]} {sign} ?")
                values.append(bound)
        if after is not None:
            parts.append(f"({', '.join(self.order)}) < ({', '.join('?' * len(after))})")
            values += after
        if chosen.also:
            parts.append(chosen.also)
        return f"from {self.table} as listed where {' and '.join(parts)}", values


def rows_of(conn: Connection, sql: str, page: Iterable[Key]) -> Iterator[Row]:
    """The rows of a page, each selected by the last of its order columns; ends with the row that exceeds PAGE_BYTES."""
    return bounded(row for place in page for row in conn.execute(sql, (place[-1],)))


def bounded(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows up to the one that brings their text above PAGE_BYTES."""
    size = 0
    for row in rows:
        yield row
        size += sum([len(value) for value in row if isinstance(value, (str, bytes))])
        if size >= PAGE_BYTES:
            return


def _equal(values: Mapping[str, str]) -> tuple[str, list[str]]:
    return " and ".join((*(f"{name} = ?" for name in values), "true")), [*values.values()]
