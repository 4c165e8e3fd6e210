"""Draws panels of lines side by side, with one legend."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, TOP, GAP = 380, 240, 64, 60, 96
ROW = TOP + HEIGHT + 58
"""The height of a row of panels."""
LEGEND = 20
"""The height of a row of the legend."""
COLOURS = (
    ("#0969da", "#58a6ff"),
    ("#bc4c00", "#f0883e"),
    ("#1a7f37", "#3fb950"),
    ("#8250df", "#bc8cff"),
    ("#9a6700", "#d9a520"),
    ("#bf3989", "#ff7bc8"),
)
"""Of a line on a light page and on a dark one; told apart by people who see no red or green by their marks."""
STYLE = """
text { font: 13px sans-serif; fill: #222 }
.title { font-weight: bold }
.axis { stroke: #222; fill: none } .grid { stroke: #ddd } .ideal { stroke: #999; stroke-dasharray: 4 4; fill: none }
.line { stroke-width: 2.5 }
"""
DARK = "text { fill: #ddd } .axis { stroke: #ddd } .grid { stroke: #444 } .ideal { stroke: #888 }"

Points = Sequence[tuple[float, float]]


class Axis(NamedTuple):
    """What is written at an axis, from where to where it goes, and the marks on it; logarithmic with `log`."""

    label: str
    start: float
    end: float
    ticks: Sequence[float]
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value stands, from 0 to 1."""
        value = min(max(value, self.start), self.end)
        if self.log:
            return math.log(value / self.start) / math.log(self.end / self.start)
        return (value - self.start) / (self.end - self.start)


class Panel(NamedTuple):
    """A title, two axes, what the points of each line are, and a dashed line of how it would be at best."""

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Points]
    ideal: Points = ()


def from_zero(label: str, top: float) -> Axis:
    """A linear axis with about five marks, the last at its end."""
    step = next(step * 10.0**power for power in range(-3, 9) for step in (1, 2, 5) if top / step / 10.0**power <= 6)
    count = math.ceil(top / step - 1e-9)
    return Axis(label, 0, count * step, [n * step for n in range(count + 1)])


def by_factors(label: str, values: Sequence[float], base: int = 10) -> Axis:
    """A logarithmic axis over all values, from one power of the base to another."""
    low = math.floor(math.log(min(values), base) + 1e-9)
    high = max(low + 1, math.ceil(math.log(max(values), base) - 1e-9))
    return Axis(label, float(base) ** low, float(base) ** high, [float(base) ** n for n in range(low, high + 1)], True)


def drawn(panels: Sequence[Panel], names: Sequence[str]) -> str:
    """The document, two panels beside each other; the lines of each have these names."""
    wide = 2 * (LEFT + WIDTH) + GAP + 32
    below = -(-len(panels) // 2) * ROW
    rows = _rows(names, wide - 2 * LEFT)
    high = below + LEGEND * len(rows) + 16
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}">']
    parts.append(f"<style>{STYLE}{_coloured(0)}")
    parts.append(f"@media (prefers-color-scheme: dark) {{ {DARK} {_coloured(1)} }}</style>")
    for n, panel in enumerate(panels):
        parts += _panel(panel, LEFT + n % 2 * (WIDTH + GAP), n // 2 * ROW)
    for row, entries in enumerate(rows):
        y = below + 4 + row * LEGEND
        for number, x in entries:
            begin = LEFT + x
            parts.append(f'<line class="line c{number}" x1="{begin}" y1="{y - 4}" x2="{begin + 24}" y2="{y - 4}"/>')
            parts.append(_mark(number, begin + 12, y - 4))
            parts.append(f'<text x="{begin + 32}" y="{y}">{escape(names[number])}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _coloured(page: int) -> str:
    """The colours of the lines on a light page (0) or a dark one (1)."""
    rules = [f".c{n} {{ stroke: {pair[page]}; fill: {pair[page]} }}" for n, pair in enumerate(COLOURS)]
    return " ".join([*rules, ".line { fill: none }"])


def _rows(names: Sequence[str], wide: int) -> list[list[tuple[int, int]]]:
    """The legend: the number of each line and how far it stands to the right, in as many rows as are needed."""
    rows: list[list[tuple[int, int]]] = [[]]
    x = 0
    for number, name in enumerate(names):
        width = 60 + round(6.5 * len(name))
        if rows[-1] and x + width > wide:
            rows.append([])
            x = 0
        rows[-1].append((number, x))
        x += width
    return rows


def _panel(panel: Panel, x0: int, top: int) -> list[str]:
    y0 = top + TOP + HEIGHT

    def at(x: float, y: float) -> tuple[float, float]:
        return x0 + panel.x.at(x) * WIDTH, y0 - panel.y.at(y) * HEIGHT

    def path(points: Points) -> str:
        return "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))

    parts = [f'<text class="title" x="{x0}" y="{y0 - HEIGHT - 30}">{escape(panel.title)}</text>']
    parts.append(f'<text x="{x0}" y="{y0 - HEIGHT - 12}">{escape(panel.y.label)}</text>')
    for tick in panel.y.ticks:
        y = y0 - panel.y.at(tick) * HEIGHT
        parts.append(f'<line class="grid" x1="{x0}" y1="{y:.1f}" x2="{x0 + WIDTH}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{x0 - 8}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick in panel.x.ticks:
        x = x0 + panel.x.at(tick) * WIDTH
        parts.append(f'<text x="{x:.1f}" y="{y0 + 18}" text-anchor="middle">{_number(tick)}</text>')
    parts.append(f'<path class="axis" d="M{x0},{y0 - HEIGHT} L{x0},{y0} L{x0 + WIDTH},{y0}"/>')
    parts.append(f'<text x="{x0 + WIDTH}" y="{y0 + 38}" text-anchor="end">{escape(panel.x.label)}</text>')
    if panel.ideal:
        parts.append(f'<path class="ideal" d="{path(panel.ideal)}"/>')
    for number, points in enumerate(panel.lines):
        if points:
            parts.append(f'<path class="line c{number}" d="{path(points)}"/>')
        if len(points) <= MARKED:
            parts += [_mark(number, *at(*point)) for point in points]
    return parts


MARKED = 40
"""A line of more points is drawn without marks."""


def _mark(number: int, x: float, y: float) -> str:
    """A disc, a square, a diamond or a triangle by turns."""
    corners: Points
    match number % 4:
        case 0:
            return f'<circle class="c{number}" r="3.5" cx="{x:.1f}" cy="{y:.1f}"/>'
        case 1:
            return f'<rect class="c{number}" x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"/>'
        case 2:
            corners = ((0, -4.5), (4.5, 0), (0, 4.5), (-4.5, 0))
        case _:
            corners = ((0, -4.5), (4.5, 3.5), (-4.5, 3.5))
    around = " ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)
    return f'<polygon class="c{number}" points="{around}"/>'


def _number(value: float) -> str:
    return f"{value:,.10g}"
