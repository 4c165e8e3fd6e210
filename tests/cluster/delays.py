"""How long after the client of a turn a follower sees its events: on the same node, and on another one."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from tests.cluster.client import Client
from tests.cluster.history import History
from tests.cluster.nodes import Nodes
from tests.cluster.scripts import paced

TURNS = 4
"""Turns that are followed at the same time."""
PIECES = 60
GAP = 0.05
REPEATS = 6
CHAT = "/schemas/chat/chat"
MOST_REACH = 0.5
"""The longest median time that a cancel, an answer or a message takes to a turn on another node of a busy machine.

On a machine of its own it is below 0.2 s; without signals it is that of a look a second."""
MOST_P50 = 0.3
"""The longest median delay of a follower on another node: one that is not woken waits for the next look."""


class _Turn(NamedTuple):
    """A turn's session, and when its client saw each event."""

    session_id: str
    times: dict[int, float]

    def has(self, history: History, name: str) -> bool:
        """Whether its client has seen an event of that name."""
        return self._numbers(history, name) != []

    def first(self, history: History, name: str) -> float:
        """When its client saw the first event of that name; never, if it saw none."""
        return min((self.times[n] for n in self._numbers(history, name)), default=float("inf"))

    def _numbers(self, history: History, name: str) -> list[int]:
        frames = history.frames[self.session_id]
        return [n for n in sorted(self.times) if f"event: {name}\n".encode() in frames[n]]


async def measure(nodes: Nodes, history: History) -> None:
    """Follows paced turns from the node that runs them and from another one, while nothing else is done."""
    client = Client(nodes.balancer.port, history, "delays")
    async with asyncio.TaskGroup() as group:
        for n in range(TURNS):
            owner, other = nodes[n % len(nodes)], nodes[(n + 1) % len(nodes)]
            group.create_task(_follow(client, history, owner.port, other.port))
    if values := history.waits["follower on another node"]:
        p50 = sorted(values)[len(values) // 2]
        history.check(p50 <= MOST_P50, f"a follower on another node is {p50:.3f} s behind")


async def reach(nodes: Nodes, history: History) -> None:
    """How long what one node is sent takes to the turn that another one runs, while nothing else is done."""
    client = Client(nodes.balancer.port, history, "reach")
    acts = (_cancel, _steer, _respond, _queue)
    for n in range(REPEATS):
        owner, other = nodes[n % len(nodes)].port, nodes[(n + 1) % len(nodes)].port
        async with asyncio.TaskGroup() as group:
            for act in acts:
                group.create_task(act(client, history, owner, other))
    for act in acts:
        name = _name(act.__name__[1:], len(nodes) > 1)
        values = sorted(history.waits[name])
        fine = len(values) == REPEATS and values[len(values) // 2] <= MOST_REACH
        history.check(fine, f"{name} takes {percentiles(values)}")


def _name(act: str, apart: bool) -> str:
    return f"{act} at {'another' if apart else 'the same'} node"


@asynccontextmanager
async def _running(client: Client, owner: int, steps: str) -> AsyncIterator[_Turn]:
    """A turn that runs on one node, once it has sent some events; its stream has ended afterwards."""
    turn = _Turn(client.uuid(), {})
    body = {"message": f"play {client.mark()} {steps}", "session_id": turn.session_id}
    async with asyncio.TaskGroup() as group:
        talk = group.create_task(client.stream("POST", CHAT, body, port=owner, times=turn.times))
        while len(turn.times) < 2 and not talk.done():
            await asyncio.sleep(0.005)
        yield turn


async def _cancel(client: Client, history: History, owner: int, other: int) -> None:
    async with _running(client, owner, paced(client.mark(), PIECES, GAP)) as turn:
        began = time.monotonic()
        await client.send("POST", f"/sessions/{turn.session_id}/cancel", port=other)
    history.waits[_name("cancel", owner != other)].append(turn.first(history, "done") - began)


async def _steer(client: Client, history: History, owner: int, other: int) -> None:
    async with _running(client, owner, paced(client.mark(), PIECES // 2, GAP)) as turn:
        began = time.monotonic()
        body = {"message": f"steer {client.mark()}", "session_id": turn.session_id, "on_busy": "steer"}
        await client.stream("POST", CHAT, body, port=other)
    history.waits[_name("steer", owner != other)].append(turn.first(history, "steer") - began)


async def _respond(client: Client, history: History, owner: int, other: int) -> None:
    mark = client.mark()
    steps = f'[["one ", ["sign", {{"mark": "{mark}", "seconds": 0}}]], ["two "]]'
    async with _running(client, owner, steps) as turn:
        while not turn.has(history, "confirmation"):
            await asyncio.sleep(0.005)
        inbox = await client.insist("GET", "/approvals?limit=200", port=other)
        question = next(one for one in inbox.json["data"] if one["session_id"] == turn.session_id)
        began = time.monotonic()
        await client.send("POST", f"/approvals/{question['id']}/respond", {"answers": ["approve"]}, port=other)
    history.waits[_name("respond", owner != other)].append(turn.first(history, "tool_result") - began)


async def _queue(client: Client, history: History, owner: int, other: int) -> None:
    async with _running(client, owner, paced(client.mark(), PIECES // 2, GAP)) as turn:
        body = {"message": f"play {client.mark()} {paced(client.mark(), 3, GAP)}", "session_id": turn.session_id}
        times: dict[int, float] = {}
        await client.stream("POST", CHAT, body, port=other, times=times)
    history.waits[_name("queue", owner != other)].append(min(times.values()) - turn.first(history, "done"))


async def _follow(client: Client, history: History, owner: int, other: int) -> None:
    mark = client.mark()
    session_id = client.uuid()
    body = {"message": f"play {mark} {paced(mark, PIECES, GAP)}", "session_id": session_id}
    own: dict[int, float] = {}
    seen: dict[str, dict[int, float]] = {"follower on the same node": {}}
    if owner != other:
        seen["follower on another node"] = {}
    async with asyncio.TaskGroup() as group:
        talk = client.stream("POST", CHAT, body, port=owner, times=own)
        turn = group.create_task(talk)
        while not own and not turn.done():
            await asyncio.sleep(0.005)
        joined = time.monotonic()
        for name, port in zip(seen, (owner, other), strict=False):
            path = f"/sessions/{session_id}/events"
            group.create_task(client.stream("GET", path, session_id=session_id, port=port, times=seen[name]))
    for name, times in seen.items():
        # what a follower reads of the time before it came is no delay
        history.waits[name] += [at - own[n] for n, at in times.items() if n in own and own[n] > joined + 0.5]


def percentiles(values: Sequence[float]) -> str:
    """A line about some durations."""
    if not values:
        return "none"
    order = sorted(values)
    p50, p99 = order[len(order) // 2], order[min(len(order) - 1, int(len(order) * 0.99))]
    return f"p50 {1000 * p50:.1f} ms, p99 {1000 * p99:.1f} ms, most {1000 * order[-1]:.1f} ms of {len(order)}"
