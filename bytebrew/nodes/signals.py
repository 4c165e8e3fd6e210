"""Signals between the nodes that share a database: what a commit has changed, by ids alone."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Set
from typing import Literal

import anyio
from anyio.abc import TaskGroup

from bytebrew.base.errors import EngineError
from bytebrew.contract.governance.nodes import NodeFigures
from bytebrew.contract.storage.store import Signals

log = logging.getLogger(__name__)

Kind = Literal["events", "requests", "answers", "tasks", "configuration", "nodes", "duties"]
Ids = Set[str] | None
"""The ids that a signal names; None if signals may have been lost, so that anything may have changed."""
Receiver = Callable[[Ids], Awaitable[None]]
MOST_BYTES = 7999
"""Most bytes of one text: PostgreSQL refuses a NOTIFY of 8,000."""


class _Inbox:
    """What one receiver has still to look at: signals that arrive while it works are taken together."""

    def __init__(self, receiver: Receiver, *, own: bool) -> None:
        self._receiver, self.own = receiver, own
        self._ids: set[str] = set()
        self._all = False
        self._filled = asyncio.Event()

    def put(self, ids: Ids) -> None:
        if ids is None:
            self._all = True
        else:
            self._ids |= ids
        self._filled.set()

    async def run(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            ids, self._ids = None if self._all else self._ids, set()
            self._all = False
            try:
                await self._receiver(ids)
            except EngineError as error:  # the next poll tries again
                log.debug("a signal of another node was not followed: %s", error)
            except Exception:
                log.exception("a signal of another node was not followed")


class SignalCentre:
    """Sends what this node has committed, and passes on what other nodes have; nothing if no other node can be.

    A signal may be lost: each receiver is also called with None, once a second at least.
    """

    def __init__(self, signals: Signals | None, counts: NodeFigures) -> None:
        self._signals, self._counts = signals, counts
        self._inboxes: dict[Kind, list[_Inbox]] = {}
        self._unsent: dict[Kind, dict[str, None]] = {}
        self._filled = asyncio.Event()
        self._running: anyio.CancelScope | None = None

    @property
    def used(self) -> bool:
        """Whether other nodes may share the database."""
        return self._signals is not None

    def on(self, kind: Kind, receiver: Receiver, *, own: bool = False) -> None:
        """Calls a receiver with what other nodes signal, and with `own` this one too, one call at a time."""
        if self._signals is not None:
            self._inboxes.setdefault(kind, []).append(_Inbox(receiver, own=own))

    def send(self, kind: Kind, *ids: str) -> None:
        """Signals a change that is committed; all of one turn of the event loop are sent together."""
        if self._signals is not None:
            self._unsent.setdefault(kind, {}).update(dict.fromkeys(ids))
            self._filled.set()
            for inbox in self._inboxes.get(kind, ()):
                if inbox.own:
                    inbox.put({*ids})

    def run(self, group: TaskGroup) -> None:
        """Starts to send and to receive in the task group, until `stop`."""
        if self._signals is not None:
            self._running = anyio.CancelScope()
            group.start_soon(self._run, self._signals, self._running)

    def stop(self) -> None:
        """Ends what `run` has started."""
        if self._running is not None:
            self._running.cancel()

    async def _run(self, signals: Signals, scope: anyio.CancelScope) -> None:
        with scope:
            async with anyio.create_task_group() as group:
                group.start_soon(self._send, signals)
                group.start_soon(self._receive, signals)
                for inboxes in self._inboxes.values():
                    for inbox in inboxes:
                        group.start_soon(inbox.run)

    async def _send(self, signals: Signals) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            unsent, self._unsent = self._unsent, {}
            texts = [*_texts(unsent)]
            await signals.send(texts)
            self._counts.signals_sent += len(texts)

    async def _receive(self, signals: Signals) -> None:
        async for text in signals.received():
            if text is None:
                for inboxes in self._inboxes.values():
                    for inbox in inboxes:
                        inbox.put(None)
                continue
            self._counts.signals_received += 1
            for line in text.splitlines():  # any role that may connect to the database can send any text
                kind, *ids = line.split() or [""]
                for inbox in self._inboxes.get(kind, ()):  # type: ignore[call-overload]  # an unknown kind has none
                    inbox.put({*ids})


def _texts(unsent: Mapping[Kind, Mapping[str, None]]) -> Iterator[str]:
    """The fewest texts that name all ids, a line for each kind."""
    lines: list[str] = []
    size = 0
    for kind, ids in unsent.items():
        line = str(kind)
        for one in ids:
            if size + len(line) + len(one) + 2 > MOST_BYTES:
                yield "\n".join([*lines, line])
                lines, line, size = [], str(kind), 0
            line = f"{line} {one}"
        lines.append(line)
        size += len(line) + 1
    if lines:
        yield "\n".join(lines)
