"""A run of indexing in the log: a line each ten seconds while it goes on, and one at its end."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

EVERY = 10.0


class IndexingProgress:
    """Counts files and chunks from the first file that waits until none does."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = self._last = clock()
        self.files = self.failed = self.chunks = 0

    def due(self) -> bool:
        """Whether it is time for a line."""
        return self._clock() - self._last >= EVERY

    def report(self, waiting: int) -> None:
        """Logs how far it is; `waiting` files are not through yet."""
        self._last = self._clock()
        log.info("indexing: %d files and %d chunks so far, %d files to go", self.files, self.chunks, waiting)

    def end(self) -> None:
        """Logs the end, as a warning where files have failed."""
        level = logging.WARNING if self.failed else logging.INFO
        words = "indexed %d files into %d chunks in %.1f s, %d of them failed"
        log.log(level, words, self.files, self.chunks, self._clock() - self._begun, self.failed)
