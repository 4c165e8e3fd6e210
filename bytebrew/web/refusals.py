"""Rate-limited log lines about rejected callers, so that an attack is visible and does not fill the log."""

import logging
import time
from collections.abc import Callable

from bytebrew.base.masking import redact

log = logging.getLogger(__name__)

AT_ONCE = 10
"""Number of rejections that are logged individually."""
SECONDS = 10.0
"""Seconds between later lines; each has the number of rejections since the last line."""


class Refusals:
    """Logs rejected callers: ten lines at once, then one each ten seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left, self._since, self._unseen = float(AT_ONCE), clock(), 0
        self.count = 0
        """Rejections since the start."""

    def note(self, client: str, request: str, status: int, reason: str) -> None:
        """Counts a rejection, and logs it within the limit; `request` is method and path."""
        self.count += 1
        now = self._clock()
        self._left = min(AT_ONCE, self._left + (now - self._since) / SECONDS)
        self._since = now
        if self._left < 1:
            self._unseen += 1
            return
        self._left -= 1
        more = f"; {self._unseen} more refusals since the last line" if self._unseen else ""
        self._unseen = 0
        log.warning("refused %s from %s: %d %s%s", redact(request), client or "-", status, redact(reason), more)
