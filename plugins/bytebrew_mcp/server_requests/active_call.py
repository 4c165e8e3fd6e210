"""A tool call that runs on a server, with its time limits and the server's requests that belong to it."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bytebrew import Call, Deadline

from ..jsonrpc import ConnectionLost

MAX_REQUESTS = 50
"""Limit of a server's requests during one call."""
ABANDONED_SECONDS = 60.0


class ActiveCall:
    """A call that runs; its limits pause while the server waits for us, and are left as they are once it is `over`.

    `headers` go with each message about it. `whole` limits all of it, `clock` one request of `seconds`.
    """

    def __init__(self, call: Call, headers: Mapping[str, str], seconds: float, whole: Deadline, most: float) -> None:
        self.call = call
        self.headers = headers
        self.over = False
        self.clock: Deadline | None = None
        self.tasks: dict[object, asyncio.Task[None]] = {}
        self._requests = 0
        self._seconds = seconds
        self._whole = whole
        self._ends = asyncio.get_running_loop().time() + most
        self._pauses = 0
        self._paused_at = 0.0

    @property
    def is_paused(self) -> bool:
        """Whether the server waits for us."""
        return self._pauses > 0

    def counts(self) -> bool:
        """Counts a request of the server; False for one too many."""
        self._requests += 1
        return self._requests <= MAX_REQUESTS

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pauses the limits; nested pauses count as one."""
        loop = asyncio.get_running_loop()
        if not self._pauses:
            self._paused_at = loop.time()
            self._whole.at(None)
            if self.clock is not None:
                self.clock.at(None)
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if not self._pauses and not self.over:
                self._ends += loop.time() - self._paused_at
                self._whole.at(self._ends)
                if self.clock is not None:
                    self.clock.at(loop.time() + self._seconds)

    def close(self) -> None:
        """Stops to answer the server's requests."""
        self.over = True
        for task in self.tasks.values():
            task.cancel()


class AbandonedCalls:
    """Calls that were given up without an answer: for a while the server may yet ask something for them."""

    def __init__(self) -> None:
        self._calls: dict[float, tuple[str, float]] = {}

    def add(self, number: float, active: ActiveCall | None) -> None:
        """Notes the request of a call by its number; nothing without a call."""
        if active is not None:
            self._calls[number] = active.call.turn_id, asyncio.get_running_loop().time() + ABANDONED_SECONDS

    def ended(self, number: Any) -> None:
        """Forgets a call, which the server has answered at last."""
        if isinstance(number, int | float):
            self._calls.pop(number, None)

    def turns(self) -> set[str]:
        """The turns of these calls."""
        now = asyncio.get_running_loop().time()
        self._calls = {number: one for number, one in self._calls.items() if one[1] > now}
        return {turn_id for turn_id, _ in self._calls.values()}


class PendingRequest:
    """A request that waits for its answer; progress restarts its time limit of `seconds`."""

    def __init__(self, clock: Deadline | None, seconds: float, active: ActiveCall | None = None) -> None:
        self.answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.sent = False
        self._clock = clock
        self._seconds = seconds
        self._active = active

    def progressed(self) -> None:
        """Restarts the time limit."""
        if self._active is not None and self._active.is_paused:
            return
        if self._clock is not None and not self._clock.over:
            self._clock.at(asyncio.get_running_loop().time() + self._seconds)

    def fail(self, error: ConnectionLost) -> None:
        """Fails the answer; while the request is still being sent, lets its time limit expire."""
        if self._active is not None:
            self._active.over = True
        if self.answer.done():
            return
        clock, self._clock = self._clock, None
        if clock is None or self.sent:
            self.answer.set_exception(ConnectionLost(str(error)))
            self.answer.exception()
        elif not clock.over:
            clock.at(asyncio.get_running_loop().time())
