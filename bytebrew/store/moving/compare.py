"""Compares two databases: the number of rows of each table, and the bytes that clients get of each session's events."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bytebrew.contract.connection import Connection
from bytebrew.contract.storage.store import Table
from bytebrew.store.journal import frame
from bytebrew.store.moving.pages import pages
from bytebrew.store.queries.event_rows import events_of
from bytebrew.store.queries.events import last_number, read_events

PAGE = 500
MOST_NAMED = 20
"""Differences that are reported; the rest is counted."""
_EVENTS = Table("events", ("session_id", "n", "type", "data", "at"), ("session_id", "n"), 0)
_LAST = 2**62
"""Above the number of every event."""


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
    for ids, forks in _sessions(source):
        old_replays, new_replays = (_replays(conn, ids, forks) for conn in (source, target))
        for session_id, expected in old_replays.items():
            if (read := new_replays[session_id]) != expected:
                found.append(f"session {session_id} replays {_difference(expected, read)}")
            events += expected.events
        sessions += len(ids)
        advance(len(ids))
    return Compared(sessions, events, found[:MOST_NAMED], len(found[MOST_NAMED:]))


def _replays(conn: Connection, ids: Sequence[str], forks: Sequence[str]) -> dict[str, Replay]:
    """The replays of sessions in order of their ids; those of forks begin with events that others hold."""
    digests = {session_id: (hashlib.sha256(), [0]) for session_id in ids}
    for rows, _ in pages(conn, _EVENTS, (ids[0], 0), (ids[-1], _LAST)):
        for row in rows:
            if (state := digests.get(row["session_id"])) is None:
                continue
            for number, name, data, _ in events_of(row):
                state[0].update(frame(number, name, data))
                state[1][0] += 1
    found = {session_id: Replay(count, digest.hexdigest()) for session_id, (digest, [count]) in digests.items()}
    return found | {session_id: replay(conn, session_id) for session_id in forks}


def replay(conn: Connection, session_id: str) -> Replay:
    """The events of a session as clients get them that read from the start."""
    digest, count, at = hashlib.sha256(), 0, 0
    last = last_number(conn, session_id)
    while at < last and (rows := read_events(conn, session_id, at, last)):
        for number, name, data, _ in rows:
            digest.update(frame(number, name, data))
        count, at = count + len(rows), rows[-1][0]
    return Replay(count, digest.hexdigest())


def _sessions(conn: Connection) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """The ids of all sessions, some at a time, and those of them that are forks."""
    sql, after = "select id, forked_from from sessions where id > ? order by id limit ?", ""
    while rows := conn.execute(sql, (after, PAGE)).fetchall():
        yield [row["id"] for row in rows], [row["id"] for row in rows if row["forked_from"] is not None]
        after = rows[-1]["id"]


def _difference(expected: Replay, read: Replay) -> str:
    if expected.events != read.events:
        return f"{read.events} events in place of {expected.events}"
    return f"{read.events} events as other bytes"
