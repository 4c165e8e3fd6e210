"""Local sessions that were ended before their time."""

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
"""How long an ended session is remembered beyond its last moment, should the clock be set back."""


def generation(conn: Connection) -> int:
    """How often all sessions have been ended."""
    number: int = conn.execute("select generation from auth_local_generation").fetchone()[0]
    return number


def is_ended(conn: Connection, sid: str, made_in: int) -> bool:
    """Whether a session that was opened in that generation has been ended, alone or with all others."""
    sql = """select generation <> ? or exists (select 1 from auth_local_ended where sid = ?)
      from auth_local_generation"""
    return bool(conn.execute(sql, (made_in, sid)).fetchone()[0])


def end(conn: Connection, sid: str, until: float, now: float) -> None:
    """Ends a session, which could have lasted until then, and forgets those that can no longer matter."""
    conn.execute("insert or replace into auth_local_ended values (?, ?)", (sid, until))
    conn.execute("delete from auth_local_ended where until < ?", (now - KEPT_SECONDS,))


def end_all(conn: Connection) -> None:
    """Ends every session that there is."""
    conn.execute("update auth_local_generation set generation = generation + 1")
    conn.execute("delete from auth_local_ended")
