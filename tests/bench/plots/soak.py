"""Memory, latency, descriptors, tasks and turns over a soak, from its report of JSON lines."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from tests.bench.plots import chart
from tests.bench.plots.chart import Panel, Points, by_factors, from_zero

POINTS = 120
NAMES = {
    "rss_mb": "memory",
    "p50_ms": "p50 of a turn",
    "p99_ms": "p99 of a turn",
    "descriptors": "descriptors",
    "tasks": "tasks",
    "turns": "turns",
}
"""What is drawn, and what its line is called."""


class Look(Struct):
    """A line of the report."""

    at: float
    rss_mb: float
    descriptors: float
    tasks: float
    turns: float
    p50_ms: float
    p99_ms: float


def read(report: Path) -> Sequence[Look]:
    """The lines of a report that are looks; others tell of what happened."""
    lines = [line for line in report.read_bytes().splitlines() if b'"rss_mb"' in line]
    return [msgspec.json.decode(line, type=Look) for line in lines]


def thinned(looks: Sequence[Look]) -> Sequence[Look]:
    """The medians of so many groups of looks that follow each other."""
    count = min(POINTS, len(looks))
    edges = [n * len(looks) // count for n in range(count + 1)]
    groups = [[astuple(look) for look in looks[a:b]] for a, b in pairwise(edges)]
    return [Look(*map(median, zip(*group, strict=True))) for group in groups]


def drawn(looks: Sequence[Look]) -> str:
    """The document."""
    looks = thinned(looks)
    x = from_zero("minutes", max(look.at for look in looks) / 60)

    def lines(*fields: str) -> list[Points]:
        """Of a panel that shows these."""
        return [[(look.at / 60, getattr(look, field)) for look in looks] if field in fields else [] for field in NAMES]

    def most(*fields: str) -> float:
        return float(max(getattr(look, field) for look in looks for field in fields))

    times = [max(1.0, ms) for look in looks for ms in (look.p50_ms, look.p99_ms)]
    panels = [
        Panel("Memory", x, from_zero("MB", most("rss_mb")), lines("rss_mb")),
        Panel("Latency", x, by_factors("ms", times), lines("p50_ms", "p99_ms")),
        Panel("What is open", x, from_zero("count", most("descriptors", "tasks")), lines("descriptors", "tasks")),
        Panel("Turns", x, from_zero("done so far", most("turns")), lines("turns")),
    ]
    return chart.drawn(panels, [*NAMES.values()])
