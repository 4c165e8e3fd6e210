"""The tool `manage_tasks`: an agent's own task list, and background work for other agents."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from bytebrew import (
    Agent,
    Call,
    Connection,
    Engine,
    EngineError,
    NewTask,
    Register,
    Task,
    TaskPatch,
    Tool,
    ToolError,
    Toolset,
    hookimpl,
    input_schema,
)

NAME = "manage_tasks"
Action = Literal[
    "create",
    "create_subtask",
    "update",
    "get",
    "list",
    "list_subtasks",
    "get_ready",
    "get_next",
    "approve",
    "start",
    "complete",
    "fail",
    "cancel",
    "set_status",
    "set_priority",
    "assign",
]
Target = Literal["approved", "in_progress", "completed", "failed", "cancelled"]
TARGETS: dict[str, Target] = {
    "approve": "approved",
    "start": "in_progress",
    "complete": "completed",
    "fail": "failed",
    "cancel": "cancelled",
}
_SHORT = ("id", "title", "status", "priority", "mode", "agent", "parent_task_id", "blocked_by")
_LONG = (*_SHORT, "description", "acceptance_criteria", "result", "error")


def _says(text: str) -> Meta:
    return Meta(description=text)


class Item(Struct, forbid_unknown_fields=True):
    """One of several tasks to create."""

    title: str
    description: str | None = None
    acceptance_criteria: list[str] | None = None
    priority: int | None = None


class Arguments(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a model may send."""

    action: Action
    tasks: Annotated[list[Item], Meta(max_length=64)] | None = None
    task_id: str | None = None
    title: str | None = None
    description: str | None = None
    acceptance_criteria: Annotated[list[str], _says("when the task is done")] | None = None
    priority: Annotated[int, _says("0 normal, 1 high, 2 critical")] | None = None
    blocked_by: Annotated[list[str], _says("ids of tasks that must be completed first")] | None = None
    parent_task_id: str | None = None
    agent_id: (
        Annotated[str, _says("the agent that does it in the background; without it you do it yourself")] | None
    ) = None
    require_approval: bool | None = None
    status: Annotated[Target, _says("for set_status")] | None = None
    result: Annotated[str, _says("for complete: what came of it")] | None = None
    reason: Annotated[str, _says("for fail and cancel")] | None = None


class ManageTasks(Tool):
    """Manages the tasks of the calling session; `agents` can receive background work."""

    name = NAME
    description = (
        "Keeps your list of tasks in this conversation. create (title, or tasks for several), create_subtask "
        "(parent_task_id), update, get, list, list_subtasks, get_ready (what nothing blocks any more), get_next (what "
        "to do now), approve, start, complete (result), fail (reason), cancel, set_status, set_priority. With "
        "agent_id, create and assign hand a task to an agent that works on it in the background."
    )
    input_schema = input_schema(Arguments)
    idempotent = True  # task ids derive from the call, so a repeated call has no effect
    source = "tasks"

    def __init__(self, engine: Engine, agents: Sequence[str] = ()) -> None:
        self._engine = engine
        self._agents = frozenset(agents)

    async def run(self, call: Call, input: dict[str, Any]) -> Any:
        try:
            args = msgspec.convert(input, Arguments)
            return await self._answer(call, args)
        except msgspec.ValidationError as error:
            raise ToolError(f"The arguments do not fit: {error}") from error
        except EngineError as error:
            raise ToolError(error.message) from error

    async def _answer(self, call: Call, args: Arguments) -> Any:
        tasks = self._engine.tasks
        here = {task.id: task for task in await tasks.of_session(call.session_id)}
        match args.action:
            case "create" | "create_subtask":
                if args.action == "create_subtask":
                    _known(here, args.parent_task_id, "parent_task_id")
                return await self._create(call, args, here)
            case "list":
                return _listed(here.values())
            case "list_subtasks":
                parent = _known(here, args.parent_task_id or args.task_id, "parent_task_id")
                return _listed(task for task in here.values() if task.parent_task_id == parent.id)
            case "get_ready":
                ready = await tasks.ready(call.session_id)
                if args.parent_task_id:
                    parent = _known(here, args.parent_task_id, "parent_task_id")
                    ready = [task for task in ready if task.parent_task_id == parent.id]
                return _listed(ready)
            case "get_next":
                begun = [task for task in here.values() if task.status == "in_progress"]
                begun.sort(key=lambda task: -task.priority)
                mine = [task for task in (*begun, *await tasks.ready(call.session_id)) if task.mode == "interactive"]
                return _shown(mine[0], _LONG) if mine else "There is nothing to do now"
        task = _known(here, args.task_id, "task_id")
        match args.action:
            case "update":
                task = await tasks.update(task.id, None, _patch(here, args), by=call.agent)
            case "set_priority":
                if args.priority is None:
                    raise ToolError("Say which priority: 0 normal, 1 high, 2 critical")
                patch = msgspec.convert({"priority": args.priority}, TaskPatch)
                task = await tasks.update(task.id, None, patch, by=call.agent)
            case "assign":
                task = await tasks.assign(task.id, None, self._allowed(call, args.agent_id or ""), by=call.agent)
            case "get":
                pass
            case action:
                target = TARGETS.get(action, args.status)
                if target is None:
                    raise ToolError(f"Say which status: {', '.join(TARGETS.values())}")
                task = await self._move(call, task, target, args)
        return _shown(task, _LONG)

    async def _create(self, call: Call, args: Arguments, here: dict[str, Task]) -> Any:
        agent = self._allowed(call, args.agent_id) if args.agent_id else call.agent
        parent, blockers = args.parent_task_id or None, args.blocked_by or []
        for task_id in blockers if parent is None else (parent, *blockers):
            _known(here, task_id, "blocked_by")
        if parent is None:
            # a subtask of the running task: it ends with it, within the depth limit
            at_hand = await self._engine.tasks.at_hand(call.turn_id)
            parent = at_hand.id if at_hand else None
        items = args.tasks or [
            Item(args.title or "", args.description, args.acceptance_criteria, args.priority),
        ]
        new = [
            msgspec.convert(
                {
                    "agent": agent,
                    "title": item.title,
                    "description": item.description or "",
                    "schema": call.schema,
                    "mode": "background" if args.agent_id else "interactive",
                    "priority": item.priority or 0,
                    "acceptance_criteria": item.acceptance_criteria or (),
                    "blocked_by": blockers,
                    "parent_task_id": parent,
                    "require_approval": args.require_approval or False,
                },
                NewTask,
            )
            for item in items
        ]

        def add(conn: Connection) -> list[Task]:
            return [
                self._engine.tasks.add(conn, one, call.subject, "agent", task_id=_id(call, n), made_in=call.session_id)
                for n, one in enumerate(new)
            ]

        made = await self._engine.db.write(add)
        self._engine.tasks.wake()
        return _listed(made) if args.tasks else _shown(made[0], _LONG)

    def _allowed(self, call: Call, agent: str) -> str:
        if agent not in self._agents:
            known = ", ".join(sorted(self._agents)) or "nobody"
            raise ToolError(f"You may give work to {known}, not to '{agent[:255]}'")
        return agent

    async def _move(self, call: Call, task: Task, target: Target, args: Arguments) -> Task:
        tasks = self._engine.tasks
        if task.status == target:
            return task
        at_hand = await tasks.at_hand(call.turn_id)
        mine = at_hand is not None and at_hand.id == task.id
        if target == "cancelled" and not mine:
            await tasks.cancel(task.id, None, args.reason or "")
            return next(one for one in await tasks.of_session(call.session_id) if one.id == task.id)
        if task.mode == "background" and not (mine and target in ("completed", "failed")):
            message = "a person approves it" if target == "approved" else f"the agent '{task.agent}' works on it"
            raise ToolError(f"You cannot take this task to {target}: {message}")
        if target == "failed" and not args.reason:
            raise ToolError("Say in reason why it failed")
        text = args.result if target == "completed" else args.reason
        return await tasks.move(task.id, None, target, text, within=call.turn_id)


class TaskTools(Toolset):
    """Offers the tool to agents that list it."""

    lists = ("tools",)
    reserves = (NAME,)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def tools(self, agent: Agent) -> Sequence[Tool]:
        return [ManageTasks(self._engine, (agent.name, *agent.can_spawn))] if NAME in agent.tools else []

    async def all(self) -> Sequence[Tool]:
        return [ManageTasks(self._engine)]

    def knows(self, conn: Connection, agent: Agent, gate: str) -> bool:
        return gate == NAME and NAME in agent.tools

    def has(self, conn: Connection, name: str) -> bool:
        return name == NAME


def _id(call: Call, number: int) -> str:
    """The id of a task that a call creates, the same when the call is repeated."""
    return f"task_{hashlib.sha256(f'{call.turn_id} {call.call_id} {number}'.encode()).hexdigest()[:24]}"


def _known(here: dict[str, Task], task_id: str | None, field: str) -> Task:
    if not task_id:
        raise ToolError(f"Say which task in {field}")
    if task_id not in here:
        raise ToolError(f"There is no task '{task_id[:255]}' in this conversation")
    return here[task_id]


def _patch(here: dict[str, Task], args: Arguments) -> TaskPatch:
    for task_id in args.blocked_by or ():
        _known(here, task_id, "blocked_by")
    fields = ("title", "description", "acceptance_criteria", "priority", "blocked_by")
    changes = {field: value for field in fields if (value := getattr(args, field)) is not None}
    if not changes:
        raise ToolError(f"Say what to change: {', '.join(fields)}")
    return msgspec.convert(changes, TaskPatch)


def _shown(task: Task, fields: Sequence[str]) -> dict[str, Any]:
    """The non-empty fields of a task for the model."""
    return {name: value for name in fields if (value := getattr(task, name)) not in (None, "", ())}


def _listed(tasks: Any) -> list[dict[str, Any]]:
    return [_shown(task, _SHORT) for task in tasks]


@hookimpl
def register_toolsets(register: Register[Toolset], engine: Engine) -> None:
    register(TaskTools(engine))
