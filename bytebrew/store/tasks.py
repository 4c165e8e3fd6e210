"""Tasks: work that an agent does without anybody waiting for it."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bytebrew.auth import Actor
from bytebrew.config import NewTask
from bytebrew.db import struct_of
from bytebrew.errors import Conflict, Detail, InvalidRequest, NotFound, Unprocessable
from bytebrew.notation import new_id, new_uuid, now

Status = Literal["draft", "approved", "pending", "in_progress", "needs_input", "completed", "failed", "cancelled"]
Source = Literal["api", "agent", "dashboard", "schedule", "webhook"]
Priority = Literal[0, 1, 2]
ENDED = frozenset({"completed", "failed", "cancelled"})
_NEXT: dict[str, frozenset[str]] = {
    "draft": frozenset({"approved", "cancelled"}),
    "approved": frozenset({"in_progress", "cancelled"}),
    "pending": frozenset({"in_progress", "cancelled"}),
    "in_progress": frozenset({"completed", "failed", "cancelled"}),
    "needs_input": frozenset({"in_progress", "failed", "cancelled"}),
}
MAX_NESTING = 10
AGEING = 600
"""Seconds of waiting that count as much as one step of priority."""


class Task(Struct, frozen=True, kw_only=True):
    """A task; `result` and `error` say how it ended, `session_id` is where it is worked on.

    It needs input while a question of its session waits for a person. `agent_name` is another name of `agent`.
    """

    id: str
    title: str
    description: str
    agent: str
    agent_name: str
    schema: str
    status: Status
    source: Source
    mode: Literal["background", "interactive"]
    priority: Priority
    acceptance_criteria: tuple[str, ...]
    blocked_by: tuple[str, ...]
    parent_task_id: str | None
    session_id: str
    result: str | None
    error: str | None
    attempts: int
    created_at: str
    approved_at: str | None
    started_at: str | None
    completed_at: str | None


class Claim(Struct, frozen=True, kw_only=True):
    """A task with what it takes to run it; `turn_id` is the turn of its present attempt."""

    task: Task
    turn_id: str
    owner: str


_STATUS = """case when t.status = 'in_progress' and exists (select 1 from confirmations c
  where c.session_id = t.session_id and c.status = 'pending') then 'needs_input' else t.status end"""
_FIELDS = f"""t.id, t.title, t.description, t.agent, t.agent as agent_name, t.schema, {_STATUS} as status, t.source,
  t.mode, t.priority, t.acceptance_criteria, t.blocked_by, t.parent_task_id, t.session_id, t.result, t.error,
  t.attempts, t.created_at, t.approved_at, t.started_at, t.completed_at"""
_SELECT = f"select {_FIELDS} from tasks t"


def create(
    conn: sqlite3.Connection, new: NewTask, owner: str, source: Source, *, session_id: str | None = None
) -> Task:
    """The task, now stored; Unprocessable where what it names does not exist."""
    if new.agent and not conn.execute("select 1 from agents where name = ?", (new.agent,)).fetchone():
        raise Unprocessable(f"There is no agent '{new.agent}'", details=[Detail("$.agent", "no such agent")])
    if new.schema and not conn.execute("select 1 from schemas where name = ?", (new.schema,)).fetchone():
        raise Unprocessable(f"There is no schema '{new.schema}'", details=[Detail("$.schema", "no such schema")])
    for n, blocker in enumerate(new.blocked_by):
        _check_owned(conn, blocker, owner, f"$.blocked_by[{n}]")
    depth, above = 0, new.parent_task_id
    while above is not None:
        _check_owned(conn, above, owner, "$.parent_task_id")
        depth += 1
        if depth > MAX_NESTING:
            details = [Detail("$.parent_task_id", "is nested too deep")]
            raise InvalidRequest(f"Tasks are nested {MAX_NESTING} deep at most", details=details)
        above = conn.execute("select parent_task_id from tasks where id = ?", (above,)).fetchone()[0]
    values: dict[str, Any] = {
        "id": new_id("task"),
        "owner": owner,
        "title": new.title,
        "description": new.description,
        "agent": new.agent,
        "schema": new.schema,
        "status": "draft" if new.require_approval else "pending",
        "source": source,
        "mode": new.mode,
        "priority": new.priority,
        "acceptance_criteria": msgspec.json.encode(new.acceptance_criteria).decode(),
        "blocked_by": msgspec.json.encode(new.blocked_by).decode(),
        "parent_task_id": new.parent_task_id,
        "session_id": session_id or new_uuid(),
        "created_at": now(),
    }
    conn.execute(
        f"insert into tasks ({', '.join(values)}) values ({', '.join('?' * len(values))})", tuple(values.values())
    )
    return get(conn, values["id"])


def _check_owned(conn: sqlite3.Connection, task_id: str, owner: str, path: str) -> None:
    if not conn.execute("select 1 from tasks where id = ? and owner = ?", (task_id, owner)).fetchone():
        raise Unprocessable(f"There is no task '{task_id[:255]}'", details=[Detail(path, "no such task")])


def get(conn: sqlite3.Connection, task_id: str, actor: Actor | None = None) -> Task:
    """A task that the actor may see; NotFound otherwise."""
    row = conn.execute(f"select t.owner, {_FIELDS} from tasks t where t.id = ?", (task_id,)).fetchone()
    if row is None or (actor is not None and row["owner"] != actor.subject and not actor.is_admin):
        raise NotFound(f"There is no task '{task_id[:255]}'")
    return struct_of(row, Task)


class Filter(Struct, frozen=True, kw_only=True):
    """Which tasks to list; an empty field does not narrow."""

    status: str = ""
    agent: str = ""
    source: str = ""
    session_id: str = ""
    parent_task_id: str = ""


def page(conn: sqlite3.Connection, actor: Actor, wanted: Filter, offset: int, limit: int) -> tuple[list[Task], int]:
    """Tasks that the actor may see, newest first, and how many there are."""
    parts, values = ["1"], {}
    if not actor.is_admin:
        parts.append("t.owner = :owner")
        values["owner"] = actor.subject
    for name in ("agent", "source", "session_id", "parent_task_id"):
        if value := getattr(wanted, name):
            parts.append(f"t.{name} = :{name}")
            values[name] = value
    if wanted.status:
        parts.append(f"{_STATUS} = :status")
        values["status"] = wanted.status
    where = " and ".join(parts)
    total = conn.execute(f"select count(*) from tasks t where {where}", values).fetchone()[0]
    rows = conn.execute(
        f"{_SELECT} where {where} order by t.seq desc limit :limit offset :offset",
        {**values, "limit": limit, "offset": offset},
    )
    return [struct_of(row, Task) for row in rows], total


def subtasks(conn: sqlite3.Connection, task_id: str) -> list[Task]:
    """The tasks right below one, oldest first."""
    rows = conn.execute(f"{_SELECT} where t.parent_task_id = ? order by t.seq", (task_id,))
    return [struct_of(row, Task) for row in rows]


def claim(conn: sqlite3.Connection, per_agent: int) -> Claim | None:
    """Takes the most urgent task that can run, with an attempt that has not begun; `per_agent` 0 is no limit."""
    moment = now()
    row = conn.execute(
        f"""select t.id from tasks t where t.status in ('pending', 'approved') and t.mode = 'background'
        and t.agent <> '' and (t.not_before is null or t.not_before <= ?1)
        and not exists (select 1 from json_each(t.blocked_by) b left join tasks d on d.id = b.value
          where d.status is not 'completed')
        and (?2 = 0 or (select count(*) from tasks r where r.status = 'in_progress' and r.agent = t.agent) < ?2)
        order by t.priority + (julianday(?1) - julianday(t.created_at)) * 86400 / {AGEING} desc, t.seq limit 1""",
        (moment, per_agent),
    ).fetchone()
    if row is None:
        return None
    conn.execute(
        """update tasks set status = 'in_progress', turn_id = ?, attempts = attempts + 1,
        started_at = coalesce(started_at, ?) where id = ?""",
        (new_id("turn"), moment, row["id"]),
    )
    return _claim(conn, row["id"])


def _claim(conn: sqlite3.Connection, task_id: str) -> Claim:
    row = conn.execute("select turn_id, owner from tasks where id = ?", (task_id,)).fetchone()
    return Claim(task=get(conn, task_id), turn_id=row["turn_id"], owner=row["owner"])


def left_open(conn: sqlite3.Connection) -> list[Claim]:
    """The tasks that were being worked on when the engine stopped; one whose turn never began waits again."""
    conn.execute(
        """update tasks set status = 'pending', attempts = attempts - 1 where status = 'in_progress'
        and mode = 'background' and turn_id not in (select id from turns)"""
    )
    rows = conn.execute(
        "select id from tasks where status = 'in_progress' and mode = 'background' and turn_id is not null order by seq"
    ).fetchall()
    return [_claim(conn, row["id"]) for row in rows]


def next_moment(conn: sqlite3.Connection) -> str | None:
    """When the first task that waits for its next attempt may run."""
    row = conn.execute(
        "select min(not_before) from tasks where status in ('pending', 'approved') and not_before is not null"
    ).fetchone()
    moment: str | None = row[0]
    return moment


def settle(conn: sqlite3.Connection, task_id: str, turn_id: str, status: str, words: str, retry_at: str | None) -> None:
    """Ends the attempt of a task, unless it has ended otherwise; with `retry_at` it waits for the next one."""
    if retry_at is not None:
        conn.execute(
            """update tasks set status = 'pending', error = ?, not_before = ? where id = ? and turn_id = ?
            and status = 'in_progress'""",
            (words, retry_at, task_id, turn_id),
        )
        return
    column = "result" if status == "completed" else "error"
    conn.execute(
        f"""update tasks set status = ?, {column} = ?, completed_at = ? where id = ? and turn_id = ?
        and status = 'in_progress'""",
        (status, words, now(), task_id, turn_id),
    )


def move(
    conn: sqlite3.Connection, task_id: str, actor: Actor, status: Status, *, words: str | None = None
) -> tuple[Task, str]:
    """The task in another status, and the one that it had; Conflict where there is no such step."""
    task = get(conn, task_id, actor)
    if status not in _NEXT.get(task.status, frozenset()):
        raise Conflict(f"A task that is {task.status} cannot become {status}", code="bad_transition")
    moment = now()
    column = "result" if status == "completed" else "error"
    conn.execute(
        f"""update tasks set status = ?1, {column} = coalesce(?2, {column}),
        approved_at = iif(?1 = 'approved', ?3, approved_at), started_at = iif(?1 = 'in_progress', ?3, started_at),
        completed_at = iif(?1 in ('completed', 'failed', 'cancelled'), ?3, completed_at) where id = ?4""",
        (status, words, moment, task_id),
    )
    return get(conn, task_id), task.status


def cancel(conn: sqlite3.Connection, task_id: str, actor: Actor, reason: str) -> list[Task]:
    """Cancels a task and all below it that have not ended; those that were being worked on."""
    task = get(conn, task_id, actor)
    if task.status in ENDED and task.status != "cancelled":
        raise Conflict(f"The task has {task.status} and cannot be cancelled", code="bad_transition")
    rows = conn.execute(
        f"""with recursive below (id) as (select ?1 union select t.id from tasks t
          join below on t.parent_task_id = below.id)
        {_SELECT} where t.id in below and t.status not in ('completed', 'failed', 'cancelled')""",
        (task_id,),
    ).fetchall()
    open_tasks = [struct_of(row, Task) for row in rows]
    moment = now()
    conn.executemany(
        "update tasks set status = 'cancelled', error = ?, completed_at = ? where id = ?",
        [(reason or None, moment, one.id) for one in open_tasks],
    )
    return [one for one in open_tasks if one.status in ("in_progress", "needs_input")]


class TaskPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to a task that has not ended; what is left out stays."""

    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    acceptance_criteria: tuple[str, ...] | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    agent: str | UnsetType = UNSET
    blocked_by: tuple[str, ...] | UnsetType = UNSET


def update(conn: sqlite3.Connection, task_id: str, actor: Actor, patch: TaskPatch) -> Task:
    """The task with the patch merged in; Conflict once it has ended."""
    task = get(conn, task_id, actor)
    if task.status in ENDED:
        raise Conflict(f"The task has {task.status} and cannot be changed", code="bad_transition")
    owner = conn.execute("select owner from tasks where id = ?", (task_id,)).fetchone()[0]
    changes: dict[str, Any] = {k: v for k, v in msgspec.structs.asdict(patch).items() if v is not UNSET}
    for n, blocker in enumerate(changes.get("blocked_by", ())):
        _check_owned(conn, blocker, owner, f"$.blocked_by[{n}]")
        if blocker == task_id or _waits_for(conn, blocker, task_id):
            raise InvalidRequest("A task cannot wait for itself", details=[Detail(f"$.blocked_by[{n}]", "leads back")])
    for name in ("acceptance_criteria", "blocked_by"):
        if name in changes:
            changes[name] = msgspec.json.encode(changes[name]).decode()
    if changes:
        assignments = ", ".join(f"{name} = ?" for name in changes)
        conn.execute(f"update tasks set {assignments} where id = ?", (*changes.values(), task_id))
    return get(conn, task_id)


def _waits_for(conn: sqlite3.Connection, start: str, goal: str) -> bool:
    sql = """with recursive reached (id) as (select ? union select b.value from tasks t
        join reached on reached.id = t.id, json_each(t.blocked_by) b)
      select 1 from reached where id = ?"""
    return conn.execute(sql, (start, goal)).fetchone() is not None


def ready(conn: sqlite3.Connection, where: str, value: str) -> Sequence[Task]:
    """Open tasks whose blockers have all been completed, the most urgent first; `where` is session_id or a parent."""
    column = {"session": "session_id", "parent": "parent_task_id"}[where]
    rows = conn.execute(
        f"""{_SELECT} where t.{column} = ? and t.status in ('pending', 'approved') and not exists (
          select 1 from json_each(t.blocked_by) b left join tasks d on d.id = b.value
          where d.status is not 'completed') order by t.priority desc, t.seq""",
        (value,),
    )
    return [struct_of(row, Task) for row in rows]
