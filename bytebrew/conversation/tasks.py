"""Background tasks: workers that run them as turns, each task in its own session."""

import logging
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import anyio
import msgspec
from anyio.abc import TaskGroup

from bytebrew.base.errors import Draining, EngineError, StorageError
from bytebrew.base.formats import now, parse_time, rfc3339
from bytebrew.base.masking import masked_value
from bytebrew.base.settings import Core
from bytebrew.contract import engine
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Task, TaskPatch, TaskStatus
from bytebrew.contract.hookspecs import Action
from bytebrew.contract.notifications import Subscriber
from bytebrew.contract.route import Record, unrecorded
from bytebrew.contract.tool import Tool
from bytebrew.conversation.remote.remote_turns import RemoteTurn
from bytebrew.conversation.runner import Runner
from bytebrew.conversation.turn import Turn, owner_alone
from bytebrew.nodes.node import Node
from bytebrew.nodes.signals import Ids, SignalCentre
from bytebrew.store import notifications, sessions, task_approvals, task_changes, task_queue, tasks, turn_results, turns
from bytebrew.store.configuration import schemas
from bytebrew.store.database.database import Database
from bytebrew.store.database.outage import patient
from bytebrew.store.open_turns import unfinished_tools
from bytebrew.store.tasks import Claim
from bytebrew.store.turn_results import Outcome

log = logging.getLogger(__name__)

TEMPORARY_FAILURES = frozenset(
    {
        "model_rate_limited",
        "model_overloaded",
        "model_unavailable",
        "model_timeout",
        "model_error",
        "interrupted",
        "storage",
    }
)
"""Error codes after which another attempt may succeed."""
BACKOFF = 10.0
"""Mean seconds before the second attempt; doubled before each further one, up to an hour."""
LOOK_SECONDS = 60.0
"""Longest interval between two checks for due tasks, because the wall clock may be set."""


class Tasks(engine.Tasks):
    """Runs tasks by priority, `task_workers` at a time; one that waits for a person occupies no worker.

    Methods with an `actor` raise NotFound for a task that the actor may not see. `record` stores the records of a
    request, `record_action` an action without a request, both within the transaction.
    """

    def __init__(
        self,
        db: Database,
        runner: Runner,
        tools: Mapping[str, Tool],
        core: Core,
        record_action: Callable[[Connection, Action], None],
        publish: Subscriber,
        node: Node,
        signals: SignalCentre,
    ) -> None:
        self._db = db
        self._node = node
        self._runner = runner
        self._tools = tools
        self._core = core
        self._record_action = record_action
        self._publish = publish
        self._running: dict[str, Turn | RemoteTurn | None] = {}
        self._woken = anyio.Event()
        self._looked = datetime.max.replace(tzinfo=UTC)
        self._group: TaskGroup | None = None
        self._taking, self._claiming = False, anyio.Lock()
        self._signals = signals
        signals.on("tasks", self._follow)

    def run(self, group: TaskGroup) -> None:
        """Runs tasks in the task group from now on, as soon as `adopt` has found those that were left open."""
        self._group = group

    async def adopt(self) -> None:
        """Continues the tasks of this node that another engine has left open, after their turns."""
        assert self._group is not None
        async with self._claiming:  # a claim between its commit and its turn is not left open
            claims = await self._db.write(tasks.left_open, self._node.id, [*self._running])
            open_turns = self._runner.turns
            ends_with = {turn_id: turn for turn in open_turns.values() for turn_id, _ in turn.unresumable} | open_turns
            for left in claims:
                self._running[left.turn_id] = ends_with.get(left.turn_id)
                self._group.start_soon(self._attend, left, False)
        if not self._taking:
            self._taking = True
            self._group.start_soon(self._take)

    add = staticmethod(tasks.create)
    check = staticmethod(tasks.check)

    def wake(self) -> None:
        self._woken.set()

    async def _follow(self, ids: Ids) -> None:
        """Looks for tasks that another node has no worker for; without a signal only if there are some."""
        if ids is not None or await self._db.glance(task_queue.any_waits):
            self.wake()

    async def of_session(self, session_id: str) -> list[Task]:
        return await self._db.read(tasks.of_session, session_id)

    async def ready(self, session_id: str) -> list[Task]:
        return await self._db.read(tasks.ready, session_id)

    async def at_hand(self, turn_id: str) -> Task | None:
        return await self._db.read(tasks.at_hand, turn_id)

    async def update(
        self, task_id: str, actor: Actor | None, patch: TaskPatch, *, by: str = "", record: Record = unrecorded
    ) -> Task:
        def update(conn: Connection) -> Task:
            before = tasks.get(conn, task_id, actor)
            task = task_changes.update(conn, task_id, actor, patch)
            record(conn, task)
            self._record_withdrawal(conn, before, task, by)
            return task

        task = await self._db.write(update)
        self.wake()
        return task

    async def assign(self, task_id: str, actor: Actor | None, agent: str, *, by: str) -> Task:
        def assign(conn: Connection) -> Task:
            before = tasks.get(conn, task_id, actor)
            task = task_changes.assign(conn, task_id, actor, agent)
            self._record_withdrawal(conn, before, task, by)
            return task

        task = await self._db.write(assign)
        self.wake()
        return task

    def _record_withdrawal(self, conn: Connection, before: Task, after: Task, by: str) -> None:
        """Records that an agent or the engine withdrew an approval; requests are recorded elsewhere."""
        if not by or before.approved_at is None or after.approved_at is not None:
            return
        log.warning("task %s was changed after its approval and is a draft again", before.id)
        self._record_action(
            conn,
            Action(
                moment=now(),
                actor=Actor(subject=f"agent:{by}", name=by, kind="user", scopes=frozenset()),
                name="task.withdraw",
                resource=f"TASK {before.id}",
                resource_type="task",
                resource_id=before.id,
                status=200,
                client="",
                request_id="",
                before=masked_value(msgspec.to_builtins(before)),
                after=masked_value(msgspec.to_builtins(after)),
            ),
        )

    async def cancel(self, task_id: str, actor: Actor | None, reason: str = "", *, record: Record = unrecorded) -> None:
        def cancel(conn: Connection) -> list[str]:
            cancelled = task_changes.cancel(conn, task_id, actor, reason)
            record(conn, None)
            for ended in cancelled:
                self._publish(conn, notifications.task_ended(tasks.get(conn, ended)))
            return [turn_id for turn_id in cancelled.values() if turn_id]

        for turn_id in await self._db.write(cancel):
            await self._runner.cancel_turn(turn_id)
        self.wake()

    async def move(
        self,
        task_id: str,
        actor: Actor | None,
        status: TaskStatus,
        result: str | None = None,
        *,
        within: str = "",
        seen: str | None = None,
        record: Record = unrecorded,
    ) -> Task:
        """Changes a task's status; the turn that works on it is cancelled unless the call comes from `within` it.

        `result` is that of a task that has ended. `seen` is the digest of what a person approves, "" if they sent none;
        None for an agent's own list.
        """

        def move(conn: Connection) -> tuple[Task, str | None]:
            task, turn_id = task_changes.move(conn, task_id, actor, status, result, seen)
            record(conn, task)
            if task.status in tasks.ENDED:
                self._publish(conn, notifications.task_ended(task))
            return task, turn_id

        task, turn_id = await self._db.write(move)
        if turn_id is not None and turn_id != within:
            await self._runner.cancel_turn(turn_id)
        self.wake()
        return task

    async def _take(self) -> None:
        patient.set(True)
        while not self._runner.draining:
            self._woken = anyio.Event()
            try:
                seconds = await self._take_all()
            except StorageError as error:
                log.warning("tasks wait for the database: %s", error)
                seconds = 5.0
            except Exception:
                log.exception("no task could be taken; trying again in a moment")
                seconds = 5.0
            with anyio.move_on_after(seconds):
                await self._woken.wait()

    async def _take_all(self) -> float:
        """Takes as many tasks as there are free workers; returns the seconds until another may be due."""
        core, db, moment = self._core, self._db, datetime.now(UTC)
        if moment < self._looked:  # includes the start: the clock may have been set while the engine was down
            await db.write(task_queue.set_back, moment)
        self._looked = moment
        while sum(turn is None or not turn.holds for turn in self._running.values()) < core.task_workers:
            async with self._claiming:
                if claim := await db.write(self._claimed, core.tasks_per_agent):
                    self._running[claim.turn_id] = None
            if claim is None:
                due = await db.read(tasks.next_moment)
                until = (parse_time(due) - datetime.now(UTC)).total_seconds() if due else LOOK_SECONDS
                return max(0.05, min(until, LOOK_SECONDS))
            assert self._group is not None
            self._group.start_soon(self._attend, claim, True)
        self._signals.send("tasks")
        return LOOK_SECONDS

    def _claimed(self, conn: Connection, per_agent: int) -> Claim | None:
        """The next task to run; one that was changed since its approval becomes a draft again."""
        while claim := tasks.claim(conn, per_agent, self._node.id):
            if claim.approved in (None, claim.task.digest):
                return claim
            task_approvals.withdraw(conn, claim.task.id, claim.turn_id)
            self._record_withdrawal(conn, claim.task, tasks.get(conn, claim.task.id), "engine")
        return None

    async def _attend(self, claim: Claim, begin: bool) -> None:
        """Runs an attempt until its end is recorded; one that a shutdown interrupts resumes at the next start."""
        failure: Outcome | None = None
        patient.set(True)
        try:
            if begin:
                failure = await self._try_to_begin(claim)
            if turn := self._running[claim.turn_id]:
                await turn.wait_recorded()
            while True:
                if await self._record_end(claim, failure):
                    break
                await anyio.sleep(1)
        except Exception:
            log.exception("the end of task %s could not be recorded", claim.task.id)
        finally:
            del self._running[claim.turn_id]
            self.wake()

    async def _try_to_begin(self, claim: Claim) -> Outcome | None:
        """Starts an attempt; if it cannot start, returns its outcome."""
        try:
            turn = await self._begin(claim)
        except Draining:
            return None
        except EngineError as error:
            return Outcome("failed", error.message, error.code)
        except Exception:
            log.exception("task %s could not begin", claim.task.id)
            return Outcome("failed", f"The engine failed; its log has the trace of {claim.task.id}", "internal_error")
        self._running[turn.id] = turn
        with suppress(StorageError):  # recorded only if the task is still claimed
            if not await self._db.read(tasks.is_claimed, claim.task.id, turn.id):  # it ended before it had a turn
                await self._runner.cancel_turn(turn.id)
        return None

    async def _begin(self, claim: Claim) -> Turn | RemoteTurn:
        task = claim.task
        entrance = await self._db.read(schemas.member, task.schema, task.agent)
        message = task_message(task)
        if await self._db.read(tasks.was_delivered, task.session_id, message):
            message = f"The attempt before failed: {task.error}. Go on with the task."
        turn = self._runner.turn(_turn(claim, message, self._core.task_timeout), entrance)
        return await self._runner.submit(turn)

    async def _record_end(self, claim: Claim, failure: Outcome | None) -> bool:
        """Records the outcome of an attempt; False if the database rejects it for now."""
        db, core, task = self._db, self._core, claim.task
        draining = self._runner.draining
        try:
            ending = failure or await db.read(turn_results.outcome, claim.turn_id)
            if ending is None:
                if draining or await db.read(sessions.owner, task.session_id) is not None:
                    return True
                ending = Outcome("cancelled", "", "")  # its session was deleted
            result, retry_at = self._result(ending), None
            if ending.code in TEMPORARY_FAILURES and task.attempts <= core.task_retries:
                if interrupted := await self._interrupted_tools(claim.turn_id):
                    result += f". Whether {interrupted} took effect is not known, so the task is not tried again"
                    result += " by itself"
                else:
                    seconds = min(BACKOFF * 2 ** (task.attempts - 1), 3600) * random.uniform(0.5, 1.5)  # noqa: S311
                    retry_at = rfc3339(datetime.now(UTC) + timedelta(seconds=seconds))
            await db.write(self._settle, task.id, claim.turn_id, ending.status, result, retry_at)
        except StorageError as error:
            log.warning("the end of task %s is not recorded yet: %s", task.id, error)
            return draining
        return True

    def _settle(
        self, conn: Connection, task_id: str, turn_id: str, status: str, text: str, retry_at: str | None
    ) -> None:
        if tasks.settle(conn, task_id, turn_id, status, text, retry_at):
            self._publish(conn, notifications.task_ended(tasks.get(conn, task_id)))

    async def _interrupted_tools(self, turn_id: str) -> str:
        """The tools of an attempt without a recorded result that another attempt may not run again."""
        tools = self._tools  # not toolsets: spawning an agent is idempotent within one turn only
        names = await self._db.read(unfinished_tools, turn_id)
        return ", ".join(name for name in names if name not in tools or not tools[name].idempotent)

    def _result(self, ending: Outcome) -> str:
        if ending.status == "cancelled":
            return "Its turn was cancelled"
        if ending.code == "turn_timeout":
            seconds = self._core.task_timeout
            return f"The task took longer than {seconds:g} s; raise BYTEBREW_TASK_TIMEOUT"
        return ending.text


def task_message(task: Task) -> str:
    """The first message to the agent of a task."""
    parts = [task.title, task.description]
    if task.acceptance_criteria:
        parts.append("It is done when:\n" + "\n".join(f"- {criterion}" for criterion in task.acceptance_criteria))
    return "\n\n".join(part for part in parts if part)


def _turn(claim: Claim, message: str, time_limit: float) -> turns.NewTurn:
    """A turn for an attempt of a task, in the task's session."""
    return turns.NewTurn(
        id=claim.turn_id,
        session_id=claim.task.session_id,
        schema=claim.task.schema,
        agent=claim.task.agent,
        actor=owner_alone(claim.owner),
        owner=claim.owner,
        user_sub=claim.user_sub,
        message=message,
        time_limit=time_limit,
        fresh=True,
        begins=False,
    )
