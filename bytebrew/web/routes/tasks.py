"""Tasks: create, list, watch, steer."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, Struct
from msgspec.structs import asdict

from bytebrew.base.errors import Conflict, Detail, Forbidden, Unprocessable
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import NewTask, Priority, Task, TaskPatch, TaskStatus
from bytebrew.contract.lists import OFFSET, NumberedPage, page_numbers, page_window
from bytebrew.contract.route import Parameter, Record, Reply, Request, Route, Stream, choice
from bytebrew.conversation.tasks import Tasks
from bytebrew.conversation.tools.confirmations import Confirmations
from bytebrew.engine import Engine
from bytebrew.store import confirmations, tasks
from bytebrew.store.database.database import Database
from bytebrew.store.journal import Journal
from bytebrew.store.task_approvals import shown
from bytebrew.store.tasks import Filter
from bytebrew.web.access import check_schema
from bytebrew.web.routes.approvals import Answered, TaskAnswer, answer_question
from bytebrew.web.routes.sessions import EVENTS_QUERY, EventPage, follow

CALLBACK = "tasks:callback"
"""The scope that `callback_url` needs; a plugin that calls back registers it."""


class TaskPage(NumberedPage[Task], frozen=True, kw_only=True):
    """A page of tasks, newest first; `tasks` and `data` hold the same rows, `next` is the `after` of the page behind.

    It ends early where its rows have more than a megabyte of text.
    """

    tasks: list[Task]


class Counts(Struct, frozen=True, kw_only=True):
    """How many tasks there are of each status."""

    draft: int
    approved: int
    pending: int
    in_progress: int
    needs_input: int
    completed: int
    failed: int
    cancelled: int


class CreatedTask(Task, frozen=True, kw_only=True):
    """A new task; `task_id` is another name of its id."""

    task_id: str


class Result(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a task has come to."""

    result: Annotated[str, Meta(max_length=1_000_000)] = ""


class Cancellation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a task is cancelled."""

    reason: Annotated[str, Meta(max_length=10_000)] = ""


class Approval(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which task is approved: the `digest` of what was shown, which a task needs that has changed since it was made."""

    digest: Annotated[str, Meta(max_length=255)] = ""


class Reason(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a task has failed."""

    reason: Annotated[str, Meta(min_length=1, max_length=10_000)]


class NewPriority(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How urgent a task is: 0 normal, 1 high, 2 critical."""

    priority: Priority


class Input(TaskAnswer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer to what a task asks; without `confirmation_id` and `call_id` to the one question that waits."""


async def create_task(workers: Tasks, request: Request[NewTask]) -> CreatedTask:
    """A new task, which starts as soon as a worker is free; a token for some schemas makes tasks in those alone."""
    check_schema(request.actor, request.body.schema)
    if request.body.callback_url:
        _check_callback(request)
    task = await request.write(_created, request.body, request.actor.subject)
    workers.wake()
    return task


def _check_callback(request: Request[NewTask]) -> None:
    if CALLBACK not in request.engine.scopes:
        details = [Detail("$.callback_url", "is called by no plugin of this engine")]
        raise Unprocessable("This engine has no plugin that calls back; leave callback_url out", details=details)
    if not request.actor.is_admin and CALLBACK not in request.actor.scopes:
        raise Forbidden(f"A task with a callback_url needs the scope '{CALLBACK}', which you lack")


def _created(conn: Connection, new: NewTask, owner: str) -> CreatedTask:
    task = shown(tasks.create(conn, new, owner, "api"))
    return CreatedTask(**asdict(task), task_id=task.id)


async def list_tasks(db: Database, request: Request[None]) -> TaskPage:
    """Tasks of a `status`, `agent` or `source`, newest first, by `page` and `per_page`."""
    query = request.query
    status = choice(query, "status", get_args(TaskStatus))
    limit, offset = page_window(query, 100, 500)
    wanted = Filter(
        status=status,
        agent=query.get("agent", query.get("agent_name", "")),
        source=query.get("source", ""),
        session_id=query.get("session_id", ""),
        after=query.get("after", ""),
    )
    found = await db.browse(tasks.page, request.actor, wanted, offset, limit)
    rows = [*map(shown, found.data)]
    return TaskPage(tasks=rows, data=rows, next=found.next, **page_numbers(found.total, limit, offset))


async def count_tasks(db: Database, request: Request[None]) -> Counts:
    """How many tasks there are of each status, in all or of an `agent` or `source`."""
    query = request.query
    found = await db.scan(tasks.counts, request.actor, query.get("agent", ""), query.get("source", ""))
    return Counts(**found)


async def get_task(db: Database, request: Request[None]) -> Task:
    """One task."""
    return shown(await db.read(tasks.get, request.path["id"], request.actor))


async def update_task(workers: Tasks, request: Request[TaskPatch]) -> Task:
    """The task with the fields that were sent; one that was approved is a draft again."""
    return await _changed(workers, request, request.body)


async def _changed(workers: Tasks, request: Request[Any], patch: TaskPatch) -> Task:
    task_id, record = request.path["id"], _recording(request)
    return shown(await workers.update(task_id, request.actor, patch, record=record))


def _recording(request: Request[Any]) -> Record:
    return lambda conn, task: request.record(conn, shown(task))


async def cancel_task(workers: Tasks, request: Request[Cancellation]) -> None:
    """Cancels a task and all below it."""
    await workers.cancel(request.path["id"], request.actor, request.body.reason, record=request.record)


async def list_subtasks(db: Database, request: Request[None]) -> list[Task]:
    """The tasks right below one."""
    task = await db.read(tasks.get, request.path["id"], request.actor)
    return [*map(shown, await db.scan(tasks.subtasks, task.id))]


async def approve_task(workers: Tasks, request: Request[Approval]) -> Task:
    """Lets a draft be worked on, as it was shown: a change takes it back to draft."""
    return await _move(workers, request, "approved", seen=request.body.digest)


async def start_task(workers: Tasks, request: Request[None]) -> Task:
    """Marks a task as being worked on, by somebody else than the workers."""
    return await _move(workers, request, "in_progress")


async def complete_task(workers: Tasks, request: Request[Result]) -> Task:
    """Marks a task as completed."""
    return await _move(workers, request, "completed", request.body.result)


async def fail_task(workers: Tasks, request: Request[Reason]) -> Task:
    """Marks a task as failed."""
    return await _move(workers, request, "failed", request.body.reason)


async def _move(
    workers: Tasks, request: Request[Any], status: TaskStatus, reason: str | None = None, seen: str | None = None
) -> Task:
    task_id, actor, record = request.path["id"], request.actor, _recording(request)
    return shown(await workers.move(task_id, actor, status, reason, seen=seen, record=record))


async def set_priority(workers: Tasks, request: Request[NewPriority]) -> Task:
    """Makes a task more or less urgent."""
    return await _changed(workers, request, TaskPatch(priority=request.body.priority))


async def give_input(db: Database, questions: Confirmations, request: Request[Input]) -> Answered:
    """Answers the question that a task waits with."""
    body = request.body
    task = await db.read(tasks.get, request.path["id"], request.actor)
    keys = body.keys()
    if not keys:
        asked = await db.read(confirmations.of_session, task.session_id)
        waiting = [one for one in asked if one.kind != "client_tool"]
        if len(waiting) != 1:
            raise Conflict(
                f"{len(waiting)} questions of this task wait; name one by confirmation_id", code="no_single_question"
            )
        keys = (waiting[0].id,)
    return await answer_question(questions, request, keys, body, task.session_id)


async def follow_task(db: Database, journal: Journal, request: Request[None]) -> Stream | Reply:
    """The events of a task's session, as GET /sessions/{id}/events gives them."""
    task = await db.read(tasks.get, request.path["id"], request.actor)
    return await follow(db, journal, request, task.session_id)


_TASK = "/api/v1/tasks/{id}"
_LIST: Mapping[str, str | Parameter] = {
    "status": Parameter("tasks of this status", TaskStatus | Literal[""]),
    "agent": "of this agent",
    "agent_name": "as agent",
    "source": "api, agent, dashboard, schedule or webhook",
    "session_id": "of this session",
    "limit": Parameter("rows, 500 at most, and a megabyte of text; `next` says where to go on", int | str),
    "offset": OFFSET,
    "page": Parameter("from 1", int | str),
    "per_page": Parameter("as limit", int | str),
    "after": "the last task of the page before",
}
_COUNT = {name: _LIST[name] for name in ("agent", "source")}
_EXAMPLES: Mapping[Any, Mapping[str, Any]] = {
    NewTask: {"agent": "support", "title": "Market analysis Q1", "require_approval": True},
    TaskPatch: {"title": "Market analysis Q1 and Q2"},
    Approval: {},
    Cancellation: {"reason": "No longer needed"},
    Result: {"result": "Sales rose by a tenth"},
    Reason: {"reason": "The data is incomplete"},
    NewPriority: {"priority": 2},
    Input: {"answers": ["approve"]},
}


def _route(
    method: Any, path: str, run: Any, summary: str, answer: Any, body: Any = None, status: int = 200, **rest: Any
) -> Route:
    return Route(
        method,
        path,
        "tasks",
        run,
        summary,
        body=body,
        example=_EXAMPLES.get(body),
        answer=answer,
        status=status,
        aliases={"agent_name": "agent"} if body in (NewTask, TaskPatch) else {},
        **rest,
    )


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    db, workers = engine.db, engine.tasks
    create, update, cancel = partial(create_task, workers), partial(update_task, workers), partial(cancel_task, workers)
    list_all, get, subtasks = partial(list_tasks, db), partial(get_task, db), partial(list_subtasks, db)
    approve, start = partial(approve_task, workers), partial(start_task, workers)
    complete, fail = partial(complete_task, workers), partial(fail_task, workers)
    prioritize, answer = partial(set_priority, workers), partial(give_input, db, engine.confirmations)
    follow = partial(follow_task, db, engine.journal)
    gone, no_such = {410: None}, {404: None}
    return (
        _route("POST", "/api/v1/tasks", create, "Create a task", CreatedTask, NewTask, 201, idempotent=True),
        _route("GET", "/api/v1/tasks", list_all, "List tasks", TaskPage, query=_LIST, also=no_such),
        _route("GET", "/api/v1/tasks/counts", partial(count_tasks, db), "Count tasks", Counts, query=_COUNT),
        _route("GET", _TASK, get, "Get a task", Task),
        _route("PUT", _TASK, update, "Change a task", Task, TaskPatch),
        _route("PATCH", _TASK, update, "Change a task", Task, TaskPatch),
        _route("DELETE", _TASK, cancel, "Cancel a task", None, Cancellation, 204),
        _route("GET", f"{_TASK}/subtasks", subtasks, "List subtasks", list[Task]),
        _route(
            *("GET", f"{_TASK}/events", follow, "Follow a task's events", EventPage),
            query=EVENTS_QUERY,
            streams=True,
            also=gone,
        ),
        _route("POST", f"{_TASK}/approve", approve, "Approve a task", Task, Approval),
        _route("POST", f"{_TASK}/start", start, "Start a task by hand", Task),
        _route("POST", f"{_TASK}/complete", complete, "Complete a task", Task, Result),
        _route("POST", f"{_TASK}/fail", fail, "Fail a task", Task, Reason),
        _route("POST", f"{_TASK}/priority", prioritize, "Set a task's priority", Task, NewPriority),
        _route("POST", f"{_TASK}/input", answer, "Answer a task's question", Answered, Input),
    )
