"""SQL that lists sessions: by what they are, from stored counts, or by what happened in them, session by session."""

from typing import Any

from bytebrew.base.errors import NotFound
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Live
from bytebrew.contract.lists import Page, Selection, rows_of
from bytebrew.store.sessions import SELECT, SESSIONS, Filter, Session, check_owner, fields_of, owner
from bytebrew.store.sqlite.dialect import day_number

MOST_TERMS = 8
"""Words of a search; those behind are ignored."""
ORDERS = {"created": "created_at", "updated": "updated_at"}
_WAITING = """select r.session_id from confirmations c join turns t on t.id = c.turn_id
  join turns r on r.id = t.root_turn_id where c.status = 'pending' and c.kind <> 'client_tool'"""
"""The sessions in which somebody must answer a question, also one of a spawned agent's."""
_STATUS = {
    "needs_input": f"s.status = 'active' and s.id in ({_WAITING})",
    "running": f"s.status = 'active' and s.id not in ({_WAITING})",
}
_HOLDS = r"""(s.title like ? escape '\' or s.user_sub like ? escape '\' or s.id like ? escape '\' or exists (
  select 1 from turns t where t.session_id = s.id and t.message like ? escape '\'))"""
_CALLED = (
    """exists (select 1 from turns t join tool_calls c on c.turn_id = t.id where t.session_id = s.id and c.tool = ?)"""
)
_FAILED = "s.id in (select t.session_id from turns t where t.code = ?)"
_TURNS = """select count(*), sum(cost_usd), max(seq) from turns where session_id = ? and status <> 'absorbed'"""
_LAST = f"""select status, code,
  cast(({day_number("finished_at")} - {day_number("started_at")}) * 86400000 as integer) from turns where seq = ?"""


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
        order = ORDERS.get(wanted.sort, "created_at")
        after = tuple(conn.execute(f"select {order}, id from sessions where id = ?", (wanted.after,)).fetchone())
    stored = not (wanted.q or wanted.error or wanted.tool or wanted.sort or wanted.status in _STATUS)
    ids, total = (_stored if stored else _searched)(conn, actor, wanted, offset, limit + 1, after)
    waiting = {row[0] for row in conn.execute(_WAITING)}
    found = [_row(conn, fields_of(row), waiting) for row in rows_of(conn, f"{SELECT} where s.id = ?", ids[:limit])]
    following = found[-1].id if len(ids) > len(found) else None
    return Page(data=found, total=total, limit=limit, offset=offset, next=following)


def _stored(
    conn: Connection, actor: Actor, wanted: Filter, offset: int, limit: int, after: tuple[Any, ...] | None
) -> tuple[list[tuple[Any, ...]], int]:
    keys = {"user_sub": wanted.user_sub, "owner": "" if actor.is_admin else actor.subject}
    chosen = Selection(
        kinds={name: value for name in SESSIONS.kinds if (value := getattr(wanted, name))},
        keys={name: value for name, value in keys.items() if value},
        since=wanted.since,
        until=wanted.until,
    )
    return SESSIONS.page(conn, chosen, limit, offset, after), SESSIONS.total(conn, chosen)


def _searched(
    conn: Connection, actor: Actor, wanted: Filter, offset: int, limit: int, after: tuple[Any, ...] | None
) -> tuple[list[tuple[Any, ...]], int]:
    """Sessions by what happened in them; each that meets the other conditions is looked at."""
    parts, values = ["s.parent_id is null"], list[Any]()
    for name in ("agent", "schema", "user_sub"):
        if value := getattr(wanted, name):
            parts.append(f"s.{name} = ?")
            values.append(value)
    if not actor.is_admin:
        parts.append("s.owner = ?")
        values.append(actor.subject)
    if wanted.status:
        parts.append(_STATUS.get(wanted.status, "s.status = ?"))
        values += [] if wanted.status in _STATUS else [wanted.status]
    for sign, bound in ((">=", wanted.since), ("<", wanted.until)):
        if bound:
            parts.append(f"s.created_at {sign} ?")
            values.append(bound)
    for condition, value in ((_FAILED, wanted.error), (_CALLED, wanted.tool)):
        if value:
            parts.append(condition)
            values.append(value)
    for word in wanted.q.split()[:MOST_TERMS]:
        pattern = word.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        parts.append(_HOLDS)
        values += [f"%{pattern}%", f"%{pattern}%", f"{pattern}%", f"%{pattern}%"]
    where = " and ".join(parts)
    total = conn.execute(f"select count(*) from sessions s where {where}", values).fetchone()[0]
    order = ORDERS.get(wanted.sort, "created_at")
    behind = f" and (s.{order}, s.id) < (?, ?)" if after else ""
    sql = f"""select s.{order}, s.id from sessions s where {where}{behind}
      order by s.{order} desc, s.id desc limit ? offset ?"""
    return [tuple(row) for row in conn.execute(sql, (*values, *(after or ()), limit, offset))], total


def _row(conn: Connection, fields: dict[str, Any], waiting: set[str]) -> SessionRow:
    turns, cost, last = conn.execute(_TURNS, (fields["id"],)).fetchone()
    status, code, took = conn.execute(_LAST, (last,)).fetchone() or ("", "", None)
    return SessionRow(
        **fields,
        needs_input=fields["id"] in waiting,
        turns=turns,
        last_turn_ms=took,
        error_code=code if status == "failed" else "",
        cost_usd=cost,
    )
