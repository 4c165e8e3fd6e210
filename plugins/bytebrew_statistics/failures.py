"""Failed turns as they are stored, each with its cause: what failed in the same way has the same."""

import re
from collections.abc import Sequence
from hashlib import sha256

import msgspec

from bytebrew import Connection, Notification, now

LONGEST = 500
"""Characters of an error's message that are kept."""
_ID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[a-z]+_[0-9A-Za-z]{8,}\b|\b(?=\w*\d)[0-9a-f]{12,}\b")
_NUMBER = re.compile(r"\b(?![45]\d\d\b)\d+([.,:]\d+)*")
"""A number, unless it may be an HTTP status: vendors that answer 429 and 500 are two causes."""


def keep(conn: Connection, notification: Notification) -> None:
    """Stores why a user's turn has failed, in the transaction of its end."""
    data = notification.data
    if notification.name != "turn.failed" or data["parent_turn_id"] is not None:
        return
    message = _message(conn, notification.subject)[:LONGEST]
    conn.execute(
        "insert into statistics_failures values (?, ?, ?, ?, ?, ?, ?) on conflict do nothing",
        (
            notification.subject,
            data["session_id"],
            cause_of(data["code"], data["agent"], message),
            data["code"],
            data["agent"],
            message,
            now(),
        ),
    )


def cause_of(code: str, agent: str, message: str) -> str:
    """The key of a cause: by code, agent and the message without what differs from one turn to the next."""
    alike = " ".join(_NUMBER.sub("0", _ID.sub("id", message)).split()).lower()
    return sha256(f"{code}\0{agent}\0{alike}".encode()).hexdigest()[:16]


def delete_old_mutes(conn: Connection) -> Sequence[object]:
    """Deletes mutes of causes that no stored turn has any more."""
    gone = "not exists (select 1 from statistics_failures f where f.cause = statistics_mutes.cause)"
    old = [row["cause"] for row in conn.execute(f"select cause from statistics_mutes where {gone}")]  # noqa: S608
    conn.executemany("delete from statistics_mutes where cause = ?", [(cause,) for cause in old])
    return old


def _message(conn: Connection, turn_id: str) -> str:
    """The message of a turn's error, whose event is in the same transaction."""
    sql = """select e.data from turns t join events e on e.session_id = t.session_id and e.n = t.last_event
      where t.id = ? and e.type = 'error'"""
    row = conn.execute(sql, (turn_id,)).fetchone()
    return str(msgspec.json.decode(row["data"])["message"]) if row else ""
