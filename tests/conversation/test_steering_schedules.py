"""Whatever is sent to a session in whatever order: each message is answered once, in the order that is promised."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from bytebrew import Http, MessageDelta, ModelRequest, Provider, ProviderEvent, Stop, ToolCall
from bytebrew.engine import Engine
from bytebrew.testing import chat, providing, scripted_schema, served_engine

SENDS = ("steer", "queue", "interrupt")
MOVES = ("say", "tool", "cancel")


class Led(Provider):
    """A model that makes each step when it is told which: text, or a tool call."""

    type = "scripted"

    def __init__(self) -> None:
        self.orders: asyncio.Queue[str] = asyncio.Queue()
        self.waiting = 0

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        self.waiting += 1
        try:
            order = await self.orders.get()
        finally:
            self.waiting -= 1
        yield MessageDelta(content="well ")
        if order == "tool":
            yield ToolCall("current_time", {})
        yield Stop()


@dataclass
class Lane:
    """What is promised: which messages are answered in which order, and which of them by the turn of another.

    `left` are messages that were to steer a turn that has ended.
    """

    current: int | None = None
    steers: list[int] = field(default_factory=list)
    left: deque[int] = field(default_factory=deque)
    plain: deque[int] = field(default_factory=deque)
    history: list[int] = field(default_factory=list)
    absorbed: set[int] = field(default_factory=set)

    def send(self, message: int, on_busy: str) -> None:
        """A message is sent."""
        if self.current is None:
            self._begin(message)
        elif on_busy == "interrupt":
            self._end(deque([message]))
        elif on_busy == "steer":
            self.steers.append(message)
        else:
            self.plain.append(message)

    def move(self, move: str) -> None:
        """The turn that runs makes a step, or is cancelled."""
        if self.current is None:
            return
        if move != "cancel" and self.steers:
            self.history += self.steers
            self.absorbed |= {*self.steers}
            self.steers = []
        elif move != "tool":
            self._end(deque())

    def _begin(self, message: int) -> None:
        self.current = message
        self.history.append(message)

    def _end(self, urgent: deque[int]) -> None:
        self.left.extend(self.steers)
        self.steers, self.current = [], None
        if following := next(filter(None, (urgent, self.left, self.plain)), None):
            self._begin(following.popleft())


async def settled(engine: Engine, model: Led, session_id: str) -> None:
    """Returns once the model waits for an order, or nothing runs."""

    def busy() -> bool:
        lane = engine.runner.lanes.get(session_id)
        if lane is None:
            return False
        admitted = all(turn.admitted.done() for turn in engine.runner.turns.values())
        return not (admitted and model.waiting and model.orders.empty() and lane.current.cancelled_for is None)

    while busy():
        await asyncio.sleep(0.001)


async def sent(engine: Engine, client: httpx.AsyncClient, session_id: str, n: int, on_busy: str) -> asyncio.Task[Any]:
    """A message, once it is stored and has its place."""
    before = {*engine.runner.turns}
    task = asyncio.create_task(chat(client, "test", str(n), session_id=session_id, on_busy=on_busy))
    while not (new := engine.runner.turns.keys() - before) and not task.done():
        await asyncio.sleep(0.001)
    for turn_id in new:
        if (turn := engine.runner.turns.get(turn_id)) is not None:
            await asyncio.wait([turn.admitted])
    return task


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from((*SENDS, *SENDS, *MOVES)), min_size=1, max_size=14))
async def test_every_message_is_answered_once_and_in_the_promised_order(schedule: list[str]) -> None:
    model, lane = Led(), Lane()
    answers: list[asyncio.Task[Any]] = []
    async with served_engine(providing(model)) as (engine, client), asyncio.timeout(20):
        await scripted_schema(engine, tools=("current_time",), max_steps=100)
        session_id = "019c0000-0000-7000-8000-000000000001"
        for one in (*schedule, *["say"] * 2 * len(schedule)):
            if one in SENDS:
                answers.append(await sent(engine, client, session_id, len(answers), one))
                lane.send(len(answers) - 1, one)
            elif one == "cancel":
                await client.post(f"/api/v1/sessions/{session_id}/cancel")
                lane.move(one)
            elif lane.current is not None:
                model.orders.put_nowait(one)
                lane.move(one)
            await settled(engine, model, session_id)
        assert lane.current is None
        ends = [(await task)[-1].event for task in answers]
        stored = (await client.get(f"/api/v1/sessions/{session_id}/messages")).json() if answers else []
        rows = await engine.db.read(lambda conn: conn.execute("select message, status from turns").fetchall())
    assert ends == ["done"] * len(answers)
    assert [int(message["content"]) for message in stored if message["role"] == "user"] == lane.history
    assert {int(row["message"]) for row in rows if row["status"] == "absorbed"} == lane.absorbed
    assert not {row["status"] for row in rows} & {"queued", "running"}
