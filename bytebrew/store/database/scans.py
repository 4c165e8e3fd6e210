"""Scans: lists, sums and exports, which may be slow reads, each with a time limit."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from bytebrew.contract.connection import Connection
from bytebrew.store.database.write_queue import Pending

SCANNERS = 2
SCAN_SECONDS = 5.0
"""Time limit of a list, a sum or a page of an export, after which its statement is interrupted."""


async def scan_forever(
    scans: "asyncio.Queue[Pending]",
    seconds: float,
    *,
    run: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
    interrupt: Callable[[], Awaitable[None]],
    settle: Callable[[asyncio.Future[Any], Any], None],
) -> None:
    """Runs scans one after another; interrupts each after its time limit, or if its caller is cancelled.

    `run` runs a work in a connection's thread, `interrupt` aborts its current statement.
    """
    while True:
        one = await scans.get()
        work, done = one.work, one.done
        if done.done():
            continue
        running = asyncio.ensure_future(run(work))
        try:
            waiting: list[asyncio.Future[Any]] = [running, done]
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            while not running.done():  # an interrupt between two statements has no effect
                await interrupt()
                await asyncio.wait([running], timeout=0.05)
        except asyncio.CancelledError:
            await interrupt()
            done.cancel()
            raise
        if (error := running.exception()) is not None:  # the thread has died
            settle(done, error)
            raise error
        settle(done, running.result())
