"""SQL for messages that wait for others of their session."""

import msgspec
from msgspec import Struct

from bytebrew.base.errors import NotFound
from bytebrew.contract.connection import Connection
from bytebrew.contract.messages import Attachment


class WaitingMessage(Struct, frozen=True, kw_only=True):
    """A message that waits until `position` others of its session are answered; its turn will have the `turn_id`."""

    turn_id: str
    message: str
    attachments: tuple[dict[str, str], ...]
    created_at: str
    position: int = 0


_attachments = msgspec.json.Decoder(tuple[Attachment, ...]).decode


def of_session(conn: Connection, session_id: str) -> dict[str, WaitingMessage]:
    """The messages by the ids of their turns, as they came."""
    sql = """select id, message, attachments, created_at from turns
      where session_id = ? and status = 'queued' and steer_event is null order by seq"""
    return {
        row["id"]: WaitingMessage(
            turn_id=row["id"],
            message=row["message"],
            attachments=tuple(
                {"media_type": one.media_type, "name": one.name, "url": one.url}
                for one in _attachments(row["attachments"])
            ),
            created_at=row["created_at"],
        )
        for row in conn.execute(sql, (session_id,))
    }


def none_waits(turn_id: str) -> NotFound:
    """The refusal of an id that no waiting message has."""
    return NotFound(f"No message of the session waits for a turn '{turn_id[:255]}'")


def status(conn: Connection, session_id: str, turn_id: str) -> str | None:
    """The status of a person's turn in a session, `taken` if it waits and a running turn has its message."""
    row = conn.execute(
        """select t.status, t.steer_event is not null or s.status = 'running' as taken from turns t
        left join turns s on s.id = t.steers where t.id = ? and t.session_id = ? and t.parent_turn_id is null""",
        (turn_id, session_id),
    ).fetchone()
    if row is None:
        return None
    return "taken" if row["status"] == "queued" and row["taken"] else str(row["status"])


def remove(conn: Connection, turn_id: str) -> None:
    """Deletes a message that waits, and its turn."""
    conn.execute("delete from turns where id = ? and status = 'queued'", (turn_id,))
