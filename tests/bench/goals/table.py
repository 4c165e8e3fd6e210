"""The table of goals: what was measured on each side, what of it is held against a bound, and whether that is kept."""

from collections.abc import Sequence
from typing import Literal, NamedTuple


class Goal(NamedTuple):
    """A bound."""

    sign: Literal["<=", ">="]
    bound: float
    unit: str = ""

    def met(self, value: float) -> bool:
        """Whether a value keeps within the bound."""
        return value <= self.bound if self.sign == "<=" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g} {self.unit}".rstrip()


class Row(NamedTuple):
    """A figure: of the floor, where there is one, and of the engine of each tree; the last tree is the one of now."""

    work: str
    floor: float | None
    found: Sequence[float]
    judged: Sequence[float]
    goal: Goal | None = None

    @classmethod
    def ratio(cls, work: str, floor: float, found: Sequence[float], goal: Goal | None = None) -> "Row":
        """A figure that is held against the floor's as a multiple of it."""
        return cls(work, floor, found, [one / floor if floor else float("inf") for one in found], goal)

    @classmethod
    def added(cls, work: str, floor: float, found: Sequence[float], goal: Goal) -> "Row":
        """A figure of which only what goes beyond the floor's counts."""
        return cls(work, floor, found, [one - floor for one in found], goal)

    @classmethod
    def alone(cls, work: str, found: Sequence[float], goal: Goal, floor: float | None = None) -> "Row":
        """A figure that is held against the bound itself."""
        return cls(work, floor, found, found, goal)

    def __str__(self) -> str:
        figures = "".join(map(_number, (self.floor, *self.found)))
        held = "".join(f"{one:>9.2f}" for one in self.judged)
        text = f"{self.work:<{WIDTH}}{figures}  {held}"
        if self.goal is not None:
            text += f"  {self.goal!s:<17}{'ok' if self.goal.met(self.judged[-1]) else 'MISSED'}"
        return text.rstrip()


WIDTH = 45


def heading(trees: Sequence[str]) -> str:
    """The heads of the columns: what was measured, then what of it is held against the goal."""
    measured = "".join(f"{name:>11}" for name in ("floor", *trees))
    held = "".join(f"{name:>9}" for name in trees)
    return f"\n{'Goals':<{WIDTH}}{measured}  {held}  goal"


def _number(value: float | None) -> str:
    if value is None:
        return " " * 11
    return f"{value:>11,.0f}" if abs(value) >= 100 else f"{value:>11.2f}"
