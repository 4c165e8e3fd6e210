"""SQL for forks: sessions that share the beginning of another's history, whose rows stay where they are.

A fork refers to ranges of the sessions that hold the rows, so it costs the same however long the history is. A deleted
session keeps the rows that forks refer to, hidden, until the last of these forks is deleted.
"""

from collections.abc import Sequence
from typing import NamedTuple

from bytebrew.base.errors import Conflict, Detail, NotFound, Unprocessable
from bytebrew.base.formats import now
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.lists import Page, page_of
from bytebrew.store import sessions
from bytebrew.store.sessions import ForkedFrom, Session


class Overtaken(Conflict):
    """Another message came behind a turn first."""


class Range(NamedTuple):
    """Consecutive events and messages of a fork's history, which another session holds under the same numbers."""

    holder: str
    first_event: int
    last_event: int
    first_message: int
    last_message: int


_RANGES = "select holder, first_event, last_event, first_message, last_message from shared_history where session_id = ?"


def ranges(conn: Connection, session_id: str) -> list[Range]:
    """The shared history of a session, oldest first; empty for one that is no fork."""
    return [Range(*row) for row in conn.execute(f"{_RANGES} order by last_event", (session_id,))]


def range_of(conn: Connection, session_id: str, event: int) -> Range | None:
    """The range with an event of a fork's shared history."""
    sql = f"{_RANGES} and last_event >= ? order by last_event limit 1"
    row = conn.execute(sql, (session_id, event)).fetchone()
    return Range(*row) if row else None


def has_turn(conn: Connection, session_id: str, holder: str, event: int | None) -> bool:
    """Whether an event of a turn that another session holds is in the history of a session."""
    if event is None:
        return False
    part = range_of(conn, session_id, event)
    return part is not None and part.holder == holder and part.first_event <= event


def fork(conn: Connection, session_id: str, actor: Actor, after: int | None, new_id: str) -> Session:
    """A new session with the history of one that the actor may see, up to the end of a turn; None: of the newest.

    Unprocessable where no turn ends at `after`.
    """
    _check(conn, session_id, actor)
    at, status = _turn_end(conn, session_id, after)
    make(conn, new_id, ForkedFrom(session_id=session_id, after=at))
    conn.execute("update sessions set status = ? where id = ?", (status, new_id))
    return sessions.get(conn, new_id, actor)


def behind(conn: Connection, session_id: str, actor: Actor, after: int) -> ForkedFrom:
    """The history of a session that the actor may see, up to the end of a turn; Unprocessable where none ends there."""
    _check(conn, session_id, actor)
    return ForkedFrom(session_id=session_id, after=_turn_end(conn, session_id, after)[0])


def before(conn: Connection, session_id: str, actor: Actor, turn_id: str) -> ForkedFrom:
    """The history of a session before one of its turns; NotFound for another turn, Unprocessable for one that waits."""
    _check(conn, session_id, actor)
    row = conn.execute("select session_id, status, first_event, steers from turns where id = ?", (turn_id,)).fetchone()
    own = row is not None and row["session_id"] == session_id
    if row is None or not (own or has_turn(conn, session_id, row["session_id"], row["first_event"])):
        raise NotFound(f"The session has no turn '{turn_id[:255]}'")
    if row["status"] == "absorbed":
        raise _unfit("turn_id", f"its message steered the turn '{row['steers']}': edit that one")
    if row["first_event"] is None:
        raise _unfit("turn_id", "its message waits and has no answer yet")
    return ForkedFrom(session_id=session_id, after=row["first_event"] - 1)


def make(conn: Connection, new_id: str, origin: ForkedFrom, title: str = "") -> None:
    """Stores a fork: a session of the same owner, schema and agent; with `title` where it shares nothing."""
    moment, at = now(), origin.after
    if sessions.owner(conn, origin.session_id) is None:
        raise NotFound(f"There is no session '{origin.session_id}' any more")
    shared = _shared(conn, origin) if at else []
    conn.execute(
        """insert into sessions (id, schema, agent, owner, user_sub, title, created_at, updated_at, status, forked_from,
          forked_after, forked_messages)
        select ?, schema, agent, owner, user_sub, case ? when 0 then ? else title end, ?, ?, 'completed', id, ?, ?
        from sessions where id = ?""",
        (new_id, at, title, moment, moment, at, shared[-1].last_message if shared else 0, origin.session_id),
    )
    conn.executemany("insert into shared_history values (?, ?, ?, ?, ?, ?)", [(new_id, *part) for part in shared])
    conn.execute(
        """insert into summaries (session_id, through_n, content, created_at)
        select ?, through_n, content, created_at from summaries where session_id = ? and through_n <= ?""",
        (new_id, origin.session_id, shared[-1].last_message if shared else 0),
    )


def check_newest(conn: Connection, session_id: str, turn_id: str) -> None:
    """Raises Overtaken unless a turn is the newest of its session."""
    sql = "select 1 from turns where session_id = ? and seq > (select seq from turns where id = ?) limit 1"
    if conn.execute(sql, (session_id, turn_id)).fetchone():
        raise Overtaken("Another message waits already behind the answer that this one follows, which has not ended")


def page(conn: Connection, session_id: str, actor: Actor, limit: int, offset: int) -> Page[Session]:
    """The forks of a session that the actor may see, newest first."""
    sessions.check_owner(actor, sessions.owner(conn, session_id), session_id)
    where, values = "forked_from = ? and parent_id is null", [session_id]
    if not actor.is_admin:
        where, values = f"{where} and owner = ?", [session_id, actor.subject]
    total = conn.execute(f"select count(*) from sessions where {where}", values).fetchone()[0]
    sql = f"select id from sessions where {where} order by created_at desc, id desc limit ? offset ?"
    found = [row["id"] for row in conn.execute(sql, (*values, limit, offset)).fetchall()]
    return page_of([sessions.get(conn, one, actor) for one in found], total, limit, offset)


def _check(conn: Connection, session_id: str, actor: Actor) -> None:
    sessions.check_owner(actor, sessions.owner(conn, session_id), session_id)
    row = conn.execute("select parent_id from sessions where id = ?", (session_id,)).fetchone()
    if row["parent_id"] is not None:
        message = "The session is a spawned agent's own; fork the one that it was spawned in"
        raise Unprocessable(message, code="spawned_session")


def _turn_end(conn: Connection, session_id: str, after: int | None) -> tuple[int, str]:
    """The number of a turn's last event, and the turn's status."""
    ends = "select last_event, status from turns where session_id = ? and last_event is not null"
    if after is None:
        row = conn.execute(f"{ends} order by last_event desc limit 1", (session_id,)).fetchone()
        last = ranges(conn, session_id)[-1:] if row is None else []
        if row is None and not last:
            raise _unfit("after", "is the end of a turn, and no turn of the session has ended yet")
        if row is not None:
            return row["last_event"], row["status"]
        after = last[0].last_event
    part = range_of(conn, session_id, after)
    holder = part.holder if part else session_id
    row = conn.execute(f"{ends} and last_event = ? order by seq desc limit 1", (holder, after)).fetchone()
    if row is None:
        raise _unfit("after", _allowed(conn, session_id, after))
    return row["last_event"], row["status"]


def _allowed(conn: Connection, session_id: str, after: int) -> str:
    """The numbers next to a wrong one."""
    parts = [*ranges(conn, session_id), Range(session_id, 1, 2**62, 1, 2**62)]
    found = [
        end
        for part in parts
        for row in conn.execute(
            """select max(case when last_event < ?1 then last_event end),
            min(case when last_event > ?1 then last_event end)
            from turns where session_id = ?2 and last_event between ?3 and ?4""",
            (after, part.holder, part.first_event, part.last_event),
        )
        for end in row
        if end is not None
    ]
    near = [*sorted(one for one in found if one < after)[-1:], *sorted(one for one in found if one > after)[:1]]
    allowed = " or ".join(map(str, near)) or "none yet"
    return f"is not the number of the last event of a turn that has ended; next to {after}: {allowed}"


def _unfit(field: str, message: str) -> Unprocessable:
    return Unprocessable(f"{field} {message}", details=[Detail(f"$.{field}", message)])


def _shared(conn: Connection, origin: ForkedFrom) -> Sequence[Range]:
    """The history of a session up to the end of a turn, by the sessions that hold its rows."""
    found = [part for part in ranges(conn, origin.session_id) if part.first_event <= origin.after]
    own = conn.execute(
        """select forked_after, forked_messages,
        (select max(n) from messages m where m.session_id = s.id) as last_message from sessions s where id = ?""",
        (origin.session_id,),
    ).fetchone()
    if origin.after > own["forked_after"]:
        first = own["forked_messages"] + 1
        last = own["last_message"] or own["forked_messages"]
        found.append(Range(origin.session_id, own["forked_after"] + 1, 2**62, first, last))
    *whole, last_part = found
    if last_part.last_event > origin.after:
        last = last_message(conn, last_part, origin.after)
        last_part = last_part._replace(last_event=origin.after, last_message=last)
    return [*whole, last_part]


def last_message(conn: Connection, part: Range, through: int) -> int:
    """The number of the last message of the turns that begin up to an event.

    A binary search: the turns of a session run one after another, so messages are in the order of their turns' events.
    """
    low, high = part.first_message - 1, part.last_message
    sql = """select t.first_event from messages m join turns t on t.id = m.turn_id
      where m.session_id = ? and m.n = ?"""
    while low < high:
        middle = (low + high + 1) // 2
        row = conn.execute(sql, (part.holder, middle)).fetchone()
        if row is not None and row["first_event"] is not None and row["first_event"] <= through:
            low = middle
        else:
            high = middle - 1
    return low
