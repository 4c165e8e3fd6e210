"""SQL that lists sessions: by what they are, from stored counts, or by what happened in them, session by session."""

from typing import Any

from bytebrew.base.errors import NotFound
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection, placeholders
from bytebrew.contract.entities import Live
from bytebrew.contract.lists import FEW, Key, Page, Selection
from bytebrew.store.sessions import SELECT, SESSIONS, Filter, Session, check_owner, fields_of, owner
from bytebrew.store.sqlite.dialect import day_number

MOST_TERMS = 8
"""Words of a search; those behind are ignored."""
ORDERS = {"created": "created_at", "updated": "updated_at"}
_WAITING = """select r.session_id from confirmations c join turns t on t.id = c.turn_id
  join turns r on r.id = t.root_turn_id where c.status = 'pending' and c.kind <> 'client_tool'"""
"""The sessions in which somebody must answer a question, also one of a spawned agent's."""
_ACTIVE = {"needs_input": f"listed.id in ({_WAITING})", "running": f"listed.id not in ({_WAITING})"}
"""What tells the active sessions of a list apart."""
_HOLDS = r"""(listed.title like ? escape '\' or listed.user_sub like ? escape '\' or listed.id like ? escape '\'
  or exists (select 1 from turns t where t.session_id = listed.id and t.message like ? escape '\'))"""
_CALLED = "listed.id in (select t.session_id from tool_calls c join turns t on t.id = c.turn_id where c.tool = ?)"
_FAILED = "listed.id in (select t.session_id from turns t where t.code = ? and t.code <> '')"
_SEARCH = """with found as materialized (
    select {order}, id from sessions listed where {where} order by {order} desc, id desc)
  select p.{order}, p.id, c.total from (select count(*) as total from found) c
  left join (select * from found where {behind} order by {order} desc, id desc limit ? offset ?) p on true
  order by p.{order} desc, p.id desc"""
"""The page and how many there are, in one pass over the sessions in the order in which they lie in the file."""
_TURNS = """select session_id, count(*), sum(cost_usd), max(seq) from turns
  where session_id in ({}) and status <> 'absorbed' group by session_id"""
_LAST = f"""select seq, status, code,
  cast(({day_number("finished_at")} - {day_number("started_at")}) * 86400000 as integer)
  from turns where seq in ({{}})"""


class SessionRow(Session, frozen=True, kw_only=True):
    """A session in a list; `needs_input` says that somebody must answer a question before it goes on.

    `turns` and `cost_usd` are of all its own turns; `last_turn_ms` and `error_code` are of the last of them, the first
    null while it runs, the second empty unless it failed.
    """

    needs_input: Live[bool]
    turns: Live[int]
    last_turn_ms: Live[int | None]
    error_code: Live[str]
    cost_usd: Live[float | None]


def page(conn: Connection, actor: Actor, wanted: Filter, offset: int, limit: int) -> Page[SessionRow]:
    """The sessions that the actor may see."""
    after = None
    if wanted.after:
        try:
            check_owner(actor, owner(conn, wanted.after), wanted.after)
        except NotFound as error:
            raise NotFound(f"{error.message} to go on after; read the list from the start") from error
        sql = f"select {_order(wanted)}, id from sessions where id = ?"
        after = tuple(conn.execute(sql, (wanted.after,)).fetchone())
    searched = wanted.q or wanted.error or wanted.tool
    ids, total = (_searched if searched else _stored)(conn, actor, wanted, offset, limit + 1, after)
    found = _rows(conn, [one[-1] for one in ids[:limit]])
    following = found[-1].id if len(ids) > len(found) else None
    return Page(data=found, total=total, limit=limit, offset=offset, next=following)


def _order(wanted: Filter) -> str:
    return ORDERS.get(wanted.sort, "created_at")


def _equal(actor: Actor, wanted: Filter) -> dict[str, str]:
    """The values that columns of a session must have, by their names."""
    status = "active" if wanted.status in _ACTIVE else wanted.status
    values = {"agent": wanted.agent, "schema": wanted.schema, "status": status, "user_sub": wanted.user_sub}
    values["owner"] = "" if actor.is_admin else actor.subject
    return {name: value for name, value in values.items() if value}


def _stored(
    conn: Connection, actor: Actor, wanted: Filter, offset: int, limit: int, after: Key | None
) -> tuple[list[Key], int]:
    equal = _equal(actor, wanted)
    chosen = Selection(
        kinds={name: equal.pop(name) for name in SESSIONS.kinds if name in equal},
        keys=equal,
        since=wanted.since,
        until=wanted.until,
        also=_ACTIVE.get(wanted.status, ""),
    )
    total = SESSIONS.total(conn, chosen)
    if _order(wanted) == "created_at":
        return SESSIONS.page(conn, chosen, limit, offset, after), total
    if total <= FEW:
        ids = [key[-1] for key in SESSIONS.page(conn, chosen, FEW)]
        sql = f"select updated_at, id from sessions where id in ({placeholders(ids)})"
        rows = sorted(map(tuple, conn.execute(sql, ids)), reverse=True)
        return [row for row in rows if after is None or row < after][offset : offset + limit], total
    # the latest are among many, so the index of all in this order leads to them
    where, values = _conditions(actor, wanted, by_index=False)
    if after is not None:
        where, values = f"{where} and (updated_at, id) < (?, ?)", [*values, *after]
    sql = f"""select updated_at, id from sessions listed where {where}
      order by updated_at desc, id desc limit ? offset ?"""
    return [tuple(row) for row in conn.execute(sql, (*values, limit, offset))], total


def _searched(
    conn: Connection, actor: Actor, wanted: Filter, offset: int, limit: int, after: Key | None
) -> tuple[list[Key], int]:
    """Sessions by what happened in them; each that meets the other conditions is looked at."""
    where, values = _conditions(actor, wanted)
    order, behind = _order(wanted), "true"
    for condition, value in ((_FAILED, wanted.error), (_CALLED, wanted.tool)):
        if value:
            where += f" and {condition}"
            values.append(value)
    for word in wanted.q.split()[:MOST_TERMS]:
        pattern = word.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        where += f" and {_HOLDS}"
        values += [f"%{pattern}%", f"%{pattern}%", f"{pattern}%", f"%{pattern}%"]
    if after is not None:
        behind = f"({order}, id) < (?, ?)"
        values += after
    rows = conn.execute(_SEARCH.format(order=order, where=where, behind=behind), (*values, limit, offset)).fetchall()
    return [(at, found) for at, found, _ in rows if found is not None], rows[0][2]


def _conditions(actor: Actor, wanted: Filter, *, by_index: bool = True) -> tuple[str, list[Any]]:
    """What is true of the wanted sessions as far as their own rows say, and the values in it."""
    plain = "" if by_index else " || ''"
    equal, parts, values = _equal(actor, wanted), ["parent_id is null"], list[Any]()
    for name, sign, value in (
        *((name, "=", value) for name, value in equal.items()),
        ("created_at", ">=", wanted.since),
        ("created_at", "<", wanted.until),
    ):
        if value:
            parts.append(f"{name}{plain} {sign} ?")
            values.append(value)
    if wanted.status in _ACTIVE:
        parts.append(_ACTIVE[wanted.status])
    return " and ".join(parts), values


def _rows(conn: Connection, ids: list[str]) -> list[SessionRow]:
    """The sessions with these ids, in their order, with one query for each kind of row."""
    of_ids, waiting = placeholders(ids), {row[0] for row in conn.execute(_WAITING)}
    stored = {row[0]: row for row in conn.execute(f"{SELECT} where s.id in ({of_ids})", ids)}
    turns = {key: counts for key, *counts in conn.execute(_TURNS.format(of_ids), ids)}
    newest = [counts[-1] for counts in turns.values()]
    ends = {seq: end for seq, *end in conn.execute(_LAST.format(placeholders(newest)), newest)}
    found = []
    for one in ids:
        count, cost, last = turns.get(one, (0, None, None))
        status, code, took = ends.get(last, ("", "", None))
        row = SessionRow(
            **fields_of(*stored[one]),
            needs_input=one in waiting,
            turns=count,
            last_turn_ms=took,
            error_code=code if status == "failed" else "",
            cost_usd=cost,
        )
        found.append(row)
    return found
