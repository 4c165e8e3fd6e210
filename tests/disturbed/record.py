"""What the clients of a run saw, and the promises that were broken to them."""

import time
from collections import defaultdict
from dataclasses import KW_ONLY, dataclass, field

MOST = 40
"""Violations that are kept of one run."""


@dataclass
class Record:
    """What is known of the engines by their answers alone."""

    seed: int
    _: KW_ONLY
    began: float = field(default_factory=time.monotonic)
    violations: list[str] = field(default_factory=list)
    frames: dict[str, dict[int, bytes]] = field(default_factory=lambda: defaultdict(dict))
    """The bytes of each session's events by their numbers."""
    deleting: set[str] = field(default_factory=set)
    """Sessions that a client deletes or has deleted."""

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began

    @property
    def actor(self) -> str:
        """Who is at work, where that is known."""
        return ""

    def violation(self, words: str) -> None:
        """Notes that a promise was broken."""
        if len(self.violations) < MOST:
            actor = f"{self.actor}, " if self.actor else ""
            self.violations.append(f"seed {self.seed}, {actor}{self.now:.1f} s: {words}")
            print(f"VIOLATION {self.violations[-1]}", flush=True)

    def check(self, fine: bool, words: str) -> None:
        """Notes a violation unless all is fine."""
        if not fine:
            self.violation(words)

    def saw(self, session_id: str, number: int, frame: bytes) -> None:
        """An event as a client saw it: whoever else sees that number sees the same bytes."""
        known = self.frames[session_id].setdefault(number, frame)
        if known != frame and session_id not in self.deleting:
            self.violation(f"event {number} of session {session_id} was {known!r} and is {frame!r}")
