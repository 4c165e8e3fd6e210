"""The turns of a session, in the order of their messages."""

from typing import Any, Literal

from msgspec import Struct

from bytebrew import Actor, Connection, Live, NotFound, Page, Row, Usage, page_of

from .times import of_seconds

Status = Literal["queued", "running", "needs_input", "completed", "failed", "cancelled"]
MESSAGE = 200
"""Characters of a turn's message in a list."""
_COLUMNS = """t.seq, t.id, t.session_id, t.status, t.code, t.created_at, t.started_at, t.finished_at,
  t.first_event, t.last_event, t.agent_version, t.parent_turn_id, t.parent_call_id, t.message, s.agent"""
SELECT = f"select {_COLUMNS} from turns t join sessions s on s.id = t.session_id"  # noqa: S608
_USAGE = ", ".join(f"t.{name}" for name in Usage.__struct_fields__)
_TREE = """with recursive tree (id) as (
  select cast(?1 as text) union all select t.id from tree join turns t on t.parent_turn_id = tree.id)"""


class AgentVersion(Struct, frozen=True, kw_only=True):
    """An agent that worked in a turn, and its version then; 0 where it had none."""

    agent: str
    version: int


class TurnRow(Struct, frozen=True, kw_only=True):
    """A turn; `message` is the beginning of its message, `number` counts the session's turns from 1.

    With `needs_input` it waits for somebody's answer. A failed turn has the `code` of its error; the event `last_event`
    says more. `versions` are of its agent and of those that it spawned. `usage` includes theirs. In a fork `session_id`
    is the session that holds it.
    """

    turn_id: str
    session_id: str
    number: int
    status: Live[Status]
    code: Live[str]
    message: str
    queued_at: str
    started_at: Live[str | None]
    first_token_at: Live[str | None]
    ended_at: Live[str | None]
    first_event: Live[int | None]
    last_event: Live[int | None]
    versions: Live[list[AgentVersion]]
    usage: Live[Usage]


class TurnPage(Page[TurnRow], frozen=True, kw_only=True):
    """A page of turns, oldest first."""


def page(conn: Connection, session_id: str, actor: Actor, limit: int, offset: int) -> TurnPage:
    """The turns of a session that the actor may see."""
    ids = turn_ids(conn, session_id, actor)
    rows = [turn(conn, one, number) for number, one in enumerate(ids[offset : offset + limit], offset + 1)]
    return TurnPage(**{name: getattr(page_of(rows, len(ids), limit, offset), name) for name in Page.__struct_fields__})


def turn_ids(conn: Connection, session_id: str, actor: Actor) -> list[str]:
    """The turns of a session and of the history that a fork shares, oldest first; NotFound for those of others."""
    sql = """select owner, forked_after from sessions where id = ? and id not in (select session_id from removals)"""
    row = conn.execute(sql, (session_id,)).fetchone()
    if row is None or (row["owner"] != actor.subject and not actor.is_admin):
        raise NotFound(f"There is no session '{session_id[:255]}'")
    shared = "select holder, first_event, last_event from shared_history where session_id = ? order by last_event"
    parts = [tuple(part) for part in conn.execute(shared, (session_id,))]
    sql = "select id from turns where session_id = ? and status <> 'absorbed'"
    found = [
        one["id"]
        for holder, first, last in parts
        for one in conn.execute(f"{sql} and first_event between ? and ? order by seq", (holder, first, last))
    ]
    return [*found, *(one["id"] for one in conn.execute(f"{sql} order by seq", (session_id,)))]


def turn(conn: Connection, turn_id: str, number: int) -> TurnRow:
    """A turn by its id."""
    row = conn.execute(SELECT.replace(" from", f", {_USAGE} from", 1) + " where t.id = ?", (turn_id,)).fetchone()
    sql = "select min(first_token_at) from usage where turn_id = ? and first_token_at > 0"
    began = conn.execute(sql, (turn_id,)).fetchone()[0]
    return TurnRow(
        turn_id=row["id"],
        session_id=row["session_id"],
        number=number,
        status=_status(conn, row),
        code=row["code"],
        message=row["message"][:MESSAGE],
        queued_at=row["created_at"],
        started_at=row["started_at"],
        first_token_at=of_seconds(began),
        ended_at=row["finished_at"],
        first_event=row["first_event"],
        last_event=row["last_event"],
        versions=_versions(conn, row["id"]),
        usage=Usage(*(row[name] for name in Usage.__struct_fields__)),
    )


def _status(conn: Connection, row: Row) -> Any:
    if row["status"] != "running":
        return row["status"]
    sql = f"""{_TREE} select 1 from tree join confirmations c on c.turn_id = tree.id
      where c.status = 'pending' and c.kind <> 'client_tool' limit 1"""  # noqa: S608
    return "needs_input" if conn.execute(sql, (row["id"],)).fetchone() else "running"


def _versions(conn: Connection, turn_id: str) -> list[AgentVersion]:
    sql = f"""{_TREE} select s.agent, t.agent_version, min(t.seq) as seq from tree join turns t on t.id = tree.id
      join sessions s on s.id = t.session_id group by s.agent, t.agent_version order by seq"""  # noqa: S608
    return [AgentVersion(agent=row[0], version=row[1]) for row in conn.execute(sql, (turn_id,))]
