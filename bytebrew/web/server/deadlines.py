"""Time limits of many connections with one timer."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Deadlines(Generic[Item]):
    """Calls `expire` for each item that is not discarded within a time, which is the same for all.

    A timer for each connection would take half as much memory as the connection.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, expire: Callable[[Item], object]) -> None:
        self._loop, self._seconds, self._expire = loop, seconds, expire
        self._ends = OrderedDict[Item, float]()  # the earliest first, which a dict finds behind all it had before
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: Item) -> None:
        """Starts the time of an item, again if it has one."""
        self._ends.pop(item, None)
        self._ends[item] = end = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(end, self._look)

    def discard(self, item: Item) -> None:
        """Ends the time of an item, if it has one."""
        self._ends.pop(item, None)

    def __contains__(self, item: Item) -> bool:
        return item in self._ends

    def _look(self) -> None:
        self._timer = None
        while self._ends:
            item, end = next(iter(self._ends.items()))
            if end > self._loop.time():
                self._timer = self._loop.call_at(end, self._look)
                return
            del self._ends[item]
            self._expire(item)
