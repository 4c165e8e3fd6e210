"""The public view: answers without tools, reasoning, internal names or cost, for callers who may not see how they came.

A token, the visitors of a public page, or a schema has it. What it shows of an event, the event's type says; of other
answers, this file. What neither names is not shown.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from functools import cache
from typing import Any, get_args

import msgspec
from msgspec import NODEFAULT, UNSET, Raw
from msgspec.structs import FieldInfo, replace

from bytebrew.base.errors import Conflict, EngineError, Forbidden, NotFound, Stale
from bytebrew.contract.entities import Task
from bytebrew.contract.events import ConfirmationAsked, ErrorEvent, Event
from bytebrew.contract.lists import Page
from bytebrew.contract.messages import Message, Usage
from bytebrew.contract.route import NDJSON, Reply, Request, Route, Stream
from bytebrew.engine import Engine
from bytebrew.store import views
from bytebrew.store.confirmations import Confirmation
from bytebrew.store.journal import HEARTBEAT_SECONDS, PING
from bytebrew.store.messages import Entry
from bytebrew.store.queries.session_list import SessionRow
from bytebrew.store.sessions import Session
from bytebrew.web.api_document.openapi import EVENTS
from bytebrew.web.routes.approvals import Answered
from bytebrew.web.routes.sessions import EventEntry, EventPage, SessionDetail, SessionPage
from bytebrew.web.routes.turns import ChatAnswer, Failure

SCOPES = frozenset({"chat", "tasks", "public"})
"""The scopes whose routes are seen in the view of a schema; those of admins and operators are always full."""
REACHED = (
    "/api/v1/schemas/{name}/chat",
    "/api/v1/sessions",
    "/api/v1/tasks",
    "/api/v1/auth/visitors",
)
"""Beginnings of the paths that a caller with the public view may call."""
SESSION = "/api/v1/sessions/{id}"
_OWN_FAULT = frozenset({400, 401, 404, 405, 408, 413, 415})
"""Statuses of errors whose message is about the request alone."""
_LIMITED = "Too much is going on at the moment; try again later"
_FAILED = "The answer could not be completed; send the message again"
SENTENCES: Mapping[str, str] = {
    "already_answered": "It has another answer already",
    "approval_needed": "A person must approve this first",
    "budget_exceeded": "The limit of use has been reached; try again later",
    "chat_disabled": "This chat is off at the moment",
    "client_tools_disabled": "This chat takes no tools of clients",
    "conflict": "This does not fit what is there now; read it again",
    "draining": "The engine is shutting down; try again in a moment",
    "forbidden": "This is not allowed",
    "gone": "Nobody waits for this any more",
    "history_changed": "These events are not there any more; read from the start",
    "idempotency_key_reused": "This Idempotency-Key came with another request before; take a new key for each",
    "internal_error": "The engine failed; try again later",
    "interrupted": "The engine was stopped in the middle of the answer; send the message again",
    "max_steps_reached": "The answer took too many steps; ask for less at a time",
    "model_context_too_long": "The conversation is too long; begin a new one",
    "model_overloaded": _LIMITED,
    "model_rate_limited": _LIMITED,
    "model_refusal": "This was not answered",
    "model_timeout": "The answer took too long; try again later",
    "overloaded": _LIMITED,
    "queue_full": "Too many messages wait; wait for their answers",
    "rate_limited": _LIMITED,
    "session_busy": "The session is busy with another message; wait for it or use on_busy",
    "stale_digest": "The question has changed; read it again",
    "storage": _LIMITED,
    "too_slow": "This takes too long; ask for less",
    "turn_failed": _FAILED,
    "turn_timeout": "The answer took too long; try again later",
    "turn_too_long": "The answer is too long; ask for less at a time",
    "unprocessable": "This cannot be done as it was sent",
}
"""What the public view says for the code of an error; for any other it is `turn_failed`."""
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_entry = msgspec.json.Decoder(Entry).decode
_encode = msgspec.json.Encoder().encode


def event(kind: type[Event] | None, data: bytes) -> bytes | None:
    """The data of an event as the public view shows it, None if it does not."""
    if kind is None or not kind.public:
        return None
    fields = _fields(data)
    if "agent" in fields and not kind.rises:
        return None
    shown: dict[str, Any] = {name: fields[name] for name in kind.public if name in fields}
    if kind is ErrorEvent:
        shown["code"], shown["message"] = sentence(msgspec.json.decode(fields["code"], type=str))
    if kind is ConfirmationAsked:
        shown["call_id"] = shown["confirmation_id"]  # as answers take it; some vendors' ids of calls name the tool
    return _encode(shown)


def typed(event: Event) -> Event | None:
    """An event as the public view shows it, with nothing in the fields that it hides; None if it does not show it."""
    kind = type(event)
    if not kind.public or (event.agent is not UNSET and not kind.rises):
        return None
    shown = replace(event, **_blanks(kind))
    if isinstance(shown, ErrorEvent):
        code, message = sentence(shown.code)
        return replace(shown, code=code, message=message)
    return replace(shown, call_id=shown.confirmation_id) if isinstance(shown, ConfirmationAsked) else shown


def message(part: Message) -> Message | None:
    """A message as the public view shows it, None if it does not."""
    if part.role == "tool" or not (part.content or part.attachments):
        return None
    return Message(part.role, part.content, attachments=part.attachments, broken_off=part.broken_off)


@cache
def _blanks(kind: type[Event]) -> dict[str, Any]:
    """A value without content for each field that is hidden."""
    return {
        field.name: "caution" if field.name == "risk" else _blank(field)
        for field in msgspec.structs.fields(kind)
        if field.name not in kind.public
    }


def _blank(field: FieldInfo) -> Any:
    if field.default is not NODEFAULT:
        return field.default
    if field.default_factory is not NODEFAULT:
        return field.default_factory()
    empties: tuple[Any, ...] = (None, "", 0, False, (), {})
    for empty in empties:
        with suppress(msgspec.ValidationError):
            return msgspec.convert(empty, field.type)
    choices: tuple[Any, ...] = get_args(field.type)  # of a Literal
    return choices[0]


def sentence(code: str) -> tuple[str, str]:
    """The code and the message of an error in the public view."""
    code = code if code in SENTENCES else "turn_failed"
    return code, SENTENCES[code]


def reduced(error: EngineError) -> EngineError:
    """The error without words that may name what is internal; one about the request alone keeps its own."""
    if isinstance(error, Stale):  # it shows the question
        error = Conflict(error.message, code=error.code)
    if error.status not in _OWN_FAULT:
        error.code, error.message = sentence(error.code)
        error.details = error.details if error.status == 422 else ()
    return error


@contextmanager
def in_view(request: Request[Any]) -> Iterator[None]:
    """Reduces the errors within for a caller with the public view."""
    try:
        yield
    except EngineError as error:
        raise (reduced(error) if request.actor.view == "public" else error) from error


def value(part: Any, kinds: Mapping[str, type[Event]]) -> Any:
    """A part of an answer as the public view shows it, None for a row that is left out; Forbidden if it shows none.

    `kinds` are the types of events by their names.
    """
    if part is None:
        return None
    if isinstance(part, list):
        return [shown for one in part if (shown := value(one, kinds)) is not None]
    if isinstance(part, Page | EventPage):
        rows = {
            name: value(rows, kinds) for name in part.__struct_fields__ if isinstance(rows := getattr(part, name), list)
        }
        return replace(part, **rows)
    if isinstance(part, EventEntry):
        data = event(kinds.get(part.event), bytes(part.data))
        return None if data is None else replace(part, data=Raw(data))
    if isinstance(part, ChatAnswer):
        code, message = sentence(part.failure.error if part.failure else "")
        failure = Failure(error=code, message=message) if part.failure else None
        questions = value(part.questions, kinds)
        return replace(part, tool_calls=[], usage=Usage(), questions=questions, failure=failure, agent_version=0)
    if isinstance(part, SessionDetail):
        return replace(part, agent="", usage=Usage(), summary=None, messages=value(part.messages, kinds))
    if isinstance(part, SessionRow):
        code = part.error_code and sentence(part.error_code)[0]
        return replace(part, agent="", error_code=code, cost_usd=None)
    if isinstance(part, Session):
        return replace(part, agent="")
    if isinstance(part, Entry):
        if part.role not in ("user", "assistant") or not (part.content or part.attachments):
            return None
        return replace(part, thinking="", tool_calls=(), tool="", call_id="", has_error=False)
    if isinstance(part, Confirmation):
        blank: dict[str, Any] = dict.fromkeys(("agent", "source", "tool", "args_digest", "reason"), "")
        return replace(
            part, **blank, call_id=part.id, risk="caution", input={}, edited=None, answered_by=None, input_schema=None
        )
    if isinstance(part, Answered):
        call_id = part.confirmation_id if part.is_error is UNSET else part.call_id
        return replace(part, call_id=call_id, confirmation=UNSET)
    if isinstance(part, Task):
        error = sentence("turn_failed")[1] if part.error else part.error
        if part.source == "agent":  # what it is about is the input of a tool
            part = replace(part, title="", description="", acceptance_criteria=())
        return replace(part, agent="", agent_name="", error=error, cost_usd=None)
    raise Forbidden("The public view does not show this", code="forbidden")


class PublicView:
    """Which requests to an engine have the public view, and what they are answered with."""

    def __init__(self, engine: Engine) -> None:
        self._db = engine.db
        self._kinds = {kind.name: kind for kind in (*EVENTS, *engine.events)}

    async def run(self, request: Request[Any], route: Route, run: Callable[[], Awaitable[Any]]) -> Any:
        """The answer of `run` as the caller may see it; Forbidden for a route that the public view does not have.

        A face applies the view itself, to all but errors.
        """
        if route.face is not None:
            with in_view(request):
                return await run()
        if not await self._is_public(request, route):
            return await self._rows(await run(), request, route)
        if not route.path.startswith(REACHED):
            raise Forbidden("The token has the public view, which does not have this")
        request.actor = replace(request.actor, view="public")
        try:
            if route.path.startswith(SESSION):
                session_id = request.path["id"]
                if await self._db.glance(views.made_by_agents, [session_id]):
                    raise NotFound(f"There is no session '{session_id[:255]}'")
            answer = await run()
            return self._shown(await self._without_agents_own(answer), route)
        except EngineError as error:
            raise reduced(error) from error

    async def _is_public(self, request: Request[Any], route: Route) -> bool:
        if request.actor.view == "public":
            return True
        if "approvals" in request.actor.scopes:  # whoever approves calls must see them
            return False
        for path in views.BY_PATH:
            if route.path.startswith(path):
                return await self._db.glance(views.of_path, path, next(iter(request.path.values()))) == "public"
        return False

    async def _rows(self, answer: Any, request: Request[Any], route: Route) -> Any:
        """An answer with rows of several schemas, or a new one of any: those of a public schema as it shows them."""
        if "{" in route.path or route.scope == "public" or answer is None or "approvals" in request.actor.scopes:
            return answer
        if isinstance(answer, Reply) and isinstance(answer.body, bytes) and answer.status < 400:
            if not (isinstance(route.answer, type) and issubclass(route.answer, Session | Task)):
                return answer
            answer.body = msgspec.json.decode(answer.body, type=route.answer)  # of an Idempotency-Key
        part = answer.body if isinstance(answer, Reply) else answer
        lists = {name: getattr(part, name) for name in part.__struct_fields__} if isinstance(part, Page) else {}
        rows = [row for one in lists.values() if isinstance(one, list) for row in one] or [part]
        schemas = {row.schema for row in rows if isinstance(row, Session | Task)}
        if not schemas:
            return answer
        full = await self._db.glance(views.full_schemas)
        hidden = [row.id for row in rows if isinstance(row, Session) and row.schema not in full]
        own = await self._db.glance(views.made_by_agents, hidden) if hidden else frozenset()

        def shown(row: Any) -> Any:
            return row if row.schema in full else value(row, self._kinds)

        if lists:
            parts = {
                name: [shown(row) for row in one if row.id not in own]
                for name, one in lists.items()
                if isinstance(one, list)
            }
            part = replace(part, **parts)
        else:
            part = shown(part)
        if isinstance(answer, Reply):
            answer.body = part
            return answer
        return part

    async def _without_agents_own(self, page: Any) -> Any:
        """A page without the sessions that agents began, whose first message is the input of a tool."""
        if not isinstance(page, SessionPage):
            return page
        own = await self._db.glance(views.made_by_agents, [one.id for one in page.data])
        left = [one for one in page.data if one.id not in own]
        return replace(page, data=left, sessions=left)

    def _shown(self, answer: Any, route: Route) -> Any:
        if isinstance(answer, Stream):
            answer.headers.pop("server-timing", None)
            lines = answer.headers.get("content-type") == NDJSON
            answer.frames = _messages(answer.frames) if lines else self._frames(answer.frames)
            return answer
        if not isinstance(answer, Reply):
            return answer if route.scope == "public" else value(answer, self._kinds)
        answer.headers.pop("server-timing", None)
        if answer.status >= 400:
            code, message = sentence(answer.body["error"])
            answer.body = {**answer.body, "error": code, "message": message}
        elif isinstance(answer.body, bytes):  # of an Idempotency-Key
            answer.body = value(msgspec.json.decode(answer.body, type=route.answer), self._kinds)
        elif route.scope != "public":
            answer.body = value(answer.body, self._kinds)
        return answer

    async def _frames(self, frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The frames that the public view shows, with their numbers; a comment where none comes for long."""
        last = time.monotonic()
        try:
            async with aclosing(frames):
                async for chunk in frames:
                    shown = b"".join([one for part in chunk.split(b"\n\n") if part and (one := self.frame(part))])
                    if not shown and time.monotonic() - last >= HEARTBEAT_SECONDS:
                        shown = PING
                    if shown:
                        last = time.monotonic()
                        yield shown
        except EngineError as error:
            raise reduced(error) from error

    def frame(self, part: bytes) -> bytes:
        """One frame, without its end, as the public view shows it with its end; empty if it does not."""
        if part.startswith(b":"):
            return part + b"\n\n"
        head, _, data = part.partition(b"\ndata: ")
        data = event(self._kinds.get(head.rpartition(b"event: ")[2].decode()), data) or b""
        return b"%s\ndata: %s\n\n" % (head, data) if data else b""


async def _messages(frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    encode = msgspec.json.Encoder().encode_lines
    async with aclosing(frames):
        async for chunk in frames:
            if rows := value([_entry(line) for line in chunk.splitlines() if line], {}):
                yield encode(rows)
