"""Entries of an audit: filtered, newest first, by page or all of them as lines of JSON."""

import sqlite3
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from bytebrew import Detail, InvalidRequest, Moment, Parameter, Request, Stream, moment, positive

if TYPE_CHECKING:
    from bytebrew import Engine

EXPORT_ROWS = 100
NDJSON = "application/x-ndjson"
PAGING = {
    "from": Parameter("at this time or later", Moment),
    "to": Parameter("before this time; a bare date is included", Moment),
    "page": Parameter("from 1", int | str),
    "per_page": Parameter("rows, 100 at most", int | str),
    "format": Parameter(
        "ndjson for all rows, one a line, as the header Accept: application/x-ndjson", Literal["json", "ndjson", ""]
    ),
}
"""What the query string of every audit may say besides its filters."""
Entry = TypeVar("Entry", bound=Struct)


class Page(Struct, Generic[Entry], frozen=True, kw_only=True):
    """A page of an audit, newest first."""

    data: list[Entry]
    total: int
    page: int
    per_page: int
    total_pages: int


@dataclass(frozen=True, slots=True)
class Ledger(Generic[Entry]):
    """A table with an `id`: its time's column, the columns of the filters, and how a row is read."""

    table: str
    time: str
    filters: Mapping[str, str]
    read: Callable[[sqlite3.Row], Entry]

    async def answer(self, request: Request[None]) -> Page[Entry] | Stream:
        """A page, or all entries as NDJSON, as the request asks."""
        query, db = request.query, request.engine.db
        wanted = self.wanted(query)
        if _as_lines(query.get("format", ""), request.headers.get("accept", "")):
            return Stream(frames=self._lines(request.engine, wanted), headers={"content-type": NDJSON})
        page, per_page = positive(query.get("page"), 1, 10**9), positive(query.get("per_page"), 50, 100)
        return Page(
            data=await db.scan(self.entries, wanted, per_page, (page - 1) * per_page),
            total=(total := await db.scan(self._count, wanted)),
            page=page,
            per_page=per_page,
            total_pages=-(-total // per_page),
        )

    def wanted(self, query: Mapping[str, str]) -> dict[str, str]:
        """Conditions on rows, each with its value."""
        wanted = {f"{column} = ?": query[name] for name, column in self.filters.items() if query.get(name)}
        if since := moment(query, "from"):
            wanted[f"{self.time} >= ?"] = since
        if until := moment(query, "to", last=True):
            wanted[f"{self.time} < ?"] = until
        return wanted

    def entries(
        self,
        conn: sqlite3.Connection,
        wanted: Mapping[str, str],
        limit: int,
        offset: int = 0,
        after: Entry | None = None,
    ) -> list[Entry]:
        """So many entries, from an offset or those after an entry."""
        where, values = _where(wanted), list[str | int](wanted.values())
        if after is not None:
            where += f" {'and' if where else 'where'} ({self.time}, id) < (?, ?)"
            last: Any = after
            values += [getattr(last, self.time), int(last.id)]
        sql = f"select * from {self.table} {where} order by {self.time} desc, id desc limit ? offset ?"  # noqa: S608
        return [self.read(row) for row in conn.execute(sql, (*values, limit, offset))]

    def expire(self, conn: sqlite3.Connection, before: str) -> list[sqlite3.Row]:
        """Deletes some entries from before a moment, the oldest first, and answers them by id."""
        sql = f"""delete from {self.table} where id in
          (select id from {self.table} where {self.time} < ? order by {self.time} limit 200) returning id"""  # noqa: S608
        return conn.execute(sql, (before,)).fetchall()

    def _count(self, conn: sqlite3.Connection, wanted: Mapping[str, str]) -> int:
        sql = f"select count(*) from {self.table} {_where(wanted)}"  # noqa: S608
        count: int = conn.execute(sql, tuple(wanted.values())).fetchone()[0]
        return count

    async def _lines(self, engine: "Engine", wanted: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        encoder = msgspec.json.Encoder()
        last: Entry | None = None
        while rows := await engine.db.scan(self.entries, wanted, EXPORT_ROWS, after=last):
            last = rows[-1]
            yield encoder.encode_lines(rows)


def _as_lines(form: str, accept: str) -> bool:
    if form not in ("", "json", "ndjson"):
        words = "one of json, ndjson"
        raise InvalidRequest(f"format is {words}", details=[Detail("$.format", words)])
    return form == "ndjson" or (not form and NDJSON in accept.lower())


def _where(wanted: Mapping[str, str]) -> str:
    return f"where {' and '.join(wanted)}" if wanted else ""
