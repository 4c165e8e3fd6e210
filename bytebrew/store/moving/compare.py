"""Compares two databases: the number of rows of each table, and the bytes that clients get of each session's events."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bytebrew.contract.connection import Connection
from bytebrew.contract.store import Table
from bytebrew.store.journal import frame
from bytebrew.store.queries.events import last_number, read_events

PAGE = 500
MOST_NAMED = 20
"""Differences that are told; the rest is counted."""


class Compared(NamedTuple):
    """What was compared, and the differences in words; `more` of them are left out."""

    sessions: int
    events: int
    differences: list[str]
    more: int


class Replay(NamedTuple):
    """The number of a session's events, and a hash of their frames."""

    events: int
    digest: str


def counts(conn: Connection, tables: Sequence[Table]) -> dict[str, int]:
    """The number of rows of each table."""
    return {one.name: conn.execute(f"select count(*) from {one.name}").fetchone()[0] for one in tables}


def compare(
    source: Connection, target: Connection, tables: Sequence[Table], advance: Callable[[int], None]
) -> Compared:
    """The differences between two databases; `advance` is called for each session."""
    old, new = counts(source, tables), counts(target, tables)
    found = [
        f"table {name} has {new[name]} rows in place of {count}" for name, count in old.items() if new[name] != count
    ]
    sessions = events = 0
    for session_id in _sessions(source):
        expected, read = replay(source, session_id), replay(target, session_id)
        if expected != read:
            found.append(f"session {session_id} replays {_difference(expected, read)}")
        sessions, events = sessions + 1, events + expected.events
        advance(1)
    return Compared(sessions, events, found[:MOST_NAMED], len(found[MOST_NAMED:]))


def replay(conn: Connection, session_id: str) -> Replay:
    """The events of a session as clients get them that read from the start."""
    digest, count, at = hashlib.sha256(), 0, 0
    last = last_number(conn, session_id)
    while at < last and (rows := read_events(conn, session_id, at, last)):
        for number, name, data, _ in rows:
            digest.update(frame(number, name, data))
        count, at = count + len(rows), rows[-1][0]
    return Replay(count, digest.hexdigest())


def _sessions(conn: Connection) -> Iterator[str]:
    after = ""
    while rows := conn.execute("select id from sessions where id > ? order by id limit ?", (after, PAGE)).fetchall():
        yield from (row["id"] for row in rows)
        after = rows[-1]["id"]


def _difference(expected: Replay, read: Replay) -> str:
    if expected.events != read.events:
        return f"{read.events} events in place of {expected.events}"
    return f"{read.events} events as other bytes"
