"""What the model is to do for a message, and what it must have said then."""

import json
import random
from typing import Any

Step = list[Any]
PACE = (0.02, 0.12)
"""Seconds between two pieces of text."""


def script(dice: random.Random, mark: str, *, calls: bool = True, pieces: int = 12) -> str:
    """Steps with text at a pace and calls of tools; each piece of text stands once in all scripts."""
    steps: list[Step] = []
    for n in range(dice.choice((0, 1, 1, 2)) if calls else 0):
        steps.append([*_text(dice, f"{mark}.{n}", dice.randint(1, pieces)), _call(dice, f"{mark}.{n}")])
    steps.append([*_text(dice, f"{mark}.{len(steps)}", dice.randint(1, pieces)), f"{mark}.end "])
    return json.dumps(steps)


def paced(mark: str, pieces: int, gap: float) -> str:
    """One answer of so many pieces, each as long behind the one before."""
    return json.dumps([[item for n in range(pieces) for item in (gap, f"{mark}.{n} ")]])


def text_of(message: str) -> str:
    """All that the model says for a message."""
    steps = json.loads(message[message.index("[[") :])
    return "".join(item for step in steps for item in step if isinstance(item, str))


def _call(dice: random.Random, mark: str) -> Step:
    tool = dice.choices(("count", "look", "sign"), (5, 3, 2))[0]
    return [
        tool,
        {"mark": mark, "seconds": round(dice.choice((0.0, dice.uniform(0.05, 1.0), dice.uniform(0.5, 3.0))), 3)},
    ]


def _text(dice: random.Random, mark: str, pieces: int) -> Step:
    items: Step = []
    for n in range(pieces):
        items += [round(dice.uniform(*PACE), 3), f"{mark}.{n} "]
    return items
