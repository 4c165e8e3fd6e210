"""Calls the plugins' observers, recorders, subscribers and metrics, and logs those that fail or are slow."""

import logging
import time
from typing import Any

from bytebrew.base.errors import BootError, EngineError, NotRecorded
from bytebrew.base.rolling_timeout import at_most, uncancelled
from bytebrew.contract.connection import Connection
from bytebrew.contract.engine import Engine, Sample
from bytebrew.contract.hookspecs import OBSERVING, Action, Recorder
from bytebrew.contract.notifications import Notification, Subscriber
from bytebrew.contract.storage.store import Driver
from bytebrew.plugins import Plugins, place

log = logging.getLogger(__name__)

OBSERVER_SECONDS = 30
"""Time limit of an observer, which delays the observed operation."""
AWAITED_SECONDS = 1.0
"""An async hook that takes longer is logged."""
BLOCKING_SECONDS = 0.25
"""A synchronous hook that takes longer is logged, because it blocks the event loop."""
PAUSE = 60.0
"""Seconds between two warnings about one hook of one plugin."""


class Observers:
    """The plugins' hooks that are called while the engine runs, each with its plugin's name."""

    def __init__(self, engine: Engine, plugins: Plugins, driver: Driver) -> None:
        self._engine, self._plugins, self._driver = engine, plugins, driver
        self._observers = {hook: plugins.implementations(hook) for hook in OBSERVING}
        self._collectors = plugins.implementations("collect_metrics")
        self._recorders: list[tuple[str, Recorder]] = []
        self._subscribers: list[tuple[str, Subscriber]] = []
        self._slow = SlowHooks()
        plugins.declare("register_recorders", self._add_recorder, engine=engine)
        plugins.declare("register_subscribers", self._add_subscriber, engine=engine)

    def _add_recorder(self, plugin: str, recorder: Recorder) -> None:
        self._recorders.append((plugin, recorder))

    def _add_subscriber(self, plugin: str, subscriber: Subscriber) -> None:
        self._subscribers.append((plugin, subscriber))

    @property
    def record_actions(self) -> bool:
        """Whether a plugin records or observes the changes that callers make."""
        return bool(self._recorders or self._observers["actor_acted"])

    async def start(self) -> None:
        """Runs every `startup` hook; BootError names the plugin whose hook fails."""
        for name, startup in self._observers["startup"]:
            begun = time.monotonic()
            try:
                await startup(engine=self._engine)
            except BootError:
                raise
            except Exception as error:
                message = f"{type(error).__name__}: {error}{place(error)}"
                raise BootError(f"plugin {name} failed in startup: {message}") from error
            self._slow.look(name, "startup", begun)

    async def notify(self, hook: str, **arguments: Any) -> None:
        """Awaits every observer of a hook, in order; one that fails or hangs is logged and affects nothing else."""
        for name, observer in self._observers[hook]:
            begun = time.monotonic()
            try:
                with uncancelled(), at_most(OBSERVER_SECONDS):
                    await observer(engine=self._engine, **arguments)
            except Exception as error:
                log.exception("plugin %s failed in %s", name, hook)
                self._plugins.failed(name, hook, error)
            if time.monotonic() - begun >= AWAITED_SECONDS:
                self._slow.look(name, hook, begun)

    def record(self, conn: Connection, action: Action) -> None:
        """Runs every recorder with an action; NotRecorded names the plugin whose recorder fails."""
        for name, recorder in self._recorders:
            begun = time.monotonic()
            try:
                recorder(conn, action)
            except Exception as error:
                if isinstance(error, EngineError) or self._driver.fault(error):
                    raise
                self._plugins.failed(name, "its recorder", error)
                raise NotRecorded(f"The plugin {name} could not record this, so nothing was changed") from error
            self._slow.look(name, "its recorder", begun, BLOCKING_SECONDS)

    def publish(self, conn: Connection, notification: Notification) -> None:
        """Runs every subscriber with a notification; one that fails is logged, and only its own work is undone.

        A fault of the database is raised: then nothing of the transaction is stored.
        """
        for name, subscriber in self._subscribers:
            begun = time.monotonic()
            conn.execute("savepoint subscriber")
            try:
                subscriber(conn, notification)
                conn.execute("release savepoint subscriber")  # fails on a server if an error of the database was hidden
            except Exception as error:
                if self._driver.breaks(error):
                    raise
                log.exception("plugin %s failed in its subscriber to %s", name, notification.name)
                self._plugins.failed(name, f"its subscriber to {notification.name}", error)
                conn.execute("rollback to savepoint subscriber")
                conn.execute("release savepoint subscriber")
            self._slow.look(name, "its subscriber", begun, BLOCKING_SECONDS)

    def samples(self) -> list[Sample]:
        """The samples of every plugin's `collect_metrics`; a plugin that fails is logged and skipped."""
        samples: list[Sample] = []
        for name, collect in self._collectors:
            begun = time.monotonic()
            try:
                collected = list(collect(engine=self._engine))
                if strange := [sample for sample in collected if not isinstance(sample, Sample)]:
                    raise TypeError(f"{strange[0]!r:.80} is no Sample")
                samples += collected
            except Exception as error:
                log.exception("plugin %s failed in collect_metrics", name)
                self._plugins.failed(name, "collect_metrics", error)
            self._slow.look(name, "collect_metrics", begun, BLOCKING_SECONDS)
        return samples


class SlowHooks:
    """Logs each plugin's slow hook at most once a minute, with the number of slow calls since."""

    def __init__(self) -> None:
        self._warned: dict[tuple[str, str], float] = {}
        self._suppressed: dict[tuple[str, str], int] = {}

    def look(self, plugin: str, hook: str, begun: float, limit: float = AWAITED_SECONDS) -> None:
        """Logs a hook that started at `begun`, by time.monotonic, if it has taken more than `limit` seconds."""
        now = time.monotonic()
        if now - begun < limit:
            return
        key = (plugin, hook)
        if now - self._warned.get(key, -PAUSE) < PAUSE:
            self._suppressed[key] = self._suppressed.get(key, 0) + 1
            return
        more = self._suppressed.pop(key, 0)
        self._warned[key] = now
        often = f", and was slow {more} times more since the last warning" if more else ""
        log.warning("plugin %s took %.1f s in %s, while others waited for it%s", plugin, now - begun, hook, often)
