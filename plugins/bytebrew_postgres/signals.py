"""Signals between nodes by NOTIFY and LISTEN, on connections of their own."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import psycopg

from .connection import Options

log = logging.getLogger(__name__)

CHANNEL = "bytebrew"
POLL_SECONDS = 1.0
"""How long a lost signal may delay what it is about."""
POOLER_POLL_SECONDS = 0.1
"""The same where no signals arrive: a pooler of transactions passes no notifications."""
T = TypeVar("T")
_Native = psycopg.AsyncConnection[Any]


class PostgresSignals:
    """Sends outside of transactions: a NOTIFY in one holds a lock of the whole server while it commits."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._sender: _Native | None = None
        self._listener: _Native | None = None
        self._sending = asyncio.Lock()
        self._own = 0
        self._running = set[asyncio.Task[Any]]()

    async def send(self, texts: Sequence[str]) -> None:
        """Sends texts of at most 8,000 bytes to all nodes; a failure is logged and forgotten."""
        if texts and not self._options.pooler:
            await self._apart(self._send(texts))

    async def _send(self, texts: Sequence[str]) -> None:
        async with self._sending:
            try:
                if self._sender is None or self._sender.closed:
                    self._sender = await self._open()
                    self._own = self._sender.info.backend_pid
                sql = "select pg_notify(%s, signal) from unnest(%s::text[]) signal"
                await self._sender.execute(sql, (CHANNEL, [*texts]))
            except psycopg.Error as error:
                log.warning("a signal to other nodes was not sent; they look by themselves: %s", error)

    async def received(self) -> AsyncIterator[str | None]:
        """The texts of other nodes as they arrive; None each second, for what was missed."""
        while True:
            if self._options.pooler:
                await asyncio.sleep(POOLER_POLL_SECONDS)
                yield None
                continue
            try:
                listener = await self._apart(self._listening())
            except psycopg.Error as error:
                log.debug("signals of other nodes are not received: %s", error)
                await asyncio.sleep(POLL_SECONDS)
                yield None
                continue
            try:
                while True:
                    yield None
                    async for notify in listener.notifies(timeout=POLL_SECONDS):
                        if notify.pid != self._own:
                            yield notify.payload
            except psycopg.Error as error:
                log.debug("signals of other nodes are not received: %s", error)
            finally:
                with suppress(psycopg.Error):
                    await listener.close()

    async def close(self) -> None:
        """Closes the connections, once nothing runs on them."""
        await asyncio.gather(*self._running, return_exceptions=True)
        for connection in (self._sender, self._listener):
            if connection is not None:
                await connection.close()

    async def _apart(self, running: Coroutine[Any, Any, T]) -> T:
        """Runs in a task of its own, which is cancelled once where this is cancelled.

        For a statement that is cancelled, psycopg asks the server to end it and waits. A cancel scope would cancel that
        too, again and again, and psycopg would warn.
        """
        task = asyncio.create_task(running)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def _listening(self) -> _Native:
        listener = self._listener = await self._open()
        try:
            await listener.execute(f"listen {CHANNEL}")
        except BaseException:
            await listener.close()
            raise
        return listener

    async def _open(self) -> _Native:
        return await psycopg.AsyncConnection.connect(self._options.conninfo, autocommit=True)
