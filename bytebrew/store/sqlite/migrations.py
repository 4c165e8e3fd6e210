"""Numbered SQL for the core's tables, forward only."""

from bytebrew.contract.storage.migration import Migration
from bytebrew.contract.storage.store import Driver
from bytebrew.store import replays
from bytebrew.store.people import forgettings
from bytebrew.store.sessions import SESSIONS
from bytebrew.store.sqlite import first_tables, triggers
from bytebrew.store.tasks import TASKS

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
# with `parent_id` they are covering indexes for lists, which select `parent_id is null`
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
{triggers.row_counts(SESSIONS)}
{triggers.row_counts(TASKS)}
{triggers.USAGE_SUMS}
"""

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

# each turn writes one more page per index of sessions; these are not or rarely needed
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

# context windows reported by vendors
_WINDOWS = "alter table models add column context_window integer;"

# attachments of running and ended turns are stored with their messages
_ONCE = """
alter table turns add column size integer not null default 0;
update turns set attachments = '[]' where attachments <> '[]' and status <> 'queued';
"""

# what a trace of a turn needs: when its model calls were made, and the caller's own trace
_CALLS = """
alter table usage add column provider text not null default '';
alter table usage add column model_name text not null default '';
alter table usage add column started_at real not null default 0;
alter table usage add column finished_at real not null default 0;
alter table usage add column stop text not null default '';
alter table usage add column purpose text not null default 'step';
alter table turns add column traceparent text;
"""

_CALLED_AT = """
alter table usage rename column {0} to {0}_text;
alter table usage add column {0} real not null default 0;
update usage set {0} = (julianday({0}_text) - 2440587.5) * 86400.0 where {0}_text <> '';
alter table usage drop column {0}_text;
"""
REVISED = {
    ("core", 19, "cc659440bcba08a6556b21da62e01b7bc51f53c552b957c9d4e4388de7189b01"): (
        _CALLED_AT.format("started_at") + _CALLED_AT.format("finished_at")
    )
}
"""SQL that brings tables of a migration's earlier text to its present one, by owner, number and digest of that text.

Core 19 had the times of model calls as texts at first.
"""

_CLIENTS = """
alter table schemas add column client_tools integer not null default 0;
alter table schemas add column view text not null default 'full';
alter table tokens add column view text not null default 'full';
update tokens set view = 'public' where scopes = 'public';
alter table turns add column client_tools text;
alter table confirmations add column result text;
"""

# a message that steers a turn is queued until that turn absorbs it; a session's status is not that of absorbed ones
_TURN_STATUS = _LAST_STATUS.replace("where", "where t.status <> 'absorbed' and")
_STEER = f"""
alter table turns add column steers text;
alter table turns add column steer_event integer;
create index turns_steers on turns (steers) where steers is not null;
drop trigger turns_begin;
drop trigger turns_end;
create trigger turns_begin after insert on turns begin
  update sessions set status = {_TURN_STATUS.format("new.session_id")}, updated_at = new.created_at
  where id = new.session_id and (status <> 'active' or updated_at <> new.created_at);
end;
create trigger turns_end after update of status on turns
  when new.status <> old.status and not (new.status = 'running' and old.status = 'queued') begin
  update sessions set status = {_TURN_STATUS.format("new.session_id")},
  updated_at = coalesce(new.finished_at, updated_at) where id = new.session_id;
end;
"""

# turns may end in another order than their messages came in: a session is active while any is open
_ACTIVE = """
drop index turns_open;
create index turns_open on turns (session_id) where status in ('queued', 'running');
drop trigger turns_end;
create trigger turns_end after update of status on turns
  when new.status <> old.status and not (new.status = 'running' and old.status = 'queued') begin
  update sessions set status = case when exists (
    select 1 from turns t where t.session_id = new.session_id and t.status in ('queued', 'running')
  ) then 'active' else new.status end, updated_at = coalesce(new.finished_at, updated_at) where id = new.session_id;
end;
"""

# what faces keep with a turn, and by what they find it
_FACES = """
alter table turns add column instructions text;
alter table turns add column face_key text;
alter table turns add column kept text;
create index turns_face on turns (face_key, seq) where face_key is not null;
"""

# a turn without one of its own has its agent's, a turn that switched that off has one of type text
_FORMATS = """
alter table agents add column response_format text;
alter table turns add column response_format text;
"""

_SUMMARIES = """
alter table agents add column summary_keep integer not null default 0;
alter table agents add column summary_model text;
create index agents_summary_model on agents (summary_model) where summary_model is not null;
"""

# the beginning of a fork's history, which other sessions hold; a deleted one is held while a fork refers to it
_FORKS = """
alter table sessions add column forked_from text;
alter table sessions add column forked_after integer not null default 0;
alter table sessions add column forked_messages integer not null default 0;
create index sessions_forks on sessions (forked_from, created_at, id) where forked_from is not null;
create table shared_history (
  session_id text not null references sessions (id) on delete cascade,
  holder text not null references sessions (id),
  first_event integer not null,
  last_event integer not null,
  first_message integer not null,
  last_message integer not null,
  primary key (session_id, last_event)
) strict, without rowid;
create index shared_history_holder on shared_history (holder);
alter table removals add column held integer not null default 0;
create index removals_left on removals (n) where held = 0;
"""

_CALLBACKS = """
alter table tasks add column callback_url text not null default '';
"""

# who is to be forgotten, and whose answers are to be masked
_FORGETTINGS = f"""
{forgettings.TABLE}
create index confirmations_answered on confirmations (answered_by) where answered_by is not null;
"""

# how approvals reach clients whose protocol has no place for them
_APPROVALS = """
alter table schemas add column approvals text not null default 'text';
"""

# the fields that a person's edits of arguments are checked against
_ARGUMENTS = "alter table confirmations add column input_schema text;"

# when each event happened and when each model began to answer; why turns failed, of those whose error is not packed
_TIMES = """
alter table events add column at integer;
alter table usage add column first_token_at real not null default 0;
alter table turns add column code text not null default '';
update turns set code = coalesce((select json_extract(cast(e.data as text), '$.code') from events e
  where e.session_id = turns.session_id and e.n = turns.last_event and e.type = 'error'), '') where status = 'failed';
create index turns_code on turns (code, session_id) where code <> '';
"""

# what the last verification of a model said, as JSON
_VERIFIED = """
alter table models add column last_verified text;
"""

# the questions of servers, of which a call may have many, and what it needs to go on from them after a restart
_ELICITATIONS = """
create table new_confirmations (
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
  seq integer not null default 0,
  source text not null default '',
  risk text not null default 'caution',
  result text,
  input_schema text,
  resume_state text
) strict, without rowid;
insert into new_confirmations (
  id, session_id, turn_id, call_id, kind, agent, tool, input, args_digest, status, verdict, edited, reason,
  answered_by, answered_at, created_at, expires_at, seq, source, risk, result, input_schema)
  select id, session_id, turn_id, call_id, kind, agent, tool, input, args_digest, status, verdict, edited, reason,
  answered_by, answered_at, created_at, expires_at, seq, source, risk, result, input_schema
  from confirmations;
drop table confirmations;
alter table new_confirmations rename to confirmations;
create index confirmations_seq on confirmations (seq);
create index confirmations_session on confirmations (session_id, seq);
create index confirmations_status on confirmations (status, seq);
create index confirmations_answered on confirmations (answered_by) where answered_by is not null;
create index confirmations_call on confirmations (turn_id, call_id, kind);
"""

# who sent the message of an open turn, where that is not the owner of the session
_SENDERS = "alter table turns add column subject text not null default '';"

# the engines that share a database, what each has committed, who runs what, what is asked of who runs a session, which
# names a node has locked, and how often each section of the configuration has changed
_NODES = """
create table nodes (
  id integer primary key autoincrement,
  name text not null,
  version text not null,
  key_code text not null,
  started_at text not null,
  seen real not null
) strict;
create table node_commits (
  node integer primary key,
  n integer not null
) strict;
create table session_requests (
  n integer primary key autoincrement,
  session_id text not null,
  turn_id text not null,
  kind text not null,
  created_at text not null
) strict;
create index session_requests_session on session_requests (session_id);
create table node_locks (
  name text primary key,
  node integer not null
) strict, without rowid;
create table section_changes (
  section text primary key,
  n integer not null
) strict, without rowid;
alter table turns add column node integer;
alter table tasks add column node integer;
create index turns_node on turns (node) where status in ('queued', 'running');
create index tasks_node on tasks (node) where node is not null;
"""

# the request's headers for tools, sealed, of a message that waits for another node to begin its turn
_HEADERS = "alter table turns add column headers blob;"
_DELTAS = "-- rows of events with the type deltas, and packed ones by columns: engines from before cannot read them"
# the page lists sessions by what happened last
_LATEST = "create index sessions_updated on sessions (updated_at, id, parent_id) where parent_id is null;"

CORE = tuple(
    enumerate(
        (
            first_tables.CONFIG,
            first_tables.SESSIONS,
            first_tables.TASKS,
            _INDEXES,
            _SUMS,
            _HISTORY,
            triggers.TASK_BLOCKERS,
            _REMOVALS,
            _LISTS,
            _QUESTIONS,
            _FEWER_PAGES,
            _APPROVED,
            _RISKS,
            _WINDOWS,
            triggers.CACHE_WRITES,
            _ONCE,
            triggers.TASK_QUEUE,
            triggers.VERSIONS,
            _CALLS,
            _CLIENTS,
            _STEER,
            _FORMATS,
            _SUMMARIES,
            _FORKS,
            _CALLBACKS,
            _FORGETTINGS,
            replays.TABLES,
            _ACTIVE,
            _FACES,
            _APPROVALS,
            _ARGUMENTS,
            _TIMES,
            _VERIFIED,
            _ELICITATIONS,
            _SENDERS,
            _NODES,
            _HEADERS,
            _DELTAS,
            _LATEST,
        ),
        1,
    )
)


def add(owners: dict[str, list[tuple[int, str]]], driver: Driver, owner: str, migration: Migration) -> None:
    """Adds a plugin's migration to those of all owners."""
    owners.setdefault(owner, []).append((migration.number, driver.text(migration)))


def text(migration: Migration) -> str:
    """The SQL of a migration, with that of the listings in it."""
    parts = [migration.sql] if isinstance(migration.sql, str) else migration.sql
    return "".join(part if isinstance(part, str) else triggers.row_counts(part) for part in parts)
