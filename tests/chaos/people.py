"""The person who answers what the engine asks."""

import random
from functools import partial
from typing import Any

from tests.chaos.client import Client
from tests.chaos.model import LABEL, Model
from tests.disturbed import people


async def person(client: Client) -> None:
    """Answers all questions until the task is cancelled."""
    LABEL.set("the person")
    await people.person(client, client.model, partial(choice, client.model))


def choice(model: Model, question: people.Question, dice: random.Random) -> dict[str, Any]:
    """An answer by dice."""
    if question["kind"] == "unknown_outcome":
        word = dice.choice(("retry", "mark_done", "fail"))
        if word == "retry" and question["tool"] == "pay":
            model.retries[question["input"]["amount"]] += 1
        return {"answers": [word]}
    word = dice.choices(("approve", "reject", "edit"), (6, 2, 2))[0]
    if word == "edit" and question["tool"] == "sign":
        return {"answers": ["approve"], "input": {"name": f"{question['input']['name']}-edited"}}
    return {"answers": ["reject" if word == "reject" else "approve"], "reason": "by dice"}
