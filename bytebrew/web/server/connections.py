"""The open connections of a server, and the state that they share."""

import asyncio
import logging
import math
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from copy import copy
from email.utils import formatdate
from operator import methodcaller
from typing import Any, NamedTuple, Protocol

from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from starlette.types import Receive, Scope, Send

from bytebrew.base.machine.memory import memory
from bytebrew.web.admission import Admission
from bytebrew.web.app import CROWDED
from bytebrew.web.server.acceptor import Acceptor
from bytebrew.web.server.deadlines import Deadlines
from bytebrew.web.server.http2 import Answers
from bytebrew.web.server.shedding import Refusal

log = logging.getLogger(__name__)

CROWDED_SECONDS = 2.0
"""Keep-alive timeout of a connection above the limit."""
HEAD_SECONDS = 15.0
"""Time limit for a request's headers, from the first byte."""
REAP_SECONDS = 0.5
FREE = 0.9
"""Fraction of the limit below which connections count as normal again."""
OVER_SECONDS = 60.0
"""The limit is logged again after this time without a connection above it."""


Application = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]


class Connection(Protocol):
    """A connection of either protocol."""

    @property
    def idle_since(self) -> float:
        """Time of the event loop since which the connection is idle; infinity during a request."""

    def close(self) -> None:
        """Ends the connection once what was written is sent."""

    def abort(self) -> None:
        """Ends the connection at once."""


class Limit(NamedTuple):
    """The limit of connections, the number above it that is accepted to answer with the reason, and the reason."""

    most: int
    further: int
    reason: str


class Terms(NamedTuple):
    """What applies to a connection: settings, the state of its requests, and the time that it may be idle."""

    config: Config
    state: dict[str, Any]
    idle: Deadlines[Connection]


class Connections(WorkerContext):
    """The open connections of a server, with what they share: application, settings, limits.

    hypercorn's `WorkerContext` has the events and clock of its connections.
    """

    def __init__(
        self,
        application: Application,
        config: Config,
        admission: Admission,
        refusal: Refusal,
        limit: Limit,
        processes: int,
    ) -> None:
        super().__init__(None)
        self.application, self.admission, self.refusal = application, admission, refusal
        self.loop = asyncio.get_running_loop()
        self.variables = copy_context()  # of each request, as the end of one may begin the next
        self.answers = Answers(memory(processes) // 8)
        self.tasks: set[asyncio.Task[None]] = set()
        self._open: set[Connection] = set()
        self._left = asyncio.Event()
        self._limit = limit
        brief = copy(config)
        brief.keep_alive_timeout = CROWDED_SECONDS
        self._normal, self._brief = self._terms(config, {}), self._terms(brief, {CROWDED: limit.reason})
        self.heads = Deadlines[Connection](self.loop, HEAD_SECONDS, methodcaller("close"))
        self._last_full, self._reaping = -math.inf, False
        self._second, self._date = 0, b""

    def accept(self, sock: socket.socket, protocol: Callable[[bool], asyncio.BaseProtocol]) -> None:
        """Accepts connections on a socket until `close`; `protocol` gets whether one is above the limit."""
        self._acceptor = Acceptor(sock, protocol, self._limit.most, self._limit.further)

    def add(self, connection: Connection, *, crowded: bool) -> Terms:
        """Registers a connection."""
        self._open.add(connection)
        if not crowded:
            return self._normal
        now, reason = self.loop.time(), self._limit.reason
        if now - self._last_full > OVER_SECONDS:
            log.warning(reason)
        self.admission.crowd, self._last_full = reason, now
        if not self._reaping:
            self._reaping = True
            self.loop.call_later(REAP_SECONDS, self._reap)
        return self._brief

    def replace(self, connection: Connection, successor: Connection) -> None:
        """Registers the connection's successor in another protocol."""
        self._open.remove(connection)
        self._open.add(successor)

    def remove(self, connection: Connection) -> None:
        """Counts a connection as ended."""
        self._open.remove(connection)
        self._left.set()
        self._acceptor.left()
        if self._acceptor.open < self._limit.most * FREE:
            self.admission.crowd = ""

    def _terms(self, config: Config, state: dict[str, Any]) -> Terms:
        return Terms(config, state, Deadlines(self.loop, config.keep_alive_timeout, methodcaller("close")))

    def date(self) -> bytes:
        """The header Date of an answer now."""
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, b"date: %b\r\n" % formatdate(second, usegmt=True).encode()
        return self._date

    async def close(self, seconds: float) -> None:
        """Ends idle connections at once and the others with their answers, or after this time."""
        await self.terminated.set()
        self._acceptor.close()
        for connection in [*self._open]:
            if connection.idle_since < math.inf:
                connection.close()
        await self._ended(seconds)
        for connection in [*self._open]:
            connection.abort()  # does not wait for clients that do not read
        await self._ended(0.1)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _ended(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._open:
                    self._left.clear()
                    await self._left.wait()

    def _reap(self) -> None:
        """Closes idle connections, the oldest first, while clients wait for a connection."""
        self._reaping = bool(self.admission.crowd)
        if self._reaping:
            before = self.loop.time() - CROWDED_SECONDS
            idle = [connection for connection in self._open if connection.idle_since < before]
            for connection in sorted(idle, key=lambda connection: connection.idle_since)[: self._limit.further]:
                connection.close()
            self.loop.call_later(REAP_SECONDS, self._reap)
