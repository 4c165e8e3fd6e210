"""Schedules and webhooks in the database."""

from typing import Any, NamedTuple

import msgspec

from bytebrew import Conflict, Connection, Migration, NotFound, Row, now

from .definition import NewSchedule, NewWebhook

MIGRATIONS = (
    Migration(
        1,
        """
create table triggers_schedules (
  name text primary key,
  definition text not null,
  owner text not null,
  next_at real,
  last_at text,
  last_task_id text,
  last_error text,
  created_at text not null,
  updated_at text not null
) strict, without rowid;
create index triggers_schedules_due on triggers_schedules (next_at) where next_at is not null;
create table triggers_webhooks (
  name text primary key,
  definition text not null,
  owner text not null,
  sealed_secret blob not null,
  last_at text,
  last_task_id text,
  last_error text,
  created_at text not null,
  updated_at text not null
) strict, without rowid;
create table triggers_signatures (
  webhook text not null references triggers_webhooks (name) on delete cascade,
  signature blob not null,
  expires_at real not null,
  primary key (webhook, signature)
) strict, without rowid;
create index triggers_signatures_expiring on triggers_signatures (expires_at);
""",
    ),
)
REMEMBERED = 3600.0
"""Seconds for which a signature is known beyond its time: the clock may be set back, the window made longer."""


class Kind(NamedTuple):
    """One of the two kinds of trigger: its name in words and in the file, and the struct of its definition."""

    word: str
    table: str
    definition: Any


SCHEDULE = Kind("schedule", "triggers_schedules", NewSchedule)
WEBHOOK = Kind("webhook", "triggers_webhooks", NewWebhook)


def list_all(conn: Connection, kind: Kind) -> list[Row]:
    """Every one by name."""
    return conn.execute(f"select * from {kind.table} order by name").fetchall()  # noqa: S608


def find(conn: Connection, kind: Kind, name: str) -> Row | None:
    """The one of a name."""
    row: Row | None = conn.execute(f"select * from {kind.table} where name = ?", (name,)).fetchone()  # noqa: S608
    return row


def get(conn: Connection, kind: Kind, name: str) -> Row:
    """The one of a name; NotFound otherwise."""
    row = find(conn, kind, name)
    if row is None:
        raise NotFound(f"There is no {kind.word} '{name[:255]}'")
    return row


def definition(row: Row, kind: Kind) -> Any:
    """What was written down of it."""
    return msgspec.json.decode(row["definition"], type=kind.definition)


def create(conn: Connection, kind: Kind, new: Any, **columns: Any) -> Row:
    """A new one; Conflict where the name is taken."""
    if find(conn, kind, new.name):
        words = f"There is a {kind.word} '{new.name}' already; PUT /api/v1/{kind.word}s/{new.name} changes it"
        raise Conflict(words)
    moment = now()
    values = {"name": new.name, "definition": _encoded(new), "created_at": moment, "updated_at": moment, **columns}
    conn.execute(
        f"insert into {kind.table} ({', '.join(values)}) values ({', '.join('?' * len(values))})",  # noqa: S608
        tuple(values.values()),
    )
    return get(conn, kind, new.name)


def update(conn: Connection, kind: Kind, new: Any, **columns: Any) -> Row:
    """The one with another definition."""
    values = {"definition": _encoded(new), "updated_at": now(), **columns}
    put(conn, kind, new.name, **values)
    return get(conn, kind, new.name)


def put(conn: Connection, kind: Kind, name: str, **columns: Any) -> None:
    """Sets columns of the one of a name."""
    assignments = ", ".join(f"{column} = ?" for column in columns)
    conn.execute(f"update {kind.table} set {assignments} where name = ?", (*columns.values(), name))  # noqa: S608


def delete(conn: Connection, kind: Kind, name: str) -> None:
    """Removes the one of a name; the tasks that it made stay."""
    get(conn, kind, name)
    conn.execute(f"delete from {kind.table} where name = ?", (name,))  # noqa: S608


def is_new(conn: Connection, webhook: str, signature: bytes, expires_at: float, moment: float) -> bool:
    """Remembers a signature, and forgets those that have long expired; False where it came before."""
    conn.execute("delete from triggers_signatures where expires_at < ?", (moment - REMEMBERED,))
    sql = "insert into triggers_signatures values (?, ?, ?) on conflict do nothing"
    return conn.execute(sql, (webhook, signature, expires_at)).rowcount == 1


def _encoded(new: Any) -> str:
    return msgspec.json.encode(new).decode()
