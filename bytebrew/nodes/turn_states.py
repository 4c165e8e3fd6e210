"""SQL that reads the open turns of other nodes: who runs a session, what waits in it, how a turn is."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from msgspec import Struct

from bytebrew.contract.connection import Connection, Cursor, Row, placeholders
from bytebrew.contract.governance.personal_data import Person
from bytebrew.store.queries.events import LAST
from bytebrew.store.turns import IN_SESSION, Status

_OPEN = "status in ('queued', 'running')"
_QUEUED = """from turns t left join session_requests q on q.turn_id = t.id and q.kind in ('interrupt', 'steer')
  where t.status = 'queued'"""
_ORDER = "order by case q.kind when 'interrupt' then 0 when 'steer' then 1 else 2 end, t.seq"


class Runs(NamedTuple):
    """The node that has open turns of a session; None is one that has ended, whose turns wait for the next."""

    node: int | None


class Before(NamedTuple):
    """What a new turn finds: the row of its session, the number of the last event, and who has open turns."""

    session: Row | None
    last: int
    runs: Runs | None


class TurnState(Struct, frozen=True, kw_only=True):
    """A turn as it is stored; one that another turn has absorbed has the status and the end of that one.

    `position` is the number of turns before one that waits; `needs_input` says that its session waits for a person.
    """

    id: str
    session_id: str
    status: Status
    first: int | None
    last: int | None
    absorbed_by: str | None
    failure: int | None
    code: str
    position: int
    needs_input: bool


class Waiting(NamedTuple):
    """A message that waits, in any session."""

    session_id: str
    subject: str
    size: int


def query(conn: Connection, session_id: str, node: int, *, idle: bool) -> Cursor:
    """The query for what a new turn finds in its session, see `before`.

    The node that has open turns may be this one where the session is `idle`: it has taken over turns that it does not
    run yet.
    """
    return conn.execute(
        f"""select {IN_SESSION}, ({LAST}) as last, s.id is not null as there, t.id is not null as runs, t.node
        from (select 1 as one) begin left join sessions s on s.id = ?1
        left join (select id, node from turns where session_id = ?1 and {_OPEN} and (node is distinct from ?2 or ?3 = 1)
          order by seq limit 1) t on true""",
        (session_id, node, int(idle)),
    )


def before(result: Cursor) -> Before:
    """What a new turn finds, of the result of `query`."""
    row = result.fetchone()
    return Before(row if row["there"] else None, row["last"], Runs(row["node"]) if row["runs"] else None)


def open_elsewhere(conn: Connection, session_id: str, node: int) -> list[str]:
    """The open turns of other nodes in a session."""
    sql = f"select id from turns where session_id = ? and {_OPEN} and node is distinct from ? order by seq"
    return [row["id"] for row in conn.execute(sql, (session_id, node))]


def open_of(conn: Connection, person: Person, node: int) -> list[str]:
    """The sessions of the open turns of other nodes that are in a person's sessions, or answer the person."""
    names, theirs = {*person.names}, {*person.sessions}
    rows = conn.execute(
        f"select session_id, subject from turns where {_OPEN} and node is distinct from ? order by seq", (node,)
    )
    return [*dict.fromkeys(row["session_id"] for row in rows if row["session_id"] in theirs or row["subject"] in names)]


def running(conn: Connection, session_id: str) -> str | None:
    """The turn that runs in a session."""
    sql = "select id from turns where session_id = ? and status = 'running' order by seq limit 1"
    row = conn.execute(sql, (session_id,)).fetchone()
    return row["id"] if row else None


def queue(conn: Connection, session_id: str) -> list[str]:
    """The turns that wait in a session, in their order."""
    sql = f"select t.id {_QUEUED} and t.session_id = ? {_ORDER}"
    return [row["id"] for row in conn.execute(sql, (session_id,))]


def waiting(conn: Connection, but: str) -> list[Waiting]:
    """The messages that wait in all sessions, without one of them."""
    rows = conn.execute(
        """select t.session_id, coalesce(nullif(t.subject, ''), s.owner) as subject, t.size
        from turns t join sessions s on s.id = t.session_id where t.status = 'queued' and t.id <> ?""",
        (but,),
    )
    return [Waiting(*row) for row in rows]


def states(conn: Connection, turn_ids: Sequence[str]) -> dict[str, TurnState]:
    """How turns are; one that does not exist any more is missing."""
    rows = conn.execute(
        f"""select t.id, t.session_id, coalesce(a.status, t.status) as status, t.first_event as first,
        coalesce(a.last_event, t.last_event) as last, a.id as absorbed_by, coalesce(a.failure, t.failure) as failure,
        coalesce(a.code, t.code, '') as code from turns t
        left join turns a on a.id = t.steers and t.status = 'absorbed'
        where t.id in ({placeholders(turn_ids)}) and t.session_id not in (select session_id from removals)""",
        (*turn_ids,),
    ).fetchall()
    waiting = {row["session_id"] for row in rows if row["status"] == "queued"}
    positions, asking = (_positions(conn, waiting), _asking(conn, waiting)) if waiting else ({}, set())
    return {
        row["id"]: TurnState(**dict(row), position=positions.get(row["id"], 0), needs_input=row["session_id"] in asking)
        for row in rows
    }


def _positions(conn: Connection, session_ids: Collection[str]) -> dict[str, int]:
    """The places of the turns that wait in sessions, by turn."""
    rows = conn.execute(
        f"""select t.id, row_number() over (partition by t.session_id {_ORDER}) as position {_QUEUED}
        and t.session_id in ({placeholders(session_ids)})""",
        (*session_ids,),
    )
    return {row["id"]: row["position"] for row in rows}


def _asking(conn: Connection, session_ids: Collection[str]) -> set[str]:
    """The sessions that wait for a person."""
    sql = f"select session_id from confirmations where session_id in ({placeholders(session_ids)})"
    return {row["session_id"] for row in conn.execute(f"{sql} and status = 'pending'", (*session_ids,))}
