"""SQL for rate limits and their counts."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from bytebrew import Conflict, Connection, Migration, NotFound, Row, insert, now, placeholders

from .rules import LONGEST, NewRule, Rule, RulePatch, encoded, merged
from .sliding_window import Entry, SlidingWindow

MIGRATIONS = (
    Migration(
        1,
        """
create table rate_limits (
  id integer primary key,
  name text not null unique,
  definition text not null,
  created_at text not null,
  updated_at text not null
) strict;
create table rate_limits_counted (
  rule integer not null references rate_limits (id) on delete cascade,
  tier text not null,
  key text not null,
  first real not null,
  last real not null,
  requests integer not null,
  leaves real not null,
  primary key (rule, tier, key, first)
) strict, without rowid;
create index rate_limits_leaving on rate_limits_counted (leaves);
""",
    ),
    Migration(2, "create index rate_limits_keys on rate_limits_counted (key);"),
    Migration(
        3,
        """
create table rate_limits_named (
  rule integer not null references rate_limits (id) on delete cascade,
  caller text not null,
  key text not null,
  seen real not null,
  primary key (rule, caller, key)
) strict, without rowid;
create index rate_limits_named_keys on rate_limits_named (key);
create index rate_limits_named_seen on rate_limits_named (seen);
""",
    ),
)


class Stored(NamedTuple):
    """A stored rule."""

    id: int
    rule: Rule
    created_at: str
    updated_at: str


class Counted(NamedTuple):
    """Counted requests of a rule, by tier and key, and when they expire."""

    rule: int
    tier: str
    key: str
    entry: Entry
    leaves: float


def list_all(conn: Connection) -> list[Stored]:
    """Every rule in order of application: the oldest first."""
    return [_stored(row) for row in conn.execute("select * from rate_limits order by id")]


def get(conn: Connection, name: str) -> Stored:
    """A rule; NotFound otherwise."""
    row = conn.execute("select * from rate_limits where name = ?", (name,)).fetchone()
    if row is None:
        raise NotFound(f"There is no rate limit '{name[:255]}'")
    return _stored(row)


def create(conn: Connection, new: NewRule) -> Stored:
    """Stores a rule and returns it; Conflict if the name is taken."""
    if conn.execute("select 1 from rate_limits where name = ?", (new.name,)).fetchone():
        raise Conflict(f"There is a rate limit '{new.name}' already; PUT /api/v1/rate-limits/{new.name} changes it")
    moment, definition = now(), encoded(merged(Rule(name=new.name, tiers={}), new))
    insert(conn, "rate_limits", {"name": new.name, "definition": definition}, created_at=moment, updated_at=moment)
    return get(conn, new.name)


def update(conn: Connection, name: str, patch: RulePatch) -> Stored:
    """Merges the patch into a rule and returns it; counts stay, within the new window."""
    old = get(conn, name)
    rule = merged(old.rule, patch)
    conn.execute("update rate_limits set definition = ?, updated_at = ? where name = ?", (encoded(rule), now(), name))
    conn.executemany(
        "update rate_limits_counted set leaves = last + ? where rule = ? and tier = ?",
        [(tier.seconds, old.id, label) for label, tier in rule.tiers.items()],
    )
    return get(conn, name)


def delete(conn: Connection, name: str) -> None:
    """Deletes a rule with its counts."""
    get(conn, name)
    conn.execute("delete from rate_limits where name = ?", (name,))


def save(conn: Connection, counted: Iterable[Counted], moment: float) -> None:
    """Stores counts and deletes those that have expired at `moment`, in seconds since 1970.

    Counts with an expiry beyond the longest window come from a clock that was ahead, and are deleted too.
    """
    keep(conn, counted)
    conn.execute("delete from rate_limits_counted where leaves <= ?", (moment,))
    conn.execute("delete from rate_limits_counted where leaves > ?", (moment + LONGEST,))


def keep(conn: Connection, counted: Iterable[Counted]) -> None:
    """Stores counts."""
    conn.executemany(
        """insert into rate_limits_counted select ?1, ?2, ?3, ?4, ?5, ?6, ?7
        where exists (select 1 from rate_limits where id = ?1)
        on conflict (rule, tier, key, first)
        do update set last = excluded.last, requests = excluded.requests, leaves = excluded.leaves""",
        [
            (one.rule, one.tier, one.key, one.entry.first, one.entry.last, one.entry.requests, one.leaves)
            for one in counted
        ],
    )


def expire(conn: Connection, moment: float) -> int:
    """Deletes some counts and keys of callers that have expired; returns their number."""
    gone = conn.execute(
        """delete from rate_limits_counted where (rule, tier, key, first) in (
        select rule, tier, key, first from rate_limits_counted where leaves <= ? limit 500)""",
        (moment,),
    ).rowcount
    return (
        gone
        + conn.execute(
            """delete from rate_limits_named where (rule, caller, key) in (
        select rule, caller, key from rate_limits_named where seen <= ? limit 500)""",
            (moment - LONGEST,),
        ).rowcount
    )


def window(conn: Connection, rule: int, tier: str, key: str, seconds: float, moment: float) -> SlidingWindow:
    """The window of a tier and a key at a moment."""
    found = SlidingWindow(seconds)
    sql = """select first, last, requests from rate_limits_counted where rule = ? and tier = ? and key = ?
      and last > ? order by first"""
    for first, last, requests in conn.execute(sql, (rule, tier, key, moment - seconds)):
        found.put(Entry(first, last, requests))
    found.slide(moment)
    return found


def is_counted(conn: Connection, rule: int, tier: str, key: str, moment: float) -> bool:
    """Whether a key has counts that have not expired."""
    sql = "select 1 from rate_limits_counted where rule = ? and tier = ? and key = ? and leaves > ? limit 1"
    return conn.execute(sql, (rule, tier, key, moment)).fetchone() is not None


def count_keys(conn: Connection, rule: int, moment: float, most: int) -> int:
    """The number of keys that have counts which have not expired, up to a limit."""
    sql = """select count(*) from (
      select distinct tier, key from rate_limits_counted where rule = ? and leaves > ? limit ?) counted"""
    return int(conn.execute(sql, (rule, moment, most)).fetchone()[0])


def may_name(conn: Connection, rule: int, caller: str, key: str, moment: float, seconds: float, most: int) -> bool:
    """Whether a caller may use a key, which is stored then: it uses it already, or has room for another."""
    sql = "select count(*), coalesce(sum(case when key = ? then 1 else 0 end), 0) from rate_limits_named"
    used, own = conn.execute(
        f"{sql} where rule = ? and caller = ? and seen > ?", (key, rule, caller, moment - seconds)
    ).fetchone()
    if not own and used >= most:
        return False
    conn.execute(
        """insert into rate_limits_named (rule, caller, key, seen) values (?, ?, ?, ?)
        on conflict (rule, caller, key) do update set seen = excluded.seen""",
        (rule, caller, key, moment),
    )
    return True


def load(conn: Connection, moment: float) -> list[Counted]:
    """Unexpired counts in order of time; those in the future come from a wrong clock."""
    sql = "select * from rate_limits_counted where leaves > ? and last <= ? order by first"
    return [
        Counted(rule, tier, key, Entry(first, last, requests), leaves)
        for rule, tier, key, first, last, requests, leaves in conn.execute(sql, (moment, moment))
    ]


def counts_of(conn: Connection, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The stored counts of some keys."""
    rows = conn.execute(
        f"""select r.name as rule, c.tier, c.first, c.last, c.requests from rate_limits_counted c
        join rate_limits r on r.id = c.rule where c.key in ({placeholders(keys)})""",  # noqa: S608
        keys,
    )
    yield from map(dict, rows)


def delete_counts(conn: Connection, keys: Sequence[str]) -> int:
    """Deletes the stored counts of some keys; returns their number."""
    conn.execute(f"delete from rate_limits_named where key in ({placeholders(keys)})", keys)  # noqa: S608
    return conn.execute(f"delete from rate_limits_counted where key in ({placeholders(keys)})", keys).rowcount  # noqa: S608


def _stored(row: Row) -> Stored:
    values = msgspec.json.decode(row["definition"])
    rule = msgspec.convert({**values, "name": row["name"]}, Rule)
    return Stored(row["id"], rule, row["created_at"], row["updated_at"])
