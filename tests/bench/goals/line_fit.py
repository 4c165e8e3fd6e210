"""A line through points, and how sure its slope is."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist, fmean, linear_regression
from typing import NamedTuple


class Fit(NamedTuple):
    """A slope, and half of its 95 % confidence interval."""

    slope: float
    half_width: float


def fit(x: Sequence[float], y: Sequence[float], batches: int) -> Fit:
    """The line through the means of so many batches of points that follow each other, as far as there are so many."""
    count = min(batches, len(x))
    edges = [n * len(x) // count for n in range(count + 1)]
    pairs = list(pairwise(edges))
    means_x, means_y = ([fmean(values[a:b]) for a, b in pairs] for values in (x, y))
    slope, intercept = linear_regression(means_x, means_y)
    rest = sum((b - intercept - slope * a) ** 2 for a, b in zip(means_x, means_y, strict=True))
    middle = fmean(means_x)
    spread = sum((a - middle) ** 2 for a in means_x)
    return Fit(slope, quantile(count - 2) * (rest / (count - 2) / spread) ** 0.5)


def quantile(freedom: int) -> float:
    """Of Student's t, 97.5 % (the expansion of Abramowitz and Stegun, 26.7.5; 1 % off at 3 degrees of freedom)."""
    z = NormalDist().inv_cdf(0.975)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
