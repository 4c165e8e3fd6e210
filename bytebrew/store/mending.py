"""What a wall clock that was ahead has written of tasks, mended once it is set back."""

from datetime import datetime, timedelta

from bytebrew.base.formats import rfc3339
from bytebrew.contract.connection import Connection
from bytebrew.store import shares
from bytebrew.store.tasks import LATER

LONGEST_BACKOFF = 5400.0
"""Seconds between two attempts at a task at most; between the first two at most 15, then each time twice as many."""


def set_back(conn: Connection, present: datetime) -> None:
    """Has no attempt wait for longer than it could, and no task come after all that are yet to be made."""
    moment = rfc3339(present)
    for attempts in range(1, 11):
        latest = rfc3339(present + timedelta(seconds=min(15 * 2 ** (attempts - 1), LONGEST_BACKOFF)))
        sql = f"update tasks set not_before = null where {LATER} and not_before > ? and max(1, min(attempts, 10)) = ?"
        conn.execute(sql, (latest, attempts))
    conn.execute(
        """update tasks set created_at = ?1 where status in ('draft', 'pending', 'approved', 'in_progress')
        and created_at > ?1""",
        (moment,),
    )
    shares.set_back(conn, moment)
