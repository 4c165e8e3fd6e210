"""SQL for callbacks and their deliveries."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bytebrew import Conflict, Connection, Listing, Migration, NotFound, Row, insert, now, update

from .definition import NewCallback

LISTING = Listing(table="callbacks_deliveries", order=("seq",), kinds=("status",), kept="callback", unit="thousand")
MIGRATIONS = (
    Migration(
        1,
        (
            """
create table callbacks (
  name text primary key,
  definition text not null,
  sealed_secret blob not null,
  sealed_previous blob not null,
  previous_until real not null,
  disabled_because text,
  last_at text,
  last_status integer,
  last_error text,
  created_at text not null,
  updated_at text not null
) strict, without rowid;
create table callbacks_deliveries (
  seq integer primary key,
  id text not null unique,
  callback text not null,
  task_id text,
  session_id text,
  receiver text not null,
  url text not null,
  type text not null,
  subject text not null,
  body text not null,
  status text not null,
  attempts integer not null,
  next_at real,
  last_at text,
  last_status integer,
  last_error text,
  created_at text not null,
  delivered_at text
) strict;
create index callbacks_deliveries_status on callbacks_deliveries (status, seq);
create index callbacks_deliveries_callback on callbacks_deliveries (callback, seq);
create index callbacks_deliveries_session on callbacks_deliveries (session_id) where session_id is not null;
create index callbacks_deliveries_created on callbacks_deliveries (created_at) where status <> 'pending';
create index callbacks_deliveries_due on callbacks_deliveries (receiver, next_at) where status = 'pending';
create index callbacks_deliveries_next on callbacks_deliveries (next_at) where status = 'pending';
""",
            LISTING,
        ),
    ),
)
PER_RECEIVER = 2
"""Most tries at one receiver at a time."""


class Due(Struct, frozen=True):
    """A delivery that may be tried; `sealed` are the secrets of its callback, none for a task's own URL."""

    id: str
    callback: str
    receiver: str
    url: str
    body: str
    attempts: int
    sealed: tuple[bytes, ...]


class Backlog(Struct, frozen=True):
    """What waits: `oldest` is when the oldest pending delivery was written, `next_at` when the next one is due."""

    pending: int = 0
    dead: int = 0
    oldest: str | None = None
    next_at: float | None = None


def list_all(conn: Connection) -> list[Row]:
    """Every callback by name."""
    return conn.execute("select * from callbacks order by name").fetchall()


def find(conn: Connection, name: str) -> Row | None:
    """A callback by name, or None."""
    row: Row | None = conn.execute("select * from callbacks where name = ?", (name,)).fetchone()
    return row


def get(conn: Connection, name: str) -> Row:
    """A callback by name; NotFound otherwise."""
    row = find(conn, name)
    if row is None:
        raise NotFound(f"There is no callback '{name[:255]}'")
    return row


def definition(row: Row) -> NewCallback:
    """The definition of a callback, without its secret."""
    return msgspec.json.decode(row["definition"], type=NewCallback)


def create(conn: Connection, new: NewCallback, sealed: bytes) -> Row:
    """Creates a callback; Conflict if the name is taken."""
    if find(conn, new.name):
        message = f"There is a callback '{new.name}' already; PUT /api/v1/callbacks/{new.name} changes it"
        raise Conflict(message)
    moment = now()
    values = {"name": new.name, "definition": _encoded(new), "sealed_secret": sealed, "sealed_previous": b""}
    insert(conn, "callbacks", values, previous_until=0.0, created_at=moment, updated_at=moment)
    return get(conn, new.name)


def change(conn: Connection, new: NewCallback) -> Row:
    """Replaces the definition of a callback; one that is disabled leaves its pending deliveries as dead letters."""
    values = {"definition": _encoded(new), "disabled_because": None, "updated_at": now()}
    update(conn, "callbacks", values, name=new.name)
    if not new.enabled:
        bury(conn, f"callback:{new.name}", "The callback was disabled")
    return get(conn, new.name)


def rotate(conn: Connection, name: str, sealed: bytes, until: float) -> Row:
    """Replaces the secret of a callback; the one before signs too, until a time in seconds since 1970."""
    previous = get(conn, name)["sealed_secret"]
    values = {"sealed_secret": sealed, "sealed_previous": previous, "previous_until": until, "updated_at": now()}
    update(conn, "callbacks", values, name=name)
    return get(conn, name)


def disable(conn: Connection, name: str, reason: str) -> None:
    """Disables a callback that its receiver wants no more."""
    if row := find(conn, name):
        change(conn, replace(definition(row), enabled=False))
        update(conn, "callbacks", {"disabled_because": reason}, name=name)


def delete(conn: Connection, name: str) -> None:
    """Deletes a callback with all its deliveries."""
    get(conn, name)
    conn.execute("delete from callbacks where name = ?", (name,))
    conn.execute("delete from callbacks_deliveries where callback = ?", (name,))


def bury(conn: Connection, receiver: str, reason: str) -> None:
    """Makes dead letters of all that is pending for a receiver."""
    conn.execute(
        """update callbacks_deliveries set status = 'dead', next_at = null, last_error = ?
        where receiver = ? and status = 'pending'""",
        (reason, receiver),
    )


def look(conn: Connection, moment: float) -> tuple[list[Due], Backlog]:
    """What is due, and what waits."""
    return ready(conn, moment), backlog(conn, moment)


def ready(conn: Connection, moment: float) -> list[Due]:
    """Deliveries whose time has come, the longest due first: of each receiver a few more than it may have at once."""
    rows = conn.execute(
        """with recursive receivers (name) as (
          select min(receiver) from callbacks_deliveries where status = 'pending'
          union all select (select min(d.receiver) from callbacks_deliveries d
            where d.status = 'pending' and d.receiver > receivers.name) from receivers where receivers.name is not null)
        select d.id, d.callback, d.receiver, d.url, d.body, d.attempts,
          c.definition, c.sealed_secret, c.sealed_previous, c.previous_until
        from receivers join callbacks_deliveries d on d.id in (
          select o.id from callbacks_deliveries o
          where o.status = 'pending' and o.receiver = receivers.name and o.next_at <= ?1 order by o.next_at limit ?2)
        left join callbacks c on c.name = d.callback order by d.next_at, d.seq""",
        (moment, 2 * PER_RECEIVER),
    )
    return [_due(row, moment) for row in rows]


def _due(row: Row, moment: float) -> Due:
    url, sealed = row["url"], ()
    if row["callback"]:
        previous = (row["sealed_previous"],) if row["sealed_previous"] and row["previous_until"] > moment else ()
        url, sealed = definition(row).url, (row["sealed_secret"], *previous)
    return Due(row["id"], row["callback"], row["receiver"], url, row["body"], row["attempts"], sealed)


def backlog(conn: Connection, moment: float) -> Backlog:
    """What waits, for the metrics and for the worker."""
    oldest = conn.execute(
        "select created_at from callbacks_deliveries where status = 'pending' order by seq limit 1"
    ).fetchone()
    sql = "select min(next_at) from callbacks_deliveries where status = 'pending' and next_at > ?"
    [next_at] = conn.execute(sql, (moment,)).fetchone()
    counts = {
        row["status"]: row["rows"]
        for row in conn.execute(
            "select status, sum(rows) as rows from callbacks_deliveries_counts where unit = '' group by status"
        )
    }
    return Backlog(counts.get("pending", 0), counts.get("dead", 0), oldest and oldest["created_at"], next_at)


def received(conn: Connection, due: Due, status: int) -> None:
    """Records that a receiver has taken a delivery."""
    moment = now()
    values = {"status": "delivered", "attempts": due.attempts + 1, "next_at": None, "delivered_at": moment}
    _tried(conn, due, {"last_at": moment, "last_status": status, "last_error": None}, values)


def failed(conn: Connection, due: Due, status: int | None, error: str, next_at: float | None) -> None:
    """Records a try that has failed; without a time of the next one it was the last."""
    row = conn.execute("select status from callbacks_deliveries where id = ?", (due.id,)).fetchone()
    if row is None or row["status"] != "pending":  # its callback was deleted or disabled meanwhile
        return
    values = {"status": "dead" if next_at is None else "pending", "attempts": due.attempts + 1, "next_at": next_at}
    _tried(conn, due, {"last_at": now(), "last_status": status, "last_error": error}, values)


def _tried(conn: Connection, due: Due, state: dict[str, Any], values: dict[str, Any]) -> None:
    update(conn, "callbacks_deliveries", {**values, **state}, id=due.id)
    if due.callback:
        update(conn, "callbacks", state, name=due.callback)


def delivery(conn: Connection, delivery_id: str) -> Row:
    """A delivery; NotFound otherwise."""
    row: Row | None = conn.execute("select * from callbacks_deliveries where id = ?", (delivery_id,)).fetchone()
    if row is None:
        raise NotFound(f"There is no delivery '{delivery_id[:255]}'")
    return row


def send_again(conn: Connection, delivery_id: str, moment: float) -> Row:
    """Makes a dead letter pending, from the start of the schedule; one that is pending is due at once."""
    row = delivery(conn, delivery_id)
    if row["status"] == "delivered":
        raise Conflict("The delivery was received; there is nothing to send again", code="already_delivered")
    if row["callback"] and not definition(get(conn, row["callback"])).enabled:
        name = row["callback"]
        message = f"The callback '{name}' is disabled; enable it with PATCH /api/v1/callbacks/{name}"
        raise Conflict(message, code="callback_disabled")
    update(conn, "callbacks_deliveries", {"status": "pending", "attempts": 0, "next_at": moment}, id=delivery_id)
    return delivery(conn, delivery_id)


def expire(conn: Connection, before: str) -> Sequence[object]:
    """Deletes some of the deliveries that have ended and were written before a time."""
    return conn.execute(
        """delete from callbacks_deliveries where seq in (select seq from callbacks_deliveries
        where status <> 'pending' and created_at < ? limit 500) returning seq""",
        (before,),
    ).fetchall()


def _encoded(new: NewCallback) -> str:
    return msgspec.json.encode(replace(new, secret="")).decode()
