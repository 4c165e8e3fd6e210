"""The rows of events: neighbouring deltas of a commit in one, and packed ones by columns, read from every number."""

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bytebrew.contract.events import Done, MessageDelta, MessageDone, Thinking
from bytebrew.contract.messages import Usage
from bytebrew.store.queries import event_rows
from bytebrew.store.queries.event_rows import DELTAS, MOST_EVENTS, StoredEvent, events_of, grouped, packed
from bytebrew.store.queries.events import newer, pack, read_events, unpacked

pytestmark = pytest.mark.sqlite

SESSION = "sess_a"
PIECES = st.text(max_size=12) | st.sampled_from(['"content":"', '"}', "\\", '{"content":"x"}'])
EVENTS = (
    st.builds(MessageDelta, content=PIECES)
    | st.builds(MessageDelta, content=PIECES, agent=PIECES, parent_call_id=PIECES)
    | st.builds(Thinking, content=PIECES)
    | st.builds(MessageDone, content=PIECES)
    | st.builds(Done, session_id=PIECES, turn_id=PIECES, usage=st.just(Usage()))
)
TIMES = st.integers(min_value=0, max_value=2**43)


@st.composite
def stored_events(draw: st.DrawFn) -> list[StoredEvent]:
    times = draw(st.sampled_from([TIMES, TIMES | st.none()]))
    found = draw(st.lists(st.tuples(EVENTS, times), min_size=1, max_size=30))
    first = draw(st.integers(1, 1000))
    return [(n, one.name, msgspec.json.encode(one), at) for n, (one, at) in enumerate(found, first)]


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    with closing(_tables()) as opened:
        yield opened


def _tables() -> sqlite3.Connection:
    conn = sqlite3.connect(":memory:", isolation_level=None)
    conn.row_factory = sqlite3.Row
    conn.execute("create table events (session_id, n, type, data, at, primary key (session_id, n)) without rowid")
    conn.execute(
        "create table shared_history (session_id, holder, first_event, last_event, first_message, last_message)"
    )
    conn.execute("create table sessions (id)")
    conn.execute("create table removals (session_id)")
    conn.execute("insert into sessions values (?)", (SESSION,))
    return conn


def _insert(conn: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
    conn.executemany("insert into events values (?, ?, ?, ?, ?)", rows)


def _deltas(count: int, size: int = 4, first: int = 1) -> list[StoredEvent]:
    encoded = msgspec.json.encode(MessageDelta(content="x" * size))
    return [(n, "message_delta", encoded, 1_700_000_000_000 + n) for n in range(first, first + count)]


@given(events=stored_events(), commits=st.lists(st.integers(1, 10), max_size=10), data=st.data())
@settings(deadline=None)
def test_events_are_read_from_and_to_every_number_before_and_after_they_are_packed(
    events: list[StoredEvent], commits: list[int], data: st.DataObject
) -> None:
    with closing(_tables()) as conn:
        left = [(SESSION, *one) for one in events]
        for size in (*commits, len(left)):
            rows = left[:size]
            _insert(conn, rows if any(row[4] is None for row in rows) else grouped(rows))  # older engines kept no time
            left = left[size:]
        first, last = events[0][0], events[-1][0]
        _check(conn, events)
        while pack(conn, SESSION, first, data.draw(st.sampled_from([last, (first + last) // 2]))):
            _check(conn, events)
        while pack(conn, SESSION, first, last):
            pass
        _check(conn, events)
        assert {row["type"] for row in conn.execute("select type from events")} == {"packed"}


def _check(conn: sqlite3.Connection, events: list[StoredEvent]) -> None:
    first = events[0][0] - 1
    for after in range(first, events[-1][0] + 1):
        for through in range(after, events[-1][0] + 2):
            expected = [one for one in events if after < one[0] <= through]
            assert [*unpacked(conn, SESSION, after, through, 500)] == expected
            assert read_events(conn, SESSION, after, through, 3) == expected[:3]
    assert newer(conn, {SESSION: first}) == {SESSION: (events[-1][0], events)}


def test_neighbouring_deltas_of_a_session_are_one_row() -> None:
    done = msgspec.json.encode(MessageDone(content="x"))
    rows = [(SESSION, *one) for one in _deltas(3)]
    rows += [("sess_b", *one) for one in _deltas(2)]
    rows += [(SESSION, *_deltas(1, first=4)[0]), (SESSION, 5, "message", done, 1)]
    rows += [(SESSION, *one) for one in _deltas(2, first=6)]
    found = grouped(rows)
    assert [row[:3] for row in found] == [
        (SESSION, 3, DELTAS),
        ("sess_b", 2, DELTAS),
        (SESSION, 4, "message_delta"),
        (SESSION, 5, "message"),
        (SESSION, 7, DELTAS),
    ]
    assert found[2] == rows[5]


@pytest.mark.parametrize("odd", [b'{"content":1}', b"{}", b'{"content":"x"} ', b'{"agent":"a","content":"x"}'])
def test_deltas_that_are_not_alike_stay_apart(odd: bytes) -> None:
    for place in range(3):
        rows: list[tuple[Any, ...]] = [(SESSION, *one) for one in _deltas(3)]
        rows[place] = (SESSION, place + 1, "message_delta", odd, 1)
        assert grouped(rows) == rows


def test_a_row_is_bounded_in_events_and_bytes() -> None:
    counts = [len([*events_of(_named(row))]) for row in grouped([(SESSION, *one) for one in _deltas(600)])]
    assert counts == [MOST_EVENTS, MOST_EVENTS, 600 - 2 * MOST_EVENTS]
    sizes = [len(row[3]) for row in grouped([(SESSION, *one) for one in _deltas(40, size=50_000)])]
    assert max(sizes) < event_rows.MOST_BYTES + 51_000
    assert len(sizes) < 9


def _named(row: tuple[Any, ...]) -> Any:
    return dict(zip(("session_id", "n", "type", "data", "at"), row, strict=True))


def test_rows_that_were_packed_before_stay_between_those_that_are_packed_later(conn: sqlite3.Connection) -> None:
    _insert(conn, [(SESSION, *one) for one in _deltas(9)])
    assert pack(conn, SESSION, 4, 6) == 3
    assert [pack(conn, SESSION, 1, 9) for _ in range(3)] == [3, 3, 0]
    assert read_events(conn, SESSION, 0, 9) == _deltas(9)


def test_a_page_of_other_nodes_events_ends_after_as_many_events_as_rows(conn: sqlite3.Connection) -> None:
    for n in range(1, 100, 10):
        _insert(conn, grouped([(SESSION, *one) for one in _deltas(10, first=n)]))
    assert newer(conn, {SESSION: 5}, 20) == {SESSION: (100, _deltas(25, first=6))}


STORED = bytes.fromhex(
    "78bb1990c38a833a771225ce85397232d05c888d939959a420d64d0659d67dfe69068308ccce238a21a9890af945f6500a4b30020074e238cd"
)
"""A row as the first engine with these columns has packed it."""


def test_rows_that_are_stored_somewhere_are_read_for_ever() -> None:
    events = [
        (7, "message_delta", b'{"content":"Tea"}', 1_700_000_000_000),
        (8, "message_delta", b'{"content":" or?"}', 1_700_000_000_020),
        (9, "message", b'{"content":"Tea or?","role":"assistant"}', 1_700_000_000_021),
    ]
    assert [*events_of(_named((SESSION, 9, "packed", STORED, 1)))] == events
    before = zlib.compress(msgspec.msgpack.encode([one[:3] for one in events]))
    assert [*events_of(_named((SESSION, 9, "packed", before, 1)))] == [(*one[:3], None) for one in events]


def test_packed_deltas_take_few_bytes() -> None:
    words = iter("the engine keeps every event of a turn under its number in the file before a client sees it " * 3)
    pieces = ["".join([char, *(next(words) for _ in range(3))]) for char, _ in zip(words, range(50), strict=False)]
    deltas = [msgspec.json.encode(MessageDelta(content=one)) for one in pieces]
    events = [(n, "message_delta", data, 1_700_000_000_000 + 20 * n + n % 3) for n, data in enumerate(deltas)]
    events.append((50, "message", msgspec.json.encode(MessageDone(content="".join(pieces))), 1_700_000_001_004))
    assert len(packed(events)) < 4 * 50
