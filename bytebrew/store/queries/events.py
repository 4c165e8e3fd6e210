"""Reads events from their rows, and packs those of ended turns."""

from collections.abc import Collection, Iterator, Mapping
from itertools import chain

from bytebrew.contract.connection import Connection, placeholders
from bytebrew.store import forks
from bytebrew.store.queries.event_rows import MOST_BYTES, MOST_EVENTS, PACKED, StoredEvent, events_of, packed

INSERT = "insert into events (session_id, n, type, data, at) values"
NEWEST = "select max(n) from events where session_id = ?"
FORKED = "select forked_after from sessions where id = ?"
LAST = """select case when exists (select 1 from removals where session_id = ?1) then 0 else coalesce(
  (select max(n) from events where session_id = ?1), (select forked_after from sessions where id = ?1), 0) end"""


def last_number(conn: Connection, session_id: str) -> int:
    """The number of the session's last event; 0 if it has none or is being deleted."""
    number: int = conn.execute(LAST, (session_id,)).fetchone()[0]
    return number


def last_numbers(conn: Connection, session_ids: Collection[str]) -> dict[str, int]:
    """The number of the last event of each session in one statement; none of a session that is gone or going."""
    rows = conn.execute(
        f"""select s.id, (select max(n) from events where session_id = s.id) as newest, s.forked_after,
          s.id in (select session_id from removals) as going
        from sessions s where s.id in ({placeholders(session_ids)})""",
        (*session_ids,),
    )
    return {id_: newest or forked for id_, newest, forked, going in rows if newest or not going}


def read_events(conn: Connection, session_id: str, after: int, through: int, limit: int = 500) -> list[StoredEvent]:
    """The events above `after` up to `through`: at most `limit`, and at most 256 KB plus one event."""
    events = unpacked(conn, session_id, after, through, limit)
    first = next(events, None)
    if (first is None or first[0] > after + 1) and after < through:  # perhaps a fork, whose first events others hold
        part = forks.range_of(conn, session_id, after + 1)
        if part is not None:
            events = unpacked(conn, part.holder, after, min(through, part.last_event), limit)
            first = next(events, None)
    found: list[StoredEvent] = []
    size = 0
    while first is not None:
        found.append(first)
        size += len(first[2])
        if size > MOST_BYTES or len(found) == limit:
            break
        first = next(events, None)
    return found


def newer(conn: Connection, seen: Mapping[str, int], limit: int = 500) -> dict[str, tuple[int, list[StoredEvent]]]:
    """Of each session that is not deleted the number of its last own event, and its own events above those seen.

    At most `limit` rows are read, the oldest of each session first, and no further one after as many events.
    """
    sql = f"""select s.id, (select max(e.n) from events e where e.session_id = s.id) from sessions s
      where s.id in ({placeholders(seen)}) and s.id not in (select session_id from removals)"""
    found: dict[str, tuple[int, list[StoredEvent]]] = {row[0]: (row[1] or 0, []) for row in conn.execute(sql, (*seen,))}
    behind = [(one, seen[one]) for one, (last, _) in found.items() if last > seen[one]]
    if not behind:
        return found
    where = " or ".join(["session_id = ? and n > ?"] * len(behind))
    sql = f"select session_id, n, type, data, at from events where {where} order by session_id, n limit ?"
    count = 0
    for row in conn.execute(sql, (*chain.from_iterable(behind), limit)):
        events = [*events_of(row, seen[row["session_id"]])]
        found[row["session_id"]][1].extend(events)
        count += len(events)
        if count >= limit:
            break
    return found


def unpacked(conn: Connection, session_id: str, after: int, through: int, limit: int) -> Iterator[StoredEvent]:
    """The events in a session's own rows, of which at most `limit` are read."""
    sql = """select n, type, data, at from events where session_id = ?1 and n > ?2
      and n <= coalesce((select min(n) from events where session_id = ?1 and n >= ?3), ?3) order by n limit ?4"""
    for row in conn.execute(sql, (session_id, after, through, limit)):
        for event in events_of(row, after):
            if event[0] > through:
                return
            yield event


def pack(conn: Connection, session_id: str, first: int, last: int) -> int:
    """Compresses the next few hundred events of a finished turn into one row; returns their number.

    `read_events` returns the same bytes as before.
    """
    found: list[StoredEvent] = []
    size = 0
    sql = """select n, type, data, at from events where session_id = ? and n between ? and ? and type <> ?
      order by n limit ?"""
    for row in conn.execute(sql, (session_id, first, last, PACKED, MOST_EVENTS)):
        events = [*events_of(row)]
        if found and events[0][0] != found[-1][0] + 1:  # a packed row is between them
            break
        found += events
        size += len(row["data"])
        if len(found) >= MOST_EVENTS or size > MOST_BYTES:
            break
    if found:
        begin, end = found[0][0], found[-1][0]
        conn.execute("delete from events where session_id = ? and n between ? and ?", (session_id, begin, end))
        conn.execute(f"{INSERT} (?, ?, ?, ?, ?)", (session_id, end, PACKED, packed(found), found[-1][3]))
    return len(found)
