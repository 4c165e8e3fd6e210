"""Idempotency keys, each with the turn that its request started, or with the answer."""

from typing import NamedTuple

from bytebrew.base.formats import now
from bytebrew.contract.connection import Connection
from bytebrew.contract.route import Key


class StoredResult(NamedTuple):
    """The stored result of a request with a key: a turn, or an encrypted answer."""

    digest: bytes
    turn_id: str | None
    status: int
    body: bytes


def find(conn: Connection, key: Key) -> StoredResult | None:
    """The result stored for a key."""
    row = conn.execute(
        """select digest, turn_id, status, body from idempotency
        where subject = ? and method = ? and path = ? and key = ?""",
        (key.subject, key.method, key.path, key.text),
    ).fetchone()
    return StoredResult(*row) if row else None


_VALUES = "insert into idempotency values (?, ?, ?, ?, ?, ?, ?, ?, ?)"


def keep_turn(conn: Connection, key: Key, turn_id: str) -> None:
    """Stores the turn that a request with this key started; the key must be new."""
    values = (key.subject, key.method, key.path, key.text, key.digest, turn_id, key.status, b"", now())
    conn.execute(_VALUES, values)


def keep_answer(conn: Connection, key: Key, body: bytes) -> bool:
    """Stores or replaces an answer; False if the key belongs to a turn, whose events are the answer."""
    values = (key.subject, key.method, key.path, key.text, key.digest, None, key.status, body, now())
    sql = f"""{_VALUES} on conflict (subject, method, path, key)
      do update set status = excluded.status, body = excluded.body where idempotency.turn_id is null"""
    return conn.execute(sql, values).rowcount == 1


def free(conn: Connection, turn_id: str, failure: int | None) -> None:
    """Deletes the keys of a turn that failed because of the engine (503), so that clients can retry.

    They are its own, and those of the messages that it has absorbed.
    """
    if failure == 503:
        conn.execute(
            """delete from idempotency where turn_id = ?1
            or turn_id in (select id from turns where steers = ?1 and status = 'absorbed')""",
            (turn_id,),
        )


def expire(conn: Connection, before: str, limit: int) -> int:
    """Deletes keys from before a moment, oldest first; returns their number.

    A turn's key stays until the turn, or the one that has absorbed it, ended before that moment: a turn may wait for a
    person for days.
    """
    return conn.execute(
        """delete from idempotency where (subject, method, path, key) in (
        select subject, method, path, key from idempotency i where created_at < ?1 and not exists (
          select 1 from turns m join turns t on t.id = case m.status when 'absorbed' then m.steers else m.id end
          where m.id = i.turn_id and (t.finished_at is null or t.finished_at >= ?1))
        order by created_at limit ?2)""",
        (before, limit),
    ).rowcount
