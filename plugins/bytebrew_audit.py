"""The audit: who had which tool called, when and with what outcome, kept when sessions are deleted."""

import sqlite3
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

from bytebrew import (
    Detail,
    InvalidRequest,
    Migration,
    Outcome,
    Request,
    Route,
    Stream,
    ToolCall,
    hookimpl,
    moment,
    now,
)

if TYPE_CHECKING:
    from bytebrew import Engine, Turn

MOST_OUTPUT = 10 * 1024
"""Bytes that are kept of a tool's output."""
EXPORT_ROWS = 100
NDJSON = "application/x-ndjson"
MIGRATION = Migration(
    1,
    """
create table audit_tool_calls (
  id integer primary key,
  turn_id text not null,
  call_id text not null,
  parent_call_id text,
  session_id text not null,
  agent_name text not null,
  tool_name text not null,
  input text not null,
  output text not null,
  status text not null,
  duration_ms integer not null,
  user_id text not null,
  confirmed_by text,
  created_at text not null,
  unique (turn_id, call_id)
) strict;
create index audit_tool_calls_time on audit_tool_calls (created_at);
create index audit_tool_calls_session on audit_tool_calls (session_id, created_at);
create index audit_tool_calls_agent on audit_tool_calls (agent_name, created_at);
create index audit_tool_calls_tool on audit_tool_calls (tool_name, created_at);
create index audit_tool_calls_status on audit_tool_calls (status, created_at);
create index audit_tool_calls_user on audit_tool_calls (user_id, created_at);
""",
)
_FILTERS = {
    "session_id": "session_id",
    "agent": "agent_name",
    "tool": "tool_name",
    "status": "status",
    "user_id": "user_id",
}
_CALLS = """select c.turn_id, c.call_id, t.parent_call_id, s.id as session_id, :agent as agent_name,
  c.tool as tool_name, c.input, coalesce(c.output, 'The turn ended before this call did') as output,
  case c.status when 'completed' then 'completed' else 'failed' end as status,
  cast(round(max(0, coalesce(julianday(coalesce(c.finished_at, :now)) - julianday(c.started_at), 0)) * 86400000)
    as integer) as duration_ms,
  coalesce(nullif(s.user_sub, ''), :subject) as user_id,
  (select f.answered_by from confirmations f where f.turn_id = c.turn_id and f.call_id = c.call_id
    order by f.answered_at desc limit 1) as confirmed_by,
  coalesce(c.started_at, c.asked_at) as created_at
  from tool_calls c join turns t on t.id = c.turn_id join turns root on root.id = t.root_turn_id
  join sessions s on s.id = root.session_id where c.turn_id = :turn and coalesce(:call, c.call_id) = c.call_id"""
_RECORD = """insert into audit_tool_calls (turn_id, call_id, parent_call_id, session_id, agent_name, tool_name, input,
  output, status, duration_ms, user_id, confirmed_by, created_at) values (:turn_id, :call_id, :parent_call_id,
  :session_id, :agent_name, :tool_name, :input, :output, :status, :duration_ms, :user_id, :confirmed_by, :created_at)
  on conflict (turn_id, call_id) do nothing"""
_SELECT = """select cast(id as text) as id, session_id, agent_name, tool_name, input, output, status, duration_ms,
  user_id, created_at, call_id, parent_call_id, confirmed_by from audit_tool_calls"""

_COUNT = "select count(*) from audit_tool_calls"


class ToolCallEntry(Struct, frozen=True, kw_only=True):
    """One tool call; `input` and `output` are text, the output's first 10 KB.

    A spawned agent's call is in the session of the person's message, and `parent_call_id` is the call that spawned the
    agent. `confirmed_by` is who answered a question about the call.
    """

    id: str
    session_id: str
    agent_name: str
    tool_name: str
    input: str
    output: str
    status: Literal["completed", "failed"]
    duration_ms: int
    user_id: str
    created_at: str
    call_id: str
    parent_call_id: str | None
    confirmed_by: str | None


class ToolCallPage(Struct, frozen=True, kw_only=True):
    """A page of tool calls, newest first."""

    data: list[ToolCallEntry]
    total: int
    page: int
    per_page: int
    total_pages: int


async def list_tool_calls(request: Request[None]) -> ToolCallPage | Stream:
    """Tool calls by page, newest first, or all of them as NDJSON."""
    query, db = request.query, request.engine.db
    wanted = _wanted(query)
    if _as_lines(query.get("format", ""), request.headers.get("accept", "")):
        return Stream(frames=_lines(request.engine, wanted), headers={"content-type": NDJSON})
    page, per_page = _positive(query.get("page"), 1, 10**9), _positive(query.get("per_page"), 50, 100)
    return ToolCallPage(
        data=await db.read(_entries, wanted, per_page, (page - 1) * per_page),
        total=(total := await db.read(_count, wanted)),
        page=page,
        per_page=per_page,
        total_pages=-(-total // per_page),
    )


def _wanted(query: Mapping[str, str]) -> dict[str, str]:
    """Conditions on rows, each with its value."""
    status = query.get("status")
    if status and status not in ("completed", "failed"):
        words = "one of completed, failed"
        raise InvalidRequest(f"status is {words}", details=[Detail("$.status", words)])
    wanted = {f"{column} = ?": query[name] for name, column in _FILTERS.items() if query.get(name)}
    if since := moment(query, "from"):
        wanted["created_at >= ?"] = since
    if until := moment(query, "to", last=True):
        wanted["created_at < ?"] = until
    return wanted


def _as_lines(form: str, accept: str) -> bool:
    if form not in ("", "json", "ndjson"):
        words = "one of json, ndjson"
        raise InvalidRequest(f"format is {words}", details=[Detail("$.format", words)])
    return form == "ndjson" or (not form and NDJSON in accept.lower())


def _positive(text: str | None, default: int, most: int) -> int:
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) < 1:
        return default
    return min(int(text), most)


def _where(wanted: Mapping[str, str]) -> str:
    return f"where {' and '.join(wanted)}" if wanted else ""


def _count(conn: sqlite3.Connection, wanted: Mapping[str, str]) -> int:
    count: int = conn.execute(f"{_COUNT} {_where(wanted)}", tuple(wanted.values())).fetchone()[0]
    return count


def _entries(
    conn: sqlite3.Connection,
    wanted: Mapping[str, str],
    limit: int,
    offset: int = 0,
    after: ToolCallEntry | None = None,
) -> list[ToolCallEntry]:
    where, values = _where(wanted), list[str | int](wanted.values())
    if after is not None:
        where += f" {'and' if where else 'where'} (created_at, id) < (?, ?)"
        values += [after.created_at, int(after.id)]
    sql = f"{_SELECT} {where} order by created_at desc, audit_tool_calls.id desc limit ? offset ?"
    return [ToolCallEntry(**dict(row)) for row in conn.execute(sql, (*values, limit, offset))]


async def _lines(engine: "Engine", wanted: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
    encoder = msgspec.json.Encoder()
    last: ToolCallEntry | None = None
    while rows := await engine.db.read(_entries, wanted, EXPORT_ROWS, after=last):
        last = rows[-1]
        yield encoder.encode_lines(rows)


def _record(conn: sqlite3.Connection, turn_id: str, call_id: str | None, agent: str, subject: str) -> None:
    """Takes a turn's calls, or one of them, into the audit, as far as they are not there."""
    given = {"turn": turn_id, "call": call_id, "agent": agent, "subject": subject.removeprefix("user:"), "now": now()}
    rows = [dict(row) for row in conn.execute(_CALLS, given)]
    for row in rows:
        row["output"] = row["output"].encode()[:MOST_OUTPUT].decode(errors="ignore")
    conn.executemany(_RECORD, rows)


@hookimpl
async def tool_finished(turn: "Turn", call: ToolCall, result: Outcome) -> None:
    await turn.engine.db.write(_record, turn.id, call.call_id, turn.agent.name, turn.subject)


@hookimpl
async def turn_finished(turn: "Turn") -> None:
    if turn.call_ids:  # some may have been cut short, by a person or by the end of the engine
        await turn.engine.db.write(_record, turn.id, None, turn.agent.name, turn.subject)


@hookimpl
def register_migrations(register: Any) -> None:
    register(MIGRATION)


@hookimpl
def register_routes(register: Any) -> None:
    register(
        Route(
            method="GET",
            path="/api/v1/audit/tool-calls",
            scope="admin",
            run=list_tool_calls,
            summary="List tool calls for an audit",
            query={
                "session_id": "of this session, spawned agents included",
                "agent": "of this agent",
                "tool": "of this tool",
                "status": "completed or failed",
                "user_id": "for this end user",
                "from": "at this time or later",
                "to": "before this time; a bare date is included",
                "page": "from 1",
                "per_page": "rows, 100 at most",
                "format": "ndjson for all rows, one a line, as the header Accept: application/x-ndjson",
            },
            answer=ToolCallPage,
        )
    )
