"""The core's notifications: a turn has failed, a task has ended, an approval waits for a person."""

from bytebrew.base.errors import EngineError
from bytebrew.base.visible_text import visible
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Task
from bytebrew.contract.notifications import Notification
from bytebrew.store.confirmations import Confirmation


def turn_failed(conn: Connection, turn_id: str, error: EngineError) -> Notification:
    """A turn has failed, with the error's code; that of a spawned agent has a `parent_turn_id`."""
    row = conn.execute(
        """select t.session_id, t.parent_turn_id, s.schema, s.agent from turns t join sessions s on s.id = t.session_id
        where t.id = ?""",
        (turn_id,),
    ).fetchone()
    data = {
        "turn_id": turn_id,
        "session_id": row["session_id"],
        "parent_turn_id": row["parent_turn_id"],
        "schema": row["schema"],
        "agent": row["agent"],
        "status": "failed",
        "code": error.code,
        "url": f"/api/v1/sessions/{row['session_id']}/turns/{turn_id}",
    }
    return Notification("turn.failed", turn_id, data)


def task_ended(task: Task) -> Notification:
    """A task has ended: completed, failed or cancelled."""
    data = {
        "task_id": task.id,
        "session_id": task.session_id,
        "parent_task_id": task.parent_task_id,
        "schema": task.schema,
        "agent": task.agent,
        "status": task.status,
        "source": task.source,
        "attempts": task.attempts,
        "completed_at": task.completed_at,
        "url": f"/api/v1/tasks/{task.id}",
    }
    return Notification("task.ended", task.id, data)


def approval_waiting(question: Confirmation, schema: str) -> Notification:
    """A tool call waits for a person's answer; `kind` says whether it may run, or what became of it."""
    data = {
        "confirmation_id": question.id,
        "session_id": question.session_id,
        "turn_id": question.turn_id,
        "call_id": question.call_id,
        "schema": schema,
        "agent": question.agent,
        "tool": visible(question.tool),
        "kind": question.kind,
        "risk": question.risk,
        "expires_at": question.expires_at,
        "url": f"/api/v1/approvals/{question.id}/respond",
    }
    return Notification("approval.waiting", question.id, data)
