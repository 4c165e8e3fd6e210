"""Turns that were open when the engine stopped, and their state at that time."""

from itertools import chain
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from bytebrew.base.formats import now, struct_of
from bytebrew.contract.connection import Connection
from bytebrew.contract.messages import Message, ResponseFormat, ToolSpec, Usage
from bytebrew.store import idempotency, messages, turns
from bytebrew.store.queries.event_rows import DELTAS, events_of
from bytebrew.store.queries.spawned_turns import COUNTS
from bytebrew.store.turns import CLOSE_QUESTIONS

_SUM = ", ".join(
    f"sum({name})" if name == "cost_usd" else f"coalesce(sum({name}), 0)" for name in Usage.__struct_fields__
)


class OpenTurn(Struct, frozen=True, kw_only=True):
    """A turn that was open when the engine stopped.

    `task_agent` is the agent of its task, and `subject` sent its message: an admin may, in the session of its owner.
    `on_busy` is how a message that another node has stored enters the queue, and `headers` are those of its request,
    sealed.
    """

    id: str
    session_id: str
    schema: str
    agent: str
    owner: str
    subject: str
    user_sub: str
    size: int
    own_key: bool
    subagents: bool
    client_tools: tuple[ToolSpec, ...] | None
    time_limit: float | None
    traceparent: str | None
    parent_turn_id: str | None
    parent_call_id: str | None
    parent_session_id: str | None
    root_turn_id: str
    lineage: tuple[str, ...]
    response_format: ResponseFormat | None
    first_event: int | None
    task_agent: str | None
    task_ended: bool
    resumes: int
    status: str
    steers: str | None
    steer_event: int | None
    instructions: str | None
    on_busy: Literal["queue", "interrupt", "steer"]
    headers: bytes | None


class ResumePoint(Struct, frozen=True):
    """The state of a turn when the engine stopped.

    `messages` are the stored messages after `user_message`. `text` is all deltas of the turn, `partial_text` and
    `partial_thinking` those of the interrupted step. `calls` maps its tool calls to their states.
    """

    user_message: Message
    messages: list[Message]
    text: list[str]
    partial_text: str
    partial_thinking: str
    calls: dict[str, str]


def close(
    conn: Connection, turn_id: str, last_event: int, failure: int, code: str, unsaved: turns.Unsaved | None = None
) -> None:
    """Marks a turn that cannot be resumed as failed, with the usage of it and of the turns below it.

    `failure` and `code` are the HTTP status and the code of its error. The text of its unsaved messages, or else of the
    deltas that clients have received, is stored as a message; tool calls are left out, as they never started.
    """
    moment = now()
    conn.execute(CLOSE_QUESTIONS, (turn_id,))
    idempotency.free(conn, turn_id, failure)
    produced = [one for one in unsaved.messages if one.content] if unsaved else []
    # without `vendor`, which may refer to the calls
    texts = [Message("assistant", one.content, broken_off=one.broken_off or "failed") for one in produced]
    for row in conn.execute("select session_id, first_event from turns where id = ?", (turn_id,)).fetchall():
        if not texts and row["first_event"] is not None:
            _, partial, _ = _shown(conn, row["session_id"], row["first_event"])
            texts = [Message("assistant", partial, broken_off="failed")] if partial else []
        messages.append(conn, row["session_id"], turn_id, texts)
    if unsaved is not None:
        turns.spend(conn, unsaved, turn_id)
    conn.execute(
        f"""update turns set status = 'failed', failure = ?, code = ?, first_event = coalesce(first_event, ?),
        last_event = ?, finished_at = ?, subject = '', headers = null, ({COUNTS}) = (?, ?, ?, ?, ?, ?) where id = ?""",
        (failure, code, last_event, last_event, moment, *astuple(spent(conn, turn_id)), turn_id),
    )


def left_open(conn: Connection, node: int | None = None) -> list[OpenTurn]:
    """The turns of a node that were queued or running when it stopped: parents first, and running before queued.

    The queued ones are in the order in which they run: those that interrupt, those that steer, the others. `resumes` is
    0 for a turn that waits for a person or for a spawned agent.
    """
    rows = conn.execute(
        f"""select t.id, t.session_id, s.schema, s.agent, s.owner, s.user_sub, t.size, t.own_key,
        coalesce(nullif(t.subject, ''), s.owner) as subject,
        t.subagents, t.client_tools, t.time_limit, t.traceparent, t.parent_turn_id, t.parent_call_id,
        s.parent_id as parent_session_id,
        t.root_turn_id, t.lineage, t.response_format, t.first_event, t.status, t.steers, t.steer_event,
        t.instructions, t.headers,
        coalesce((select q.kind from session_requests q where q.turn_id = t.id and q.kind in ('interrupt', 'steer')),
          'queue') as on_busy,
        k.agent as task_agent, k.completed_at is not null as task_ended, case when
          'pending' in (select c.status from confirmations c where c.turn_id = t.id)
          or exists (select 1 from turns o where o.parent_turn_id = t.id and o.status in ('queued', 'running'))
        then 0 else t.resumes end as resumes
        from turns t join sessions s on s.id = t.session_id
        left join tasks k on k.session_id = t.session_id and k.turn_id = t.id where t.status in ('queued', 'running')
        and {of_node("t", node)} and s.id not in (select session_id from removals)
        order by t.status = 'queued', t.steers is null, t.seq"""
    )
    return sorted((struct_of(row, OpenTurn) for row in rows), key=_rank)


def _rank(turn: OpenTurn) -> tuple[int, bool, int]:
    place = 0 if turn.on_busy == "interrupt" else 1 if turn.steers else 2 if turn.on_busy == "steer" else 3
    return len(turn.lineage), turn.status == "queued", place


def of_node(alias: str, node: int | None) -> str:
    """The condition that a turn or a task is a node's; None is the only one."""
    return f"{alias}.node is null" if node is None else f"{alias}.node = {node:d}"


def resume(conn: Connection, turn_id: str, agent_version: int) -> ResumePoint | None:
    """The state of a turn when the engine stopped, None if it has ended; counts the resumes since its last progress.

    The turn is from now on one of the `agent_version` that goes on with it.

    If a retry that a person chose was interrupted as well, its question is deleted, so that it is asked again.
    """
    sql = "update turns set resumes = resumes + 1, agent_version = ? where id = ? and status = 'running'"
    if conn.execute(sql, (agent_version, turn_id)).rowcount == 0:
        return None
    conn.execute(
        """delete from confirmations where turn_id = ?1 and kind = 'unknown_outcome' and status = 'spent'
        and call_id in (select c.call_id from tool_calls c where c.turn_id = ?1 and c.status = 'started')""",
        (turn_id,),
    )
    row = conn.execute("select session_id, first_event from turns where id = ?", (turn_id,)).fetchone()
    deltas, partial, thought = _shown(conn, row["session_id"], row["first_event"])
    states = conn.execute("select call_id, status from tool_calls where turn_id = ?", (turn_id,))
    user_message, *rest = messages.of_turn(conn, row["session_id"], turn_id)
    return ResumePoint(
        user_message, rest, deltas, partial, thought, {state["call_id"]: state["status"] for state in states}
    )


def unfinished_tools(conn: Connection, turn_id: str) -> list[str]:
    """The tools that a root turn and the turns below it had started, without a recorded result."""
    rows = conn.execute(
        """select c.tool from turns t join tool_calls c on c.turn_id = t.id and c.status = 'started'
        where t.id = ?1 or (t.root_turn_id = ?1 and t.parent_turn_id is not null) group by c.tool order by c.tool""",
        (turn_id,),
    )
    return [row["tool"] for row in rows]


def _shown(conn: Connection, session_id: str, first_event: int) -> tuple[list[str], str, str]:
    """The deltas of a turn that clients have received, then the joined text and thinking of its last step."""
    deltas: list[str] = []
    partial: list[str] = []
    thought: list[str] = []
    sql = f"""select n, type, data, at from events where session_id = ? and n >= ? and type in
      ('{DELTAS}', 'thinking', 'message_delta', 'message_restart', 'tool_call', 'steered') order by n"""
    rows = conn.execute(sql, (session_id, first_event))
    for _, kind, data, _ in chain.from_iterable(events_of(row, first_event - 1) for row in rows):
        if kind in ("tool_call", "steered"):  # the step before it is complete
            partial, thought = [], []
            continue
        event = msgspec.json.decode(data)
        if "agent" in event:
            continue
        if kind == "message_restart":
            deltas, partial, thought = [event["content"]], [], []
        elif kind == "thinking":
            thought.append(event["content"])
        else:
            deltas.append(event["content"])
            partial.append(event["content"])
    return deltas, "".join(partial), "".join(thought)


def spent(conn: Connection, turn_id: str) -> Usage:
    """The tokens of a turn and of the turns below it."""
    row = conn.execute(
        f"""with recursive tree (id) as (
          select cast(? as text) union all select t.id from tree join turns t on t.parent_turn_id = tree.id)
        select {_SUM} from tree cross join usage u where u.turn_id = tree.id""",
        (turn_id,),
    ).fetchone()
    return Usage(*row)
