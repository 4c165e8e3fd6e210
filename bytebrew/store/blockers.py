"""How many tasks each task still waits for, kept by triggers, so that workers look only at those that can run."""

KEPT = """
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
"""The SQL of a migration: files have it by its number, so it stays as it is."""
