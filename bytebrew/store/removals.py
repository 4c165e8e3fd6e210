"""Sessions that are deleted: gone for everybody at once, while their rows go a bounded number at a time."""

from bytebrew.base.formats import now
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.store import sessions

AT_ONCE = 2000
"""Rows that go in the transaction of the deletion itself; a session of no more has left nothing behind."""
EACH = 10
"""Rows that are as much work as to see that nothing of a session is left."""
PAGE = 4096
"""Bytes that are as much work as a row."""
_PARTS = (
    ("confirmations", "created_at", "1"),
    ("events", "n", f"1 + length(data) / {PAGE}"),
    ("messages", "n", f"1 + length(body) / {PAGE}"),
    ("results", "call_id", f"1 + length(output) / {PAGE}"),
    (
        "turns",
        "seq",
        f"""1 + (length(message) + length(attachments)) / {PAGE} + (
          select coalesce(sum(1 + (length(c.input) + length(coalesce(c.output, ''))) / {PAGE}), 0)
          from tool_calls c where c.turn_id = turns.id)""",
    ),
)
"""Tables with the column that orders a session's rows in an index, and what a row weighs; tool calls go with turns."""


def delete(conn: Connection, session_id: str, actor: Actor) -> bool:
    """Removes a session with all that belongs to it, and cancels the tasks that are worked on in it or below it.

    Answers whether rows are left for `proceed`.
    """
    sessions.check_owner(actor, sessions.owner(conn, session_id), session_id)
    moment = now()
    conn.executemany(
        """update tasks set status = 'cancelled', error = 'Its session was deleted', completed_at = ?
        where session_id = ? and completed_at is null""",
        [(moment, one) for one in begin(conn, session_id)],
    )
    return proceed(conn, AT_ONCE) >= AT_ONCE


def begin(conn: Connection, session_id: str) -> list[str]:
    """Takes a session and those below it out of everybody's sight; their ids, which stay taken until they are gone.

    No list has it, for lists have what is in no other session: it now lies within itself.
    """
    tree = sessions.below(conn, session_id)
    conn.executemany("insert or ignore into removals (session_id) values (?)", [(one,) for one in tree])
    conn.execute("update sessions set parent_id = id where id = ?", (session_id,))
    return tree


def pending(conn: Connection) -> bool:
    """Whether rows of a deleted session are left."""
    return conn.execute("select 1 from removals limit 1").fetchone() is not None


def proceed(conn: Connection, most: int) -> int:
    """Removes rows of deleted sessions, about so many at most and the last session's first; how many they weighed."""
    spent = 0
    while spent < most:
        row = conn.execute("select session_id from removals order by n desc limit 1").fetchone()
        if row is None:
            break
        spent += _empty(conn, row["session_id"], most - spent)
        if spent < most:
            conn.execute("delete from sessions where id = ?", (row["session_id"],))
            spent += EACH
    return spent


def _empty(conn: Connection, session_id: str, most: int) -> int:
    spent = 0
    for table, key, weight in _PARTS:
        if spent >= most:
            break
        last = None
        sql = f"select {key} as key, {weight} as weight from {table} where session_id = ? order by {key} limit ?"
        for row in conn.execute(sql, (session_id, most - spent)):
            last = row["key"]
            spent += row["weight"]
            if spent >= most:
                break
        if last is not None:
            conn.execute(f"delete from {table} where session_id = ? and {key} <= ?", (session_id, last))
    return spent
