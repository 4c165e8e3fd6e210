"""A circuit breaker: blocks calls that keep failing, and retries after a while."""

import time
from collections import deque
from collections.abc import Callable
from typing import Literal


class Breaker:
    """Opens after a number of failures within some seconds; after a wait, one caller may try.

    Each caller that `allows` admits ends with `succeeded` or `failed`, or with `released` if it proves neither.
    """

    def __init__(
        self, failures: int, within: float, wait: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures: deque[float] = deque(maxlen=failures)
        self._within = within
        self._wait = wait
        self._clock = clock
        self._opened: float | None = None
        self._probing = False

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        """Open until the wait is over, then half open until the trying caller has ended."""
        if self._opened is None:
            return "closed"
        return "half_open" if self.remaining() <= 0 else "open"

    @property
    def failure_count(self) -> int:
        """The number of recent failures."""
        return len(self._failures)

    def remaining(self) -> float:
        """Seconds until the next attempt is allowed."""
        return 0.0 if self._opened is None else max(0.0, self._opened + self._wait - self._clock())

    def allows(self) -> bool:
        """Whether a call is allowed; one at a time in the half open state."""
        if self._opened is None:
            return True
        if self._probing or self.remaining() > 0:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """Closes after a success."""
        self._failures.clear()
        self._opened = None
        self._probing = False

    def failed(self) -> None:
        """Counts a failure, which may open the breaker."""
        moment = self._clock()
        self._failures.append(moment)
        full = len(self._failures) == self._failures.maxlen and moment - self._failures[0] <= self._within
        if full or self._probing:
            self._opened = moment
        self._probing = False

    def released(self) -> None:
        """Ends an attempt that proves neither success nor failure."""
        self._probing = False
