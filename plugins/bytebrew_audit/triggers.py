"""SQLite's temporary triggers that record a tool call in the transaction in which it ends."""

MOST_OUTPUT = 10 * 1024
"""Limit in bytes of a tool's recorded output."""
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
    and f.kind <> 'client_tool' order by f.answered_at desc limit 1),
  coalesce(c.started_at, c.asked_at)
  from tool_calls c join turns t on t.id = c.turn_id join sessions own on own.id = t.session_id
  left join schemas x on x.name = own.schema and t.parent_turn_id is null left join agents e on e.id = x.entry_agent_id
  join turns root on root.id = t.root_turn_id join sessions s on s.id = root.session_id"""  # noqa: S608
TRIGGERS = (
    f"""create temp trigger audit_call after update of finished_at on main.tool_calls begin
    {_RECORD} where c.turn_id = new.turn_id and c.call_id = new.call_id on conflict (turn_id, call_id) do nothing;
    end""",
    f"""create temp trigger audit_turn after update of finished_at on main.turns begin
    {_RECORD} where c.turn_id = new.id on conflict (turn_id, call_id) do nothing;
    end""",
)
