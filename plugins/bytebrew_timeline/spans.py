"""The spans of a turn: what it did and what it waited for, and the same of the agents that it spawned."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from msgspec import Struct

from bytebrew import Actor, Connection, Live, NotFound, Row, now, visible

from .times import of_seconds
from .turns import SELECT, TurnRow, turn, turn_ids

Kind = Literal["queue", "model", "tool", "agent", "person"]
State = Literal["running", "needs_input", "completed", "failed", "cancelled"]
MOST = 10_000
"""Spans of an answer; a turn with more shows the first of them."""
_ENDED: Mapping[str, State] = {"completed": "completed", "failed": "failed", "cancelled": "cancelled"}
_BELOW = """with recursive tree (id) as (
  select cast(?1 as text) union all select t.id from tree join turns t on t.parent_turn_id = tree.id)"""


class Span(Struct, frozen=True, kw_only=True):
    """A part of a turn, with the span that it is a part of; `ended_at` is null while it goes on.

    A `queue` is the wait behind other messages of the session, a `person` the wait for an answer to a question of
    `confirmation_id`, a `tool` a call of one, an `agent` the turn `turn_id` of a spawned one. A `model` call has its
    tokens, the configured `model` that answered and that one's name at its vendor; `purpose` is step or summary, `stop`
    why its answer ended. The model call that a turn makes now, and one without an answer, are known by their time only.
    """

    id: str
    parent_id: str | None
    kind: Kind
    name: str
    state: Live[State]
    session_id: str
    turn_id: str
    agent: str
    version: int
    started_at: str
    ended_at: Live[str | None]
    first_token_at: str | None = None
    call_id: str = ""
    confirmation_id: str = ""
    risk: str = ""
    verdict: str = ""
    answered_by: str = ""
    model: str = ""
    provider: str = ""
    model_name: str = ""
    purpose: str = ""
    stop: str = ""
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    cost_usd: float | None = None


class Timeline(Struct, frozen=True, kw_only=True):
    """A turn with its spans, in the order in which they began; `now` is the engine's clock, for those that go on.

    `message` is the whole one that the turn answers. `total` is the number of spans, of which ten thousand are shown.
    """

    turn: TurnRow
    message: str
    spans: Live[list[Span]]
    total: Live[int]
    now: Live[str]


class Rows(NamedTuple):
    """A turn of the tree with its model calls, its tool calls and the questions about these."""

    turn: Row
    calls: list[Row]
    tools: list[Row]
    questions: list[Row]


def timeline(conn: Connection, session_id: str, actor: Actor, turn_id: str) -> Timeline:
    """The spans of a turn of a session that the actor may see."""
    number = numbered(conn, session_id, actor, turn_id)
    found = sorted(spans(conn, turn_id), key=lambda span: (span.started_at, span.parent_id or "", span.id))
    message = conn.execute("select message from turns where id = ?", (turn_id,)).fetchone()["message"]
    row = turn(conn, turn_id, number)
    return Timeline(turn=row, message=message, spans=found[:MOST], total=len(found), now=now())


def numbered(conn: Connection, session_id: str, actor: Actor, turn_id: str) -> int:
    """The number of a turn in its session; NotFound where it has no such turn, or belongs to others."""
    ids = turn_ids(conn, session_id, actor)
    if turn_id not in ids:
        raise NotFound(f"The session has no turn '{turn_id[:255]}'")
    return ids.index(turn_id) + 1


def tree(conn: Connection, turn_id: str) -> Iterator[Rows]:
    """A turn, and those of the agents spawned below it, in the order in which they came."""
    sql = f"{_BELOW} {SELECT} where t.id in (select id from tree) order by t.seq"  # noqa: S608
    for row in conn.execute(sql, (turn_id,)).fetchall():
        one = (row["id"],)
        calls = "select * from usage where turn_id = ? and started_at > 0 order by id"
        tools = """select call_id, tool, status, asked_at, started_at, finished_at from tool_calls where turn_id = ?
          order by asked_at, call_id"""
        questions = """select seq, id, call_id, kind, tool, risk, status, verdict, answered_by, created_at, answered_at
          from confirmations where turn_id = ? and kind <> 'client_tool' order by seq"""
        yield Rows(row, *(conn.execute(sql, one).fetchall() for sql in (calls, tools, questions)))


def spans(conn: Connection, turn_id: str) -> Iterator[Span]:
    """The spans of a turn and of those below it; an agent stands in the place of the call that spawned it."""
    found = list(tree(conn, turn_id))
    spawned = {(rows.turn["parent_turn_id"], rows.turn["parent_call_id"]) for rows in found[1:]}
    parents = {rows.turn["id"]: f"t{rows.turn['seq']}" for rows in found}
    for rows in found:
        row = rows.turn
        own = Maker(row, None if row["id"] == turn_id else parents[row["id"]])
        if own.parent is not None:
            yield own.span(
                own.parent,
                "agent",
                row["agent"],
                _state(row["status"]),
                row["started_at"] or row["created_at"],
                row["finished_at"],
                parent_id=parents[row["parent_turn_id"]] if row["parent_turn_id"] != turn_id else None,
                call_id=row["parent_call_id"],
            )
        parts = [*_waits(own, rows), *_models(own, rows), *_tools(own, rows, spawned)]
        yield from parts
        open_children = any(one.turn["parent_turn_id"] == row["id"] and not one.turn["finished_at"] for one in found)
        yield from _unknown(own, parts, open_children=open_children)


class Maker(NamedTuple):
    """Makes the spans of one turn."""

    turn: Row
    parent: str | None

    def span(self, id: str, kind: Kind, name: str, state: State, start: str, end: str | None, **more: Any) -> Span:
        """A span of the turn, below its own where it has one."""
        return Span(
            id=id,
            parent_id=more.pop("parent_id", self.parent),
            kind=kind,
            name=name,
            state=state,
            session_id=self.turn["session_id"],
            turn_id=self.turn["id"],
            agent=self.turn["agent"],
            version=self.turn["agent_version"],
            started_at=start,
            ended_at=end,
            **more,
        )


def _state(status: str) -> State:
    return _ENDED.get(status, "running")


def _waits(own: Maker, rows: Rows) -> Iterator[Span]:
    row = own.turn
    if row["started_at"] != row["created_at"]:
        end = row["started_at"] or row["finished_at"]
        state: State = "completed" if end else "running"
        yield own.span(f"q{row['seq']}", "queue", "Queue", state, row["created_at"], end)
    ends = {call["call_id"]: call["finished_at"] for call in rows.tools}
    for one in rows.questions:
        pending = one["status"] == "pending"
        yield own.span(
            f"p{one['seq']}",
            "person",
            visible(one["tool"]),
            "needs_input" if pending else "completed" if one["answered_at"] else "cancelled",
            one["created_at"],
            None if pending else one["answered_at"] or ends.get(one["call_id"]) or row["finished_at"],
            call_id=one["call_id"],
            confirmation_id=one["id"],
            risk=one["risk"],
            verdict=one["verdict"] or "",
            answered_by=one["answered_by"] or "",
        )


def _models(own: Maker, rows: Rows) -> Iterator[Span]:
    for call in rows.calls:
        yield own.span(
            f"m{call['id']}",
            "model",
            call["model"],
            "completed",
            of_seconds(call["started_at"]) or "",
            of_seconds(call["finished_at"]),
            first_token_at=of_seconds(call["first_token_at"]),
            **{name: call[name] for name in _OF_MODEL},
        )


_OF_MODEL = (
    *("model", "provider", "model_name", "purpose", "stop"),
    *("input_tokens", "cached_tokens", "output_tokens", "thinking_tokens", "cost_usd"),
)


def _tools(own: Maker, rows: Rows, spawned: set[tuple[str, str]]) -> Iterator[Span]:
    gated = {one["call_id"] for one in rows.questions if one["kind"] == "confirm"}
    for n, call in enumerate(rows.tools):
        never_ran = call["started_at"] is None and call["call_id"] in gated
        if (own.turn["id"], call["call_id"]) in spawned or (never_ran and call["finished_at"] is None):
            continue  # an agent stands for it, or the question that it waits for
        end = call["finished_at"] or own.turn["finished_at"]
        yield own.span(
            f"c{own.turn['seq']}.{n}",
            "tool",
            visible(call["tool"]),
            _state(call["status"]) if call["finished_at"] else "cancelled" if end else "running",
            call["finished_at"] if never_ran else call["started_at"] or call["asked_at"],
            end,
            call_id=call["call_id"],
        )


def _unknown(own: Maker, parts: list[Span], *, open_children: bool) -> Iterator[Span]:
    """The model call that is under way, or that failed: what a turn does when it does nothing else."""
    row = own.turn
    if row["started_at"] is None or open_children or any(part.ended_at is None for part in parts):
        return
    failed = row["status"] == "failed" and row["code"].startswith("model_")
    if row["finished_at"] is None or failed:
        start = max([row["started_at"], *(part.ended_at or "" for part in parts)])
        state: State = "failed" if failed else "running"
        yield own.span(f"l{row['seq']}", "model", "Model", state, start, row["finished_at"])
