"""Sessions: rows, pages, and whose they are."""

from typing import Literal

from msgspec import Struct

from bytebrew.base.errors import NotFound
from bytebrew.base.formats import now
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Live
from bytebrew.contract.long_lists import SESSIONS, Selection, rows_of
from bytebrew.contract.messages import Usage

Status = Literal["active", "completed", "failed", "cancelled"]


class Session(Struct, frozen=True, kw_only=True):
    """A conversation; its status is that of its last turn."""

    id: str
    agent: str
    schema: str
    title: str
    status: Live[Status]
    user_sub: str
    created_at: str
    updated_at: Live[str]
    message_count: Live[int]


class Page(Struct, frozen=True, kw_only=True):
    """Some sessions, newest first, and how many there are; `next` continues after the last of them."""

    sessions: list[Session]
    total: int
    next: str | None


class Filter(Struct, frozen=True, kw_only=True):
    """Which sessions to list; an empty field does not narrow. `after` is the last session of the page before."""

    agent: str = ""
    schema: str = ""
    user_sub: str = ""
    status: str = ""
    since: str = ""
    until: str = ""
    after: str = ""


_SELECT = """select s.id, s.agent, s.schema, s.title, s.status, s.user_sub, s.created_at, s.updated_at,
  coalesce((select max(m.n) from messages m where m.session_id = s.id), 0) as message_count from sessions s"""


def check_owner(actor: Actor, owner: str | None, session_id: str) -> None:
    """Raises NotFound unless there is an owner and the actor is it or an admin."""
    if owner is None or (owner != actor.subject and not actor.is_admin):
        raise NotFound(f"There is no session '{session_id[:255]}'")


def owner(conn: Connection, session_id: str) -> str | None:
    """The subject that owns the session; None where there is none, or it is being removed."""
    sql = "select owner from sessions where id = ? and id not in (select session_id from removals)"
    row = conn.execute(sql, (session_id,)).fetchone()
    return row["owner"] if row else None


def below(conn: Connection, session_id: str) -> list[str]:
    """A session and those of the agents that were spawned in it, on all levels."""
    sql = """with recursive tree (id) as (
        select ? union select s.id from sessions s join tree on s.parent_id = tree.id)
      select id from tree"""
    return [row["id"] for row in conn.execute(sql, (session_id,))]


def get(conn: Connection, session_id: str, actor: Actor) -> Session:
    """A session that the actor may see; NotFound otherwise."""
    check_owner(actor, owner(conn, session_id), session_id)
    return Session(**dict(conn.execute(f"{_SELECT} where s.id = ?", (session_id,)).fetchone()))


def page(conn: Connection, actor: Actor, wanted: Filter, offset: int, limit: int) -> Page:
    """The sessions that the actor may see."""
    keys = {"user_sub": wanted.user_sub, "owner": "" if actor.is_admin else actor.subject}
    chosen = Selection(
        kinds={name: value for name in SESSIONS.kinds if (value := getattr(wanted, name))},
        keys={name: value for name, value in keys.items() if value},
        since=wanted.since,
        until=wanted.until,
    )
    after = None
    if wanted.after:
        try:
            check_owner(actor, owner(conn, wanted.after), wanted.after)
        except NotFound as error:
            raise NotFound(f"{error.message} to go on after; read the list from the start") from error
        after = tuple(conn.execute("select created_at, id from sessions where id = ?", (wanted.after,)).fetchone())
    places = SESSIONS.page(conn, chosen, limit + 1, offset, after)
    found = [Session(**dict(row)) for row in rows_of(conn, f"{_SELECT} where s.id = ?", places[:limit])]
    more = len(places) > len(found)
    return Page(sessions=found, total=SESSIONS.total(conn, chosen), next=found[-1].id if more else None)


def rename(conn: Connection, session_id: str, actor: Actor, title: str) -> Session:
    """The session under another title."""
    check_owner(actor, owner(conn, session_id), session_id)
    conn.execute("update sessions set title = ?, updated_at = ? where id = ?", (title, now(), session_id))
    return get(conn, session_id, actor)


def usage(conn: Connection, session_id: str) -> Usage:
    """The tokens of all the session's turns."""
    row = conn.execute(
        """select coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), coalesce(sum(cached_tokens), 0),
        coalesce(sum(thinking_tokens), 0), coalesce(sum(cache_write_tokens), 0), sum(cost_usd) from turns
        where session_id = ?""",
        (session_id,),
    ).fetchone()
    return Usage(*row)
