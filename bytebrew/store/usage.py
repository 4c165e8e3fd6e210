"""Usage of models in tokens and dollars; it outlives sessions.

Triggers keep sums by day and key; only partial days at the edges of a report are summed row by row.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Literal

from msgspec import Struct

from bytebrew.contract.connection import Connection

Names = Callable[[Connection], Mapping[str, str]]
GroupBy = Literal["agent", "model", "schema", "token", "day"]
COLUMNS = {"agent": "agent", "model": "model", "schema": "schema", "token": "subject"}
DOLLAR = 10**10
"""Units per dollar in the stored sums: integers, so that a sum does not depend on the order of its rows."""


class Sum(Struct, frozen=True, kw_only=True):
    """Tokens of some turns' model calls; `cost_usd` is of those whose price was known, null where none was."""

    key: str
    turns: int
    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    thinking_tokens: int
    cache_write_tokens: int
    cost_usd: float | None


_EARLIEST = "0"
_MIDNIGHT = "T00:00:00.000000Z"
FIRST = ("calls", "input_tokens", "output_tokens", "cached_tokens", "thinking_tokens", "priced", "cost")
OF_FIRST = (
    "count(*)",
    *(f"sum({name})" for name in FIRST[1:5]),
    "count(cost_usd)",
    f"coalesce(sum(cast(round(cost_usd * {DOLLAR}) as integer)), 0)",
)
_SUMS = (*FIRST, "cache_write_tokens")
_OF_ROW = (*OF_FIRST, "sum(cache_write_tokens)")


def report(conn: Connection, group_by: GroupBy, since: str, until: str, names: Iterable[Names] = ()) -> list[Sum]:
    """Sums between two moments, by key; an empty moment is no bound.

    `names` are functions that return display names of subjects.
    """
    by_key = _sums(conn, group_by, since, until)
    if group_by == "token":
        named = [(subject, name) for look_up in names for subject, name in look_up(conn).items() if subject in by_key]
        for name, sums in [(name, by_key.pop(subject)) for subject, name in named]:
            _add(by_key, name, sums)
    return [_sum(key, by_key[key]) for key in sorted(by_key)]


def total(conn: Connection, since: str, until: str) -> Sum:
    """The total between two moments."""
    return _sum("total", _sums(conn, "total", since, until).get("", [0] * 9))


def _sums(conn: Connection, by: str, since: str, until: str) -> dict[str, Sequence[int]]:
    """The number of turns, and the columns of _SUMS, by key."""
    kind, key = ("total", "day") if by == "day" else (by, "key")
    column = {"total": "''", "day": "substr(created_at, 1, 10)", **COLUMNS}[by]
    edges, first, last = _edges(since, until) if since or until or by != "token" else ([], "", _EARLIEST)
    columns = ", ".join(f"sum({name})" for name in ("turns", *_SUMS))
    by_key: dict[str, Sequence[int]] = {}
    sql = f"select {key}, {columns} from usage_days where kind = ? and day >= ? and day < ? group by {key}"
    for row in conn.execute(sql, (kind, first, last)):
        _add(by_key, row[0], row[1:])
    if by != "day":
        sql = "select key, sum(turns) from usage_spans where kind = ?1 and day >= ?2 and day < ?3 and earlier >= ?2"
        for row in conn.execute(f"{sql} group by key", (kind, first, last)):
            _add(by_key, row[0], (-row[1],))
    for edge in edges:
        sql = f"""select {column}, 0, {", ".join(_OF_ROW)} from usage where created_at >= ? and created_at < ?
          group by 1"""
        for row in conn.execute(sql, edge):
            _add(by_key, row[0], row[1:])
    if edges:
        turns = " union ".join(
            [f"select distinct {column} as key, turn_id from usage where created_at >= ? and created_at < ?"]
            * len(edges)
        )
        sql = f"""select e.key, count(*) from ({turns}) e where not exists (select 1 from usage where
          turn_id = e.turn_id and {column} = e.key and created_at >= ? and created_at < ?) group by e.key"""
        for row in conn.execute(sql, (*chain(*edges), first, last)):
            _add(by_key, row[0], (row[1],))
    return by_key


def _edges(since: str, until: str) -> tuple[list[tuple[str, str]], str, str]:
    """The partial days between two moments as intervals, and the first and last (exclusive) whole day."""
    if since and until and since >= until:
        return [], "~", "~"
    first, last = since[:10], until[:10] or "~"
    if since.endswith(_MIDNIGHT):
        head = []
    elif first == last:
        return [(since, until)], "~", "~"
    else:
        head = [(since, f"{first}~")] if since else []
        first = f"{first}~" if since else _EARLIEST
    tail = [(last, until)] if until and not until.endswith(_MIDNIGHT) else []
    return head + tail, first, last


def _add(by_key: dict[str, Sequence[int]], key: str, more: Sequence[int]) -> None:
    """Adds to the sums of a key; tuples, because ten thousand lists slow down the garbage collector."""
    by_key[key] = tuple(map(sum, zip_longest(by_key[key], more, fillvalue=0))) if key in by_key else tuple(more)


def _sum(key: str, sums: Sequence[int]) -> Sum:
    turns, calls, input_tokens, output_tokens, cached_tokens, thinking_tokens, priced, cost, cache_write_tokens = sums
    return Sum(
        key=key,
        turns=turns,
        calls=calls,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=cached_tokens,
        thinking_tokens=thinking_tokens,
        cache_write_tokens=cache_write_tokens,
        cost_usd=cost / DOLLAR if priced else None,
    )
