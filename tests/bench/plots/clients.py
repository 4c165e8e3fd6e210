"""Turns a second and the slowest of them against the number of clients: engine, floor and peers."""

from collections.abc import Sequence
from typing import NamedTuple

import uvloop

from tests.bench import load
from tests.bench.figures import percentile
from tests.bench.load import Wire
from tests.bench.plots import chart
from tests.bench.plots.chart import Panel, by_factors

CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Point(NamedTuple):
    """What so many clients got."""

    clients: int
    per_second: float
    p99_ms: float

    def __str__(self) -> str:
        return f"{self.clients:>11}{self.per_second:>11,.0f}{self.p99_ms:>11,.1f}"


def point(wire: Wire, clients: int, seconds: float) -> Point:
    """Turns of clients that never pause; who is refused asks again, and its time goes on."""
    turns, took = uvloop.run(load.turn_after_turn([wire] * clients, seconds, patient=True))
    return Point(clients, len(turns) / took, percentile([turn.total * 1000 for turn in turns], 99))


def drawn(curves: Sequence[tuple[str, Sequence[Point]]]) -> str:
    """The document."""
    every = [one for _, points in curves for one in points]
    x = by_factors("clients that never pause", CLIENTS, 2)
    rates = by_factors("turns a second", [one.per_second for one in every])
    waits = by_factors("p99 of a turn of 50 deltas, ms", [one.p99_ms for one in every])
    panels = [
        Panel("Turns", x, rates, [[(one.clients, one.per_second) for one in points] for _, points in curves]),
        Panel("Slowest turns", x, waits, [[(one.clients, one.p99_ms) for one in points] for _, points in curves]),
    ]
    return chart.drawn(panels, [name for name, _ in curves])
