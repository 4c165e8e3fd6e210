"""Changes of a task by its callers: status, cancel, update, assign."""

from typing import Any

import msgspec
from msgspec import UNSET

from bytebrew.base.errors import Conflict, Detail, InvalidRequest
from bytebrew.base.formats import new_uuid, now
from bytebrew.base.visible_text import restore_exact
from bytebrew.contract import connection
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection, Row
from bytebrew.contract.entities import Task, TaskPatch, TaskStatus
from bytebrew.store import task_approvals
from bytebrew.store.task_approvals import task_of
from bytebrew.store.tasks import ENDED, check, get, owned, row_of

_NEXT: dict[str, frozenset[str]] = {
    "draft": frozenset({"approved", "cancelled"}),
    "approved": frozenset({"in_progress", "cancelled"}),
    "pending": frozenset({"in_progress", "cancelled"}),
    "in_progress": frozenset({"completed", "failed", "cancelled"}),
    "needs_input": frozenset({"failed", "cancelled"}),  # an answer returns it to in_progress
}


def move(
    conn: Connection,
    task_id: str,
    actor: Actor | None,
    status: TaskStatus,
    text: str | None = None,
    seen: str | None = None,
) -> tuple[Task, str | None]:
    """Changes the status; returns the task and the turn that worked on it. Conflict for a forbidden transition.

    `seen` is the digest of what a person approves, "" if they sent none; None if an agent approves its own list.
    """
    row = row_of(conn, task_id, actor)
    if status not in _NEXT.get(row["status"], frozenset()):
        raise Conflict(f"A task that is {row['status']} cannot become {status}", code="bad_transition")
    if status == "approved":
        if seen is not None:
            task_approvals.check(row, seen)
        task_approvals.approve(conn, row)
    conn.execute(
        """update tasks set status = ?1,
        result = case when ?1 = 'completed' then ?2 else result end,
        error = case when ?1 = 'completed' then null else coalesce(?2, error) end,
        turn_id = case when ?1 = 'in_progress' then null else turn_id end,
        approved_at = case when ?1 = 'approved' then ?3 else approved_at end,
        started_at = case when ?1 = 'in_progress' then ?3 else started_at end,
        completed_at = case when ?1 in ('completed', 'failed', 'cancelled') then ?3 else completed_at end
        where id = ?4""",
        (status, text, now(), task_id),
    )
    return get(conn, task_id), row["turn_id"]


def cancel(conn: Connection, task_id: str, actor: Actor | None, reason: str) -> dict[str, str | None]:
    """Cancels a task and all open tasks below it; returns their ids, each with the turn that works on it."""
    status = row_of(conn, task_id, actor)["status"]
    if status in ENDED and status != "cancelled":
        raise Conflict(f"The task has {status} and cannot be cancelled", code="bad_transition")
    rows = conn.execute(
        """with recursive below (id) as (select cast(?1 as text) union select t.id from tasks t
          join below on t.parent_task_id = below.id)
        select t.id, t.turn_id from tasks t join below on below.id = t.id
        where t.status not in ('completed', 'failed', 'cancelled')""",
        (task_id,),
    ).fetchall()
    moment = now()
    conn.executemany(
        "update tasks set status = 'cancelled', error = ?, completed_at = ? where id = ?",
        [(reason or None, moment, row["id"]) for row in rows],
    )
    return {row["id"]: row["turn_id"] for row in rows}


def update(conn: Connection, task_id: str, actor: Actor | None, patch: TaskPatch) -> Task:
    """Merges the patch into a task, which becomes a draft again if it was approved; Conflict once it has ended.

    A text that is sent back as it was shown, with marks for invisible characters, stays as it is stored.
    """
    row = row_of(conn, task_id, actor)
    if row["status"] in ENDED:
        raise Conflict(f"The task has {row['status']} and cannot be changed", code="bad_transition")
    sent, exact = msgspec.structs.asdict(patch), msgspec.structs.asdict(task_of(row))
    changes: dict[str, Any] = {k: restore_exact(v, exact[k]) for k, v in sent.items() if v is not UNSET}
    if (agent := changes.get("agent", row["agent"])) != row["agent"]:
        _check_waiting(row)
        check(conn, agent, row["schema"])
    for n, blocker in enumerate(changes.get("blocked_by", ())):
        owned(conn, blocker, row["owner"], f"$.blocked_by[{n}]")
        if blocker == task_id or _waits_for(conn, blocker, task_id):
            raise InvalidRequest("A task cannot wait for itself", details=[Detail(f"$.blocked_by[{n}]", "leads back")])
    if changes:
        connection.update(conn, "tasks", changes, id=task_id)
        task_approvals.revise(conn, row, row_of(conn, task_id, None))
    return get(conn, task_id)


def assign(conn: Connection, task_id: str, actor: Actor | None, agent: str) -> Task:
    """Assigns the task to an agent, in the background and in its own session; an approved one becomes a draft."""
    row = row_of(conn, task_id, actor)
    if (row["mode"], row["agent"]) == ("background", agent):
        return task_of(row)
    _check_waiting(row)
    check(conn, agent, "")
    session_id = new_uuid() if row["mode"] == "interactive" else row["session_id"]
    sql = "update tasks set agent = ?, mode = 'background', session_id = ? where id = ?"
    conn.execute(sql, (agent, session_id, task_id))
    task_approvals.revise(conn, row, row_of(conn, task_id, None))
    return get(conn, task_id)


def _check_waiting(row: Row) -> None:
    if row["started_at"] is not None or row["status"] in ENDED:
        raise Conflict("The task has begun; its agent stays", code="bad_transition")


def _waits_for(conn: Connection, start: str, goal: str) -> bool:
    sql = """with recursive reached (id) as (
        select cast(? as text) union select b.blocker from task_blockers b join reached on reached.id = b.task)
      select 1 from reached where id = ?"""
    return conn.execute(sql, (start, goal)).fetchone() is not None
