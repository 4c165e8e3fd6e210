"""Migrations with triggers that maintain totals of lists, tasks' blockers and queue, sums of usage, changed items.

Databases store a digest of each text, so the texts must not change.
"""

from bytebrew.contract.lists import Listing
from bytebrew.store.sqlite.dialect import CAN_RUN, URGENCY

_DOLLAR = 10**10
"""Units per dollar in the kept sums: integers, so that a sum does not depend on the order of its rows."""
_COLUMNS = {"agent": "agent", "model": "model", "schema": "schema", "token": "subject"}
_FIRST = ("calls", "input_tokens", "output_tokens", "cached_tokens", "thinking_tokens", "priced", "cost")
_OF_FIRST = (
    "count(*)",
    *(f"sum({name})" for name in _FIRST[1:5]),
    "count(cost_usd)",
    f"coalesce(sum(cast(round(cost_usd * {_DOLLAR}) as integer)), 0)",
)


def row_counts(listing: Listing) -> str:
    """The tables of a listing's totals, filled, and the triggers that update them."""
    return f"{_count_tables(listing)}{_count_triggers(listing)}"


def _count_tables(listing: Listing) -> str:
    table, kept, kinds, only = listing.table, listing.kept, ", ".join(listing.kinds), listing.only.format("")
    columns = "".join(f"  {kind} text not null,\n" for kind in listing.kinds)
    return f"""
create table {table}_counts (
  unit text not null,
{columns}  rows integer not null,
  primary key (unit, {kinds})
) strict, without rowid;
insert into {table}_counts select {_unit(listing)}, {kinds}, count(*) from {table} where {only}
  group by 1, {kinds};
insert into {table}_counts select '', {kinds}, sum(rows) from {table}_counts group by {kinds};
create table {table}_of (
  {kept} text primary key,
  rows integer not null
) strict, without rowid;
insert into {table}_of select {kept}, count(*) from {table} where {only} group by 1;
"""


def _count_triggers(listing: Listing) -> str:
    table, kept, kinds, first = listing.table, listing.kept, ", ".join(listing.kinds), listing.order[0]
    new, old = listing.only.format("new."), listing.only.format("old.")
    changed = " or ".join(f"new.{name} <> old.{name}" for name in (*listing.kinds, first))
    return f"""create trigger {table}_counts_insert after insert on {table} when {new} begin
  {_add(listing, "new", 1)} end;
create trigger {table}_counts_delete after delete on {table} when {old} begin
  {_add(listing, "old", -1)}
  delete from {table}_counts where unit = {_unit(listing, "old.")} and rows = 0;
  delete from {table}_of where {kept} = old.{kept} and rows = 0; end;
create trigger {table}_counts_leave after update on {table}
  when {old} and not ({new}) begin
  {_add(listing, "old", -1)} end;
create trigger {table}_of_update after update of {kept} on {table}
  when {new} and new.{kept} <> old.{kept} begin
  {_add_kept(listing, "old", -1)} {_add_kept(listing, "new", 1)} end;
create trigger {table}_counts_update after update of {kinds}, {first} on {table}
  when {new} and ({changed}) begin
  {_add_counts(listing, ("old", -1), ("new", 1))} end;
"""


def _unit(listing: Listing, prefix: str = "") -> str:
    column = f"{prefix}{listing.order[0]}"
    return f"substr({column}, 1, 10)" if listing.unit == "day" else f"printf('%012d', {column} / 1024)"


def _add(listing: Listing, row: str, by: int) -> str:
    return f"{_add_counts(listing, (row, by))} {_add_kept(listing, row, by)}"


def _add_counts(listing: Listing, *changes: tuple[str, int]) -> str:
    table, kinds = listing.table, ", ".join(listing.kinds)
    rows = " union all ".join(
        f"select {unit}, {', '.join(f'{row}.{kind}' for kind in listing.kinds)}, {by}"
        for row, by in changes
        for unit in (_unit(listing, f"{row}."), "''")
    )
    return f"""insert into {table}_counts (unit, {kinds}, rows) {rows}
          on conflict (unit, {kinds}) do update set rows = rows + excluded.rows;"""


def _add_kept(listing: Listing, row: str, by: int) -> str:
    return f"""insert into {listing.table}_of values ({row}.{listing.kept}, {by})
          on conflict ({listing.kept}) do update set rows = rows + excluded.rows;"""


TASK_BLOCKERS = """
alter table tasks add column blockers integer not null default 0;
create table task_blockers (
  blocker text not null,
  task text not null,
  primary key (blocker, task)
) strict, without rowid;
create index task_blockers_task on task_blockers (task);
insert into task_blockers select distinct b.value, t.id from tasks t, json_each(t.blocked_by) b
  where t.blocked_by <> '[]';
update tasks set blockers = (select count(*) from task_blockers b left join tasks d on d.id = b.blocker
  where b.task = tasks.id and d.status is not 'completed') where blocked_by <> '[]';
drop index tasks_blocked;
drop index tasks_waiting;
drop index tasks_later;
create index tasks_later on tasks (not_before)
  where status in ('pending', 'approved') and mode = 'background' and not_before is not null;
create index tasks_ready on tasks (agent, julianday(created_at) - priority / 144.0)
  where status in ('pending', 'approved') and mode = 'background' and blockers = 0 and not_before is null;
create trigger tasks_created after insert on tasks when new.blocked_by <> '[]' begin
  insert into task_blockers select distinct value, new.id from json_each(new.blocked_by);
  update tasks set blockers = (select count(*) from task_blockers b left join tasks d on d.id = b.blocker
    where b.task = new.id and d.status is not 'completed') where id = new.id;
end;
create trigger tasks_blocked_by after update of blocked_by on tasks begin
  delete from task_blockers where task = new.id;
  insert into task_blockers select distinct value, new.id from json_each(new.blocked_by);
  update tasks set blockers = (select count(*) from task_blockers b left join tasks d on d.id = b.blocker
    where b.task = new.id and d.status is not 'completed') where id = new.id;
end;
create trigger tasks_status after update of status on tasks
  when (old.status = 'completed') <> (new.status = 'completed') begin
  update tasks set blockers = blockers + iif(new.status = 'completed', -1, 1)
    where id in (select task from task_blockers where blocker = new.id);
end;
create trigger tasks_deleted after delete on tasks begin
  update tasks set blockers = blockers + (old.status = 'completed')
    where id in (select task from task_blockers where blocker = old.id);
  delete from task_blockers where task = old.id;
end;
"""
"""The number of open blockers per task, so that workers look only at tasks that can run."""
_QUEUED = f"""
  insert into task_queue (agent, owner, urgency, rank)
    values (new.agent, new.owner, {URGENCY.format("new")}, {URGENCY.format("new")})
    on conflict do update set urgency = min(coalesce(urgency, excluded.urgency), excluded.urgency),
    rank = max(min(coalesce(urgency, excluded.urgency), excluded.urgency), served);
"""
TASK_QUEUE = f"""
drop index tasks_ready;
create index tasks_ready on tasks (agent, owner, julianday(created_at) - priority / 144.0)
  where status in ('pending', 'approved') and mode = 'background' and blockers = 0 and not_before is null;
create table task_queue (
  agent text not null,
  owner text not null,
  urgency real,
  served real not null default 0,
  turn integer not null default 0,
  rank real,
  primary key (agent, owner)
) strict, without rowid;
create index task_queue_next on task_queue (agent, rank, turn, owner) where rank is not null;
create index task_queue_turn on task_queue (turn);
create index task_queue_empty on task_queue (served) where rank is null;
insert into task_queue (agent, owner, urgency, rank)
  select t.agent, t.owner, min({URGENCY.format("t")}), min({URGENCY.format("t")}) from tasks t
  where {CAN_RUN.format("t")} group by t.agent, t.owner;
create trigger tasks_queued after insert on tasks when new.blocked_by = '[]' and {CAN_RUN.format("new")} begin
{_QUEUED}end;
create trigger tasks_requeued after update of status, mode, blockers, not_before, agent, owner, created_at, priority
  on tasks when {CAN_RUN.format("new")} begin
{_QUEUED}end;
"""
"""The owners with tasks for each agent, in the order in which they take turns.

`urgency` is that of the owner's most urgent task for the agent, or less; `served` is when one of them was taken last,
as a Julian day; `turn` orders rows served within the same millisecond; `rank` is the later of the two times, by which
owners take turns, and null if nothing waits.
"""
_DAY = "substr(new.created_at, 1, 10)"
_EACH = f"""(select 'total' as kind, {_DAY} as day, '' as key union all select 'agent', {_DAY}, new.agent
    union all select 'model', {_DAY}, new.model union all select 'schema', {_DAY}, new.schema
    union all select 'token', {_DAY}, new.subject union all select 'token', '', new.subject)"""
_ALIKE = """(kind = 'total' or (kind = 'agent' and u.agent = key) or (kind = 'model' and u.model = key)
    or (kind = 'schema' and u.schema = key) or (kind = 'token' and u.subject = key))"""
_OTHER = f"from usage u where u.turn_id = new.turn_id and u.id <> new.id and {_ALIKE} and substr(u.created_at, 1, 10)"
_NEIGHBOURS = f"""(select kind, key, day,
    (select max(substr(u.created_at, 1, 10)) {_OTHER} < {_DAY}) as before,
    (select min(substr(u.created_at, 1, 10)) {_OTHER} > {_DAY}) as behind from {_EACH}
    where day > '' and not exists (select 1 {_OTHER} = {_DAY}))"""
_GROUPED = " union all ".join(
    f"""select '{kind}', substr(created_at, 1, 10), {column}, count(distinct turn_id), {", ".join(_OF_FIRST)} from usage
    group by 1, 2, 3"""
    for kind, column in {"total": "''", **_COLUMNS}.items()
)
_GROUPED += (
    f""" union all select 'token', '', subject, count(distinct turn_id), {", ".join(_OF_FIRST)} from usage group by 3"""
)
_SPANNED = " union all ".join(
    f"""select '{kind}', key, day, earlier, count(*) from (select key, day, lag(day) over (partition by turn_id, key
      order by day) as earlier from (select distinct turn_id, {column} as key, substr(created_at, 1, 10) as day
      from usage)) where earlier is not null group by 1, 2, 3, 4"""
    for kind, column in {"total": "''", **_COLUMNS}.items()
)
USAGE_SUMS = f"""
create table usage_days (
  kind text not null,
  day text not null,
  key text not null,
  turns integer not null,
  {", ".join(f"{name} integer not null" for name in _FIRST)},
  primary key (kind, day, key)
) strict, without rowid;
create table usage_spans (
  kind text not null,
  day text not null,
  key text not null,
  earlier text not null,
  turns integer not null,
  primary key (kind, day, key, earlier)
) strict, without rowid;
insert into usage_days {_GROUPED};
insert into usage_spans (kind, key, day, earlier, turns) {_SPANNED};
create trigger usage_kept after insert on usage begin
  insert into usage_days
  select kind, day, key, not exists (select 1 {_OTHER} like day || '%'), 1, new.input_tokens, new.output_tokens,
  new.cached_tokens, new.thinking_tokens, new.cost_usd is not null,
  coalesce(cast(round(new.cost_usd * {_DOLLAR}) as integer), 0) from {_EACH} where true
  on conflict (kind, day, key) do update set turns = turns + excluded.turns,
  {", ".join(f"{name} = {name} + excluded.{name}" for name in _FIRST)};
end;
create trigger usage_spanned after insert on usage
  when exists (select 1 from usage where turn_id = new.turn_id and substr(created_at, 1, 10) <> {_DAY}) begin
  insert into usage_spans (kind, key, day, earlier, turns)
  select kind, key, day, before, 1 from {_NEIGHBOURS} where before is not null
  union all select kind, key, behind, day, 1 from {_NEIGHBOURS} where behind is not null
  union all select kind, key, behind, before, -1 from {_NEIGHBOURS} where before is not null and behind is not null
  on conflict (kind, day, key, earlier) do update set turns = turns + excluded.turns;
end;
"""
"""The SQL of the stored sums, for a migration.

`turns` of usage_days counts the turns with a model call on that day. A turn over midnight would count on both days, so
usage_spans stores how many have a call on a day and their previous one on an earlier day. Subjects, which may be many,
also have a sum of all days, under the day ''.
"""

CACHE_WRITES = f"""
alter table turns add column cache_write_tokens integer not null default 0;
alter table usage add column cache_write_tokens integer not null default 0;
alter table usage_days add column cache_write_tokens integer not null default 0;
drop trigger usage_kept;
create trigger usage_kept after insert on usage begin
  insert into usage_days
  select kind, day, key, not exists (select 1 {_OTHER} like day || '%'), 1, new.input_tokens, new.output_tokens,
  new.cached_tokens, new.thinking_tokens, new.cost_usd is not null,
  coalesce(cast(round(new.cost_usd * {_DOLLAR}) as integer), 0), new.cache_write_tokens from {_EACH} where true
  on conflict (kind, day, key) do update set turns = turns + excluded.turns,
  {", ".join(f"{name} = {name} + excluded.{name}" for name in (*_FIRST, "cache_write_tokens"))};
end;
"""
"""The SQL of the sums of tokens written to a vendor's cache, for a migration."""


def _marks(table: str, section: str, name: str, when: str = "true") -> str:
    """Triggers that mark the item of a changed row; `name` is its name, with `{0}` in place of the row."""
    return "".join(
        f"""create trigger {table}_marked_{event} after {event} on {table} when {condition} begin
  insert into changed_items select '{section}', {name.format(row)} where true on conflict do nothing;
end;
"""
        for event, row, condition in (("insert", "new", "true"), ("update", "new", when), ("delete", "old", "true"))
    )


VERSIONS = f"""
create table versions (
  id integer primary key,
  section text not null,
  name text not null,
  n integer not null,
  moment text not null,
  actor text not null,
  subject text not null,
  action text not null,
  restores integer,
  changed text not null,
  content text not null,
  credentials text not null,
  unique (section, name, n)
) strict;
create index versions_time on versions (moment);
create index versions_subject on versions (subject);
create table changed_items (
  section text not null,
  name text not null,
  primary key (section, name)
) strict, without rowid;
insert into changed_items select 'models', name from models union all select 'agents', name from agents
  union all select 'schemas', name from schemas;
alter table agents add column version integer not null default 0;
alter table turns add column agent_version integer not null default 0;
create trigger versions_of_agents after insert on versions when new.section = 'agents' begin
  update agents set version = new.n where name = new.name;
end;
{_marks("models", "models", "{0}.name")}
{_marks("agents", "agents", "{0}.name", "new.version = old.version")}
{_marks("agent_capabilities", "agents", "coalesce((select name from agents where id = {0}.agent_id), '')")}
{_marks("schemas", "schemas", "{0}.name", "new.chat_last_fired_at is old.chat_last_fired_at")}
{_marks("agent_relations", "schemas", "coalesce((select name from schemas where id = {0}.schema_id), '')")}
"""
"""The versions of items of the configuration, and the items of the core's sections that changed since their newest."""
