"""Triggers that record a tool call in the transaction in which it ends, for each kind of database.

SQLite's are temporary, so that none is left when the plugin is disabled, even after a crash. Those of PostgreSQL stay:
any node that shares the database ends calls.
"""

MOST_OUTPUT = 10 * 1024
"""Limit in bytes of a tool's recorded output."""
_COLUMNS = """audit_tool_calls (turn_id, call_id, parent_call_id, session_id, agent_name,
  tool_name, input, output, status, duration_ms, user_id, confirmed_by, created_at)"""
_REST = """coalesce(nullif(s.user_sub, ''), case when s.owner like 'user:%' then substr(s.owner, 6) else s.owner end),
  (select f.answered_by from confirmations f where f.turn_id = c.turn_id and f.call_id = c.call_id
    and f.kind <> 'client_tool' order by f.answered_at desc nulls last limit 1),
  coalesce(c.started_at, c.asked_at)
  from tool_calls c join turns t on t.id = c.turn_id join sessions own on own.id = t.session_id
  left join schemas x on x.name = own.schema and t.parent_turn_id is null left join agents e on e.id = x.entry_agent_id
  join turns root on root.id = t.root_turn_id join sessions s on s.id = root.session_id"""
_RECORD = f"""insert or ignore into {_COLUMNS}
  select c.turn_id, c.call_id, t.parent_call_id, s.id, coalesce(e.name, own.agent), c.tool, c.input,
  coalesce(
    substr(cast(coalesce(c.output, 'The turn ended before this call did') as blob), 1, {MOST_OUTPUT}), x''),
  case c.status when 'completed' then 'completed' else 'failed' end,
  cast(round(max(0, coalesce(julianday(coalesce(c.finished_at, new.finished_at)) - julianday(c.started_at), 0))
    * 86400000) as integer),
  {_REST}"""
SQLITE = (
    f"""create temp trigger audit_call after update of finished_at on main.tool_calls begin
    {_RECORD} where c.turn_id = new.turn_id and c.call_id = new.call_id on conflict (turn_id, call_id) do nothing;
    end""",
    f"""create temp trigger audit_turn after update of finished_at on main.turns begin
    {_RECORD} where c.turn_id = new.id on conflict (turn_id, call_id) do nothing;
    end""",
)
_POSTGRES_RECORD = f"""insert into {_COLUMNS}
  select c.turn_id, c.call_id, t.parent_call_id, s.id, coalesce(e.name, own.agent), c.tool, c.input,
  substr(convert_to(coalesce(c.output, 'The turn ended before this call did'), 'UTF8'), 1, {MOST_OUTPUT}),
  case c.status when 'completed' then 'completed' else 'failed' end,
  round(greatest(0, coalesce(julianday(coalesce(c.finished_at, new.finished_at)) - julianday(c.started_at), 0))
    * 86400000)::bigint,
  {_REST}"""


def _postgres(name: str, table: str, condition: str) -> tuple[str, str]:
    return (
        f"""create or replace function {name}() returns trigger language plpgsql as $$
    begin
      {_POSTGRES_RECORD} where {condition} on conflict (turn_id, call_id) do nothing;
      return null;
    end $$""",
        f"""create or replace trigger {name} after update of finished_at on {table}
    for each row execute function {name}()""",
    )


POSTGRES = (
    *_postgres("audit_call", "tool_calls", "c.turn_id = new.turn_id and c.call_id = new.call_id"),
    *_postgres("audit_turn", "turns", "c.turn_id = new.id"),
)
TRIGGERS = {"sqlite": SQLITE, "postgresql": POSTGRES}
