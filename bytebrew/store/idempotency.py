"""Idempotency-Keys, each with the turn that it began or the answer that it got."""

import sqlite3
from typing import NamedTuple

from bytebrew.api import Key
from bytebrew.notation import now


class Kept(NamedTuple):
    """What became of a key: a turn, or an answer with its body sealed."""

    digest: bytes
    turn_id: str | None
    status: int
    body: bytes


def find(conn: sqlite3.Connection, key: Key) -> Kept | None:
    """What became of a key, if anything."""
    row = conn.execute(
        """select digest, turn_id, status, body from idempotency
        where subject = ? and method = ? and path = ? and key = ?""",
        (key.subject, key.method, key.path, key.text),
    ).fetchone()
    return Kept(*row) if row else None


def keep(conn: sqlite3.Connection, key: Key, *, turn_id: str | None = None, body: bytes = b"") -> None:
    """Keeps what became of a key; IntegrityError where that is known already."""
    conn.execute(
        "insert into idempotency values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (key.subject, key.method, key.path, key.text, key.digest, turn_id, key.status, body, now()),
    )


def free(conn: sqlite3.Connection, turn_id: str, failure: int | None) -> None:
    """Frees the key of a turn that the engine could not bring to its end (503), so that the request can be repeated."""
    if failure == 503:
        conn.execute("delete from idempotency where turn_id = ?", (turn_id,))


def expire(conn: sqlite3.Connection, before: str, limit: int) -> int:
    """Forgets the oldest keys from before a moment; how many."""
    return conn.execute(
        """delete from idempotency where (subject, method, path, key) in (
        select subject, method, path, key from idempotency where created_at < ? order by created_at limit ?)""",
        (before, limit),
    ).rowcount
