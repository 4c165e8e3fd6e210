"""The last deliveries of webhooks: what each request was answered and why, without its body.

Those that were signed are stored with what they did; those that were not are kept in memory, because nobody without a
secret may make the engine write.
"""

from collections import deque

from msgspec import Struct

from bytebrew import Connection, EngineError, insert, now

MOST = 50
"""Signed deliveries of each webhook that are stored."""
MOST_REFUSED = 200
"""Requests without a valid signature that are remembered, of all webhooks."""


class Delivery(Struct, frozen=True, kw_only=True):
    """A request to a webhook: the `status` that it was answered with, why it made no task, or the task that it made."""

    at: str
    status: int
    reason: str | None = None
    task_id: str | None = None


class Refused:
    """The last requests without a valid signature since the engine started."""

    def __init__(self) -> None:
        self._last = deque[tuple[str, Delivery]](maxlen=MOST_REFUSED)

    def add(self, webhook: str, error: EngineError) -> None:
        """Remembers a request, whether there is such a webhook or not."""
        self._last.append((webhook[:63], Delivery(at=now(), status=error.status, reason=error.message)))

    def of(self, webhook: str) -> list[Delivery]:
        """Those to a webhook."""
        return [delivery for name, delivery in self._last if name == webhook]


def keep(conn: Connection, webhook: str, status: int, reason: str | None = None, task_id: str | None = None) -> None:
    """Stores a signed delivery, and deletes the webhook's oldest beyond MOST."""
    delivery = {"webhook": webhook, "at": now(), "status": status, "reason": reason, "task_id": task_id}
    insert(conn, "triggers_deliveries", delivery)
    conn.execute(
        """delete from triggers_deliveries where webhook = ?1 and n <= (
        select n from triggers_deliveries where webhook = ?1 order by n desc limit 1 offset ?2)""",
        (webhook, MOST),
    )


def stored(conn: Connection, webhook: str) -> list[Delivery]:
    """The signed deliveries of a webhook, newest first."""
    sql = "select at, status, reason, task_id from triggers_deliveries where webhook = ? order by n desc"
    return [Delivery(**row) for row in conn.execute(sql, (webhook,))]
