"""Background tasks: workers that run them as turns, each in a session of its own."""

import logging
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio
import msgspec
from anyio.abc import TaskGroup

from bytebrew.base.errors import Draining, EngineError, StorageError
from bytebrew.base.formats import now, parse_time, rfc3339
from bytebrew.base.masking import masked_value
from bytebrew.contract.action import Action
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import NewTask, Task, TaskPatch, TaskSource, TaskStatus
from bytebrew.contract.route import Record, unrecorded
from bytebrew.conversation.turn import Turn
from bytebrew.store import mending, schemas, sessions, task_approvals, task_steps, tasks, turns
from bytebrew.store.tasks import Claim
from bytebrew.store.turns import Ending

if TYPE_CHECKING:
    from bytebrew.engine import Engine

log = logging.getLogger(__name__)

PASSING = frozenset(
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
"""The failures of a turn after which another attempt may go better."""
BACKOFF = 10.0
"""Seconds before the second attempt, on average; twice as many before each further one, up to an hour."""
LOOK = 60.0
"""Seconds after which the workers look at the clock again at most: it may have been set."""


class Tasks:
    """Takes tasks by urgency and runs so many at a time as the settings say; one that asks a person takes no worker.

    Steps are taken for an actor who may see the task; None stands for one of whom that is known already.
    """

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._running: dict[str, Turn | None] = {}
        self._woken = anyio.Event()
        self._looked = datetime.max.replace(tzinfo=UTC)
        self._group: TaskGroup | None = None

    async def run(self, group: TaskGroup) -> None:
        """Goes on with what a stopped engine left, then takes tasks as they come."""
        self._group = group
        claims, open_turns = await self._engine.db.write(tasks.left_open), self._engine.runner.turns
        ends_with = {turn_id: turn for turn in open_turns.values() for turn_id, _ in turn.hopeless} | open_turns
        for left in claims:
            self._running[left.turn_id] = ends_with.get(left.turn_id)
            group.start_soon(self._attend, left, False)
        group.start_soon(self._take)

    def add(
        self,
        conn: Connection,
        new: NewTask,
        owner: str,
        source: TaskSource,
        *,
        task_id: str = "",
        made_in: str | None = None,
    ) -> Task:
        """A new task of the owner's, within a transaction; once that is committed, `wake` has a worker take it.

        A `task_id` that is there already is the answer. `made_in` is the session whose agent makes the task: whose
        that is, the task is too; that is where an interactive one is worked on, any other has a session of its own.
        """
        return tasks.create(conn, new, owner, source, task_id=task_id, made_in=made_in)

    def check(self, conn: Connection, agent: str, schema: str) -> None:
        """Unprocessable unless there is such an agent, and in the schema where one is named."""
        tasks.check(conn, agent, schema)

    def wake(self) -> None:
        """Has the workers look again."""
        self._woken.set()

    async def of_session(self, session_id: str) -> list[Task]:
        """The tasks that are worked on in a session or were made by its agent, oldest first."""
        return await self._engine.db.read(tasks.of_session, session_id)

    async def ready(self, session_id: str) -> list[Task]:
        """Those of a session that wait and whose blockers have all been completed, the most urgent first."""
        return await self._engine.db.read(tasks.ready, session_id)

    async def at_hand(self, turn_id: str) -> Task | None:
        """The task that is worked on in a turn, or in the one far above that has spawned its agent."""
        return await self._engine.db.read(tasks.at_hand, turn_id)

    async def update(
        self, task_id: str, actor: Actor | None, patch: TaskPatch, *, by: str = "", record: Record = unrecorded
    ) -> Task:
        """The task with the patch merged in, a draft again if it was approved; Conflict once it has ended.

        `by` is the agent that changes it, where no request does.
        """

        def update(conn: Connection) -> Task:
            before = tasks.get(conn, task_id, actor)
            task = task_steps.update(conn, task_id, actor, patch)
            record(conn, task)
            self._record_withdrawal(conn, before, task, by)
            return task

        task = await self._engine.db.write(update)
        self.wake()
        return task

    async def assign(self, task_id: str, actor: Actor | None, agent: str, *, by: str) -> Task:
        """The task given by an agent to another to do in the background; a draft again if it was approved."""

        def assign(conn: Connection) -> Task:
            before = tasks.get(conn, task_id, actor)
            task = task_steps.assign(conn, task_id, actor, agent)
            self._record_withdrawal(conn, before, task, by)
            return task

        task = await self._engine.db.write(assign)
        self.wake()
        return task

    def _record_withdrawal(self, conn: Connection, before: Task, after: Task, by: str) -> None:
        """Records that an approval is gone, where it was no request that took it."""
        if not by or before.approved_at is None or after.approved_at is not None:
            return
        log.warning("task %s was changed after its approval and is a draft again", before.id)
        self._engine.record(
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
        """Cancels a task with all below it, and the turns in which they are worked on."""

        def cancel(conn: Connection) -> list[str]:
            turn_ids = task_steps.cancel(conn, task_id, actor, reason)
            record(conn, None)
            return turn_ids

        for turn_id in await self._engine.db.write(cancel):
            self._stop(turn_id)
        self.wake()

    async def move(
        self,
        task_id: str,
        actor: Actor | None,
        status: TaskStatus,
        words: str | None = None,
        *,
        within: str = "",
        seen: str | None = None,
        record: Record = unrecorded,
    ) -> Task:
        """Takes a task to another status by hand; the turn that works on it is cancelled unless it is `within` that.

        `seen` is the digest of what a person approves, "" where they do not say; None stands for an agent's own list.
        """

        def move(conn: Connection) -> tuple[Task, str | None]:
            task, turn_id = task_steps.move(conn, task_id, actor, status, words, seen)
            record(conn, task)
            return task, turn_id

        task, turn_id = await self._engine.db.write(move)
        if turn_id is not None and turn_id != within:
            self._stop(turn_id)
        self.wake()
        return task

    def _stop(self, turn_id: str) -> None:
        if turn := self._engine.runner.turns.get(turn_id):
            turn.cancel("cancelled")

    async def _take(self) -> None:
        while not self._engine.runner.draining:
            self._woken = anyio.Event()
            try:
                seconds = await self._take_all()
            except Exception:
                log.exception("no task could be taken; trying again in a moment")
                seconds = 5.0
            with anyio.move_on_after(seconds):
                await self._woken.wait()

    async def _take_all(self) -> float:
        """Takes as many tasks as there are free workers; the seconds after which another may be due."""
        core, db, moment = self._engine.settings.core, self._engine.db, datetime.now(UTC)
        if moment < self._looked:  # the first look too, for a clock may be set while the engine is down
            await db.write(mending.set_back, moment)
        self._looked = moment
        while sum(turn is None or not turn.holds for turn in self._running.values()) < core.task_workers:
            claim = await db.write(self._claimed, core.tasks_per_agent)
            if claim is None:
                due = await db.read(tasks.next_moment)
                until = (parse_time(due) - datetime.now(UTC)).total_seconds() if due else LOOK
                return max(0.05, min(until, LOOK))
            self._running[claim.turn_id] = None
            assert self._group is not None
            self._group.start_soon(self._attend, claim, True)
        return LOOK

    def _claimed(self, conn: Connection, per_agent: int) -> Claim | None:
        """The next task to run; one that is not what was approved becomes a draft again."""
        while claim := tasks.claim(conn, per_agent):
            if claim.approved in (None, claim.task.digest):
                return claim
            task_approvals.withdraw(conn, claim.task.id, claim.turn_id)
            self._record_withdrawal(conn, claim.task, tasks.get(conn, claim.task.id), "engine")
        return None

    async def _attend(self, claim: Claim, begin: bool) -> None:
        """Sees an attempt to its recorded end; what a stopping engine leaves goes on at the next start."""
        fault: Ending | None = None
        try:
            if begin:
                fault = await self._begun(claim)
            if turn := self._running[claim.turn_id]:
                await turn.end()
            while True:
                if await self._recorded(claim, fault):
                    break
                await anyio.sleep(1)
        except Exception:
            log.exception("the end of task %s could not be recorded", claim.task.id)
        finally:
            del self._running[claim.turn_id]
            self.wake()

    async def _begun(self, claim: Claim) -> Ending | None:
        """Begins what was claimed; why it failed where that cannot be."""
        try:
            turn = await self._begin(claim)
        except Draining:
            return None
        except EngineError as error:
            return Ending("failed", error.message, error.code)
        except Exception:
            log.exception("task %s could not begin", claim.task.id)
            return Ending("failed", f"The engine failed; its log has the trace of {claim.task.id}", "internal_error")
        self._running[turn.id] = turn
        with suppress(StorageError):  # at its end it is seen whether the task is still claimed
            if not await self._engine.db.read(tasks.is_claimed, claim.task.id, turn.id):  # whoever ended it saw no turn
                turn.cancel("cancelled")
        return None

    async def _begin(self, claim: Claim) -> Turn:
        engine, task = self._engine, claim.task
        entrance = await engine.db.read(schemas.member, task.schema, task.agent)
        message = words(task)
        if await engine.db.read(tasks.was_delivered, task.session_id, message):
            message = f"The attempt before failed: {task.error}. Go on with the task."
        new = turns.NewTurn(
            id=claim.turn_id,
            session_id=task.session_id,
            schema=task.schema,
            agent=task.agent,
            actor=Actor(subject=claim.owner, name=claim.owner, kind="user", scopes=frozenset()),
            owner=claim.owner,
            user_sub=claim.user_sub,
            message=message,
            time_limit=engine.settings.core.task_timeout,
            fresh=True,
            begins=False,
        )
        turn = engine.runner.turn(new, entrance)
        await engine.runner.submit(turn)
        return turn

    async def _recorded(self, claim: Claim, fault: Ending | None) -> bool:
        """Records how an attempt has ended; False where the file does not take it yet."""
        db, core, task = self._engine.db, self._engine.settings.core, claim.task
        draining = self._engine.runner.draining
        try:
            ending = fault or await db.read(turns.outcome, claim.turn_id)
            if ending is None:
                if draining or await db.read(sessions.owner, task.session_id) is not None:
                    return True
                ending = Ending("cancelled", "", "")  # with its session
            told, retry_at = self._reason(ending), None
            if ending.code in PASSING and task.attempts <= core.task_retries:
                if cut := await self._cut(claim.turn_id):
                    told += f". Whether {cut} took effect is not known, so the task is not tried again by itself"
                else:
                    seconds = min(BACKOFF * 2 ** (task.attempts - 1), 3600) * random.uniform(0.5, 1.5)  # noqa: S311
                    retry_at = rfc3339(datetime.now(UTC) + timedelta(seconds=seconds))
            await db.write(tasks.settle, task.id, claim.turn_id, ending.status, told, retry_at)
        except StorageError as error:
            log.warning("the end of task %s is not recorded yet: %s", task.id, error)
            return draining
        return True

    async def _cut(self, turn_id: str) -> str:
        """The tools of an attempt of which no result is recorded and that another attempt may not simply run again."""
        known = self._engine.tools  # not toolsets: what spawns an agent is idempotent within one turn only
        cut = await self._engine.db.read(turns.cut_tools, turn_id)
        return ", ".join(name for name in cut if name not in known or not known[name].idempotent)

    def _reason(self, ending: Ending) -> str:
        if ending.status == "cancelled":
            return "Its turn was cancelled"
        if ending.code == "turn_timeout":
            seconds = self._engine.settings.core.task_timeout
            return f"The task took longer than {seconds:g} s; raise BYTEBREW_TASK_TIMEOUT"
        return ending.words


def words(task: Task) -> str:
    """The message with which the agent of a task begins."""
    parts = [task.title, task.description]
    if task.acceptance_criteria:
        parts.append("It is done when:\n" + "\n".join(f"- {one}" for one in task.acceptance_criteria))
    return "\n\n".join(part for part in parts if part)
