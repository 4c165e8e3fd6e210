"""The driver of PostgreSQL: transactions, locks, the lease, lost connections, errors."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from uuid import uuid4

import psycopg
import pytest
from bytebrew_postgres.connection import PostgresConnection
from bytebrew_postgres.driver import IDLE_SECONDS, PostgresDriver
from bytebrew_postgres.errors import UnknownOutcome
from bytebrew_postgres.migrate import BASELINE, Translation

from bytebrew.base.errors import BootError, Fenced, SettingsError
from bytebrew.contract.connection import Connection
from bytebrew.contract.storage.migration import Migration
from bytebrew.store.sqlite.migrations import CORE
from bytebrew.testing.postgres import USER, Server, server

pytestmark = pytest.mark.postgresql


@pytest.fixture
def driver(shared: Server) -> Iterator[PostgresDriver]:
    name = f"driver_{uuid4().hex}"
    shared.execute(f"create database {name} owner {USER}")
    made = PostgresDriver(shared.url(name))
    with made.migrated({"core": made.core_migrations(CORE)}, lambda conn: None) as conn:
        conn.execute("create table notes (id bigint primary key, text text)")
    yield made
    shared.execute(f"drop database {name} with (force)")


@pytest.fixture
def conn(driver: PostgresDriver) -> Iterator[PostgresConnection]:
    with closing(driver.open()) as made:
        yield made


def join(driver: PostgresDriver, conn: PostgresConnection) -> None:
    """Registers the driver's node."""
    columns, values = "(name, version, key_code, started_at, seen)", "('one', '1', '', '', 0)"
    driver.node = conn.execute(f"insert into nodes {columns} values {values} returning id").fetchone()[0]
    conn.execute("insert into node_commits values (?, 0)", (driver.node,))


def note(driver: PostgresDriver, conn: PostgresConnection, number: int) -> None:
    driver.begin(conn, None)
    conn.execute("insert into notes values (?, 'x')", (number,))
    driver.commit(conn)


def notes(conn: PostgresConnection) -> list[int]:
    return [row["id"] for row in conn.execute("select id from notes order by id")]


def kill(shared: Server, conn: PostgresConnection) -> None:
    """Ends the server's process of a connection."""
    shared.execute(f"select pg_terminate_backend({conn.native.info.backend_pid}, 5000)")


def test_what_is_committed_is_there_and_what_is_rolled_back_is_not(
    driver: PostgresDriver, conn: PostgresConnection
) -> None:
    note(driver, conn, 1)
    driver.begin(conn, None)
    assert conn.in_transaction
    conn.execute("insert into notes values (2, 'x')")
    driver.roll_back(conn)
    assert not conn.in_transaction
    assert notes(conn) == [1]


def test_a_transaction_with_a_failed_statement_is_not_taken_for_committed(
    driver: PostgresDriver, conn: PostgresConnection
) -> None:
    driver.begin(conn, None)
    conn.execute("insert into notes values (1, 'x')")
    conn.execute("insert into notes values (1, 'x')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.flush()
    with pytest.raises(psycopg.Error):
        driver.commit(conn)
    assert notes(conn) == []


def test_a_write_is_run_with_the_next_statement_or_when_its_rows_are_counted(
    driver: PostgresDriver, conn: PostgresConnection
) -> None:
    driver.begin(conn, None)
    first = conn.execute("insert into notes values (1, 'x')")
    assert first.rowcount == 1
    conn.execute("insert into notes values (2, 'x')")
    changed = conn.execute("update notes set text = 'y'")
    assert [row[0] for row in conn.execute("select id from notes where text = 'y' order by id")] == [1, 2]
    assert changed.rowcount == 2
    conn.execute("insert into notes values (3, 'x')")
    driver.commit(conn)
    assert notes(conn) == [1, 2, 3]


def test_a_rollback_drops_the_writes_that_wait(driver: PostgresDriver, conn: PostgresConnection) -> None:
    note(driver, conn, 1)
    driver.begin(conn, None)
    conn.execute("insert into notes values (2, 'x')")
    driver.roll_back(conn)
    note(driver, conn, 3)
    assert notes(conn) == [1, 3]


def test_a_statement_that_a_failure_has_kept_from_being_prepared_runs_later(
    driver: PostgresDriver, conn: PostgresConnection
) -> None:
    note(driver, conn, 1)
    assert [notes(conn), notes(conn)] == [[1], [1]]
    driver.begin(conn, None)
    conn.execute("insert into notes values (1, 'x')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        notes(conn)  # the third time, and so prepared first, but for the failure before it
    driver.roll_back(conn)
    assert notes(conn) == [1]


def test_a_rollback_to_a_savepoint_ends_a_failure(driver: PostgresDriver, conn: PostgresConnection) -> None:
    driver.begin(conn, None)
    conn.execute("insert into notes values (1, 'x')")
    conn.execute("savepoint work")
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute("insert into notes values (1, 'x')")
    conn.execute("rollback to work")
    conn.execute("release work")
    driver.commit(conn)
    assert notes(conn) == [1]


def blocked(driver: PostgresDriver, sessions: list[str] | None) -> bool:
    """Whether another transaction waits, for half a second at least."""
    begun = threading.Event()

    def run() -> None:
        with closing(driver.open()) as other:
            driver.begin(other, sessions)
            other.flush()
            begun.set()
            driver.roll_back(other)

    thread = threading.Thread(target=run)
    thread.start()
    waits = not begun.wait(0.5)
    _joining.append(thread)
    return waits


_joining: list[threading.Thread] = []


@pytest.mark.parametrize(
    ("held", "wanted", "waits"),
    [
        (None, None, True),
        (None, ["a"], True),
        (["a"], None, True),
        (["a"], ["a", "b"], True),
        (["a"], ["b"], False),
        ([], ["b"], False),
        ([], None, True),
    ],
)
def test_writes_to_sessions_of_their_own_run_at_once_and_others_alone(
    driver: PostgresDriver, conn: PostgresConnection, held: list[str] | None, wanted: list[str] | None, waits: bool
) -> None:
    driver.begin(conn, held)
    conn.flush()
    assert blocked(driver, wanted) == waits
    driver.roll_back(conn)
    while _joining:
        _joining.pop().join(10)


def test_a_database_that_has_lost_commits_begins_one_new_epoch(
    driver: PostgresDriver, conn: PostgresConnection
) -> None:
    join(driver, conn)
    for number in (1, 2):
        note(driver, conn, number)
    conn.execute("update node_commits set n = 1")
    for number in (3, 4):
        with pytest.raises(Fenced, match="has lost commits"):
            note(driver, conn, number)
    driver.roll_back(conn)
    assert conn.execute("select epoch from history").fetchone()[0] == 2
    assert notes(conn) == [1, 2]


def test_a_node_whose_lease_has_ended_commits_nothing(driver: PostgresDriver, conn: PostgresConnection) -> None:
    join(driver, conn)
    note(driver, conn, 1)
    conn.execute("delete from node_commits")
    with pytest.raises(Fenced):
        note(driver, conn, 2)
    assert not conn.in_transaction
    driver.roll_back(conn)
    assert notes(conn) == [1]


def test_a_lost_connection_is_opened_again_at_the_next_begin(
    driver: PostgresDriver, conn: PostgresConnection, shared: Server
) -> None:
    driver.begin(conn, None)
    conn.execute("insert into notes values (1, 'x')")
    kill(shared, conn)
    conn.execute("insert into notes values (2, 'x')")
    with pytest.raises(psycopg.Error) as lost:
        conn.flush()
    assert driver.breaks(lost.value)
    assert driver.may_pass(lost.value)
    fault = driver.fault(lost.value)
    assert fault is not None
    assert "cannot be reached" in fault.message
    driver.roll_back(conn)
    note(driver, conn, 3)
    kill(shared, conn)
    with pytest.raises(psycopg.Error) as lost:
        note(driver, conn, 4)
    assert driver.may_pass(lost.value)  # as the transaction had not begun
    note(driver, conn, 4)
    kill(shared, conn)
    driver.begin_read(conn)
    with pytest.raises(psycopg.Error) as lost:
        notes(conn)
    assert driver.may_pass(lost.value)
    driver.roll_back(conn)
    driver.begin_read(conn)
    assert notes(conn) == [3, 4]


def broken_at_commit(shared: Server, conn: PostgresConnection, *, before: bool) -> Callable[[str], str]:
    """`script`, but the connection ends before or after the commit."""
    script = conn.script

    def run(sql: str) -> str:
        if sql != "commit":
            return script(sql)
        conn.script = script  # type: ignore[method-assign]
        if not before:
            script(sql)
        kill(shared, conn)
        return script("select 1")

    return run


@pytest.mark.parametrize("before", [True, False])
def test_the_outcome_of_a_commit_is_known_after_its_connection_is_lost(
    driver: PostgresDriver, conn: PostgresConnection, shared: Server, before: bool
) -> None:
    join(driver, conn)
    note(driver, conn, 1)
    conn.script = broken_at_commit(shared, conn, before=before)  # type: ignore[method-assign, assignment]
    with pytest.raises(UnknownOutcome) as unknown:
        note(driver, conn, 2)
    assert driver.unsettled(unknown.value)
    assert driver.is_stored(conn) == (not before)
    assert notes(conn) == ([1] if before else [1, 2])
    note(driver, conn, 3)


def test_an_outcome_that_cannot_be_known_is_no_reason_to_try_again(
    driver: PostgresDriver, conn: PostgresConnection, shared: Server
) -> None:
    conn.script = broken_at_commit(shared, conn, before=True)  # type: ignore[method-assign, assignment]
    with pytest.raises(UnknownOutcome) as unknown:
        note(driver, conn, 1)
    assert not driver.unsettled(unknown.value)
    assert driver.breaks(unknown.value)
    assert not driver.may_pass(unknown.value)


def test_a_transaction_that_does_nothing_is_ended_so_that_others_go_on(
    driver: PostgresDriver, conn: PostgresConnection
) -> None:
    with closing(driver.open()) as stopped:
        driver.begin(stopped, None)
        stopped.flush()
        begun = time.monotonic()
        note(driver, conn, 1)
        assert time.monotonic() - begun < IDLE_SECONDS + 20
        stopped.execute("insert into notes values (2, 'x')")
        with pytest.raises(psycopg.Error):
            stopped.flush()


def test_a_read_cannot_write(driver: PostgresDriver) -> None:
    with closing(driver.open(read_only=True)) as reader:
        driver.begin_read(reader)
        with pytest.raises(psycopg.Error) as refused:
            reader.execute("insert into notes values (1, 'x')")
        assert driver.wrote(refused.value)


def test_an_interrupt_ends_the_running_statement(driver: PostgresDriver, conn: PostgresConnection) -> None:
    threading.Timer(0.2, conn.interrupt).start()
    with pytest.raises(psycopg.Error) as interrupted:
        conn.execute("select pg_sleep(20)")
    assert driver.interrupted(interrupted.value)
    assert driver.fault(interrupted.value) is None


def test_an_interrupt_while_the_server_is_away_leaves_the_statement_to_its_connection() -> None:
    with server() as own, closing(PostgresDriver(own.url()).open()) as conn:
        own.kill()
        conn.interrupt()


def test_one_node_migrates_and_others_wait(driver: PostgresDriver) -> None:
    slow = driver.text(Migration(1, "", postgres="select pg_sleep(0.5); create table slow (id bigint);"))
    owners = {"core": driver.core_migrations(CORE), "slow": [(1, slow)]}
    failures: list[Exception] = []

    def run() -> None:
        try:
            with driver.migrated(owners, lambda conn: None):
                pass
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failures == []


def migrate(driver: PostgresDriver, *texts: str) -> None:
    steps = [(number, driver.text(Migration(number, text))) for number, text in enumerate(texts, 1)]
    with driver.migrated({"core": driver.core_migrations(CORE), "demo": steps}, lambda conn: None):
        pass


def test_a_database_that_is_newer_or_was_made_by_edited_migrations_is_refused(driver: PostgresDriver) -> None:
    first, second = "create table one (id integer primary key) strict;", "alter table one add column n integer;"
    migrate(driver, first, second)
    with pytest.raises(BootError, match="newer than this demo: it has migration 2, known is 1"):
        migrate(driver, first)
    with pytest.raises(BootError, match="migration 2 of demo was edited"):
        migrate(driver, first, "alter table one add column m integer;")
    with pytest.raises(BootError, match="migration 3 of demo failed"):
        migrate(driver, first, second, "create table two (id integer primary key); create table one (id integer);")
    migrate(driver, first, second, "create table two (id integer primary key);")


def test_a_migration_that_is_translated_otherwise_is_not_an_edited_one(driver: PostgresDriver) -> None:
    core, source = driver.core_migrations(CORE), "create table one (id integer primary key) strict;"
    for text in (driver.text(Migration(1, source)), Translation("create table one (id int8 primary key)", source)):
        with driver.migrated({"core": core, "demo": [(1, text)]}, lambda conn: None) as conn:
            assert len(conn.execute("select id from one").fetchall()) == 0
    with pytest.raises(BootError, match="migration 1 of demo was edited"):
        migrate(driver, "create table one (id integer primary key, n integer) strict;")


@pytest.mark.parametrize("older", range(BASELINE, len(CORE)))
def test_a_database_of_any_number_since_the_baseline_becomes_like_a_new_one(
    older: int, driver: PostgresDriver, conn: PostgresConnection, shared: Server
) -> None:
    shared.execute(f"create database {(name := f'older_{uuid4().hex}')} owner {USER}")
    other = PostgresDriver(shared.url(name))
    for steps in (CORE[:older], CORE):
        with other.migrated({"core": other.core_migrations(steps)}, lambda conn: None) as upgraded:
            there = _columns(upgraded)
    assert there == _columns(conn)
    shared.execute(f"drop database {name} with (force)")


def _columns(conn: Connection) -> list[tuple[str, ...]]:
    sql = """select table_name, column_name, data_type, is_nullable, coalesce(column_default, '')
      from information_schema.columns where table_schema = 'public' and table_name <> 'notes'
      order by table_name, ordinal_position"""
    return [tuple(row) for row in conn.execute(sql)]


def test_an_address_is_named_without_its_password(shared: Server) -> None:
    driver = PostgresDriver("postgresql://somebody:hush@127.0.0.1:1/nowhere")
    assert "hush" not in driver.place
    with pytest.raises(BootError) as away, driver.migrated({}, lambda conn: None):
        pass
    assert "hush" not in str(away.value)
    assert "cannot be reached" in str(away.value)
    with pytest.raises(SettingsError) as invalid:
        PostgresDriver("postgresql://somebody:hush@host:port/x y=?")
    assert "hush" not in str(invalid.value)
    with pytest.raises(SettingsError) as misspelt:
        PostgresDriver("postgresql://somebody:hush%zz@host/x")
    assert "hush" not in str(misspelt.value)
    assert misspelt.value.__suppress_context__  # which has the password


def test_a_server_that_refuses_the_password_is_quoted_with_its_reason_and_without_it(shared: Server) -> None:
    driver = PostgresDriver(shared.url().replace(shared.password, "hush"))
    for opened in (driver.migrated({}, lambda conn: None), driver.transfer({}).writing()):
        with pytest.raises(BootError, match="password authentication failed") as refused, opened:
            pass
        assert "hush" not in str(refused.value)


def test_a_database_of_another_encoding_is_refused_before_a_table_is_made(shared: Server) -> None:
    shared.execute("create database latin owner bytebrew encoding 'LATIN1' template template0")
    driver = PostgresDriver(shared.url("latin"))
    with pytest.raises(BootError, match="encoded in LATIN1"), driver.migrated({}, lambda conn: None):
        pass
    assert shared.execute("select count(*) from pg_class where relname = 'migrations'", "latin") == "0"
    shared.execute("drop database latin")


def test_a_role_without_rights_is_told_what_it_lacks(shared: Server) -> None:
    name = f"closed_{uuid4().hex}"
    shared.execute(f"create database {name}")
    made = PostgresDriver(shared.url(name))
    with pytest.raises(BootError, match="make it the owner"), made.migrated({}, lambda conn: None):
        pass
    shared.execute(f"drop database {name}")
