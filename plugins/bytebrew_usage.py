"""What the calls of models took, for whoever pays.

The core's triggers keep sums by day and key; only partial days at the edges of a report are summed row by row.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Literal, get_args

from msgspec import Struct

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
)

Names = Callable[[Connection], Mapping[str, str]]
GroupBy = Literal["agent", "model", "schema", "token", "day"]
DOLLAR = 10**10
"""Units per dollar in the stored sums: integers, so that a sum does not depend on the order of its rows."""
_EARLIEST = "0"
_MIDNIGHT = "T00:00:00.000000Z"
_COUNTS = ("input_tokens", "output_tokens", "cached_tokens", "thinking_tokens", "cache_write_tokens")
_SUMS = ", ".join(f"sum({name})" for name in ("turns", "calls", *_COUNTS, "priced", "cost"))
_OF_ROWS = f"""0, count(*), {", ".join(f"sum({name})" for name in _COUNTS)}, count(cost_usd),
  coalesce(sum(cast(round(cost_usd * {DOLLAR}) as integer)), 0)"""


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


class Report(Struct, frozen=True, kw_only=True):
    """Sums by key, and the sum of all."""

    group_by: GroupBy
    data: list[Sum]
    total: Sum


async def get_usage(request: Request[None]) -> Report:
    """Tokens and dollars by `group_by` (agent, model, schema, token or day), from `from` to `to`."""
    query, known, engine = request.query, get_args(GroupBy), request.engine
    group_by: GroupBy | None = next((one for one in known if one == query.get("group_by", "day")), None)
    if group_by is None:
        message = f"one of {', '.join(known)}"
        raise InvalidRequest(f"group_by is {message}", details=[Detail("$.group_by", message)])
    since, until = moment(query, "from"), moment(query, "to", last=True)
    return Report(
        group_by=group_by,
        data=await engine.db.scan(report, group_by, since, until, engine.subject_names),
        total=await engine.db.scan(total, since, until),
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
            },
            answer=Report,
        )
    )


def report(conn: Connection, group_by: GroupBy, since: str, until: str, names: Names = lambda conn: {}) -> list[Sum]:
    """Sums between two moments, by key; an empty moment is no bound. `names` returns display names of subjects."""
    by_key = _sums(conn, group_by, since, until)
    if group_by == "token":
        named = [(subject, name) for subject, name in names(conn).items() if subject in by_key]
        for name, sums in [(name, by_key.pop(subject)) for subject, name in named]:
            _add(by_key, name, sums)
    return [_sum(key, by_key[key]) for key in sorted(by_key)]


def total(conn: Connection, since: str, until: str) -> Sum:
    """The total between two moments."""
    return _sum("total", _sums(conn, "total", since, until).get("", [0] * 9))


def _sums(conn: Connection, by: str, since: str, until: str) -> dict[str, Sequence[int]]:
    """Turns, calls, tokens, calls with a price, and cost, by key."""
    kind, key = ("total", "day") if by == "day" else (by, "key")
    column = {"total": "''", "day": "substr(created_at, 1, 10)", "token": "subject"}.get(by, by)
    edges, first, last = _edges(since, until) if since or until or by != "token" else ([], "", _EARLIEST)
    by_key: dict[str, Sequence[int]] = {}
    sql = f"select {key}, {_SUMS} from usage_days where kind = ? and day >= ? and day < ? group by {key}"  # noqa: S608
    for row in conn.execute(sql, (kind, first, last)):
        _add(by_key, row[0], row[1:])
    if by != "day":
        sql = "select key, sum(turns) from usage_spans where kind = ?1 and day >= ?2 and day < ?3 and earlier >= ?2"
        for row in conn.execute(f"{sql} group by key", (kind, first, last)):
            _add(by_key, row[0], (-row[1],))
    for edge in edges:
        sql = f"select {column}, {_OF_ROWS} from usage where created_at >= ? and created_at < ? group by 1"  # noqa: S608
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


def _add(by_key: dict[str, Sequence[int]], key: str, more: Sequence[int]) -> None:
    """Adds to the sums of a key; tuples, because ten thousand lists slow down the garbage collector."""
    by_key[key] = tuple(map(sum, zip_longest(by_key[key], more, fillvalue=0))) if key in by_key else tuple(more)


def _sum(key: str, sums: Sequence[int]) -> Sum:
    turns, calls, *tokens, priced, cost = sums
    counts = dict(zip(_COUNTS, tokens, strict=True))
    return Sum(key=key, turns=turns, calls=calls, **counts, cost_usd=cost / DOLLAR if priced else None)
