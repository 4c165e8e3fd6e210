"""The database: group commit, isolation of failures, readers."""

import asyncio
import itertools
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from bytebrew.base.errors import BootError, StorageError, TooSlow
from bytebrew.contract.connection import Connection, recalled
from bytebrew.store.backups.copies import copy_database, make_file
from bytebrew.store.database import transactions
from bytebrew.store.database.checkpoints import COMMITS
from bytebrew.store.database.database import GATHER_SECONDS, MANY, Database
from bytebrew.store.database.scans import SCANNERS
from bytebrew.store.database.write_queue import Rows
from bytebrew.store.sqlite.driver import SQLiteDriver
from bytebrew.store.sqlite.epoch import uri_to_read
from bytebrew.store.sqlite.pragmas import BUSY_SECONDS, LATE_PAGES, connect
from tests.tables import trace

pytestmark = pytest.mark.sqlite


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(SQLiteDriver(tmp_path / "test.db")) as opened:
        await opened.write(lambda conn: conn.execute("create table t (n integer primary key) strict"))
        yield opened


def insert(conn: Connection, n: int) -> int:
    conn.execute("insert into t values (?)", (n,))
    return n


def count(conn: Connection) -> int:
    found: int = conn.execute("select count(*) from t").fetchone()[0]
    return found


def pragma(conn: Connection, name: str) -> object:
    return conn.execute(f"pragma {name}").fetchone()[0]


async def test_writes_of_many_callers_share_a_commit(db: Database) -> None:
    statements: list[str] = []
    await db.write(lambda conn: trace(conn, statements.append))
    assert await asyncio.gather(*(db.write(insert, n) for n in range(100))) == list(range(100))
    await db.write(lambda conn: trace(conn, None))
    assert sum(statement.lower() == "commit" for statement in statements) <= 3
    assert await db.read(count) == 100


async def test_a_work_that_fails_is_undone_alone(db: Database) -> None:
    def broken(conn: Connection) -> None:
        insert(conn, 50)
        raise KeyError("no")

    results = await asyncio.gather(
        db.write(insert, 1), db.write(broken), db.write(insert, 1), db.write(insert, 2), return_exceptions=True
    )
    assert [type(result) for result in results] == [int, KeyError, sqlite3.IntegrityError, int]
    assert await db.read(count) == 2


async def test_sql_that_is_wrong_fails_alone_with_its_rows_source_unharmed(db: Database) -> None:
    class Seven:
        refused: list[Any]

        def take(self) -> Rows:
            return [(7,), (8,)]

        def insert(self, conn: Connection, rows: Rows) -> None:
            conn.executemany("insert into t values (?)", rows)

        def settled(self, refused: Mapping[Any, Exception]) -> None:
            self.refused = [*refused]

        def lost(self, error: Exception) -> None:
            raise error

    db.source(rows := Seven())
    wrong = "insert into no_such_table values (1)"
    results = await asyncio.gather(
        db.write(insert, 1), db.write(lambda conn: conn.execute(wrong)), db.write(insert, 2), return_exceptions=True
    )
    assert [type(result) for result in results] == [int, sqlite3.OperationalError, int]
    assert rows.refused == []
    assert await db.read(count) == 4


async def test_a_cancelled_caller_does_not_undo_its_write(db: Database) -> None:
    writing = asyncio.create_task(db.write(insert, 1))
    await asyncio.sleep(0)
    writing.cancel()
    await db.write(insert, 2)
    assert await db.read(count) == 2


async def test_a_reader_sees_what_is_committed_and_cannot_write(db: Database) -> None:
    def slow(conn: Connection) -> None:
        insert(conn, 1)
        time.sleep(0.1)

    writing = asyncio.create_task(db.write(slow))
    await asyncio.sleep(0.03)
    assert await db.read(count) == 0
    await writing
    assert await db.read(count) == 1
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await db.read(insert, 2)
    assert await db.read(count) == 1


async def test_a_read_that_fails_fails_alone_among_those_beside_it(db: Database) -> None:
    def broken(conn: Connection) -> None:
        raise KeyError("no")

    def empty(conn: Connection) -> None:
        next(iter(()))

    works = [count, broken, empty, count, lambda conn: conn.execute("select * from no_such_table")]
    results = await asyncio.gather(*map(db.read, works), *map(db.glance, works), return_exceptions=True)
    kinds = [int, KeyError, RuntimeError, int, sqlite3.OperationalError]
    assert [type(result) for result in results] == kinds * 2
    assert await asyncio.gather(*(db.read(count) for _ in range(20))) == [0] * 20


async def test_a_long_read_holds_up_no_more_than_those_that_share_its_hop(db: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def long(conn: Connection) -> None:
        begun.set()
        go_on.wait(5)

    reading = asyncio.create_task(db.read(long))
    await asyncio.to_thread(begun.wait)
    for _ in range(20):
        assert await asyncio.wait_for(db.read(count), 2) == 0
    go_on.set()
    await reading


async def test_a_read_whose_caller_was_cancelled_while_it_waited_is_not_done(db: Database) -> None:
    go_on, seen = threading.Event(), []
    busy = [asyncio.create_task(db.read(lambda conn: go_on.wait(5))) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(db.read(lambda conn, n=n: seen.append(n))) for n in range(3)]  # type: ignore[misc]
    await asyncio.sleep(0)
    waiting[1].cancel()
    go_on.set()
    await asyncio.gather(*busy, waiting[0], waiting[2])
    assert seen == [0, 2]


async def test_who_reads_when_the_database_is_closed_is_not_left_waiting(tmp_path: Path) -> None:
    go_on = threading.Event()
    async with Database(SQLiteDriver(tmp_path / "test.db")) as db:
        reading = [asyncio.create_task(db.read(lambda conn: go_on.wait(0.2))) for _ in range(3)]
        await asyncio.sleep(0.05)
    done, waiting = await asyncio.wait(reading, timeout=2)
    assert (len(done), waiting) == (3, set())
    with pytest.raises(RuntimeError, match="closed"):
        await db.read(count)


ENDLESS = "with recursive n (n) as (select 1 union all select n + 1 from n) select count(*) from n"


def endless(conn: Connection) -> None:
    conn.execute(ENDLESS).fetchall()


async def test_reads_are_answered_while_every_scanner_is_busy(db: Database) -> None:
    go_on = threading.Event()
    scans = [asyncio.create_task(db.scan(lambda conn: go_on.wait(5))) for _ in range(3 * SCANNERS)]
    for _ in range(20):
        assert await asyncio.wait_for(db.read(count), 2) == await asyncio.wait_for(db.glance(count), 2) == 0
    assert not any(scan.done() for scan in scans)
    go_on.set()
    await asyncio.gather(*scans)


async def test_a_scan_that_takes_too_long_is_interrupted_and_its_reader_works_on(tmp_path: Path) -> None:
    async with Database(SQLiteDriver(tmp_path / "test.db"), scan_seconds=0.1) as db:
        await db.write(lambda conn: conn.execute("create table t (n integer primary key) strict"))
        slow = await asyncio.gather(*(db.scan(endless) for _ in range(2 * SCANNERS)), return_exceptions=True)
        assert [type(one) for one in slow] == [TooSlow] * 2 * SCANNERS
        assert (slow[0].status, slow[0].code) == (503, "too_slow")  # type: ignore[union-attr]
        assert "narrow the request" in str(slow[0])
        assert await asyncio.gather(*(db.scan(count) for _ in range(2 * SCANNERS))) == [0] * 2 * SCANNERS
        assert db.fault is None


async def test_a_scan_of_many_short_statements_is_interrupted_too(tmp_path: Path) -> None:
    def many(conn: Connection) -> None:
        while True:
            conn.execute("select 1").fetchall()

    def slow_then_many(conn: Connection) -> None:
        time.sleep(0.2)
        many(conn)

    async with Database(SQLiteDriver(tmp_path / "test.db"), scan_seconds=0.1) as db:
        with pytest.raises(TooSlow):
            await asyncio.wait_for(db.scan(slow_then_many), 10)


async def test_a_scan_whose_caller_has_gone_frees_its_reader(db: Database) -> None:
    scans = [asyncio.create_task(db.scan(endless)) for _ in range(SCANNERS)]
    await asyncio.sleep(0.05)
    for scan in scans:
        scan.cancel()
    assert await asyncio.wait_for(db.scan(count), 2) == 0


async def test_a_scan_sees_one_state_and_cannot_write(db: Database) -> None:
    def twice(conn: Connection) -> tuple[int, int]:
        first = count(conn)
        time.sleep(0.1)
        return first, count(conn)

    scan = asyncio.create_task(db.scan(twice))
    await asyncio.sleep(0.03)
    await db.write(insert, 1)
    assert await scan == (0, 0)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await db.scan(insert, 2)


async def test_a_database_closes_although_scans_run_and_wait(tmp_path: Path) -> None:
    async with Database(SQLiteDriver(tmp_path / "test.db")) as db:
        scans = [asyncio.create_task(db.scan(endless)) for _ in range(2 * SCANNERS)]
        await asyncio.sleep(0.05)
    done, waiting = await asyncio.wait(scans, timeout=2)
    assert (len(done), waiting) == (2 * SCANNERS, set())


async def test_a_read_sees_one_state_throughout(db: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def twice(conn: Connection) -> tuple[int, int]:
        first = count(conn)
        begun.set()
        go_on.wait(5)
        return first, count(conn)

    reading = asyncio.create_task(db.read(twice))
    await asyncio.to_thread(begun.wait)
    await db.write(insert, 1)
    go_on.set()
    assert await reading == (0, 0)


async def test_another_process_that_holds_the_lock_is_waited_for(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await db.write(lambda conn: conn.execute("pragma busy_timeout = 50").fetchall())
    other = connect(tmp_path / "test.db")
    other.execute("begin immediate")
    writing = asyncio.create_task(db.write(insert, 1))
    await asyncio.sleep(0.3)
    assert not writing.done()
    other.execute("rollback")
    other.close()
    assert await writing == 1
    assert "another process" in caplog.text


async def test_an_event_whose_work_the_end_of_the_database_failed_is_not_stored_alone(tmp_path: Path) -> None:
    class Eight:
        """A source with one row, which belongs to a work of its session."""

        def take(self) -> Rows:
            return [("s", 8)]

        def insert(self, conn: Connection, rows: Rows) -> None:
            insert(conn, rows[0][1])

        def settled(self, refused: Mapping[Any, Exception]) -> None:
            raise AssertionError

        def lost(self, error: Exception) -> None:
            pass

    class Log:
        session_id = "s"
        error: Exception | None = None

    async with Database(SQLiteDriver(tmp_path / "test.db")) as db:
        await db.write(lambda conn: conn.execute("create table t (n integer primary key) strict"))
        db.source(Eight())
        ending = asyncio.create_task(db.write_for(Log(), insert, 9))
        await asyncio.sleep(0)
        db.end(StorageError("a thread has died", lasting=True))
        with pytest.raises(StorageError, match="a thread has died"):
            await ending
    with closing(connect(tmp_path / "test.db", "off")) as conn:
        assert count(conn) == 0


def test_a_rollback_that_finds_no_memory_is_logged_so_that_its_thread_lives_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scarce = Mock(in_transaction=True)
    scarce.execute.side_effect = MemoryError
    SQLiteDriver(tmp_path / "test.db").roll_back(scarce)
    assert "a rollback failed: MemoryError()" in caplog.text


async def test_what_was_asked_for_before_the_end_is_committed(tmp_path: Path) -> None:
    async with Database(SQLiteDriver(tmp_path / "end.db")) as db:
        await db.write(lambda conn: conn.execute("create table t (n integer primary key) strict"))
        tasks = [asyncio.create_task(db.write(insert, n)) for n in range(20)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    with sqlite3.connect(tmp_path / "end.db") as conn:
        assert count(conn) == 20
    conn.close()


async def test_the_file_has_the_promised_pragmas(tmp_path: Path) -> None:
    for level, number in (("normal", 1), ("full", 2)):
        async with Database(SQLiteDriver(tmp_path / f"{level}.db", level)) as db:
            pragmas = ("journal_mode", "synchronous", "foreign_keys", "auto_vacuum")
            found = [await db.write(pragma, name) for name in pragmas]
            assert found == ["wal", number, 1, 2]


async def test_a_backup_is_whole_while_writes_go_on(db: Database, tmp_path: Path) -> None:
    stop = False

    async def write() -> int:
        n = 0
        while not stop:
            await asyncio.gather(*(db.write(insert, n + i) for i in range(50)))
            n += 50
        return n

    writing = asyncio.create_task(write())
    await asyncio.sleep(0.05)
    make_file(tmp_path / "copy.db", "the copy")
    file = tmp_path / "test.db"
    await asyncio.to_thread(copy_database, file, uri_to_read(file), tmp_path / "copy.db")
    stop = True
    written = await writing
    copy = sqlite3.connect(tmp_path / "copy.db")
    assert copy.execute("pragma integrity_check").fetchone() == ("ok",)
    assert 0 < count(copy) <= written
    copy.close()
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    with pytest.raises(BootError, match="is there already"):
        make_file(tmp_path / "copy.db", "the copy")


class Chatter:
    """A source that always has a row of each of its writers."""

    def __init__(self, *writers: int) -> None:
        self.writers, self.taken = writers, [0.0]

    def take(self) -> Rows:
        self.taken.append(time.monotonic())
        return [(n,) for n in self.writers]

    def insert(self, conn: Connection, rows: Rows) -> None:
        conn.executemany("insert or ignore into t values (?)", rows)

    def settled(self, refused: Mapping[Any, Exception]) -> None:
        assert not refused

    def lost(self, error: Exception) -> None:
        raise error


@pytest.mark.parametrize(("writers", "waits"), [(1, False), (MANY - 1, False), (MANY, True)], ids=["1", "few", "many"])
async def test_where_many_write_transactions_keep_a_distance_in_which_more_can_join(
    db: Database, writers: int, waits: bool
) -> None:
    db.source(source := Chatter(*range(writers)))
    for n in range(20):
        await db.write(insert, 100 + n)
    gaps = [after - before for before, after in itertools.pairwise(source.taken[1:])]
    assert (min(gaps) >= GATHER_SECONDS * 0.9) is waits


def copied(path: Path) -> int:
    """How many rows the file itself has, without the log of the database."""
    alone = path.with_name("alone.db")
    alone.write_bytes(path.read_bytes())
    with closing(sqlite3.connect(alone)) as conn:
        return count(conn) if conn.execute("select 1 from sqlite_master").fetchone() else 0


async def test_a_scanner_copies_the_log_into_the_file_so_that_no_commit_does(db: Database, tmp_path: Path) -> None:
    for n in range(COMMITS - 2):  # the table was the first
        await db.write(insert, n)
    assert copied(tmp_path / "test.db") == 0
    await db.write(insert, COMMITS)
    together = threading.Barrier(SCANNERS)
    await asyncio.gather(*(db.scan(lambda conn: together.wait(5)) for _ in range(SCANNERS)))
    assert copied(tmp_path / "test.db") == COMMITS - 1


async def test_a_checkpoint_that_fails_is_no_fault_of_the_database(tmp_path: Path) -> None:
    failed = 0

    class Full(SQLiteDriver):
        def checkpoint(self, conn: Connection, *, empty: bool = False) -> None:
            nonlocal failed
            failed += 1
            raise sqlite3.OperationalError("database or disk is full")

    async with Database(Full(tmp_path / "test.db")) as db:
        await db.write(lambda conn: conn.execute("create table t (n integer primary key) strict"))
        for n in range(2 * COMMITS):
            await db.write(insert, n)
        assert await db.scan(count) == 2 * COMMITS
        assert failed
        assert db.fault is None


def test_a_log_is_emptied_only_if_its_readers_are_soon_done_as_writes_wait_meanwhile(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "test.db")) as conn, closing(connect(tmp_path / "test.db")) as reader:
        conn.execute("create table t (n integer primary key) strict")
        reader.execute("begin")
        reader.execute("select * from t").fetchall()
        conn.execute("insert into t values (1)")
        begun = time.monotonic()
        SQLiteDriver(tmp_path / "test.db").checkpoint(conn, empty=True)
        assert time.monotonic() - begun < BUSY_SECONDS / 2
        assert conn.execute("pragma busy_timeout").fetchone()[0] == BUSY_SECONDS * 1000


async def test_the_log_stays_small_where_no_scanner_is_free_to_copy_it(db: Database, tmp_path: Path) -> None:
    await db.write(lambda conn: conn.execute("create table large (data blob) strict"))
    for _ in range(2 * SCANNERS):  # more pages at once than a checkpoint per hundred commits allows for
        for _ in range(8):
            await db.write(lambda conn: conn.execute("insert into large values (zeroblob(2097152))"))
    assert (tmp_path / "test.db-wal").stat().st_size < 2 * LATE_PAGES * 4096


async def test_a_checkpoint_that_waits_at_the_end_of_the_database_is_forgotten(tmp_path: Path) -> None:
    async with Database(SQLiteDriver(tmp_path / "test.db")) as db:
        await db.write(lambda conn: conn.execute("create table t (n integer primary key) strict"))
        scans = [asyncio.create_task(db.scan(endless)) for _ in range(SCANNERS)]
        for n in range(COMMITS):
            await db.write(insert, n)
    for scan in scans:
        with pytest.raises(asyncio.CancelledError):
            await scan


def newest(conn: Connection) -> int:
    found: int = conn.execute("select max(n) from t").fetchone()[0]
    return found


def slow_here(conn: Connection, here: int) -> tuple[int, int]:
    """The number of rows, and the thread that counts them; the thread `here` would never end."""
    if (thread := threading.get_ident()) == here:
        endless(conn)
    return count(conn), thread


async def test_few_rows_are_read_in_the_event_loop_and_what_takes_long_in_a_thread(db: Database) -> None:
    here = threading.get_ident()
    for look in (db.glance, db.peek, db.browse):
        assert await look(lambda conn: (count(conn), threading.get_ident())) == (0, here)
        seen, thread = await look(slow_here, here)
        assert (seen, thread != here) == (0, True)
    assert await db.read(lambda conn: threading.get_ident()) != here


@pytest.mark.parametrize("how", ["write", "read"])
async def test_the_event_loop_reads_nothing_while_a_write_or_a_read_hangs(db: Database, how: str) -> None:
    here, release = threading.get_ident(), threading.Event()
    hanging = asyncio.create_task(getattr(db, how)(lambda conn: release.wait(10)))
    try:
        while await db.glance(lambda conn: threading.get_ident()) == here:
            assert not hanging.done()
            await asyncio.sleep(0.01)
    finally:
        release.set()
    await hanging
    assert await db.glance(lambda conn: threading.get_ident()) == here


async def test_work_that_takes_long_is_tried_in_the_event_loop_no_more_for_a_while(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, tried = threading.get_ident(), list[int]()

    def slow(conn: Connection) -> None:
        tried.append(threading.get_ident())
        if tried[-1] == here:
            endless(conn)

    for seconds, expected in ((-1, [True, False] * 2), (transactions.FAR_SECONDS, [True, False, False])):
        monkeypatch.setattr(transactions, "FAR_SECONDS", seconds)
        tried.clear()
        await db.browse(slow)
        await db.browse(slow)
        assert [thread == here for thread in tried] == expected


async def test_a_read_in_the_event_loop_sees_each_commit_and_keeps_none_open(db: Database) -> None:
    def broken(conn: Connection) -> None:
        rows, others = (conn.execute("select n from t") for _ in range(2))
        raise KeyError("its frame has cursors", rows.fetchone(), others.fetchone())

    await db.write(lambda conn: [insert(conn, n) for n in (-1, 0)])
    for n in range(1, 4):
        with pytest.raises(KeyError):
            await db.glance(broken)
        with pytest.raises(KeyError) as kept:
            await db.glance(broken)
        await db.write(insert, n)
        assert await db.peek(count) == await db.glance(count) == n + 2, kept
    await db.between(lambda conn: conn.execute("insert into t values (100)"))
    assert await db.glance(count) == 6


async def test_a_read_that_is_too_late_keeps_no_later_one_at_what_it_saw(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "NEAR_SECONDS", -1)
    monkeypatch.setattr(transactions, "FAR_SECONDS", -1)
    for n in range(1000):  # SQLite looks at the clock at each thousandth step of a statement
        await db.write(insert, n)
        assert await db.glance(newest) == n


async def test_a_read_that_meets_a_lock_in_the_event_loop_waits_in_a_thread(tmp_path: Path) -> None:
    async with Database(SQLiteDriver(tmp_path / "test.db")) as db:
        await db.write(lambda conn: conn.execute("create table t (n integer primary key) strict"))
        here, busy = threading.get_ident(), sqlite3.OperationalError("database is locked")

        def locked(conn: Connection) -> int:
            if threading.get_ident() == here:
                raise busy
            return count(conn)

        assert await db.glance(locked) == 0


async def test_what_a_work_has_found_is_kept_until_anybody_commits(tmp_path: Path) -> None:
    path, looks = tmp_path / "test.db", list[int]()

    def look(conn: Connection) -> int:
        looks.append(count(conn))
        return looks[-1]

    def numbers(conn: Connection) -> tuple[int, int]:
        return recalled(conn, look), count(conn)

    async with Database(SQLiteDriver(path)) as db:
        await db.write(lambda conn: conn.execute("create table t (n integer primary key) strict"))
        for n in range(1, 4):
            await db.write(insert, n)
            assert [await db.browse(numbers) for _ in range(3)] == [(n, n)] * 3
            assert await db.read(numbers) == (n, n)  # anew, as a reader keeps nothing
        assert looks == [1, 1, 2, 2, 3, 3]
        with closing(connect(path)) as other:  # as a command of the operator, which is another process
            other.execute("insert into t values (100)")
        assert await db.browse(numbers) == await db.browse(numbers) == (4, 4)
        await db.between(lambda conn: conn.execute("pragma wal_checkpoint(truncate)").fetchall())
        await db.write(insert, 5)
        assert await db.browse(numbers) == (5, 5)
