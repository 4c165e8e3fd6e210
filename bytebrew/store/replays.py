"""SQL for replays: runs of a candidate over recorded turns, and the reports of these turns."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from bytebrew.base.errors import NotFound, Unprocessable
from bytebrew.base.formats import new_id, now
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection, Row
from bytebrew.contract.messages import Message, ResponseFormat, ToolSpec
from bytebrew.store import forks, messages, sessions

KEPT = 100
"""Replays that are kept; each new one deletes the oldest."""
MOST_TURNS = 2000
TABLES = """
create table replays (
  seq integer primary key autoincrement,
  id text not null unique,
  owner text not null,
  definition text not null,
  status text not null,
  created_at text not null,
  finished_at text
) strict;
create index replays_running on replays (seq) where status = 'running';
create table replay_turns (
  replay_id text not null references replays (id) on delete cascade,
  n integer not null,
  session_id text not null references sessions (id) on delete cascade,
  turn_id text not null,
  report text,
  primary key (replay_id, n)
) strict, without rowid;
create index replay_turns_session on replay_turns (session_id);
"""


class Replay(Struct, frozen=True, kw_only=True):
    """A run of a candidate: `definition` is the request; `done` of its recorded `turns` have a report."""

    id: str
    owner: str
    definition: Raw
    status: Literal["running", "completed"]
    created_at: str
    finished_at: str | None
    turns: int
    done: int


class RecordedTurn(Struct, frozen=True, kw_only=True):
    """A recorded turn: its messages, of which the first is the user's, and those of turns before it with a summary."""

    id: str
    session_id: str
    schema: str
    owner: str
    user_sub: str
    failed: bool
    client_tools: tuple[ToolSpec, ...]
    response_format: ResponseFormat | None
    own: list[Message]
    earlier: list[Message]
    summary: str
    usage: tuple[int, int, float | None, float]


def create(conn: Connection, actor: Actor, definition: Any, session_ids: Sequence[str]) -> Replay:
    """Stores a run over the ended turns of sessions that the actor may see; NotFound for others."""
    replay_id, rows = new_id("replay"), list[tuple[str, str]]()
    for session_id in dict.fromkeys(session_ids):
        sessions.check_owner(actor, sessions.owner(conn, session_id), session_id)
        sql = """select id from turns where session_id = ? and parent_turn_id is null
          and status in ('completed', 'failed') and first_event is not null order by seq"""
        rows += [(session_id, row["id"]) for row in conn.execute(sql, (session_id,))]
    if not rows or len(rows) > MOST_TURNS:
        raise Unprocessable(f"The sessions have {len(rows)} turns that ended; name sessions with 1 to {MOST_TURNS}")
    text = msgspec.json.encode(definition).decode()
    conn.execute(
        "insert into replays (id, owner, definition, status, created_at) values (?, ?, ?, 'running', ?)",
        (replay_id, actor.subject, text, now()),
    )
    conn.executemany(
        "insert into replay_turns (replay_id, n, session_id, turn_id) values (?, ?, ?, ?)",
        [(replay_id, n, *row) for n, row in enumerate(rows, 1)],
    )
    conn.execute(
        """delete from replays where status <> 'running' and seq <= (
        select seq from replays order by seq desc limit 1 offset ?)""",
        (KEPT,),
    )
    return get(conn, actor, replay_id)


_SELECT = """select id, owner, definition, status, created_at, finished_at,
  (select count(*) from replay_turns t where t.replay_id = r.id) as turns,
  (select count(*) from replay_turns t where t.replay_id = r.id and t.report is not null) as done from replays r"""


def get(conn: Connection, actor: Actor, replay_id: str) -> Replay:
    """A replay of the actor's; an admin may see all. NotFound otherwise."""
    row = conn.execute(f"{_SELECT} where r.id = ?", (replay_id,)).fetchone()
    if row is None or (row["owner"] != actor.subject and not actor.is_admin):
        raise NotFound(f"There is no replay '{replay_id[:255]}'")
    return _replay(row)


def _replay(row: Row) -> Replay:
    return Replay(**{**dict(row), "definition": Raw(row["definition"].encode())})


def running(conn: Connection) -> list[Replay]:
    """The replays that have not ended."""
    return [_replay(row) for row in conn.execute(f"{_SELECT} where r.status = 'running' order by r.seq")]


def left(conn: Connection, replay_id: str) -> list[int]:
    """The numbers of the turns without a report."""
    sql = "select n from replay_turns where replay_id = ? and report is null order by n"
    return [row["n"] for row in conn.execute(sql, (replay_id,))]


def reports(conn: Connection, replay_id: str) -> list[Raw]:
    """The reports so far, in the order of the turns."""
    sql = "select report from replay_turns where replay_id = ? and report is not null order by n"
    return [Raw(row["report"].encode()) for row in conn.execute(sql, (replay_id,))]


def record(conn: Connection, replay_id: str, n: int, report: Any) -> None:
    """Stores the report of a turn, unless its session was deleted."""
    sql = "update replay_turns set report = ? where replay_id = ? and n = ?"
    conn.execute(sql, (msgspec.json.encode(report).decode(), replay_id, n))


def end(conn: Connection, replay_id: str) -> None:
    """Ends a run whose turns all have a report."""
    conn.execute("update replays set status = 'completed', finished_at = ? where id = ?", (now(), replay_id))


def recorded(conn: Connection, replay_id: str, n: int, budget: int) -> RecordedTurn | None:
    """A recorded turn with the newest messages before it, within a budget of tokens; None if it was deleted."""
    row = conn.execute(
        """select t.id, t.session_id, t.status, t.first_event, t.client_tools, t.response_format, s.schema, s.owner,
        s.user_sub, s.forked_messages, (select max(m.n) from messages m where m.session_id = s.id) as last_message
        from replay_turns p join turns t on t.id = p.turn_id join sessions s on s.id = t.session_id
        where p.replay_id = ? and p.n = ?""",
        (replay_id, n),
    ).fetchone()
    if row is None:
        return None
    session_id, begins = row["session_id"], row["first_event"]
    part = forks.Range(session_id, 1, begins, row["forked_messages"] + 1, row["last_message"] or 0)
    first, last = forks.last_message(conn, part, begins - 1) + 1, forks.last_message(conn, part, begins)
    earlier, cut = messages.before(conn, session_id, first, budget)
    summary = conn.execute(
        "select content from summaries where session_id = ? and through_n < ?", (session_id, first)
    ).fetchone()
    client_tools, response_format = row["client_tools"], row["response_format"]
    return RecordedTurn(
        id=row["id"],
        session_id=session_id,
        schema=row["schema"],
        owner=row["owner"],
        user_sub=row["user_sub"],
        failed=row["status"] == "failed",
        client_tools=msgspec.json.decode(client_tools, type=tuple[ToolSpec, ...]) if client_tools else (),
        response_format=msgspec.json.decode(response_format, type=ResponseFormat) if response_format else None,
        own=messages.between(conn, session_id, first, last),
        earlier=messages.paired(earlier),
        summary=summary["content"] if summary and cut else "",
        usage=_usage(conn, row["id"]),
    )


def _usage(conn: Connection, turn_id: str) -> tuple[int, int, float | None, float]:
    row = conn.execute(
        """select coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), sum(cost_usd),
        coalesce(sum(finished_at - started_at), 0)
        from usage where turn_id = ? and purpose = 'step'""",
        (turn_id,),
    ).fetchone()
    return row[0], row[1], row[2], round(row[3], 3)
