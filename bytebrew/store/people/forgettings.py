"""SQL for requests to forget a person, which survive a restart until nothing of the person is left."""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from bytebrew.contract.connection import Connection

TABLE = """
create table forgettings (
  mask text primary key,
  sub text not null,
  counts text not null
) strict, without rowid;
"""


class Forgetting(Struct, frozen=True, kw_only=True):
    """A request to forget a person: `counts` are the rows deleted or masked so far, by kind of data.

    `sub` is empty once no row is left; then the bytes of deleted rows are erased.
    """

    mask: str
    sub: str
    counts: Mapping[str, int]


def begin(conn: Connection, mask: str, sub: str) -> Forgetting:
    """Stores a request; one that runs for the same person starts over."""
    conn.execute(
        "insert into forgettings values (?, ?, '{}') on conflict (mask) do update set sub = excluded.sub", (mask, sub)
    )
    return Forgetting(mask=mask, sub=sub, counts={})


def list_all(conn: Connection) -> list[Forgetting]:
    """Every request that is not done."""
    rows = conn.execute("select mask, sub, counts from forgettings order by mask")
    return [Forgetting(mask=mask, sub=sub, counts=msgspec.json.decode(counts)) for mask, sub, counts in rows]


def add(conn: Connection, mask: str, kind: str, count: int) -> None:
    """Adds deleted or masked rows of a kind to the counts."""
    if not count:
        return
    counts = msgspec.json.decode(conn.execute("select counts from forgettings where mask = ?", (mask,)).fetchone()[0])
    counts[kind] = counts.get(kind, 0) + count
    conn.execute("update forgettings set counts = ? where mask = ?", (msgspec.json.encode(counts).decode(), mask))


def emptied(conn: Connection, mask: str) -> None:
    """Records that no row of the person is left, the person's name in this request included."""
    conn.execute("update forgettings set sub = '' where mask = ?", (mask,))


def end(conn: Connection, mask: str) -> bool:
    """Deletes a request whose rows are erased; False if it has started over meanwhile."""
    return conn.execute("delete from forgettings where mask = ? and sub = ''", (mask,)).rowcount == 1
