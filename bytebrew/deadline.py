"""Time limits on many short waits, such as for each piece of a stream, at the price of one timer."""

import asyncio
from types import TracebackType


class Deadline:
    """Limits the waits of one task, one after another: `with deadline.at(moment): await ...` raises TimeoutError.

    asyncio.timeout_at sets and drops a timer for each wait. Here one is set for the first, and looks when it goes off
    whether the moment has moved on, as it mostly has. What it ends is told from a cancellation of the task as there.
    """

    __slots__ = ("_cancelling", "_loop", "_moment", "_over", "_task", "_timer")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._moment: float | None = None
        self._cancelling = 0
        self._over = False

    def at(self, moment: float | None) -> "Deadline":
        """Sets the end of the next wait, by the loop's clock; None is never."""
        self._moment = moment
        return self

    def __enter__(self) -> None:
        if self._moment is None:
            return
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task else 0
        if self._timer is None or self._moment < self._timer.when():
            self.close()
            self._timer = self._loop.call_at(self._moment, self._look)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._over:
            self._over = False
            if task and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def _look(self) -> None:
        self._timer = None
        if self._task is None or self._moment is None:
            return  # nobody waits; the next wait sets a timer again
        if self._loop.time() < self._moment:
            self._timer = self._loop.call_at(self._moment, self._look)
        else:
            self._over = True
            self._task.cancel()

    def close(self) -> None:
        """Drops the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
