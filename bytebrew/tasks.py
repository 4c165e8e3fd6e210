"""Background tasks: workers that run them as turns, each in a session of its own."""

import logging
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from bytebrew.auth import Actor
from bytebrew.config import NewTask
from bytebrew.errors import Draining, EngineError
from bytebrew.notation import parse_time, rfc3339
from bytebrew.runner import Turn
from bytebrew.store import schemas, tasks, turns
from bytebrew.store.tasks import Claim, Source, Task

if TYPE_CHECKING:
    from bytebrew.engine import Engine

log = logging.getLogger(__name__)

PASSING = frozenset(
    {"model_rate_limited", "model_overloaded", "model_unavailable", "model_timeout", "model_error", "interrupted"}
)
"""The failures of a turn after which another attempt may go better."""
BACKOFF = 10.0
"""Seconds before the second attempt, on average; twice as many before each further one."""


class Tasks:
    """Takes tasks by urgency and runs so many at a time as the settings say."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._running = 0
        self._woken = anyio.Event()
        self._group: TaskGroup | None = None

    async def run(self, group: TaskGroup) -> None:
        """Goes on with what a stopped engine left, then takes tasks as they come."""
        self._group = group
        for left in await self._engine.db.write(tasks.left_open):
            self._running += 1
            group.start_soon(self._attend, left, self._engine.runner.turns.get(left.turn_id))
        group.start_soon(self._take)

    async def create(
        self, new: NewTask, actor: Actor, source: Source = "api", *, session_id: str | None = None
    ) -> Task:
        """A new task of the actor's, which a worker takes unless it waits for something."""
        task = await self._engine.db.write(tasks.create, new, actor.subject, source, session_id=session_id)
        self.wake()
        return task

    def wake(self) -> None:
        """Has the workers look again."""
        self._woken.set()

    async def cancel(self, task_id: str, actor: Actor, reason: str = "") -> None:
        """Cancels a task with all below it, and the turns in which they are worked on."""
        for task in await self._engine.db.write(tasks.cancel, task_id, actor, reason):
            self._engine.runner.cancel(task.session_id)
        self.wake()

    async def move(self, task_id: str, actor: Actor, status: tasks.Status, words: str | None = None) -> Task:
        """Takes a task to another status by hand; a turn that works on one that has ended is cancelled."""
        task, before = await self._engine.db.write(tasks.move, task_id, actor, status, words=words)
        if before in ("in_progress", "needs_input") and status in tasks.ENDED:
            self._engine.runner.cancel(task.session_id)
        self.wake()
        return task

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
        core, db = self._engine.settings.core, self._engine.db
        while self._running < core.task_workers:
            claim = await db.write(tasks.claim, core.tasks_per_agent)
            if claim is None:
                break
            self._running += 1
            assert self._group is not None
            self._group.start_soon(self._attempt, claim)
        moment = await db.read(tasks.next_moment)
        if moment is None or self._running == core.task_workers:
            return 3600.0
        return max(0.05, (parse_time(moment) - datetime.now(UTC)).total_seconds())

    async def _attempt(self, claim: Claim) -> None:
        try:
            turn = await self._begin(claim)
        except Draining:
            turn = None
        except EngineError as error:
            await self._engine.db.write(tasks.settle, claim.task.id, claim.turn_id, "failed", error.message, None)
            turn = None
        await self._attend(claim, turn)

    async def _begin(self, claim: Claim) -> Turn:
        engine, task = self._engine, claim.task
        entrance = await engine.db.read(schemas.member, task.schema, task.agent)
        again = await engine.db.read(turns.exist, task.session_id)
        new = turns.NewTurn(
            id=claim.turn_id,
            session_id=task.session_id,
            schema=task.schema,
            agent=task.agent,
            actor=Actor(subject=claim.owner, name=claim.owner, kind="user", scopes=frozenset()),
            owner=claim.owner,
            user_sub="",
            message=f"The attempt before failed: {task.error}. Go on with the task." if again else words(task),
            time_limit=engine.settings.core.task_timeout,
            fresh=True,
            begins=False,
        )
        turn = engine.runner.turn(new, entrance)
        await engine.runner.submit(turn)
        return turn

    async def _attend(self, claim: Claim, turn: Turn | None) -> None:
        """Waits for the end of an attempt and records it."""
        db = self._engine.db
        try:
            if turn is not None:
                await turn.end()
            outcome = await db.read(turns.outcome, claim.turn_id)
            if outcome is not None:
                retry_at = None
                if outcome.code in PASSING and claim.task.attempts <= self._engine.settings.core.task_retries:
                    seconds = BACKOFF * 2 ** (claim.task.attempts - 1) * random.uniform(0.5, 1.5)  # noqa: S311
                    retry_at = rfc3339(datetime.now(UTC) + timedelta(seconds=seconds))
                await db.write(tasks.settle, claim.task.id, claim.turn_id, outcome.status, outcome.words, retry_at)
        except Exception:
            log.exception("the end of task %s could not be recorded", claim.task.id)
        finally:
            self._running -= 1
            self.wake()


def words(task: Task) -> str:
    """The message with which the agent of a task begins."""
    parts = [task.title, task.description]
    if task.acceptance_criteria:
        parts.append("It is done when:\n" + "\n".join(f"- {one}" for one in task.acceptance_criteria))
    return "\n\n".join(part for part in parts if part)
