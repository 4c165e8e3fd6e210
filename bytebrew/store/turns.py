"""Turns and their tool calls: each change of state is one function."""

import sqlite3

import msgspec
from msgspec import Struct, field
from msgspec.structs import astuple

from bytebrew.auth import Actor
from bytebrew.db import struct_of
from bytebrew.errors import Conflict, NotFound
from bytebrew.messages import Attachment, Message, ToolCall, Usage
from bytebrew.notation import now
from bytebrew.providers import Spent
from bytebrew.store import messages, sessions


class NewTurn(Struct, frozen=True, kw_only=True):
    """A turn that was asked for.

    `own_key`: its caller's key calls the model, and is in memory alone. `fresh` lets the turn begin a session under
    its id, which is then its `owner`'s; `begins` says that the id was made for this turn.
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
    fresh: bool
    begins: bool


class OpenTurn(Struct, frozen=True, kw_only=True):
    """A turn that a stopped engine left behind."""

    id: str
    session_id: str
    schema: str
    agent: str
    owner: str
    message: str
    attachments: tuple[Attachment, ...]
    own_key: bool
    status: str


class Unsaved(Struct, frozen=True):
    """What a turn has come by since its last record: messages, and the calls of models that are to be paid."""

    agent: str
    subject: str
    schema: str
    messages: list[Message] = field(default_factory=list)
    spent: list[Spent] = field(default_factory=list)


def admit(conn: sqlite3.Connection, new: NewTurn, first_event: int | None) -> None:
    """Stores a turn, and its session if that is new; with the number of its first event it is running at once."""
    moment = now()
    row = conn.execute("select owner, schema from sessions where id = ?", (new.session_id,)).fetchone()
    if row is None:
        if not new.fresh:
            raise NotFound(
                f"There is no session '{new.session_id[:255]}'; leave session_id out to start one, or send a new UUID"
            )
        title = " ".join(new.message.split())[:80]
        conn.execute(
            "insert into sessions values (?, ?, ?, ?, ?, ?, ?, ?)",
            (new.session_id, new.schema, new.agent, new.owner, new.user_sub, title, moment, moment),
        )
    else:
        sessions.check_owner(new.actor, row["owner"], new.session_id)
        if row["schema"] != new.schema:
            raise Conflict(f"Session '{new.session_id}' belongs to schema '{row['schema']}'; chat with that one")
        conn.execute("update sessions set updated_at = ? where id = ?", (moment, new.session_id))
    conn.execute(
        """insert into turns
        (id, session_id, message, attachments, own_key, status, first_event, created_at, started_at)
        values (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            new.id,
            new.session_id,
            new.message,
            msgspec.json.encode(new.attachments).decode() if new.attachments else "[]",
            new.own_key,
            "queued" if first_event is None else "running",
            first_event,
            moment,
            None if first_event is None else moment,
        ),
    )
    if first_event is not None:
        messages.append(conn, new.session_id, new.id, [Message("user", new.message, attachments=new.attachments)])
    conn.execute("update schemas set chat_last_fired_at = ? where name = ?", (moment, new.schema))


def start(conn: sqlite3.Connection, new: NewTurn, first_event: int) -> None:
    """Marks a queued turn as running and takes its message into the session."""
    conn.execute(
        "update turns set status = 'running', first_event = ?, started_at = ? where id = ?",
        (first_event, now(), new.id),
    )
    messages.append(conn, new.session_id, new.id, [Message("user", new.message, attachments=new.attachments)])


def finish(
    conn: sqlite3.Connection,
    turn_id: str,
    session_id: str,
    status: str,
    last_event: int,
    usage: Usage,
    unsaved: Unsaved,
) -> None:
    """Marks a turn as ended and takes its last messages into the session."""
    _save(conn, turn_id, session_id, unsaved)
    conn.execute(
        """update turns set status = ?, last_event = ?, input_tokens = ?, output_tokens = ?, cached_tokens = ?,
        thinking_tokens = ?, cost_usd = ?, finished_at = ? where id = ?""",
        (status, last_event, *astuple(usage), now(), turn_id),
    )


def _save(conn: sqlite3.Connection, turn_id: str, session_id: str, unsaved: Unsaved) -> None:
    messages.append(conn, session_id, turn_id, unsaved.messages)
    moment = now()
    conn.executemany(
        "insert into usage values (null, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (turn_id, unsaved.schema, unsaved.agent, one.model, unsaved.subject, *astuple(one.usage), moment)
            for one in unsaved.spent
        ],
    )


def close(conn: sqlite3.Connection, turn_id: str, last_event: int) -> None:
    """Marks a turn that a stopped engine left as failed."""
    conn.execute(
        """update turns set status = 'failed', first_event = coalesce(first_event, ?1), last_event = ?1,
        finished_at = ?2 where id = ?3""",
        (last_event, now(), turn_id),
    )


def left_open(conn: sqlite3.Connection) -> list[OpenTurn]:
    """The turns that were queued or running when the engine stopped, oldest first."""
    rows = conn.execute(
        """select t.id, t.session_id, s.schema, s.agent, s.owner, t.message, t.attachments, t.own_key, t.status
        from turns t
        join sessions s on s.id = t.session_id where t.status in ('queued', 'running') order by t.seq"""
    )
    return [struct_of(row, OpenTurn) for row in rows]


def tools_started(
    conn: sqlite3.Connection, turn_id: str, session_id: str, unsaved: Unsaved, calls: list[ToolCall]
) -> None:
    """Records that tool calls are about to run, with the messages that asked for them."""
    _save(conn, turn_id, session_id, unsaved)
    moment = now()
    conn.executemany(
        "insert into tool_calls (turn_id, call_id, tool, input, status, started_at) values (?, ?, ?, ?, 'started', ?)",
        [(turn_id, call.call_id, call.tool, msgspec.json.encode(call.input).decode(), moment) for call in calls],
    )


def tool_finished(conn: sqlite3.Connection, turn_id: str, session_id: str, result: Message) -> None:
    """Records the result of a tool call."""
    status = "failed" if result.has_error else "completed"
    conn.execute(
        "update tool_calls set output = ?, status = ?, finished_at = ? where turn_id = ? and call_id = ?",
        (result.content, status, now(), turn_id, result.call_id),
    )
    messages.append(conn, session_id, turn_id, [result])


def tool_calls(conn: sqlite3.Connection, turn_id: str) -> list[sqlite3.Row]:
    """The records of a turn's tool calls, in the order in which they began."""
    sql = "select call_id, tool, input, output, status from tool_calls where turn_id = ? order by started_at, call_id"
    return conn.execute(sql, (turn_id,)).fetchall()
