"""The person who answers what the nodes ask."""

import random
from functools import partial
from typing import Any

from tests.cluster.client import Client
from tests.cluster.history import History
from tests.disturbed import people

ALIKE = "approve", "approve", "approve", "reject"


async def person(client: Client) -> None:
    """Answers all questions, through any node, until the task is cancelled."""
    await people.person(client, client.history, partial(_choice, client.history))


def _choice(history: History, question: people.Question, dice: random.Random) -> dict[str, Any]:
    if question["kind"] == "unknown_outcome":
        answer = dice.choice(("retry", "mark_done", "fail"))
        if answer == "retry":
            history.retries[f"{question['turn_id']}:{question['call_id']}"] += 1
        return {"answers": [answer]}
    return {"answers": [dice.choice(ALIKE)]}
