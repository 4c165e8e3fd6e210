"""A turn as one JSON answer: its outcome, or its current state."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from bytebrew.base.errors import NotFound
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import Event, FinishReason
from bytebrew.contract.messages import Usage
from bytebrew.contract.route import Request, Route
from bytebrew.conversation import waiting_turns
from bytebrew.conversation.remote.remote_turns import RemoteTurn
from bytebrew.conversation.turn import Turn
from bytebrew.conversation.waiting_turns import Place
from bytebrew.engine import Engine
from bytebrew.store import confirmations, forks, sessions, turn_results, turns
from bytebrew.store.confirmations import Confirmation
from bytebrew.store.database.database import Database
from bytebrew.store.queries import waiting_messages
from bytebrew.store.queries.waiting_messages import WaitingMessage
from bytebrew.store.turn_results import TurnResult


class CallRecord(Struct, frozen=True, kw_only=True):
    """A tool call of the turn."""

    tool: str
    input: dict[str, Any]
    output: str
    call_id: str
    has_error: bool


class ClientCall(Struct, frozen=True, kw_only=True):
    """A call of a tool that the client runs, whose result the turn waits for."""

    turn_id: str
    call_id: str
    confirmation_id: str
    tool: str
    input: dict[str, Any]
    created_at: str
    expires_at: str | None


class Failure(Struct, frozen=True, kw_only=True):
    """Why a turn has failed: the code and the sentence of its event `error`."""

    error: str
    message: str


class ChatAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A turn as a whole, for `stream: false`, or what there is of it.

    With `needs_input` a person must answer: the `questions` that wait, at /sessions/{id}/respond, or the `form`, by the
    next message, whereupon the turn is `completed`; or the client sends the results of its `client_calls`. With
    `queued` it waits behind `position` other messages of its session, and the questions and calls are those of the
    first. The same Idempotency-Key, and GET /sessions/{id}/turns/{turn_id}, have its end later. `data` is the value of
    a structured answer, whose JSON is `message`. `agent_version` is the version of the agent that answers.
    """

    session_id: str
    turn_id: str
    message: str
    tool_calls: list[CallRecord]
    usage: Usage
    status: turns.Status | Literal["needs_input"]
    finish_reason: FinishReason | None = None
    data: Any | UnsetType = UNSET
    questions: list[Confirmation] = []
    client_calls: list[ClientCall] = []
    form: dict[str, Any] | None = None
    position: int = 0
    failure: Failure | None = None
    agent_version: int = 0


async def whole(db: Database, end: TurnResult) -> ChatAnswer:
    """A turn as it is stored."""
    well = end.status in ("completed", "cancelled")
    return ChatAnswer(
        session_id=end.session_id,
        turn_id=end.id,
        message=end.text,
        tool_calls=await db.read(_calls, end.id),
        usage=end.usage,
        status="needs_input" if end.form else end.status,
        finish_reason=end.finish_reason if well else None,
        data=end.data,
        form=end.form,
        failure=Failure(error=end.code, message=end.message) if end.status == "failed" else None,
        agent_version=end.agent_version,
    )


async def so_far(db: Database, turn: Turn | RemoteTurn, place: Place) -> ChatAnswer:
    """A turn that has not ended."""
    part = turn.result() if isinstance(turn, Turn) else await turn.result({})
    return ChatAnswer(
        session_id=part.session_id,
        turn_id=part.id,
        message=part.text,
        tool_calls=await db.read(_calls, part.id),
        usage=part.usage,
        status="queued" if place.position else "needs_input" if place.questions else "running",
        questions=[confirmations.shown(one) for one in place.questions if one.kind != "client_tool"],
        client_calls=client_calls(place.questions),
        position=place.position,
        agent_version=part.agent_version,
    )


def client_calls(waiting: Iterable[Confirmation]) -> list[ClientCall]:
    """The calls among all that waits for an answer."""
    return [
        ClientCall(
            turn_id=one.turn_id,
            call_id=one.call_id,
            confirmation_id=one.id,
            tool=one.tool,
            input=one.input,
            created_at=one.created_at,
            expires_at=one.expires_at,
        )
        for one in waiting
        if one.kind == "client_tool"
    ]


def _calls(conn: Connection, turn_id: str) -> list[CallRecord]:
    return [
        CallRecord(
            tool=row["tool"],
            input=msgspec.json.decode(row["input"]),
            output=row["output"] or "",
            call_id=row["call_id"],
            has_error=row["status"] == "failed",
        )
        for row in turns.tool_calls(conn, turn_id)
    ]


async def get_turn(engine: Engine, request: Request[None]) -> ChatAnswer:
    """A turn as it is now, without waiting for its end."""
    session_id, turn_id = request.path["id"], request.path["turn_id"]
    sessions.check_owner(request.actor, await engine.db.read(sessions.owner, session_id), session_id)
    turn = await engine.runner.find(turn_id)
    if turn is None or turn.session_id != session_id:
        end = await engine.db.scan(_stored, session_id, turn_id, engine.forms)
        if end is None:
            raise NotFound(f"The session has no turn '{turn_id[:255]}'")
        turn = engine.runner.turns.get(end.id) if end.last is None else None  # it has absorbed the message
        if turn is None:
            return await whole(engine.db, end)
    turn = turn.answering
    return await so_far(engine.db, turn, await waiting_turns.place(engine.db, engine.runner.lanes, turn))


async def list_queue(engine: Engine, request: Request[None]) -> list[WaitingMessage]:
    """The messages of a session that wait for the turn that runs, in their order.

    One with which a person steers that turn is not among them, for it has the event `steer`.
    """
    session_id = request.path["id"]
    sessions.check_owner(request.actor, await engine.db.read(sessions.owner, session_id), session_id)
    stored = await engine.db.scan(waiting_messages.of_session, session_id)
    waiting = await engine.runner.queue(session_id)
    return [replace(stored[one], position=n) for n, one in enumerate(waiting, 1) if one in stored]


async def remove_queued(engine: Engine, request: Request[None]) -> None:
    """Removes a message that waits, as if it had not been sent; a 409 once a turn has it.

    The stream of its request ends with an error `message_removed`.
    """
    session_id = request.path["id"]
    sessions.check_owner(request.actor, await engine.db.read(sessions.owner, session_id), session_id)
    await engine.runner.remove_waiting(session_id, request.path["turn_id"], request.record)


def _stored(conn: Connection, session_id: str, turn_id: str, forms: Mapping[str, type[Event]]) -> TurnResult | None:
    """A turn of a session or of the history that a fork shares, which outlives the session that holds it."""
    end = turn_results.result(conn, turn_id, forms, fork=session_id)
    own = end is not None and end.session_id == session_id
    return end if end and (own or forks.has_turn(conn, session_id, end.session_id, end.last)) else None


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    return (
        Route(
            "GET",
            "/api/v1/sessions/{id}/turns/{turn_id}",
            "chat",
            partial(get_turn, engine),
            "Get a turn",
            answer=ChatAnswer,
        ),
        Route(
            "GET",
            "/api/v1/sessions/{id}/queue",
            "chat",
            partial(list_queue, engine),
            "List the messages that wait",
            answer=list[WaitingMessage],
        ),
        Route(
            "DELETE",
            "/api/v1/sessions/{id}/queue/{turn_id}",
            "chat",
            partial(remove_queued, engine),
            "Remove a message that waits",
            status=204,
            also={409: None},
        ),
    )
