"""Triggers of the core's tables: sessions' status, tasks' blockers and queue, sums of usage, changed items."""

from .sums import summed, trigger

_DOLLAR = 10**10
"""Units per dollar in the kept sums, as on SQLite."""
_SUMS = (
    *("turns", "calls", "input_tokens", "output_tokens", "cached_tokens", "thinking_tokens", "priced", "cost"),
    "cache_write_tokens",
)
_DAY = "substr(new.created_at, 1, 10)"
_EACH = f"""(values ('total', {_DAY}, ''), ('agent', {_DAY}, new.agent), ('model', {_DAY}, new.model),
    ('schema', {_DAY}, new.schema), ('token', {_DAY}, new.subject), ('token', '', new.subject)) each (kind, day, key)"""
_ALIKE = """(kind = 'total' or (kind = 'agent' and u.agent = key) or (kind = 'model' and u.model = key)
      or (kind = 'schema' and u.schema = key) or (kind = 'token' and u.subject = key))"""
_OTHER = f"from usage u where u.turn_id = new.turn_id and u.id <> new.id and {_ALIKE}"
_OTHER_DAY = f"{_OTHER} and substr(u.created_at, 1, 10)"
_KEPT = f"""
  insert into usage_days_rows (kind, day, key, {", ".join(_SUMS)})
  select kind, day, key, (not exists (select 1 {_OTHER} and (day = '' or substr(u.created_at, 1, 10) = day)))::integer,
    1, new.input_tokens, new.output_tokens, new.cached_tokens, new.thinking_tokens,
    (new.cost_usd is not null)::integer, coalesce(round(new.cost_usd * {_DOLLAR})::bigint, 0), new.cache_write_tokens
  from {_EACH};
"""
_SPANNED = f"""
  if not exists (select 1 from usage where turn_id = new.turn_id and substr(created_at, 1, 10) <> {_DAY}) then
    return null;
  end if;
  insert into usage_spans_rows (kind, key, day, earlier, turns)
  with neighbours as (
    select kind, key, day, (select max(substr(u.created_at, 1, 10)) {_OTHER_DAY} < {_DAY}) as earlier,
      (select min(substr(u.created_at, 1, 10)) {_OTHER_DAY} > {_DAY}) as later from {_EACH}
    where day > '' and not exists (select 1 {_OTHER_DAY} = {_DAY}))
  select kind, key, day, earlier, 1 from neighbours where earlier is not null
  union all select kind, key, later, day, 1 from neighbours where later is not null
  union all select kind, key, later, earlier, -1 from neighbours where earlier is not null and later is not null;
"""
USAGE = f"""
{summed("usage_days", ("kind", "day", "key"), _SUMS)}
{summed("usage_spans", ("kind", "day", "key", "earlier"), ("turns",))}
{trigger("usage_kept", "insert", "usage", "true", _KEPT)}
{trigger("usage_spanned", "insert", "usage", "true", _SPANNED)}
"""

_STATUS = """
  update sessions set status = (select case when t.status in ('queued', 'running') then 'active' else t.status end
      from turns t where t.status <> 'absorbed' and t.session_id = new.session_id order by t.seq desc limit 1),
    updated_at = new.created_at
  where id = new.session_id and (status <> 'active' or updated_at <> new.created_at);
"""
_END = """
  update sessions set status = case when exists (
      select 1 from turns t where t.session_id = new.session_id and t.status in ('queued', 'running')
    ) then 'active' else new.status end, updated_at = coalesce(new.finished_at, updated_at)
  where id = new.session_id;
"""
_ENDS = "new.status <> old.status and not (new.status = 'running' and old.status = 'queued')"
TURNS = trigger("turns_begin", "insert", "turns", "true", _STATUS) + trigger(
    "turns_end", "update of status", "turns", _ENDS, _END
)

_COUNT_BLOCKERS = """
  update tasks set blockers = (select count(*) from task_blockers b left join tasks d on d.id = b.blocker
    where b.task = new.id and d.status is distinct from 'completed') where id = new.id;
"""
_ADD_BLOCKERS = f"""
  insert into task_blockers select distinct value, new.id from json_each(new.blocked_by);
{_COUNT_BLOCKERS}"""
_REMOVE_BLOCKERS = "  delete from task_blockers where task = new.id;"
_BLOCKED = "where id in (select task from task_blockers where blocker = {}.id)"
_STATUS_CHANGED = f"""
  update tasks set blockers = blockers + case when new.status = 'completed' then -1 else 1 end {_BLOCKED.format("new")};
"""
_DELETED = f"""
  if old.status = 'completed' then
    update tasks set blockers = blockers + 1 {_BLOCKED.format("old")};
  end if;
  delete from task_blockers where task = old.id;
"""
_CAN_RUN = """new.status in ('pending', 'approved') and new.mode = 'background' and new.blockers = 0
  and new.not_before is null"""
_QUEUED = """
  insert into task_queue as q (agent, owner, urgency, rank)
    values (new.agent, new.owner, julianday(new.created_at) - new.priority / 144.0,
      julianday(new.created_at) - new.priority / 144.0)
    on conflict (agent, owner) do update set urgency = least(q.urgency, excluded.urgency),
      rank = greatest(least(q.urgency, excluded.urgency), q.served);
"""
_REQUEUING = "update of status, mode, blockers, not_before, agent, owner, created_at, priority"
TASKS = "".join(
    (
        trigger("tasks_created", "insert", "tasks", "new.blocked_by <> '[]'", _ADD_BLOCKERS),
        trigger("tasks_blocked_by", "update of blocked_by", "tasks", "true", f"{_REMOVE_BLOCKERS}{_ADD_BLOCKERS}"),
        trigger(
            "tasks_status",
            "update of status",
            "tasks",
            "(old.status = 'completed') <> (new.status = 'completed')",
            _STATUS_CHANGED,
        ),
        trigger("tasks_deleted", "delete", "tasks", "true", _DELETED),
        trigger("tasks_queued", "insert", "tasks", f"new.blocked_by = '[]' and {_CAN_RUN}", _QUEUED),
        trigger("tasks_requeued", _REQUEUING, "tasks", _CAN_RUN, _QUEUED),
    )
)


def _marks(table: str, section: str, name: str, when: str = "true") -> str:
    """Triggers that mark the item of a changed row; `name` is its name, with `{0}` in place of the row."""
    return "".join(
        trigger(
            f"{table}_marked_{event}",
            event,
            table,
            condition,
            f"  insert into changed_items select '{section}', {name.format(row)} on conflict do nothing;",
        )
        for event, row, condition in (("insert", "new", "true"), ("update", "new", when), ("delete", "old", "true"))
    )


_NUMBER = "  update agents set version = new.n where name = new.name;"
VERSIONS = "".join(
    (
        trigger("versions_of_agents", "insert", "versions", "new.section = 'agents'", _NUMBER),
        _marks("models", "models", "{0}.name"),
        _marks("agents", "agents", "{0}.name", "new.version = old.version"),
        _marks("agent_capabilities", "agents", "coalesce((select name from agents where id = {0}.agent_id), '')"),
        _marks("schemas", "schemas", "{0}.name", "new.chat_last_fired_at is not distinct from old.chat_last_fired_at"),
        _marks("agent_relations", "schemas", "coalesce((select name from schemas where id = {0}.schema_id), '')"),
    )
)
