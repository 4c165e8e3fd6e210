"""The table: one line for each figure, with its target and whether that is met."""

from typing import NamedTuple


class Target(NamedTuple):
    """A bound in words, and whether it is kept."""

    words: str
    met: bool


class Line(NamedTuple):
    """A figure of two things that were measured side by side, or of the engine alone."""

    name: str
    base: float | None
    engine: float
    target: Target | None = None

    def __str__(self) -> str:
        ratio = self.engine / self.base if self.base else None
        text = f"  {self.name:<34}{_number(self.base)}{_number(self.engine)}{_number(ratio)}"
        if self.target is not None:
            text += f"   {self.target.words:<28}{'ok' if self.target.met else 'MISSED'}"
        return text.rstrip()


class Heading(NamedTuple):
    """The head of a part of the table: what was done, and to what."""

    name: str
    base: str = "floor"
    engine: str = "engine"

    def __str__(self) -> str:
        return f"\n{self.name:<36}{self.base:>11}{self.engine:>11}{'ratio':>11}   target"


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that so many percent of the values do not exceed."""
    return sorted(values)[-(-len(values) * percent // 100) - 1]


def _number(value: float | None) -> str:
    if value is None:
        return " " * 11
    return f"{value:>11,.0f}" if abs(value) >= 100 else f"{value:>11.2f}"
