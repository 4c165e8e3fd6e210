"""Logs the progress of indexing: a line every ten seconds, and one at the end."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

LOG_SECONDS = 10.0


class IndexingProgress:
    """Counts files and chunks of a run, which ends when no file is waiting."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = self._last = clock()
        self.files = self.failed = self.chunks = 0

    def due(self) -> bool:
        """Whether the next log line is due."""
        return self._clock() - self._last >= LOG_SECONDS

    def report(self, waiting: int) -> None:
        """Logs the progress; `waiting` files remain."""
        self._last = self._clock()
        log.info("indexing: %d files and %d chunks so far, %d files to go", self.files, self.chunks, waiting)

    def end(self) -> None:
        """Logs the end, as a warning if files failed."""
        level = logging.WARNING if self.failed else logging.INFO
        text = "indexed %d files into %d chunks in %.1f s, %d of them failed"
        log.log(level, text, self.files, self.chunks, self._clock() - self._begun, self.failed)
