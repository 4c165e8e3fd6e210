"""SQL for turns and their tool calls: one function per state change."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Literal

import msgspec
from msgspec import Struct, field
from msgspec.structs import astuple, replace

from bytebrew.base.errors import Conflict, NotFound
from bytebrew.base.formats import now, parse_time, rfc3339
from bytebrew.contract.auth import VISITOR, Actor, account
from bytebrew.contract.connection import Connection, Row
from bytebrew.contract.face import EarlierTurn
from bytebrew.contract.governance.spawn_limits import SpawnLimits
from bytebrew.contract.messages import Attachment, Message, ResponseFormat, Spent, ToolCall, ToolSpec, Usage
from bytebrew.contract.route import Key
from bytebrew.store import confirmations, forks, idempotency, imported_turns, messages, sessions
from bytebrew.store.confirmations import Confirmation
from bytebrew.store.queries import spawned_turns
from bytebrew.store.queries.spawned_turns import COUNTS
from bytebrew.store.sessions import ForkedFrom

Status = Literal["queued", "running", "completed", "failed", "cancelled"]


class Parent(Struct, frozen=True, kw_only=True):
    """The tool call that spawned a turn; `root_turn_id` is the root of the spawn tree, a person's message."""

    turn_id: str
    call_id: str
    session_id: str
    root_turn_id: str


class NewTurn(Struct, frozen=True, kw_only=True):
    """A requested turn.

    With `own_key` the model is called with the caller's own key, which is in memory only. `fresh` allows the turn to
    create a session with its id, which then belongs to `owner`; `begins` is set if the id is new. With `subagents` the
    stream includes the events of spawned agents; `client_tools` are those that the client runs. `parent` is set for the
    turn of a spawned agent, whose session is below the parent's; `lineage` are the agents above it, from the root down.
    `response_format` is its own in place of its agent's, of type text to have none. `key` is the Idempotency-Key of the
    request, `agent_version` the version of the agent that answers. `traceparent` is the caller's own trace (W3C Trace
    Context), for a spawned agent that of the root. `steers` is the running turn that absorbs the message at its next
    boundary, unless it ends first. `fork` is the history with which its session begins, `history` are turns that come
    before it in a session or fork that begins. Nothing comes between the turn `behind`, if there is one, and it.
    `instructions` are words of the client for this turn alone. A face finds the turn by `face_key` and keeps JSON.
    """

    id: str
    session_id: str
    schema: str
    agent: str
    actor: Actor
    owner: str
    user_sub: str
    message: str
    attachments: tuple[Attachment, ...] = ()
    own_key: bool = False
    subagents: bool = False
    client_tools: tuple[ToolSpec, ...] = ()
    time_limit: float | None = None
    traceparent: str | None = None
    parent: Parent | None = None
    lineage: tuple[str, ...] = ()
    limits: SpawnLimits | None = None
    response_format: ResponseFormat | None = None
    fresh: bool
    begins: bool
    key: Key | None = None
    agent_version: int = 0
    steers: str | None = None
    fork: ForkedFrom | None = None
    history: tuple[EarlierTurn, ...] = ()
    behind: str = ""
    instructions: str = ""
    face_key: str = ""
    kept: str | None = None
    created_at: str = ""

    @property
    def events_before(self) -> int:
        """The number of the last event before it in a session that begins."""
        return (self.fork.after if self.fork else 0) + imported_turns.EVENTS * len(self.history)


class Unsaved(Struct, frozen=True):
    """Messages and model usage produced since the last commit, and what settles the reservations of the calls."""

    agent: str
    subject: str
    schema: str
    messages: list[Message] = field(default_factory=list)
    spent: list[Spent] = field(default_factory=list)
    settlements: list[Callable[[Connection], None]] = field(default_factory=list)


IN_SESSION = "s.owner, s.schema, s.parent_id, s.id in (select session_id from removals) as going"
"""What a new turn depends on, of its session `s`."""
CLOSE_QUESTIONS = """update confirmations set status = case status when 'pending' then 'cancelled' else status end
  where turn_id = ?"""
FIRED_SECONDS = 5
"""How often `chat_last_fired_at` of a schema is stored where nodes share the database."""
_OF_CALL = ", ".join(Spent.__struct_fields__[2:])


def admit(conn: Connection, new: NewTurn, first_event: int | None) -> None:
    """Stores a turn, and its session if that is new; with the number of its first event the turn is running."""
    row = conn.execute(f"select {IN_SESSION} from sessions s where s.id = ?", (new.session_id,)).fetchone()
    store(conn, new, first_event, row)


def store(conn: Connection, new: NewTurn, first_event: int | None, row: Row | None, node: int | None = None) -> None:
    """As `admit`, with IN_SESSION of its session if that is there; `node` runs the turn, None if there is only one."""
    moment = new.created_at or now()
    if new.parent and new.limits:
        spawned_turns.check_limits(conn, new.parent.root_turn_id, new.parent.turn_id, len(new.lineage), new.limits)
    if row is None:
        if (
            not new.fresh or (first_event or 1) > new.events_before + 1
        ):  # a session that had events was deleted meanwhile
            raise NotFound(
                f"There is no session '{new.session_id[:255]}'; leave session_id out to start one, or send a new UUID"
            )
        title = " ".join(new.message.split())[:80]
        above = new.parent.session_id if new.parent else None
        if above is not None and sessions.owner(conn, above) is None:
            raise NotFound(f"There is no session '{above}' any more")
        if new.fork is not None:
            forks.make(conn, new.session_id, new.fork, title)
        else:
            conn.execute(
                """insert into sessions (id, schema, agent, owner, user_sub, title, parent_id, created_at, updated_at,
                  status) values (?, ?, ?, ?, ?, ?, ?, ?, ?, 'active')""",
                (new.session_id, new.schema, new.agent, new.owner, new.user_sub, title, above, moment, moment),
            )
        if new.history:
            imported_turns.store(conn, new.session_id, new.history, new.fork.after if new.fork else 0)
    else:
        if new.history:
            raise Conflict(f"Session '{new.session_id}' is there already: only one that begins takes a history")
        if new.parent is None:  # that of a spawned agent is its parent's, whom an admin may have asked
            sessions.check_owner(new.actor, row["owner"], new.session_id)
        if row["going"]:
            raise Conflict(f"Session '{new.session_id}' is being deleted; try again later, or send another new UUID")
        if row["parent_id"] != (new.parent.session_id if new.parent else None):
            raise NotFound(f"There is no session '{new.session_id}': it is a spawned agent's own")
        if row["schema"] != new.schema:
            raise Conflict(f"Session '{new.session_id}' belongs to schema '{row['schema']}'; chat with that one")
        if new.behind:
            forks.check_newest(conn, new.session_id, new.behind)
    conn.execute(  # a trigger updates the session's `status` and `updated_at`
        """insert into turns (id, session_id, message, attachments, size, own_key, subagents, time_limit,
        parent_turn_id, parent_call_id, root_turn_id, lineage, response_format, status, first_event, created_at,
        started_at, agent_version, traceparent, steers, client_tools, instructions, face_key, kept, subject,
        node) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            new.id,
            new.session_id,
            new.message,
            # the attachments of a running turn are stored with its message only
            msgspec.json.encode(new.attachments).decode() if new.attachments and first_event is None else "[]",
            size(new),
            new.own_key,
            new.subagents,
            new.time_limit,
            new.parent.turn_id if new.parent else None,
            new.parent.call_id if new.parent else None,
            new.parent.root_turn_id if new.parent else new.id,
            msgspec.json.encode(new.lineage).decode() if new.lineage else "[]",
            msgspec.json.encode(new.response_format).decode() if new.response_format else None,
            "queued" if first_event is None else "running",
            first_event,
            moment,
            None if first_event is None else moment,
            new.agent_version,
            new.traceparent,
            new.steers,
            msgspec.json.encode(new.client_tools).decode() if new.client_tools else None,
            new.instructions or None,
            new.face_key or None,
            new.kept,
            "" if new.actor.subject == (row["owner"] if row else new.owner) else new.actor.subject,
            node,
        ),
    )
    if first_event is not None:
        messages.append(conn, new.session_id, new.id, [Message("user", new.message, attachments=new.attachments)])
    fired = "update schemas set chat_last_fired_at = ? where name = ?"
    if node is None:
        conn.execute(fired, (moment, new.schema))
    else:  # rarely: transactions of all nodes wait for each other at this row
        rested = rfc3339(parse_time(moment) - timedelta(seconds=FIRED_SECONDS))
        conn.execute(f"{fired} and coalesce(chat_last_fired_at, '') < ?", (moment, new.schema, rested))
    if new.key is not None:
        idempotency.keep_turn(conn, new.key, new.id)


def status(conn: Connection, turn_id: str) -> str | None:
    """The status of a turn; None if its session is deleted."""
    sql = "select status from turns where id = ? and session_id not in (select session_id from removals)"
    row = conn.execute(sql, (turn_id,)).fetchone()
    return row["status"] if row else None


def message(conn: Connection, turn_id: str) -> str:
    """The text of a turn's message."""
    return str(conn.execute("select message from turns where id = ?", (turn_id,)).fetchone()["message"])


def size(new: NewTurn) -> int:
    """Approximate size of a turn's message with its attachments and its client's tools, in bytes."""
    tools = len(msgspec.json.encode(new.client_tools)) if new.client_tools else 0
    kept = len(new.instructions) + len(new.kept or "")
    return len(new.message) + sum(len(one.data) + len(one.url) for one in new.attachments) + tools + kept


def keep_headers(conn: Connection, turn_id: str, sealed: bytes | None) -> None:
    """Stores the request's headers of a message that waits for another node, until its turn begins."""
    conn.execute("update turns set headers = ? where id = ? and status = 'queued'", (sealed, turn_id))


def start(conn: Connection, new: NewTurn, first_event: int) -> NewTurn:
    """Marks a queued turn as running and appends its message to the session; returns the turn with its message.

    NotFound if the session is deleted.
    """
    if status(conn, new.id) is None:
        raise NotFound("The session was deleted")
    row = conn.execute("select message, attachments from turns where id = ?", (new.id,)).fetchone()
    conn.execute(
        """update turns set status = 'running', first_event = ?, started_at = ?, attachments = '[]', headers = null
        where id = ?""",
        (first_event, now(), new.id),
    )
    attachments = msgspec.json.decode(row["attachments"], type=tuple[Attachment, ...])
    new = replace(new, message=row["message"], attachments=attachments)
    messages.append(conn, new.session_id, new.id, [Message("user", new.message, attachments=new.attachments)])
    return new


def steer(conn: Connection, turn_id: str, steered: str) -> bool:
    """Lets a message that waits steer a running turn; False if it waits no more."""
    sql = "update turns set steers = ? where id = ? and status = 'queued'"
    return conn.execute(sql, (steered, turn_id)).rowcount == 1


def announced(conn: Connection, turn_id: str, steer_event: int) -> None:
    """Stores the number of the event `steer` of a message that steers a turn."""
    conn.execute("update turns set steer_event = ? where id = ?", (steer_event, turn_id))


def absorb(conn: Connection, unsaved: Unsaved, turn_id: str, session_id: str, steers: list[str]) -> list[Message]:
    """Appends queued messages to a running turn, behind its own unsaved ones; returns them.

    Each queued turn ends as absorbed: its events are those of the running turn from its event `steer` on.
    """
    moment, found = now(), []
    for one in steers:
        row = conn.execute("select message, attachments from turns where id = ?", (one,)).fetchone()
        attachments = msgspec.json.decode(row["attachments"], type=tuple[Attachment, ...])
        found.append(Message("user", row["message"], attachments=attachments))
    messages.append(conn, session_id, turn_id, [*unsaved.messages, *found])
    spend(conn, unsaved, turn_id)
    conn.executemany(
        """update turns set status = 'absorbed', first_event = steer_event, attachments = '[]', headers = null,
        started_at = ?, finished_at = ?, subject = '' where id = ?""",
        [(moment, moment, one) for one in steers],
    )
    conn.execute("update turns set resumes = 0 where id = ? and resumes > 0", (turn_id,))
    return found


def finish(
    conn: Connection,
    unsaved: Unsaved,
    turn_id: str,
    session_id: str,
    status: str,
    last_event: int,
    usage: Usage,
    failure: int | None = None,
    code: str = "",
) -> None:
    """Marks a turn as ended, closes its questions, and appends its last messages to the session."""
    if status != "completed":  # a completed turn has no open questions
        conn.execute(CLOSE_QUESTIONS, (turn_id,))
        idempotency.free(conn, turn_id, failure)
    messages.append(conn, session_id, turn_id, unsaved.messages)
    spend(conn, unsaved, turn_id)
    conn.execute(
        """update turns set status = ?, failure = ?, code = ?, last_event = ?, input_tokens = ?, output_tokens = ?,
        cached_tokens = ?, thinking_tokens = ?, cache_write_tokens = ?, cost_usd = ?, finished_at = ?, subject = ''
        where id = ?""",
        (status, failure, code, last_event, *astuple(usage), now(), turn_id),
    )


def spend(conn: Connection, unsaved: Unsaved, turn_id: str) -> None:
    """Records the model usage of a turn, and settles what was reserved for it."""
    moment, subject = now(), account(unsaved.subject) if VISITOR in unsaved.subject else unsaved.subject
    conn.executemany(
        f"""insert into usage (turn_id, schema, agent, model, subject, {COUNTS}, created_at, {_OF_CALL})
        values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        [
            (turn_id, unsaved.schema, unsaved.agent, model, subject, *astuple(usage), moment, *call)
            for model, usage, *call in map(astuple, unsaved.spent)
        ],
    )
    for settle in unsaved.settlements:
        settle(conn)


def summarised(conn: Connection, unsaved: Unsaved, turn_id: str, session_id: str, through_n: int, content: str) -> None:
    """Stores a summary of everything up to a message, with the usage of the model that made it."""
    messages.append(conn, session_id, turn_id, unsaved.messages)
    spend(conn, unsaved, turn_id)
    messages.summarise(conn, session_id, through_n, content)


def step_rejected(conn: Connection, unsaved: Unsaved, turn_id: str, session_id: str) -> None:
    """Records an answer that is to be repaired."""
    messages.append(conn, session_id, turn_id, unsaved.messages)
    spend(conn, unsaved, turn_id)
    conn.execute("update turns set resumes = 0 where id = ? and resumes > 0", (turn_id,))


def tools_requested(
    conn: Connection,
    unsaved: Unsaved,
    turn_id: str,
    session_id: str,
    calls: list[ToolCall],
    questions: Mapping[str, Confirmation],
) -> None:
    """Records tool calls with the messages that request them; calls without a question run next."""
    messages.append(conn, session_id, turn_id, unsaved.messages)
    spend(conn, unsaved, turn_id)
    moment = now()
    conn.executemany(
        """insert into tool_calls (turn_id, call_id, tool, input, status, asked_at, started_at)
        values (?, ?, ?, ?, ?, ?, ?)""",
        [
            (
                turn_id,
                call.call_id,
                call.tool,
                msgspec.json.encode(call.input).decode(),
                "asked" if call.call_id in questions else "started",
                moment,
                None if call.call_id in questions else moment,
            )
            for call in calls
        ],
    )
    for question in questions.values():
        confirmations.ask(conn, question)
    conn.execute("update turns set resumes = 0 where id = ? and resumes > 0", (turn_id,))


def tool_approved(conn: Connection, turn_id: str, call: ToolCall, confirmation_id: str) -> bool:
    """Marks an approval as used and records that its call runs next; False if it was already used."""
    if not confirmations.spend(conn, confirmation_id):
        return False
    conn.execute(
        "update tool_calls set status = 'started', started_at = ?, input = ? where turn_id = ? and call_id = ?",
        (now(), msgspec.json.encode(call.input).decode(), turn_id, call.call_id),
    )
    return True


def tool_finished(conn: Connection, turn_id: str, session_id: str, result: Message, whole: str | None = None) -> None:
    """Records the result of a tool call; `whole` is the whole output if the result is truncated."""
    conn.execute(
        "update tool_calls set output = ?, status = ?, finished_at = ? where turn_id = ? and call_id = ?",
        (result.content, "failed" if result.has_error else "completed", now(), turn_id, result.call_id),
    )
    if whole is not None:
        messages.keep_result(conn, session_id, turn_id, result.call_id, whole)
    messages.append(conn, session_id, turn_id, [result])
    conn.execute("update turns set resumes = 0 where id = ? and resumes > 0", (turn_id,))


def tool_calls(conn: Connection, turn_id: str) -> list[Row]:
    """The records of a turn's tool calls, in the order in which they started."""
    sql = "select call_id, tool, input, output, status from tool_calls where turn_id = ? order by asked_at, call_id"
    return conn.execute(sql, (turn_id,)).fetchall()
