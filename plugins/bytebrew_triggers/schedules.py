"""Schedules: the next due time is stored in the transaction that creates the task, so that each fires once."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from bytebrew import Connection, Engine, EngineError, NewTask, Row, StateKey, StorageError, Task, rfc3339

from . import store
from .definition import NewSchedule, SchedulePatch, Timing, changes, next_moment, owner_after
from .store import SCHEDULE

log = logging.getLogger(__name__)
FAR = timedelta(hours=1)
DUTY = "schedules"
LONGEST_SLEEP = 60.0
"""Longest sleep in seconds, because the clock may be set."""


class Schedules:
    """Creates the tasks of due schedules."""

    def __init__(self, engine: Engine, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._clock = clock
        self._changed = asyncio.Event()
        self._started = self._looked = datetime.max.replace(tzinfo=UTC)

    def start(self) -> None:
        """Fires while this node leads; times before its start count as missed, even if it comes to lead later."""
        self._started = self._clock()
        self._engine.duties.add(DUTY, self._keep, self._changed.set)

    def wake(self) -> None:
        """Recomputes when the next schedule is due."""
        self._engine.duties.wake(DUTY)

    def create(self, conn: Connection, new: NewSchedule, owner: str) -> Row:
        """Creates a schedule whose tasks belong to the owner."""
        return store.create(conn, SCHEDULE, new, owner=owner, next_at=self._checked(conn, new))

    def update(self, conn: Connection, name: str, patch: SchedulePatch, by: str) -> Row:
        """The schedule with the patch merged in; its next time stays, unless its timing has changed."""
        row = store.get(conn, SCHEDULE, name)
        old: NewSchedule = store.definition(row, SCHEDULE)
        new = replace(old, **changes(patch))
        next_at = self._checked(conn, new)
        if (old.cron, old.timezone, old.enabled) == (new.cron, new.timezone, new.enabled):
            next_at = row["next_at"] or next_at
        return store.update(conn, SCHEDULE, new, next_at=next_at, owner=owner_after(row["owner"], old, new, by))

    def _checked(self, conn: Connection, schedule: NewSchedule) -> float | None:
        moment = next_moment(schedule, self._clock())
        if not schedule.enabled:  # a disabled one may name a deleted agent
            return None
        self._engine.tasks.check(conn, schedule.agent, schedule.schema)
        return moment.timestamp()

    def moments(self, timing: Timing, count: int) -> list[datetime]:
        """The next times at which such a schedule would fire; fewer if it ends before."""
        found = [next_moment(timing, self._clock())]
        with suppress(EngineError):
            while len(found) < count:
                found.append(next_moment(timing, found[-1]))
        return found

    def run(self, conn: Connection, name: str) -> Task:
        """A task of a schedule out of turn; the schedule's next time stays."""
        row = store.get(conn, SCHEDULE, name)
        task = self._engine.tasks.add(conn, _task(store.definition(row, SCHEDULE)), row["owner"], "schedule")
        store.put(conn, SCHEDULE, name, last_task_id=task.id, last_error=None, last_at=rfc3339(self._clock()))
        return task

    async def fire(self) -> float:
        """Creates the tasks that are due; returns the seconds until the next ones."""
        moment = self._clock()
        if moment < self._looked:  # includes the first check: the clock may have been set while the engine was down
            await self._engine.db.write(self._set_back, moment)
            self._started = min(self._started, moment)
        self._looked = moment
        due = await self._engine.db.write(self._fire, moment)
        self._engine.tasks.wake()
        return LONGEST_SLEEP if due is None else min(due - self._clock().timestamp(), LONGEST_SLEEP)

    def _set_back(self, conn: Connection, moment: datetime) -> None:
        """Recomputes due times after the clock was set back.

        A time within the next hour at which a schedule has fired does not fire again.
        """
        for row in conn.execute("select * from triggers_schedules where next_at is not null").fetchall():
            schedule: NewSchedule = store.definition(row, SCHEDULE)
            fired = datetime.fromisoformat(row["last_at"]) if row["last_at"] else moment
            after = fired if moment < fired <= moment + FAR else moment
            with suppress(EngineError):  # no further time: `_fire` records that
                if (next_at := next_moment(schedule, after).timestamp()) < row["next_at"]:
                    store.put(conn, SCHEDULE, schedule.name, next_at=next_at)

    def _fire(self, conn: Connection, moment: datetime) -> float | None:
        sql = "select * from triggers_schedules where next_at <= ? order by next_at, name"
        for row in conn.execute(sql, (moment.timestamp(),)).fetchall():
            schedule: NewSchedule = store.definition(row, SCHEDULE)
            try:
                next_at = next_moment(schedule, moment).timestamp()
            except EngineError as error:  # such as a missing time zone; other schedules continue
                log.warning("schedule %s fires no more: %s", schedule.name, error)
                store.put(conn, SCHEDULE, schedule.name, next_at=None, last_error=error.message)
                continue
            if row["next_at"] < self._started.timestamp() and schedule.missed == "skip":
                log.info("schedule %s was due while the engine was down; skipped", schedule.name)
                store.put(conn, SCHEDULE, schedule.name, next_at=next_at)
                continue
            task_id = fault = None
            try:
                task_id = self._engine.tasks.add(conn, _task(schedule), row["owner"], "schedule").id
            except EngineError as error:
                log.warning("schedule %s makes no task: %s", schedule.name, error)
                fault = error.message
            made = {"last_task_id": task_id, "last_error": fault, "last_at": rfc3339(moment)}
            store.put(conn, SCHEDULE, schedule.name, next_at=next_at, **made)
        found: float | None = conn.execute(
            "select min(next_at) from triggers_schedules where next_at is not null"
        ).fetchone()[0]
        return found

    async def _keep(self) -> None:
        while True:
            self._changed.clear()
            try:
                seconds = await self.fire()
            except StorageError as error:
                log.warning("the schedules wait for the database: %s", error)
                seconds = 5.0
            except Exception:
                log.exception("the schedules could not fire; trying again in a moment")
                seconds = 5.0
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, seconds)):
                    await self._changed.wait()


def _task(schedule: NewSchedule) -> NewTask:
    return NewTask(
        agent=schedule.agent,
        title=schedule.title or schedule.name,
        description=schedule.message,
        schema=schedule.schema,
    )


SCHEDULES = StateKey[Schedules]("schedules")
