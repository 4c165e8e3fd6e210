"""What callers do: who changes what over the API, from what to what, and who was refused."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator, Set
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import msgspec
from msgspec import Struct

from bytebrew.base.errors import EngineError, NotRecorded, StorageError, TooSlow
from bytebrew.base.formats import now
from bytebrew.base.logs import redact, trace_id
from bytebrew.contract.action import Action
from bytebrew.contract.connection import Connection
from bytebrew.contract.route import Reply, Request, Route, Stream

log = logging.getLogger(__name__)

MASK = "***"
MOST_TEXT = 10_000
"""Characters that are told of one text."""
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_NOUNS = {"mcp_server": "mcp", "knowledge_base": "kb"}
_NAMES = {
    "token.delete": "token.revoke",
    "approval.respond": "approval.answer",
    "session.respond": "approval.answer",
    "auth.local_session": "auth.success",
}
"""Where the rule's name is not the one that the audit of the original has."""
_WORDS = r"(?:(?:api|access|auth|private)[-_]?key|token|secret|passw|passphrase|pwd|credential|authorization|cookie)"
_SECRET = re.compile(f"(?i){_WORDS}")
_VALUES = {"args", "env", "env_vars", "headers"}
"""Fields whose every value may be a credential."""
_NAMED = ("value", "default", "fields")
"""Where a thing has what its name says: a setting its value, a change of the configuration both values."""
_SAID = "output"
"""The field with what a tool has answered, which nobody changed and which may hold anything."""
_IN_TEXT = re.compile(
    rf"""(?xi)(://)[^/\s]+(?=@)
    |((?:authorization|cookie)[\w-]{{0,40}}\\{{0,4}}["']?\s{{0,4}}[=:]\s{{0,4}}\\{{0,4}}["']?)[^"'\r\n]+
    |({_WORDS}[\w-]{{0,40}}\\{{0,4}}["']?\s{{0,4}}[=:]\s{{0,4}}\\{{0,4}}(["'])?)(?(4)(?:\\.|[^"'\\])+|[^\s"'&]+)"""
)
"""A URL's user and password, the whole of a header that carries credentials, and a value behind a telling name."""


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
        held = set(_secrets(sent))
        after = None
        if made is not None and route.scope != "chat":
            kept = {field: value for field, value in sent.items() if _SECRET.search(field) and value}
            after = shown(kept | made, held)
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
            before=shown(before, held) if before is not None else None,
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


async def refuse(request: Request[Any], method: str, path: str, error: EngineError) -> None:
    """Tells the observers of a request that its caller was not allowed, or who could not say who they are."""
    action = Action(
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
    request.engine.refusals.note(request.client, action.resource, error.status, action.reason)
    await request.engine.notify("actor_acted", action=action)


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


def shown(value: Any, held: Set[str] = frozenset()) -> Any:
    """A JSON value without what is held or looks like a secret, by the name of its field or in a text."""
    if isinstance(value, str):
        for secret in sorted(held, key=len, reverse=True):  # one may begin with another
            value = value.replace(secret, MASK)
        return _IN_TEXT.sub(rf"\1\2\3{MASK}", redact(value[: 2 * MOST_TEXT]))[:MOST_TEXT]
    if isinstance(value, list):
        return [
            MASK if n and isinstance(value[n - 1], str) and _is_flag(value[n - 1]) else shown(one, held)
            for n, one in enumerate(value)
        ]
    if not isinstance(value, dict):
        return value
    label = value.get("key", value.get("name"))
    valued = _NAMED if isinstance(label, str) and _SECRET.search(label) else ()
    return {field: _field(field, one, held, secret=field in valued) for field, one in value.items()}


def _field(field: str, value: Any, held: Set[str], *, secret: bool) -> Any:
    if secret or field == _SAID or _SECRET.search(field):
        return _masked(field, value)
    if field in _VALUES and isinstance(value, dict):
        return {name: _masked(name, one) for name, one in value.items()}
    if field in _VALUES and isinstance(value, list):
        return [_masked(field, one) for one in value]
    return shown(value, held)


def _is_flag(text: str) -> bool:
    """Whether a word of a command line says that the next is a secret."""
    return text.startswith("-") and "=" not in text and _SECRET.search(text) is not None


def _masked(field: str, value: Any) -> Any:
    """The mask for anything but nothing, a yes or no, and a number of tokens."""
    counted = isinstance(value, int | float) and "token" in field.lower()
    return value if not value or value is True or counted else MASK


def _secrets(value: Any, secret: bool = False) -> Iterator[str]:
    """The texts in fields that are named after secrets, too short ones left out: they would be everywhere."""
    if isinstance(value, dict):
        for field, one in value.items():
            yield from _secrets(one, secret or field in _VALUES or _SECRET.search(str(field)) is not None)
    elif isinstance(value, list):
        for one in value:
            yield from _secrets(one, secret)
    elif secret and isinstance(value, str) and len(value) > 5:
        yield value


def _plain(value: Any) -> Any:
    """The value as a client reads it."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _object(value: Any) -> dict[str, Any] | None:
    found = _plain(value) if isinstance(value, Struct | dict) else None
    return found if isinstance(found, dict) else None
