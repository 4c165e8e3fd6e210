"""Memory and latency over many turns: whether they grow."""

from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

import uvloop

from tests.bench import load
from tests.bench.goals.line_fit import fit
from tests.bench.goals.table import Goal, Row
from tests.bench.goals.trees import Bench, engines, vendor
from tests.bench.measures import CLIENTS, engine_wire

WINDOW = 1.0
"""Seconds between two looks."""
SETTLED = 4
"""The first one of so many parts is left out: caches fill and the file gets its pages."""
BATCHES = 20
"""What follows each other closely is no new evidence: the line goes through so many means of batches (Law 1983)."""
PER = 100_000


class Look(NamedTuple):
    """How many turns were done so far, the memory then, and the median of the last turns."""

    turns: int
    rss_mb: float
    p50_ms: float


def endurance(bench: Bench) -> Iterator[object]:
    """New sessions from clients that never pause, until each tree has done its turns."""
    with vendor(bench) as double, engines(bench, double) as ours:
        looks: list[list[Look]] = [[] for _ in ours]
        wires = [[engine_wire(one, "burst")] * CLIENTS for one in ours]
        while not all(seen and seen[-1].turns >= bench.amounts.turns for seen in looks):
            for one, wire, seen in zip(ours, wires, looks, strict=True):
                turns, _ = uvloop.run(load.turn_after_turn(wire, WINDOW))
                done = len(turns) + (seen[-1].turns if seen else 0)
                seen.append(Look(done, one.rss_kb / 1024, median(turn.total * 1000 for turn in turns)))
    goal = Goal("<=", 1, "x margin")
    for name, which in (("memory, MB", "rss_mb"), ("p50, ms", "p50_ms")):
        lines = []
        for seen in looks:
            kept = seen[len(seen) // SETTLED :]
            lines.append(fit([one.turns / PER for one in kept], [getattr(one, which) for one in kept], BATCHES))
        slopes = [line.slope for line in lines]
        held = [line.slope / line.half_width if line.half_width else 0.0 for line in lines]
        yield Row(f"{bench.amounts.turns:,} turns: {name} per {PER:,}", None, slopes, held, goal)
