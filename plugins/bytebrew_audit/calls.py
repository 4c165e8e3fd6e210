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
    dialect,
)

from .audit_log import PAGING, AuditLog
from .triggers import TRIGGERS

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
COUNTS = (
    """
drop index audit_tool_calls_agent;
drop index audit_tool_calls_tool;
drop index audit_tool_calls_status;
create index audit_tool_calls_kinds
  on audit_tool_calls (agent_name, tool_name, status, created_at, id, session_id, user_id);
""",
    LISTING,
)
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
    """Creates triggers that record a call in the transaction that ends it or its turn."""
    for statement in TRIGGERS[dialect(conn)]:
        conn.execute(statement)


async def list_tool_calls(request: Request[None]) -> NumberedPage[ToolCallEntry] | Stream:
    """Tool calls by page, newest first, or all of them as NDJSON."""
    status = request.query.get("status")
    if status and status not in ("completed", "failed"):
        message = "one of completed, failed"
        raise InvalidRequest(f"status is {message}", details=[Detail("$.status", message)])
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
