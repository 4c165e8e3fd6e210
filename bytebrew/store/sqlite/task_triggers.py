"""Migrations that have triggers keep the number of each task's open blockers, and the queue of tasks that can run.

Files have each text by its number, so it stays as it is.
"""

from bytebrew.store.sqlite.dialect import CAN_RUN, URGENCY

BLOCKERS = """
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
"""How many tasks each task still waits for, so that workers look only at those that can run."""
_QUEUED = f"""
  insert into task_queue (agent, owner, urgency, rank)
    values (new.agent, new.owner, {URGENCY.format("new")}, {URGENCY.format("new")})
    on conflict do update set urgency = min(coalesce(urgency, excluded.urgency), excluded.urgency),
    rank = max(min(coalesce(urgency, excluded.urgency), excluded.urgency), served);
"""
QUEUE = f"""
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

`urgency` is that of the owner's most urgent task for the agent, or less; `served` when one of them was taken last, as a
Julian day; `turn` counts these for what happens within a millisecond; `rank` is the later of the two moments, by which
owners take turns, and null where nothing waits.
"""
