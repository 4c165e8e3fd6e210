"""Chat with a schema: a stream of events, or one JSON answer."""

import asyncio
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, json
from msgspec.structs import replace

from bytebrew.base.errors import Detail, Forbidden, Gone, InvalidRequest, TurnInterrupted, Unprocessable
from bytebrew.base.formats import canonical_id
from bytebrew.base.traceparent import read_traceparent
from bytebrew.base.urls import Url
from bytebrew.config.core_options import BODY_HEADERS
from bytebrew.contract.configuration.runtime_option import option_value
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import Event, form_of
from bytebrew.contract.messages import Attachment, ResponseFormat
from bytebrew.contract.route import Reply, Request, Route, Stream
from bytebrew.conversation import waiting_turns
from bytebrew.conversation.model_calls import BoundModel
from bytebrew.conversation.remote.remote_turns import RemoteTurn
from bytebrew.conversation.turn import OnBusy, Turn, chat_turn
from bytebrew.engine import Engine
from bytebrew.store import sessions, turn_results
from bytebrew.store.configuration import schemas
from bytebrew.store.configuration.response_formats import checked
from bytebrew.store.database.database import Database
from bytebrew.store.journal import EventRange, Journal, Log, OpenEventRange
from bytebrew.store.sessions import ForkedFrom
from bytebrew.store.turn_results import ALL, TurnResult, newest_first
from bytebrew.store.turns import NewTurn
from bytebrew.web.access import check_schema
from bytebrew.web.client_tools import ClientTools, declared
from bytebrew.web.event_cursor import event_cursor
from bytebrew.web.routes.turns import ChatAnswer, so_far, whole

OWN_KEY = "x-model-api-key"
"""The header of a caller's own key, which clients may send even if its plugin is disabled."""
PRIVATE = frozenset({"authorization", "cookie", "proxy-authorization", OWN_KEY})
"""Headers that are never forwarded, like those of model choosers."""
NO_FORMAT = ResponseFormat(type="text")
"""Of a turn whose request switches its agent's format off."""
_GONE = "The turn that this Idempotency-Key began was deleted with its session"


class NewAttachment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An image or a file: `data` in base64, or a `url` that the vendor fetches."""

    media_type: Annotated[str, Meta(pattern=r"^[a-z]+/[a-z0-9][a-z0-9.+-]{0,99}\Z", description="a media type")]
    data: bytes | None = None
    url: Annotated[Url, Meta(min_length=1)] | None = None
    name: Annotated[str, Meta(max_length=255)] = ""


class FormAnswer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answers to the last form of the session, by the ids of its questions: a text, a value, or a list of values."""

    form: dict[str, Any]


class ChatRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message to a schema; without `session_id` it begins a session.

    The message is a text, or the answers to a form. `attachments` are images and files for models that see them.
    `on_busy` says what to do while the session answers another message: `steer` puts this one into the turn that runs.
    With `subagents` the stream carries the events of spawned agents too. `headers` go beside the request's own to the
    tools that pass some on, by the names that the setting `chat.body_headers` lists. `user_sub` is kept with a new
    session. `response_format` counts in place of the agent's, null switches that off. `client_tools` are tools that the
    client runs, where the schema allows them: at an event `client_tool_call` it sends the result to
    /sessions/{id}/respond.
    """

    message: Annotated[str, Meta(min_length=1, max_length=1_000_000)] | FormAnswer
    attachments: Annotated[tuple[NewAttachment, ...], Meta(max_length=20)] = ()
    session_id: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    stream: bool = True
    on_busy: OnBusy = "queue"
    subagents: bool = False
    headers: Annotated[dict[str, Annotated[str, Meta(max_length=8000)]], Meta(max_length=50)] = {}
    user_sub: Annotated[str, Meta(max_length=255)] = ""
    response_format: ResponseFormat | UnsetType | None = UNSET
    client_tools: ClientTools = ()


class OwnModels:
    """The model choosers of an engine, by their headers."""

    def __init__(self, engine: Engine) -> None:
        self._models, self._choosers = engine.models, engine.model_choosers
        self.documented = {name: words for chooser in self._choosers for name, words in chooser.headers.items()}
        self.headers = frozenset(map(str.lower, self.documented))
        self.private = PRIVATE | self.headers

    async def own(self, request: Request[Any]) -> BoundModel | None:
        """The model that the request's headers choose, if they do.

        Forbidden for a caller's own key that no plugin accepts: the chat never falls back to the operator's model.
        """
        if self.headers.isdisjoint(request.headers):
            if OWN_KEY in request.headers:
                raise Forbidden("Own keys are off: the plugin that takes them is disabled", code="byok_disabled")
            return None
        chooser = next(
            one for one in self._choosers if not request.headers.keys().isdisjoint(map(str.lower, one.headers))
        )
        chosen = await chooser.choose(request)
        bound = self._models.bind(chosen.target, key=chosen.key)
        return replace(bound, provider=chosen.provider) if chosen.provider else bound


async def chat(engine: Engine, models: OwnModels, request: Request[ChatRequest]) -> Stream | Reply:
    """Sends a message and answers with the turn's events; the turn goes on if the client leaves."""
    arrived, body = time.monotonic(), request.body
    if body.session_id:
        body = replace(body, session_id=canonical_id(body.session_id))
    if request.key is not None and request.key.turn_id is not None:
        return await again(engine, request, request.key.turn_id, arrived)
    entrance, owner = await engine.db.peek(_entrance, request.path["name"], body.session_id)
    if owner is not None:
        sessions.check_owner(request.actor, owner, body.session_id or "")
    request.body = body
    del body  # or its message would stay in memory while the turn waits
    return await begin(engine, models, request, arrived, entrance, owner)


async def begin(
    engine: Engine,
    models: OwnModels,
    request: Request[Any],
    arrived: float,
    entrance: schemas.Entrance,
    owner: str | None,
    fork: ForkedFrom | None = None,
) -> Stream | Reply:
    """Begins the turn of a chat's body, in its session or in a fork, and answers with its events."""
    turn = await start(engine, models, request, entrance, owner, fork)
    request.body = replace(request.body, message="-", attachments=(), client_tools=())  # the turn may wait for long
    return await _answer(engine, request, turn, arrived)


async def start(
    engine: Engine,
    models: OwnModels,
    request: Request[Any],
    entrance: schemas.Entrance,
    owner: str | None,
    fork: ForkedFrom | None = None,
    more: Callable[[NewTurn], NewTurn] = lambda new: new,
) -> Turn | RemoteTurn:
    """Begins the turn of a chat's body; `more` adds what the body does not have."""
    body: ChatRequest = request.body
    check_schema(request.actor, entrance.schema)
    if not entrance.chat_enabled:
        raise disabled(entrance.schema)
    if body.user_sub not in ("", request.actor.name) and request.actor.kind == "user" and not request.actor.is_admin:
        raise Forbidden("Only API tokens and admins speak for others: leave user_sub out")
    message = body.message
    if isinstance(message, FormAnswer):
        shown_in = fork or ForkedFrom(session_id=body.session_id or "", after=ALL)
        form = await engine.db.read(_form, shown_in, engine.forms)
        message = form.answered(message.form)
    passed = await _body_headers(request, body.headers, models.private) if body.headers else {}
    own_model = await models.own(request)
    new = chat_turn(
        entrance,
        request.actor,
        message,
        session_id=body.session_id,
        owner=owner,
        user_sub=body.user_sub,
        attachments=attachments_of(body),
        own_key=own_model is not None,
        subagents=body.subagents,
        traceparent=read_traceparent(header) if (header := request.headers.get("traceparent")) else None,
        response_format=None if body.response_format is UNSET else checked(body.response_format) or NO_FORMAT,
        key=request.key,
        fork=fork,
    )
    if body.client_tools:
        new = replace(new, client_tools=declared(body.client_tools, entrance, engine.reserves))
    turn = engine.runner.turn(more(new), entrance, own_model)
    turn.headers = {name: value for name, value in {**passed, **request.headers}.items() if name not in models.private}
    if request.place is not None:
        request.place.free()  # from now on the turn itself is counted
    submitted = await engine.runner.submit(turn, body.on_busy, bounded=True)
    request.recorded = True  # the turn stores the key
    return submitted


def disabled(schema: str) -> Forbidden:
    """The refusal of a schema without chat."""
    return Forbidden(f"Chat is off for schema '{schema}'; turn on its chat_enabled", code="chat_disabled")


async def _answer(
    engine: Engine,
    request: Request[ChatRequest],
    turn: Turn | RemoteTurn,
    arrived: float,
    event_range: EventRange | None = None,
) -> Stream | Reply:
    if request.body.stream:
        await asyncio.sleep(0)  # the turn calls its model first, and the head of the answer is written meanwhile
        begun = (
            request.key.turn_id if request.key else None
        )  # a message that the turn has absorbed has an id of its own
        headers = _headers(turn.session_id, begun or turn.id) | _timing(engine=time.monotonic() - arrived)
        left, journal, lanes = event_range or turn, engine.journal, engine.runner.lanes
        waits = turn.first is None
        frames = waiting_turns.frames(journal, lanes, turn, left) if waits else journal.follow(turn.log, left)
        return Stream(frames=frames, headers=headers)
    if (place := await waiting_turns.wait_ended(engine.db, engine.runner.lanes, turn)) is not None:
        return _asking(await so_far(engine.db, turn.answering, place))
    if isinstance(turn, RemoteTurn):
        return await _whole(engine.db, await turn.result(engine.forms))
    turn = turn.answering
    result = turn.result()
    resumed = turn.resume_point is not None and turn.last is not None
    if resumed and (stored := await engine.db.scan(turn_results.result, turn.id, engine.forms)):
        result = stored  # includes the part before a restart
    reply = await _whole(engine.db, result)
    model = sum(call.seconds for call in turn.model_calls)
    own = max(0.0, time.monotonic() - arrived - model - turn.tool_seconds)
    reply.headers |= _timing(engine=own, model=model, tools=turn.tool_seconds)
    return reply


async def _body_headers(request: Request[Any], headers: Mapping[str, str], private: frozenset[str]) -> dict[str, str]:
    """The headers in a chat's body, in lower case.

    Raises InvalidRequest for one that is not on the operator's list: an authenticating gateway sets or strips such
    headers in the head of a request, but does not inspect bodies.
    """
    stored = await request.engine.db.read(option_value, BODY_HEADERS)
    listed = {name.lower() for name in stored} - private
    message = f"may not come from the body; an admin lists in the setting {BODY_HEADERS.key} those that may"
    lowered = {name.lower(): value for name, value in headers.items()}
    if faults := [Detail(f"$.headers.{name[:100]}", message) for name in lowered if name not in listed]:
        raise InvalidRequest(f"{faults[0].path}: {message}", details=faults)
    return lowered


async def again(engine: Engine, request: Request[Any], turn_id: str, arrived: float) -> Stream | Reply:
    """The answer of a turn that the key started before: from its first event, or after `Last-Event-ID`."""
    if request.place is not None:
        request.place.free()  # the turn is counted already, or has ended
    if (turn := await engine.runner.find(turn_id)) is not None:
        return await _answer(engine, request, turn, arrived, await _unseen(engine.journal, request, turn.log, turn))
    look = engine.db.read if request.body.stream else engine.db.scan  # a stream reads its events page by page
    result = await look(turn_results.result, turn_id, engine.forms, whole=not request.body.stream)
    if result is None:
        raise Gone(_GONE)
    if result.last is None and (turn := engine.runner.turns.get(result.id)) is not None:  # it has absorbed the message
        steered = _Unseen(turn, (result.first or 1) - 1)
        return await _answer(engine, request, turn, arrived, await _unseen(engine.journal, request, turn.log, steered))
    if result.last is None:
        raise TurnInterrupted("The turn has stopped at a record and goes on when the engine is back; try again then")
    if request.body.stream:
        log = await engine.journal.log(result.session_id)
        if await engine.journal.newest(log, result.last) < result.last:  # the session was deleted meanwhile
            raise Gone(_GONE)
        event_range = await _unseen(engine.journal, request, log, OpenEventRange(result.first, result.last))
        return Stream(frames=engine.journal.follow(log, event_range), headers=_headers(result.session_id, turn_id))
    return await _whole(engine.db, result)


class _Unseen:
    """The part of a range of events after the last one that the client has seen."""

    def __init__(self, whole: EventRange, seen: int) -> None:
        self._whole, self._next = whole, seen + 1

    @property
    def first(self) -> int | None:
        """The first unseen event, once it is known."""
        return None if self._whole.first is None else max(self._whole.first, self._next)

    @property
    def last(self) -> int | None:
        """The last event of the range."""
        return self._whole.last


async def _unseen(journal: Journal, request: Request[ChatRequest], log: Log, whole: EventRange) -> EventRange:
    if not request.body.stream:
        return whole
    seen = event_cursor(request.headers, {})
    seen.check(journal.epoch, await journal.newest(log, seen.number))
    return _Unseen(whole, seen.number)


def _headers(session_id: str, turn_id: str) -> dict[str, str]:
    return {"x-session-id": session_id, "x-turn-id": turn_id}


def _timing(**seconds: float) -> dict[str, str]:
    """Milliseconds of the parts of the request that are known when the headers are sent (W3C Server Timing)."""
    return {"server-timing": ", ".join(f"{name};dur={value * 1000:.1f}" for name, value in seconds.items())}


def attachments_of(body: ChatRequest) -> tuple[Attachment, ...]:
    """The attachments of a chat's body; InvalidRequest for one that has not either data or a url."""
    found = []
    for n, one in enumerate(body.attachments):
        if bool(one.data) is bool(one.url):
            details = [Detail(f"$.attachments[{n}]", "send either data or url")]
            raise InvalidRequest("An attachment has either data or a url", details=details)
        data = b64encode(one.data).decode() if one.data else ""
        found.append(Attachment(media_type=one.media_type, data=data, url=one.url or "", name=one.name))
    return tuple(found)


def _entrance(conn: Connection, schema: str, session_id: str | None) -> tuple[schemas.Entrance, str | None]:
    return schemas.entrance(conn, schema), sessions.owner(conn, session_id) if session_id else None


def _form(conn: Connection, shown_in: ForkedFrom, forms: Mapping[str, type[Event]]) -> Event:
    """The newest form of a session up to an event."""
    for name, data in newest_first(conn, shown_in.session_id, forms, shown_in.after):
        event = json.decode(data, type=forms[name])
        if form_of(event):
            return event
    details = [Detail("$.message.form", "the session has shown no form")]
    raise Unprocessable("There is no form to answer; send the message as text", details=details)


async def _whole(db: Database, end: TurnResult) -> Reply:
    headers = _headers(end.session_id, end.id)
    if end.failure is not None:
        body = {"error": end.code, "message": end.message, "session_id": end.session_id, "turn_id": end.id}
        if end.retry_after is not None:
            headers["retry-after"] = str(end.retry_after)
        return Reply(status=end.failure, body=body, headers=headers)
    answer = await whole(db, end)
    if answer.status == "needs_input":
        return _asking(answer)
    return Reply(body=answer, headers=headers)


def _asking(answer: ChatAnswer) -> Reply:
    """The answer of a turn that waits for a person; `Location` is the URL of its outcome."""
    place = f"/api/v1/sessions/{answer.session_id}/turns/{answer.turn_id}"
    return Reply(body=answer, status=202, headers=_headers(answer.session_id, answer.turn_id) | {"location": place})


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    models = OwnModels(engine)
    return (
        Route(
            "POST",
            "/api/v1/schemas/{name}/chat",
            "chat",
            partial(chat, engine, models),
            "Chat with a schema",
            body=ChatRequest,
            example={"message": "What laptops do you have under $1000?"},
            upload=True,
            idempotent=True,
            begins_turn=True,
            streams=True,
            headers={
                "Last-Event-ID": (
                    "the id of an event: behind it goes on the stream of an Idempotency-Key that came before"
                ),
                **models.documented,
            },
            answer=ChatAnswer,
            sends={
                "Server-Timing": "milliseconds in the engine, and once the turn has ended with the model and in tools"
            },
            also={202: ChatAnswer},
        ),
    )
