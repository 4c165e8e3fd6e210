"""Draws curves of an overload as SVG, readable on light and dark pages."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

WIDTH, HEIGHT, LEFT, TOP, GAP = 380, 240, 60, 60, 90
STYLE = """
text { font: 13px sans-serif; fill: #222 }
.title { font-weight: bold }
.axis { stroke: #222 } .grid { stroke: #ddd } .ideal { stroke: #999; stroke-dasharray: 4 4 }
.c0 { stroke: #0969da; fill: #0969da } .c1 { stroke: #bc4c00; fill: #bc4c00 }
path.c0, path.c1 { fill: none; stroke-width: 2.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd } .axis { stroke: #ddd } .grid { stroke: #444 } .ideal { stroke: #888 }
  .c0 { stroke: #58a6ff; fill: #58a6ff } .c1 { stroke: #f0883e; fill: #f0883e }
  path.c0, path.c1 { fill: none }
}
"""


class Curve(NamedTuple):
    """A kind of turns, and what became of them at each rate: points with `offered`, `done` and `p99`."""

    name: str
    points: Sequence[Any]


def drawn(curves: Sequence[Curve]) -> str:
    """The document: on the left what was done of what was offered, on the right the slowest turns.

    Both as multiples: of the most that was done in a second, and of the p99 at the lowest rate.
    """
    wide, high = LEFT * 2 + WIDTH * 2 + GAP, TOP * 2 + HEIGHT + 30
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}">']
    parts.append(f"<style>{STYLE}</style>")
    longest = max(one.offered / _most(curve) for curve in curves for one in curve.points)
    slowest = max(one.p99 / curve.points[0].p99 for curve in curves for one in curve.points)
    panels: list[tuple[str, str, float, Callable[[Curve, Any], float]]] = [
        ("Turns done", "done, of the most that can be", 1.2, lambda curve, one: one.done / _most(curve)),
        (
            "p99 of turns done",
            "p99, of p99 unloaded",
            max(2.5, slowest),
            lambda curve, one: one.p99 / curve.points[0].p99,
        ),
    ]
    for n, (title, label, top, value) in enumerate(panels):
        x0, y0 = LEFT + n * (WIDTH + GAP), TOP + HEIGHT
        right, step = max(3.0, longest), _step(top)

        def at(x: float, y: float, x0: float = x0, y0: float = y0, right: float = right, top: float = top) -> str:
            return f"{x0 + x / right * WIDTH:.1f},{y0 - min(y, top) / top * HEIGHT:.1f}"

        parts.append(f'<text class="title" x="{x0}" y="{TOP - 30}">{title}</text>')
        parts.append(f'<text x="{x0}" y="{TOP - 12}">{label}</text>')
        for tick in range(int(top / step) + 1):
            y = y0 - tick * step / top * HEIGHT
            parts.append(f'<line class="grid" x1="{x0}" y1="{y:.1f}" x2="{x0 + WIDTH}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{x0 - 8}" y="{y + 4:.1f}" text-anchor="end">{tick * step:g}</text>')
        for tick in range(int(right) + 1):
            x = x0 + tick / right * WIDTH
            parts.append(f'<text x="{x:.1f}" y="{y0 + 18}" text-anchor="middle">{tick}</text>')
        parts.append(f'<path class="axis" fill="none" d="M{x0},{TOP} L{x0},{y0} L{x0 + WIDTH},{y0}"/>')
        parts.append(
            f'<text x="{x0 + WIDTH}" y="{y0 + 38}" text-anchor="end">offered, of the most that can be done</text>'
        )
        ideal = [at(0, 0), at(1, 1), at(right, 1)] if n == 0 else [at(0, 2), at(right, 2)]
        parts.append(f'<path class="ideal" fill="none" d="M{" L".join(ideal)}"/>')
        for number, curve in enumerate(curves):
            line = [at(one.offered / _most(curve), value(curve, one)) for one in curve.points]
            parts.append(f'<path class="c{number}" d="M{" L".join(line)}"/>')
            parts += [
                f'<circle class="c{number}" r="3" cx="{x}" cy="{y}"/>' for x, y in (one.split(",") for one in line)
            ]
    for number, curve in enumerate(curves):
        x, y = LEFT + number * (WIDTH + GAP), TOP + HEIGHT + 66
        parts.append(f'<line class="c{number}" stroke-width="2.5" x1="{x}" y1="{y - 4}" x2="{x + 24}" y2="{y - 4}"/>')
        parts.append(f'<text x="{x + 32}" y="{y}">{curve.name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _slow(curve: Curve, one: Any) -> float:
    return float(one.p99 / curve.points[0].p99)


def _most(curve: Curve) -> float:
    return max(float(one.done) for one in curve.points)


def _step(top: float) -> float:
    """A round distance of the lines of a grid, about five to the whole."""
    return next(step for step in (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000, 10**9) if top / step <= 6)
