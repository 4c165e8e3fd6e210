"""Progress of long work: a bar on a terminal, or a log line every ten seconds."""

import logging
import time
from collections.abc import Callable
from typing import TextIO

from bytebrew.base import logs

log = logging.getLogger(__name__)

BAR_DELAY = 2.0
"""Seconds until the bar appears."""
LOG_SECONDS = 10.0
"""Seconds between log lines."""
BAR_SECONDS = 0.1
"""Seconds between updates of the bar."""
WIDTH = 30


class Progress:
    """Shows the progress of one piece of work; `total` has the unit of `at`, and is 0 if unknown."""

    def __init__(
        self,
        what: str,
        total: int = 0,
        unit: str = "",
        *,
        terminal: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._unit = what, unit
        self.total, self.done = total, 0
        self._clock, self._begun = clock, clock()
        self._terminal = terminal or logs.terminal()
        self._next = self._begun + (BAR_DELAY if self._terminal else LOG_SECONDS)
        self._shown = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._shown and self._terminal:
            self._draw(f"{self._message()}, {'stopped' if exc[0] else 'done'} after {self._seconds():.0f} s\n")

    def add(self, count: int = 1) -> None:
        """Adds to the work done."""
        self.at(self.done + count)

    def of(self, done: int, total: int) -> None:
        """Sets the work done and the total."""
        self.total = total
        self.at(done)

    def at(self, done: int) -> None:
        """Sets the work done; cheap enough to be called for each page and file."""
        self.done = done
        if (now := self._clock()) < self._next:
            return
        self._next = now + (BAR_SECONDS if self._terminal else LOG_SECONDS)
        self._shown = True
        if self._terminal:
            self._draw(f"{self._bar()}{self._message()}, {self._seconds():.0f} s")
        else:
            log.info("%s, %.0f s so far", self._message(), self._seconds())

    def beat(self) -> None:
        """Keeps the display alive without progress."""
        self.at(self.done)

    def _seconds(self) -> float:
        return self._clock() - self._begun

    def _bar(self) -> str:
        if not self.total:
            return ""
        full = min(WIDTH, WIDTH * self.done // self.total)
        return f"[{'#' * full}{'-' * (WIDTH - full)}] "

    def _message(self) -> str:
        unit = f" {self._unit}" if self._unit else ""
        if self.total:
            share = min(100, 100 * self.done // self.total)
            return f"{self._what}: {share} %, {self.done:,} of {self.total:,}{unit}"
        return f"{self._what}: {self.done:,}{unit}" if self.done else self._what

    def _draw(self, text: str) -> None:
        assert self._terminal is not None
        self._terminal.write(f"\r\x1b[2K{text}")
        self._terminal.flush()
