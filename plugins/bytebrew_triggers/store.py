"""SQL for schedules and webhooks."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

import bytebrew
from bytebrew import Conflict, Connection, Migration, NotFound, Person, Row, insert, now, placeholders

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
    Migration(2, "alter table triggers_signatures add column answer text;"),
    Migration(
        3,
        """
create table triggers_deliveries (
  n integer primary key,
  webhook text not null references triggers_webhooks (name) on delete cascade,
  at text not null,
  status integer not null,
  reason text,
  task_id text
) strict;
create index triggers_deliveries_webhook on triggers_deliveries (webhook, n);
""",
    ),
)
KEPT_SECONDS = 3600.0
"""Seconds for which an expired signature is kept, because the clock may be set back, or the window extended."""


class Kind(NamedTuple):
    """A kind of trigger: its name in messages, its table, and the struct of its definition."""

    word: str
    table: str
    definition: Any


SCHEDULE = Kind("schedule", "triggers_schedules", NewSchedule)
WEBHOOK = Kind("webhook", "triggers_webhooks", NewWebhook)


def list_all(conn: Connection, kind: Kind) -> list[Row]:
    """Every trigger of a kind by name."""
    return conn.execute(f"select * from {kind.table} order by name").fetchall()  # noqa: S608


def find(conn: Connection, kind: Kind, name: str) -> Row | None:
    """A trigger by name, or None."""
    row: Row | None = conn.execute(f"select * from {kind.table} where name = ?", (name,)).fetchone()  # noqa: S608
    return row


def get(conn: Connection, kind: Kind, name: str) -> Row:
    """A trigger by name; NotFound otherwise."""
    row = find(conn, kind, name)
    if row is None:
        raise NotFound(f"There is no {kind.word} '{name[:255]}'")
    return row


def definition(row: Row, kind: Kind) -> Any:
    """The definition of a trigger."""
    return msgspec.json.decode(row["definition"], type=kind.definition)


def create(conn: Connection, kind: Kind, new: Any, **columns: Any) -> Row:
    """Creates a trigger; Conflict if the name is taken."""
    if find(conn, kind, new.name):
        message = f"There is a {kind.word} '{new.name}' already; PUT /api/v1/{kind.word}s/{new.name} changes it"
        raise Conflict(message)
    moment = now()
    values = {"name": new.name, "definition": _encoded(new), "created_at": moment, "updated_at": moment, **columns}
    insert(conn, kind.table, values)
    return get(conn, kind, new.name)


def update(conn: Connection, kind: Kind, new: Any, **columns: Any) -> Row:
    """Replaces the definition of a trigger."""
    values = {"definition": _encoded(new), "updated_at": now(), **columns}
    put(conn, kind, new.name, **values)
    return get(conn, kind, new.name)


def put(conn: Connection, kind: Kind, name: str, **columns: Any) -> None:
    """Sets columns of a trigger."""
    bytebrew.update(conn, kind.table, columns, name=name)


def delete(conn: Connection, kind: Kind, name: str) -> None:
    """Deletes a trigger; its tasks stay."""
    get(conn, kind, name)
    conn.execute(f"delete from {kind.table} where name = ?", (name,))  # noqa: S608


def export(conn: Connection, person: Person) -> Iterator[dict[str, Any]]:
    """The triggers whose tasks belong to the person."""
    for kind in (SCHEDULE, WEBHOOK):
        sql = f"select * from {kind.table} where owner in ({placeholders(person.names)}) order by name"  # noqa: S608
        for row in conn.execute(sql, person.names):
            yield {"kind": kind.word, "created_at": row["created_at"], **msgspec.json.decode(row["definition"])}


def forget(conn: Connection, person: Person) -> int:
    """Deletes the triggers whose tasks belong to the person, with their versions."""
    count = 0
    for kind in (SCHEDULE, WEBHOOK):
        sql = f"delete from {kind.table} where owner in ({placeholders(person.names)}) returning name"  # noqa: S608
        for row in conn.execute(sql, person.names).fetchall():
            conn.execute("delete from versions where section = ? and name = ?", (f"{kind.word}s", row["name"]))
            count += 1
    return count


def is_new(conn: Connection, webhook: str, signature: bytes, expires_at: float, moment: float) -> bool:
    """Stores a signature, and deletes long expired ones; False if it is stored already."""
    conn.execute("delete from triggers_signatures where expires_at < ?", (moment - KEPT_SECONDS,))
    sql = "insert into triggers_signatures (webhook, signature, expires_at) values (?, ?, ?) on conflict do nothing"
    return conn.execute(sql, (webhook, signature, expires_at)).rowcount == 1


def keep_answer(conn: Connection, webhook: str, signature: bytes, answer: str) -> None:
    """Stores what a request was answered, for when it comes again."""
    bytebrew.update(conn, "triggers_signatures", {"answer": answer}, webhook=webhook, signature=signature)


def answer_of(conn: Connection, webhook: str, signature: bytes) -> str:
    """What a request was answered that has come before."""
    sql = "select answer from triggers_signatures where webhook = ? and signature = ?"
    return str(conn.execute(sql, (webhook, signature)).fetchone()["answer"])


def _encoded(new: Any) -> str:
    return msgspec.json.encode(new).decode()
