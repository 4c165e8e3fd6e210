"""The workers: what they take, in which order, how often, and that kill -9 loses and doubles nothing."""

import asyncio
import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bytebrew.base.errors import ProviderError
from bytebrew.base.formats import now, parse_time, rfc3339
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import NewTask, Task
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.messages import ToolCall
from bytebrew.contract.tool import tool
from bytebrew.engine import Engine
from bytebrew.store import task_changes, tasks
from bytebrew.store.sqlite.migrate import migrate
from bytebrew.store.sqlite.migrations import CORE
from bytebrew.store.sqlite.pragmas import connect
from bytebrew.testing import ScriptedProvider, Step, plugin, providing, scripted_schema, served_engine
from tests.conversation.test_confirmations import Setup, answer, configure, processes
from tests.conversation.test_recovery import pending
from tests.ledger import Ledger
from tests.stored import allow, refuse

__all__ = ["processes"]

TASKS = 40
KILLS = int(os.environ.get("TASK_KILLS", "0"))
"""Kills of the long form, which has 500 tasks."""
ADMIN = Actor(subject="admin", name="admin", kind="user", scopes=frozenset({"admin"}))
OK: list[Step] = [MessageDelta(content="ok")]


class Desk:
    """An engine whose agents `test` and `spare` follow a script."""

    def __init__(self, engine: Engine, client: httpx.AsyncClient, model: ScriptedProvider) -> None:
        self.engine, self.client, self.model = engine, client, model

    async def add(self, title: str = "t", agent: str = "test", **fields: Any) -> str:
        """A new task."""
        new = NewTask(agent=agent, title=title, **fields)
        task = await self.engine.db.write(lambda conn: self.engine.tasks.add(conn, new, "admin", "api"))
        self.engine.tasks.wake()
        return task.id

    async def get(self, task_id: str) -> Task:
        return await self.engine.db.read(tasks.get, task_id)

    async def until(self, task_id: str, *statuses: str, attempts: int = 0) -> Task:
        """The task, once it has one of these statuses after so many attempts."""
        with anyio.fail_after(15):
            while (task := await self.get(task_id)).status not in statuses or task.attempts < attempts:
                await asyncio.sleep(0.005)
        return task

    async def execute(self, sql: str, *values: Any) -> None:
        await self.engine.db.write(lambda conn: conn.execute(sql, values))

    async def not_before(self, task_id: str) -> datetime:
        sql = "select not_before from tasks where id = ?"
        return parse_time(await self.engine.db.read(lambda conn: conn.execute(sql, (task_id,)).fetchone()[0]))

    async def hurry(self, task_id: str) -> None:
        """Ends the wait for the next attempt."""
        await self.execute("update tasks set not_before = ? where id = ?", now(), task_id)
        self.engine.tasks.wake()


@asynccontextmanager
async def opened(
    *answers: Sequence[Step], data: Path | None = None, extra: Sequence[tuple[str, object]] = (), **settings: str
) -> AsyncIterator[Desk]:
    """An engine whose model gives the script's answers, one for each call."""
    model = ScriptedProvider(*answers)
    given = {"BYTEBREW_PROVIDER_RETRIES": "0", **settings}
    async with served_engine(providing(model), *extra, data=data, settings=given) as served:
        engine, client = served
        if all(agent.name != "test" for agent in await engine.agents()):
            await scripted_schema(engine)
            await client.post("/api/v1/agents", json={"name": "spare", "model": "test"})
        yield Desk(engine, client, model)


def failure(code: str) -> list[Step]:
    return [ProviderError("The vendor says no", code=code)]


# What the agent is told


async def test_the_first_message_has_all_that_the_task_says() -> None:
    async with opened(OK) as desk:
        task_id = await desk.add("Tea", description="Green, please", acceptance_criteria=("hot", "two cups"))
        assert (await desk.until(task_id, "completed")).result == "ok"
    [asked] = desk.model.requests
    [message] = asked.messages
    assert message.content == "Tea\n\nGreen, please\n\nIt is done when:\n- hot\n- two cups"


# Which task, and how many at a time


async def order(desk: Desk, ids: Sequence[str]) -> list[str]:
    """The names of the tasks in the order in which they are claimed."""
    names = {task_id: (await desk.get(task_id)).title for task_id in ids}
    found = []
    while claim := await desk.engine.db.write(tasks.claim, 0):
        found.append(names[claim.task.id])
    return found


async def aged(desk: Desk, task_id: str, seconds: float) -> None:
    created = rfc3339(datetime.now(UTC) - timedelta(seconds=seconds))
    await desk.execute("update tasks set created_at = ? where id = ?", created, task_id)


async def test_the_most_urgent_task_is_first_and_then_the_oldest() -> None:
    async with opened(OK, BYTEBREW_TASK_WORKERS="0") as desk:
        ids = [await desk.add(f"{priority}{letter}", priority=priority) for letter in "ab" for priority in (0, 1, 2)]
        assert await order(desk, ids) == ["2a", "2b", "1a", "1b", "0a", "0b"]


async def test_waiting_ten_minutes_counts_as_much_as_a_step_of_priority() -> None:
    async with opened(OK, BYTEBREW_TASK_WORKERS="0") as desk:
        ids = [
            await desk.add(name, priority=priority)
            for name, priority in (("new 2", 2), ("new 1", 1), ("9 min 0", 0), ("11 min 0", 0), ("21 min 0", 0))
        ]
        for task_id, minutes in zip(ids[2:], (9, 11, 21), strict=True):
            await aged(desk, task_id, 60 * minutes)
        assert await order(desk, ids) == ["21 min 0", "new 2", "11 min 0", "new 1", "9 min 0"]


async def test_a_changed_priority_changes_the_order() -> None:
    async with opened(OK, BYTEBREW_TASK_WORKERS="0") as desk:
        ids = [await desk.add(name) for name in ("first", "second")]
        await desk.client.post(f"/api/v1/tasks/{ids[1]}/priority", json={"priority": 2})
        assert await order(desk, ids) == ["second", "first"]


@pytest.mark.parametrize("workers", [1, 3])
async def test_no_more_tasks_run_at_a_time_than_there_are_workers(workers: int) -> None:
    gate = asyncio.Event()
    async with opened([gate, *OK], BYTEBREW_TASK_WORKERS=str(workers)) as desk:
        ids = [await desk.add() for _ in range(5)]
        with anyio.fail_after(5):
            while len(desk.model.requests) < workers:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)
        statuses = [(await desk.get(task_id)).status for task_id in ids]
        assert statuses == ["in_progress"] * workers + ["pending"] * (5 - workers)
        gate.set()
        for task_id in ids:
            await desk.until(task_id, "completed")
    assert len(desk.model.requests) == 5


async def test_one_agent_does_not_take_all_workers() -> None:
    gate = asyncio.Event()
    async with opened([gate, *OK], BYTEBREW_TASKS_PER_AGENT="1") as desk:
        ids = [await desk.add(agent=agent) for agent in ("test", "test", "spare")]
        await desk.until(ids[2], "in_progress")
        await desk.until(ids[0], "in_progress")
        await asyncio.sleep(0.1)
        assert (await desk.get(ids[1])).status == "pending"
        mine = await desk.add(mode="interactive")
        await desk.client.post(f"/api/v1/tasks/{mine}/start")
        gate.set()
        await desk.until(ids[1], "completed")
        assert (await desk.get(mine)).status == "in_progress"


@pytest.mark.parametrize("setting", ["BYTEBREW_TASK_WORKERS", "BYTEBREW_TASKS_PER_AGENT"])
async def test_a_task_that_asks_a_person_makes_way_for_others(setting: str) -> None:
    answers: list[list[Step]] = [[ToolCall("current_time", {})], OK]
    given: dict[str, Any] = {setting: "1"}
    async with opened(*answers, **given) as desk:
        await desk.client.patch(
            "/api/v1/agents/test", json={"tools": ["current_time"], "confirm_before": ["current_time"]}
        )
        asking = await desk.add()
        await desk.until(asking, "needs_input")
        other = await desk.add()
        await desk.until(other, "completed")
        answered = await desk.client.post(f"/api/v1/tasks/{asking}/input", json={"answers": ["yes"]})
        assert answered.status_code == 200
        await desk.until(asking, "completed")


# What waits for what


async def test_a_task_waits_for_all_its_blockers() -> None:
    async with opened(OK) as desk:
        blockers = [await desk.add(mode="interactive") for _ in range(2)]
        task_id = await desk.add(blocked_by=tuple(blockers))
        for blocker in blockers:
            await asyncio.sleep(0.05)
            assert (await desk.get(task_id)).status == "pending"
            for status in ("in_progress", "completed"):
                await desk.engine.tasks.move(blocker, ADMIN, status)
        await desk.until(task_id, "completed")


@pytest.mark.parametrize("how", ["failed", "cancelled"])
async def test_a_blocker_that_failed_frees_nobody(how: str) -> None:
    async with opened(OK) as desk:
        blocker = await desk.add(mode="interactive")
        task_id = await desk.add(blocked_by=(blocker,))
        await desk.engine.tasks.move(blocker, ADMIN, "in_progress")
        if how == "failed":
            await desk.engine.tasks.move(blocker, ADMIN, "failed", "no")
        else:
            await desk.engine.tasks.cancel(blocker, ADMIN)
        await asyncio.sleep(0.1)
        assert (await desk.get(task_id)).status == "pending"
        freed = await desk.client.patch(f"/api/v1/tasks/{task_id}", json={"blocked_by": []})
        assert freed.status_code == 200
        await desk.until(task_id, "completed")


# How it fails


async def test_a_passing_failure_is_tried_again_after_twice_the_time() -> None:
    answers = [failure("model_overloaded"), failure("model_unavailable"), OK]
    async with opened(*answers) as desk:
        task_id = await desk.add("Tea")
        for attempt, seconds in ((1, 10), (2, 20)):
            task = await desk.until(task_id, "pending", attempts=attempt)
            assert (task.error, task.result, task.completed_at) == ("The vendor says no", None, None)
            wait = (await desk.not_before(task_id) - datetime.now(UTC)).total_seconds()
            assert seconds / 2 - 2 < wait < seconds * 1.5
            await desk.hurry(task_id)
        task = await desk.until(task_id, "completed")
        assert (task.attempts, task.result, task.error) == (3, "ok", None)
    last = [message.content for message in desk.model.requests[-1].messages if message.role == "user"]
    assert last[0] == "Tea"
    assert last[-1] == "The attempt before failed: The vendor says no. Go on with the task."


async def test_the_next_attempt_comes_by_itself() -> None:
    async with opened(failure("model_timeout"), OK) as desk:
        task_id = await desk.add()
        await desk.until(task_id, "pending", attempts=1)
        soon = rfc3339(datetime.now(UTC) + timedelta(seconds=0.5))
        await desk.execute("update tasks set not_before = ? where id = ?", soon, task_id)
        desk.engine.tasks.wake()
        await desk.until(task_id, "completed")
        assert now() >= soon


async def test_an_attempt_that_falls_due_while_the_workers_look_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    next_moment = tasks.next_moment

    def slow(conn: sqlite3.Connection, *given: Any) -> str | None:
        time.sleep(0.3)
        return next_moment(conn, *given)

    async with opened(failure("model_timeout"), OK) as desk:
        task_id = await desk.add()
        await desk.until(task_id, "pending", attempts=1)
        monkeypatch.setattr(tasks, "next_moment", slow)
        soon = rfc3339(datetime.now(UTC) + timedelta(seconds=0.15))
        await desk.execute("update tasks set not_before = ? where id = ?", soon, task_id)
        desk.engine.tasks.wake()
        with anyio.fail_after(5):
            await desk.until(task_id, "completed")


async def test_an_attempt_with_a_cut_call_of_a_spawned_agent_is_not_tried_again_by_itself() -> None:
    paid = []

    @tool
    async def pay() -> None:
        """Pays."""
        paid.append(1)
        await asyncio.sleep(30)

    def register_tools(register: Any) -> None:
        register(pay)

    answers: list[Sequence[Step]] = [
        [ToolCall("spawn_spare", {"message": "pay"})],
        [ToolCall("pay", {})],
        failure("model_overloaded"),
        OK,
    ]
    async with opened(*answers, extra=[plugin("paying", register_tools=register_tools)]) as desk:
        await desk.client.patch("/api/v1/agents/test", json={"can_spawn": ["spare"]})
        await desk.client.patch("/api/v1/agents/spare", json={"tools": ["pay"], "max_turn_duration": 1})
        task = await desk.until(await desk.add(), "pending", "failed", attempts=1)
    assert (task.status, paid, len(desk.model.requests)) == ("failed", [1], 3)
    assert task.error == (
        "The vendor says no. Whether pay took effect is not known, so the task is not tried again by itself"
    )


async def test_tries_come_to_an_end() -> None:
    async with opened(failure("model_rate_limited"), BYTEBREW_TASK_RETRIES="1") as desk:
        task_id = await desk.add()
        await desk.until(task_id, "pending", attempts=1)
        await desk.hurry(task_id)
        task = await desk.until(task_id, "failed")
        assert (task.attempts, task.error, len(desk.model.requests)) == (2, "The vendor says no", 2)


async def test_no_attempt_is_more_than_an_hour_and_a_half_away() -> None:
    async with opened(failure("model_overloaded"), BYTEBREW_TASK_RETRIES="100", BYTEBREW_TASK_WORKERS="1") as desk:
        blocker = await desk.add(mode="interactive")
        task_id = await desk.add(blocked_by=(blocker,))
        await desk.execute("update tasks set attempts = 40, blocked_by = '[]' where id = ?", task_id)
        desk.engine.tasks.wake()
        await desk.until(task_id, "pending", attempts=41)
        assert await desk.not_before(task_id) < datetime.now(UTC) + timedelta(hours=1.5)


async def test_a_task_that_was_completed_by_hand_has_no_error() -> None:
    async with opened(failure("model_overloaded")) as desk:
        task_id = await desk.add()
        await desk.until(task_id, "pending", attempts=1)
        await desk.engine.tasks.move(task_id, ADMIN, "in_progress")
        task = await desk.engine.tasks.move(task_id, ADMIN, "completed", "at last")
        assert (task.result, task.error) == ("at last", None)


@pytest.mark.parametrize("code", ["model_auth", "model_bad_request", "model_context_too_long"])
async def test_a_failure_that_stays_is_not_tried_again(code: str) -> None:
    async with opened(failure(code)) as desk:
        task = await desk.until(await desk.add(), "failed")
        assert (task.attempts, task.error, len(desk.model.requests)) == (1, "The vendor says no", 1)
        assert task.completed_at is not None


async def test_a_task_that_waits_for_its_next_attempt_can_be_cancelled() -> None:
    async with opened(failure("model_overloaded"), OK) as desk:
        task_id = await desk.add()
        await desk.until(task_id, "pending", attempts=1)
        await desk.engine.tasks.cancel(task_id, ADMIN, "enough")
        await desk.hurry(task_id)
        await asyncio.sleep(0.1)
        assert (await desk.get(task_id)).status == "cancelled"
        assert len(desk.model.requests) == 1


async def test_a_task_that_takes_too_long_fails() -> None:
    async with opened([30.0], BYTEBREW_TASK_TIMEOUT="200ms") as desk:
        task = await desk.until(await desk.add(), "failed")
        assert task.error == "The task took longer than 0.2 s; raise BYTEBREW_TASK_TIMEOUT"
        assert (task.attempts, desk.model.cancelled) == (1, 1)


async def test_the_time_limit_stands_still_while_a_person_thinks() -> None:
    answers: list[list[Step]] = [[ToolCall("current_time", {})], OK]
    async with opened(*answers, BYTEBREW_TASK_TIMEOUT="400ms") as desk:
        await desk.client.patch(
            "/api/v1/agents/test", json={"tools": ["current_time"], "confirm_before": ["current_time"]}
        )
        task_id = await desk.add()
        await desk.until(task_id, "needs_input")
        await asyncio.sleep(0.6)
        await desk.client.post(f"/api/v1/tasks/{task_id}/input", json={"answers": ["yes"]})
        assert (await desk.until(task_id, "completed", "failed")).status == "completed"


async def test_a_task_cancelled_between_its_claim_and_its_turn_does_not_run() -> None:
    async with opened([30.0], BYTEBREW_TASK_WORKERS="1") as desk:
        for _ in range(20):
            task_id = await desk.add()
            with anyio.fail_after(5):
                while (await desk.get(task_id)).status == "pending":
                    await asyncio.sleep(0)
            await desk.engine.tasks.cancel(task_id, ADMIN)
            with anyio.fail_after(1):
                while desk.engine.runner.turns:
                    await asyncio.sleep(0.005)
            assert (await desk.get(task_id)).status == "cancelled"


# The engine stops


async def test_a_draining_engine_leaves_its_tasks_to_the_next_start(tmp_path: Path) -> None:
    async with opened([30.0], BYTEBREW_DATA_DIR=str(tmp_path), BYTEBREW_TASK_WORKERS="2") as desk:
        ids = [await desk.add() for _ in range(3)]
        for task_id in ids[:2]:
            await desk.until(task_id, "in_progress")
    async with opened(OK, BYTEBREW_DATA_DIR=str(tmp_path)) as desk:
        for task_id in ids:
            task = await desk.until(task_id, "completed")
            assert (task.attempts, task.error) == (1, None)


async def test_a_claim_without_a_turn_waits_again_and_counts_no_attempt(tmp_path: Path) -> None:
    async with opened(OK, BYTEBREW_DATA_DIR=str(tmp_path), BYTEBREW_TASK_WORKERS="0") as desk:
        task_id = await desk.add()
        mine = await desk.add(mode="interactive")
        await desk.engine.tasks.move(mine, ADMIN, "in_progress")
        assert await desk.engine.db.write(tasks.claim, 0) is not None
    async with opened(OK, BYTEBREW_DATA_DIR=str(tmp_path)) as desk:
        assert (await desk.until(task_id, "completed")).attempts == 1
        assert (await desk.get(mine)).status == "in_progress"


async def test_a_turn_that_cannot_go_on_is_tried_again(tmp_path: Path) -> None:
    async with opened([30.0], BYTEBREW_DATA_DIR=str(tmp_path)) as desk:
        task_id = await desk.add()
        await desk.until(task_id, "in_progress")
        with anyio.fail_after(5):
            while not desk.model.requests:
                await asyncio.sleep(0.005)
        await desk.execute("update turns set resumes = 100")
    async with opened(OK, BYTEBREW_DATA_DIR=str(tmp_path)) as desk:
        task = await desk.until(task_id, "pending", attempts=1)
        assert task.error is not None
        assert "times in the middle of this step" in task.error
        await desk.hurry(task_id)
        assert (await desk.until(task_id, "completed")).attempts == 2


async def test_a_turn_that_cannot_go_on_ends_its_attempt_once_the_turn_before_it_has_ended(tmp_path: Path) -> None:
    behind = "update turns set resumes = 100 where status = 'queued'"
    async with opened(failure("model_overloaded"), [30.0], data=tmp_path) as desk:
        task_id = await desk.add(schema="test")
        session_id = (await desk.until(task_id, "pending", attempts=1)).session_id
        body = {"message": "hi", "session_id": session_id}
        async with anyio.create_task_group() as group:
            group.start_soon(partial(desk.client.post, "/api/v1/schemas/test/chat", json=body))
            with anyio.fail_after(5):
                while len(desk.model.requests) < 2:
                    await asyncio.sleep(0.005)
                await desk.hurry(task_id)
                while not await desk.engine.db.write(lambda conn: conn.execute(behind).rowcount):
                    await asyncio.sleep(0.005)
            await desk.engine.drain(0)
    async with opened([0.5, *OK], data=tmp_path) as desk:
        task = await desk.until(task_id, "pending", attempts=2)
        assert task.error is not None
        assert "times in the middle of this step" in task.error


async def test_a_question_and_its_task_outlive_a_restart(tmp_path: Path) -> None:
    answers: list[list[Step]] = [[ToolCall("current_time", {})], OK]
    async with opened(*answers, BYTEBREW_DATA_DIR=str(tmp_path)) as desk:
        await desk.client.patch(
            "/api/v1/agents/test", json={"tools": ["current_time"], "confirm_before": ["current_time"]}
        )
        task_id = await desk.add()
        await desk.until(task_id, "needs_input")
    async with opened(OK, BYTEBREW_DATA_DIR=str(tmp_path)) as desk:
        assert (await desk.get(task_id)).status == "needs_input"
        await desk.client.post(f"/api/v1/tasks/{task_id}/input", json={"answers": ["yes"]})
        assert (await desk.until(task_id, "completed")).attempts == 1
        assert len(desk.model.requests) == 1


async def test_an_end_that_cannot_be_recorded_stops_nobody_and_is_recorded_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(OK, BYTEBREW_DATA_DIR=str(tmp_path), BYTEBREW_TASK_WORKERS="1") as desk:
        ends = "new.status = 'completed' and new.title = 'bad'"
        await desk.engine.db.write(partial(refuse, event="update on tasks", when=ends))
        bad, good = await desk.add("bad"), await desk.add("good")
        await desk.until(good, "completed")
        assert (await desk.get(bad)).status == "in_progress"
        assert f"the end of task {bad} could not be recorded" in caplog.text
        await desk.engine.db.write(allow, "update on tasks")
    async with opened(OK, BYTEBREW_DATA_DIR=str(tmp_path)) as desk:
        task = await desk.until(bad, "completed")
        assert (task.result, task.attempts, desk.model.requests) == ("ok", 1, [])


# The file


@pytest.fixture
def full(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A file with 10,000 tasks that have ended, and a few that wait or run."""
    with closing(connect(tmp_path / "full.db")) as conn:
        migrate(conn, "core", CORE)
        conn.execute("begin")
        conn.executemany(
            """insert into tasks (id, owner, title, description, agent, schema, status, source, mode, priority,
            acceptance_criteria, blocked_by, session_id, turn_id, created_at)
            values (?, 'ada', 't', '', 'test', '', ?, 'api', ?, ?, '[]', '[]', ?, ?, ?)""",
            [
                (f"task_{n}", status, mode, n % 3, f"s{n}", turn_id, now())
                for n, (status, mode, turn_id) in enumerate(
                    [("completed", "background", "turn")] * 10_000
                    + [("pending", "interactive", None)] * 1_000
                    + [("pending", "background", None)] * 10
                    + [("in_progress", "background", "turn")] * 4
                )
            ],
        )
        conn.execute("commit")
        yield conn


def plans(conn: sqlite3.Connection, work: Callable[..., Any], *args: Any) -> list[str]:
    """How each statement of the work finds its rows."""
    statements: list[str] = []
    conn.set_trace_callback(statements.append)
    conn.execute("begin")
    work(conn, *args)
    conn.execute("rollback")
    conn.set_trace_callback(None)
    found = []
    for sql in statements:
        if sql.split()[0] in ("select", "update", "with"):
            found += [row["detail"] for row in conn.execute(f"explain query plan {sql}")]
    return found


@contextmanager
def instructions(conn: Connection) -> Iterator[list[None]]:
    """Grows by one with every hundred instructions of SQLite's machine: work as such, on any computer.

    PostgreSQL does not count its own.
    """
    spent: list[None] = []
    if not isinstance(conn, sqlite3.Connection):
        yield spent
        return
    conn.set_progress_handler(lambda: spent.append(None), 100)
    try:
        yield spent
    finally:
        conn.set_progress_handler(None, 0)


@pytest.mark.parametrize(
    ("work", "args"),
    [
        (tasks.claim, (100,)),
        (tasks.next_moment, ()),
        (tasks.left_open, ()),
        (tasks.of_session, ("s1",)),
        (tasks.ready, ("s1",)),
        (tasks.subtasks, ("task_1",)),
        (tasks.at_hand, ("turn_1",)),
        (tasks.was_delivered, ("s1", "t")),
        (task_changes.cancel, ("task_10000", ADMIN, "")),
        (tasks.page, (ADMIN, tasks.Filter(status="pending"), 0, 20)),
        (tasks.page, (ADMIN, tasks.Filter(status="needs_input"), 0, 20)),
    ],
)
async def test_the_workers_read_no_ended_tasks(
    full: sqlite3.Connection, work: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    found = plans(full, work, *args)
    assert found
    assert not [line for line in found if line.startswith("SCAN t") and "USING INDEX" not in line], found
    if work is tasks.claim:
        assert any("tasks_ready" in line for line in found)
        assert any("tasks_running" in line for line in found)


async def test_a_claim_in_a_full_file_is_little_work(full: sqlite3.Connection) -> None:
    with instructions(full) as spent:
        claims = [tasks.claim(full, 100) for _ in range(10)]
        assert all(claims)
        assert tasks.claim(full, 100) is None
    assert 0 < len(spent) < 100


async def test_a_task_between_two_attempts_is_cancelled_with_its_session() -> None:
    async with opened(failure("model_overloaded"), OK) as desk:
        task_id = await desk.add()
        task = await desk.until(task_id, "pending", attempts=1)
        assert (await desk.client.delete(f"/api/v1/sessions/{task.session_id}")).status_code == 204
        await desk.hurry(task_id)
        await asyncio.sleep(0.2)
        assert (await desk.get(task_id)).status == "cancelled"
        assert len(desk.model.requests) == 1


async def test_a_task_of_a_spawned_agent_is_cancelled_with_the_session_above() -> None:
    making = ToolCall("manage_tasks", {"action": "create", "title": "mine"})
    async with opened([ToolCall("spawn_spare", {"message": "go"})], [making], OK, OK) as desk:
        await desk.client.patch("/api/v1/agents/test", json={"can_spawn": ["spare"]})
        await desk.client.patch("/api/v1/agents/spare", json={"tools": ["manage_tasks"]})
        said = await desk.client.post("/api/v1/schemas/test/chat", json={"message": "hi"})
        session_id = said.headers["x-session-id"]
        [task] = (await desk.client.get("/api/v1/tasks")).json()["tasks"]
        assert (task["status"], task["session_id"] == session_id) == ("pending", False)
        assert (await desk.client.delete(f"/api/v1/sessions/{session_id}")).status_code == 204
        assert (await desk.get(task["id"])).status == "cancelled"


# kill -9


@asynccontextmanager
async def bookkeeper(client: httpx.AsyncClient, written: Ledger) -> AsyncIterator[None]:
    """Somebody who looks up whether a payment was made whose outcome is not known."""

    async def run() -> None:
        while True:
            for asked in await pending(client):
                word = "mark_done" if written.counts()[f"pay {asked['input']['amount']}"] else "retry"
                with suppress(httpx.TransportError):
                    await answer(client, asked["session_id"], asked["id"], word)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def work_off(processes: Setup, count: int, kills: int, seconds: float) -> None:
    """Tasks of all priorities, each with a side effect, while the engine is killed again and again."""
    off = {"BYTEBREW_TASK_WORKERS": "0"}
    async with processes.serving(**off) as (_, client):
        await configure(client)
        priorities: dict[str, tuple[int, int]] = {}
        for n in range(count):
            steps = [["thinking ", 0.05, ["pay", {"amount": n, "slow": 0.05}]], [0.05, f"paid {n}"]]
            priority = n * 7 % 3
            body = {"agent": "test", "title": json.dumps(steps), "priority": priority}
            made = await client.post("/api/v1/tasks", json=body)
            priorities[made.json()["id"]] = (priority, n)
    killed = 0
    while True:
        async with processes.serving() as (process, client), bookkeeper(client, processes.ledger):
            until = time.monotonic() + seconds if killed < kills else float("inf")
            while time.monotonic() < until:
                page = (await client.get("/api/v1/tasks", params={"per_page": 500})).json()
                if all(task["status"] == "completed" for task in page["tasks"]):
                    break
                assert not [task for task in page["tasks"] if task["status"] in ("failed", "cancelled")]
                await asyncio.sleep(0.05)
            else:
                process.kill()
                killed += 1
                continue
            break
    assert killed >= min(kills, 2), "it was done before it could be killed"
    counts = processes.ledger.counts()
    assert {line: times for line, times in counts.items() if line.startswith("pay ")} == Counter(
        f"pay {n}" for n in range(count)
    )
    assert {task["id"]: task["result"] for task in page["tasks"]} == {
        task_id: f"paid {n}" for task_id, (_, n) in priorities.items()
    }
    assert page["total"] == count
    begun = sorted(page["tasks"], key=lambda task: task["started_at"])
    assert [task["id"] for task in begun] == sorted(
        priorities, key=lambda task_id: (-priorities[task_id][0], priorities[task_id][1])
    )


@pytest.mark.slow
async def test_each_task_is_done_once_though_the_engine_is_killed(processes: Setup) -> None:
    await work_off(processes, TASKS, 3, 0.3)


@pytest.mark.slow
@pytest.mark.skipif(not KILLS, reason="TASK_KILLS says how often")
@pytest.mark.timeout(900)
async def test_each_of_500_tasks_is_done_once_though_the_engine_is_killed_every_few_seconds(processes: Setup) -> None:
    await work_off(processes, 500, KILLS, 2.0)


async def test_a_task_in_a_schema_goes_on_with_its_own_agent(tmp_path: Path) -> None:
    async with opened([30.0], data=tmp_path) as desk:
        relation = {"source": "test", "target": "spare"}
        await desk.client.post("/api/v1/schemas/test/agent-relations", json=relation)
        await desk.client.patch("/api/v1/agents/spare", json={"system": "You are the spare one"})
        task_id = await desk.add(agent="spare", schema="test")
        with anyio.fail_after(5):
            while not desk.model.requests:
                await asyncio.sleep(0.005)
        assert desk.model.requests[0].system == "You are the spare one"
    async with opened(OK, data=tmp_path) as desk:
        await desk.until(task_id, "completed")
        assert desk.model.requests[0].system == "You are the spare one"


async def test_the_turn_of_a_task_that_was_cancelled_just_before_a_crash_does_not_go_on(tmp_path: Path) -> None:
    async with opened([30.0], data=tmp_path) as desk:
        task_id = await desk.add()
        with anyio.fail_after(5):
            while not desk.model.requests:
                await asyncio.sleep(0.005)
        await desk.engine.db.write(task_changes.cancel, task_id, ADMIN, "no more")
    async with opened(OK, data=tmp_path) as desk:
        await asyncio.sleep(0.1)
        assert (await desk.get(task_id)).status == "cancelled"
        assert desk.model.requests == []
        assert not desk.engine.runner.turns
