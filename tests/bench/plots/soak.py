"""Memory, descriptors, tasks and latency over a soak, from its report of JSON lines."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from tests.bench.plots import chart
from tests.bench.plots.chart import Panel, Points, from_zero


class Look(Struct):
    """A line of the report."""

    at: float
    rss_mb: float
    descriptors: float
    tasks: float
    p50_ms: float
    p99_ms: float


def read(report: Path) -> Sequence[Look]:
    """The lines of a report that are looks; others tell of what happened."""
    lines = [line for line in report.read_bytes().splitlines() if b'"rss_mb"' in line]
    return [msgspec.json.decode(line, type=Look) for line in lines]


def drawn(looks: Sequence[Look]) -> str:
    """The document."""
    names = ("memory, MB", "p50 of a turn, ms", "p99 of a turn, ms", "descriptors", "tasks")

    def points(field: str) -> Points:
        return [(look.at / 60, getattr(look, field)) for look in looks]

    x = from_zero("minutes", max(look.at for look in looks) / 60)
    panels = [
        Panel("Memory", x, from_zero("MB", max(look.rss_mb for look in looks)), [points("rss_mb"), [], [], [], []]),
        Panel(
            "Latency",
            x,
            from_zero("ms", max(look.p99_ms for look in looks)),
            [[], points("p50_ms"), points("p99_ms"), [], []],
        ),
        Panel(
            "What is open",
            x,
            from_zero("descriptors, tasks", max(max(look.descriptors, look.tasks) for look in looks)),
            [[], [], [], points("descriptors"), points("tasks")],
        ),
    ]
    return chart.drawn(panels, names)
