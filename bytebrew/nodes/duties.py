"""Duties: what only one of the nodes may do at a time, the leader."""

import logging
from collections.abc import Awaitable, Callable

import anyio

from bytebrew.nodes.node import Node

log = logging.getLogger(__name__)

PAUSE = 5.0
"""Seconds before a duty that failed is begun again."""


class Duties:
    """Loops that run while this node leads, each begun anew if it fails."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._loops: dict[str, Callable[[], Awaitable[None]]] = {}

    def add(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Adds a duty; add it before the engine has started."""
        self._loops[name] = run

    async def run(self, scope: anyio.CancelScope) -> None:
        """Runs the duties as soon as the node leads, until the scope is cancelled."""
        with scope:
            await self._node.led.wait()
            async with anyio.create_task_group() as group:
                for name, loop in self._loops.items():
                    group.start_soon(self._repeat, name, loop)

    async def _repeat(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await loop()
            except Exception:
                log.exception("the duty %s failed; it begins again in %g s", name, PAUSE)
            else:
                return
            await anyio.sleep(PAUSE)
