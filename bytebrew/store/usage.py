"""What the calls of models took: tokens and dollars, kept when sessions are deleted."""

import sqlite3
from typing import Literal

from msgspec import Struct

GroupBy = Literal["agent", "model", "schema", "token", "day"]
_KEYS: dict[GroupBy, str] = {
    "agent": "u.agent",
    "model": "u.model",
    "schema": "u.schema",
    "token": "coalesce(t.name, u.subject)",
    "day": "substr(u.created_at, 1, 10)",
}
_SUMS = """count(distinct u.turn_id) as turns, count(*) as calls, coalesce(sum(u.input_tokens), 0) as input_tokens,
  coalesce(sum(u.output_tokens), 0) as output_tokens, coalesce(sum(u.cached_tokens), 0) as cached_tokens,
  coalesce(sum(u.thinking_tokens), 0) as thinking_tokens, sum(u.cost_usd) as cost_usd"""


class Sum(Struct, frozen=True, kw_only=True):
    """Tokens of some turns' model calls; `cost_usd` is of those whose price was known, null where none was."""

    key: str
    turns: int
    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    thinking_tokens: int
    cost_usd: float | None


def report(conn: sqlite3.Connection, group_by: GroupBy, since: str, until: str) -> list[Sum]:
    """Sums from one moment up to another, by key; an empty moment is open."""
    rows = conn.execute(
        f"""select {_KEYS[group_by]} as key, {_SUMS} from usage u left join tokens t on u.subject = 'token:' || t.id
        where u.created_at >= ? and u.created_at < ? group by 1 order by 1""",
        (since, until or "~"),
    )
    return [Sum(**dict(row)) for row in rows]


def total(conn: sqlite3.Connection, since: str, until: str) -> Sum:
    """The sum of everything from one moment up to another."""
    sql = f"select 'total' as key, {_SUMS} from usage u where u.created_at >= ? and u.created_at < ?"
    return Sum(**dict(conn.execute(sql, (since, until or "~")).fetchone()))
