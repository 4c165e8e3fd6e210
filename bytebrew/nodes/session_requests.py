"""SQL for what nodes ask of the one that runs a session, each until it is done."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from msgspec import Struct

from bytebrew.base.formats import now, rfc3339
from bytebrew.contract.connection import Connection, placeholders

Kind = Literal["interrupt", "steer", "cancel", "stop", "removed"]
"""How a queued message enters the queue, until its turn begins; or what is to be done with a turn, or with all of a
session."""
OVER_MINUTES = 10
"""A request that nobody has deleted by then came from a node that was lost, and nobody waits for it."""


class SessionRequest(Struct, frozen=True):
    """A request about a turn, or about all turns of a session if `turn_id` is empty."""

    n: int
    session_id: str
    turn_id: str
    kind: Kind


class Work(Struct, frozen=True):
    """What a node finds for it: the turns that are queued for it, and the requests to all nodes."""

    queued: list[str]
    requests: list[SessionRequest]


def add(conn: Connection, session_id: str, turn_id: str, kind: Kind) -> int:
    """Stores a request; returns its number."""
    over = rfc3339(datetime.now(UTC) - timedelta(minutes=OVER_MINUTES))
    conn.execute("delete from session_requests where created_at < ? and kind not in ('interrupt', 'steer')", (over,))
    conn.execute(
        """delete from session_requests where kind in ('interrupt', 'steer')
        and turn_id not in (select id from turns where status = 'queued')"""
    )
    row = conn.execute(
        "insert into session_requests (session_id, turn_id, kind, created_at) values (?, ?, ?, ?) returning n",
        (session_id, turn_id, kind, now()),
    ).fetchone()
    return int(row[0])


def work(conn: Connection, node: int) -> Work:
    """What a node finds for it."""
    queued = conn.execute("select id from turns where node = ? and status = 'queued' order by seq", (node,))
    found = [row[0] for row in queued.fetchall()]
    rows = conn.execute(
        "select n, session_id, turn_id, kind from session_requests where kind not in ('interrupt', 'steer') order by n"
    )
    return Work(found, [SessionRequest(*row) for row in rows])


def interrupting(conn: Connection, node: int) -> dict[str, str]:
    """The sessions of a node with a message that waits to interrupt its turn, each with the turn of the message."""
    rows = conn.execute(
        """select q.session_id, q.turn_id from session_requests q join turns t on t.id = q.turn_id
        where q.kind = 'interrupt' and t.status = 'queued' and t.node = ? order by q.n""",
        (node,),
    )
    return {row["session_id"]: row["turn_id"] for row in rows}


def done(conn: Connection, numbers: Sequence[int]) -> None:
    """Deletes requests."""
    conn.execute(f"delete from session_requests where n in ({placeholders(numbers)})", (*numbers,))


def entered(conn: Connection, turn_ids: Sequence[str]) -> None:
    """Deletes the places in the queue of turns that have left it."""
    conn.execute(f"delete from session_requests where turn_id in ({placeholders(turn_ids)})", (*turn_ids,))
