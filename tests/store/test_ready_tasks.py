"""Which tasks can run: found without a look at those that cannot, and always as the definition has it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bytebrew.base.errors import EngineError
from bytebrew.base.formats import now, rfc3339
from bytebrew.base.secrets import Secrets
from bytebrew.contract.entities import NewAgent, NewModel, NewTask, TaskPatch
from bytebrew.store import retention, task_changes, task_queue, tasks
from bytebrew.store.configuration import agents, models
from bytebrew.store.sqlite.migrate import migrate
from bytebrew.store.sqlite.migrations import CORE
from bytebrew.store.sqlite.pragmas import connect
from tests.conversation.test_tasks import instructions

FREE = """not exists (select 1 from json_each(t.blocked_by) b left join tasks d on d.id = b.value
  where d.status is not 'completed')"""
"""The definition: every blocker has been completed."""
LONG_AGO = "2020-01-01T00:00:00.000000Z"
BEFORE = tuple((number, sql) for number, sql in CORE if number < 7)


def rows(conn: sqlite3.Connection, first: int, count: int, **columns: Any) -> None:
    """So many tasks named `task_<n>`; a column that is a function is called with n."""
    values: dict[str, Any] = {
        "id": lambda n: f"task_{n}",
        "owner": "ada",
        "title": "t",
        "description": "",
        "agent": "test",
        "schema": "",
        "status": "pending",
        "source": "api",
        "mode": "background",
        "priority": 0,
        "acceptance_criteria": "[]",
        "blocked_by": "[]",
        "session_id": lambda n: f"s{n}",
        "created_at": now(),
        **columns,
    }
    sql = f"insert into tasks ({', '.join(values)}) values ({', '.join('?' * len(values))})"
    for n in range(first, first + count):
        conn.execute(sql, [one(n) if callable(one) else one for one in values.values()])


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(tmp_path / "tasks.db")) as conn:
        migrate(conn, "core", CORE)
        models.create(conn, NewModel(name="m", type="demo", model_name="demo"), Secrets(b"0" * 32))
        for name in ("test", "busy"):
            agents.create(conn, NewAgent(name=name, model="m"))
        yield conn


def soon(seconds: float) -> str:
    return rfc3339(datetime.now(UTC) + timedelta(seconds=seconds))


@pytest.mark.parametrize("what", ["blocked", "between attempts", "of an agent at its limit"])
def test_a_claim_is_the_same_work_however_many_tasks_cannot_run(conn: sqlite3.Connection, what: str) -> None:
    conn.execute("begin")
    rows(conn, 0, 1, status="in_progress", agent="busy", turn_id="turn")
    if what == "blocked":
        rows(conn, 1, 5000, blocked_by='["task_0"]', priority=5)
    elif what == "between attempts":
        rows(conn, 1, 5000, not_before=soon(600), priority=5)
    else:
        rows(conn, 1, 5000, agent="busy", priority=5)
    rows(conn, 9000, 1)
    with instructions(conn) as spent:
        claim = tasks.claim(conn, 1)
        assert claim is not None
        assert claim.task.id == "task_9000"
        assert tasks.claim(conn, 1) is None
        tasks.next_moment(conn)
    assert len(spent) < 20
    conn.execute("rollback")


def test_the_end_of_a_blocker_looks_at_those_alone_that_wait_for_it(conn: sqlite3.Connection) -> None:
    conn.execute("begin")
    rows(conn, 0, 2, status="in_progress", turn_id="turn")
    rows(conn, 2, 5000, blocked_by='["task_0"]')
    rows(conn, 9000, 1, blocked_by='["task_1"]')
    with instructions(conn) as spent:
        tasks.settle(conn, "task_1", "turn", "completed", "done", None)
        claim = tasks.claim(conn, 0)
    assert claim is not None
    assert claim.task.id == "task_9000"
    assert len(spent) < 20
    conn.execute("rollback")


def test_what_a_clock_far_ahead_has_put_off_is_mended_when_it_is_set_back(conn: sqlite3.Connection) -> None:
    ahead = soon(400 * 86400)
    rows(conn, 0, 1, created_at=ahead, priority=1)
    rows(conn, 1, 1, not_before=ahead, attempts=10)
    rows(conn, 2, 1, not_before=soon(5000), attempts=10)
    rows(conn, 3, 1)
    rows(conn, 4, 1, not_before=soon(3600), attempts=1)
    rows(conn, 5, 1, not_before=soon(25), attempts=2)
    task_queue.set_back(conn, datetime.now(UTC))
    claims = [tasks.claim(conn, 0) for _ in range(5)]
    assert [one and one.task.id for one in claims] == ["task_0", "task_1", "task_3", "task_4", None]
    assert tasks.next_moment(conn) is not None


def test_an_old_file_knows_which_tasks_can_run(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "old.db")) as conn:
        migrate(conn, "core", BEFORE)
        rows(conn, 0, 1, status="completed")
        rows(conn, 1, 1)
        rows(conn, 2, 1, blocked_by='["task_0"]')
        rows(conn, 3, 1, blocked_by='["task_0", "task_1", "task_1"]')
        rows(conn, 4, 1, blocked_by='["task_9"]')
        migrate(conn, "core", CORE)
        check(conn)
        assert tasks.claim(conn, 0) is not None


def check(conn: sqlite3.Connection) -> None:
    wrong = conn.execute(f"select id, blocked_by, blockers from tasks t where ({FREE}) <> (blockers = 0)").fetchall()
    assert not [tuple(row) for row in wrong]


Act = tuple[str, int, int, int]
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["create", "end", "update", "cancel", "claim", "retry", "expire", "move"]),
        st.integers(0, 7),
        st.integers(0, 7),
        st.integers(0, 7),
    ),
    max_size=40,
)


def act(conn: sqlite3.Connection, known: list[str], one: Act) -> None:
    """One act of the store on tasks that are there, or have been."""
    what, a, b, c = one
    first, others = known[a % len(known)], tuple(known[n % len(known)] for n in (b, c))
    if what == "create":
        new = NewTask(title="t", agent="test", blocked_by=others[: a % 3], require_approval=a == 7)
        known.append(tasks.create(conn, new, "ada", "api").id)
    elif what == "update":
        task_changes.update(conn, first, None, TaskPatch(blocked_by=others[: a % 3]))
    elif what == "cancel":
        task_changes.cancel(conn, first, None, "")
    elif what in ("end", "retry", "claim"):
        if claim := tasks.claim(conn, 0):
            end = ("completed", "failed")[a % 2]
            if what != "claim":
                tasks.settle(conn, claim.task.id, claim.turn_id, end, "", soon(60) if what == "retry" else None)
    elif what == "move":
        task_changes.move(conn, first, None, ("approved", "in_progress", "completed", "failed")[b % 4])
    else:
        conn.execute("update tasks set completed_at = ? where completed_at is not null", (LONG_AGO,))
        retention.expire_tasks(conn)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(acts=ACTS)
def test_a_task_can_run_exactly_when_all_its_blockers_are_completed(conn: sqlite3.Connection, acts: list[Act]) -> None:
    conn.execute("begin")
    conn.execute("insert into settings values ('retention.sessions', ?, ?)", (msgspec.json.encode(1).decode(), now()))
    known = [tasks.create(conn, NewTask(title="t", agent="test"), "ada", "api").id]
    for one in acts:
        with suppress(EngineError):
            act(conn, known, one)
        check(conn)
    conn.execute("rollback")
