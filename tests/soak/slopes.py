"""Whether figures grow: slopes within the life of each process, with their confidence intervals."""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tests.bench.goals.line_fit import quantile
from tests.soak.samples import Sample

WARM = 0.25
"""The part of the life of a process, at most `MOST_WARM` seconds, in which its caches fill."""
MOST_WARM = 180.0
BIN = 6
"""Samples that are taken together: neighbours are alike, and would make the intervals too narrow."""
FEWEST = 5
"""Bins of a process that have a slope."""


class Figure(NamedTuple):
    """A figure, how those of a bin become one, how much it may grow in an hour and in one life, and why it may."""

    name: str
    of_bin: str
    most: float
    most_of_life: float
    relative: bool
    reason: str


FIGURES = (
    Figure("rss_mb", "median", 48.0, 4.0, False, "caches fill: pages of SQLite as the file grows, prepared statements"),
    Figure("descriptors", "min", 12.0, 5.0, False, "connections of the moment"),
    Figure("tasks", "min", 12.0, 5.0, False, "requests of the moment"),
    Figure("p50_ms", "median", 0.25, 0.1, True, "the file and the sessions grow"),
    Figure("p99_ms", "median", 0.5, 0.2, True, "the file and the sessions grow"),
)
"""For those that go up and down with the work of the moment, the least of a bin: what leaks is never less."""


class Slope(NamedTuple):
    """How much a figure grows in an hour, the half of its 95 % interval, its mean, and the longest life in hours."""

    hour: float
    half: float
    mean: float
    longest: float


def slopes(samples: Sequence[Sample], name: str, of_bin: str) -> list[Slope]:
    """A slope for each process that lived for long enough, and the one that all have in common."""
    lives = [
        life for number in sorted({one.engine for one in samples}) if (life := _bins(samples, number, name, of_bin))
    ]
    made = [_slope([life]) for life in lives]
    return [*made, _slope(lives)] if lives else []


def _bins(samples: Sequence[Sample], number: int, name: str, of_bin: str) -> list[tuple[float, float]]:
    """Hours and values."""
    own = [one for one in samples if one.engine == number]
    begun, ended = own[0].at, own[-1].at
    warm = begun + min(MOST_WARM, WARM * (ended - begun))
    own = [one for one in own if one.at >= warm]
    combine = statistics.median if of_bin == "median" else min
    found = [own[at : at + BIN] for at in range(0, len(own) - BIN + 1, BIN)]
    values = [
        (statistics.mean(x.at for x in one) / 3600, combine([float(getattr(x, name)) for x in one])) for one in found
    ]
    return values if len(values) >= FEWEST else []


def _slope(lives: Sequence[Sequence[tuple[float, float]]]) -> Slope:
    """Least squares, with one slope for all and a level for each life."""
    sxx = sxy = 0.0
    centred: list[tuple[float, float]] = []
    for life in lives:
        mx, my = (statistics.mean(one[n] for one in life) for n in (0, 1))
        centred += [(x - mx, y - my) for x, y in life]
    sxx = sum(x * x for x, _ in centred)
    sxy = sum(x * y for x, y in centred)
    slope, freedom = sxy / sxx, len(centred) - len(lives) - 1
    longest = max(life[-1][0] - life[0][0] for life in lives)
    rest = sum((y - slope * x) ** 2 for x, y in centred)
    half = quantile(freedom) * math.sqrt(rest / freedom / sxx)
    return Slope(slope, half, statistics.mean(y for life in lives for _, y in life), longest)


def verdicts(samples: Sequence[Sample]) -> Iterator[tuple[str, bool]]:
    """Lines about each figure, and whether it grows more than it may."""
    if not any(slopes(samples, one.name, one.of_bin) for one in FIGURES):
        yield "too few samples for slopes", False
        return
    yield f"{'growth an hour, 95 %':<22}{'each process, then all':<60}", False
    for figure in FIGURES:
        *each, common = slopes(samples, figure.name, figure.of_bin)
        unit, least = common.mean if figure.relative else 1.0, common.hour - common.half
        most = figure.most * unit
        grows = least > most and least * common.longest > figure.most_of_life * unit
        words = (
            f"{figure.name:<14}" + "".join(f"{_interval(one):>20}" for one in each) + f"  all{_interval(common):>20}"
        )
        yield f"{words} of {common.mean:.2f}: {_words(figure, common, most, grows=grows)}", grows


def _words(figure: Figure, slope: Slope, most: float, *, grows: bool) -> str:
    if grows:
        return f"GROWS by more than {most:.3g} an hour"
    if abs(slope.hour) <= slope.half:
        return "indistinguishable from 0"
    if slope.hour - slope.half > most:
        return "the lives are too short to tell"
    return "falls" if slope.hour < 0 else f"small, at most {most:.3g}: {figure.reason}"


def _interval(slope: Slope) -> str:
    return f"{slope.hour:+.2f} ± {slope.half:.2f}"


def counted(title: str, counts: Iterable[tuple[str, int]]) -> str:
    """A line of counts."""
    return f"{title}: {', '.join(f'{name} {count:,}' for name, count in counts)}"
