"""SQL for budgets, what they have counted, and what is reserved: one row for each call and budget."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import asdict

from bytebrew import Conflict, Connection, Migration, NotFound, Row, insert, now, update

from .definition import Budget, BudgetPatch, NewBudget, Rate, Unit, merged
from .windows import Window

MIGRATIONS = (
    Migration(
        1,
        """
create table budgets (
  id integer primary key,
  name text not null unique,
  per text not null,
  only_key text not null,
  usd real,
  tokens integer,
  period text not null,
  soft real not null,
  cap integer not null,
  created_at text not null,
  updated_at text not null
) strict;
create table budgets_spent (
  budget integer not null references budgets (id) on delete cascade,
  starts text not null,
  key text not null,
  used integer not null,
  reserved integer not null,
  warned integer not null,
  primary key (budget, starts, key)
) strict, without rowid;
create index budgets_spent_starts on budgets_spent (starts);
create index budgets_spent_key on budgets_spent (key);
create table budgets_reserved (
  call text not null,
  budget integer not null references budgets (id) on delete cascade,
  starts text not null,
  key text not null,
  amount integer not null,
  turn_id text not null,
  primary key (call, budget)
) strict, without rowid;
create index budgets_reserved_budget on budgets_reserved (budget);
""",
    ),
    Migration(2, "alter table budgets_reserved add column node integer;"),
)
Resolve = Callable[[Connection, Budget], Budget]
"""Returns the budget with the subject of a token in place of its name."""
LEAST_OUTPUT = 256
"""Fewest output tokens that a call is still made for, unless its own limit is lower."""
_NOT_YET, _PUBLISHED, _SHOWN = 0, 1, 2


class Stored(NamedTuple):
    """A stored budget."""

    id: int
    budget: Budget
    created_at: str
    updated_at: str


class Bound(NamedTuple):
    """A budget that binds a call, under a key, in the window that begins at `starts`."""

    id: int
    name: str
    unit: Unit
    key: str
    starts: str


class Standing(NamedTuple):
    """Where a key stands in a window, as amounts."""

    key: str
    used: int
    reserved: int
    cap: int

    @property
    def left(self) -> int:
        """What may still be reserved."""
        return max(0, self.cap - self.used - self.reserved)

    @property
    def over(self) -> int:
        """What calls have cost beyond the cap: more than was reserved for them."""
        return max(0, self.used - self.cap)


class Held(NamedTuple):
    """A limit of a call's answer, and the budgets that the call holds a part of; `near` are those to warn of."""

    max_tokens: int
    bounds: tuple[Bound, ...]
    near: tuple[tuple[Bound, Standing], ...]


class Full(NamedTuple):
    """The budget that has no room for a call."""

    bound: Bound
    standing: Standing


class Near(NamedTuple):
    """A budget that has reached its soft limit for the first time in a window."""

    bound: Bound
    per: str
    window: Window
    standing: Standing


def list_all(conn: Connection) -> list[Stored]:
    """Every budget by name."""
    return [_stored(row) for row in conn.execute("select * from budgets order by name")]


def get(conn: Connection, name: str) -> Stored:
    """A budget; NotFound otherwise."""
    row = conn.execute("select * from budgets where name = ?", (name,)).fetchone()
    if row is None:
        raise NotFound(f"There is no budget '{name[:255]}'")
    return _stored(row)


def exists(conn: Connection, name: str) -> bool:
    """Whether there is a budget of this name."""
    return conn.execute("select 1 from budgets where name = ?", (name,)).fetchone() is not None


def create(conn: Connection, new: NewBudget, resolved: Resolve) -> Stored:
    """Stores a budget and returns it; Conflict if the name is taken."""
    if exists(conn, new.name):
        raise Conflict(f"There is a budget '{new.name}' already; PUT /api/v1/budgets/{new.name} changes it")
    budget, moment = resolved(conn, merged(Budget(name=new.name, window=new.window), new)), now()
    insert(conn, "budgets", _columns(budget), created_at=moment, updated_at=moment)
    return get(conn, new.name)


def change(conn: Connection, name: str, patch: BudgetPatch, resolved: Resolve) -> Stored:
    """Merges the patch into a budget and returns it; its counts stay if they are still of the same."""
    old = get(conn, name)
    budget = resolved(conn, merged(old.budget, patch))
    update(conn, "budgets", {**_columns(budget), "updated_at": now()}, id=old.id)
    if budget.counts != old.budget.counts:
        conn.execute("delete from budgets_reserved where budget = ?", (old.id,))
        conn.execute("delete from budgets_spent where budget = ?", (old.id,))
    return get(conn, name)


def delete(conn: Connection, name: str) -> None:
    """Deletes a budget with its counts."""
    conn.execute("delete from budgets where id = ?", (get(conn, name).id,))


def standings(conn: Connection, stored: Stored, starts: str, limit: int, offset: int = 0) -> tuple[list[Standing], int]:
    """The keys of a window, those nearest to the cap first, and their number."""
    within = "from budgets_spent where budget = ? and starts = ?"
    rows = conn.execute(
        f"select key, used, reserved {within} order by used + reserved desc, key limit ? offset ?",
        (stored.id, starts, limit, offset),
    ).fetchall()
    total = conn.execute(f"select count(*) {within}", (stored.id, starts)).fetchone()[0]
    return [Standing(row["key"], row["used"], row["reserved"], stored.budget.cap) for row in rows], total


def standing(conn: Connection, bound: Bound) -> Standing | None:
    """Where the key of a bound stands; None if the budget was deleted."""
    found = _state(conn, bound)
    return found[0] if found else None


def _state(conn: Connection, bound: Bound) -> tuple[Standing, int] | None:
    row = conn.execute(
        """select b.cap, coalesce(s.used, 0) as used, coalesce(s.reserved, 0) as reserved,
        coalesce(s.warned, 0) as warned from budgets b
        left join budgets_spent s on s.budget = b.id and s.starts = ? and s.key = ? where b.id = ?""",
        (bound.starts, bound.key, bound.id),
    ).fetchone()
    return (Standing(bound.key, row["used"], row["reserved"], row["cap"]), row["warned"]) if row else None


def full(conn: Connection, bounds: Sequence[Bound]) -> Full | None:
    """The first budget of which nothing is left."""
    for bound in bounds:
        if (found := standing(conn, bound)) and not found.left:
            return Full(bound, found)
    return None


def hold(
    conn: Connection,
    call: str,
    turn_id: str,
    bounds: Mapping[Bound, Rate],
    input_tokens: int,
    max_tokens: int,
    node: int | None = None,
) -> Held | Full:
    """Reserves the most that a call may cost, with a lower limit of its answer where that fits; Full if nothing fits.

    `node` is the one that makes the call.

    All is decided before the first write, so that a refusal changes nothing.
    """
    least, found = min(max_tokens, LEAST_OUTPUT), []
    for bound, rate in bounds.items():
        if (state := _state(conn, bound)) is None:
            continue
        at, warned = state
        room = at.cap - at.used - at.reserved - input_tokens * rate.input
        fits = (room // rate.output if rate.output else max_tokens) if room >= 0 else -1
        if fits < least:
            return Full(bound, at)
        max_tokens = min(max_tokens, fits)
        found.append((bound, rate, at, warned))
    for bound, rate, *_ in found:
        amount = input_tokens * rate.input + max_tokens * rate.output
        conn.execute(
            """insert into budgets_spent (budget, starts, key, used, reserved, warned) values (?, ?, ?, 0, ?, 0)
            on conflict (budget, starts, key) do update set reserved = budgets_spent.reserved + excluded.reserved""",
            (bound.id, bound.starts, bound.key, amount),
        )
        row = (call, bound.id, bound.starts, bound.key, amount, turn_id, node)
        conn.execute("insert into budgets_reserved values (?, ?, ?, ?, ?, ?, ?)", row)
    near = tuple((bound, at) for bound, _, at, warned in found if warned == _PUBLISHED)
    for bound, _ in near:
        _warn(conn, bound, _SHOWN)
    return Held(max_tokens, tuple(bound for bound, *_ in found), near)


def release(conn: Connection, call: str) -> None:
    """Frees what a call holds."""
    rows = conn.execute("select budget, starts, key, amount from budgets_reserved where call = ?", (call,)).fetchall()
    for row in rows:
        _move(conn, row["budget"], row["starts"], row["key"], freed=row["amount"], spent=0)
    conn.execute("delete from budgets_reserved where call = ?", (call,))


def settle(conn: Connection, call: str, bound: Bound, spent: int | None) -> Near | None:
    """Counts what a call has cost in place of what it holds of a budget, None all of that; nothing if it holds none."""
    sql = "select starts, key, amount from budgets_reserved where call = ? and budget = ?"
    row = conn.execute(sql, (call, bound.id)).fetchone()
    if row is None:
        return None
    conn.execute("delete from budgets_reserved where call = ? and budget = ?", (call, bound.id))
    held = row["amount"]
    _move(conn, bound.id, row["starts"], row["key"], freed=held, spent=held if spent is None else spent)
    return _near(conn, bound._replace(key=row["key"]))


def settle_lost(conn: Connection) -> list[Near]:
    """Counts in full what calls of engines held that are no more: their vendors may have charged for them.

    An engine that has its database alone finds only its own, from before its start.
    """
    rows = conn.execute(
        """select r.call, r.budget, r.starts, r.key, b.name, b.usd from budgets_reserved r
        join budgets b on b.id = r.budget where r.node is null or r.node not in (select id from nodes)
        order by r.call, r.budget"""
    ).fetchall()
    found = []
    for row in rows:
        unit: Unit = "tokens" if row["usd"] is None else "usd"
        bound = Bound(row["budget"], row["name"], unit, row["key"], row["starts"])
        found.append(settle(conn, row["call"], bound, None))
    return [near for near in found if near]


def _move(conn: Connection, budget: int, starts: str, key: str, *, freed: int, spent: int) -> None:
    conn.execute(
        """update budgets_spent set used = used + ?, reserved = reserved - ?
        where budget = ? and starts = ? and key = ?""",
        (spent, freed, budget, starts, key),
    )


def _near(conn: Connection, bound: Bound) -> Near | None:
    """The budget, if this is the first time that it is found at its soft limit."""
    row = conn.execute(
        """select b.per, b.period, b.cap, s.used, s.reserved from budgets b
        join budgets_spent s on s.budget = b.id and s.starts = ? and s.key = ?
        where b.id = ? and s.warned = 0 and s.used >= b.soft * b.cap""",
        (bound.starts, bound.key, bound.id),
    ).fetchone()
    if row is None:
        return None
    _warn(conn, bound, _PUBLISHED)
    return Near(bound, row["per"], row["period"], Standing(bound.key, row["used"], row["reserved"], row["cap"]))


def _warn(conn: Connection, bound: Bound, state: int) -> None:
    update(conn, "budgets_spent", {"warned": state}, budget=bound.id, starts=bound.starts, key=bound.key)


def delete_before(conn: Connection, starts: str, limit: int = 500) -> list[Any]:
    """Deletes the counts of windows that began before a moment, and returns them."""
    rows = conn.execute(
        "select budget, starts, key from budgets_spent where starts < ? and reserved = 0 limit ?", (starts, limit)
    ).fetchall()
    conn.executemany("delete from budgets_spent where budget = ? and starts = ? and key = ?", map(tuple, rows))
    return rows


def of_keys(conn: Connection, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The counts of budgets by subject under these keys."""
    for key in keys:
        rows = conn.execute(
            """select b.name, s.starts, s.used, s.reserved from budgets_spent s join budgets b on b.id = s.budget
            where s.key = ? and b.per = 'subject' order by s.starts""",
            (key,),
        )
        yield from (dict(row) for row in rows)


def forget_keys(conn: Connection, keys: Sequence[str], mask: str) -> int:
    """Masks the keys of budgets by subject, so that what was spent stays counted; returns the number of rows."""
    changed = 0
    for n, key in enumerate(keys):
        mask = f"{mask}-{n}" if n else mask  # two keys may have counts in one window
        for table in ("budgets_spent", "budgets_reserved"):
            changed += conn.execute(
                f"""update {table} set key = ? where key = ?
                and budget in (select id from budgets where per = 'subject')""",  # noqa: S608
                (mask, key),
            ).rowcount
        sql = "update budgets set only_key = ? where per = 'subject' and only_key = ?"
        changed += conn.execute(sql, (mask, key)).rowcount
    return changed


def _columns(budget: Budget) -> dict[str, Any]:
    renamed = {"only": "only_key", "window": "period"}  # `window` is a keyword in SQL
    return {"cap": budget.cap, **{renamed.get(name, name): value for name, value in asdict(budget).items()}}


def _stored(row: Row) -> Stored:
    budget = Budget(
        name=row["name"],
        per=row["per"],
        only=row["only_key"],
        usd=row["usd"],
        tokens=row["tokens"],
        window=row["period"],
        soft=row["soft"],
    )
    return Stored(row["id"], budget, row["created_at"], row["updated_at"])
