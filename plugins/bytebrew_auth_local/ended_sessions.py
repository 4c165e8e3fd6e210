"""Local sessions that were ended before they expired."""

from bytebrew import Connection

MIGRATION = """
create table auth_local_ended (
  sid text primary key,
  until real not null
) strict, without rowid;
create table auth_local_generation (
  one integer primary key check (one = 1),
  generation integer not null
) strict;
insert into auth_local_generation values (1, 0);
"""
KEPT_SECONDS = 30 * 86400
"""How long the record of an ended session is kept after its expiry, in case the clock is set back."""


def generation(conn: Connection) -> int:
    """How often all sessions were ended at once."""
    number: int = conn.execute("select generation from auth_local_generation").fetchone()[0]
    return number


def is_ended(conn: Connection, sid: str, made_in: int) -> bool:
    """Whether a session of that generation was ended, alone or with all others."""
    sql = """select generation <> ? or exists (select 1 from auth_local_ended where sid = ?)
      from auth_local_generation"""
    return bool(conn.execute(sql, (made_in, sid)).fetchone()[0])


def end(conn: Connection, sid: str, until: float, now: float) -> None:
    """Ends a session that would expire at `until`, and deletes records that are no longer needed."""
    sql = "insert into auth_local_ended values (?, ?) on conflict (sid) do update set until = excluded.until"
    conn.execute(sql, (sid, until))
    conn.execute("delete from auth_local_ended where until < ?", (now - KEPT_SECONDS,))


def end_all(conn: Connection) -> None:
    """Ends all sessions."""
    conn.execute("update auth_local_generation set generation = generation + 1")
    conn.execute("delete from auth_local_ended")
