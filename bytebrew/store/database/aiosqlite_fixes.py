"""Patches of aiosqlite 0.22; each has the reason, the upstream issue, and when to delete it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import aiosqlite
import anyio

from bytebrew.contract.storage.store import StoreConnection

logging.getLogger("aiosqlite").setLevel(logging.WARNING)
"""Why: at DEBUG it prints works with their arguments, which hold secrets. Upstream: none known. Delete when: it prints
none."""


class WorkConnection(aiosqlite.Connection):
    """A connection that runs a work, a function of `conn`, as a whole in its thread.

    Why: aiosqlite switches to the thread for each statement and each fetch: a transaction of three rows runs 9,570
    times a second in five switches, 26,997 times in one. Upstream: omnilib/aiosqlite#19 (transactions on a shared
    connection), closed without a public method that runs a function in the thread. Delete when: there is one.
    """

    run: Callable[[Callable[..., Any]], Awaitable[Any]]

    async def interrupt(self) -> None:
        """Aborts the running statement, in a thread: a server is asked over a connection of its own, which takes time.

        Why: aiosqlite does it in the event loop, as SQLite takes no time for it. Upstream: none, it is for SQLite
        alone. Delete when: connections to servers are no longer run by it.
        """
        await asyncio.to_thread(self._conn.interrupt)


async def open_connection(connect: Callable[[], StoreConnection], error: type[Exception]) -> WorkConnection:
    """An open connection of any driver; if opening fails, its thread has ended before the error is raised.

    A cancelled caller still gets it, to close it.

    Why: aiosqlite lets that thread run on for a moment; if the event loop is closed before it ends, it raises an
    unhandled exception. Upstream: none known. Delete when: awaiting a connection waits for its thread.
    """
    connection = WorkConnection(connect, 64)  # type: ignore[arg-type]  # it calls no other member than a StoreConnection has
    try:
        with anyio.CancelScope(shield=True):
            await connection
    except (error, MemoryError):
        await asyncio.to_thread(connection._thread.join)
        raise
    connection.run = partial(connection._execute, conn=connection._conn)  # a partial saves a frame per call
    return connection
