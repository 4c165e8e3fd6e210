"""The end of a seed: all that was begun ends, and then the engine, the file and the world agree with the model."""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bytebrew.contract.connection import Connection
from bytebrew.store.journal import frame
from tests.chaos.client import Client
from tests.chaos.model import LABEL, Model
from tests.chaos.process import Process
from tests.faults.invariants import Act, Seen, events, text_shown, violations
from tests.stored import opened

DRAIN_SECONDS = 60.0
"""How long all turns and tasks may take to end once nothing disturbs them."""
_OPEN_TURNS = "select id, session_id, status from turns where status in ('queued', 'running')"
_OPEN_TASKS = """select t.id, t.status, t.not_before from tasks t where t.mode = 'background' and (
  (t.status = 'in_progress' and t.turn_id is not null) or (t.status in ('pending', 'approved') and not exists (
    select 1 from json_each(t.blocked_by) b left join tasks d on d.id = b.value
    where coalesce(d.status, '') <> 'completed')))"""
LOOK_SECONDS = 10.0
"""How long the schedules may take to look at the clock again once they were woken."""
MOST_AHEAD = 3600.0 + 180.0
"""Seconds after which a schedule of each minute must be due, whatever the clock was."""


async def settled(process: Process, model: Model) -> None:
    """Returns once no turn and no task that can run is open."""
    until = time.monotonic() + DRAIN_SECONDS
    while True:
        with opened(process.data) as conn:
            turns = [tuple(row) for row in conn.execute(_OPEN_TURNS)]
            tasks = [tuple(row) for row in conn.execute(_OPEN_TASKS)]
        if not turns and not tasks:
            return
        if time.monotonic() > until:
            model.violation(f"{DRAIN_SECONDS:g} s after the last disturbance these are open: {turns[:5]} {tasks[:5]}")
            return
        await asyncio.sleep(0.25)


async def engine_agrees(client: Client) -> None:
    """What the engine says once all has settled."""
    LABEL.set("at the end")
    model = client.model
    health = await client.insist("GET", "/health?deep=true")
    fine = health is not None and health.status == 200 and health.json["status"] == "ok"
    model.check(fine, f"health at the end: {health}")
    for session_id in [one for one in model.sessions if one not in model.deleting][-25:]:
        await _replays(client, session_id)
    until = time.monotonic() + LOOK_SECONDS
    for (kind, name), possible in list(model.things.items()):
        if kind in ("agent", "schedule", "webhook"):
            answer = await client.insist("GET", f"/{kind}s/{name}")
            state = "gone" if answer is not None and answer.status == 404 else "there"
            model.check(state in possible, f"{kind} {name} is {state} and not {' or '.join(sorted(possible))}")
            if kind == "schedule" and answer is not None and answer.status == 200:
                await _soon(client, answer.json, until)
    listed = await client.insist("GET", "/auth/tokens")
    if listed is not None:
        names = {one["id"] for one in listed.json}
        for (kind, name), possible in model.things.items():
            state = "there" if name in names else "gone"
            if kind == "token":
                model.check(state in possible, f"token {name} is {state} and not {' or '.join(sorted(possible))}")


async def _replays(client: Client, session_id: str) -> None:
    """A session's pages have all events that anybody has seen, under numbers without gaps."""
    after, last = 0, 1
    while after < last:
        path = f"/sessions/{session_id}/events?follow=false&after={after}"
        answer = await client.insist("GET", path)
        if answer is None or answer.status != 200:
            client.model.violation(f"{path}: {answer}")
            return
        page = answer.json
        for event in page["events"]:
            after += 1
            client.model.check(
                event["id"] == after, f"session {session_id} has event {event['id']} in place of {after}"
            )
        last = page["last"]
        if not page["events"]:
            client.model.check(after == last, f"session {session_id} has no events behind {after} of {last}")
            return


async def _soon(client: Client, schedule: dict[str, Any], until: float) -> None:
    """A schedule of each minute fires soon, or within the hour by which the clock was ahead: none fires twice."""
    path = f"/schedules/{schedule['name']}"
    while schedule["enabled"]:
        now = time.time() + client.process.offset
        most = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + MOST_AHEAD))
        if schedule["next_at"] is not None and schedule["next_at"] <= most:
            return
        if time.monotonic() > until:
            client.model.violation(f"schedule {schedule['name']} of each minute fires next at {schedule['next_at']}")
            return
        await client.insist("PUT", path, {"missed": schedule["missed"]})  # which has the schedules look at the clock
        await asyncio.sleep(0.5)
        answer = await client.insist("GET", path)
        if answer is not None and answer.status == 200:
            schedule = answer.json


def file_agrees(process: Process, model: Model) -> None:
    """What the file says of a stopped engine."""
    LABEL.set("in the file")
    seen = Seen(
        deleted=model.deleting,
        imported={"demo", *model.imported},
        acts=[Act(path, status) for path, status in model.requests],
    )
    for session_id, frames in model.frames.items():
        seen.frames[session_id] = {n: one + b"\n\n" for n, one in frames.items()}
    for one in violations(process.data, seen):
        model.violation(one)
    with opened(process.data) as conn:
        _chats(conn, model)
        _tasks(conn, model)
        _payments(conn, process, model)
        _hooks(conn, model)


def _chats(conn: Connection, model: Model) -> None:
    """Each turn that a client was shown is there and has ended as it was told."""
    for chat in model.chats.values():
        row = conn.execute("select * from turns where id = ?", (chat.turn_id,)).fetchone()
        if chat.session_id in model.deleting:
            continue
        if row is None:
            model.violation(f"turn {chat.turn_id} of session {chat.session_id} was acknowledged and is lost")
            continue
        if chat.done is not None:
            model.check(row["status"] == chat.done["status"], f"turn {chat.turn_id} is {row['status']}: {chat.done}")
        if chat.answer is not None:
            text = text_shown(
                (name, data)
                for n, name, raw in events(conn, chat.session_id)
                if row["first_event"] <= n <= row["last_event"] and "agent" not in (data := json.loads(raw))
            )
            fine = chat.answer["message"] == text and chat.answer["usage"]["input_tokens"] == row["input_tokens"]
            model.check(fine, f"turn {chat.turn_id} was answered {chat.answer} and has {text!r} {row['input_tokens']}")
    for before, after in model.replaced:
        row = conn.execute("select status, failure, session_id from turns where id = ?", (before,)).fetchone()
        fine = row is None or row["failure"] == 503
        model.check(fine, f"a key began turn {before}, which did not fail for a while only, and then {after}")


def _tasks(conn: Connection, model: Model) -> None:
    """Each task that was acknowledged is there, has the end that was seen, and began only behind its blockers."""
    rows = {row["id"]: row for row in conn.execute("select * from tasks")}
    for task in model.tasks.values():
        row = rows.get(task.id)
        if row is None:
            model.violation(f"task {task.id} was acknowledged and is lost")
            continue
        model.check(task.end in ("", row["status"]), f"task {task.id} was {task.end} and is {row['status']}")
        if conn.execute("select 1 from turns where session_id = ?", (row["session_id"],)).fetchone():
            for blocker in task.blocked_by:
                status = rows[blocker]["status"] if blocker in rows else "gone"
                model.check(status == "completed", f"task {task.id} has begun, its blocker {blocker} is {status}")


def _payments(conn: Connection, process: Process, model: Model) -> None:
    """Nothing was paid more often than it was asked for and a person said, and what was acknowledged was paid."""
    written = process.ledger.counts()
    calls: Counter[int] = Counter()
    done: set[int] = set()
    sql = """select turn_id, call_id, input, output, status from tool_calls where tool = 'pay' union
      select turn_id, call_id, input, cast(output as text), status from audit_tool_calls where tool_name = 'pay'"""
    asked: dict[tuple[str, str], int] = {}
    for row in conn.execute(sql):
        amount = json.loads(row["input"])["amount"]
        asked[row["turn_id"], row["call_id"]] = amount
        if row["status"] == "completed" and row["output"] == f"paid {amount}":
            done.add(amount)
    calls.update(asked.values())
    for line, count in written.items():
        kind, _, text = line.partition(" ")
        if kind == "pay" and (amount := int(text)) in calls:
            most = calls[amount] + model.retries[amount]
            model.check(count <= most, f"{line} happened {count} times; calls and retries: {most}")
    for amount in done:
        model.check(written[f"pay {amount}"] > 0, f"pay {amount} was acknowledged and never happened")


def _hooks(conn: Connection, model: Model) -> None:
    """Each request to a webhook has made its task once."""
    made = Counter(row[0].partition(" ")[0] for row in conn.execute("select description from tasks"))
    for mark, acknowledged in model.hooks.items():
        fine = made[mark] == 1 if acknowledged else made[mark] <= 1
        model.check(fine, f"the webhook's request {mark} made {made[mark]} tasks; acknowledged: {acknowledged}")


def frames_of(path: Path, session_id: str) -> list[bytes]:
    """A session's journal as a client would see it."""
    with opened(path) as conn:
        return [frame(n, name, data) for n, name, data in events(conn, session_id)]
