"""How much Python a work takes, which no slow machine changes."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def lines(work: Callable[[], object]) -> int:
    """How many lines of Python a work takes."""
    found = 0

    def look(frame: FrameType, what: str, _: object) -> Any:
        nonlocal found
        found += what == "line"
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        work()
    finally:
        sys.settrace(before)
    return found
