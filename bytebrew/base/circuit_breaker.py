"""A circuit breaker: stops asking what keeps failing, and tries it again after a while."""

import time
from collections import deque
from collections.abc import Callable
from typing import Literal


class Breaker:
    """Opens at so many failures within some seconds; after a wait, one caller may try.

    A caller that `allows` let through ends in `succeeded` or `failed`; the one that tries, else in `released`.
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
        """Open until the wait is over, half open until the caller that tries has ended."""
        if self._opened is None:
            return "closed"
        return "half_open" if self.remaining() <= 0 else "open"

    @property
    def failure_count(self) -> int:
        """The failures that count."""
        return len(self._failures)

    def remaining(self) -> float:
        """Seconds until somebody may try again."""
        return 0.0 if self._opened is None else max(0.0, self._opened + self._wait - self._clock())

    def allows(self) -> bool:
        """Whether to go ahead; in the half open state, only one at a time."""
        if self._opened is None:
            return True
        if self._probing or self.remaining() > 0:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """Closes: what was asked works."""
        self._failures.clear()
        self._opened = None
        self._probing = False

    def failed(self) -> None:
        """Counts a failure; opens, or opens again."""
        moment = self._clock()
        self._failures.append(moment)
        full = len(self._failures) == self._failures.maxlen and moment - self._failures[0] <= self._within
        if full or self._probing:
            self._opened = moment
        self._probing = False

    def released(self) -> None:
        """Ends the attempt of the one that tries, where it says nothing either way."""
        self._probing = False
