"""Owners who have tasks for one agent take turns: one with many does not keep another waiting."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bytebrew.base.secrets import Secrets
from bytebrew.contract.entities import NewAgent, NewModel
from bytebrew.store import task_queue, tasks
from bytebrew.store.configuration import agents, models
from bytebrew.store.sqlite import triggers
from bytebrew.store.sqlite.dialect import CAN_RUN, URGENCY
from bytebrew.store.sqlite.migrate import migrate
from bytebrew.store.sqlite.migrations import CORE
from bytebrew.store.sqlite.pragmas import connect
from tests.conversation.test_tasks import instructions
from tests.store.test_ready_tasks import rows, soon

BEFORE = CORE[: [sql for _, sql in CORE].index(triggers.TASK_QUEUE)]


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(tmp_path / "tasks.db")) as conn:
        migrate(conn, "core", CORE)
        models.create(conn, NewModel(name="m", type="demo", model_name="demo"), Secrets(b"0" * 32))
        for name in ("test", "other"):
            agents.create(conn, NewAgent(name=name, model="m"))
        conn.execute("begin")
        yield conn


def claimed(conn: sqlite3.Connection, count: int, per_agent: int = 0) -> list[str]:
    """The ids of the next tasks that are taken; an empty one where there is none."""
    claims = [tasks.claim(conn, per_agent) for _ in range(count)]
    return [claim.task.id if claim else "" for claim in claims]


def owners(conn: sqlite3.Connection, count: int) -> list[str]:
    claims = [tasks.claim(conn, 0) for _ in range(count)]
    return [claim.owner if claim else "" for claim in claims]


def test_one_task_of_another_owner_does_not_wait_for_ten_thousand(conn: sqlite3.Connection) -> None:
    rows(conn, 0, 10_000, created_at=soon(-600))
    assert claimed(conn, 3) == ["task_0", "task_1", "task_2"]
    rows(conn, 20_000, 1, owner="otto")
    assert "task_20000" in claimed(conn, 2)


def test_owners_take_turns(conn: sqlite3.Connection) -> None:
    for n, owner in enumerate(("ada", "otto", "eva")):
        rows(conn, 100 * n, 5, owner=owner, created_at=soon(n - 100))
    assert owners(conn, 16) == ["ada", "otto", "eva"] * 5 + [""]


def test_the_tasks_of_one_owner_go_by_urgency_whoever_else_is_there(conn: sqlite3.Connection) -> None:
    rows(conn, 0, 6, priority=lambda n: n % 3, created_at=soon(-60))
    rows(conn, 10, 6, owner="otto", priority=lambda n: n % 3, created_at=soon(-60))
    taken = claimed(conn, 12)
    assert [one for one in taken if len(one) == 6] == [f"task_{n}" for n in (2, 5, 1, 4, 0, 3)]
    assert [one for one in taken if len(one) == 7] == [f"task_{n}" for n in (11, 14, 10, 13, 12, 15)]


@pytest.mark.parametrize("at_once", [True, False])
def test_priority_helps_an_owner_once_and_does_not_starve_others(conn: sqlite3.Connection, at_once: bool) -> None:
    rows(conn, 0, 1, owner="otto")
    if at_once:
        rows(conn, 100, 50, priority=2)
        assert owners(conn, 2) == ["ada", "otto"]
        return
    found = []
    for n in range(5):
        rows(conn, 100 + n, 1, priority=2)
        found += owners(conn, 1)
    assert found[:2] == ["ada", "otto"]


def test_owners_of_one_task_each_go_by_urgency(conn: sqlite3.Connection) -> None:
    rows(conn, 0, 5, owner=lambda n: f"owner {n}", priority=lambda n: (2, 1, 2, 0, 1)[n])
    assert claimed(conn, 5) == [f"task_{n}" for n in (0, 2, 1, 4, 3)]


def test_what_is_taken_back_and_what_is_cancelled_leave_the_order_as_it_should_be(conn: sqlite3.Connection) -> None:
    rows(conn, 0, 3, created_at=soon(-60))
    rows(conn, 10, 1, owner="otto", created_at=soon(-50))
    first = tasks.claim(conn, 0)
    assert first is not None
    tasks.release(conn, first.task.id, first.turn_id)
    conn.execute("update tasks set status = 'cancelled' where id = 'task_1'")
    assert claimed(conn, 4) == ["task_10", "task_0", "task_2", ""]


def test_an_agent_at_its_limit_keeps_no_other_waiting(conn: sqlite3.Connection) -> None:
    rows(conn, 0, 3, created_at=soon(-60))
    rows(conn, 10, 2, owner="otto", agent="other")
    assert claimed(conn, 3, per_agent=1) == ["task_0", "task_10", ""]


@pytest.mark.parametrize("owner", ["ada", lambda n: f"owner {n}"], ids=["one owner", "each its own"])
def test_a_claim_is_little_work_however_many_tasks_and_owners_there_are(conn: sqlite3.Connection, owner: Any) -> None:
    work = []
    for first, count in ((0, 50), (100, 20_000)):
        rows(conn, first, count, owner=owner)
        with instructions(conn) as spent:
            assert len(set(claimed(conn, 20))) == 20
        work.append(len(spent))
    assert work[1] <= 1.2 * work[0] < 250


def test_owners_who_have_nothing_more_are_forgotten(conn: sqlite3.Connection) -> None:
    rows(conn, 0, 20, owner=lambda n: f"owner {n}")
    claimed(conn, 21)
    conn.execute("update task_queue set served = served - 2")
    assert claimed(conn, 1) == [""]
    assert conn.execute("select count(*) from task_queue").fetchone()[0] == 0


def test_a_clock_that_was_far_ahead_keeps_no_owner_waiting(conn: sqlite3.Connection) -> None:
    rows(conn, 0, 5)
    claimed(conn, 1)
    conn.execute("update task_queue set served = served + 400, rank = rank + 400")
    task_queue.set_back(conn, datetime.now(UTC))
    rows(conn, 10, 3, owner="otto", created_at=soon(-1))
    assert owners(conn, 2) == ["otto", "ada"]


def test_an_old_file_has_its_owners_take_turns(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "old.db")) as conn:
        migrate(conn, "core", BEFORE)
        rows(conn, 0, 10, created_at=soon(-60))
        rows(conn, 20, 1, owner="otto", created_at=soon(-50))
        rows(conn, 30, 1, owner="eva", status="completed")
        migrate(conn, "core", CORE)
        models.create(conn, NewModel(name="m", type="demo", model_name="demo"), Secrets(b"0" * 32))
        agents.create(conn, NewAgent(name="test", model="m"))
        assert owners(conn, 3) == ["ada", "otto", "ada"]


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["add", "claim", "retry", "cancel", "give", "raise", "release", "block"]),
        st.integers(0, 9),
        st.integers(0, 2),
    ),
    max_size=40,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(acts=ACTS)
def test_whoever_has_a_task_that_can_run_is_in_the_queue_and_none_is_lost(
    conn: sqlite3.Connection, acts: list[tuple[str, int, int]]
) -> None:
    conn.execute("savepoint before")
    count, last = 0, None
    for what, n, m in acts:
        one = f"task_{n}"
        if what == "add":
            owner, agent = ("ada", "otto", "eva")[m], ("test", "other")[n % 2]
            rows(conn, count, 1, owner=owner, agent=agent, priority=n % 3, created_at=soon(-n))
            count += 1
        elif what in ("claim", "retry"):
            last = tasks.claim(conn, m)
            if last and what == "retry":
                tasks.settle(conn, last.task.id, last.turn_id, "failed", "", soon(-1))
        elif what == "cancel":
            conn.execute("update tasks set status = 'cancelled' where id = ? and status = 'pending'", (one,))
        elif what == "give":
            conn.execute("update tasks set agent = 'other' where id = ?", (one,))
        elif what == "raise":
            conn.execute("update tasks set priority = ? where id = ?", (m, one))
        elif what == "release" and last:
            tasks.release(conn, last.task.id, last.turn_id)
        elif what == "block":
            conn.execute("update tasks set blockers = ? where id = ?", (m % 2, one))
        lost = conn.execute(
            f"""select 1 from tasks t left join task_queue q on q.agent = t.agent and q.owner = t.owner
            where {CAN_RUN.format("t")} group by t.agent, t.owner
            having min(q.rank) is null or min(q.rank) > max(min({URGENCY.format("t")}), min(q.served))"""
        ).fetchall()
        assert not lost
    conn.execute("update tasks set not_before = null, blockers = 0 where status = 'pending'")
    left = conn.execute("select count(*) from tasks where status = 'pending'").fetchone()[0]
    assert [bool(one) for one in claimed(conn, left + 1)] == [True] * left + [False]
    conn.execute("rollback to before")
