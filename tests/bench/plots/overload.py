"""Draws the curves of an overload."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.bench.plots import chart
from tests.bench.plots.chart import Axis, Panel, from_zero


class Curve(NamedTuple):
    """A kind of turns, and what became of them at each rate: points with `offered`, `done` and `p99`."""

    name: str
    points: Sequence[Any]


def drawn(curves: Sequence[Curve]) -> str:
    """The document: on the left what was done of what was offered, on the right the slowest turns.

    Both as multiples: of the most that was done in a second, and of the p99 at the lowest rate.
    """
    longest = max(3.0, *(one.offered / _most(curve) for curve in curves for one in curve.points))
    slowest = max(2.5, *(_slow(curve, one) for curve in curves for one in curve.points))
    x = Axis("offered, of the most that can be done", 0, longest, range(int(longest) + 1))
    done = [[(one.offered / _most(curve), one.done / _most(curve)) for one in curve.points] for curve in curves]
    slow = [[(one.offered / _most(curve), _slow(curve, one)) for one in curve.points] for curve in curves]
    panels = [
        Panel("Turns done", x, from_zero("done, of the most that can be", 1.2), done, [(0, 0), (1, 1), (longest, 1)]),
        Panel("p99 of turns done", x, from_zero("p99, of p99 unloaded", slowest), slow, [(0, 2), (longest, 2)]),
    ]
    return chart.drawn(panels, [curve.name for curve in curves])


def _slow(curve: Curve, one: Any) -> float:
    return float(one.p99 / curve.points[0].p99)


def _most(curve: Curve) -> float:
    return max(float(one.done) for one in curve.points)
