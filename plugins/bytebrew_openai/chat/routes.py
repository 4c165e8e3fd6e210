"""The routes of Chat Completions: models, and completions that continue the session whose history comes."""

import re
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from bytebrew import (
    CONVERSATIONS,
    Conflict,
    Conversations,
    Detail,
    Face,
    FaceSchema,
    FaceTurn,
    InvalidRequest,
    NewChat,
    Reply,
    Request,
    Route,
    Stream,
    Unprocessable,
    __version__,
    own_origin,
    parse_time,
    project,
)

from ..models import schema_of_model
from .answers import Answer, Kept
from .chunks import Chunks, answers_of, ending, whole
from .errors import refusal
from .history import Conversation, Position
from .questions import APPROVE, verdict
from .wire import Completion

FACE = Face("OpenAI Chat Completions", refusal, ending)
SESSION = "x-session-id"
RETRY = "x-stainless-retry-count"
"""The header by which OpenAI's own clients say how often they have sent the request before."""
RETRIES = timedelta(minutes=10)
"""OpenAI's clients wait so long for an answer."""
PATHS = (
    (r"^\$\.client_tools(\[\d+\])\.input_schema", r"$.tools\1.function.parameters"),
    (r"^\$\.client_tools(\[\d+\])\.", r"$.tools\1.function."),
    (r"^\$\.client_tools", "$.tools"),
    (r"^\$\.response_format\.schema", "$.response_format.json_schema.schema"),
    (r"^\$\.(message|attachments)\b.*", "$.messages"),
)
"""Fields of the engine's own chat, and those of the client's that they are made of."""
GREETING = "You have begun this conversation with these words:\n"
UNAPPROVED = "A person must approve something before the conversation goes on"
UNANSWERED = (
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'"
)


class Model(Struct, frozen=True, kw_only=True):
    """A schema as a model."""

    id: str
    created: int
    object: str = "model"
    owned_by: str = "bytebrew"


class Models(Struct, frozen=True, kw_only=True):
    """The models that the caller may use."""

    data: list[Model]
    object: str = "list"


async def list_models(request: Request[None]) -> Models:
    """The schemas that the caller may chat with."""
    return Models(data=[_model(one) for one in await request.engine.state[CONVERSATIONS].schemas(request)])


async def get_model(request: Request[None]) -> Model:
    """One of them."""
    return _model(await schema_of_model(request, request.path["id"]))


def _model(schema: FaceSchema) -> Model:
    return Model(id=schema.name, created=int(parse_time(schema.created_at).timestamp()))


async def complete(request: Request[Any]) -> Stream | Reply:
    """The next answer of a conversation, streamed or whole."""
    body: Completion = request.body
    body.check()
    schema = await schema_of_model(request, body.model)
    turn, n = await _Request(request, schema).turn()
    headers = {"x-session-id": turn.session_id, "x-turn-id": turn.id}
    request.free_place()  # the turn itself is counted
    if body.stream:
        usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return Stream(frames=project(turn, Chunks(turn, n, usage=usage)), headers=headers)
    del body  # the turn may wait for long
    request.body = None
    reply = await whole(turn, n)
    reply.headers |= headers
    return reply


class _Request:
    """A request for a completion, and the turn whose answer it gets."""

    def __init__(self, request: Request[Completion], schema: FaceSchema) -> None:
        self._request, self._schema, self._body = request, schema, request.body
        self._chats: Conversations = request.engine.state[CONVERSATIONS]
        self._conversation = Conversation(request.body.conversation())
        self._session_id = request.headers.get(SESSION) or None
        user = self._body.user or self._body.safety_identifier or ""
        self._user = user if request.actor.kind == "token" else ""

    async def turn(self) -> tuple[FaceTurn, int]:
        """The turn, and the number of its answer."""
        messages = self._conversation.messages
        if not messages or messages[-1].role == "assistant":
            raise _unfit("the last message is one of the user, or the result of a tool call")
        if (repeated := await self._repeated()) is not None:
            return repeated, 0
        place = await self._place()
        if place is None:
            return await self._begin(session_id=self._session_id, first=0), 0
        if place.answer.calls and (place.results or place.reach < len(messages)):
            await self._finish_calls(place)
        if place.reach < len(messages):
            return await self._continue(place), 0
        if place.approves is not None:
            if self._request.key is None and place.turn.key == self._conversation.key:
                return place.turn, 0  # the message that began it, sent again before its question was seen
            for question in place.answer.questions:
                await self._answer(place.turn, question.confirmation_id, approve=place.approves)
        return place.turn, place.n + 1

    async def _repeated(self) -> FaceTurn | None:
        """The turn that the same request has begun before.

        That is known by its Idempotency-Key, or OpenAI's clients say that they repeat it.
        """
        chats, request, key = self._chats, self._request, self._conversation.key
        if request.key is not None:
            turn = await chats.turn(request, request.key.turn_id) if request.key.turn_id else None
            return turn if turn is not None and turn.key == key else None
        if request.headers.get(RETRY, "0") == "0":
            return None
        for turn in await chats.find(request, self._schema.name, [key], user_sub=self._user):
            recent = datetime.now(UTC) - parse_time(turn.created_at) < RETRIES
            if recent and turn.newest and turn.status in ("queued", "running", "completed"):
                return turn
        return None

    async def _place(self) -> Position | None:
        """Where the request goes on; None for a conversation that the engine does not have."""
        chats, request, conversation, newest = self._chats, self._request, self._conversation, None
        if request.key is not None and request.key.turn_id is not None:  # its results or answers came before
            turn = await chats.turn(request, request.key.turn_id)
            start = conversation.start(turn.key)
            return await (self._behind(turn) if start is None else conversation.within(turn, start))
        if self._session_id:
            newest = await chats.newest(request, self._session_id)
            if newest is None:
                return None  # it begins, or is of another caller
        session_id = newest.session_id if newest else None
        place = await conversation.find(chats, request, self._schema.name, self._user, session_id)
        return await self._behind(newest) if place is None and newest is not None else place

    async def _behind(self, newest: FaceTurn) -> Position:
        """The place behind the last answer of a session, whose history the request need not have."""
        messages, reach, results = self._conversation.messages, self._conversation.new, {}
        answers = [(n, one) for n, one in enumerate(await answers_of(newest)) if one.ended]
        if messages[-1].role == "tool":
            reach = len(messages)
            results = {one.call_id: one.content for one in takewhile(lambda last: last.role == "tool", messages[::-1])}
            answers = [(n, one) for n, one in answers if {call.call_id for call in one.calls} == results.keys()]
            if not answers:
                raise _unfit("these are not the results of calls that the session has; send those of all its calls")
        elif self._request.key is not None and self._request.key.turn_id is not None:
            answers = [(n, one) for n, one in answers if one.questions]
        n, answer = answers[-1] if answers else (0, Answer())
        new, approves = messages[reach:], None
        if answer.questions and len(new) == 1 and not new[0].attachments:
            approves = verdict(new[0].content)
        return Position(newest, n, answer, reach if approves is None else len(messages), results, approves)

    async def _finish_calls(self, place: Position) -> None:
        """Sends what the client's tools have returned, and what its person has said."""
        if missing := [call.call_id for call in place.answer.calls if call.call_id not in place.results]:
            raise _unfit(f"{UNANSWERED}; there is none for {', '.join(missing)}")
        request, key, calls = self._request, self._request.key, place.answer.calls
        if place.reach < len(self._conversation.messages):
            request.key = None  # it names the turn that is to begin
            open_calls = await self._chats.open_calls(request, place.turn.session_id)
            waiting = {id for one in open_calls for id in (one.call_id, one.confirmation_id)}
            calls = tuple(one for one in calls if one.call_id in waiting)  # the message goes on without the others
        for call in calls:
            result = place.results[call.call_id]
            if call.tool == APPROVE:
                approve = verdict(result) is True
                reason = "" if approve or verdict(result) is False else result[:10_000]
                await self._answer(place.turn, call.call_id, approve=approve, reason=reason)
            else:
                await self._chats.finish_call(request, place.turn.session_id, call.call_id, result)
        request.key = key if request.key is None else request.key

    async def _answer(self, turn: FaceTurn, question: str, *, approve: bool, reason: str = "") -> None:
        await self._chats.answer(self._request, turn.session_id, question, approve=approve, reason=reason)

    async def _continue(self, place: Position) -> FaceTurn:
        """Begins the turn of the newest messages behind another turn, in its session or in a fork."""
        turn, between = place.turn, self._conversation.earlier(place.reach, self._conversation.new)
        if turn.newest and not between:
            if turn.last is not None and self._session_id is None:
                return await self._begin(session_id=turn.session_id, behind=turn.id)
            if turn.last is not None or not await self._asks(turn):
                return await self._begin(session_id=turn.session_id)
            if self._request.actor.view == "public":
                raise Conflict(UNAPPROVED, code="approval_needed")
            return await self._begin(session_id=turn.session_id, on_busy="interrupt")
        if turn.last is None:
            return await self._begin(first=0)
        return await self._begin(session_id=turn.session_id, fork_after=turn.last, first=place.reach)

    async def _asks(self, turn: FaceTurn) -> bool:
        """Whether a person must answer before the turn goes on."""
        return any(one.kind != "client_tool" for one in await self._chats.open_calls(self._request, turn.session_id))

    async def _begin(self, *, first: int | None = None, **where: Any) -> FaceTurn:
        """Begins a turn; the messages from `first` on that are not new become turns before it."""
        body, conversation = self._body, self._conversation
        new = conversation.messages[conversation.new :]
        if not new:
            raise _unfit("no turn waits for these results; begin one with a message of the user")
        greeting, history = "", conversation.earlier(0, 0)
        if first is not None:
            begun = next(n for n, one in enumerate(conversation.messages) if n >= first and one.role == "user")
            history = conversation.earlier(begun, conversation.new)
            if begun > first:
                greeting = GREETING + "\n".join(one.content for one in conversation.messages[first:begun])
        chat = NewChat(
            schema=self._schema.name,
            message="\n\n".join(one.content for one in new if one.content),
            attachments=tuple(file for one in new for file in one.attachments),
            history=history,
            instructions="\n\n".join(
                filter(None, (body.instructions(), greeting and f"You have begun with: {greeting}"))
            ),
            user_sub=self._user,
            response_format=body.format(),
            client_tools=body.client_tools(APPROVE if self._schema.approvals == "client_tool" else ""),
            key=conversation.key,
            kept=self._kept(),
            **where,
        )
        try:
            return await self._chats.begin(self._request, chat)
        except (InvalidRequest, Unprocessable) as error:
            error.details = tuple(replace(one, path=_path(one.path)) for one in error.details)
            raise

    def _kept(self) -> Kept:
        format = self._body.format() or self._schema.response_format
        return Kept(
            link=f"{own_origin(self._request)}/api/v1/approvals",
            as_tools=self._schema.approvals == "client_tool",
            whole=format is not None and format.type == "json_schema",
            fingerprint=f"bytebrew-{__version__}",
        )


def _unfit(message: str) -> InvalidRequest:
    return InvalidRequest(f"messages: {message}", details=[Detail("$.messages", message)])


def _path(path: str) -> str:
    """The path of a field of the engine's own chat as that of the client's."""
    for ours, theirs in PATHS:
        path = re.sub(ours, theirs, path, count=1)
    return path


ROUTES = (
    Route("GET", "/v1/models", "chat", list_models, "List models", answer=Models, face=FACE),
    Route("GET", "/v1/models/{id}", "chat", get_model, "Get a model", answer=Model, face=FACE),
    Route(
        "POST",
        "/v1/chat/completions",
        "chat",
        complete,
        "Create a chat completion",
        body=Completion,
        example={"model": "support", "messages": [{"role": "user", "content": "What do you sell?"}]},
        answer=dict[str, Any],
        upload=True,
        idempotent=True,
        begins_turn=True,
        streams=True,
        face=FACE,
        headers={"X-Session-Id": "the session that the conversation continues, or a UUID that begins one"},
        also={404: None},
    ),
)
