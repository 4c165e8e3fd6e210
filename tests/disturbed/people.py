"""A person who answers what the engine asks, now and then twice."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from tests.disturbed.client import Answer
from tests.disturbed.record import Record

PAUSE = 0.3
"""Seconds between two looks at the inbox."""
AT_ONCE = 20
"""Questions of one look."""

Question = dict[str, Any]


class Sender(Protocol):
    """A client."""

    async def send(self, method: str, path: str, body: Any = None) -> Answer | None:
        """The answer; None where none came."""


Choice = dict[str, Any]
Choose = Callable[[Question, random.Random], Choice | None]
"""Makes an answer, by dice of the question's own; None leaves the question for now."""


async def person(client: Sender, record: Record, choose: Choose) -> None:
    """Answers all questions until the task is cancelled."""
    chosen: dict[str, tuple[Choice, random.Random]] = {}
    alike: Counter[str] = Counter()
    while True:
        await asyncio.sleep(PAUSE)
        inbox = await client.send("GET", "/approvals?limit=200")
        if inbox is None or inbox.status != 200:
            continue
        async with asyncio.TaskGroup() as group:
            answered = 0
            for question in inbox.json["data"]:
                if question["id"] not in chosen:
                    what = f"{question['kind']} {question['tool']} {json.dumps(question['input'], sort_keys=True)}"
                    dice = random.Random(f"{record.seed} {what} {alike[what] + 1}")
                    if (choice := choose(question, dice)) is None:
                        continue
                    alike[what] += 1
                    chosen[question["id"]] = choice, dice
                group.create_task(_answer(client, record, question, *chosen[question["id"]]))
                if (answered := answered + 1) == AT_ONCE:
                    break


async def _answer(client: Sender, record: Record, question: Question, choice: Choice, dice: random.Random) -> None:
    first = None
    for _ in range(2 if dice.random() < 0.3 else 1):
        if dice.random() < 0.5:
            answer = await client.send("POST", f"/approvals/{question['id']}/respond", choice)
        else:
            body = {"call_id": question["id"], **choice}
            answer = await client.send("POST", f"/sessions/{question['session_id']}/respond", body)
        if answer is None or answer.status in (404, 410, 503):
            return  # the session was deleted, the turn cancelled, or an engine went away
        if answer.status != 200:
            record.violation(f"question {question['id']} with {choice}: {answer.status} {answer.content[:200]!r}")
            return
        verdict = answer.json["confirmation"]["verdict"]
        record.check(first in (None, verdict), f"question {question['id']} was answered {first}, then {verdict}")
        first = verdict
