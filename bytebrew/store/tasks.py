"""SQL for tasks: work that an agent does without anybody waiting for it."""

from collections.abc import Collection
from typing import get_args

from msgspec import Struct
from msgspec.structs import asdict

from bytebrew.base.errors import Conflict, Detail, InvalidRequest, NotFound, Unprocessable
from bytebrew.base.formats import new_id, new_uuid, now
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection, Row, insert
from bytebrew.contract.entities import NewTask, Task, TaskSource, TaskStatus
from bytebrew.contract.lists import Listing, Page, Selection, rows_of
from bytebrew.store import sessions, task_queue
from bytebrew.store.configuration import schemas
from bytebrew.store.open_turns import of_node
from bytebrew.store.sqlite.dialect import indexed_by
from bytebrew.store.task_approvals import task_of

STATUSES: tuple[TaskStatus, ...] = get_args(TaskStatus)
ENDED = frozenset({"completed", "failed", "cancelled"})
MAX_NESTING = 10
TASKS = Listing(table="tasks", order=("seq",), kinds=("agent", "status", "source"), unit="thousand", kept="owner")


class Claim(Struct, frozen=True, kw_only=True):
    """A task that a worker has taken; `turn_id` is the turn of its current attempt.

    `user_sub` is the subject of the session whose agent created the task. `approved` is the digest of what a person
    approved, None if no approval was needed.
    """

    task: Task
    turn_id: str
    owner: str
    user_sub: str
    approved: str | None


_ASKING = "'pending' in (select c.status from confirmations c where c.session_id = {0}.session_id)"
_STATUS = f"""case when {{0}}.status = 'in_progress' and {{0}}.turn_id is not null and {_ASKING}
  then 'needs_input' else {{0}}.status end"""
_COST = """case when t.mode = 'background'
  then (select sum(u.cost_usd) from turns u where u.session_id = t.session_id) end"""
_QUESTION = """case when t.status = 'in_progress' and t.turn_id is not null
  then (select c.id from confirmations c where c.session_id = t.session_id and c.status = 'pending'
  and c.kind <> 'client_tool' order by c.seq limit 1) end"""
_SELECT = f"""select t.id, t.title, t.description, t.agent, t.agent as agent_name, t.schema,
  {_STATUS.format("t")} as status, t.source, t.mode, t.priority, t.acceptance_criteria, t.blocked_by, t.parent_task_id,
  t.callback_url,
  t.session_id, t.result, t.error, t.attempts, {_COST} as cost_usd, {_QUESTION} as confirmation_id,
  t.created_at, t.approved_at, t.started_at, t.completed_at, t.owner,
  t.turn_id, t.seq, t.approved_digest, t.revised from tasks t"""
_CLAIMED = _SELECT.replace(_COST, "null").replace(_QUESTION, "null")
"""A worker needs to know neither."""


def create(
    conn: Connection, new: NewTask, owner: str, source: TaskSource, *, task_id: str = "", made_in: str | None = None
) -> Task:
    """Stores a task; Unprocessable if something that it refers to does not exist.

    If `task_id` exists, returns that task. `made_in` is the session of the agent that creates the task: the task
    belongs to the session's owner, and an interactive one runs in this session; others get their own.
    """
    if task_id and conn.execute("select 1 from tasks where id = ?", (task_id,)).fetchone():
        return get(conn, task_id)
    if made_in is not None:
        owner = sessions.owner(conn, made_in) or owner
    check(conn, new.agent, new.schema if made_in is None else "")
    for n, blocker in enumerate(new.blocked_by):
        owned(conn, blocker, owner, f"$.blocked_by[{n}]")
    if new.parent_task_id is not None:
        _check_parent(conn, new.parent_task_id, owner)
    fields, task_id = asdict(new), task_id or new_id("task")
    insert(
        conn,
        "tasks",
        fields,
        id=task_id,
        owner=owner,
        status="draft" if fields.pop("require_approval") else "pending",
        source=source,
        session_id=made_in if made_in and new.mode == "interactive" else new_uuid(),
        made_in=made_in,
        created_at=now(),
    )
    return get(conn, task_id)


def check(conn: Connection, agent: str, schema: str) -> None:
    """Unprocessable unless the agent exists, and belongs to the schema if one is given."""
    if not conn.execute("select 1 from agents where name = ?", (agent,)).fetchone():
        raise Unprocessable(f"There is no agent '{agent[:255]}'", details=[Detail("$.agent", "no such agent")])
    if not schema:
        return
    try:
        members = schemas.get(conn, schema).agents
    except NotFound as error:
        raise Unprocessable(error.message, details=[Detail("$.schema", "no such schema")]) from error
    if agent not in members:
        details = [Detail("$.agent", "is not in the schema")]
        raise Unprocessable(f"The schema '{schema}' has no agent '{agent}'", details=details)


def owned(conn: Connection, task_id: str, owner: str, path: str) -> Row:
    """A task of the owner that another task refers to at `path`; Unprocessable if there is none."""
    sql = "select status, parent_task_id from tasks where id = ? and owner = ?"
    row: Row | None = conn.execute(sql, (task_id, owner)).fetchone()
    if row is None:
        raise Unprocessable(f"There is no task '{task_id}' of yours", details=[Detail(path, "no such task")])
    return row


def _check_parent(conn: Connection, task_id: str, owner: str) -> None:
    path = "$.parent_task_id"
    parent = owned(conn, task_id, owner, path)
    if parent["status"] in ENDED:
        raise Conflict(f"The task above has {parent['status']} and takes no subtasks", code="bad_transition")
    depth, above = 1, parent["parent_task_id"]
    while above is not None:
        depth += 1
        above = conn.execute("select parent_task_id from tasks where id = ?", (above,)).fetchone()[0]
    if depth > MAX_NESTING:
        details = [Detail(path, "is nested too deep")]
        raise InvalidRequest(f"Tasks are nested {MAX_NESTING} deep at most", details=details)


def get(conn: Connection, task_id: str, actor: Actor | None = None) -> Task:
    """A task that the actor may see; NotFound otherwise."""
    return task_of(row_of(conn, task_id, actor))


def row_of(conn: Connection, task_id: str, actor: Actor | None) -> Row:
    """The row of a task that the actor may see; NotFound otherwise. An actor of None may see every task."""
    row: Row | None = conn.execute(f"{_SELECT} where t.id = ?", (task_id,)).fetchone()
    if row is None or (actor is not None and row["owner"] != actor.subject and not actor.is_admin):
        raise NotFound(f"There is no task '{task_id[:255]}'")
    return row


class Filter(Struct, frozen=True, kw_only=True):
    """Which tasks to list; an empty field is no restriction. `after` is the last task of the previous page."""

    status: str = ""
    agent: str = ""
    source: str = ""
    session_id: str = ""
    after: str = ""


def page(conn: Connection, actor: Actor, wanted: Filter, offset: int, limit: int) -> Page[Task]:
    """The tasks that the actor may see."""
    chosen, after = _chosen(actor, wanted), None
    if wanted.after:
        try:
            after = (row_of(conn, wanted.after, actor)["seq"],)
        except NotFound as error:
            raise NotFound(f"{error.message} to go on after; read the list from the start") from error
    places = TASKS.page(conn, chosen, limit + 1, offset, after)
    found = [task_of(row) for row in rows_of(conn, f"{_SELECT} where t.seq = ?", places[:limit])]
    more = len(places) > len(found)
    total, following = TASKS.total(conn, chosen), found[-1].id if more else None
    return Page(data=found, total=total, limit=limit, offset=offset, next=following)


def _chosen(actor: Actor, wanted: Filter) -> Selection:
    stored = wanted.status.replace("needs_input", "in_progress")
    kinds = {"agent": wanted.agent, "status": stored, "source": wanted.source}
    keys = {"session_id": wanted.session_id, "owner": "" if actor.is_admin else actor.subject}
    return Selection(
        kinds={name: value for name, value in kinds.items() if value},
        keys={name: value for name, value in keys.items() if value},
        also=f"{_STATUS.format('listed')} = '{wanted.status}'" if stored == "in_progress" else "",
    )


def counts(conn: Connection, actor: Actor, agent: str, source: str) -> dict[str, int]:
    """How many tasks of each status the actor may see, of an agent and a source unless these are empty."""
    return {one: TASKS.total(conn, _chosen(actor, Filter(status=one, agent=agent, source=source))) for one in STATUSES}


def subtasks(conn: Connection, task_id: str) -> list[Task]:
    """The direct subtasks of a task, oldest first."""
    rows = conn.execute(f"{_SELECT} where t.parent_task_id = ? order by t.seq", (task_id,))
    return [task_of(row) for row in rows]


def of_session(conn: Connection, session_id: str) -> list[Task]:
    """The tasks that run in a session or were created by its agent, oldest first."""
    sql = f"{_SELECT} where t.session_id = ?1 or t.made_in = ?1 order by t.seq"
    return [task_of(row) for row in conn.execute(sql, (session_id,))]


def ready(conn: Connection, session_id: str) -> list[Task]:
    """The pending tasks of a session whose blockers are all completed, the most urgent first."""
    sql = f"""{_SELECT} where (t.session_id = ?1 or t.made_in = ?1) and t.status in ('pending', 'approved')
      and t.blockers = 0 order by t.priority desc, t.seq"""
    return [task_of(row) for row in conn.execute(sql, (session_id,))]


def claim(conn: Connection, per_agent: int, node: int | None = None) -> Claim | None:
    """Takes the most urgent task that can run, and starts an attempt on a node; `per_agent` 0 is no limit.

    A step of priority counts as much as ten minutes of waiting; the owners of an agent's tasks take turns. A task that
    waits for a person does not count as running.
    """
    moment = now()
    conn.execute(f"update tasks set not_before = null where {task_queue.LATER} and not_before <= ?", (moment,))
    running = f"""select count(*) from tasks r {indexed_by("tasks_running")} where r.status = 'in_progress'
      and r.turn_id is not null and r.agent = agents.name and not {_ASKING.format("r")}"""
    if (task_id := task_queue.take(conn, moment, running, per_agent)) is None:
        return None
    conn.execute(
        """update tasks set status = 'in_progress', turn_id = ?, attempts = attempts + 1, node = ?,
        started_at = coalesce(started_at, ?) where id = ?""",
        (new_id("turn"), node, moment, task_id),
    )
    claim = _claim(conn, task_id)
    task_queue.taken(conn, claim.task.agent, claim.owner)
    return claim


def _claim(conn: Connection, task_id: str) -> Claim:
    row = conn.execute(f"{_CLAIMED} where t.id = ?", (task_id,)).fetchone()
    sql = "select s.user_sub from tasks t join sessions s on s.id = t.made_in where t.id = ?"
    made_for = conn.execute(sql, (task_id,)).fetchone()
    user_sub = made_for["user_sub"] if made_for else ""
    return Claim(
        task=task_of(row),
        turn_id=row["turn_id"],
        owner=row["owner"],
        user_sub=user_sub,
        approved=row["approved_digest"],
    )


def left_open(conn: Connection, node: int | None = None, known: Collection[str] = ()) -> list[Claim]:
    """The tasks of a node that were in progress when it stopped, but for those whose turns are `known`.

    One whose turn never started is pending again.
    """
    rows = conn.execute(
        f"""select k.id, k.turn_id, k.turn_id in (select id from turns) as begun from tasks k
        where k.status = 'in_progress' and k.turn_id is not null and {of_node("k", node)}"""
    ).fetchall()
    rows = [row for row in rows if row["turn_id"] not in known]
    for row in rows:
        if not row["begun"]:
            release(conn, row["id"], row["turn_id"])
    return [_claim(conn, row["id"]) for row in rows if row["begun"]]


def release(conn: Connection, task_id: str, turn_id: str) -> None:
    """Undoes a claim whose turn has not started."""
    conn.execute(
        """update tasks set status = 'pending', attempts = attempts - 1, turn_id = null
        where id = ? and turn_id = ? and status = 'in_progress'""",
        (task_id, turn_id),
    )


def at_hand(conn: Connection, turn_id: str) -> Task | None:
    """The task of a turn, or of the root of its spawn tree."""
    row = conn.execute(
        f"""{_SELECT} join turns o on o.id = ? join turns r on r.id = o.root_turn_id
        where t.session_id = r.session_id and t.turn_id = r.id""",
        (turn_id,),
    ).fetchone()
    return task_of(row) if row else None


def was_delivered(conn: Connection, session_id: str, message: str) -> bool:
    """Whether the message is in the history of a session."""
    sql = "select 1 from turns where session_id = ? and message = ? and started_at is not null"
    return conn.execute(sql, (session_id, message)).fetchone() is not None


def is_claimed(conn: Connection, task_id: str, turn_id: str) -> bool:
    """Whether this turn is still the task's current attempt."""
    sql = "select 1 from tasks where id = ? and turn_id = ? and status = 'in_progress'"
    return conn.execute(sql, (task_id, turn_id)).fetchone() is not None


def next_moment(conn: Connection) -> str | None:
    """The earliest time at which a task that waits for another attempt may run."""
    sql = f"select min(not_before) from tasks where {task_queue.LATER} and not_before is not null"
    moment: str | None = conn.execute(sql).fetchone()[0]
    return moment


def settle(conn: Connection, task_id: str, turn_id: str, status: str, text: str, retry_at: str | None) -> bool:
    """Ends the attempt of a task, unless it has ended otherwise; with `retry_at` it waits for the next one.

    Returns whether the task has ended by it.
    """
    here = (task_id, turn_id)
    if retry_at is not None:
        conn.execute(
            """update tasks set status = 'pending', error = ?, not_before = ? where id = ? and turn_id = ?
            and status = 'in_progress'""",
            (text, retry_at, *here),
        )
        return False
    done = status == "completed"
    ended = conn.execute(
        """update tasks set status = ?, result = ?, error = ?, completed_at = ? where id = ? and turn_id = ?
        and status = 'in_progress'""",
        (status, text if done else None, None if done else text, now(), *here),
    )
    return ended.rowcount == 1
