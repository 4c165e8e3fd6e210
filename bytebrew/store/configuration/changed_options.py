"""Runtime options that differ from their defaults: JSON values by key."""

from typing import Any

import msgspec

from bytebrew.base.formats import now
from bytebrew.contract.connection import Connection


def values(conn: Connection) -> dict[str, tuple[Any, str]]:
    """Every stored value with its modification time."""
    rows = conn.execute("select key, value, updated_at from settings order by key")
    return {row["key"]: (msgspec.json.decode(row["value"]), row["updated_at"]) for row in rows}


def put(conn: Connection, key: str, value: Any) -> str:
    """Stores a value; returns the modification time."""
    moment = now()
    conn.execute(
        """insert into settings values (?, ?, ?) on conflict (key) do update set
        value = excluded.value, updated_at = excluded.updated_at""",
        (key, msgspec.json.encode(value).decode(), moment),
    )
    return moment


def reset(conn: Connection, key: str) -> None:
    """Deletes the value of a key, which restores the default."""
    conn.execute("delete from settings where key = ?", (key,))
