"""The rows of an ended turn that its spans are made of."""

from typing import NamedTuple

import msgspec

from bytebrew import Connection, Message, Row, parse_time

_decode = msgspec.json.Decoder(Message).decode
_TURN = """select t.id, t.session_id, t.traceparent, t.parent_turn_id, t.parent_call_id, t.root_turn_id, t.status,
  t.failure, t.agent_version, t.last_event, t.created_at, t.started_at, t.finished_at, s.schema, s.agent from turns t
  join sessions s on s.id = t.session_id where t.id = ? and t.status <> 'absorbed'
  and s.id not in (select session_id from removals)"""


class TurnRows(NamedTuple):
    """An ended turn with its model calls, tool calls and questions; with content its messages too, and their times."""

    turn: Row
    error: str
    calls: list[Row]
    tools: list[Row]
    waits: list[Row]
    messages: list[tuple[float, Message]]


def read(conn: Connection, turn_id: str, content: bool) -> TurnRows | None:
    """The rows of a turn; None if its session is deleted, and of a message that steered another turn."""
    turn = conn.execute(_TURN, (turn_id,)).fetchone()
    if turn is None:
        return None
    texts = ", input, output" if content else ""
    tools = f"select call_id, tool, status, asked_at, started_at, finished_at{texts} from tool_calls"  # noqa: S608
    return TurnRows(
        turn,
        _error(conn, turn),
        conn.execute("select * from usage where turn_id = ? and started_at > 0 order by id", (turn_id,)).fetchall(),
        conn.execute(f"{tools} where turn_id = ? order by asked_at, call_id", (turn_id,)).fetchall(),
        conn.execute(
            """select id, call_id, kind, tool, status, verdict, created_at, answered_at, expires_at from confirmations
            where turn_id = ? order by created_at, id""",
            (turn_id,),
        ).fetchall(),
        _messages(conn, turn) if content else [],
    )


def _error(conn: Connection, turn: Row) -> str:
    """The code of the turn's error, or only its HTTP status if the event is packed already; empty without an error."""
    if turn["status"] == "cancelled":
        return "cancelled"
    if turn["status"] != "failed":
        return ""
    sql = "select data from events where session_id = ? and n = ? and type = 'error'"
    row = conn.execute(sql, (turn["session_id"], turn["last_event"])).fetchone()
    return msgspec.json.decode(row["data"])["code"] if row else str(turn["failure"])


def _messages(conn: Connection, turn: Row) -> list[tuple[float, Message]]:
    """The messages of the turn, oldest first, each with the time at which it was stored, in seconds since 1970."""
    found: list[tuple[float, Message]] = []
    sql = "select turn_id, created_at, body from messages where session_id = ? order by n desc"
    for row in conn.execute(sql, (turn["session_id"],)):
        if row["turn_id"] == turn["id"]:
            found.append((parse_time(row["created_at"]).timestamp(), _decode(row["body"])))
        elif found:
            break
    return found[::-1]
