"""A person who answers what the engine asks, now and then twice."""

import asyncio
import json
import random
from collections import Counter
from typing import Any

from tests.chaos.client import Client
from tests.chaos.model import LABEL


async def person(client: Client) -> None:
    """Answers all questions, each by dice of its own, until the task is cancelled."""
    LABEL.set("the person")
    choices: dict[str, dict[str, Any]] = {}
    alike: Counter[str] = Counter()
    while True:
        await asyncio.sleep(0.3)
        inbox = await client.send("GET", "/approvals?limit=200")
        if inbox is None or inbox.status != 200:
            continue
        for asked in inbox.json["data"]:
            if asked["id"] not in choices:
                what = f"{asked['kind']} {asked['tool']} {json.dumps(asked['input'], sort_keys=True)}"
                alike[what] += 1
                dice = random.Random(f"{client.model.seed} {what} {alike[what]}")
                choices[asked["id"]] = _choice(client, asked, dice)
            await _answer(client, asked, choices[asked["id"]])


def _choice(client: Client, asked: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    if asked["kind"] == "unknown_outcome":
        word = dice.choice(("retry", "mark_done", "fail"))
        if word == "retry" and asked["tool"] == "pay":
            client.model.retries[asked["input"]["amount"]] += 1
        return {"answers": [word]}
    word = dice.choices(("approve", "reject", "edit"), (6, 2, 2))[0]
    if word == "edit" and asked["tool"] == "sign":
        return {"answers": ["approve"], "input": {"name": f"{asked['input']['name']}-edited"}}
    return {"answers": ["reject" if word == "reject" else "approve"], "reason": "by dice"}


async def _answer(client: Client, asked: dict[str, Any], choice: dict[str, Any]) -> None:
    model, first = client.model, None
    dice = random.Random(f"{model.seed} {asked['tool']} {asked['input']}")
    for _ in range(2 if dice.random() < 0.3 else 1):
        if dice.random() < 0.5:
            answer = await client.send("POST", f"/approvals/{asked['id']}/respond", choice)
        else:
            body = {"call_id": asked["id"], **choice}
            answer = await client.send("POST", f"/sessions/{asked['session_id']}/respond", body)
        if answer is None or answer.status in (404, 410, 503):
            return  # the session was deleted, the turn cancelled, or the engine went away
        if answer.status != 200:
            model.violation(f"question {asked['id']} answered with {choice}: {answer.status} {answer.content[:200]!r}")
            return
        verdict = answer.json["confirmation"]["verdict"]
        model.check(first in (None, verdict), f"question {asked['id']} was answered {first}, then {verdict}")
        first = verdict
