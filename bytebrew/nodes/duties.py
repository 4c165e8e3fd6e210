"""Duties: what only one of the nodes may do at a time, the leader."""

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from bytebrew.nodes.node import Node
from bytebrew.nodes.signals import Ids, SignalCentre

log = logging.getLogger(__name__)

PAUSE = 5.0
"""Seconds before a duty that failed is begun again."""


class Loop(Protocol):
    """A loop of the engine that is a duty."""

    async def run(self) -> None:
        """Runs for ever, beginning with what a stopped engine left unfinished."""

    def wake(self) -> None:
        """Has the loop look for what there is to do."""


class Duties:
    """Loops that run while this node leads, each begun anew if it fails."""

    def __init__(self, node: Node, signals: SignalCentre) -> None:
        self._node, self._signals = node, signals
        self._loops: dict[str, Callable[[], Awaitable[None]]] = {}
        self._wakes: dict[str, Callable[[], None]] = {}
        self._scopes: dict[str, anyio.CancelScope] = {}
        signals.on("duties", self._follow)

    def add(self, name: str, run: Callable[[], Awaitable[None]], wake: Callable[[], None]) -> None:
        """Adds a duty before the engine has started; `wake` is called where the duty runs, for `wake` on any node."""
        self._loops[name], self._wakes[name] = run, wake

    def wake(self, name: str) -> None:
        """Has the duty look for what there is to do, on the node that leads, after a commit."""
        if self._node.leads:
            self._wakes[name]()
        else:
            self._signals.send("duties", name)

    async def _follow(self, names: Ids) -> None:
        if self._node.leads:
            for name in self._wakes if names is None else self._wakes.keys() & names:
                self._wakes[name]()

    def run(self, group: TaskGroup) -> None:
        """Runs the duties in the task group as soon as the node leads, until each is cancelled."""
        self._scopes = {name: anyio.CancelScope() for name in self._loops}
        for name, loop in self._loops.items():
            group.start_soon(self._repeat, name, loop)

    def cancel(self, *names: str) -> None:
        """Ends some duties, or all of them."""
        for name, scope in self._scopes.items():
            if not names or name in names:
                scope.cancel()

    async def _repeat(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        with self._scopes[name]:
            await self._node.led.wait()
            while True:
                try:
                    await loop()
                except Exception:
                    log.exception("the duty %s failed; it begins again in %g s", name, PAUSE)
                else:
                    return
                await anyio.sleep(PAUSE)
