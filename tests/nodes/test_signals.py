"""Signals between nodes: sent together, split where a text is full, and followed by each receiver."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import anyio

from bytebrew.base.errors import StorageError
from bytebrew.contract.governance.nodes import NodeFigures
from bytebrew.contract.storage.store import Signals
from bytebrew.nodes.signals import MOST_BYTES, Ids, SignalCentre


class Wire(Signals):
    """Signals that the test receives, and sends as another node."""

    def __init__(self) -> None:
        self.sent: list[Sequence[str]] = []
        self.texts: asyncio.Queue[str | None] = asyncio.Queue()
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.sends = asyncio.Event()

    async def send(self, texts: Sequence[str]) -> None:
        self.sends.set()
        await self.may_send.wait()
        self.sent.append(texts)

    async def received(self) -> AsyncIterator[str | None]:
        while True:
            yield await self.texts.get()


class Inbox:
    """A receiver that remembers, and fails as often as it should."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.calls: asyncio.Queue[Ids] = asyncio.Queue()

    async def __call__(self, ids: Ids) -> None:
        self.calls.put_nowait(ids)
        if self.fails:
            self.fails -= 1
            raise StorageError("The database is away")


async def test_signals_of_one_turn_of_the_loop_are_sent_together_and_once_each() -> None:
    wire = Wire()
    centre = SignalCentre(wire, NodeFigures())
    async with anyio.create_task_group() as group:
        centre.run(group)
        wire.may_send.clear()
        centre.send("events", "a")
        centre.send("events", "b", "a")
        centre.send("requests", "c")
        await wire.sends.wait()
        centre.send("events", "d")
        centre.send("events", "d", "e")
        wire.may_send.set()
        while len(wire.sent) < 2:
            await anyio.sleep(0)
        centre.stop()
    assert wire.sent == [["events a b\nrequests c"], ["events d e"]]


async def test_a_text_that_is_full_is_followed_by_another() -> None:
    wire = Wire()
    centre = SignalCentre(wire, NodeFigures())
    ids = [f"{n:036d}" for n in range(1000)]
    async with anyio.create_task_group() as group:
        centre.run(group)
        centre.send("requests", "x")
        centre.send("events", *ids)
        while not wire.sent:
            await anyio.sleep(0)
        centre.stop()
    (texts,) = wire.sent
    assert len(texts) == 5
    assert all(len(text) <= MOST_BYTES for text in texts)
    named = [line.split() for text in texts for line in text.splitlines()]
    assert [one for kind, *found in named for one in found if kind == "events"] == ids
    assert ["requests", "x"] in named


async def test_receivers_are_called_with_the_ids_of_their_kind_and_with_none_if_any_may_be_lost() -> None:
    wire, events, others = Wire(), Inbox(fails=1), Inbox()
    centre = SignalCentre(wire, NodeFigures())
    centre.on("events", events)
    centre.on("requests", others)
    async with anyio.create_task_group() as group:
        centre.run(group)
        wire.texts.put_nowait("events a b\nunknown z\nrequests c")
        assert await events.calls.get() == {"a", "b"}
        assert await others.calls.get() == {"c"}
        wire.texts.put_nowait(None)
        assert await events.calls.get() is None  # although it has failed
        assert await others.calls.get() is None
        centre.stop()


async def test_a_text_that_no_node_has_sent_does_no_harm() -> None:
    wire, events = Wire(), Inbox()
    centre = SignalCentre(wire, NodeFigures())
    centre.on("events", events)
    async with anyio.create_task_group() as group:
        centre.run(group)
        for text in ("", " ", "\n\n", "\x0b", "\x1c \u2028", "events", "__class__ x", "events 'a' ; $1 ?"):
            wire.texts.put_nowait(text)
        assert await events.calls.get() <= {"'a'", ";", "$1", "?"}  # type: ignore[operator]  # all may have changed
        wire.texts.put_nowait("events b")
        while (ids := await events.calls.get()) != {"b"}:
            assert ids is not None
        centre.stop()


async def test_own_signals_reach_only_receivers_that_want_them() -> None:
    wire, own, others = Wire(), Inbox(), Inbox()
    centre = SignalCentre(wire, NodeFigures())
    centre.on("events", own, own=True)
    centre.on("events", others)
    async with anyio.create_task_group() as group:
        centre.run(group)
        centre.send("events", "a")
        assert await own.calls.get() == {"a"}
        wire.texts.put_nowait("events b")
        assert await others.calls.get() == {"b"}
        assert await own.calls.get() == {"b"}
        centre.stop()


async def test_without_other_nodes_nothing_runs() -> None:
    centre = SignalCentre(None, NodeFigures())
    centre.on("events", Inbox())
    centre.send("events", "a")
    before = asyncio.all_tasks()
    async with anyio.create_task_group() as group:
        centre.run(group)
        assert asyncio.all_tasks() == before
