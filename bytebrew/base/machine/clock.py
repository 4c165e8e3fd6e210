"""The wall clock, and whether it may be trusted to say how old something is."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

JUMP = 3600.0
"""Seconds by which the wall clock goes off from monotonic time between two looks where it was set."""
TRIAL = 3600.0
"""Seconds for which a clock that was set must run on before what is old by it is deleted."""


class WallClock:
    """Notices that the wall clock was set while the process runs, which a clock that is only slewed never is.

    Until an hour has passed since, nothing may be deleted for its age: a clock that was set wrong, and back within
    that time, has done no harm. A process that is started anew trusts the clock as it is.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset = wall() - monotonic()
        self._doubtful_until = monotonic()

    def trusted(self) -> bool:
        """Looks at the clock: whether what is old by it may be deleted."""
        moment = self._monotonic()
        offset = self._wall() - moment
        moved, self._offset = offset - self._offset, offset
        if abs(moved) > JUMP:
            log.warning("the clock was set by %+.0f s; nothing is deleted for its age in the next hour", moved)
            self._doubtful_until = moment + TRIAL
        return moment >= self._doubtful_until
