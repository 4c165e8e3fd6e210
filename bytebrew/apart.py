"""A transaction in which something fails: everything in it once more, each apart, so that the rest is committed."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from traceback import clear_frames
from typing import Any

from bytebrew import storage_faults
from bytebrew.pending import Pending, Rows, RowSource


def each_apart(
    works: Sequence[Pending], source: RowSource | None, rows: Rows, conn: sqlite3.Connection
) -> tuple[list[Any], Mapping[Any, Exception]]:
    """The works' outcomes, and the errors of the sessions whose rows were refused.

    A row that cannot be inserted undoes all rows of its session and fails that session's works; a work's exception
    undoes that work alone. A fault of the file or of memory is raised.
    """
    refused: dict[Any, Exception] = {}
    if source and isinstance(_apart(conn, partial(source.insert, rows=rows)), Exception):
        for session_id, group in groupby(sorted(rows, key=itemgetter(0)), key=itemgetter(0)):
            if isinstance(failed := _apart(conn, partial(source.insert, rows=list(group))), Exception):
                refused[session_id] = failed
    outcomes = [
        refused[one.owner.session_id] if one.owner and one.owner.session_id in refused else _apart(conn, one.work)
        for one in works
    ]
    return outcomes, refused


def _apart(conn: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any]) -> Any:
    """The result, or the exception with all that the work did undone; a fault is raised."""
    conn.execute("savepoint work")
    try:
        outcome = work(conn)
    except Exception as error:  # it is raised where the work was asked for
        if storage_faults.breaks(error):
            raise
        clear_frames(error.__traceback__)
        conn.execute("rollback to work")
        outcome = error
    conn.execute("release work")
    return outcome
