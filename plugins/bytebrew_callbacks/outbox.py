"""The outbox: writes deliveries in the transaction of what they report, and finds those of a person."""

from collections.abc import Callable, Iterator

from msgspec import Struct
from msgspec.json import encode

from bytebrew import Connection, Notification, NotificationName, Person, insert, new_uuid, now, placeholders

from . import store
from .definition import origin

MOST_RECEIVER = 255
"""Characters by which receivers are told apart; an entry of PostgreSQL's indexes has 2,704 bytes at most."""
_AT_ONCE = 500
"""Sessions in one statement, and most rows that one call deletes."""


class Message(Struct, frozen=True):
    """The body of a delivery, as Standard Webhooks has it; the `timestamp` is that of what happened."""

    type: NotificationName
    timestamp: str
    data: object


class Outbox:
    """A subscriber; calls `wake` from the database's thread, before the commit."""

    def __init__(self, wake: Callable[[], None], clock: Callable[[], float]) -> None:
        self._wake = wake
        self._clock = clock

    def take(self, conn: Connection, notification: Notification) -> None:
        """Writes a delivery for each callback that wants the notification, and for the task's own URL."""
        receivers = []
        schema = notification.data.get("schema") or ""
        for row in store.list_all(conn):
            one = store.definition(row)
            if one.enabled and notification.name in one.events and one.schema in ("", schema):
                receivers.append({"callback": one.name, "receiver": f"callback:{one.name}", "url": one.url})
        if notification.name == "task.ended":
            row = conn.execute("select callback_url from tasks where id = ?", (notification.subject,)).fetchone()
            if row is not None and row["callback_url"]:
                scheme, host, port = origin(row["callback_url"])
                whose = f"{scheme}://{host}:{port}"[:MOST_RECEIVER]
                receivers.append({"callback": "", "receiver": whose, "url": row["callback_url"]})
        if not receivers:
            return
        moment = now()
        rest = {
            "task_id": notification.data.get("task_id"),
            "session_id": notification.data.get("session_id"),
            "type": notification.name,
            "subject": notification.subject,
            "body": encode(Message(notification.name, moment, notification.data)).decode(),
            "status": "pending",
            "attempts": 0,
            "next_at": self._clock(),
            "created_at": moment,
        }
        for receiver in receivers:
            insert(conn, "callbacks_deliveries", receiver | rest, id=f"msg_{new_uuid().replace('-', '')}")
        self._wake()


def of_person(conn: Connection, person: Person) -> Iterator[dict[str, str]]:
    """The deliveries about a person's sessions."""
    for part in _parts(person):
        sql = "select id, url, body, status, created_at from callbacks_deliveries where session_id in"
        for row in conn.execute(f"{sql} ({placeholders(part)})", part):
            yield dict(zip(row.keys(), row, strict=True))


def forget(conn: Connection, person: Person) -> int:
    """Deletes some of a person's deliveries, sent or not; returns their number."""
    for part in _parts(person):
        deleted = conn.execute(
            f"""delete from callbacks_deliveries where seq in (select seq from callbacks_deliveries
            where session_id in ({placeholders(part)}) limit {_AT_ONCE})""",  # noqa: S608
            part,
        ).rowcount
        if deleted:
            return deleted
    return 0


def _parts(person: Person) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(person.sessions), _AT_ONCE):
        yield person.sessions[start : start + _AT_ONCE]
