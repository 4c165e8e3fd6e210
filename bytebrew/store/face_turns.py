"""SQL for the turns of faces: a turn with what its face keeps, and turns by the key of their face."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from bytebrew.contract.auth import View
from bytebrew.contract.connection import Connection, Row
from bytebrew.contract.face import PrecedingTurn
from bytebrew.contract.messages import Message
from bytebrew.store import messages
from bytebrew.store.turns import Status

MOST = 20
"""Limit of turns by one key."""


class StoredTurn(Struct, frozen=True, kw_only=True):
    """A turn and its session; one whose message another turn has absorbed has the end of that one.

    It is `by_agent` if an agent began the session, as the work on a task: then its message is the input of a tool.
    """

    id: str
    session_id: str
    owner: str
    schema: str
    view: View
    created_at: str
    ended_at: str | None
    message: str
    key: str
    kept: Any
    status: Status
    failure: int | None
    first: int | None
    last: int | None
    newest: bool
    by_agent: bool


_BY_AGENT = """exists (
  select 1 from tasks k where k.session_id = s.id and k.source = 'agent' and k.mode = 'background') as by_agent"""
_SELECT = f"""select t.id, t.session_id, s.owner, s.schema, t.created_at, t.message,
  coalesce(a.finished_at, t.finished_at) as ended_at,
  coalesce(t.face_key, '') as key, t.kept,
  coalesce(a.status, t.status) as status, coalesce(a.failure, t.failure) as failure,
  t.first_event as first, coalesce(a.last_event, t.last_event) as last,
  case when s.schema = '' then 'full' else coalesce(x.view, 'public') end as view,
  not exists (select 1 from turns o where o.session_id = t.session_id and o.seq > t.seq) as newest,
  {_BY_AGENT}
  from turns t join sessions s on s.id = t.session_id left join schemas x on x.name = s.schema
  left join turns a on a.id = t.steers and t.status = 'absorbed'
  where s.parent_id is null and s.id not in (select session_id from removals)"""


def get(conn: Connection, turn_id: str) -> StoredTurn | None:
    """A turn by its id, unless its session is deleted or a spawned agent's."""
    return _first(conn.execute(f"{_SELECT} and t.id = ?", (turn_id,)).fetchone())


def newest(conn: Connection, session_id: str) -> StoredTurn | None:
    """The newest turn of a session; None if it has none of its own."""
    row = conn.execute(f"{_SELECT} and t.session_id = ? order by t.seq desc limit 1", (session_id,)).fetchone()
    return _first(row)


def find(conn: Connection, owner: str, user_sub: str | None, schema: str, keys: Sequence[str]) -> list[StoredTurn]:
    """The turns with one of the keys in the sessions of an owner, for an end user or all; newest first for each key."""
    sql = f"""{_SELECT} and t.face_key = ? and s.owner = ? and s.user_sub = coalesce(?, s.user_sub) and s.schema = ?
      order by t.seq desc limit ?"""
    return [_turn(row) for key in keys for row in conn.execute(sql, (key, owner, user_sub, schema, MOST)).fetchall()]


def before(conn: Connection, turn: StoredTurn) -> list[PrecedingTurn] | None:
    """The turns of the session before one, oldest first; None if they take more than a megabyte."""
    earlier = messages.preceding(conn, turn.session_id, turn.id)
    if earlier is None:
        return None
    found: dict[str, list[Message]] = {}
    for turn_id, message in earlier:
        found.setdefault(turn_id, []).append(message)
    return [PrecedingTurn(id=one, kept=_kept(conn, one), messages=tuple(theirs)) for one, theirs in found.items()]


def _kept(conn: Connection, turn_id: str) -> Any:
    row = conn.execute("select kept from turns where id = ?", (turn_id,)).fetchone()
    return msgspec.json.decode(row[0]) if row and row[0] else None


def keep(conn: Connection, turn_id: str, kept: Any) -> None:
    """Stores what a face keeps with a turn, in place of what it kept."""
    conn.execute("update turns set kept = ? where id = ?", (msgspec.json.encode(kept).decode(), turn_id))


def view(conn: Connection, session_id: str) -> tuple[str, str, str, bool] | None:
    """The owner, the schema and the view of a session, and whether an agent began it; None if there is none."""
    row = conn.execute(
        f"""select s.owner, s.schema, case when s.schema = '' then 'full' else coalesce(x.view, 'public') end as view,
        {_BY_AGENT} from sessions s left join schemas x on x.name = s.schema
        where s.id = ? and s.parent_id is null and s.id not in (select session_id from removals)""",
        (session_id,),
    ).fetchone()
    return tuple(row) if row else None


def _first(row: Row | None) -> StoredTurn | None:
    return _turn(row) if row else None


def _turn(row: Row) -> StoredTurn:
    kept = msgspec.json.decode(row["kept"]) if row["kept"] else None
    return StoredTurn(**{**dict(row), "kept": kept, "newest": bool(row["newest"]), "by_agent": bool(row["by_agent"])})
