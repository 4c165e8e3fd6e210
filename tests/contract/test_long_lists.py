"""Lists of long tables: how they are read, and that their totals are right whatever happens to the rows."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from bytebrew_audit import calls, changes
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bytebrew import Migration
from bytebrew.base.formats import rfc3339
from bytebrew.contract.auth import Actor
from bytebrew.contract.lists import NEAR, PAGE_BYTES, Listing, Selection, rows_of
from bytebrew.store.queries import session_list
from bytebrew.store.sessions import SESSIONS, Filter
from bytebrew.store.sqlite.migrate import migrate
from bytebrew.store.sqlite.migrations import CORE, text
from bytebrew.store.sqlite.pragmas import connect
from bytebrew.store.tasks import TASKS

pytestmark = pytest.mark.sqlite

AUDIT = ((1, calls.TABLE + changes.TABLE), (2, text(Migration(2, calls.COUNTS + changes.COUNTS))))
START = datetime(2026, 1, 1, tzinfo=UTC)
TURN = """insert into turns (id, session_id, message, attachments, own_key, subagents, root_turn_id, lineage, status,
  created_at) values (?, ?, '', '[]', 0, 0, '', '[]', ?, '')"""


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(path, "off")) as conn:
        migrate(conn, "core", CORE)
        migrate(conn, "audit", AUDIT)
        conn.execute("begin")
        yield conn


def fill(conn: sqlite3.Connection, count: int) -> None:
    """So many rows in each table over some days, of the same agents, statuses, and owners with ten rows each."""
    for n in range(count):
        at = rfc3339(START + timedelta(days=10 * n / count))
        agent, status = f"a{n % 3}", ("completed", "failed", "cancelled")[n % 7 % 3]
        owner, other = f"o{n // 10}", f"u{n // 10}"
        conn.execute(
            """insert into sessions (id, schema, agent, owner, user_sub, title, status, created_at, updated_at)
            values (?, ?, ?, ?, ?, 't', ?, ?, ?)""",
            (f"s{n:06}", f"x{n % 2}", agent, owner, other, status, at, at),
        )
        conn.execute(
            """insert into tasks (id, owner, title, description, agent, schema, status, source, mode, priority,
            acceptance_criteria, blocked_by, session_id, created_at)
            values (?, ?, 't', '', ?, '', ?, ?, 'background', 0, '[]', '[]', ?, ?)""",
            (f"t{n}", owner, agent, status, ("api", "agent")[n % 2], f"s{n}", at),
        )
        conn.execute(
            """insert into audit_tool_calls (turn_id, call_id, session_id, agent_name, tool_name, input, output, status,
            duration_ms, user_id, created_at) values (?, 'c', ?, ?, ?, '{}', x'', ?, 1, ?, ?)""",
            (f"t{n}", f"s{n // 10}", agent, f"x{n % 4}", status, owner, at),
        )
        conn.execute(
            """insert into audit_changes (timestamp, actor, actor_type, actor_id, action, resource, resource_type,
            resource_id, details) values (?, '', ?, '', ?, ?, '', '', '{}')""",
            (at, agent, f"x{n % 4}", f"r{n // 10}"),
        )


TABLES: list[tuple[Listing, tuple[str, ...], dict[str, str]]] = [
    (SESSIONS, ("owner", "user_sub"), {"agent": "a1", "schema": "x1", "status": "failed", "owner": "o3"}),
    (TASKS, ("owner", "session_id"), {"agent": "a1", "source": "api", "status": "failed", "owner": "o3"}),
    (calls.LISTING, ("user_id", "session_id"), {"agent_name": "a1", "tool_name": "x1", "user_id": "o3"}),
    (changes.LISTING, ("resource",), {"actor_type": "a1", "action": "x1", "resource": "r3"}),
]
MOMENTS = ("", rfc3339(START + timedelta(days=2, hours=5)), rfc3339(START + timedelta(days=7)))


def selections(listing: Listing, keys: tuple[str, ...]) -> Iterator[Selection]:
    """Every combination of filters, with values that are there."""
    values = {
        "user_sub": "u3",
        "session_id": "s3",
        "resource": "r3",
        "source": "api",
        "schema": "x1",
        "status": "failed",
    }
    values |= {"tool_name": "x1", "action": "x1", "owner": "o3", "user_id": "o3"}
    spans = product(MOMENTS[:2], MOMENTS[::2]) if listing.unit == "day" else [("", "")]
    for since, until in spans:
        for chosen in product((False, True), repeat=len(listing.kinds) + len(keys)):
            names = [name for name, taken in zip((*listing.kinds, *keys), chosen, strict=True) if taken]
            yield Selection(
                kinds={name: values.get(name, "a1") for name in names if name in listing.kinds},
                keys={name: values[name] for name in names if name in keys},
                since=since,
                until=until,
            )


def by_hand(conn: sqlite3.Connection, listing: Listing, chosen: Selection) -> list[tuple[Any, ...]]:
    """The places of all rows, by the plainest of queries."""
    parts = [listing.only.format(""), *(f"{name} = ?" for name in (*chosen.kinds, *chosen.keys))]
    values = [*chosen.kinds.values(), *chosen.keys.values()]
    for sign, moment in ((">=", chosen.since), ("<", chosen.until)):
        if moment:
            parts.append(f"{listing.order[0]} {sign} ?")
            values.append(moment)
    order = ", ".join(f"{name} desc" for name in listing.order)
    sql = f"select {', '.join(listing.order)} from {listing.table} where {' and '.join(parts)} order by {order}"
    return [tuple(row) for row in conn.execute(sql, values)]


def check(conn: sqlite3.Connection, listing: Listing, chosen: Selection) -> None:
    """The totals and the pages, by number and by cursor, are those of the plainest of queries."""
    expected = by_hand(conn, listing, chosen)
    assert listing.total(conn, chosen) == len(expected), chosen
    assert listing.page(conn, chosen, 7, 3) == expected[3:10], chosen
    if len(expected) > 3:
        assert listing.page(conn, chosen, 7, 0, expected[2]) == expected[3:10], chosen


@pytest.mark.parametrize(("listing", "keys", "_"), TABLES, ids=lambda one: getattr(one, "table", ""))
def test_every_filter_gives_its_rows_in_order_and_their_number(
    tmp_path: Path, listing: Listing, keys: tuple[str, ...], _: object
) -> None:
    with opened(tmp_path / "a.db") as conn:
        fill(conn, 400)
        for chosen in selections(listing, keys):
            check(conn, listing, chosen)


@pytest.mark.parametrize(("listing", "keys", "_"), TABLES, ids=lambda one: getattr(one, "table", ""))
def test_every_list_and_total_is_read_by_an_index_in_its_order(
    tmp_path: Path, listing: Listing, keys: tuple[str, ...], _: object
) -> None:
    with opened(tmp_path / "a.db") as conn:
        fill(conn, 40)
        statements: list[str] = []
        for chosen in selections(listing, keys):
            conn.set_trace_callback(statements.append)
            listing.total(conn, chosen)
            for after in (None, listing.page(conn, Selection(), 1)[0]):
                listing.page(conn, chosen, 20, 0, after)
            conn.set_trace_callback(None)
        for sql in set(statements):
            plan = [row["detail"] for row in conn.execute(f"explain query plan {sql}")]
            assert not [step for step in plan if "TEMP B-TREE" in step], (sql, plan)
            scans = [one for one in plan if one.startswith("SCAN") and "INDEX" not in one and one != "SCAN few"]
            if "|| ''" not in sql:
                assert not [step for step in plan if " INDEX " in step and "COVERING" not in step], (sql, plan)
            assert not scans or re.search("(where true|rows > 0 and true) order by seq", sql), (sql, plan)


def steps(conn: sqlite3.Connection, work: Callable[[], object]) -> int:
    """What a work takes in hundreds of instructions of SQLite's machine: the same on any computer."""
    spent = 0

    def count() -> None:
        nonlocal spent
        spent += 1

    conn.set_progress_handler(count, 100)
    work()
    conn.set_progress_handler(None, 0)
    return spent


def listed(conn: sqlite3.Connection, listing: Listing, chosen: Selection) -> None:
    listing.total(conn, chosen)
    listing.page(conn, chosen, 20)


@pytest.mark.parametrize(("listing", "keys", "_"), TABLES, ids=lambda one: getattr(one, "table", ""))
def test_no_list_is_more_work_where_the_table_is_ten_times_as_long(
    tmp_path: Path, listing: Listing, keys: tuple[str, ...], _: object
) -> None:
    with opened(tmp_path / "a.db") as few, opened(tmp_path / "b.db") as many:
        fill(few, 700)
        fill(many, 7000)
        for chosen in selections(listing, keys):
            if chosen.since:  # a day's beginning is counted row by row
                continue
            short, long = (steps(conn, partial(listed, conn, listing, chosen)) for conn in (few, many))
            assert long <= 2 * short + 5, (chosen, short, long)


def test_a_far_page_is_found_by_the_counts(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db") as conn:
        fill(conn, 5000)
        for listing, _, kinds in TABLES:
            kinds = {name: value for name, value in kinds.items() if name in listing.kinds}
            for chosen in (
                Selection(),
                Selection(kinds=dict([*kinds.items()][:1])),
                *([Selection(since=MOMENTS[1], until=MOMENTS[2])] if listing.unit == "day" else []),
            ):
                expected = by_hand(conn, listing, chosen)
                for offset in (NEAR + 1, len(expected) - 3, len(expected), 10**9):
                    assert listing.page(conn, chosen, 20, offset) == expected[offset : offset + 20]
            near, far = (steps(conn, partial(listing.page, conn, Selection(), 20, at)) for at in (NEAR, 4900))
            assert far <= 3 * near


Act = tuple[str, int, int]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "end", "turn", "delete", "rename"]), st.integers(0, 5), st.integers(0, 8)),
        max_size=30,
    )
)
def test_totals_are_right_after_any_sequence_of_changes(acts: list[Act]) -> None:
    with closing(connect(Path(":memory:"))) as conn:
        migrate(conn, "core", CORE)
        for number, (act, one, other) in enumerate(acts):
            session = f"s{one}"
            at = rfc3339(START + timedelta(hours=11 * other))
            if act == "begin":
                above = f"s{other % 6}" if other > 6 and other % 6 != one else None
                known = conn.execute("select 1 from sessions where id = ?", (above,)).fetchone()
                conn.execute(
                    """insert or ignore into sessions (id, schema, agent, owner, user_sub, title, parent_id, created_at,
                    updated_at) values (?, ?, ?, ?, ?, '', ?, ?, ?)""",
                    (session, f"x{other % 2}", f"a{other % 3}", f"o{one % 2}", "", above if known else None, at, at),
                )
            elif conn.execute("select 1 from sessions where id = ?", (session,)).fetchone():
                if act == "turn":
                    conn.execute(TURN, (f"t{number}", session, ("queued", "running")[other % 2]))
                elif act == "end":
                    conn.execute(
                        """update turns set status = ?, finished_at = ? where seq = (select min(seq) from turns
                        where session_id = ? and status in ('queued', 'running'))""",
                        (("completed", "failed", "cancelled")[other % 3], at, session),
                    )
                elif act == "delete":
                    conn.execute("delete from sessions where id = ?", (session,))
                else:
                    conn.execute("update sessions set title = 'other', updated_at = ? where id = ?", (at, session))
        statuses = conn.execute(
            """select s.status, coalesce((select iif(t.status in ('queued', 'running'), 'active', t.status) from turns t
              where t.session_id = s.id order by t.seq desc limit 1), 'completed') as last from sessions s"""
        ).fetchall()
        assert all(row["status"] == row["last"] for row in statuses)
        for since, until in product(
            ("", rfc3339(START + timedelta(hours=30))), ("", rfc3339(START + timedelta(hours=60)))
        ):
            for name, value in (
                ("", ""),
                ("status", "active"),
                ("status", "failed"),
                ("agent", "a1"),
                ("schema", "x0"),
            ):
                check(conn, SESSIONS, Selection(kinds={name: value} if name else {}, since=since, until=until))
        for kinds in ({}, {"status": "completed"}):
            check(conn, SESSIONS, Selection(keys={"owner": "o1"}, kinds=kinds))


def test_a_page_of_long_rows_ends_early_and_has_one_at_least(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db") as conn:
        fill(conn, 30)
        conn.execute("update tasks set description = ?", ("x" * (PAGE_BYTES // 4),))
        page = TASKS.page(conn, Selection(), 20)
        sql = "select seq, description from tasks where seq = ?"
        assert [row["seq"] for row in rows_of(conn, sql, page)] == [place for (place,) in page[:4]]
        conn.execute("update tasks set description = ?", ("x" * 3 * PAGE_BYTES,))
        assert len([*rows_of(conn, sql, page)]) == 1


def test_an_older_file_gets_its_counts_and_statuses(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "old.db")) as conn:
        migrate(conn, "core", CORE[:4])
        rows = [(f"s{n}", rfc3339(START + timedelta(days=n))) for n in range(4)]
        for session_id, at in rows:
            conn.execute("insert into sessions values (?, 'x', 'a', 'o', '', '', null, ?, ?)", (session_id, at, at))
        for n, status in enumerate(("failed", "completed", "running")):
            conn.execute(TURN, (f"t{n}", "s1", status))
        conn.execute(TURN, ("t9", "s2", "failed"))
        migrate(conn, "core", CORE)
        found = {row["id"]: row["status"] for row in conn.execute("select id, status from sessions")}
        assert found == {"s0": "completed", "s1": "active", "s2": "failed", "s3": "completed"}
        for chosen in (Selection(), Selection(kinds={"status": "completed"}), Selection(since=rows[1][1])):
            check(conn, SESSIONS, chosen)


FILTERS = [
    Filter(agent=agent, schema=schema, status=status, user_sub=user, since=since, sort="updated")
    for agent, schema, status, user, since in product(
        ("", "a1"), ("", "x1"), ("", "completed", "running"), ("", "u3"), MOMENTS[:2]
    )
]
ADMIN = Actor(subject="a", name="", kind="token", scopes=frozenset({"admin"}))
OWNER = Actor(subject="o3", name="", kind="token", scopes=frozenset())


def shuffle(conn: sqlite3.Connection, count: int) -> None:
    """Something has happened in each of the sessions since, and some are active."""
    for n in range(count):
        at = rfc3339(START + timedelta(days=20, seconds=n * 7919 % count))
        conn.execute("update sessions set updated_at = ? where id = ?", (at, f"s{n:06}"))
    conn.execute("update sessions set status = 'active' where id like '%5'")


@pytest.mark.parametrize("actor", [ADMIN, OWNER], ids=["admin", "owner"])
def test_every_filter_gives_its_sessions_by_what_happened_last(tmp_path: Path, actor: Actor) -> None:
    with opened(tmp_path / "a.db") as conn:
        fill(conn, 2600)
        shuffle(conn, 2600)
        rows = [*map(dict, conn.execute("select * from sessions order by updated_at desc, id desc"))]
        for wanted in FILTERS:
            equal = {name: getattr(wanted, name) for name in ("agent", "schema", "status", "user_sub")}
            equal |= {"status": "active" if wanted.status else ""} if wanted.status == "running" else {}
            equal |= {"owner": "" if actor.is_admin else actor.subject}
            expected = [
                row["id"]
                for row in rows
                if row["created_at"] >= wanted.since
                and all(row[name] == value for name, value in equal.items() if value)
            ]
            found = session_list.page(conn, actor, wanted, 3, 7)
            assert [one.id for one in found.data] == expected[3:10], wanted
            assert found.total == len(expected), wanted
            if len(expected) > 3:
                behind = session_list.page(conn, actor, replace(wanted, after=expected[2]), 0, 7)
                assert [one.id for one in behind.data] == expected[3:10], wanted


@pytest.mark.parametrize("actor", [ADMIN, OWNER], ids=["admin", "owner"])
def test_sessions_by_what_happened_last_are_no_more_work_where_there_are_ten_times_as_many(
    tmp_path: Path, actor: Actor
) -> None:
    with opened(tmp_path / "a.db") as few, opened(tmp_path / "b.db") as many:
        for conn, count in ((few, 700), (many, 7000)):
            fill(conn, count)
            shuffle(conn, count)
        for wanted in FILTERS:
            if wanted.since or wanted.status == "running":  # a day's beginning is counted row by row, as what runs is
                continue
            short, long = (steps(conn, partial(session_list.page, conn, actor, wanted, 0, 20)) for conn in (few, many))
            assert long <= 2 * short + 200, (wanted, short, long)  # it sorts a thousand at most
