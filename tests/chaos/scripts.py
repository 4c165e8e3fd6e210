"""What the models and the tools are to do, by dice."""

import json
import random
from collections.abc import Callable
from typing import Any

Step = list[Any]


def script(dice: random.Random, mark: Callable[[], int], *, child: bool = False) -> str:
    """Steps with text, waits and calls; every payment has an amount of its own."""
    steps: list[Step] = []
    for _ in range(dice.randint(0, 2)):
        calls = [call(dice, mark, child=child) for _ in range(dice.randint(1, 2))]
        steps.append([*_text(dice), *calls])
    return json.dumps([*steps, [*_text(dice), "."]])


def call(dice: random.Random, mark: Callable[[], int], *, child: bool = False) -> Step:
    """A tool with its input."""
    kind = dice.choices(("pay", "look", "sign", "spawn"), (45, 25, 15, 0 if child else 15))[0]
    slow = {"slow": round(dice.uniform(0.01, 0.4), 3)} if dice.random() < 0.4 else {}
    if kind == "pay":
        return ["pay", {"amount": mark(), **slow}]
    if kind == "look":
        return ["look", {"n": mark(), **slow}]
    if kind == "sign":
        return ["sign", {"name": f"n{mark()}"}]
    return ["spawn_helper", {"message": script(dice, mark, child=True)}]


def _text(dice: random.Random) -> Step:
    found: Step = []
    for n in range(dice.randint(0, 4)):
        found.append(f"word{n} \u00fc\u2028 ")
        if dice.random() < 0.4:
            found.append(round(dice.uniform(0.001, 0.15), 3))
    return found
