"""Confirmations: questions to a person about one tool call, and the answers."""

import hashlib
from collections.abc import Sequence
from itertools import islice
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bytebrew.base.errors import NotFound
from bytebrew.base.formats import now, struct_of
from bytebrew.base.visible_text import visible
from bytebrew.contract.connection import Connection, insert, placeholders
from bytebrew.contract.events import Risk
from bytebrew.contract.lists import bounded

Kind = Literal["confirm", "unknown_outcome", "elicitation", "client_tool"]
"""A question to a person about a call or from one, or the call of a tool that the client runs, whose answer is the
result."""
Status = Literal["pending", "approved", "rejected", "spent", "expired", "cancelled"]
Verdict = Literal["approve", "reject", "cancel", "retry", "mark_done", "fail"]
C = TypeVar("C", bound="Confirmation")


class Confirmation(Struct, frozen=True, kw_only=True):
    """A question and what became of it.

    `session_id` is the session that a person sees, also where a sub-agent asks. `source` is where the tool comes from,
    `risk` how much harm it says that it can do, `input` the arguments that were asked about, `edited` those that a
    person put in their place, `input_schema` the JSON Schema that the tool had for them; `args_digest` is over the
    source, the tool and the exact arguments. `spent` is an approval whose call has begun, or a call of the client that
    has its result, with the verdict mark_done or fail.

    An `elicitation` comes from the call's source while the call runs: `input` is then what the source says, a `message`
    and perhaps a `url` with its `host`, `input_schema` the fields of the answer, if any, which the digest covers too,
    and `edited` the answer. The verdict cancel leaves it unanswered.
    """

    id: str
    session_id: str
    turn_id: str
    call_id: str
    kind: Kind
    agent: str
    source: str
    tool: str
    risk: Risk
    input: dict[str, Any]
    args_digest: str
    status: Status
    verdict: Verdict | None
    edited: dict[str, Any] | None
    reason: str
    answered_by: str | None
    answered_at: str | None
    created_at: str
    expires_at: str | None
    input_schema: dict[str, Any] | None = None


class ConfirmationDetail(Confirmation, frozen=True, kw_only=True):
    """A question with what a person needs to know to answer it.

    `agent_version` is the version of the agent that asks, `turn` the number of the person's own turn in the session,
    `last_user_message` the beginning of its message, and `task_id` the task that it works on.
    """

    schema: str
    user_sub: str
    session_title: str
    agent_version: int
    turn: int
    last_user_message: str
    task_id: str | None


MESSAGE_LENGTH = 2000
"""Characters of the user's message that a question shows."""
_COLUMNS = """id, session_id, turn_id, call_id, kind, agent, source, tool, risk, input, args_digest, status,
  verdict, edited, reason, answered_by, answered_at, created_at, expires_at, input_schema"""
_SELECT = f"select {_COLUMNS} from confirmations"
_QUESTIONS = f"""select {", ".join(f"c.{name.strip()}" for name in _COLUMNS.split(","))}, s.schema, s.user_sub,
  s.title as session_title, t.agent_version, substr(r.message, 1, {MESSAGE_LENGTH}) as last_user_message,
  (select count(*) from turns n where n.session_id = r.session_id and n.seq <= r.seq and n.status <> 'absorbed')
  as turn,
  (select k.id from tasks k where k.session_id = c.session_id and k.turn_id = r.id order by k.seq limit 1) as task_id
  from confirmations c join sessions s on s.id = c.session_id join turns t on t.id = c.turn_id
  join turns r on r.id = t.root_turn_id"""


def digest(source: str, tool: str, input: dict[str, Any]) -> str:
    """SHA-256 in hex over a tool's source, its name and its arguments in canonical JSON."""
    return hashlib.sha256(msgspec.json.encode([source, tool, input], order="deterministic")).hexdigest()


def shown(question: C) -> C:
    """The question for display, with invisible characters escaped."""
    edited = None if question.edited is None else visible(question.edited)
    return replace(question, tool=visible(question.tool), input=visible(question.input), edited=edited)


def ask(conn: Connection, new: Confirmation) -> None:
    """Stores a question after all others, even if the clock was set back; replaces an earlier one of its kind.

    An earlier one exists if the source of the tool has changed since.
    """
    last = conn.execute("select coalesce(max(seq), 0) from confirmations").fetchone()[0]
    sql = "delete from confirmations where turn_id = ? and call_id = ? and kind = ?"
    conn.execute(sql, (new.turn_id, new.call_id, new.kind))
    insert(conn, "confirmations", new, seq=last + 1)


def elicit(conn: Connection, new: Sequence[Confirmation], all_of_round: Sequence[str], resume_state: str) -> None:
    """Stores questions of a running call, and with all that are asked at once what the call needs to go on from them.

    A call may have many; those whose answers it has not taken yet have a `resume_state`, which may be empty.
    """
    last = conn.execute("select coalesce(max(seq), 0) from confirmations").fetchone()[0]
    for n, question in enumerate(new, last + 1):
        insert(conn, "confirmations", question, seq=n)
    _set_resume_state(conn, all_of_round, resume_state)


def not_taken(conn: Connection, turn_id: str, call_id: str) -> tuple[list[Confirmation], str]:
    """The elicitations whose answers a call has not taken yet, oldest first, and the state of the newest."""
    sql = f"""select {_COLUMNS}, resume_state from confirmations where turn_id = ? and call_id = ?
      and kind = 'elicitation' and resume_state is not null order by seq"""
    rows = conn.execute(sql, (turn_id, call_id)).fetchall()
    return [struct_of(row, Confirmation) for row in rows], rows[-1]["resume_state"] if rows else ""


def take(conn: Connection, ids: Sequence[str]) -> None:
    """Marks elicitations whose answers go to the source of the call now; one of them is not read twice."""
    _set_resume_state(conn, ids, None)
    sql = f"update confirmations set status = 'spent' where status = 'approved' and id in ({placeholders(ids)})"
    conn.execute(sql, tuple(ids))


def withdraw(conn: Connection, turn_id: str, call_id: str) -> None:
    """Closes the elicitations of a call whose answers nobody waits for any more."""
    conn.execute(
        """update confirmations set status = case status when 'pending' then 'cancelled' else status end,
        resume_state = null where turn_id = ? and call_id = ? and kind = 'elicitation'
        and (status = 'pending' or resume_state is not null)""",
        (turn_id, call_id),
    )


def dismiss(conn: Connection, ids: Sequence[str]) -> None:
    """Closes elicitations that their source has taken back."""
    _set_resume_state(conn, ids, None)
    sql = f"update confirmations set status = 'cancelled' where status = 'pending' and id in ({placeholders(ids)})"
    conn.execute(sql, tuple(ids))


def _set_resume_state(conn: Connection, ids: Sequence[str], state: str | None) -> None:
    conn.execute(f"update confirmations set resume_state = ? where id in ({placeholders(ids)})", (state, *ids))


def of_call(conn: Connection, turn_id: str, call_id: str, kind: Kind) -> Confirmation | None:
    """The question of this kind about a tool call."""
    sql = f"{_SELECT} where turn_id = ? and call_id = ? and kind = ?"
    row = conn.execute(sql, (turn_id, call_id, kind)).fetchone()
    return struct_of(row, Confirmation) if row else None


def find(
    conn: Connection, key: str, session_id: str | None = None, schemas: Sequence[str] | None = None
) -> Confirmation | None:
    """A question by id; `session_id` and `schemas` restrict the session."""
    within, names = _within(schemas)
    sql = f"{_SELECT} where id = ? and {within}"
    row = conn.execute(sql, (key, *names)).fetchone()
    if row is None or session_id not in (None, row["session_id"]):
        return None
    return struct_of(row, Confirmation) if row else None


def find_question(conn: Connection, key: str, schemas: Sequence[str] | None = None) -> ConfirmationDetail:
    """A question to a person by id; `schemas` restricts the session. NotFound otherwise."""
    within, names = _within(schemas, "c.session_id")
    sql = f"{_QUESTIONS} where c.id = ? and c.kind <> 'client_tool' and {within}"
    row = conn.execute(sql, (key, *names)).fetchone()
    if row is None:
        raise NotFound(f"There is no question '{key[:255]}'")
    return struct_of(row, ConfirmationDetail)


def about(conn: Connection, call_id: str, session_id: str, schemas: Sequence[str] | None = None) -> list[Confirmation]:
    """A session's questions about tool calls with this id, oldest first: vendors may reuse ids."""
    within, names = _within(schemas)
    sql = f"{_SELECT} where call_id = ? and session_id = ? and {within} order by seq"
    return [struct_of(row, Confirmation) for row in conn.execute(sql, (call_id, session_id, *names))]


def of_session(conn: Connection, session_id: str) -> list[Confirmation]:
    """A session's pending questions, oldest first."""
    sql = f"{_SELECT} where session_id = ? and status = 'pending' order by seq"
    return [struct_of(row, Confirmation) for row in conn.execute(sql, (session_id,))]


def of_turn(conn: Connection, turn_id: str) -> list[Confirmation]:
    """The pending questions of a turn and of those that it has spawned, oldest first."""
    sql = f"""with recursive tree (id) as (
        select cast(? as text) union all select t.id from tree join turns t on t.parent_turn_id = tree.id)
      {_SELECT} where turn_id in (select id from tree) and status = 'pending' order by seq"""
    return [struct_of(row, Confirmation) for row in conn.execute(sql, (turn_id,))]


def closed(conn: Connection, ids: Sequence[str]) -> list[str]:
    """Those of the questions that do not wait any more, or are deleted."""
    sql = f"select id from confirmations where id in ({placeholders(ids)}) and status = 'pending'"
    pending = {row["id"] for row in conn.execute(sql, (*ids,))}
    return [one for one in ids if one not in pending]


def answer(
    conn: Connection, confirmation_id: str, verdict: Verdict, edited: dict[str, Any] | None, reason: str, by: str
) -> None:
    """Stores the answer to a pending question; if the question is too old, expires it instead."""
    moment = now()
    conn.execute(
        "update confirmations set status = 'expired' where id = ? and status = 'pending' and expires_at <= ?",
        (confirmation_id, moment),
    )
    conn.execute(
        """update confirmations set status = ?, verdict = ?, edited = ?, reason = ?, answered_by = ?, answered_at = ?
        where id = ? and status = 'pending'""",
        (
            "rejected" if verdict in ("reject", "cancel", "fail") else "approved",
            verdict,
            None if edited is None else msgspec.json.encode(edited).decode(),
            reason,
            by,
            moment,
            confirmation_id,
        ),
    )


def give_result(conn: Connection, confirmation_id: str, result: str, has_error: bool, by: str) -> None:
    """Stores what the client's tool returned, unless the call is too old, which expires it, or has its result."""
    moment = now()
    conn.execute(
        "update confirmations set status = 'expired' where id = ? and status = 'pending' and expires_at <= ?",
        (confirmation_id, moment),
    )
    conn.execute(
        """update confirmations set status = 'spent', verdict = ?, result = ?, answered_by = ?, answered_at = ?
        where id = ? and status = 'pending'""",
        ("fail" if has_error else "mark_done", result, by, moment, confirmation_id),
    )


def result(conn: Connection, confirmation_id: str) -> str | None:
    """What the client's tool returned, if it has."""
    row = conn.execute("select result from confirmations where id = ?", (confirmation_id,)).fetchone()
    return row["result"] if row else None


def expire(conn: Connection, confirmation_id: str) -> None:
    """Expires a pending question."""
    conn.execute("update confirmations set status = 'expired' where id = ? and status = 'pending'", (confirmation_id,))


def spend(conn: Connection, confirmation_id: str) -> bool:
    """Marks an approval as used; False if the question is not approved, or was already used."""
    sql = "update confirmations set status = 'spent' where id = ? and status = 'approved'"
    return conn.execute(sql, (confirmation_id,)).rowcount == 1


def page(
    conn: Connection, status: str, after: str, limit: int, schemas: Sequence[str] | None = None, offset: int = 0
) -> tuple[list[ConfirmationDetail], str | None]:
    """Questions to people with a status, oldest first, from an offset after `after`.

    `schemas` restricts the sessions. A page has at most a megabyte; the returned id is the `after` of the next page, if
    there is one. NotFound if `after` does not exist.
    """
    place = conn.execute("select seq, id from confirmations where id = ?", (after,)).fetchone() if after else (0, "")
    if place is None:
        raise NotFound(f"There is no question '{after[:255]}' any more; read the list from the start")
    within, names = _within(schemas)
    rows = conn.execute(  # skips rows before it looks up what belongs to them
        f"""{_QUESTIONS} where c.id in (select id from confirmations
          where status = ? and (seq, id) > (?, ?) and kind <> 'client_tool' and {within}
          order by seq, id limit ? offset ?) order by c.seq, c.id""",
        (status, *place, *names, limit + 1, offset),
    )
    found = [struct_of(row, ConfirmationDetail) for row in bounded(islice(rows, limit))]
    return found, found[-1].id if rows.fetchone() else None


def count(conn: Connection, status: str, schemas: Sequence[str] | None = None) -> int:
    """The number of questions to people with a status; `schemas` restricts the sessions."""
    within, names = _within(schemas)
    sql = f"select count(*) from confirmations where status = ? and kind <> 'client_tool' and {within}"
    found: int = conn.execute(sql, (status, *names)).fetchone()[0]
    return found


def _within(schemas: Sequence[str] | None, session: str = "session_id") -> tuple[str, Sequence[str]]:
    """The condition that a question's session belongs to one of the schemas, and its values."""
    if schemas is None:
        return "true", ()
    condition = f"x.id = {session} and x.schema in ({placeholders(schemas)})"
    return f"exists (select 1 from sessions x where {condition})", schemas
