"""A person who answers what the engine asks, through any node, now and then twice."""

import asyncio
import random
from typing import Any

from tests.cluster.client import Client

ALIKE = "approve", "approve", "approve", "reject"


async def person(client: Client) -> None:
    """Answers all questions until the task is cancelled."""
    choices: dict[str, dict[str, Any]] = {}
    while True:
        await asyncio.sleep(0.4)
        inbox = await client.send("GET", "/approvals?limit=200")
        if inbox is None or inbox.status != 200:
            continue
        async with asyncio.TaskGroup() as group:
            for question in inbox.json["data"][:20]:
                if question["id"] not in choices:
                    choices[question["id"]] = _choice(client, question)
                group.create_task(_answer(client, question, choices[question["id"]]))


def _choice(client: Client, question: dict[str, Any]) -> dict[str, Any]:
    dice = random.Random(f"{client.history.seed} {question['tool']} {question['input']} {question['kind']}")
    if question["kind"] == "unknown_outcome":
        answer = dice.choice(("retry", "mark_done", "fail"))
        if answer == "retry":
            client.history.retries[f"{question['turn_id']}:{question['call_id']}"] += 1
        return {"answers": [answer]}
    return {"answers": [dice.choice(ALIKE)]}


async def _answer(client: Client, question: dict[str, Any], choice: dict[str, Any]) -> None:
    history, first = client.history, None
    for _ in range(2 if client.dice.random() < 0.3 else 1):
        if client.dice.random() < 0.5:
            answer = await client.send("POST", f"/approvals/{question['id']}/respond", choice)
        else:
            body = {"call_id": question["id"], **choice}
            answer = await client.send("POST", f"/sessions/{question['session_id']}/respond", body)
        if answer is None or answer.status in (404, 410, 503):
            return  # the session was deleted, the turn cancelled, or a node went away
        if answer.status != 200:
            history.violation(f"question {question['id']} with {choice}: {answer.status} {answer.content[:200]!r}")
            return
        verdict = answer.json["confirmation"]["verdict"]
        history.check(first in (None, verdict), f"question {question['id']} was answered {first}, then {verdict}")
        first = verdict
