"""What the calls of models took: tokens and dollars, kept when sessions are deleted.

Triggers keep sums of whole days, by each key; only the days at the edges of a report are summed row by row.
"""

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Literal

import msgspec
from msgspec import Struct

from bytebrew.contract.connection import Connection

GroupBy = Literal["agent", "model", "schema", "token", "day"]
_COLUMNS = {"agent": "agent", "model": "model", "schema": "schema", "token": "subject"}
DOLLAR = 10**10
"""What a dollar is in the kept sums: whole numbers, so that a sum is the same in whatever order it is made."""


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
_FIRST = ("calls", "input_tokens", "output_tokens", "cached_tokens", "thinking_tokens", "priced", "cost")
_OF_FIRST = (
    "count(*)",
    *(f"sum({name})" for name in _FIRST[1:5]),
    "count(cost_usd)",
    f"coalesce(sum(cast(round(cost_usd * {DOLLAR}) as integer)), 0)",
)
_DAY = "substr(new.created_at, 1, 10)"
_EACH = f"""(select 'total' as kind, {_DAY} as day, '' as key union all select 'agent', {_DAY}, new.agent
    union all select 'model', {_DAY}, new.model union all select 'schema', {_DAY}, new.schema
    union all select 'token', {_DAY}, new.subject union all select 'token', '', new.subject)"""
_ALIKE = """(kind = 'total' or (kind = 'agent' and u.agent = key) or (kind = 'model' and u.model = key)
    or (kind = 'schema' and u.schema = key) or (kind = 'token' and u.subject = key))"""
_OTHER = f"from usage u where u.turn_id = new.turn_id and u.id <> new.id and {_ALIKE} and substr(u.created_at, 1, 10)"
_NEIGHBOURS = f"""(select kind, key, day,
    (select max(substr(u.created_at, 1, 10)) {_OTHER} < {_DAY}) as before,
    (select min(substr(u.created_at, 1, 10)) {_OTHER} > {_DAY}) as behind from {_EACH}
    where day > '' and not exists (select 1 {_OTHER} = {_DAY}))"""
_GROUPED = " union all ".join(
    f"""select '{kind}', substr(created_at, 1, 10), {column}, count(distinct turn_id), {", ".join(_OF_FIRST)} from usage
    group by 1, 2, 3"""
    for kind, column in {"total": "''", **_COLUMNS}.items()
)
_GROUPED += (
    f""" union all select 'token', '', subject, count(distinct turn_id), {", ".join(_OF_FIRST)} from usage group by 3"""
)
_SPANNED = " union all ".join(
    f"""select '{kind}', key, day, earlier, count(*) from (select key, day, lag(day) over (partition by turn_id, key
      order by day) as earlier from (select distinct turn_id, {column} as key, substr(created_at, 1, 10) as day
      from usage)) where earlier is not null group by 1, 2, 3, 4"""
    for kind, column in {"total": "''", **_COLUMNS}.items()
)
KEPT = f"""
create table usage_days (
  kind text not null,
  day text not null,
  key text not null,
  turns integer not null,
  {", ".join(f"{name} integer not null" for name in _FIRST)},
  primary key (kind, day, key)
) strict, without rowid;
create table usage_spans (
  kind text not null,
  day text not null,
  key text not null,
  earlier text not null,
  turns integer not null,
  primary key (kind, day, key, earlier)
) strict, without rowid;
insert into usage_days {_GROUPED};
insert into usage_spans (kind, key, day, earlier, turns) {_SPANNED};
create trigger usage_kept after insert on usage begin
  insert into usage_days
  select kind, day, key, not exists (select 1 {_OTHER} like day || '%'), 1, new.input_tokens, new.output_tokens,
  new.cached_tokens, new.thinking_tokens, new.cost_usd is not null,
  coalesce(cast(round(new.cost_usd * {DOLLAR}) as integer), 0) from {_EACH} where true
  on conflict (kind, day, key) do update set turns = turns + excluded.turns,
  {", ".join(f"{name} = {name} + excluded.{name}" for name in _FIRST)};
end;
create trigger usage_spanned after insert on usage
  when exists (select 1 from usage where turn_id = new.turn_id and substr(created_at, 1, 10) <> {_DAY}) begin
  insert into usage_spans (kind, key, day, earlier, turns)
  select kind, key, day, before, 1 from {_NEIGHBOURS} where before is not null
  union all select kind, key, behind, day, 1 from {_NEIGHBOURS} where behind is not null
  union all select kind, key, behind, before, -1 from {_NEIGHBOURS} where before is not null and behind is not null
  on conflict (kind, day, key, earlier) do update set turns = turns + excluded.turns;
end;
"""
"""The SQL of the kept sums, for a migration.

`turns` of usage_days are those with a call on that day. One that goes on over midnight would count on both days: so
usage_spans has how many have a call on a day and their last one before on an earlier day. Of subjects, who may be many,
there is a sum of all days too, under the day ''.
"""

CACHE_WRITES = f"""
alter table turns add column cache_write_tokens integer not null default 0;
alter table usage add column cache_write_tokens integer not null default 0;
alter table usage_days add column cache_write_tokens integer not null default 0;
drop trigger usage_kept;
create trigger usage_kept after insert on usage begin
  insert into usage_days
  select kind, day, key, not exists (select 1 {_OTHER} like day || '%'), 1, new.input_tokens, new.output_tokens,
  new.cached_tokens, new.thinking_tokens, new.cost_usd is not null,
  coalesce(cast(round(new.cost_usd * {DOLLAR}) as integer), 0), new.cache_write_tokens from {_EACH} where true
  on conflict (kind, day, key) do update set turns = turns + excluded.turns,
  {", ".join(f"{name} = {name} + excluded.{name}" for name in (*_FIRST, "cache_write_tokens"))};
end;
"""
"""The SQL of the sums of tokens that are written into a vendor's cache, for a migration."""
_SUMS = (*_FIRST, "cache_write_tokens")
_OF_ROW = (*_OF_FIRST, "sum(cache_write_tokens)")


def report(conn: Connection, group_by: GroupBy, since: str, until: str) -> list[Sum]:
    """Sums from one moment up to another, by key; an empty moment is open."""
    found = _sums(conn, group_by, since, until)
    if group_by == "token":
        sql = """select 'token:' || id, name from tokens
          where id in (select substr(value, 7) from json_each(?) where substr(value, 1, 6) = 'token:')"""
        names = conn.execute(sql, (msgspec.json.encode([*found]).decode(),)).fetchall()
        for name, sums in [(name, found.pop(subject)) for subject, name in names]:
            _add(found, name, sums)
    return [_sum(key, found[key]) for key in sorted(found)]


def total(conn: Connection, since: str, until: str) -> Sum:
    """The sum of everything from one moment up to another."""
    return _sum("total", _sums(conn, "total", since, until).get("", [0] * 9))


def _sums(conn: Connection, by: str, since: str, until: str) -> dict[str, Sequence[int]]:
    """By key: the turns, and the columns of _SUMS."""
    kind, key = ("total", "day") if by == "day" else (by, "key")
    column = {"total": "''", "day": "substr(created_at, 1, 10)", **_COLUMNS}[by]
    edges, first, last = _edges(since, until) if since or until or by != "token" else ([], "", _EARLIEST)
    columns = ", ".join(f"sum({name})" for name in ("turns", *_SUMS))
    found: dict[str, Sequence[int]] = {}
    sql = f"select {key}, {columns} from usage_days where kind = ? and day >= ? and day < ? group by {key}"
    for row in conn.execute(sql, (kind, first, last)):
        _add(found, row[0], row[1:])
    if by != "day":
        sql = "select key, sum(turns) from usage_spans where kind = ?1 and day >= ?2 and day < ?3 and earlier >= ?2"
        for row in conn.execute(f"{sql} group by key", (kind, first, last)):
            _add(found, row[0], (-row[1],))
    for edge in edges:
        sql = f"""select {column}, 0, {", ".join(_OF_ROW)} from usage where created_at >= ? and created_at < ?
          group by 1"""
        for row in conn.execute(sql, edge):
            _add(found, row[0], row[1:])
    if edges:
        turns = " union ".join(
            [f"select distinct {column} as key, turn_id from usage where created_at >= ? and created_at < ?"]
            * len(edges)
        )
        sql = f"""select e.key, count(*) from ({turns}) e where not exists (select 1 from usage where
          turn_id = e.turn_id and {column} = e.key and created_at >= ? and created_at < ?) group by e.key"""
        for row in conn.execute(sql, (*chain(*edges), first, last)):
            _add(found, row[0], (row[1],))
    return found


def _edges(since: str, until: str) -> tuple[list[tuple[str, str]], str, str]:
    """The stretches that are no whole days, and the whole days in between: from one on, up to another."""
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


def _add(found: dict[str, Sequence[int]], key: str, more: Sequence[int]) -> None:
    """Adds to the sums of a key; they are tuples, for lists of ten thousand keys keep the garbage collector busy."""
    found[key] = tuple(map(sum, zip_longest(found[key], more, fillvalue=0))) if key in found else tuple(more)


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
