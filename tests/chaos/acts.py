"""What the clients do with conversations, by dice."""

import asyncio
import time
from functools import partial
from typing import Any

from tests.chaos.client import Client
from tests.chaos.model import LABEL, Model
from tests.chaos.scripts import script
from tests.disturbed.client import Answer

SCHEMAS = ("parallel", "sequential", "weak")
MOST_TALKS = 4
"""Chats that one client has open at a time."""


async def chat(client: Client) -> None:
    """A message to a new session or a known one, which goes on while the client does other things."""
    dice, model = client.dice, client.model
    known = [one for one in model.sessions[-12:] if one not in model.deleting]
    session_id = dice.choice(known) if known and dice.random() < 0.5 else None
    if session_id is not None:
        schema = model.schema_of[session_id]
    else:
        schema = dice.choices(SCHEMAS, (5, 3, 2))[0]
        session_id = client.uuid() if dice.random() < 0.5 else None
    message = f"say {client.mark()}" if schema == "weak" else script(dice, client.mark)
    body: dict[str, Any] = {"message": message, "on_busy": dice.choices(("queue", "interrupt", "reject"), (6, 2, 2))[0]}
    if session_id is not None:
        body["session_id"] = session_id
    if dice.random() < 0.3:
        body["subagents"] = True
    key = f"key-{client.mark()}" if dice.random() < 0.7 else ""
    streamed = dice.random() < 0.7
    if session_id is not None:
        model.talking[session_id] += 1
    while len(client.talks) >= MOST_TALKS:
        await asyncio.wait(client.talks, return_when=asyncio.FIRST_COMPLETED)
    work = client.turn(schema, body, key) if streamed else _whole(client, schema, body, key)
    client.talks.add(talk := asyncio.create_task(work))
    talk.add_done_callback(client.talks.discard)
    if session_id is not None:
        talk.add_done_callback(partial(_ended, model, session_id))


def _ended(model: Model, session_id: str, _: object) -> None:
    model.talking[session_id] -= 1


async def _whole(client: Client, schema: str, body: dict[str, Any], key: str) -> None:
    path, body = f"/schemas/{schema}/chat", {**body, "stream": False}
    answer = await (client.keyed(path, body) if key else client.send("POST", path, body))
    if answer is not None:
        client.answered(answer, schema)
        if answer.asks:
            await _asked(client, answer)
        allowed = (200, 202, 404, 409, 410, 429, 502, 503, 504)
        client.model.check(answer.status in allowed, f"a chat answered {answer.status} {answer.content[:200]!r}")


async def _asked(client: Client, first: Answer) -> None:
    """Looks at a turn that waits for a person until it has ended."""
    session_id, turn_id = first.headers["x-session-id"], first.headers["x-turn-id"]
    client.model.check(bool(first.json["questions"]), f"turn {turn_id} asks nothing: {first.content[:200]!r}")
    until = time.monotonic() + 90
    while time.monotonic() < until:
        answer = await client.insist("GET", f"/sessions/{session_id}/turns/{turn_id}")
        if answer is None or answer.status != 200:
            _expect(client, answer, session_id)
            return
        if answer.json["status"] not in ("queued", "running", "needs_input"):
            return
        await asyncio.sleep(0.3)


async def repeat(client: Client) -> None:
    """A request that was answered before, under its key: the same answer."""
    model = client.model
    if not model.keyed:
        return
    first = client.dice.choice(model.keyed[-60:])
    if first.turn_id and first.status == 200 and not first.content:
        await _repeat_stream(client, first.path, first.body, first.key, first.turn_id, first.era)
        return
    answer = await client.send(first.method, first.path, first.body, headers={"Idempotency-Key": first.key})
    if answer is None or answer.status == 503 or first.era != model.era:
        return
    if answer.status == 410 and first.turn_id and first.turn_id in _deleting(client):
        return
    model.check(
        (answer.status, answer.content) == (first.status, first.content),
        f"{first.path} under {first.key} answered {first.status} {first.content[:300]!r},"
        f" then {answer.status} {answer.content[:300]!r}",
    )


async def _repeat_stream(client: Client, path: str, body: Any, key: str, turn_id: str, era: int) -> None:
    model = client.model
    part = await client.stream("POST", path, body, headers={"Idempotency-Key": key})
    if era != model.era or part.status in (0, 503):
        return
    if part.status == 200:
        again = part.headers["x-turn-id"]
        model.check(again == turn_id, f"{path} under {key} was turn {turn_id}, then {again}")
    else:
        gone = part.status == 410 and turn_id in _deleting(client)
        model.check(gone, f"{path} under {key} was turn {turn_id}, then {part.status} {part.code}")


def _deleting(client: Client) -> set[str]:
    """The turns whose session is deleted, or may be."""
    return {one.turn_id for one in client.model.chats.values() if one.session_id in client.model.deleting}


async def follow(client: Client) -> None:
    """Reads a session's events from a random number on."""
    session_id = _session(client)
    if session_id is None:
        return
    seen = sorted(client.model.frames[session_id])
    after = client.dice.choice(seen) if seen and client.dice.random() < 0.7 else 0
    headers = {"Last-Event-ID": str(after)} if after else {}
    path = f"/sessions/{session_id}/events"
    if client.dice.random() < 0.3:
        answer = await client.send("GET", f"{path}?follow=false&after={after}")
        if answer is not None and answer.status == 200:
            numbers = [event["id"] for event in answer.json["events"]]
            wanted = [*range(after + 1, after + 1 + len(numbers))]
            client.model.check(numbers == wanted, f"{path} after {after} has the events {numbers}")
        _expect(client, answer, session_id)
        return
    talk = client.stream("GET", path, headers=headers, session_id=session_id, after=after, most=40)
    try:
        async with asyncio.timeout(2):
            part = await talk
    except TimeoutError:
        return
    if part.status not in (0, 200, 503) and session_id not in client.model.deleting:
        client.model.violation(f"{path} answered {part.status} {part.code}")


async def cancel(client: Client) -> None:
    """Cancels what runs in a session."""
    session_id = _session(client)
    if session_id is not None:
        answer = await client.send("POST", f"/sessions/{session_id}/cancel")
        _expect(client, answer, session_id, 204)


async def delete(client: Client) -> None:
    """Deletes a session; that it is gone is known once that was acknowledged."""
    session_id = _session(client)
    if session_id is None:
        return
    model = client.model
    model.deleting.add(session_id)
    alone = not model.talking[session_id]
    answer = await client.send("DELETE", f"/sessions/{session_id}")
    if answer is not None and answer.status == 204 and alone:
        again = await client.send("GET", f"/sessions/{session_id}")
        if again is not None and again.status != 503:
            model.check(again.status == 404, f"the deleted session {session_id} answered {again.status}")


async def read(client: Client) -> None:
    """Lists and sums."""
    session_id = _session(client)
    one = f"/sessions/{session_id}" if session_id else "/sessions"
    path = client.dice.choice(
        (
            "/sessions?per_page=50",
            "/sessions?status=failed",
            "/tasks?per_page=50",
            "/usage?group_by=agent",
            "/audit?per_page=20",
            "/audit/tool-calls?per_page=20",
            "/approvals?status=spent",
            "/settings",
            "/agents",
            f"{one}/messages" if session_id else one,
            one,
        )
    )
    answer = await client.send("GET", path)
    if session_id is None or one not in path:
        _expect(client, answer, "")
    else:
        _expect(client, answer, session_id)


async def health(client: Client) -> None:
    """The engine's health is truthful: degraded only where the disk was, and never silent."""
    answer = await client.send("GET", f"/health{client.dice.choice(('', '?deep=true'))}")
    if answer is None:
        return
    status = answer.json.get("status")
    known = {"ok": 200, "overloaded": 200, "draining": 503, "degraded": 503}
    client.model.check(known.get(status) == answer.status, f"health is {answer.status} {answer.content[:200]!r}")
    excused = client.model.faulty or time.monotonic() - client.process.disturbed < 5  # a pause is no answer either
    client.model.check(status != "degraded" or excused, f"health on a sound disk: {answer.content[:200]!r}")


def _session(client: Client) -> str | None:
    known = [one for one in client.model.sessions[-20:] if one not in client.model.deleting]
    return client.dice.choice(known) if known else None


def _expect(client: Client, answer: Answer | None, session_id: str, status: int = 200) -> None:
    if answer is None or answer.status in (status, 503):
        return
    if answer.status in (404, 410) and session_id in client.model.deleting:
        return
    client.model.violation(f"{LABEL.get()}: about session {session_id}: {answer.status} {answer.content[:200]!r}")
