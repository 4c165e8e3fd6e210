"""Detects jumps of the wall clock, so that nothing is deleted because of a wrong age."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

JUMP = 3600.0
"""Change of the offset from monotonic time, in seconds, that counts as a jump."""
DISTRUST_SECONDS = 3600.0
"""Seconds after a jump in which the clock is not trusted."""


class WallClock:
    """Detects that the wall clock was set while the process runs; slewing does not count.

    For an hour afterwards nothing may be deleted because of its age: a wrong time that is corrected within the hour
    does no harm. A new process trusts the clock.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset = wall() - monotonic()
        self._doubtful_until = monotonic()

    def trusted(self) -> bool:
        """Checks the clock; returns whether ages are reliable enough to delete by."""
        moment = self._monotonic()
        offset = self._wall() - moment
        moved, self._offset = offset - self._offset, offset
        if abs(moved) > JUMP:
            log.warning("the clock was set by %+.0f s; nothing is deleted for its age in the next hour", moved)
            self._doubtful_until = moment + DISTRUST_SECONDS
        return moment >= self._doubtful_until
