"""What holds of a data folder and of all that clients saw, whatever failed in between; an empty list is good."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, get_args

import bytebrew_usage as usage
import msgspec
from bytebrew_audit.chain import Chain

from bytebrew.base.secrets import Secrets
from bytebrew.contract.connection import Connection, Row
from bytebrew.contract.messages import Message, Usage
from bytebrew.store import messages, sessions
from bytebrew.store.journal import frame
from bytebrew.store.queries.events import read_events
from bytebrew.store.sessions import SESSIONS
from bytebrew.store.tasks import TASKS
from tests.receiver import Received
from tests.stored import ON_POSTGRESQL, everything, opened, tables

ENDS = ("done", "error")
OPEN = ("queued", "running")
_COUNTS = Usage.__struct_fields__
_KEPT = "select id from sessions where id not in (select session_id from removals)"
"""Sessions that are not being removed, whose rows are all there."""
_STORED = {
    "agent": "select name from agents",
    "schema": "select name from schemas",
    "model": "select name from models",
    "token": "select id from tokens where revoked_at is null and name <> 'bootstrap-admin'",
}
"""Types of audited resources, each with what the audit calls those that are stored."""


_REPORTED = {
    "turn.failed": f"select id from turns where status = 'failed' and finished_at > ? and session_id in ({_KEPT})",
    "task.ended": "select id from tasks where completed_at > ?",
    "approval.waiting": f"select id from confirmations where created_at > ? and session_id in ({_KEPT})",
}
"""What a callback reports that was made before, as it is in the file."""
_DELIVERIES = "select count(*) from callbacks_deliveries where type = ? and subject = ?"


class Answer(NamedTuple):
    """One answer to a request with an Idempotency-Key; `turn_id` is its X-Turn-Id, and a stream's body its frames."""

    status: int
    body: bytes
    turn_id: str = ""


class Act(NamedTuple):
    """A request that changes something: `POST /api/v1/agents`; status 0 where no answer came.

    After a 503 it may have been done too: what was stored could not be read again.
    """

    resource: str
    status: int


@dataclass
class Seen:
    """What clients saw: frames by session and number, answers by key, public acts, and sessions that they deleted.

    `received` is what was called back. `conflicts` are frames that came again with other bytes. `imported` are names of
    things that no request created, `forgotten` those of people of whom no byte is left.
    """

    frames: dict[str, dict[int, bytes]] = field(default_factory=lambda: defaultdict(dict))
    answers: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    acts: list[Act] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    imported: set[str] = field(default_factory=lambda: {"demo"})
    conflicts: list[str] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)

    def frame(self, session_id: str, one: bytes) -> None:
        """Takes one frame with its closing empty line; comments and frames without an id are in no journal."""
        if not one.startswith(b"id: "):
            return
        number = int(one[4 : one.index(b"\n")])
        if (before := self.frames[session_id].setdefault(number, one)) != one:
            self.conflicts.append(f"session {session_id}: a client saw event {number} as {before!r} and as {one!r}")


def violations(path: Path, seen: Seen | None = None, *, idle: bool = True) -> list[str]:
    """All that is wrong with the database of a data folder; `idle`: no turn is under way and none waits."""
    seen = seen or Seen()
    with opened(path) as conn:
        if damage := file(conn):
            return damage
        return [
            *numbers(conn),
            *ends(conn, idle=idle),
            *steered(conn),
            *replays(conn, seen),
            *keys(conn, seen),
            *spent(conn),
            *budgets(conn, idle=idle),
            *audit(conn, seen),
            *chain(conn, path),
            *conversations(conn),
            *summaries(conn),
            *states(conn),
            *tasks(conn, idle=idle),
            *callbacks(conn, seen, idle=idle),
            *counts(conn),
            *erased(path, seen),
        ]


def callbacks(conn: Connection, seen: Seen, *, idle: bool = True) -> list[str]:
    """What happened since there is a callback has one delivery, and its receiver has got that, always the same."""
    row = conn.execute("select created_at from callbacks where name = 'ops'").fetchone()
    if row is None:
        return []
    found: list[str] = []
    for kind, sql in _REPORTED.items():
        for (subject,) in conn.execute(sql, (row["created_at"],)):
            if (count := conn.execute(_DELIVERIES, (kind, subject)).fetchone()[0]) != 1:
                found.append(f"{kind} of {subject} has {count} deliveries")
    bodies: dict[str, set[str]] = defaultdict(set)
    for one in seen.received:
        bodies[one.id].add(one.body.decode())
    for row in conn.execute("select id, type, subject, body, status from callbacks_deliveries"):
        if idle and row["status"] != "delivered":
            found.append(f"the delivery of {row['type']} of {row['subject']} is {row['status']}")
        got = bodies.pop(row["id"], set())
        if got != {row["body"]} and (got or row["status"] == "delivered"):
            found.append(f"{row['type']} of {row['subject']} came as {got}")
    return found + [f"{one} was called back and is not in the file" for one in bodies.values()]


def erased(path: Path, seen: Seen) -> list[str]:
    """No file of the database has the name of a person who is forgotten."""
    data = everything(path) if seen.forgotten else b""
    return [f"{name} is in the files of the database" for name in seen.forgotten if name.encode() in data]


def file(conn: Connection) -> list[str]:
    """The file is whole, and what it refers to is there, which PostgreSQL sees to itself."""
    if ON_POSTGRESQL:
        return []
    damage = [row[0] for row in conn.execute("pragma integrity_check") if row[0] != "ok"]
    return damage + [f"a row of {row[0]} refers to no {row[2]}" for row in conn.execute("pragma foreign_key_check")]


def events(conn: Connection, session_id: str) -> Iterator[tuple[int, str, bytes]]:
    """A session's whole journal, packed rows included."""
    at = 0
    while page := read_events(conn, session_id, at, 2**62):
        yield from ((n, name, data) for n, name, data, _ in page)
        at = page[-1][0]


def numbers(conn: Connection) -> list[str]:
    """Events and messages of a session are numbered from 1 without gaps."""
    found: list[str] = []
    for (session_id,) in conn.execute(_KEPT).fetchall():
        had = [n for n, _, _ in events(conn, session_id)]
        found += _gaps(f"session {session_id}: events", had)
        found += _gaps(f"session {session_id}: messages", [n for n, _ in _messages(conn, session_id)])
    return found


def _messages(conn: Connection, session_id: str) -> Iterator[tuple[int, str]]:
    """Number and text of a session's messages, those that a fork shares included."""
    at = 0
    while page := messages.entries(conn, session_id, at):
        yield from ((int(one.id), one.content) for one in page)
        at = int(page[-1].id)


def _gaps(what: str, had: list[int]) -> list[str]:
    wrong = next((n for n, one in enumerate(had, 1) if n != one), None)
    return [] if wrong is None else [f"{what} go {had[max(0, wrong - 3) : wrong + 2]} where {wrong} belongs"]


def ends(conn: Connection, *, idle: bool = True) -> list[str]:
    """A turn that has ended has one end, its last event, which its row agrees with; each event is of one turn."""
    found: list[str] = []
    columns = ", ".join(("id", "status", "first_event", "last_event", "finished_at", *_COUNTS))
    for (session_id,) in conn.execute(_KEPT).fetchall():
        journal = {n: (name, data) for n, name, data in events(conn, session_id)}
        sql = "select forked_after from sessions where id = ?"
        owned = Counter(range(1, conn.execute(sql, (session_id,)).fetchone()[0] + 1))  # shared: of another session
        rows = conn.execute(f"select {columns} from turns where session_id = ? order by seq", (session_id,)).fetchall()
        for row in rows:
            first, last = row["first_event"], row["last_event"]
            if row["status"] == "absorbed":
                continue
            if row["status"] in OPEN:
                if idle:
                    found.append(f"turn {row['id']} is {row['status']} in an engine that is idle")
                owned.update(range(first, max(journal, default=0) + 1) if first else ())
            elif first is None or last is None or row["finished_at"] is None:
                found.append(f"turn {row['id']} is {row['status']} and has events {first} to {last}")
            else:
                owned.update(range(first, last + 1))
                found += _ending(row, journal)
        stray = [n for n in journal if owned[n] != 1] if idle else []
        found += [f"session {session_id}: events {stray[:5]} are of no turn or of several"] if stray else []
    return found


def _ending(row: Row, journal: dict[int, tuple[str, bytes]]) -> list[str]:
    turn_id, status = row["id"], row["status"]
    span = range(row["first_event"], row["last_event"] + 1)
    at = [n for n in span if n in journal and journal[n][0] in ENDS]
    if at != [row["last_event"]]:
        return [f"turn {turn_id} is {status}, events {span[0]} to {span[-1]}, and ends at {at}"]
    name, data = journal[at[0]]
    end = msgspec.json.decode(data)
    if name == "error":
        return [] if status == "failed" else [f"turn {turn_id} is {status} and ends with an error"]
    found: list[str] = []
    if (end["turn_id"], end["status"]) != (turn_id, status):
        found.append(f"turn {turn_id} is {status} and ends as {end['turn_id']} {end['status']}")
    if not _equal([end["usage"].get(one) for one in _COUNTS], [row[one] for one in _COUNTS]):
        found.append(f"turn {turn_id} says usage {end['usage']} and has {[row[one] for one in _COUNTS]}")
    return found


def steered(conn: Connection) -> list[str]:
    """A message that a turn absorbed is once in the history, and shown within the events of that turn."""
    found: list[str] = []
    rows = conn.execute(
        f"""select m.id, m.session_id, m.message, m.first_event, t.id as turn_id, t.session_id as within,
        t.first_event as start, t.last_event as end from turns m left join turns t on t.id = m.steers
        where m.status = 'absorbed' and m.session_id in ({_KEPT})"""
    ).fetchall()
    for row in rows:
        shown = [
            (n, name)
            for n, name, data in events(conn, row["session_id"])
            if name in ("steer", "steered") and msgspec.json.decode(data)["turn_id"] == row["id"]
        ]
        span = range(row["start"] or 0, (row["end"] or 2**62) + 1)
        right = [name for n, name in shown if n in span] == ["steer", "steered"] and len(shown) == 2
        if row["within"] != row["session_id"] or not right or shown[0][0] != row["first_event"]:
            found.append(f"message {row['id']} was absorbed by {row['turn_id']} and is shown at {shown}")
        sql = "select count(*) from messages where session_id = ? and turn_id = ? and body like ?"
        text = msgspec.json.encode(row["message"]).decode()
        if (count := conn.execute(sql, (row["within"], row["turn_id"], f"%{text}%")).fetchone()[0]) != 1:
            found.append(f"message {row['id']} is {count} times in the history of {row['turn_id']}")
        sql = "select 1 from messages where session_id = ? and turn_id = ?"
        if conn.execute(sql, (row["session_id"], row["id"])).fetchone():
            found.append(f"message {row['id']} was absorbed and answered by itself too")
    return found


def replays(conn: Connection, seen: Seen) -> list[str]:
    """What a client saw is what a replay gives."""
    found = list(seen.conflicts)
    for session_id in seen.frames.keys() - seen.deleted:
        journal = {n: frame(n, name, data) for n, name, data in events(conn, session_id)}
        for n, one in sorted(seen.frames[session_id].items()):
            if journal.get(n) != one:
                found.append(f"session {session_id}: a client saw {one!r}, the file has {journal.get(n)!r}")
                break
    return found


def keys(conn: Connection, seen: Seen) -> list[str]:
    """The same key gave the same bytes; a turn that failed with a 503 has used up no key, any other has."""
    found: list[str] = []
    for key, answers in seen.answers.items():
        good = [one for one in answers if one.status < 400 and one.status != 202]  # which is not yet the end
        turn_ids = list(dict.fromkeys(one.turn_id for one in good))
        if lasting := [turn_id for turn_id in turn_ids[:-1] if not _transient(conn, turn_id)]:
            found.append(f"key {key}: gave turns {turn_ids}, of which {lasting} did not fail with a 503")
        ended = Counter(one.turn_id for one in good if b"\nevent: error\n" in one.body)
        used_up = [turn_id for turn_id, count in ended.items() if count > 1 and _transient(conn, turn_id)]
        found += [f"key {key}: a 503 has used it up: {used_up}"] if used_up else []
        for turn_id in turn_ids:
            longest = max((one.body for one in good if one.turn_id == turn_id), key=len)
            whole = not longest.startswith((b"id: ", b":", b"data: ", b"event: "))
            for one in good:
                same = one.body == longest if whole else longest.startswith(one.body)
                if one.turn_id == turn_id and not same:
                    found.append(f"key {key}: gave {longest[-200:]!r} and {one.body[-200:]!r}")
        after = answers[answers.index(good[0]) :] if good else []
        found += [f"key {key}: {one.status} after it had an answer" for one in after if 400 <= one.status != 503]
    return found


def _transient(conn: Connection, turn_id: str) -> bool:
    """Whether a turn was deleted or could not be brought to its end."""
    sql = """select coalesce(t.failure, m.failure) as failure from turns m
      left join turns t on t.id = m.steers and m.status = 'absorbed' where m.id = ?"""
    row = conn.execute(sql, (turn_id,)).fetchone()
    return row is None or row["failure"] == 503


def spent(conn: Connection) -> list[str]:
    """A turn's usage is that of its own model calls and of all turns below it; sums are the sums of the calls."""
    found: list[str] = []
    own: dict[str, list[Any]] = defaultdict(list)
    everything: list[Any] = []
    for row in conn.execute(f"select turn_id, {', '.join(_COUNTS)} from usage"):
        own[row["turn_id"]].append(tuple(row)[1:])
        everything.append(tuple(row)[1:])
    rows = conn.execute(
        f"select id, parent_turn_id, status, {', '.join(_COUNTS)} from turns where session_id in ({_KEPT}) order by seq"
    ).fetchall()
    below: dict[str | None, list[str]] = defaultdict(list)
    for row in rows:
        below[row["parent_turn_id"]].append(row["id"])
    for row in rows:
        tree = [row["id"]]
        for one in tree:
            tree += below[one]
        paid, counted = _sum(call for one in tree for call in own[one]), [row[one] for one in _COUNTS]
        if row["status"] not in OPEN and not _equal(paid, counted):
            found.append(f"turn {row['id']} ({row['status']}) has usage {counted}, its calls have {paid}")
    for (session_id,) in conn.execute(_KEPT).fetchall():
        counted = list(msgspec.structs.astuple(sessions.usage(conn, session_id)))
        paid = _sum([row[one] for one in _COUNTS] for row in _turns(conn, session_id))
        if not _equal(counted, paid):
            found.append(f"session {session_id} has usage {counted}, its turns have {paid}")
    paid = _sum(everything)
    for key in get_args(usage.GroupBy):
        counted = _sum([getattr(one, name) for name in _COUNTS] for one in usage.report(conn, key, "", ""))
        if not _equal(counted, paid):
            found.append(f"usage by {key} is {counted}, the calls have {paid}")
    whole = usage.total(conn, "", "")
    if not _equal([getattr(whole, name) for name in _COUNTS], paid):
        found.append(f"usage is {whole}, the calls have {paid}")
    return found


def budgets(conn: Connection, *, idle: bool = True) -> list[str]:
    """No budget is passed, and each counts what its agent's calls have used; in an idle engine nothing is reserved."""
    found: list[str] = []
    rows = conn.execute(
        """select b.name, b.cap, b.only_key, s.used, s.reserved,
        (select coalesce(sum(amount), 0) from budgets_reserved r
          where r.budget = s.budget and r.starts = s.starts and r.key = s.key) as held
        from budgets_spent s join budgets b on b.id = s.budget"""
    ).fetchall()
    for row in rows:
        if row["used"] + row["reserved"] > row["cap"]:
            found.append(f"budget {row['name']} of {row['cap']} has {row['used']} used, {row['reserved']} reserved")
        if row["reserved"] != row["held"] or (idle and row["reserved"]):
            found.append(f"budget {row['name']} has {row['reserved']} reserved, its calls hold {row['held']}")
        sql = "select coalesce(sum(input_tokens + output_tokens), 0) from usage where agent = ?"
        paid = conn.execute(sql, (row["only_key"],)).fetchone()[0]
        if row["used"] < paid:
            found.append(f"budget {row['name']} has {row['used']} used, the calls of its agent have {paid}")
    return found


def _turns(conn: Connection, session_id: str) -> list[Row]:
    return conn.execute(f"select {', '.join(_COUNTS)} from turns where session_id = ?", (session_id,)).fetchall()


def _sum(rows: Iterable[Any]) -> list[Any]:
    columns = list(zip(*rows, strict=True)) or [()] * len(_COUNTS)
    *counts, costs = columns
    known = [cost for cost in costs if cost is not None]
    return [*(sum(one) for one in counts), sum(known) if known else None]


def _equal(one: Iterable[Any], other: Iterable[Any]) -> bool:
    return all(math.isclose(a or 0, b or 0, abs_tol=1e-9) for a, b in zip(one, other, strict=True))


def audit(conn: Connection, seen: Seen) -> list[str]:
    """Each acknowledged act has its entry and each entry its act; what is stored was created by an audited act."""
    rows = conn.execute("select action, resource, resource_type, resource_id, details from audit_changes").fetchall()
    done = [row for row in rows if row["action"] != "auth.fail"]
    entries = Counter(row["resource"] for row in done)
    acknowledged = Counter(act.resource for act in seen.acts if 200 <= act.status < 300)
    possible = acknowledged + Counter(act.resource for act in seen.acts if act.status in (0, 503))
    found = [
        f"{resource}: {count} acknowledged, {entries[resource]} in the audit"
        for resource, count in acknowledged.items()
        if entries[resource] < count
    ]
    found += [
        f"{resource}: {entries[resource]} in the audit, {count} were stored"
        for resource, count in possible.items()
        if entries[resource] > count
    ]
    for kind, sql in _STORED.items():
        stored = {row[0] for row in conn.execute(sql)} - seen.imported
        made = Counter(row["resource_id"] for row in done if row["action"] == f"{kind}.create")
        made.subtract(row["resource_id"] for row in done if row["action"] in (f"{kind}.delete", f"{kind}.revoke"))
        found += [f"{kind} {one} is stored and no entry says who created it" for one in stored if made[one] < 1]
        gone = [one for one, count in made.items() if count > 0 and one not in stored | seen.imported]
        found += [f"{kind} {one} is created by the audit and not there" for one in gone]
    sql = """select c.call_id from tool_calls c left join audit_tool_calls a
      on a.turn_id = c.turn_id and a.call_id = c.call_id where c.finished_at is not null and a.id is null"""
    return found + [f"tool call {row[0]} has ended and is not in the audit" for row in conn.execute(sql)]


def chain(conn: Connection, path: Path) -> list[str]:
    """The hash chain over the audit of changes is whole, and its ends are signed."""
    if "audit_chain" not in tables(conn):
        return []
    engine: Any = SimpleNamespace(secrets=Secrets.load(path / "keys/secrets.key"))
    *_, last = Chain(engine).verified(conn)
    broken = last.result.broken if last.result else None
    return [f"the audit is broken at {broken.entry}: {broken.reason}"] if broken else []


def conversations(conn: Connection) -> list[str]:
    """Each result is of one call, and each call of a completed turn has one; an answer is its deltas joined."""
    found: list[str] = []
    for turn in conn.execute(
        f"select id, session_id, status, first_event, last_event from turns where session_id in ({_KEPT})"
    ).fetchall():
        sql = "select body from messages where session_id = ? and turn_id = ? order by n"
        said = [
            msgspec.json.decode(row[0], type=Message) for row in conn.execute(sql, (turn["session_id"], turn["id"]))
        ]
        calls = Counter(call.call_id for one in said for call in one.tool_calls)
        results = Counter(one.call_id for one in said if one.role == "tool")
        wrong = [one for one in calls | results if calls[one] != 1 or results[one] > 1]
        if turn["status"] == "completed":
            wrong += [one for one in calls if results[one] != 1]
            found += _told(conn, turn)
        if wrong:
            found.append(f"turn {turn['id']} ({turn['status']}) has calls {dict(calls)} and results {dict(results)}")
        if turn["first_event"] and turn["status"] == "completed" and (not said or said[0].role != "user"):
            found.append(f"turn {turn['id']} has lost its user's message")
    return found


def text_shown(events: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """The text that a client has who follows a turn's events."""
    text = ""
    for name, data in events:
        if name == "message_restart":
            text = data["content"]
        elif name == "message_delta":
            text += data["content"]
    return text


def _told(conn: Connection, turn: Row) -> list[str]:
    own = [
        (name, data)
        for n, name, raw in events(conn, turn["session_id"])
        if turn["first_event"] <= n <= turn["last_event"] and "agent" not in (data := msgspec.json.decode(raw))
    ]
    deltas = text_shown(own)
    said = [data["content"] for name, data in own if name == "message"]
    found = [] if said == [deltas] else [f"turn {turn['id']} said {said}, its deltas are {deltas!r}"]
    asked, given = ([data["call_id"] for name, data in own if name == f"tool_{of}"] for of in ("call", "result"))
    if Counter(asked) != Counter(given):
        found.append(f"turn {turn['id']} shows calls {asked} and results {given}")
    return found


def summaries(conn: Connection) -> list[str]:
    """Each message went into a session's summary once, in an event that its call's usage came with."""
    found: list[str] = []
    for (session_id,) in conn.execute(_KEPT).fetchall():
        made = [msgspec.json.decode(data) for _, name, data in events(conn, session_id) if name == "summarised"]
        through = 0
        for one in made:
            if one["through"] - one["messages"] != through:
                found.append(f"session {session_id}: {one} follows a summary through {through}")
            through = one["through"]
        row = conn.execute("select through_n from summaries where session_id = ?", (session_id,)).fetchone()
        if (row["through_n"] if row else 0) != through:
            found.append(f"session {session_id}: its summary is not what its last event says, {through}")
        sql = """select count(*) from usage u join turns t on t.id = u.turn_id
          where t.session_id = ? and u.purpose = 'summary'"""
        paid = conn.execute(sql, (session_id,)).fetchone()[0]
        if paid < len(made):
            found.append(f"session {session_id}: {len(made)} summaries have the usage of {paid} calls")
    return found


def states(conn: Connection) -> list[str]:
    """No question of a turn that has ended is pending, and no call of a completed one is open."""
    found = [
        f"confirmation {row['id']} is pending, its turn is {row['status']}"
        for row in conn.execute(
            f"""select c.id, t.status from confirmations c join turns t on t.id = c.turn_id
            where t.session_id in ({_KEPT}) and c.status = 'pending' and t.status not in ('queued', 'running')"""
        )
    ]
    return found + [
        f"tool call {row['call_id']} is {row['status']}, its turn is completed"
        for row in conn.execute(
            """select c.call_id, c.status from tool_calls c join turns t on t.id = c.turn_id
            where t.status = 'completed' and c.status not in ('completed', 'failed')"""
        )
    ]


def tasks(conn: Connection, *, idle: bool = True) -> list[str]:
    """No task that workers have in progress is left when an engine is idle: a turn ends, and then its task."""
    if not idle:
        return []
    rows = conn.execute(
        """select k.id, t.status from tasks k left join turns t on t.id = k.turn_id
        where k.status = 'in_progress' and k.turn_id is not null"""
    )
    return [f"task {row[0]} is in progress, its turn is {row[1]}" for row in rows]


def counts(conn: Connection) -> list[str]:
    """The counts that are kept for lists are what counting gives."""
    found: list[str] = []
    for listing in (SESSIONS, TASKS):
        for table, columns, only in (
            ("counts", ", ".join(listing.kinds), "unit = ''"),
            ("of", listing.kept, "rows = rows"),
        ):
            kept = f"select {columns}, rows from {listing.table}_{table} where {only} and rows <> 0"
            true = f"select {columns}, count(*) from {listing.table} where {listing.only.format('')} group by {columns}"
            wrong = conn.execute(f"select * from ({kept} except {true}) limit 3").fetchall()
            wrong += conn.execute(f"select * from ({true} except {kept}) limit 3").fetchall()
            found += [f"{listing.table} are counted as {tuple(row)}, and are not so many" for row in wrong]
    return found
