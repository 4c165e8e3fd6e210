"""SQL for turns that were held elsewhere: a conversation that a client brings, stored as turns like any other."""

from collections.abc import Sequence

import msgspec

from bytebrew.base.formats import new_id, now
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import Done, Event, MessageDelta, MessageDone
from bytebrew.contract.face import EarlierTurn
from bytebrew.contract.messages import Usage
from bytebrew.store import messages

EVENTS = 3
"""Number of events of each."""


def store(conn: Connection, session_id: str, history: Sequence[EarlierTurn], after: int) -> None:
    """Stores turns in a session that begins, whose events up to `after` it shares."""
    moment = now()
    for n, turn in enumerate(history):
        turn_id, first = new_id("turn"), after + n * EVENTS + 1
        text = "".join(one.content for one in turn.answers if one.role == "assistant")
        conn.execute(
            """insert into turns (id, session_id, message, attachments, own_key, subagents, root_turn_id, lineage,
            status, first_event, last_event, created_at, started_at, finished_at, face_key)
            values (?1, ?2, ?3, '[]', 0, 0, ?1, '[]', 'completed', ?4, ?5, ?6, ?6, ?6, ?7)""",
            (turn_id, session_id, turn.message.content, first, first + EVENTS - 1, moment, turn.key or None),
        )
        messages.append(conn, session_id, turn_id, [turn.message, *turn.answers])
        events: tuple[Event, ...] = (
            MessageDelta(content=text),
            MessageDone(content=text),
            Done(session_id=session_id, turn_id=turn_id, usage=Usage()),
        )
        conn.executemany(
            "insert into events (session_id, n, type, data) values (?, ?, ?, ?)",
            [(session_id, first + i, event.name, msgspec.json.encode(event)) for i, event in enumerate(events)],
        )
