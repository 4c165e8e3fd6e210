"""Repeats a failed transaction with a savepoint for each work, so that all but the failing ones are committed."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from traceback import clear_frames
from typing import Any

from bytebrew.contract.connection import Connection
from bytebrew.contract.storage.store import Driver
from bytebrew.store.database.write_queue import Pending, Rows, RowSource


def each_apart(
    driver: Driver, works: Sequence[Pending], source: RowSource | None, rows: Rows, conn: Connection
) -> tuple[list[Any], Mapping[Any, Exception]]:
    """The works' outcomes, and the errors of the sessions whose rows were refused.

    The rows of a session and the works that belong to them share a savepoint; any other work has its own. A fault of
    the file or of memory is raised.
    """
    refused: dict[Any, Exception] = {}
    outcomes: dict[int, Any] = {}
    for session_id, group in groupby(sorted(rows, key=itemgetter(0)), key=itemgetter(0)):
        own = [n for n, one in enumerate(works) if one.owner and one.owner.session_id == session_id]
        done = _apart(driver, conn, partial(_together, [works[n] for n in own], source, list(group)))
        if isinstance(done, Exception):
            refused[session_id] = done
        outcomes |= dict(zip(own, [done] * len(own) if isinstance(done, Exception) else done, strict=True))
    for n, one in enumerate(works):
        if n not in outcomes:
            outcomes[n] = _apart(driver, conn, partial(_alone, one))
    return [outcomes[n] for n in range(len(works))], refused


def _together(works: Sequence[Pending], source: RowSource | None, rows: Rows, conn: Connection) -> list[Any]:
    if source:
        source.insert(conn, rows)
    return [_alone(one, conn) for one in works]


def _alone(pending: Pending, conn: Connection) -> Any:
    return pending.work(conn, *pending.args, **pending.kwargs)


def _apart(driver: Driver, conn: Connection, work: Callable[[Connection], Any]) -> Any:
    """The result, or the exception after a rollback of the work; a fault of the file is raised."""
    conn.execute("savepoint work")
    try:
        outcome = work(conn)
        conn.execute("release work")  # fails on a server if the work has hidden an error of the database
    except Exception as error:  # raised to the caller of this work
        if driver.breaks(error):
            raise
        clear_frames(error.__traceback__)
        conn.execute("rollback to work")
        conn.execute("release work")
        outcome = error
    return outcome
