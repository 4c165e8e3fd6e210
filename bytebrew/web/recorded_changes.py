"""Records actions: each change over the API, with the state before and after it, and each rejected caller."""

import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

from msgspec import Struct

from bytebrew.base.errors import EngineError, NotRecorded, StorageError, TooSlow
from bytebrew.base.formats import now
from bytebrew.base.logs import trace_id
from bytebrew.base.masking import is_secret_field, masked_value, redact, secrets_in
from bytebrew.base.validation import plain_json
from bytebrew.contract.connection import Connection
from bytebrew.contract.governance.personal_data import names_of
from bytebrew.contract.hookspecs import Action
from bytebrew.contract.route import Reply, Request, Route, Stream

log = logging.getLogger(__name__)

Store = Callable[[Connection, Action], None]
"""Stores an action with every recorder, within the transaction of the change."""
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_NAMES = {"approval.respond": "approval.answer", "session.respond": "approval.answer"}
"""Action names of ByteBrew in Go, by the name that `action_name` would derive."""


@dataclass(slots=True)
class Resource:
    """The resource at a path: the GET route that shows it, and the field that its path contains."""

    get: Route | None
    key: str

    def has_before(self, route: Route) -> bool:
        """Whether the route's actions have a `before`: not if it creates, and never for conversations."""
        changes = route.method not in ("GET", "POST") and route.scope != "chat"
        return self.get is not None and not self.get.streams and changes

    async def state(self, request: Request[Any], route: Route) -> dict[str, Any] | None:
        """The resource as GET shows it, None if there is none; raises StorageError and TooSlow."""
        if self.get is None or not self.has_before(route):
            return None
        try:
            answer = await self.get.run(request)
        except (StorageError, TooSlow):  # a change is rejected if the state before it cannot be recorded
            raise
        except EngineError:
            return None
        return _object(answer.body if isinstance(answer, Reply) else answer)


class Change:
    """A request that changes a resource; `action` is set once the recorders have stored it."""

    def __init__(self, request: Request[Any], route: Route, resource: Resource, store: Store) -> None:
        self.action: Action | None = None
        self._request, self._route, self._resource, self._store = request, route, resource, store
        self._before: dict[str, Any] | None = None
        self._after: dict[str, Any] | None = None
        self._request_id = trace_id.get()  # not set in the database's thread

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Reads the state before the change; serializes changes of the same resource within the block.

        The lock has the name that the resource has in paths, which is another one if the path has its id, or if it was
        renamed while this waited.
        """
        if not self._resource.has_before(self._route):
            yield
            return
        field, name = [("", self._request.url_path), *self._request.path.items()][-1]
        while True:
            async with self._request.engine.lock(f"change {self._route.path} {name}"):
                self._before = await self._resource.state(self._request, self._route)
                shown = str((self._before or {}).get(field, name))
                if shown == name:
                    yield
                    return
            name = shown

    async def read_after(self) -> None:
        """Reads the state after the change, for a route without an answer."""
        self._after = await self._resource.state(self._request, self._route)

    def record(self, conn: Connection, answer: Any) -> None:
        """Runs every recorder with the action; NotRecorded names the plugin whose recorder fails."""
        action = self._action(answer)
        self._store(conn, action)
        self.action = action

    def _action(self, answer: Any) -> Action:
        request, route = self._request, self._route
        kind, name = action_name(route)
        status = 204 if answer is None else route.status
        reply = answer if isinstance(answer, Reply) else Reply(body=answer, status=status)
        made = self._after if reply.body is None else _object(reply.body)
        sent = plain_json(request.body) if isinstance(request.body, Struct) else {}
        secrets = set(secrets_in(sent))
        after = None
        if made is not None and route.scope != "chat":
            kept = {field: value for field, value in sent.items() if is_secret_field(field) and value}
            after = masked_value(kept | made, secrets)
        url_path, last = place(request, route)
        names = (self._resource.key, "id", "name")
        keys = [made.get(name) for name in names] if made and route.status == 201 else [last]
        known = made is not None or route.method == "DELETE"  # otherwise every field would appear removed
        before = self._before if known else None
        return Action(
            moment=now(),
            actor=request.actor,
            name=name,
            resource=redact(f"{route.method} {url_path}"),
            resource_type=kind,
            resource_id=redact(str(next(filter(None, keys), ""))),
            status=reply.status,
            client=request.client,
            request_id=self._request_id,
            before=masked_value(before, secrets) if before is not None else None,
            after=after,
        )


async def perform(request: Request[Any], route: Route, change: Change | None) -> Any:
    """Runs the route and returns its answer; records the action now if the route did not record it with its write."""
    try:
        async with change.locked() if change else nullcontext():
            answer = await route.run(request)
            if request.records and not request.recorded and not isinstance(answer, Stream):
                if change and answer is None and route.method != "DELETE":
                    await change.read_after()
                await request.write(lambda conn: answer)
    except NotRecorded as error:
        log.error("%s %s: %s", route.method, route.path, error.message, exc_info=error.__cause__)
        raise
    return answer


def place(request: Request[Any], route: Route) -> tuple[str, str]:
    """The path of a request and its last parameter, with a pseudonym for a person who is named there."""
    last = [*request.path.values()][-1] if request.path else ""
    if not route.names_person:
        return request.url_path, last
    before, _, behind = route.path.partition("{")
    sub = request.url_path.removeprefix(before).removesuffix(behind.partition("}")[2])
    pseudonym = request.engine.secrets.pseudonym(names_of(sub)[0])
    return re.sub(r"\{[^}]*\}", pseudonym, route.path), pseudonym


def refused(request: Request[Any], route: Route, error: EngineError) -> Action:
    """The action of a request that was rejected with 401 or 403."""
    return Action(
        moment=now(),
        actor=request.actor,
        name="auth.fail",
        resource=redact(f"{request.method} {place(request, route)[0][:500]}"),
        resource_type="auth",
        resource_id="",
        status=error.status,
        client=request.client,
        request_id=trace_id.get(),
        reason=redact(error.message),
    )


def action_name(route: Route) -> tuple[str, str]:
    """The resource type that a route changes, and the name of its action: `agent` and `agent.update`.

    The last segment of the path is the type; a POST that creates nothing ends with its verb, or with `call` if its
    status is 202. A resource below another is named after both, unless its own name has two words already. `action` of
    the route overrides the name.
    """
    if route.action:
        return route.action.rpartition(".")[0], route.action
    return _name_of(route.method, route.path, route.status)


@cache
def _name_of(method: str, route_path: str, status: int) -> tuple[str, str]:
    path = re.sub(r"(?<=\{)[^}]*\}", "", route_path.removeprefix("/api/v1"))
    steps = [(step.replace("-", "_"), bool(keyed)) for step, keyed in re.findall(r"([^/{}]+)(/\{)?", path)]
    steps = steps or [("thing", True)]
    verb = _VERBS.get(method, "read")
    if method == "POST" and status != 201 and len(steps) > 1 and not steps[-1][1]:
        verb = steps.pop()[0]
    elif method == "POST" and status == 202:
        verb = "call"
    kind = _singular(steps.pop()[0])
    above = next((_singular(step) for step, keyed in reversed(steps) if keyed), "")
    if above and "_" not in kind:
        kind = f"{above}_{kind}"
    name = f"{kind}.{verb}"
    return kind, _NAMES.get(name, name)


def _singular(step: str) -> str:
    return re.sub(r"ies$", "y", step) if step.endswith("ies") else re.sub(r"(?<!s)s$", "", step)


def _object(value: Any) -> dict[str, Any] | None:
    plain = plain_json(value) if isinstance(value, Struct | dict) else None
    return plain if isinstance(plain, dict) else None
