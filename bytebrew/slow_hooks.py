"""Hooks that take long, in the log: with the plugin, the hook and the duration."""

import logging
import time

log = logging.getLogger(__name__)

AWAITED_SECONDS = 1.0
"""How long a hook may take that is awaited."""
BLOCKING_SECONDS = 0.25
"""How long one may take for which everybody waits, because it is a plain function."""
PAUSE = 60.0
"""Seconds between two warnings about one hook of one plugin."""


class SlowHooks:
    """Warns of each plugin's hook at most once a minute, with how often it was slow since."""

    def __init__(self) -> None:
        self._warned: dict[tuple[str, str], float] = {}
        self._passed_over: dict[tuple[str, str], int] = {}

    def look(self, plugin: str, hook: str, begun: float, limit: float = AWAITED_SECONDS) -> None:
        """Takes in that a hook has ended which began at a moment of `time.monotonic`; `limit` is in seconds."""
        now = time.monotonic()
        if now - begun < limit:
            return
        key = (plugin, hook)
        if now - self._warned.get(key, -PAUSE) < PAUSE:
            self._passed_over[key] = self._passed_over.get(key, 0) + 1
            return
        more = self._passed_over.pop(key, 0)
        self._warned[key] = now
        often = f", and was slow {more} times more since the last warning" if more else ""
        log.warning("plugin %s took %.1f s in %s, while others waited for it%s", plugin, now - begun, hook, often)
