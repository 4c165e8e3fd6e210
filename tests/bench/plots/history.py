"""What a turn costs against the messages that its session already has."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import uvloop

from tests.bench import load
from tests.bench.data import configure, copied, multiply
from tests.bench.measures import Effort, Side, engine_wire, rates
from tests.bench.plots import chart
from tests.bench.plots.chart import Panel, by_factors, from_zero
from tests.bench.servers import Server, running_engine

TURNS = (5, 50, 500, 5000)
"""Of a session before, of two messages each."""
CLIENTS = 4


class Point(NamedTuple):
    """What a turn of a session with so many messages takes."""

    messages: int
    cpu_ms: float
    p50_ms: float
    p99_ms: float

    def __str__(self) -> str:
        return f"{self.messages:>11,}{self.cpu_ms:>11.2f}{self.p50_ms:>11.1f}{self.p99_ms:>11.1f}"


def measured(folder: Path, vendor: Server, effort: Effort) -> Iterator[Point]:
    """In rounds in which the lengths take turns; not the first turn of each session, which makes the summary."""
    with running_engine(folder / "short") as engine:
        session_id = configure(engine, vendor)
    data = copied(folder / "short", "long")
    ids = [multiply(data, session_id, CLIENTS, turns) for turns in TURNS]
    with running_engine(data) as engine:
        sides = [Side(engine, [engine_wire(engine, "burst", one) for one in some]) for some in ids]
        for side in sides:
            uvloop.run(load.turn_after_turn(side.wires, 0))
        for turns, rate in zip(TURNS, rates(sides, effort), strict=True):
            yield Point(2 * turns, rate.cpu_ms, rate.p50_ms, rate.p99_ms)


def drawn(points: Sequence[Point]) -> str:
    """The document."""
    x = by_factors("messages in the session", [one.messages for one in points])
    times = from_zero("a turn of 50 deltas, 4 clients, ms", max(one.p99_ms for one in points))
    costs = from_zero("CPU of a turn, ms", max(one.cpu_ms for one in points))
    panels = [
        Panel("Cost", x, costs, [[], [], [(one.messages, one.cpu_ms) for one in points]]),
        Panel(
            "Time",
            x,
            times,
            [[(one.messages, one.p50_ms) for one in points], [(one.messages, one.p99_ms) for one in points], []],
        ),
    ]
    return chart.drawn(panels, ["p50", "p99", "CPU of the engine"])
