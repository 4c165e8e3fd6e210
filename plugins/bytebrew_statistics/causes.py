"""Causes of failed turns: how often, since when, and until when somebody does not want to see one."""

from collections import defaultdict
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from bytebrew import Connection, NotFound, moment, now, parse_time

MOST = 200
PARTS = 24


class Mute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mutes a cause until a time, or until so many stored turns have failed by it; neither is to hear of it again."""

    muted_until: Annotated[str, Meta(max_length=64, description="RFC 3339")] | None = None
    muted_count: Annotated[int, Meta(ge=1, le=10**9)] | None = None


class MutedCause(Struct, frozen=True, kw_only=True):
    """A cause and its mute."""

    key: str
    muted_until: str | None
    muted_count: int | None


class Cause(Struct, frozen=True, kw_only=True):
    """Turns that failed alike: by the same code, of the same agent, with messages that differ in ids and numbers alone.

    `message` is that of the last one, `example_session_id` and `example_turn_id` are where it failed. `counts` are the
    turns in 24 equal parts of the time. A `muted` one is not to be shown until `muted_until`, or until `muted_count`
    turns have failed by it, of `stored` now.
    """

    key: str
    code: str
    agent: str
    message: str
    count: int
    counts: list[int]
    stored: int
    first_at: str
    last_at: str
    example_session_id: str
    example_turn_id: str
    muted: bool
    muted_until: str | None
    muted_count: int | None


class Causes(Struct, frozen=True, kw_only=True):
    """Causes by the time of their last turn, the newest first, 200 at most; `failed` are the turns of all."""

    data: list[Cause]
    failed: int


def causes(conn: Connection, since: str, until: str) -> Causes:
    """The causes of turns that failed between two moments."""
    begin, end = parse_time(since), parse_time(until)
    length = max((end - begin).total_seconds(), 1) / PARTS
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * PARTS)
    sql = "select cause, failed_at from statistics_failures where failed_at >= ? and failed_at < ?"
    for cause, failed_at in conn.execute(sql, (since, until)):
        part = int((datetime.fromisoformat(failed_at) - begin).total_seconds() / length)
        counts[cause][min(part, PARTS - 1)] += 1
    found = [_cause(conn, key, parts, since, until) for key, parts in counts.items()]
    found.sort(key=lambda cause: cause.last_at, reverse=True)
    return Causes(data=found[:MOST], failed=sum(one.count for one in found))


def mute(conn: Connection, key: str, body: Mute) -> MutedCause:
    """Stores a mute, or removes it; NotFound unless a stored turn has failed by this cause."""
    if conn.execute("select 1 from statistics_failures where cause = ? limit 1", (key,)).fetchone() is None:
        raise NotFound(f"No turn has failed by a cause '{key[:64]}'")
    until = moment({"muted_until": body.muted_until or ""}, "muted_until") or None
    conn.execute("delete from statistics_mutes where cause = ?", (key,))
    if until is not None or body.muted_count is not None:
        conn.execute("insert into statistics_mutes values (?, ?, ?)", (key, until, body.muted_count))
    return MutedCause(key=key, muted_until=until, muted_count=body.muted_count)


def _cause(conn: Connection, key: str, counts: list[int], since: str, until: str) -> Cause:
    within = "cause = ? and failed_at >= ? and failed_at < ?"
    sql = f"select * from statistics_failures where {within} order by failed_at desc limit 1"  # noqa: S608
    last = conn.execute(sql, (key, since, until)).fetchone()
    sql = f"select min(failed_at) from statistics_failures where {within}"  # noqa: S608
    first = conn.execute(sql, (key, since, until)).fetchone()[0]
    stored = conn.execute("select count(*) from statistics_failures where cause = ?", (key,)).fetchone()[0]
    row = conn.execute("select muted_until, muted_count from statistics_mutes where cause = ?", (key,)).fetchone()
    muted_until, count = (row["muted_until"], row["muted_count"]) if row else (None, None)
    return Cause(
        key=key,
        code=last["code"],
        agent=last["agent"],
        message=last["message"],
        count=sum(counts),
        counts=counts,
        stored=stored,
        first_at=first,
        last_at=last["failed_at"],
        example_session_id=last["session_id"],
        example_turn_id=last["turn_id"],
        muted=(muted_until is not None and now() < muted_until) or (count is not None and stored < count),
        muted_until=muted_until,
        muted_count=count,
    )
