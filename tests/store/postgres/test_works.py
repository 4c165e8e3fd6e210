"""Works on PostgreSQL whose statements wait: whose error is whose, and what is kept of values of any kind."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from bytebrew_postgres import statements
from bytebrew_postgres.connection import Options, PostgresConnection
from bytebrew_postgres.driver import PostgresDriver

from bytebrew.base.errors import EngineError, Fenced
from bytebrew.contract.connection import Connection
from bytebrew.contract.notifications import Notification
from bytebrew.observers import Observers
from bytebrew.store.database.transactions import each_of, reading, transact
from bytebrew.store.database.write_queue import Pending
from bytebrew.testing.postgres import USER, Server
from tests.nodes.engines import nodes

pytestmark = pytest.mark.postgresql
_TABLES = f"""set role {USER}; create table notes (id bigint primary key);
create table node_commits (node bigint primary key, n bigint not null); insert into node_commits values (1, 0);
create table kinds (number bigint, amount double precision, words text, data bytea)"""


@pytest.fixture
def url(shared: Server) -> Iterator[str]:
    """A small database, for node 1."""
    name = f"works_{uuid4().hex}"
    shared.execute(f"create database {name} owner {USER}")
    shared.execute(_TABLES, name)
    yield shared.url(name)
    shared.execute(f"drop database {name} with (force)")


@pytest.fixture
def driver(url: str) -> PostgresDriver:
    made = PostgresDriver(url)
    made.node = 1
    return made


@pytest.fixture
def conn(driver: PostgresDriver) -> Iterator[PostgresConnection]:
    with closing(driver.open()) as made:
        yield made


def noted(number: int) -> Callable[[Connection], None]:
    def work(conn: Connection) -> None:
        conn.execute("insert into notes values (?)", (number,))

    return work


def notes(conn: Connection) -> list[int]:
    return [row["id"] for row in conn.execute("select id from notes order by id")]


async def outcomes(driver: PostgresDriver, conn: Connection, *works: Callable[[Connection], Any]) -> list[Any]:
    """Those of works in one transaction."""
    future = asyncio.get_running_loop().create_future()
    return transact(driver, [Pending(work, future) for work in works], None, (), conn)[0]


def refused(conn: Connection) -> str:
    """A work that goes on after an error of its own kind."""
    try:
        return str(conn.execute("select count(*) from notes").fetchone()[0])
    except EngineError as error:
        return error.message


async def test_a_fenced_node_commits_nothing_whatever_its_works_do_with_the_error(
    driver: PostgresDriver, conn: PostgresConnection
) -> None:
    conn.script("delete from node_commits")
    for works in ([noted(1), refused], [refused, noted(2)], [noted(3), refused, noted(4), refused]):
        with pytest.raises(Fenced):
            await outcomes(driver, conn, *works)
        assert notes(conn) == []


def hidden(conn: Connection) -> str:
    with suppress(psycopg.Error):
        conn.execute("select 1 / 0").fetchone()
    return "hidden"


async def test_an_error_that_a_work_hides_is_nobody_else_s(driver: PostgresDriver, conn: PostgresConnection) -> None:
    one, failed, two = await outcomes(driver, conn, noted(1), hidden, noted(2))
    assert (one, two) == (None, None)
    assert isinstance(failed, psycopg.errors.InFailedSqlTransaction)
    read = [partial(reading, driver, work, (), {}) for work in (notes, hidden, notes)]
    assert each_of(driver, [*read, notes], conn) == [[1, 2], "hidden", [1, 2], [1, 2]]


async def test_an_error_that_a_subscriber_hides_undoes_its_work_alone() -> None:
    def subscriber(conn: Connection, notification: Notification) -> None:
        noted(2)(conn)
        hidden(conn)

    def work(conn: Connection, observers: Observers) -> None:
        conn.execute("create table notes (id bigint primary key)")
        noted(1)(conn)
        observers.publish(conn, Notification("budget.near", "b", {}))

    async with nodes(()) as [one]:
        one.engine.observers._add_subscriber("strange", subscriber)
        await one.engine.db.write(work, one.engine.observers)
        assert await one.engine.db.read(notes) == [1]


def crowd(count: int) -> Callable[[Connection], int]:
    marks = ", ".join("?" * count)
    return lambda conn: int(conn.execute(f"select count(*) from notes where id in ({marks})", range(count)).rowcount)


async def test_a_statement_with_too_many_values_fails_alone(driver: PostgresDriver, conn: PostgresConnection) -> None:
    most, none, one = await outcomes(driver, conn, crowd(65535), crowd(65536), noted(1))
    assert (most, one) == (-1, None)
    assert isinstance(none, psycopg.ProgrammingError)
    assert driver.fault(none) is None  # which would be one of the database
    assert notes(conn) == [1]


async def test_a_connection_that_is_left_within_a_round_trip_is_not_used_again(
    driver: PostgresDriver, conn: PostgresConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(statements, "partial", lambda *args: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            notes(conn)
    await outcomes(driver, conn, noted(1))
    assert notes(conn) == [1]


@pytest.mark.parametrize(
    ("row", "stored"),
    [
        ((True, 2, 3, b"4"), (1, 2.0, "3", b"4")),
        ((1.0, 2.5, True, None), (1, 2.5, "1", None)),
        ((None, None, 2**40, memoryview(b"4")), (None, None, str(2**40), b"4")),
        (("1", 0.0, "", b""), None),
        ((1, 0.0, "", 4), None),
        ((1, 0.0, "", "4"), None),
        ((1, 10**400, "", b""), None),
        ((2**63, 0.0, "", b""), None),
        ((1, 0.0, "\ud800", b""), None),
    ],
)
def test_many_rows_are_stored_as_one_is_or_refused_as_that(
    row: tuple[Any, ...], stored: tuple[Any, ...] | None, conn: PostgresConnection
) -> None:
    sql = "insert into kinds (number, amount, words, data) values (?, ?, ?, ?)"
    for count in (1, 3):
        conn.script("delete from kinds")
        if stored is None:
            with pytest.raises((psycopg.Error, OverflowError, UnicodeEncodeError)):
                conn.executemany(sql, [row] * count)
        else:
            assert conn.executemany(sql, [row] * count).rowcount == count
        found = [tuple(one) for one in conn.execute("select number, amount, words, data from kinds")]
        assert found == ([] if stored is None else [stored] * count)


def test_what_others_have_prepared_on_a_server_behind_a_pooler_stays(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "_PREPARED", 3)
    with closing(PostgresConnection(Options(url, pooler=True))) as conn:
        conn.script("prepare of_another as select 1")
        for number in range(9):
            conn.execute(f"select {number}").fetchone()
        assert conn.execute("select count(*) from pg_prepared_statements").fetchone()[0] == 1


def test_errors_in_a_savepoint_come_at_once_after_a_release_that_has_failed(
    driver: PostgresDriver, conn: PostgresConnection
) -> None:
    driver.begin(conn, None)
    for sql in ("savepoint outer_one", "savepoint inner_one", "insert into notes values (1)"):
        conn.execute(sql)
    for sql in ("insert into notes values (1)", "release inner_one"):
        with pytest.raises(psycopg.Error):
            conn.execute(sql)
    for sql in ("rollback to inner_one", "release inner_one", "insert into notes values (2)"):
        conn.execute(sql)
    with pytest.raises(psycopg.Error):
        conn.execute("insert into notes values (2)")
    driver.roll_back(conn)


def run(conn: Connection, sql: str) -> None:
    conn.execute(sql)


@pytest.mark.parametrize("act", ["import", "rollback"])
async def test_a_full_disk_is_told_of_where_a_work_has_savepoints_of_its_own(act: str) -> None:
    async with nodes(()) as [one]:
        assert (await one.http.post("/api/v1/agents", json={"name": "a", "system": "one"})).status_code == 201
        assert (await one.http.put("/api/v1/agents/a", json={"system": "two"})).status_code == 200
        for sql in (
            """create function fails() returns trigger language plpgsql as
            'begin raise exception ''no space left'' using errcode = ''53100''; end'""",
            "create trigger fails before update on agents for each row execute function fails()",
        ):
            await one.engine.db.write(run, sql)
        if act == "import":
            answer = await one.http.post("/api/v1/config/import", content="agents:\n  a:\n    system: three\n")
        else:
            answer = await one.http.post("/api/v1/agents/a/rollback", json={"version": 1})
        assert (answer.status_code, "disk of the database server" in answer.text) == (503, True), answer.text
