"""Numbered SQL for the core's tables, forward only."""

from bytebrew.listing import SESSIONS, TASKS, kept_counts
from bytebrew.store import blockers, models, usage

_CONFIG = """
create table models (
  id integer primary key autoincrement,
  name text not null unique,
  type text not null,
  model_name text not null,
  base_url text not null,
  api_version text not null,
  kind text not null,
  embedding_dim integer,
  pricing_input real,
  pricing_output real,
  fallback text not null,
  sealed_key blob not null,
  is_default integer not null,
  created_at text not null,
  updated_at text not null
) strict;
create unique index models_default on models (is_default) where is_default = 1;

create table agents (
  id text primary key,
  name text not null unique,
  description text not null,
  model text,
  system text not null,
  lifecycle text not null,
  tool_execution text not null,
  max_steps integer not null,
  max_context_size integer not null,
  max_turn_duration integer not null,
  temperature real,
  top_p real,
  max_tokens integer,
  stop_sequences text not null,
  tools text not null,
  confirm_before text not null,
  can_spawn text not null,
  mcp_servers text not null,
  created_at text not null,
  updated_at text not null
) strict, without rowid;
create index agents_model on agents (model);

create table agent_capabilities (
  id text primary key,
  agent_id text not null references agents (id) on delete cascade,
  type text not null,
  config text not null,
  enabled integer not null,
  unique (agent_id, type)
) strict, without rowid;

create table schemas (
  id text primary key,
  name text not null unique,
  description text not null,
  entry_agent_id text not null references agents (id),
  chat_enabled integer not null,
  chat_last_fired_at text,
  created_at text not null,
  updated_at text not null
) strict, without rowid;
create index schemas_entry_agent on schemas (entry_agent_id);

create table agent_relations (
  id text primary key,
  schema_id text not null references schemas (id) on delete cascade,
  source_id text not null references agents (id),
  target_id text not null references agents (id),
  config text not null,
  unique (schema_id, source_id, target_id)
) strict, without rowid;
create index agent_relations_source on agent_relations (source_id);
create index agent_relations_target on agent_relations (target_id);

create table tokens (
  id text primary key,
  name text not null,
  hash text not null unique,
  scopes text not null,
  schemas text,
  created_at text not null,
  expires_at text,
  last_used_at text,
  revoked_at text
) strict, without rowid;
create unique index tokens_name on tokens (name) where revoked_at is null;

create table settings (
  key text primary key,
  value text not null,
  updated_at text not null
) strict, without rowid;
"""

_SESSIONS = """
create table sessions (
  id text primary key,
  schema text not null,
  agent text not null,
  owner text not null,
  user_sub text not null,
  title text not null,
  parent_id text references sessions (id) on delete cascade,
  created_at text not null,
  updated_at text not null
) strict, without rowid;
create index sessions_recent on sessions (created_at, id) where parent_id is null;
create index sessions_owner on sessions (owner, created_at, id) where parent_id is null;
create index sessions_agent on sessions (agent, created_at, id) where parent_id is null;
create index sessions_parent on sessions (parent_id, agent) where parent_id is not null;

create table turns (
  seq integer primary key autoincrement,
  id text not null unique,
  session_id text not null references sessions (id) on delete cascade,
  message text not null,
  attachments text not null,
  own_key integer not null,
  subagents integer not null,
  time_limit real,
  parent_turn_id text,
  parent_call_id text,
  root_turn_id text not null,
  lineage text not null,
  resumes integer not null default 0,
  status text not null,
  failure integer,
  first_event integer,
  last_event integer,
  packed integer not null default 0,
  input_tokens integer not null default 0,
  output_tokens integer not null default 0,
  cached_tokens integer not null default 0,
  thinking_tokens integer not null default 0,
  cost_usd real,
  created_at text not null,
  started_at text,
  finished_at text
) strict;
create index turns_session on turns (session_id, seq);
create index turns_unpacked on turns (finished_at) where packed = 0 and finished_at is not null;
create index turns_open on turns (seq) where status in ('queued', 'running');
create unique index turns_parent on turns (parent_turn_id, parent_call_id) where parent_turn_id is not null;
create index turns_root on turns (root_turn_id) where parent_turn_id is not null;

create table idempotency (
  subject text not null,
  method text not null,
  path text not null,
  key text not null,
  digest blob not null,
  turn_id text,
  status integer not null,
  body blob not null,
  created_at text not null,
  primary key (subject, method, path, key)
) strict, without rowid;
create index idempotency_age on idempotency (created_at);

create table messages (
  session_id text not null references sessions (id) on delete cascade,
  n integer not null,
  turn_id text not null,
  body text not null,
  tokens integer not null,
  created_at text not null,
  primary key (session_id, n)
) strict, without rowid;

create table usage (
  id integer primary key,
  turn_id text not null,
  schema text not null,
  agent text not null,
  model text not null,
  subject text not null,
  input_tokens integer not null,
  output_tokens integer not null,
  cached_tokens integer not null,
  thinking_tokens integer not null,
  cost_usd real,
  created_at text not null
) strict;
create index usage_time on usage (created_at);

create table summaries (
  session_id text primary key references sessions (id) on delete cascade,
  through_n integer not null,
  content text not null,
  created_at text not null
) strict, without rowid;

create table tool_calls (
  turn_id text not null references turns (id) on delete cascade,
  call_id text not null,
  tool text not null,
  input text not null,
  output text,
  status text not null,
  asked_at text not null,
  started_at text,
  finished_at text,
  primary key (turn_id, call_id)
) strict, without rowid;

create table confirmations (
  id text primary key,
  session_id text not null references sessions (id) on delete cascade,
  turn_id text not null references turns (id) on delete cascade,
  call_id text not null,
  kind text not null,
  agent text not null,
  tool text not null,
  input text not null,
  args_digest text not null,
  status text not null,
  verdict text,
  edited text,
  reason text not null default '',
  answered_by text,
  answered_at text,
  created_at text not null,
  expires_at text,
  unique (turn_id, call_id, kind)
) strict, without rowid;
create index confirmations_pending on confirmations (created_at, id) where status = 'pending';
create index confirmations_session on confirmations (session_id, created_at);

create table results (
  turn_id text not null references turns (id) on delete cascade,
  call_id text not null,
  session_id text not null,
  output text not null,
  primary key (turn_id, call_id)
) strict, without rowid;
create index results_session on results (session_id, call_id);

create table events (
  session_id text not null references sessions (id) on delete cascade,
  n integer not null,
  type text not null,
  data blob not null,
  primary key (session_id, n)
) strict, without rowid;
"""

_TASKS = """
create table tasks (
  seq integer primary key autoincrement,
  id text not null unique,
  owner text not null,
  title text not null,
  description text not null,
  agent text not null,
  schema text not null,
  status text not null,
  source text not null,
  mode text not null,
  priority integer not null,
  acceptance_criteria text not null,
  blocked_by text not null,
  parent_task_id text references tasks (id) on delete cascade,
  session_id text not null,
  made_in text,
  turn_id text,
  result text,
  error text,
  attempts integer not null default 0,
  not_before text,
  created_at text not null,
  approved_at text,
  started_at text,
  completed_at text
) strict;
create index tasks_owner on tasks (owner, seq);
create index tasks_parent on tasks (parent_task_id, seq) where parent_task_id is not null;
create index tasks_session on tasks (session_id, seq);
create index tasks_made_in on tasks (made_in, seq) where made_in is not null;
create index tasks_waiting on tasks (julianday(created_at) - priority / 144.0)
  where status in ('pending', 'approved') and mode = 'background';
create index tasks_running on tasks (agent) where status = 'in_progress' and turn_id is not null;
"""

_INDEXES = """
create index tasks_open on tasks (status, seq) where status in ('draft', 'pending', 'approved', 'in_progress');
create index tasks_later on tasks (not_before) where status in ('pending', 'approved') and mode = 'background';
create index confirmations_status on confirmations (status, created_at, id);
create index tasks_ended on tasks (completed_at) where completed_at is not null;
create index tasks_blocked on tasks (blocked_by) where completed_at is null and blocked_by <> '[]';
"""

_SUMS = """
create index usage_turn on usage (turn_id);
create index idempotency_turn on idempotency (turn_id) where turn_id is not null;
"""

_HISTORY = """
create table history (
  one integer primary key check (one = 1),
  epoch integer not null,
  clean integer not null
) strict;
insert into history values (1, 1, 1);
"""

_REMOVALS = """
create table removals (
  n integer primary key,
  session_id text not null unique references sessions (id) on delete cascade
) strict;
create index sessions_idle on sessions (updated_at, id) where parent_id is null;
"""

_LAST_STATUS = """(select case when t.status in ('queued', 'running') then 'active' else t.status end
    from turns t where t.session_id = {} order by t.seq desc limit 1)"""
# with `parent_id` in them, indexes alone answer for the condition that it is null
_LISTS = f"""
alter table sessions add column status text not null default 'completed';
update sessions set status = {_LAST_STATUS.format("sessions.id")}
  where {_LAST_STATUS.format("sessions.id")} <> 'completed';
create trigger turns_begin after insert on turns begin
  update sessions set status = {_LAST_STATUS.format("new.session_id")}, updated_at = new.created_at
  where id = new.session_id and (status <> 'active' or updated_at <> new.created_at);
end;
create trigger turns_end after update of status on turns
  when new.status <> old.status and not (new.status = 'running' and old.status = 'queued') begin
  update sessions set status = {_LAST_STATUS.format("new.session_id")},
  updated_at = coalesce(new.finished_at, updated_at) where id = new.session_id;
end;
drop index sessions_agent;
drop index sessions_recent;
drop index sessions_owner;
create index sessions_recent on sessions (created_at, id, parent_id) where parent_id is null;
create index sessions_owner on sessions (owner, created_at, id, parent_id) where parent_id is null;
create index sessions_user on sessions (user_sub, created_at, id, parent_id) where parent_id is null;
create index sessions_kinds on sessions (agent, schema, status, created_at, id, owner, user_sub, parent_id)
  where parent_id is null;
create index tasks_kinds on tasks (agent, status, source, seq, owner);
{kept_counts(SESSIONS)}
{kept_counts(TASKS)}
{usage.KEPT}
"""  # noqa: S608

_QUESTIONS = """
alter table confirmations add column seq integer not null default 0;
update confirmations set seq = o.n from (
  select id, row_number() over (order by created_at, id) as n from confirmations) o where o.id = confirmations.id;
drop index confirmations_pending;
drop index confirmations_session;
drop index confirmations_status;
create index confirmations_seq on confirmations (seq);
create index confirmations_session on confirmations (session_id, seq);
create index confirmations_status on confirmations (status, seq);
"""

# every index of sessions is a page more that each turn writes: these are no longer needed, or by few
_FEWER_PAGES = """
drop index sessions_idle;
drop index sessions_user;
create index sessions_user on sessions (user_sub, created_at, id, parent_id) where parent_id is null and user_sub <> '';
"""

_APPROVED = """
alter table confirmations add column source text not null default '';
alter table tasks add column approved_digest text;
alter table tasks add column revised integer not null default 0;
"""

_RISKS = "alter table confirmations add column risk text not null default 'caution';"

CORE = tuple(
    enumerate(
        (
            _CONFIG,
            _SESSIONS,
            _TASKS,
            _INDEXES,
            _SUMS,
            _HISTORY,
            blockers.KEPT,
            _REMOVALS,
            _LISTS,
            _QUESTIONS,
            _FEWER_PAGES,
            _APPROVED,
            _RISKS,
            models.WINDOWS,
            usage.CACHE_WRITES,
        ),
        1,
    )
)
