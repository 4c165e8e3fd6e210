"""Turns, their speed and what they took, in the hours or days of a zone."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import takewhile
from typing import Literal

from msgspec import Struct

from bytebrew import Connection, rfc3339

Bucket = Literal["hour", "day"]
MOST = 800
"""Parts of one report: of a longer time it has the last ones."""
DOLLAR = 10**10
"""Units per dollar: integers, so that a sum does not depend on the order of its rows."""
_TURNS = """select t.created_at, t.status, t.started_at, t.finished_at,
  (select min(u.first_token_at) from usage u where u.turn_id = t.id and u.first_token_at > 0) as first_token_at
  from turns t where t.parent_turn_id is null and t.created_at >= ? and t.created_at < ? and t.status <> 'absorbed'"""
_QUARTER = "substr(created_at, 1, 14) || (cast(substr(created_at, 15, 2) as integer) / 15)"
_USAGE = f"""select {_QUARTER} as quarter, count(*), count(cost_usd),
  coalesce(sum(cast(round(cost_usd * {DOLLAR}) as integer)), 0), sum(input_tokens), sum(cached_tokens),
  sum(output_tokens) from usage where created_at >= ? and created_at < ? group by 1"""  # noqa: S608
"""What model calls took, by quarters of an hour: every zone begins its days and hours with one."""


class Part(Struct, frozen=True, kw_only=True):
    """An hour or a day, which begins at `at`: the turns of users that came in, and what all model calls took.

    Milliseconds are from the beginning of a turn: to the first token of its first model call, at the 50th and at the
    95th percentile, and to the end of turns that have ended, waits for people included; null where there is no such
    turn. `cost_usd` is of the calls whose price was known, null where none was.
    """

    at: str
    turns: int
    failed: int
    cancelled: int
    first_token_ms_p50: float | None
    first_token_ms_p95: float | None
    duration_ms_p50: float | None
    calls: int
    unpriced_calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: float | None


class Statistics(Struct, frozen=True, kw_only=True):
    """Every part of a time, also those in which nothing happened, and the whole of it, from its first part on."""

    bucket: Bucket
    tz: str
    data: list[Part]
    total: Part


class _Sums:
    """What is summed up for a part."""

    def __init__(self) -> None:
        self.counts = [0, 0, 0]
        self.first: list[float] = []
        self.durations: list[float] = []
        self.usage = [0] * 6

    def add(self, other: "_Sums") -> None:
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.usage = [a + b for a, b in zip(self.usage, other.usage, strict=True)]
        self.first += other.first
        self.durations += other.durations

    def part(self, at: str) -> Part:
        turns, failed, cancelled = self.counts
        calls, priced, cost, input_tokens, cached_tokens, output_tokens = self.usage
        return Part(
            at=at,
            turns=turns,
            failed=failed,
            cancelled=cancelled,
            first_token_ms_p50=_percentile(self.first, 0.5),
            first_token_ms_p95=_percentile(self.first, 0.95),
            duration_ms_p50=_percentile(self.durations, 0.5),
            calls=calls,
            unpriced_calls=calls - priced,
            input_tokens=input_tokens,
            cached_tokens=cached_tokens,
            output_tokens=output_tokens,
            cost_usd=cost / DOLLAR if priced else None,
        )


def statistics(
    conn: Connection, since: datetime, until: datetime, bucket: Bucket, zone: tzinfo, name: str
) -> Statistics:
    """The parts between two moments; the first is the one that `since` lies in."""
    begins = [rfc3339(one) for one in _begins(since, until, bucket, zone)]
    sums = [_Sums() for _ in begins]
    within = max(rfc3339(since), begins[0]), rfc3339(until)
    for row in conn.execute(_TURNS, within):
        _count(sums[max(0, bisect_right(begins, row["created_at"]) - 1)], *row)
    for quarter, *usage in conn.execute(_USAGE, within):
        moment = f"{quarter[:14]}{int(quarter[14:]) * 15:02}:00.000000Z"
        one = sums[max(0, bisect_right(begins, moment) - 1)]
        one.usage = [a + b for a, b in zip(one.usage, usage, strict=True)]
    whole = _Sums()
    for one in sums:
        whole.add(one)
    parts = [one.part(at) for at, one in zip(begins, sums, strict=True)]
    return Statistics(bucket=bucket, tz=name, data=parts, total=whole.part(begins[0]))


def _count(sums: _Sums, _: str, status: str, started: str | None, finished: str | None, first: float | None) -> None:
    for n, counted in enumerate((True, status == "failed", status == "cancelled")):
        sums.counts[n] += counted
    if started is None:
        return
    begin = datetime.fromisoformat(started)
    if first:
        sums.first.append(max(0.0, (first - begin.timestamp()) * 1000))
    if finished is not None:
        sums.durations.append(max(0.0, (datetime.fromisoformat(finished) - begin).total_seconds() * 1000))


def _percentile(values: Sequence[float], part: float) -> float | None:
    """The smallest value that so large a part of all is not above."""
    if not values:
        return None
    return round(sorted(values)[math.ceil(part * len(values)) - 1], 1)


def _begins(since: datetime, until: datetime, bucket: Bucket, zone: tzinfo) -> list[datetime]:
    """The moments at which parts begin; of more than MOST the last ones."""
    longest = MOST * timedelta(days=1) if bucket == "day" else MOST * timedelta(hours=1)
    begin = max(since, until - longest) if until - datetime.min.replace(tzinfo=UTC) > longest else since
    moments = _days(begin, zone) if bucket == "day" else _hours(begin, zone)
    return [next(moments), *takewhile(lambda moment: moment < until, moments)][-MOST:]


def _hours(since: datetime, zone: tzinfo) -> Iterator[datetime]:
    local = since.astimezone(zone)
    moment = since - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    while True:
        yield moment
        moment += timedelta(hours=1)


def _days(since: datetime, zone: tzinfo) -> Iterator[datetime]:
    day: date = since.astimezone(zone).date()
    while True:
        yield datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
        day += timedelta(days=1)
