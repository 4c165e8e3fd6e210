"""SQL for sessions; a deleted session is hidden at once, and its rows are deleted in small batches."""

from typing import Any, Literal

from msgspec import Struct

from bytebrew.base.errors import NotFound
from bytebrew.base.formats import now
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection, Row
from bytebrew.contract.entities import Live
from bytebrew.contract.lists import Listing
from bytebrew.contract.messages import Usage

AT_ONCE = 2000
"""Rows that are deleted at once; retention deletes the rest."""
EACH = 13
"""Cost of checking that a session has no rows left, in rows."""
PAGE = 4096
"""Bytes that cost as much as one row."""
_LATER = "coalesce(first_event, :event + 1) > :event"
_PARTS = (
    ("confirmations", "created_at", "1", "true"),
    ("events", "n", f"1 + length(data) / {PAGE}", "n > :event"),
    ("messages", "n", f"1 + length(body) / {PAGE}", "n > :message"),
    (
        "results",
        "call_id",
        f"1 + length(output) / {PAGE}",
        f"(:event = 0 or turn_id in (select id from turns where session_id = :id and {_LATER}))",
    ),
    (
        "turns",
        "seq",
        f"""1 + (length(message) + length(attachments)) / {PAGE} + (
          select coalesce(sum(1 + (length(c.input) + length(coalesce(c.output, ''))) / {PAGE}), 0)
          from tool_calls c where c.turn_id = turns.id)""",
        _LATER,
    ),
)
"""Tables, the column that orders a session's rows in an index, the cost of a row, and which rows no fork shares.

Tool calls go with turns.
"""

Status = Literal["active", "completed", "failed", "cancelled"]
SESSIONS = Listing(
    table="sessions",
    order=("created_at", "id"),
    kinds=("agent", "schema", "status"),
    only="{}parent_id is null",
    kept="owner",
)


class ForkedFrom(Struct, frozen=True, kw_only=True):
    """The session whose history a fork shares, up to the event `after`, the end of a turn; 0: it shares nothing."""

    session_id: str
    after: int


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
    forked_from: ForkedFrom | None


class Filter(Struct, frozen=True, kw_only=True):
    """Which sessions to list; an empty field is no restriction. `after` is the last session of the previous page."""

    agent: str = ""
    schema: str = ""
    user_sub: str = ""
    status: str = ""
    since: str = ""
    until: str = ""
    after: str = ""
    q: str = ""
    error: str = ""
    tool: str = ""
    sort: str = ""


SELECT = """select s.id, s.agent, s.schema, s.title, s.status, s.user_sub, s.created_at, s.updated_at,
  coalesce((select max(m.n) from messages m where m.session_id = s.id), s.forked_messages) as message_count,
  s.forked_from, s.forked_after from sessions s"""


def session_of(row: Row) -> Session:
    """The session of a row with the columns of SELECT."""
    return Session(**fields_of(*row))


def fields_of(*columns: Any) -> dict[str, Any]:
    """The fields of a session with these values of the columns of SELECT."""
    *own, origin, after = columns
    forked_from = ForkedFrom(session_id=origin, after=after) if origin else None
    return dict(zip(Session.__struct_fields__, (*own, forked_from), strict=True))


def check_owner(actor: Actor, owner: str | None, session_id: str) -> None:
    """Raises NotFound unless the session has an owner, and the actor is the owner or an admin."""
    if owner is None or (owner != actor.subject and not actor.is_admin):
        raise NotFound(f"There is no session '{session_id[:255]}'")


def owner(conn: Connection, session_id: str) -> str | None:
    """The subject that owns the session; None if it does not exist or is being deleted."""
    sql = "select owner from sessions where id = ? and id not in (select session_id from removals)"
    row = conn.execute(sql, (session_id,)).fetchone()
    return row["owner"] if row else None


def below(conn: Connection, session_id: str) -> list[str]:
    """A session and the sessions of agents spawned in it, on all levels."""
    sql = """with recursive tree (id) as (
        select cast(? as text) union select s.id from sessions s join tree on s.parent_id = tree.id)
      select id from tree"""
    return [row["id"] for row in conn.execute(sql, (session_id,))]


def get(conn: Connection, session_id: str, actor: Actor) -> Session:
    """A session that the actor may see; NotFound otherwise."""
    check_owner(actor, owner(conn, session_id), session_id)
    return session_of(conn.execute(f"{SELECT} where s.id = ?", (session_id,)).fetchone())


def rename(conn: Connection, session_id: str, actor: Actor, title: str) -> Session:
    """The session under another title."""
    check_owner(actor, owner(conn, session_id), session_id)
    conn.execute("update sessions set title = ?, updated_at = ? where id = ?", (title, now(), session_id))
    return get(conn, session_id, actor)


def usage(conn: Connection, session_id: str) -> Usage:
    """The tokens of all turns of the session."""
    row = conn.execute(
        """select coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), coalesce(sum(cached_tokens), 0),
        coalesce(sum(thinking_tokens), 0), coalesce(sum(cache_write_tokens), 0), sum(cost_usd) from turns
        where session_id = ?""",
        (session_id,),
    ).fetchone()
    return Usage(*row)


def delete(conn: Connection, session_id: str, actor: Actor) -> bool:
    """Deletes a session with all its data, and cancels the open tasks of it and of the sessions below it.

    Returns whether rows are left for `continue_removals`.
    """
    check_owner(actor, owner(conn, session_id), session_id)
    moment = now()
    conn.executemany(
        """update tasks set status = 'cancelled', error = 'Its session was deleted', completed_at = ?
        where session_id = ? and completed_at is null""",
        [(moment, one) for one in start_removal(conn, session_id)],
    )
    return continue_removals(conn, AT_ONCE) >= AT_ONCE


def start_removal(conn: Connection, session_id: str) -> list[str]:
    """Hides a session and those below it; returns their ids, which cannot be reused before all rows are deleted.

    A session becomes its own parent, because lists show only sessions without a parent.
    """
    tree = below(conn, session_id)
    conn.executemany(
        "insert into removals (session_id) values (?) on conflict (session_id) do nothing", [(one,) for one in tree]
    )
    freed = conn.execute("delete from shared_history where session_id = ? returning holder", (session_id,)).fetchall()
    conn.executemany(  # nobody else may share it from now on
        "update removals set held = 0 where session_id = ?", [(row["holder"],) for row in freed]
    )
    conn.execute("update sessions set parent_id = id where id = ?", (session_id,))
    return tree


def removal_pending(conn: Connection) -> bool:
    """Whether rows of deleted sessions are left that no fork shares."""
    return conn.execute("select 1 from removals where held = 0 limit 1").fetchone() is not None


def continue_removals(conn: Connection, most: int) -> int:
    """Deletes rows of deleted sessions, the latest deletion first, up to a cost of about `most`; returns the cost.

    Rows that a fork shares stay, with their session, until that fork is deleted too.
    """
    spent = 0
    while spent < most:
        row = conn.execute("select session_id from removals where held = 0 order by n desc limit 1").fetchone()
        if row is None:
            break
        session_id = row["session_id"]
        sql = "select max(last_event), max(last_message) from shared_history where holder = ?"
        event, message = conn.execute(sql, (session_id,)).fetchone()
        spent += _empty(conn, {"id": session_id, "event": event or 0, "message": message or 0}, most - spent)
        if spent < most:
            held = "update removals set held = 1 where session_id = ?"
            conn.execute("delete from sessions where id = ?" if event is None else held, (session_id,))
            spent += EACH
    return spent


def _empty(conn: Connection, kept: dict[str, str | int], most: int) -> int:
    spent = 0
    for table, key, weight, free in _PARTS:
        if spent >= most:
            break
        last = None
        sql = f"""select {key} as key, {weight} as weight from {table} where session_id = :id and {free}
          order by {key} limit :most"""
        for row in conn.execute(sql, {**kept, "most": most - spent}):
            last = row["key"]
            spent += row["weight"]
            if spent >= most:
                break
        if last is not None:
            sql = f"delete from {table} where session_id = :id and {key} <= :last and {free}"
            conn.execute(sql, {**kept, "last": last})
    return spent
