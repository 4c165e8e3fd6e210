"""The changes that the feed tells, and how they are noted."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, json

from bytebrew import Connection, Row, now

from .triggers import NOTE

TOPICS = {
    "approval.created": "a question waits for a person",
    "approval.answered": "a question was answered, has expired or was cancelled",
    "turn.queued": "a message waits for its turn to run",
    "turn.started": "a turn runs",
    "turn.ended": "a turn has ended, with its status",
    "task.changed": "a task is new or has another status",
    "mcp.changed": "an MCP server or a tool of it was changed, or what people have decided about that",
    "budget.near": "a budget is near its limit",
    "config.changed": "an item of the configuration has another version",
}
"""What each topic means."""


class Change(Struct, frozen=True, kw_only=True):
    """Something has changed; `id` is that of the approval, turn, task, MCP server, budget or item.

    `data` has ids, states and names beside it: no texts of a conversation and no inputs of tools. Ask the API for what
    there is now.
    """

    topic: str
    id: str
    at: str
    data: dict[str, Any]


def note(conn: Connection, topic: str, id: str, data: Mapping[str, Any]) -> None:
    """Notes a change that is none of a row, while somebody follows."""
    conn.execute(f"{NOTE} values (?, ?, ?)", (topic, id, json.encode(data).decode()))


def taken(conn: Connection) -> Sequence[Change]:
    """What was noted since the last time, oldest first; it is forgotten."""
    rows = conn.execute("select n, topic, id, data from temp.feed_changes order by n").fetchall()
    if rows:
        conn.execute("delete from temp.feed_changes where n <= ?", (rows[-1]["n"],))
    return made(rows)


def made(rows: Sequence[Row]) -> Sequence[Change]:
    """The changes of rows that note them."""
    at = now()
    return [Change(topic=row["topic"], id=row["id"], at=at, data=json.decode(row["data"])) for row in rows]
