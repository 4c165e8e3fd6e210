"""The journal: numbers without gaps, bytes that replay the same, followers that wait and catch up."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bytebrew.base.errors import Draining, NotFound
from bytebrew.base.formats import new_uuid
from bytebrew.base.sse_reader import Parser
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import Done, ErrorEvent, Event, MessageDelta, ToolStarted
from bytebrew.contract.messages import Usage
from bytebrew.store import journal as journal_module
from bytebrew.store.database.database import MANY, Database
from bytebrew.store.journal import Journal, Log, OpenEventRange
from bytebrew.store.queries.events import last_number, read_events
from bytebrew.store.sqlite.driver import SQLiteDriver
from bytebrew.store.sqlite.migrate import migrate
from bytebrew.store.sqlite.migrations import CORE
from bytebrew.store.sqlite.pragmas import connect
from tests.tables import trace


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    conn = connect(tmp_path / "test.db")
    migrate(conn, "core", CORE)
    conn.close()
    async with Database(SQLiteDriver(tmp_path / "test.db")) as opened:
        yield opened


async def session(db: Database) -> str:
    session_id = new_uuid()
    row = (session_id, "s", "a", "owner", "", "", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "completed")
    sql = """insert into sessions (id, schema, agent, owner, user_sub, title, created_at, updated_at, status)
      values (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
    await db.write(lambda conn: conn.execute(sql, row))
    return session_id


async def collect(journal: Journal, log: Log, first: int, last: int | None = None, numbers: int = 0) -> bytes:
    raw = b""
    async with aclosing(journal.follow(log, OpenEventRange(first, last))) as frames:
        async for chunk in frames:
            raw += chunk
            if numbers and raw.count(b"\n\n") >= numbers:
                break
    return raw


async def test_events_are_numbered_without_gaps_and_replay_byte_for_byte(db: Database) -> None:
    journal = Journal(db)
    log = await journal.log(await session(db))
    live = asyncio.create_task(collect(journal, log, 1, numbers=700))
    for n in range(700):
        assert journal.append(log, MessageDelta(content=f"{n}\u2028\r\n")) == n + 1
        if n % 50 == 0:
            await asyncio.sleep(0)
    seen = await live
    assert [event.id for event in Parser().feed(seen)] == [str(n) for n in range(1, 701)]
    assert await collect(Journal(db), await Journal(db).log(log.session_id), 1, 700) == seen
    assert await collect(journal, log, 690, 700) == seen[seen.index(b"id: 690\n") :]


async def test_the_deltas_of_a_commit_are_one_row(db: Database) -> None:
    journal = Journal(db)
    log = await journal.log(await session(db))
    for n in range(50):
        journal.append(log, MessageDelta(content=f"{n}"))
    journal.append(log, ErrorEvent(session_id="s", turn_id="t", code="c", message="m"))
    await journal.flush(log)
    sql = "select n, type from events order by n"
    assert await db.read(lambda conn: [tuple(row) for row in conn.execute(sql)]) == [(50, "deltas"), (51, "error")]
    assert db.committed_rows == 51


async def test_nothing_is_sent_before_it_is_committed(db: Database) -> None:
    journal = Journal(db)
    log = await journal.log(await session(db))
    follower = journal.follow(log, OpenEventRange(1))
    journal.append(log, MessageDelta(content="x"))
    chunk = await anext(follower)
    assert await db.read(last_number, log.session_id) == 1
    assert chunk.startswith(b"id: 1\nevent: message_delta\n")
    await follower.aclose()


async def test_a_slow_follower_loses_nothing_and_holds_nobody_up(db: Database) -> None:
    journal = Journal(db)
    log = await journal.log(await session(db))
    follower = journal.follow(log, OpenEventRange(1, 5000))
    journal.append(log, MessageDelta(content="0"))
    raw = await anext(follower)
    for n in range(1, 5000):
        journal.append(log, MessageDelta(content=str(n) * 20))
        if n % 100 == 0:
            await journal.flush(log)
    await journal.flush(log)
    assert len(log._frames) <= journal_module.TAIL_EVENTS + 200  # the last two commits
    largest = 0
    async for chunk in follower:
        largest = max(largest, len(chunk))
        raw += chunk
    assert [int(event.id) for event in Parser().feed(raw)] == list(range(1, 5001))
    assert largest < 512 * 1024


async def test_the_journal_goes_on_from_the_file_after_a_restart(db: Database) -> None:
    journal = Journal(db)
    log = await journal.log(await session(db))
    journal.append(log, MessageDelta(content="before"))
    await journal.flush(log)
    again = Journal(db)
    later = await again.log(log.session_id)
    assert again.append(later, MessageDelta(content="after")) == 2


async def test_openers_of_one_session_share_its_log(db: Database) -> None:
    journal = Journal(db)
    session_id = await session(db)
    logs = await asyncio.gather(*(journal.log(session_id) for _ in range(10)))
    assert len({id(log) for log in logs}) == 1


async def test_a_follower_hears_a_heartbeat_while_nothing_comes(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "HEARTBEAT_SECONDS", 0.02)
    journal = Journal(db)
    log = await journal.log(await session(db))
    follower = journal.follow(log, OpenEventRange(1))
    assert await anext(follower) == b": ping\n\n"
    journal.append(log, MessageDelta(content="x"))
    assert b"id: 1\n" in await anext(follower)
    await follower.aclose()


async def test_a_heartbeat_leaves_nothing_behind(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "HEARTBEAT_SECONDS", 0.001)
    journal = Journal(db)
    log = await journal.log(await session(db))
    follower = journal.follow(log, OpenEventRange(1))
    for _ in range(20):
        await anext(follower)
    assert not log._waiters
    await follower.aclose()


async def test_followers_of_a_deleted_session_are_told(db: Database) -> None:
    journal = Journal(db)
    log = await journal.log(await session(db))
    following = asyncio.create_task(collect(journal, log, 1))
    await asyncio.sleep(0)
    journal.forget(log.session_id)
    with pytest.raises(NotFound):
        await following


async def test_an_event_of_a_deleted_session_fails_alone(db: Database) -> None:
    journal = Journal(db)
    doomed, healthy = await journal.log(await session(db)), await journal.log(await session(db))
    await db.write(lambda conn: conn.execute("delete from sessions where id = ?", (doomed.session_id,)))
    journal.append(doomed, MessageDelta(content="lost"))
    journal.append(healthy, MessageDelta(content="kept"))
    await journal.flush(healthy)
    with pytest.raises(NotFound):
        await journal.flush(doomed)
    with pytest.raises(NotFound):
        journal.append(doomed, MessageDelta(content="more"))
    assert await db.read(last_number, healthy.session_id) == 1


async def test_an_event_and_a_write_asked_for_together_share_a_transaction(db: Database) -> None:
    journal = Journal(db)
    log = await journal.log(await session(db))
    statements: list[str] = []
    await db.write(lambda conn: trace(conn, statements.append))
    statements.clear()
    journal.append(log, MessageDelta(content="x"))
    await db.write(lambda conn: conn.execute("update sessions set title = 'y'"))
    await db.write(lambda conn: trace(conn, None))
    first = [statement.split()[0].lower() for statement in statements]
    transaction = first[first.index("begin") : first.index("commit")]
    assert "update" in transaction
    assert "insert" in transaction


async def test_an_event_and_the_write_that_belongs_to_it_are_both_there_when_their_log_is_closed_at_once(
    db: Database,
) -> None:
    journal = Journal(db)
    logs = [await journal.log(await session(db)) for _ in range(MANY)]
    for log in logs:  # what comes next is gathered for a moment
        journal.append(log, MessageDelta(content="first"))
    await asyncio.gather(*(journal.flush(log) for log in logs))

    def name(conn: Connection, session_id: str, number: int) -> None:
        conn.execute("update sessions set title = ? where id = ?", (f"event {number}", session_id))

    def found(conn: Connection, session_id: str) -> tuple[str, int]:
        sql = "select title, (select max(n) from events where session_id = id) from sessions where id = ?"
        return tuple(conn.execute(sql, (session_id,)).fetchone())

    async def record(log: Log) -> None:  # both in one step, as a turn does: no transaction begins in between
        number = journal.append(log, MessageDelta(content="last"))
        await journal.write(log, name, log.session_id, number)

    for log in logs:
        writing = asyncio.create_task(record(log))
        await asyncio.sleep(0)
        writing.cancel()
        await journal.close(log, Draining("The engine is stopping"))
        with pytest.raises(Draining):
            journal.append(log, MessageDelta(content="too late"))
        assert await db.read(found, log.session_id) == ("event 2", 2)


async def test_events_are_read_by_an_index(db: Database) -> None:
    session_id = await session(db)
    plan = await db.read(
        lambda conn: conn.execute(
            "explain query plan select n, type, data from events where session_id = ? and n > ? and n <= ? order by n",
            (session_id, 0, 9),
        ).fetchall()
    )
    assert [row["detail"] for row in plan] == ["SEARCH events USING PRIMARY KEY (session_id=? AND n>? AND n<?)"]


texts = st.text(max_size=40)
any_event = st.one_of(
    texts.map(lambda content: MessageDelta(content=content)),
    st.builds(lambda code, message: ErrorEvent(session_id="s", turn_id="t", code=code, message=message), texts, texts),
    st.dictionaries(texts, st.one_of(st.none(), st.booleans(), st.integers(), texts)).map(
        lambda value: ToolStarted(tool="t", input=value, call_id="c")
    ),
    st.just(Done(session_id="s", turn_id="t", usage=Usage(1, 2, 3, 4))),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(any_event, min_size=1, max_size=12), cut=st.integers(0, 12))
async def test_a_stream_cut_and_resumed_anywhere_equals_the_whole(db: Database, events: list[Event], cut: int) -> None:
    journal = Journal(db)
    log = await journal.log(await session(db))
    for event in events:
        journal.append(log, event)
    await journal.flush(log)
    whole = await collect(journal, log, 1, len(events))
    cut = min(cut, len(events))
    stored = await db.read(read_events, log.session_id, 0, cut)
    assert [json.loads(row[2]) for row in stored] == [msgspec.to_builtins(event) for event in events[:cut]]
    if cut < len(events):
        rest = await collect(Journal(db), await Journal(db).log(log.session_id), cut + 1, len(events))
        assert whole.endswith(rest)
        assert [event.id for event in Parser().feed(rest)] == [str(n) for n in range(cut + 1, len(events) + 1)]
