"""What a wall clock that was ahead has written of tasks, mended once it is set back."""

import sqlite3
from datetime import datetime, timedelta

from bytebrew.notation import rfc3339
from bytebrew.store.tasks import LATER

LONGEST_BACKOFF = 5400.0
"""Seconds between two attempts at a task at most."""


def set_back(conn: sqlite3.Connection, present: datetime) -> None:
    """Has no attempt wait for longer than it could, and no task come after all that are yet to be made."""
    latest, moment = rfc3339(present + timedelta(seconds=LONGEST_BACKOFF)), rfc3339(present)
    conn.execute(f"update tasks set not_before = null where {LATER} and not_before > ?", (latest,))
    conn.execute(
        """update tasks set created_at = ?1 where status in ('draft', 'pending', 'approved', 'in_progress')
        and created_at > ?1""",
        (moment,),
    )
