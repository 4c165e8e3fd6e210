"""Whether what clients saw, what the database holds and what the outside world did agree, once all has ended."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any

from bytebrew.contract.connection import Connection
from bytebrew.store.queries.events import read_events
from tests.cluster.history import TAKEOVER_SECONDS, History
from tests.cluster.outside import END
from tests.cluster.scripts import text_of
from tests.faults import invariants
from tests.faults.invariants import Seen, events, text_shown

OPEN_TURNS = "select id, session_id, status from turns where status in ('queued', 'running')"
OPEN_TASKS = "select id, status from tasks where status not in ('completed', 'failed', 'cancelled')"
MINUTE = 60


def violations(conn: Connection, history: History) -> Iterator[str]:
    """All that is wrong with a cluster in which nothing is under way."""
    seen = Seen(deleted=history.deleting)
    for session_id, frames in history.frames.items():
        seen.frames[session_id] = {n: frame + b"\n\n" for n, frame in frames.items()}
    for check in (invariants.numbers, invariants.ends, invariants.steered, invariants.spent, invariants.conversations):
        yield from check(conn)
    yield from invariants.replays(conn, seen)
    yield from invariants.states(conn)
    yield from invariants.tasks(conn)
    yield from invariants.counts(conn)
    yield from _messages(conn, history)
    yield from _texts(conn, history)
    yield from _tools(conn, history)
    yield from _tasks(conn, history)
    yield from _schedules(conn, history)
    yield from _callbacks(conn, history)
    yield from _silences(conn, history)


def _rows(conn: Connection, sql: str) -> dict[str, Any]:
    return {row["id"]: row for row in conn.execute(sql).fetchall()}


def _messages(conn: Connection, history: History) -> Iterator[str]:
    """Each accepted message has one turn that ended as its client saw; none has two."""
    turns = _rows(
        conn, "select id, session_id, message, status, failure, steers from turns where parent_turn_id is null"
    )
    marks: dict[str, list[str]] = defaultdict(list)
    for turn_id, row in turns.items():
        marks[_mark(row["message"])].append(turn_id)
    for sent in history.sent.values():
        if sent.session_id in history.deleting:
            continue
        lasting = [one for one in marks[sent.mark] if turns[one]["failure"] != 503]
        if len(lasting) > 1:
            yield f"message {sent.mark} under key {sent.key} has the turns {lasting}"
        if not sent.turn_id or sent.removed:
            continue
        if (row := turns.get(sent.turn_id)) is None:
            yield f"turn {sent.turn_id} of message {sent.mark} was acknowledged and is lost"
        elif sent.end and row["status"] != "absorbed":
            shown = sent.status if sent.end == "done" else "failed"
            if row["status"] != shown:
                yield f"turn {sent.turn_id} is {row['status']} and ended for its client as {sent.end} {sent.status}"
    for before, after in history.replaced:
        if before in turns and turns[before]["failure"] != 503:
            yield f"a key began turn {before}, which did not fail for a while only, and then {after}"


def _mark(message: str) -> str:
    """The mark of a message: its second word."""
    parts = message.split(" ", 2)
    return parts[1] if len(parts) > 1 else message


def _texts(conn: Connection, history: History) -> Iterator[str]:
    """Each completed turn has said what its script says, once, in order."""
    sql = "select id, session_id, message, status, first_event, last_event from turns where status = 'completed'"
    absorbed = Counter(row[0] for row in conn.execute("select steers from turns where status = 'absorbed'").fetchall())
    for turn_id, row in _rows(conn, sql).items():
        if row["session_id"] in history.deleting:
            continue
        shown = text_shown(
            (name, json.loads(data))
            for n, name, data in events(conn, row["session_id"])
            if row["first_event"] <= n <= row["last_event"]
        )
        wanted = text_of(row["message"]) if "[[" in row["message"] else ""
        least = 0 if wanted else 1
        fine = [wanted + END * more for more in range(least, least + absorbed[turn_id] + 1)]
        if shown not in fine:
            yield f"turn {turn_id} of session {row['session_id']} said {shown!r} in place of {wanted!r}"


def _tools(conn: Connection, history: History) -> Iterator[str]:
    """No call has run twice, but where a person had it run again, or it is idempotent and its node failed."""
    runs: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for run in history.runs:
        runs[run.key].append((run.tool, run.at))
    for key, times in runs.items():
        tool, first = times[0]
        if len(times) <= 1 + history.retries[key]:
            continue
        if tool != "look":
            yield f"the call {key} of {tool} ran {len(times)} times; {history.retries[key]} times a person wanted that"
        elif not history.disturbed(first - TAKEOVER_SECONDS, times[-1][1]):
            yield f"the call {key} of {tool} ran {len(times)} times though no node failed"
    sql = "select turn_id, call_id, tool, status, output from tool_calls where status = 'completed'"
    for row in conn.execute(sql).fetchall():
        key = f"{row['turn_id']}:{row['call_id']}"
        if row["output"] is not None and '"ran"' in str(row["output"]) and key not in runs:
            yield f"the call {key} of {row['tool']} has a result and never ran"


def _tasks(conn: Connection, history: History) -> Iterator[str]:
    """Each task that was acknowledged has ended, and its turns ran one after the other."""
    tasks = _rows(conn, "select * from tasks")
    for task_id, mark in history.tasks.items():
        if (row := tasks.get(task_id)) is None:
            yield f"task {task_id} {mark} was acknowledged and is lost"
        elif row["status"] == "cancelled" and task_id not in history.cancelled:
            yield f"task {task_id} {mark} is cancelled, which nobody wanted"
    titles = Counter(row["title"] for row in tasks.values() if row["source"] == "api")
    yield from (f"task {mark} was made {titles[mark]} times" for mark in history.tasks.values() if titles[mark] != 1)
    sql = "select id, started_at, finished_at, status from turns where session_id = ? order by started_at"
    for task in tasks.values():
        turns = conn.execute(sql, (task["session_id"],)).fetchall()
        for before, after in pairwise(turns):
            if before["finished_at"] is None or after["started_at"] is None:
                continue
            if _moment(after["started_at"]) < _moment(before["finished_at"]):
                yield f"task {task['id']} ran twice at once: turns {before['id']} and {after['id']}"
        if len(turns) > 1 and all(turn["status"] == "completed" for turn in turns):
            yield f"task {task['id']} was completed {len(turns)} times"
    made = Counter(_mark(f"hook {row['description']}") for row in tasks.values())
    for mark, acknowledged in history.hooks.items():
        if made[mark] > 1 or (acknowledged and made[mark] != 1):
            yield f"the webhook's request {mark} made {made[mark]} tasks; acknowledged: {acknowledged}"


def _schedules(conn: Connection, history: History) -> Iterator[str]:
    """Each schedule of each minute has made one task in each, but for those that nodes were not there to make."""
    tasks = conn.execute("select title, created_at from tasks where source = 'schedule' order by seq").fetchall()
    fired: dict[str, list[float]] = defaultdict(list)
    for row in tasks:
        fired[row["title"]].append(_moment(row["created_at"]))
    for name, since in history.schedules.items():
        minutes = Counter(int(moment // MINUTE) for moment in fired[name])
        if twice := [minute for minute, count in minutes.items() if count > 1]:
            yield f"schedule {name} fired {minutes[twice[0]]} times for one due time: {fired[name]}"
        last = max(minutes, default=int(since // MINUTE))
        if missing := [n for n in range(int(since // MINUTE) + 1, last) if minutes[n] == 0]:
            yield f"schedule {name} did not fire for {len(missing)} of {last - int(since // MINUTE)} due times"


def _callbacks(conn: Connection, history: History) -> Iterator[str]:
    """Each task's end is called back, always in the same words, and not again unless something was disturbed."""
    rows = _rows(conn, "select id, type, subject, body, status from callbacks_deliveries")
    for delivery_id, row in rows.items():
        came = history.delivered.get(delivery_id, [])
        if row["status"] != "delivered":
            yield f"the delivery of {row['type']} of {row['subject']} is {row['status']}"
        if {body.decode() for _, body in came} != {row["body"]}:
            yield f"{row['type']} of {row['subject']} came as {[body for _, body in came]}"
        if len(came) > 1 and not history.disturbed(came[0][0], came[-1][0]):
            yield f"{row['type']} of {row['subject']} came {len(came)} times though nothing was disturbed"
    if lost := history.delivered.keys() - rows.keys():
        yield f"{sorted(lost)[:3]} were called back and are not in the database"
    ended = Counter(row["subject"] for row in rows.values() if row["type"] == "task.ended")
    done = conn.execute("select id from tasks where completed_at is not null").fetchall()
    yield from (f"task.ended of {row[0]} has {ended[row[0]]} deliveries" for row in done if ended[row[0]] != 1)


def read_all(conn: Connection, session_id: str, first: int, last: int) -> Iterator[tuple[int, str, bytes, Any]]:
    """All events of a session from one number to another, with their times."""
    at = first - 1
    while at < last and (page := read_events(conn, session_id, at, last)):
        yield from page
        at = page[-1][0]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _silences(conn: Connection, history: History) -> Iterator[str]:
    """A turn whose node is gone goes on soon at another: between its events is no more than a lease."""
    if history.nodes == 1:
        return
    wall = time.time() - time.monotonic()
    sql = "select session_id, turn_id, created_at, answered_at from confirmations"
    asked: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in conn.execute(sql).fetchall():
        until = _moment(row["answered_at"]) if row["answered_at"] else float("inf")
        asked[row["session_id"]].append((_moment(row["created_at"]), until))
    sql = "select id, session_id, first_event, last_event from turns where last_event is not null"
    for row in conn.execute(sql).fetchall():
        session_id = row["session_id"]
        times = [at / 1000 for _, _, _, at in read_all(conn, session_id, row["first_event"], row["last_event"])]
        for before, after in pairwise(times):
            quiet = any(since <= after and until >= before for since, until in asked[session_id])
            if after - before <= TAKEOVER_SECONDS or quiet or session_id in history.deleting:
                continue
            if history.count(before - wall, after - wall) <= 1:
                yield f"turn {row['id']} said nothing for {after - before:.1f} s, longer than a lease"
