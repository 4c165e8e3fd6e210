"""What the calls of models took, for whoever pays.

The core's triggers keep sums by day and key; only partial days at the edges of a report are summed row by row.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, zip_longest
from types import MappingProxyType
from typing import Literal, TypeVar, get_args

from msgspec import UNSET, Struct, UnsetType

from bytebrew import (
    Connection,
    Detail,
    Engine,
    InvalidRequest,
    Moment,
    Parameter,
    Register,
    Request,
    Route,
    hookimpl,
    moment,
    placeholders,
)

K = TypeVar("K")
Names = Callable[[Connection], Mapping[str, str]]
GroupBy = Literal["agent", "model", "schema", "token", "day"]
DOLLAR = 10**10
"""Units per dollar in the stored sums: integers, so that a sum does not depend on the order of its rows."""
_EARLIEST = "0"
_MIDNIGHT = "T00:00:00.000000Z"
_COUNTS = ("input_tokens", "output_tokens", "cached_tokens", "thinking_tokens", "cache_write_tokens")
_SUMS = ", ".join(f"sum({name})" for name in ("turns", "calls", *_COUNTS, "priced", "cost"))
_DAY = "substr(created_at, 1, 10)"
_COLUMN = {"total": "''", "day": _DAY, "token": "subject"}
"""Columns of calls, by what sums are of, where the names differ."""
_FILTERS = ("agent", "model", "schema", "token")
_ALL: Mapping[str, str] = MappingProxyType({})
_OF_ROWS = f"""0, count(*), {", ".join(f"sum({name})" for name in _COUNTS)}, count(cost_usd),
  coalesce(sum(cast(round(cost_usd * {DOLLAR}) as integer)), 0)"""


class Sum(Struct, frozen=True, kw_only=True):
    """Tokens of some turns' model calls; `cost_usd` is of those whose price was known, null where none was.

    `unpriced_calls` are those whose price was not known. `day` is there with `bucket=day`.
    """

    key: str
    turns: int
    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    thinking_tokens: int
    cache_write_tokens: int
    cost_usd: float | None
    unpriced_calls: int
    day: str | UnsetType = UNSET


class Report(Struct, frozen=True, kw_only=True):
    """Sums by key, and the sum of all."""

    group_by: GroupBy
    data: list[Sum]
    total: Sum


async def get_usage(request: Request[None]) -> Report:
    """Tokens and dollars by `group_by` (agent, model, schema, token or day), from `from` to `to`.

    With `bucket=day` by day of UTC as well: a turn over midnight counts on both days. With `agent`, `model`, `schema`
    or `token` (its name) it is of those calls alone.
    """
    query, known, engine = request.query, get_args(GroupBy), request.engine
    group_by: GroupBy | None = next((one for one in known if one == query.get("group_by", "day")), None)
    if group_by is None:
        message = f"one of {', '.join(known)}"
        raise InvalidRequest(f"group_by is {message}", details=[Detail("$.group_by", message)])
    if query.get("bucket", "") not in ("", "day"):
        raise InvalidRequest("bucket is day", details=[Detail("$.bucket", "is day")])
    daily = query.get("bucket") == "day" and group_by != "day"
    since, until = moment(query, "from"), moment(query, "to", last=True)
    only = {name: query[name] for name in _FILTERS if query.get(name)}
    names = engine.subject_names
    return Report(
        group_by=group_by,
        data=await engine.db.scan(report, group_by, since, until, names, only=only, daily=daily),
        total=await engine.db.scan(total, since, until, names, only=only),
    )


@hookimpl
def register_routes(register: Register[Route], engine: Engine) -> None:
    register(
        Route(
            "GET",
            "/api/v1/usage",
            "admin",
            get_usage,
            "Report tokens and cost",
            query={
                "group_by": Parameter("what the sums are of", GroupBy),
                "from": Parameter("at this time or later", Moment),
                "to": Parameter("before this time, or at it if it is a date", Moment),
                "bucket": Parameter("day for the sums of each day", Literal["day", ""]),
                "agent": "of calls by this agent alone",
                "model": "of calls to this model alone",
                "schema": "of calls in sessions of this schema alone",
                "token": "of calls for the token of this name alone, or for this subject",
            },
            answer=Report,
        )
    )


def report(
    conn: Connection,
    group_by: GroupBy,
    since: str,
    until: str,
    names: Names = lambda conn: {},
    *,
    only: Mapping[str, str] = _ALL,
    daily: bool = False,
) -> list[Sum]:
    """Sums between two moments, by key; an empty moment is no bound. `names` returns display names of subjects.

    `only` has the values of calls that count, by field; `daily` sums are by key and day.
    """
    if only:
        by_key = _selected(conn, group_by, since, until, _named(conn, only, names), daily=daily)
    elif daily:
        by_key = _by_day(conn, group_by, since, until)
    else:
        by_key = {(key, ""): sums for key, sums in _sums(conn, group_by, since, until).items()}
    if group_by == "token":
        known = names(conn)
        renamed = [((known[key], day), by_key.pop((key, day))) for key, day in [*by_key] if key in known]
        for place, sums in renamed:
            _add(by_key, place, sums)
    return [_sum(key, by_key[key, day], day) for key, day in sorted(by_key)]


def total(
    conn: Connection, since: str, until: str, names: Names = lambda conn: {}, *, only: Mapping[str, str] = _ALL
) -> Sum:
    """The total between two moments."""
    if only:
        sums = _selected(conn, "total", since, until, _named(conn, only, names)).get(("", ""))
    else:
        sums = _sums(conn, "total", since, until).get("")
    return _sum("total", sums or [0] * 9)


def _named(conn: Connection, only: Mapping[str, str], names: Names) -> Mapping[str, Sequence[str]]:
    """The values of columns that count; a token's name stands for its subjects."""
    found = {name: [value] for name, value in only.items() if name != "token"}
    if "token" in only:
        found["subject"] = [subject for subject, name in names(conn).items() if name == only["token"]] or [
            only["token"]
        ]
    return found


def _by_day(conn: Connection, by: str, since: str, until: str) -> "dict[tuple[str, str], Sequence[int]]":
    """The sums by key and day: the kept ones of whole days, and those of the partial days at the edges."""
    edges, first, last = _edges(since, until)
    sql = f"""select key, day, {_SUMS} from usage_days where kind = ? and day >= ? and day < ?
      group by key, day order by key, day"""  # noqa: S608
    rows = map(tuple, conn.execute(sql, (by, first, last)))
    found: dict[tuple[str, str], Sequence[int]] = {(row[0], row[1]): row[2:] for row in rows}
    for edge in edges:
        for place, sums in _selected(conn, by, *edge, {}, daily=True).items():
            _add(found, place, sums)
    return found


def _selected(
    conn: Connection, by: str, since: str, until: str, only: Mapping[str, Sequence[str]], *, daily: bool = False
) -> "dict[tuple[str, str], Sequence[int]]":
    """The sums by key, and by day if `daily`, of the calls that have these values."""
    column, day = _COLUMN.get(by, by), _DAY if daily else "''"
    filters = "".join(f" and {name} in ({placeholders(values)})" for name, values in only.items())
    sql = f"""select {column}, {day}, count(distinct turn_id), {_OF_ROWS.removeprefix("0, ")} from usage
      where created_at >= ? and created_at < ?{filters} group by 1, 2 order by 1, 2"""  # noqa: S608
    values = chain(*only.values())
    return {(row[0], row[1]): row[2:] for row in map(tuple, conn.execute(sql, (since, until or "~", *values)))}


def _sums(conn: Connection, by: str, since: str, until: str) -> dict[str, Sequence[int]]:
    """Turns, calls, tokens, calls with a price, and cost, by key."""
    kind, key = ("total", "day") if by == "day" else (by, "key")
    column = _COLUMN.get(by, by)
    edges, first, last = _edges(since, until) if since or until or by != "token" else ([], "", _EARLIEST)
    by_key: dict[str, Sequence[int]] = {}
    sql = f"select {key}, {_SUMS} from usage_days where kind = ? and day >= ? and day < ? group by {key} order by {key}"  # noqa: S608
    for row in conn.execute(sql, (kind, first, last)):
        _add(by_key, row[0], row[1:])
    if by != "day":
        sql = "select key, sum(turns) from usage_spans where kind = ?1 and day >= ?2 and day < ?3 and earlier >= ?2"
        for row in conn.execute(f"{sql} group by key order by key", (kind, first, last)):
            _add(by_key, row[0], (-row[1],))
    for edge in edges:
        sql = f"select {column}, {_OF_ROWS} from usage where created_at >= ? and created_at < ? group by 1 order by 1"  # noqa: S608
        for row in conn.execute(sql, edge):
            _add(by_key, row[0], row[1:])
    if edges:
        between = "created_at >= ? and created_at < ?"
        turns = f"select distinct {column} as key, turn_id from usage where {between}"  # noqa: S608
        sql = f"""select e.key, count(*) from ({" union ".join([turns] * len(edges))}) e where not exists (
          select 1 from usage where turn_id = e.turn_id and {column} = e.key and {between}) group by e.key"""  # noqa: S608
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


def _add(by_key: dict[K, Sequence[int]], key: K, more: Sequence[int]) -> None:
    """Adds to the sums of a key; tuples, because ten thousand lists slow down the garbage collector."""
    by_key[key] = tuple(map(sum, zip_longest(by_key[key], more, fillvalue=0))) if key in by_key else tuple(more)


def _sum(key: str, sums: Sequence[int], day: str = "") -> Sum:
    turns, calls, *tokens, priced, cost = sums
    counts = dict(zip(_COUNTS, tokens, strict=True))
    return Sum(
        key=key,
        day=day or UNSET,
        turns=turns,
        calls=calls,
        **counts,
        cost_usd=cost / DOLLAR if priced else None,
        unpriced_calls=calls - priced,
    )
