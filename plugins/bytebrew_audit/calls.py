"""The audit of tool calls: who had which tool called, when and with what outcome, kept when sessions are deleted."""

from typing import Literal

from msgspec import Struct

from bytebrew import (
    NDJSON,
    Connection,
    Detail,
    InvalidRequest,
    Listing,
    NumberedPage,
    Parameter,
    Request,
    Route,
    Row,
    Stream,
    kept_counts,
)

from .audit_log import PAGING, AuditLog

MOST_OUTPUT = 10 * 1024
"""Bytes of a tool's output that are kept."""
TABLE = """
create table audit_tool_calls (
  id integer primary key,
  turn_id text not null,
  call_id text not null,
  parent_call_id text,
  session_id text not null,
  agent_name text not null,
  tool_name text not null,
  input text not null,
  output blob not null,
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
"""
_RECORD = f"""insert or ignore into audit_tool_calls (turn_id, call_id, parent_call_id, session_id, agent_name,
  tool_name, input, output, status, duration_ms, user_id, confirmed_by, created_at)
  select c.turn_id, c.call_id, t.parent_call_id, s.id, coalesce(e.name, own.agent), c.tool, c.input,
  coalesce(
    substr(cast(coalesce(c.output, 'The turn ended before this call did') as blob), 1, {MOST_OUTPUT}), x''),
  case c.status when 'completed' then 'completed' else 'failed' end,
  cast(round(max(0, coalesce(julianday(coalesce(c.finished_at, new.finished_at)) - julianday(c.started_at), 0))
    * 86400000) as integer),
  coalesce(nullif(s.user_sub, ''), case when s.owner like 'user:%' then substr(s.owner, 6) else s.owner end),
  (select f.answered_by from confirmations f where f.turn_id = c.turn_id and f.call_id = c.call_id
    order by f.answered_at desc limit 1),
  coalesce(c.started_at, c.asked_at)
  from tool_calls c join turns t on t.id = c.turn_id join sessions own on own.id = t.session_id
  left join schemas x on x.name = own.schema and t.parent_turn_id is null left join agents e on e.id = x.entry_agent_id
  join turns root on root.id = t.root_turn_id join sessions s on s.id = root.session_id"""  # noqa: S608
_TRIGGERS = (
    f"""create temp trigger audit_call after update of finished_at on main.tool_calls begin
    {_RECORD} where c.turn_id = new.turn_id and c.call_id = new.call_id on conflict (turn_id, call_id) do nothing;
    end""",
    f"""create temp trigger audit_turn after update of finished_at on main.turns begin
    {_RECORD} where c.turn_id = new.id on conflict (turn_id, call_id) do nothing;
    end""",
)


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


class ToolCallPage(NumberedPage[ToolCallEntry], frozen=True, kw_only=True):
    """A page of tool calls, newest first."""


def _entry(row: Row) -> ToolCallEntry:
    values = {name: row[name] for name in ToolCallEntry.__struct_fields__}
    output = row["output"].decode(errors="ignore")  # the limit may fall within a character
    return ToolCallEntry(**values | {"id": str(row["id"]), "output": output})


LISTING = Listing(
    table="audit_tool_calls", order=("created_at", "id"), kinds=("agent_name", "tool_name", "status"), kept="user_id"
)
COUNTS = f"""
drop index audit_tool_calls_agent;
drop index audit_tool_calls_tool;
drop index audit_tool_calls_status;
create index audit_tool_calls_kinds
  on audit_tool_calls (agent_name, tool_name, status, created_at, id, session_id, user_id);
{kept_counts(LISTING)}
"""
LEDGER = AuditLog(
    LISTING,
    {
        "session_id": "session_id",
        "agent": "agent_name",
        "tool": "tool_name",
        "status": "status",
        "user_id": "user_id",
    },
    _entry,
)


def watch(conn: Connection) -> None:
    """Creates triggers that record a call in the transaction that ends it or its turn.

    They are temporary, so that none is left when the plugin is switched off, not even after a crash.
    """
    for trigger in _TRIGGERS:
        conn.execute(trigger)


async def list_tool_calls(request: Request[None]) -> NumberedPage[ToolCallEntry] | Stream:
    """Tool calls by page, newest first, or all of them as NDJSON."""
    status = request.query.get("status")
    if status and status not in ("completed", "failed"):
        words = "one of completed, failed"
        raise InvalidRequest(f"status is {words}", details=[Detail("$.status", words)])
    return await LEDGER.answer(request)


ROUTE = Route(
    method="GET",
    path="/api/v1/audit/tool-calls",
    scope="admin",
    run=list_tool_calls,
    summary="List tool calls for an audit",
    query={
        "session_id": "of this session, spawned agents included",
        "agent": "of this agent",
        "tool": "of this tool",
        "status": Parameter("of this status", Literal["completed", "failed", ""]),
        "user_id": "for this end user",
        **PAGING,
    },
    answer=ToolCallPage,
    also={404: None},
    gives=(NDJSON,),
)
