"""How long after the client of a turn a follower sees its events: on the same node, and on another one."""

import asyncio
import time
from collections.abc import Sequence

from tests.cluster.client import Client
from tests.cluster.history import History
from tests.cluster.nodes import Nodes
from tests.cluster.scripts import paced

TURNS = 4
"""Turns that are followed at the same time."""
PIECES = 60
GAP = 0.05
MOST_P50 = 0.3
"""The longest median delay of a follower on another node: one that is not woken waits for the next look."""


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


async def _follow(client: Client, history: History, owner: int, other: int) -> None:
    mark = client.mark()
    session_id = client.uuid()
    body = {"message": f"play {mark} {paced(mark, PIECES, GAP)}", "session_id": session_id}
    own: dict[int, float] = {}
    seen: dict[str, dict[int, float]] = {"follower on the same node": {}}
    if owner != other:
        seen["follower on another node"] = {}
    async with asyncio.TaskGroup() as group:
        talk = client.stream("POST", "/schemas/chat/chat", body, port=owner, times=own)
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
