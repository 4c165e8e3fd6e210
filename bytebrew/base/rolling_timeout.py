"""Time limits on waits for I/O: what has arrived is read before they count, also after a pause of the process."""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import TracebackType

from anyio import CancelScope

LOOKS = 5
"""Passes of the event loop between the moment and the end of a wait."""
LOOK_SECONDS = 0.01
"""The shortest time between two of them."""


class Deadline:
    """Limits the waits of one task, one after another: `with deadline.at(moment): await ...` raises TimeoutError.

    asyncio.timeout_at sets and drops a timer for each wait. Here one is set for the first, and looks when it goes off
    whether the moment has moved on, as it mostly has. What it ends is told from a cancellation of the task as there.

    Event loops run timers before they read sockets. Where the process was stopped, or busy, beyond the moment, the data
    that arrived meanwhile would come too late; so the loop reads a few times more before the wait ends.

    `over` says whether the last wait was ended. `end` takes the place of the task's cancellation.
    """

    __slots__ = ("_cancelling", "_due", "_end", "_looks", "_loop", "_moment", "_task", "_timer", "over")

    def __init__(self, end: Callable[[], object] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = end
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf  # kept here: a handle of uvloop does not know its time where that is over
        self._task: asyncio.Task[object] | None = None
        self._moment = math.inf
        self._looks = self._cancelling = 0
        self.over = False

    def at(self, moment: float | None) -> "Deadline":
        """Sets the end of the next wait, or of the one that is under way, by the loop's clock; None is never."""
        self._moment, self._looks = math.inf if moment is None else moment, 0
        if self._task is not None:
            self._arm()
        return self

    def __enter__(self) -> "Deadline":
        self._task = asyncio.current_task()
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
        """Drops the timer."""
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
            return  # nobody waits; the next wait sets a timer again
        if (now := self._loop.time()) < self._moment:
            self._set(self._moment)
        elif self._looks < LOOKS:
            self._looks += 1
            self._set(now + LOOK_SECONDS)
        else:
            self.over = True
            (self._end or self._task.cancel)()


class _Once(Deadline):
    """A limit for one wait, with which its timer goes: lighter than a context manager around both."""

    __slots__ = ()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        super().__exit__(kind, error, trace)


def until(moment: float | None) -> Deadline:
    """As asyncio.timeout_at, for one wait on I/O: data that had arrived by the moment is read first."""
    return _Once().at(moment)


def within(seconds: float | None) -> Deadline:
    """As asyncio.timeout, for one wait on I/O: data that had arrived in time is read first; None is for ever."""
    return until(_moment(seconds))


@contextmanager
def move_on_within(seconds: float | None) -> Iterator[CancelScope]:
    """As anyio.move_on_after, for I/O: data that had arrived in time is read first; None is for ever."""
    with CancelScope() as scope, closing(Deadline(scope.cancel)) as deadline, deadline.at(_moment(seconds)):
        yield scope


def _moment(seconds: float | None) -> float | None:
    return None if seconds is None else asyncio.get_running_loop().time() + seconds
