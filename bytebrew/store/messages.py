"""SQL for messages, and the newest of them that fit into a model's context window."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any

import msgspec
from msgspec import Struct

from bytebrew.base.formats import now
from bytebrew.contract.connection import Connection, Row
from bytebrew.contract.lists import PAGE_BYTES, bounded
from bytebrew.contract.messages import Message
from bytebrew.store import forks

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Message).decode

INVALID = "invalid"
"""`broken_off` of a final answer that its response format does not allow."""
_ALL = 2**62
"""A limit in SQL that means no limit."""


class Window(Struct, frozen=True):
    """The newest whole turns within a budget, the summary of older turns, and whether turns between them are lost."""

    summary: str
    messages: list[Message]
    first_n: int
    gap: bool


class Chunk(Struct, frozen=True):
    """The oldest messages that no summary covers yet."""

    summary: str
    messages: list[Message]
    through_n: int
    turns: int
    tokens: int


class Summary(Struct, frozen=True, kw_only=True):
    """What the model has in place of the session's oldest messages, those up to the number `through`."""

    content: str
    through: int
    created_at: str


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message as clients read it; `broken_off` says how its turn ended where the answer did not come to its end.

    It is `invalid` for an answer that the response format does not allow, which the next one replaces. `turn_id` is the
    turn that a message belongs to: one that steered a turn belongs to that.
    """

    id: str
    turn_id: str
    role: str
    content: str
    created_at: str
    thinking: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool: str = ""
    call_id: str = ""
    has_error: bool = False
    broken_off: str = ""
    attachments: tuple[dict[str, str], ...] = ()


def estimate_tokens(text: str) -> int:
    """Four characters to a token, rounded up."""
    return (len(text) + 3) // 4


def tokens(message: Message) -> int:
    """An estimate of a message's tokens in a model's context."""
    return (
        4
        + estimate_tokens(message.content)
        + sum(1000 + len(one.data) // 64 for one in message.attachments)
        + sum(8 + estimate_tokens(msgspec.json.encode(call.input).decode()) for call in message.tool_calls)
    )


def append(conn: Connection, session_id: str, turn_id: str, new: Sequence[Message]) -> None:
    """Appends messages to the session."""
    moment = now()
    conn.executemany(
        """insert into messages select ?1,
        coalesce(max(n), (select forked_messages from sessions where id = ?1), 0) + 1, ?2, ?3, ?4, ?5 from messages
        where session_id = ?1""",
        [(session_id, turn_id, _encode(message).decode(), tokens(message), moment) for message in new],
    )


def last_number(conn: Connection, session_id: str) -> int:
    """The number of the session's newest message, 0 if it has none."""
    row = conn.execute("select max(n) from messages where session_id = ?", (session_id,)).fetchone()
    return row[0] or 0


def entries(conn: Connection, session_id: str, after: int = 0, limit: int = _ALL) -> list[Entry]:
    """The session's messages after a number, oldest first, up to a megabyte plus one message."""
    rows = _ascending(conn, session_id, after, _ALL)
    return [_entry(row) for row in bounded(islice(rows, limit))]


def newest(conn: Connection, session_id: str, limit: int) -> list[Entry]:
    """The session's last messages, oldest first, up to a megabyte plus one message."""
    rows = bounded(islice(_descending(conn, session_id, 0), limit))
    return [_entry(row) for row in rows][::-1]


_ROWS = "select n, turn_id, body, tokens, created_at from messages where session_id = ? and n > ? and n < ? order by n"


def _ascending(conn: Connection, session_id: str, after: int, before: int) -> Iterator[Row]:
    """The rows between two numbers, oldest first, with those that a fork shares."""
    own = conn.execute(_ROWS, (session_id, after, before))
    first = own.fetchone()
    if first is None or first["n"] > after + 1:
        for part in forks.ranges(conn, session_id):
            yield from conn.execute(_ROWS, (part.holder, *_within(part, after, before)))
    if first is not None:
        yield first
        yield from own


def _descending(conn: Connection, session_id: str, after: int, before: int = _ALL) -> Iterator[Row]:
    """The rows between two numbers, newest first, with those that a fork shares."""
    number = before
    for row in conn.execute(f"{_ROWS} desc", (session_id, after, before)):
        yield row
        number = row["n"]
    if number > after + 1:
        for part in reversed(forks.ranges(conn, session_id)):
            yield from conn.execute(f"{_ROWS} desc", (part.holder, *_within(part, after, before)))


def _within(part: forks.Range, after: int, before: int) -> tuple[int, int]:
    return max(after, part.first_message - 1), min(before, part.last_message + 1)


def _entry(row: Row) -> Entry:
    message = _decode(row["body"])
    return Entry(
        id=str(row["n"]),
        turn_id=row["turn_id"],
        role=message.role,
        content=message.content,
        created_at=row["created_at"],
        thinking=message.thinking,
        tool_calls=tuple(
            {"tool": call.tool, "input": call.input, "call_id": call.call_id} for call in message.tool_calls
        ),
        tool=message.tool,
        call_id=message.call_id,
        has_error=message.has_error,
        broken_off=message.broken_off,
        attachments=tuple(
            {"media_type": one.media_type, "name": one.name, "url": one.url} for one in message.attachments
        ),
    )


def of_turn(conn: Connection, session_id: str, turn_id: str) -> list[Message]:
    """The messages of one turn, oldest first; fast for turns near the session's end."""
    found: list[Message] = []
    rows = conn.execute("select turn_id, body from messages where session_id = ? order by n desc", (session_id,))
    for row in rows:
        if row["turn_id"] == turn_id:
            found.append(_decode(row["body"]))
        elif found:
            break
    return found[::-1]


def preceding(conn: Connection, session_id: str, turn_id: str) -> list[tuple[str, Message]] | None:
    """The messages before those of a turn, oldest first, with their turns; None if they are above a megabyte."""
    found, size = [], 0
    for row in _ascending(conn, session_id, 0, _ALL):
        if row["turn_id"] == turn_id:
            break
        size += len(row["body"])
        if size > PAGE_BYTES:
            return None
        found.append((row["turn_id"], _decode(row["body"])))
    return found


def between(conn: Connection, session_id: str, first: int, last: int) -> list[Message]:
    """The session's own messages with these numbers."""
    return [_decode(row["body"]) for row in conn.execute(_ROWS, (session_id, first - 1, last + 1))]


def before(conn: Connection, session_id: str, number: int, budget: int) -> tuple[list[Message], bool]:
    """The newest whole turns before a message, within a budget of tokens, and whether there are older ones."""
    found: list[list[Message]] = []
    total = 0
    for _, group in groupby(_descending(conn, session_id, 0, number), key=lambda row: row["turn_id"]):
        turn = list(group)
        total += sum(row["tokens"] for row in turn)
        if total > budget:
            break
        found.append([_decode(row["body"]) for row in reversed(turn)])
    return [message for turn in reversed(found) for message in turn], total > budget


def window(conn: Connection, session_id: str, turn_id: str, budget: int, keep: int = 0) -> Window:
    """The newest whole turns before a turn, within a budget of tokens.

    If not all turns after the summary fit, only half the budget is filled, so that summaries are made rarely; or more,
    if the newest turns take more that are to `keep`.
    """
    covered, summary = _summary(conn, session_id)
    rows = _descending(conn, session_id, covered)
    turns: list[tuple[int, int, list[Message]]] = []
    total = 0
    for key, group in groupby(rows, key=lambda row: row["turn_id"]):
        if key == turn_id:
            continue
        turn = list(group)
        total += sum(row["tokens"] for row in turn)
        if total > budget:
            return _half(turns, summary, budget, keep)
        turns.append((turn[-1]["n"], total, [_decode(row["body"]) for row in reversed(turn)]))
    return Window(summary, _joined(turns), turns[-1][0] if turns else covered + 1, False)


def _half(turns: Sequence[tuple[int, int, list[Message]]], summary: str, budget: int, keep: int) -> Window:
    kept = [turn for n, turn in enumerate(turns) if n < keep or turn[1] <= budget // 2]
    return Window(summary, _joined(kept), kept[-1][0] if kept else 2**62, True)


def _joined(turns: Sequence[tuple[int, int, list[Message]]]) -> list[Message]:
    return [message for _, _, turn in reversed(turns) for message in turn]


def oldest_uncovered(conn: Connection, session_id: str, turn_id: str, before_n: int, budget: int) -> Chunk | None:
    """The oldest whole turns before a number that no summary covers, at least one, within a budget of tokens."""
    covered, summary = _summary(conn, session_id)
    rows = _ascending(conn, session_id, covered, before_n)
    found: list[Message] = []
    total, through, turns, taken = 0, covered, 0, 0
    for key, group in groupby(rows, key=lambda row: row["turn_id"]):
        turn = list(group)
        total += sum(row["tokens"] for row in turn)
        if key == turn_id or (found and total > budget):
            break
        found += [_decode(row["body"]) for row in turn]
        through, turns, taken = turn[-1]["n"], turns + 1, total
    return Chunk(summary, found, through, turns, taken) if found else None


def summarise(conn: Connection, session_id: str, through_n: int, content: str) -> None:
    """Stores the summary of everything up to a number."""
    conn.execute(
        """insert into summaries values (?, ?, ?, ?) on conflict (session_id) do update set
        through_n = excluded.through_n, content = excluded.content, created_at = excluded.created_at""",
        (session_id, through_n, content, now()),
    )


def summary(conn: Connection, session_id: str) -> Summary | None:
    """The session's summary; None while none was made."""
    sql = "select content, through_n as through, created_at from summaries where session_id = ? and content <> ''"
    row = conn.execute(sql, (session_id,)).fetchone()
    return None if row is None else Summary(**dict(row))


def _summary(conn: Connection, session_id: str) -> tuple[int, str]:
    row = conn.execute("select through_n, content from summaries where session_id = ?", (session_id,)).fetchone()
    return (row["through_n"], row["content"]) if row else (0, "")


def paired(messages: Iterable[Message]) -> list[Message]:
    """The messages with each tool call followed by its result; a missing result is replaced by a note."""
    found: list[Message] = []
    open_calls: dict[str, int] = {}
    for message in messages:
        if message.role == "tool":
            if message.call_id in open_calls:
                found[open_calls.pop(message.call_id)] = message
            continue
        open_calls.clear()
        found.append(message)
        for call in message.tool_calls:
            open_calls[call.call_id] = len(found)
            words = "The call was interrupted; whether it took effect is not known"
            found.append(Message("tool", words, call_id=call.call_id, tool=call.tool, has_error=True))
    return found


def keep_result(conn: Connection, session_id: str, turn_id: str, call_id: str, output: str) -> None:
    """Stores the whole output of a tool call whose result is truncated."""
    conn.execute(
        """insert into results (turn_id, call_id, session_id, output) values (?, ?, ?, ?)
        on conflict (turn_id, call_id) do update set session_id = excluded.session_id, output = excluded.output""",
        (turn_id, call_id, session_id, output),
    )


def whole_result(conn: Connection, session_id: str, call_id: str) -> str | None:
    """The whole output of a truncated tool call; the newest if several calls have this id."""
    sql = "select output from results where session_id = ? and call_id = ? order by turn_id desc limit 1"
    row = conn.execute(sql, (session_id, call_id)).fetchone()
    row = row or conn.execute(f"select r.output {_SHARED} and r.call_id = ? limit 1", (session_id, call_id)).fetchone()
    return row["output"] if row else None


_SHARED = """from shared_history h join results r on r.session_id = h.holder join turns t on t.id = r.turn_id
  where h.session_id = ? and t.last_event between h.first_event and h.last_event"""


def has_results(conn: Connection, session_id: str) -> bool:
    """Whether the session has truncated outputs."""
    sql = f"select exists (select 1 from results where session_id = ?) or exists (select 1 {_SHARED})"
    return bool(conn.execute(sql, (session_id, session_id)).fetchone()[0])
