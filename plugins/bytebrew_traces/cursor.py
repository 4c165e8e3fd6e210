"""Which turns are to be exported next: the order of turns is that of their beginning, not of their end.

The cursor is the last turn that was looked at. Turns that were open then are kept in a table of their own until they
end, so that none is skipped, and no more rows are read again than there are open turns.
"""

from typing import NamedTuple

from bytebrew import Connection

TABLES = """
create table traces_cursor (
  one integer primary key check (one = 1),
  seq integer not null
) strict;
create table traces_open (
  seq integer primary key
) strict;
"""
MOST = 64
"""Limit of turns in one batch."""
_OPEN = "('queued', 'running')"


class Batch(NamedTuple):
    """Ended turns to export, by id; `passed` are turns that are open, `done` kept ones that are not any more."""

    turns: list[str]
    passed: list[int]
    done: list[int]
    through: int
    more: bool


def begin(conn: Connection) -> None:
    """Sets the cursor the first time: to the turns that end from now on."""
    if conn.execute("select 1 from traces_cursor").fetchone() is None:
        conn.execute("insert into traces_cursor select 1, coalesce(max(seq), 0) from turns")
        conn.execute(f"insert into traces_open select seq from turns where status in {_OPEN}")  # noqa: S608


def following(conn: Connection) -> Batch:
    """The next ended turns, the oldest first; those whose session is deleted are left out."""
    ended = conn.execute(
        f"""select o.seq, t.id from traces_open o left join turns t on t.seq = o.seq
        where t.id is null or t.status not in {_OPEN} order by o.seq limit ?""",  # noqa: S608
        (MOST,),
    ).fetchall()
    through: int = conn.execute("select seq from traces_cursor").fetchone()["seq"]
    new = conn.execute(
        f"select seq, id, status in {_OPEN} as open from turns where seq > ? order by seq limit ?",  # noqa: S608
        (through, MOST - len(ended)),
    ).fetchall()
    return Batch(
        turns=[row["id"] for row in ended if row["id"]] + [row["id"] for row in new if not row["open"]],
        passed=[row["seq"] for row in new if row["open"]],
        done=[row["seq"] for row in ended],
        through=new[-1]["seq"] if new else through,
        more=len(ended) + len(new) == MOST,
    )


def advance(conn: Connection, batch: Batch) -> None:
    """Moves the cursor behind a batch that was exported."""
    conn.executemany(
        "insert into traces_open (seq) values (?) on conflict do nothing", [(seq,) for seq in batch.passed]
    )
    conn.executemany("delete from traces_open where seq = ?", [(seq,) for seq in batch.done])
    conn.execute("update traces_cursor set seq = ?", (batch.through,))
