"""SQL that reads how a turn ended: its answer or error, its usage, its form."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from bytebrew.contract.connection import Connection, placeholders
from bytebrew.contract.events import Event, FinishReason, form_of
from bytebrew.contract.messages import Usage
from bytebrew.store import forks, messages, sessions
from bytebrew.store.open_turns import spent
from bytebrew.store.queries.event_rows import PACKED
from bytebrew.store.queries.events import last_number, read_events, unpacked
from bytebrew.store.queries.spawned_turns import COUNTS
from bytebrew.store.turns import Status

ALL = 2**62
"""A number above that of every event."""


class Outcome(NamedTuple):
    """The outcome of a turn: its answer, or message and code of its error; `truncated` at the token limit."""

    status: str
    text: str
    code: str
    truncated: bool = False


def outcome(conn: Connection, turn_id: str) -> Outcome | None:
    """The outcome of a turn; None while it has not ended."""
    row = conn.execute("select session_id, status, last_event from turns where id = ?", (turn_id,)).fetchone()
    if row is None or row["status"] in ("queued", "running"):
        return None
    events = read_events(conn, row["session_id"], row["last_event"] - 1, row["last_event"])
    last = msgspec.json.decode(events[0][2]) if events else {"message": "It failed", "code": "turn_failed"}
    if row["status"] == "failed":
        return Outcome("failed", last["message"], last["code"])
    of_agent = [one.content for one in messages.of_turn(conn, row["session_id"], turn_id) if one.role == "assistant"]
    answer = of_agent[-1] if of_agent else ""
    return Outcome(row["status"], answer, "", last.get("finish_reason") == "max_tokens")


class TurnResult(Struct, frozen=True, kw_only=True):
    """A turn as its stream shows it; `failure`, `code` and `message` are HTTP status, code and text of its error.

    `data` is the value of a structured answer, `form` the form it ended with, until the session continues. `first` and
    `last` are the range of its events; `last` is None while it has not ended. A turn that was absorbed has the result
    of the one that has absorbed it, with a `first` of its own.
    """

    id: str
    session_id: str
    status: Status
    first: int | None = None
    last: int | None = None
    text: str = ""
    usage: Usage
    failure: int | None = None
    code: str = ""
    message: str = ""
    retry_after: int | None = None
    finish_reason: FinishReason = "stop"
    data: Any | UnsetType = UNSET
    form: dict[str, Any] | None = None
    agent_version: int = 0


def result(
    conn: Connection,
    turn_id: str,
    forms: Mapping[str, type[Event]],
    *,
    whole: bool = True,
    so_far: bool = False,
    fork: str | None = None,
) -> TurnResult | None:
    """A turn as it is stored, None if its session was deleted; with `whole` its events are read too.

    With `so_far` one that has not ended has its text and usage until now. `fork` is the session in whose history it is,
    where another one holds it, which may be deleted.
    """
    sql = f"""select session_id, status, first_event, last_event, failure, steers, agent_version, {COUNTS} from turns
      where id = ?"""
    row = conn.execute(sql, (turn_id,)).fetchone()
    if row is None or (fork is None and sessions.owner(conn, row["session_id"]) is None):
        return None
    if row["status"] == "absorbed":
        end = result(conn, row["steers"], forms, whole=whole, so_far=so_far, fork=fork)
        return replace(end, first=row["first_event"]) if end else None
    first, last = row["first_event"], row["last_event"]
    through = last_number(conn, row["session_id"]) if so_far and last is None and first is not None else last
    deltas: list[str] = []
    code = message = ""
    retry_after: int | None = None
    finish_reason: FinishReason = "stop"
    form: dict[str, Any] | None = None
    value: Any = UNSET
    at = (first or 1) - 1
    while (
        whole and through is not None and at < through and (events := read_events(conn, row["session_id"], at, through))
    ):
        at = events[-1][0]
        for _, name, data, _ in events:
            if name in forms:
                form = form_of(msgspec.json.decode(data, type=forms[name])) or form
            elif name in ("message_delta", "message_restart", "message", "error", "done"):
                event = msgspec.json.decode(data)
                if name == "error":
                    code, message, retry_after = event["code"], event["message"], event.get("retry_after")
                elif name == "done":
                    finish_reason = event.get("finish_reason", "stop")
                elif name == "message":
                    value = value if "agent" in event else event.get("data", UNSET)
                elif "agent" not in event:
                    if name == "message_restart":
                        deltas.clear()
                    deltas.append(event["content"])
    return TurnResult(
        id=turn_id,
        session_id=row["session_id"],
        status=row["status"],
        first=first,
        last=last,
        text="".join(deltas),
        usage=Usage(*(row[name] for name in Usage.__struct_fields__)) if last or not so_far else spent(conn, turn_id),
        failure=row["failure"],
        code=code,
        message=message,
        retry_after=retry_after,
        finish_reason=finish_reason,
        data=value,
        form=form if row["status"] == "completed" and last_number(conn, fork or row["session_id"]) == last else None,
        agent_version=row["agent_version"],
    )


def newest_first(
    conn: Connection, session_id: str, names: Collection[str], through: int = ALL
) -> Iterator[tuple[str, bytes]]:
    """Name and data of a session's events with one of the names, up to one that ends a turn."""
    yield from _newest_first(conn, session_id, names, through)
    for part in reversed(forks.ranges(conn, session_id)):
        yield from _newest_first(conn, part.holder, names, min(through, part.last_event))


def _newest_first(
    conn: Connection, session_id: str, names: Collection[str], through: int
) -> Iterator[tuple[str, bytes]]:
    types = (*names, PACKED)
    rows = conn.execute(
        f"""select n,
          (select coalesce(max(b.n), 0) from events b where b.session_id = e.session_id and b.n < e.n) before
        from events e where session_id = ? and n <= ? and type in ({placeholders(types)}) order by n desc""",
        (session_id, through, *types),
    )
    for row in rows:
        for _, name, data, _ in reversed([*unpacked(conn, session_id, row["before"], row["n"], 2)]):
            if name in names:
                yield name, data
