"""The audit log of changes over the API and of rejected requests."""

import time
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any

import msgspec
from msgspec import Struct

from bytebrew import (
    ANYONE,
    NDJSON,
    Action,
    Actor,
    Connection,
    Engine,
    Listing,
    NumberedPage,
    Request,
    Route,
    Row,
    StateKey,
    Stream,
)

from .audit_log import PAGING, AuditLog
from .chain import Chain, Progress, Verified

MOST_REFUSED = 5
"""Rejections per client and minute that get an entry each; further ones are counted."""
MOST_CLIENTS = 100
"""Clients that are distinguished within a minute; further ones count as one."""
MINUTE = 60.0
TABLE = """
create table audit_changes (
  id integer primary key,
  timestamp text not null,
  actor text not null,
  actor_type text not null,
  actor_id text not null,
  action text not null,
  resource text not null,
  resource_type text not null,
  resource_id text not null,
  details text not null
) strict;
create index audit_changes_time on audit_changes (timestamp);
create index audit_changes_actor_type on audit_changes (actor_type, timestamp);
create index audit_changes_action on audit_changes (action, timestamp);
create index audit_changes_resource on audit_changes (resource, timestamp);
"""


class Change(Struct, frozen=True, kw_only=True):
    """A field that has another value than before: null where there is or was none, `***` for a secret."""

    field: str
    old_value: Any
    new_value: Any


class Details(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a request was and did.

    `subject` is the caller's own, of which there is one at all times. `reason` says why a login was refused, `more` how
    many like it were refused in the same minute and have no entry.
    """

    method: str
    path: str
    status_code: int
    client: str
    request_id: str
    subject: str = ""
    changes: list[Change] = []
    reason: str = ""
    more: int = 0


class ChangeEntry(Struct, frozen=True, kw_only=True):
    """What a caller did; `resource` is the method and the path, `actor_id` a user's id or a token's name.

    `hash` is over the entry and the hash of the one before it; GET /api/v1/audit/verify checks all of them.
    """

    id: str
    timestamp: str
    actor: str
    actor_type: str
    actor_id: str
    action: str
    resource: str
    resource_type: str
    resource_id: str
    details: Details
    hash: str


class ChangePage(NumberedPage[ChangeEntry], frozen=True, kw_only=True):
    """A page of changes, newest first."""


def _entry(row: Row) -> ChangeEntry:
    values = {name: row[name] for name in ChangeEntry.__struct_fields__}
    values |= {"id": str(row["id"]), "details": msgspec.json.decode(row["details"], type=Details)}
    return ChangeEntry(**values)


LISTING = Listing(table="audit_changes", order=("timestamp", "id"), kinds=("actor_type", "action"), kept="resource")
COUNTS = (
    """
drop index audit_changes_actor_type;
drop index audit_changes_action;
create index audit_changes_kinds on audit_changes (actor_type, action, timestamp, id, resource);
""",
    LISTING,
)
LEDGER = AuditLog(
    LISTING,
    {"actor_type": "actor_type", "action": "action", "resource": "resource"},
    _entry,
)


class Refused(Struct):
    """Rejections of one client in the current minute."""

    last: Action
    count: int = 0
    uncounted: int = 0


class Changes:
    """The audit log of changes of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.chain = Chain(engine)
        self._engine = engine
        self._refused: dict[str, Refused] = {}
        self._until = 0.0

    async def take(self, action: Action) -> None:
        """Stores a rejection; after a few in a minute only their number."""
        if time.monotonic() >= self._until:
            await self.settle()
            self._refused, self._until = {}, time.monotonic() + MINUTE
        client = _network(action.client)
        if client not in self._refused and len(self._refused) >= MOST_CLIENTS:
            client = ""
        refused = self._refused.setdefault(client, Refused(action))
        refused.count, refused.last = refused.count + 1, action
        if refused.count > MOST_REFUSED:
            refused.uncounted += 1
        else:
            await self._engine.db.write(self.store, action)

    async def settle(self) -> None:
        """Stores the number of rejections that have no entry yet."""
        for refused in list(self._refused.values()):
            if more := refused.uncounted:
                refused.uncounted = 0
                await self._engine.db.write(self.store, refused.last, more)

    async def list_changes(self, request: Request[None]) -> NumberedPage[ChangeEntry] | Stream:
        """Changes by page, newest first, or all of them as NDJSON."""
        await self.settle()
        return await LEDGER.answer(request)

    def store(self, conn: Connection, action: Action, more: int = 0) -> None:
        """Stores an action as an entry; `more` is the number of equal rejections without an entry."""
        method, _, path = action.resource.partition(" ")
        details = Details(
            method=method,
            path=path,
            status_code=action.status,
            client=action.client,
            request_id=action.request_id,
            subject="" if action.actor is ANYONE else action.actor.subject,
            changes=_changes(action.before or {}, action.after or {}),
            reason=action.reason,
            more=more,
        )
        is_token = action.actor.kind == "token"
        entry = {
            "timestamp": action.moment,
            "actor": action.actor.name,
            "actor_type": _kind(action.actor),
            "actor_id": action.actor.name if is_token else action.actor.subject.removeprefix("user:"),
            "action": action.name,
            "resource": action.resource,
            "resource_type": action.resource_type,
            "resource_id": action.resource_id,
            "details": msgspec.json.encode(details).decode(),
        }
        self.chain.append(conn, entry)

    async def begin(self) -> None:
        """Takes the entries of an older engine into the chain."""
        while await self._engine.db.write(self.chain.begin):
            pass

    async def verify(self, request: Request[None]) -> Verified:
        """Reads all entries and checks their chain: `intact`, or `broken` with the first entry where it is."""
        await self.settle()
        at = Progress()
        while at.result is None:
            at = await self._engine.db.scan(self.chain.verify, at)
        return at.result

    def routes(self) -> Iterator[Route]:
        """The routes of the audit of changes."""
        yield Route(
            method="GET",
            path="/api/v1/audit",
            scope="admin",
            run=self.list_changes,
            summary="List changes for an audit",
            query={
                "actor_type": "admin, user, api_token or anonymous",
                "action": "such as agent.update or auth.fail",
                "resource": "the method and the path, such as PUT /api/v1/agents/sales",
                **PAGING,
            },
            answer=ChangePage,
            also={404: None},
            gives=(NDJSON,),
        )
        yield Route(
            method="GET",
            path="/api/v1/audit/verify",
            scope="admin",
            run=self.verify,
            summary="Verify the audit",
            answer=Verified,
        )


CHANGES = StateKey[Changes]("changes")


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    return [
        Change(field=field, old_value=before.get(field), new_value=after.get(field))
        for field in before | after
        if before.get(field) != after.get(field) and field != "updated_at"
    ]


def _kind(actor: Actor) -> str:
    if actor is ANYONE:
        return "anonymous"
    if actor.kind == "token":
        return "api_token"
    return "admin" if actor.is_admin else "user"


def _network(client: str) -> str:
    """The IPv4 address, or the /64 network of an IPv6 address, all of which belongs to one client."""
    try:
        address = ip_address(client)
    except ValueError:
        return client
    if not isinstance(address, IPv6Address) or address.ipv4_mapped:
        return client
    return str(IPv6Network((int(address) >> 64 << 64, 64)))
