"""The connections of a database: those with threads of their own, and one for reads in the event loop."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from bytebrew.base.errors import BootError
from bytebrew.contract.storage.store import Driver, StoreConnection
from bytebrew.store.database.aiosqlite_fixes import WorkConnection, open_connection
from bytebrew.store.database.transactions import reading

NEAR_SECONDS = 0.002
"""Time limit of a read in the event loop."""
STALL_SECONDS = 0.25
"""Time of one write after which the disk may hang, so that the event loop reads nothing from it."""


async def open_in_thread(opened: AsyncExitStack, driver: Driver, *, read_only: bool = False) -> WorkConnection:
    """A connection that the stack closes: a running thread would keep the process alive."""
    try:
        connection = await open_connection(partial(driver.open, read_only=read_only), driver.error)
    except (driver.error, MemoryError) as error:
        raise _cannot_be_opened(driver, error) from error
    opened.push_async_callback(connection.close)
    return connection


class NearConnection:
    """A connection in the event loop's thread, if the database is near: few rows are read faster than threads switch.

    A read that takes long, or fails, is left to a reader's thread, which begins anew. So are all while a write hangs;
    `since` has the time at which the writer has begun its current one.
    """

    def __init__(self, driver: Driver, since: Mapping[str, float]) -> None:
        self._driver, self._since, self._until = driver, since, 0.0
        self._conn: StoreConnection | None = None

    def open(self) -> None:
        """Opens it; BootError if that fails."""
        try:
            self._conn = self._driver.near(lambda: time.monotonic() > self._until)
        except (self._driver.error, MemoryError) as error:
            raise _cannot_be_opened(self._driver, error) from error

    def close(self) -> None:
        """Closes it; further reads are left to the threads, too."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def read(self, work: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The result of work, of one snapshot; nothing if a thread is to read it."""
        conn, now = self._conn, time.monotonic()
        if conn is None or now - self._since.get("writer", now) > STALL_SECONDS:
            return ()
        if conn.in_transaction:  # the rollback of the one before failed
            self._driver.roll_back(conn)
            if conn.in_transaction:
                return ()
        self._until = now + NEAR_SECONDS
        try:
            return (reading(self._driver, work, args, kwargs, conn),)
        except (self._driver.error, MemoryError):  # what it means is found out where it happens again
            return ()
        finally:
            self._until = math.inf  # a rollback has no time limit
            self._driver.roll_back(conn)


def _cannot_be_opened(driver: Driver, error: BaseException) -> BootError:
    return BootError(f"{driver.place} cannot be opened: {str(error) or 'there is not enough memory'}")
