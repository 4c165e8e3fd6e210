"""Timeouts for I/O that first read data which has already arrived, and cancellation that is not the task's own.

Data arrives before its time limit is looked at, for example, while the process is suspended.
"""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import TracebackType
from typing import cast

from anyio import CancelScope

LOOKS = 5
"""Iterations of the event loop between the deadline and the end of a wait."""
LOOK_SECONDS = 0.01
"""Shortest time between two of these iterations."""


class Deadline:
    """Limits successive waits of one task: `with deadline.at(moment): await ...` raises TimeoutError.

    asyncio.timeout_at sets and cancels a timer for each wait. Here one timer serves many: when it fires, it checks
    whether the deadline has moved on, as it mostly has. As there, other cancellations of the task pass through.

    Event loops run timers before they read sockets. After the process was stopped or busy past the deadline, data that
    arrived meanwhile would be too late; so the loop reads a few more times before the wait ends.

    `over` says whether the last wait expired. `end` replaces the task's cancellation.
    """

    __slots__ = ("_cancelling", "_due", "_end", "_looks", "_loop", "_moment", "_task", "_timer", "over")

    def __init__(self, end: Callable[[], object] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = end
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf  # kept here: an expired timer handle of uvloop does not have its time
        self._task: asyncio.Task[object] | None = None
        self._moment = math.inf
        self._looks = self._cancelling = 0
        self.over = False

    def now(self) -> float:
        """The loop's clock."""
        return self._loop.time()

    def at(self, moment: float | None) -> "Deadline":
        """Sets the deadline of the next or the current wait, on the loop's clock; None for none."""
        self._moment, self._looks = math.inf if moment is None else moment, 0
        if self._task is not None:
            self._arm()
        return self

    def __enter__(self) -> "Deadline":
        self._task = asyncio.current_task(self._loop)
        self._cancelling = self._task.cancelling() if self._task else 0
        self.over = False
        self._arm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if (
            self.over
            and self._end is None
            and task
            and task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error

    def close(self) -> None:
        """Cancels the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._moment != math.inf and (self._timer is None or self._moment < self._due):
            self.close()
            self._set(self._moment)

    def _set(self, moment: float) -> None:
        self._due = moment
        self._timer = self._loop.call_at(moment, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._task is None or self._moment == math.inf or self.over:
            return  # not waiting; the next wait sets a timer again
        if (now := self._loop.time()) < self._moment:
            self._set(self._moment)
        elif self._looks < LOOKS:
            self._looks += 1
            self._set(now + LOOK_SECONDS)
        else:
            self.over = True
            (self._end or self._task.cancel)()


class ShortWaits:
    """Waits that become False after some time, the same for all; one timer serves them, as most are short."""

    __slots__ = ("_due", "_loop", "_timer")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due: dict[asyncio.Future[bool], float] = {}  # in order
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float) -> "asyncio.Future[bool]":
        """A wait, whose result others set."""
        self._loop = loop = self._loop or asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._due[waiter] = due = loop.time() + seconds
        if self._timer is None:
            self._timer = loop.call_at(due, self._look, loop)
        return waiter

    def end(self, waiter: "asyncio.Future[bool]") -> None:
        """Forgets a wait."""
        self._due.pop(waiter, None)
        if not self._due and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, now = None, loop.time()
        for waiter, due in self._due.items():
            if due > now:
                self._timer = loop.call_at(due, self._look, loop)
                return
            if not waiter.done():
                waiter.set_result(False)


class _Once(Deadline):
    """A deadline for one wait, which cancels its timer: cheaper than a context manager around both."""

    __slots__ = ()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        super().__exit__(kind, error, trace)


class _Insistent(_Once):
    """A deadline that repeats the cancellation until the wait ends."""

    __slots__ = ("_repeated",)

    def __init__(self) -> None:
        super().__init__()
        self._repeated = 0

    def _look(self) -> None:
        if self.over and self._task is not None:
            self._repeated += 1
            self._task.cancel()
        else:
            super()._look()
        if self.over:
            self._set(self._loop.time() + LOOK_SECONDS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in range(self._repeated):
            cast("asyncio.Task[object]", self._task).uncancel()
        super().__exit__(kind, error, trace)


def until(moment: float | None) -> Deadline:
    """As asyncio.timeout_at, for one wait on I/O; data that arrived in time is read first."""
    return _Once().at(moment)


def within(seconds: float | None) -> Deadline:
    """As asyncio.timeout, for one wait on I/O; data that arrived in time is read first. None is no limit."""
    return until(_moment(seconds))


def at_most(seconds: float) -> Deadline:
    """As `within`, for code of others: cancels again and again, as anyio does, as such code may go on after one."""
    return _Insistent().at(_moment(seconds))


@contextmanager
def move_on_within(seconds: float | None) -> Iterator[CancelScope]:
    """As anyio.move_on_after, for I/O; data that arrived in time is read first. None is no limit."""
    with CancelScope() as scope, closing(Deadline(scope.cancel)) as deadline, deadline.at(_moment(seconds)):
        yield scope


def _moment(seconds: float | None) -> float | None:
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


@contextmanager
def uncancelled() -> Iterator[None]:
    """Turns a CancelledError into an ordinary error if only the awaited operation was cancelled, not the task."""
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("something that was awaited had been cancelled") from error
