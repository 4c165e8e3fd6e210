"""Audit log tables as lists: filtered, newest first, by page or as NDJSON."""

import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from bytebrew import (
    FORMAT,
    NDJSON,
    OFFSET,
    Connection,
    Engine,
    Listing,
    Moment,
    NotFound,
    NumberedPage,
    Parameter,
    Request,
    Row,
    Selection,
    Stream,
    moment,
    page_numbers,
    page_window,
    rows_of,
    wants_lines,
)

EXPORT_ROWS = 100
PAGING: Mapping[str, str | Parameter] = {
    "from": Parameter("at this time or later", Moment),
    "to": Parameter("before this time; a bare date is included", Moment),
    "limit": Parameter("rows, 100 at most, and a megabyte of text; `next` says where to go on", int | str),
    "offset": OFFSET,
    "page": Parameter("from 1", int | str),
    "per_page": Parameter("as limit", int | str),
    "after": "the last entry of the page before",
    "format": FORMAT,
}
"""Query parameters of every audit log in addition to its filters."""
Entry = TypeVar("Entry", bound=Struct)


@dataclass(frozen=True, slots=True)
class AuditLog(Generic[Entry]):
    """A table with an `id`: its listing, its filters by column, and the decoder of a row."""

    listing: Listing
    filters: Mapping[str, str]
    read: Callable[[Row], Entry]

    async def answer(self, request: Request[None]) -> NumberedPage[Entry] | Stream:
        """A page of entries, or all of them as NDJSON."""
        query, db = request.query, request.engine.db
        wanted = self.selection(query)
        if wants_lines(request):
            return Stream(frames=self._lines(request.engine, wanted), headers={"content-type": NDJSON})
        return await db.scan(self._page, wanted, *page_window(query, 50, 100), query.get("after", ""))

    def selection(self, query: Mapping[str, str]) -> Selection:
        """The selection for a query string."""
        values = {column: query[name] for name, column in self.filters.items() if query.get(name)}
        return Selection(
            kinds={column: values[column] for column in self.listing.kinds if column in values},
            keys={column: value for column, value in values.items() if column not in self.listing.kinds},
            since=moment(query, "from"),
            until=moment(query, "to", last=True),
        )

    def entries(
        self, conn: Connection, wanted: Selection, limit: int, offset: int = 0, after: Entry | None = None
    ) -> list[Entry]:
        """Up to `limit` entries, fewer if they are long, from an offset or after an entry."""
        last: Any = after
        place = None if after is None else (getattr(last, self.listing.order[0]), int(last.id))
        return self._read(conn, self.listing.page(conn, wanted, limit, offset, place))

    def _read(self, conn: Connection, places: Sequence[tuple[Any, ...]]) -> list[Entry]:
        sql = f"select * from {self.listing.table} where id = ?"  # noqa: S608
        return [self.read(row) for row in rows_of(conn, sql, places)]

    def _page(self, conn: Connection, wanted: Selection, limit: int, offset: int, after: str) -> NumberedPage[Entry]:
        place = self._place(conn, after) if after else None
        places = self.listing.page(conn, wanted, limit + 1, offset, place)
        data, total = self._read(conn, places[:limit]), self.listing.total(conn, wanted)
        last: Any = data[-1] if len(places) > len(data) else None
        return NumberedPage(data=data, next=last.id if last else None, **page_numbers(total, limit, offset))

    def _place(self, conn: Connection, entry_id: str) -> tuple[Any, ...]:
        order, table = ", ".join(self.listing.order), self.listing.table
        number = int(entry_id) if re.fullmatch("[0-9]{1,18}", entry_id) else 0  # no entry has 0
        row = conn.execute(f"select {order} from {table} where id = ?", (number,)).fetchone()  # noqa: S608
        if row is None:
            raise NotFound(f"There is no entry '{entry_id[:255]}' to go on after; read the list from the start")
        return tuple(row)

    def expire(self, conn: Connection, before: str) -> list[Row]:
        """Deletes a batch of entries from before a moment, oldest first; returns their ids."""
        table, time = self.listing.table, self.listing.order[0]
        sql = f"""delete from {table} where id in
          (select id from {table} where {time} < ? order by {time} limit 200) returning id"""  # noqa: S608
        return conn.execute(sql, (before,)).fetchall()

    async def _lines(self, engine: Engine, wanted: Selection) -> AsyncGenerator[bytes, None]:
        encoder = msgspec.json.Encoder()
        last: Entry | None = None
        while rows := await engine.db.scan(self.entries, wanted, EXPORT_ROWS, after=last):
            last = rows[-1]
            yield encoder.encode_lines(rows)
