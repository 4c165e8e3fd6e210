"""What callers do: who changes what over the API, from what to what, and who was refused."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import msgspec
from msgspec import Struct

from bytebrew.base.errors import EngineError, NotRecorded, StorageError, TooSlow
from bytebrew.base.formats import now
from bytebrew.base.logs import trace_id
from bytebrew.base.masking import is_secret_field, masked_value, redact, secrets_in
from bytebrew.contract.action import Action
from bytebrew.contract.connection import Connection
from bytebrew.contract.route import Reply, Request, Route, Stream

log = logging.getLogger(__name__)

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_NOUNS = {"mcp_server": "mcp", "knowledge_base": "kb"}
_NAMES = {
    "token.delete": "token.revoke",
    "approval.respond": "approval.answer",
    "session.respond": "approval.answer",
    "auth.local_session": "auth.success",
}
"""Where the rule's name is not the one that the audit of the original has."""


@dataclass(slots=True)
class Thing:
    """What the requests to one path are about: the GET that shows it, and the field by which paths name such things."""

    shown: Route | None
    key: str
    locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    def is_told(self, route: Route) -> bool:
        """Whether what a route changes is told from what to what: not where it is new, or none, or a conversation."""
        there = self.shown is not None and not self.shown.streams
        return there and route.method != "POST" and route.scope != "chat"

    async def before(self, request: Request[Any], route: Route) -> dict[str, Any] | None:
        """The thing as it is before a route changes it; raises StorageError and TooSlow where it cannot be read."""
        if self.shown is None or not self.is_told(route):
            return None
        try:
            answer = await self.shown.run(request)
        except (StorageError, TooSlow):  # what is not known cannot be told
            raise
        except EngineError:
            return None
        return _object(answer.body if isinstance(answer, Reply) else answer)


class Act:
    """What a request to change something does; `action` is there once it is recorded."""

    def __init__(self, request: Request[Any], route: Route, path: str, thing: Thing) -> None:
        self.action: Action | None = None
        self._request, self._route, self._path, self._thing = request, route, path, thing
        self._before: dict[str, Any] | None = None
        self._after: dict[str, Any] | None = None
        self._request_id = trace_id.get()  # the database's thread has none

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Reads what is to be replaced, which no other request of this kind changes within the block."""
        if not self._thing.is_told(self._route):
            yield
            return
        seen = await self._thing.before(self._request, self._route) or {}
        async with self._thing.locks.setdefault(str(seen.get("id", self._path)), asyncio.Lock()):  # it has more names
            self._before = await self._thing.before(self._request, self._route)
            yield

    async def look(self) -> None:
        """Reads the thing as it is after a route that answers nothing."""
        self._after = await self._thing.before(self._request, self._route)

    def record(self, conn: Connection, answer: Any) -> None:
        """Has every recorder store what the request did; NotRecorded names the plugin whose recorder fails."""
        action = self._done(answer)
        self._request.engine.record(conn, action)
        self.action = action

    def _done(self, answer: Any) -> Action:
        request, route = self._request, self._route
        kind, name = named(route)
        status = 204 if answer is None else route.status
        reply = answer if isinstance(answer, Reply) else Reply(body=answer, status=status)
        made = self._after if reply.body is None else _object(reply.body)
        sent = _plain(request.body) if isinstance(request.body, Struct) else {}
        held = set(secrets_in(sent))
        after = None
        if made is not None and route.scope != "chat":
            kept = {field: value for field, value in sent.items() if is_secret_field(field) and value}
            after = masked_value(kept | made, held)
        last = [*request.path.values()][-1:]
        keys = [made.get(self._thing.key), made.get("id"), made.get("name")] if made and route.status == 201 else last
        known = made is not None or route.method == "DELETE"  # else every field would look removed
        before = self._before if known else None
        return Action(
            moment=now(),
            actor=request.actor,
            name=name,
            resource=redact(f"{route.method} {self._path}"),
            resource_type=kind,
            resource_id=redact(str(next(filter(None, keys), ""))),
            status=reply.status,
            client=request.client,
            request_id=self._request_id,
            before=masked_value(before, held) if before is not None else None,
            after=after,
        )


async def perform(request: Request[Any], route: Route, act: Act | None) -> Any:
    """What the route answers, recorded with what it has stored, or else now."""
    try:
        async with act.alone() if act else nullcontext():
            answer = await route.run(request)
            if request.records and not request.recorded and not isinstance(answer, Stream):
                if act and answer is None and route.method != "DELETE":
                    await act.look()
                await request.write(lambda conn: answer)
    except NotRecorded as error:
        log.error("%s %s: %s", route.method, route.path, error.message, exc_info=error.__cause__)
        raise
    return answer


def refused(request: Request[Any], method: str, path: str, error: EngineError) -> Action:
    """The action of a request whose caller was not allowed, or not known."""
    return Action(
        moment=now(),
        actor=request.actor,
        name="auth.fail",
        resource=redact(f"{method} {path[:500]}"),
        resource_type="auth",
        resource_id="",
        status=error.status,
        client=request.client,
        request_id=trace_id.get(),
        reason=redact(error.message),
    )


def named(route: Route) -> tuple[str, str]:
    """The type of the thing that a route is about, and what it does to it: `agent` and `agent.update`.

    The last word of the path is the thing; a POST that makes nothing new ends with its verb, or calls the thing if its
    status is 202. A thing whose path leads through another is named after both, unless its own word is of two already.
    """
    found = re.findall(r"([^/{}]+)(/\{)?", re.sub(r"(?<=\{)[^}]*\}", "", route.path.removeprefix("/api/v1")))
    words = [(word.replace("-", "_"), bool(keyed)) for word, keyed in found] or [("thing", True)]
    verb = _VERBS.get(route.method, "read")
    if route.method == "POST" and route.status != 201 and len(words) > 1 and not words[-1][1]:
        verb = words.pop()[0]
    elif route.method == "POST" and route.status == 202:
        verb = "call"
    kind = _singular(words.pop()[0])
    above = next((_singular(word) for word, keyed in reversed(words) if keyed), "")
    if above and "_" not in kind:
        kind = f"{above}_{kind}"
    name = f"{kind}.{verb}"
    return kind, _NAMES.get(name, name)


def _singular(word: str) -> str:
    one = re.sub(r"ies$", "y", word) if word.endswith("ies") else re.sub(r"(?<!s)s$", "", word)
    return _NOUNS.get(one, one)


def _plain(value: Any) -> Any:
    """The value as a client reads it."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _object(value: Any) -> dict[str, Any] | None:
    found = _plain(value) if isinstance(value, Struct | dict) else None
    return found if isinstance(found, dict) else None
