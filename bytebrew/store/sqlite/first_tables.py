"""The first migrations of the core's tables; the later ones are in `migrations`."""

AGENT_LISTS = ("mcp_servers",)
"""Lists that plugins declare now and whose columns, without a default, the table of agents has from the beginning."""

CONFIG = """
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

SESSIONS = """
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

TASKS = """
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
