"""Lists, sums and exports: reads that may be long, each with a deadline."""

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

SCANNERS = 2
SCAN_SECONDS = 5.0
"""How long a list, a sum or a page of an export may take: past it the statement is interrupted."""
Scan = tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]


class Scanner(Protocol):
    """A connection with a thread of its own."""

    async def run(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """The result of the work, which runs in that thread."""

    async def interrupt(self) -> None:
        """Has the statement fail that runs there."""


async def scan_forever(
    scanner: Scanner, scans: "asyncio.Queue[Scan]", seconds: float, settle: Callable[[asyncio.Future[Any], Any], None]
) -> None:
    """Does scans one after the other; interrupts one after so many seconds, or whose caller has gone."""
    while True:
        work, done = await scans.get()
        if done.done():
            continue
        running = asyncio.ensure_future(scanner.run(partial(_outcome, work)))
        try:
            waiting: list[asyncio.Future[Any]] = [running, done]
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            while not running.done():  # an interrupt that falls between two statements stops neither
                await scanner.interrupt()
                await asyncio.wait([running], timeout=0.05)
        except asyncio.CancelledError:
            await scanner.interrupt()
            done.cancel()
            raise
        settle(done, running.result())


def _outcome(work: Callable[[sqlite3.Connection], Any], conn: sqlite3.Connection) -> Any:
    try:
        return work(conn)
    except Exception as error:  # noqa: BLE001 - it is raised where the work was asked for
        return error
