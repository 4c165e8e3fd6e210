"""Chats for faces, with the rules of the engine's own routes: access, views, idempotency, records."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import replace as with_fields
from typing import Any

import msgspec
from msgspec.structs import replace

from bytebrew.base.errors import InvalidRequest, NotFound, TurnInterrupted, Unprocessable
from bytebrew.base.formats import canonical_id, now
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Agent, Schema
from bytebrew.contract.face import FaceSchema, FaceTurn, NewChat, OpenCall, PrecedingTurn, TurnEvent
from bytebrew.contract.route import Record, Request, Route
from bytebrew.conversation import waiting_turns
from bytebrew.conversation.remote.remote_turns import RemoteTurn
from bytebrew.conversation.turn import Turn
from bytebrew.engine import Engine
from bytebrew.store import confirmations, face_turns, forks, idempotency, sessions
from bytebrew.store.configuration import agents, schemas
from bytebrew.store.face_turns import StoredTurn
from bytebrew.store.journal import OpenEventRange
from bytebrew.store.sessions import ForkedFrom
from bytebrew.store.turns import NewTurn, Status
from bytebrew.web import public_view, recorded_changes
from bytebrew.web.access import check_schema
from bytebrew.web.api_document.openapi import EVENTS
from bytebrew.web.faces.chat_bodies import chat_body, check_history
from bytebrew.web.faces.turn_events import EventDecoder, turn_events
from bytebrew.web.http_state import http_state
from bytebrew.web.routes import approvals, chat
from bytebrew.web.routes import sessions as session_routes
from bytebrew.web.routes.approvals import SessionAnswer
from bytebrew.web.routes.chat import OwnModels

_SESSION = "/api/v1/sessions/{id}"
_STOPPED = "The turn has stopped at a record and goes on when the engine is back; try again then"


class Conversations:
    """The chats of an engine for its faces; see `bytebrew.Conversations`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._models = OwnModels(engine)
        self.decoder = EventDecoder(dict.fromkeys((*EVENTS, *engine.events)))
        own = (*approvals.routes(engine), *session_routes.routes(engine))
        self._routes: Mapping[tuple[str, str], Route] = {(route.method, route.path): route for route in own}

    async def schemas(self, request: Request[Any]) -> list[FaceSchema]:
        """The schemas with chat that the caller may use, by name."""
        allowed = request.actor.schemas
        every = await self._engine.agents()
        return [
            _face_schema(one, every)
            for one in await self._engine.db.read(schemas.list_all)
            if one.chat_enabled and (allowed is None or one.name in allowed)
        ]

    async def schema(self, request: Request[Any], name: str) -> FaceSchema:
        """One of them, by name or id; NotFound or Forbidden for any other."""
        found, agent = await self._engine.db.read(_schema_and_agent, name)
        check_schema(request.actor, found.name)
        if not found.chat_enabled:
            raise chat.disabled(found.name)
        return _face_schema(found, [agent])

    async def begin(self, request: Request[Any], new: NewChat) -> FaceTurn:
        """Begins a turn; for a repeated Idempotency-Key the turn that it began."""
        if request.key is not None and request.key.turn_id is not None:
            request.free_place()  # the turn is counted already, or has ended
            return await self.turn(request, request.key.turn_id)
        place = request.place
        with public_view.in_view(request):  # a face may answer errors itself
            if place is not None:
                return await self._begin(request, new)
            request.place = place = http_state(self._engine).admission.enter()
            try:
                return await self._begin(request, new)
            finally:
                place.free()

    async def _begin(self, request: Request[Any], new: NewChat) -> FaceTurn:
        try:
            return await self._begin_at(request, new)
        except forks.Overtaken:
            turn = await self.turn(request, new.behind)
            if turn.last is None:
                raise
        return await self._begin_at(request, replace(new, behind="", fork_after=turn.last))

    async def _begin_at(self, request: Request[Any], new: NewChat) -> FaceTurn:
        engine = self._engine
        session_id = canonical_id(new.session_id) if new.session_id else None
        entrance, owner, fork = await engine.db.read(_begun_in, request, new, session_id)
        self._set_view(request, entrance.view)
        if new.history and owner is not None and fork is None:
            raise Unprocessable("Only a session that begins takes a history; leave session_id out, or send a new UUID")
        created = now()

        def more(turn: NewTurn) -> NewTurn:
            kept = None if new.kept is None else msgspec.json.encode(new.kept).decode()
            begins = turn.begins or owner is None
            parts = {"history": new.history, "behind": new.behind, "instructions": new.instructions, "kept": kept}
            return replace(turn, **parts, begins=begins, face_key=new.key, created_at=created)

        check_history(new.history)
        request.body = chat_body(new, None if fork else session_id)
        turn = await chat.start(engine, self._models, request, entrance, owner, fork, more)
        request.body = None
        if isinstance(turn, Turn) and new.history:
            turn.new = replace(turn.new, history=())
        stored = StoredTurn(
            id=turn.id,
            session_id=turn.session_id,
            owner=owner or request.actor.subject,
            schema=entrance.schema,
            view=entrance.view,
            created_at=created,
            ended_at=None,
            message=new.message,
            key=new.key,
            kept=new.kept,
            status=turn.status,
            failure=None,
            first=turn.first,
            last=None,
            newest=True,
            by_agent=False,
        )
        return _Turn(self, stored, turn, public=request.actor.view == "public")

    async def turn(self, request: Request[Any], turn_id: str) -> FaceTurn:
        """A turn of a session of the caller; NotFound otherwise."""
        stored = await self._engine.db.glance(face_turns.get, turn_id)
        if stored is None or not self._may_see(request, stored):
            raise NotFound(f"There is no turn '{turn_id[:255]}'")
        return await self._shown(request, stored)

    async def keep(self, request: Request[Any], turn_id: str, kept: Any) -> None:
        """Stores what is kept with a turn of the caller, in place of what was."""
        await self.turn(request, turn_id)
        await request.write(face_turns.keep, turn_id, kept)

    async def newest(self, request: Request[Any], session_id: str) -> FaceTurn | None:
        """The newest turn of a session; None if it has none, or there is no such session."""
        stored = await self._engine.db.glance(face_turns.newest, canonical_id(session_id))
        return await self._shown(request, stored) if stored is not None and self._may_see(request, stored) else None

    async def find(
        self, request: Request[Any], schema: str, keys: Sequence[str], *, user_sub: str | None = None
    ) -> list[FaceTurn]:
        """The caller's turns in a schema with one of the keys, for an end user or all: the 20 newest of a key."""
        look = self._engine.db.glance if len(keys) == 1 else self._engine.db.read
        found = await look(face_turns.find, request.actor.subject, user_sub, schema, keys)
        return [await self._shown(request, one) for one in found if self._may_see(request, one)]

    async def open_calls(self, request: Request[Any], session_id: str) -> list[OpenCall]:
        """The calls of a session that wait, oldest first."""
        await self._enter(request, session_id)
        public = request.actor.view == "public"
        return [
            OpenCall(
                call_id=one.id if hidden else one.call_id,
                confirmation_id=one.id,
                kind=one.kind,
                tool="" if hidden else one.tool,
                input={} if hidden else confirmations.shown(one).input,
            )
            for one in await self._engine.db.read(confirmations.of_session, session_id)
            for hidden in (public and one.kind != "client_tool",)
        ]

    async def finish_call(
        self, request: Request[Any], session_id: str, call_id: str, result: str, *, has_error: bool = False
    ) -> None:
        """Takes the result of a tool that the client runs; the same result again changes nothing."""
        await self._respond(request, session_id, SessionAnswer(call_id=call_id, result=result, is_error=has_error))

    async def answer(
        self,
        request: Request[Any],
        session_id: str,
        confirmation_id: str,
        *,
        approve: bool,
        reason: str = "",
        input: dict[str, Any] | None = None,
    ) -> None:
        """Answers a question to a person; the same answer again changes nothing.

        Of a call that a restart broke off it says whether that runs again.
        """
        question = await self._engine.db.read(confirmations.find, confirmation_id, session_id)
        word = "approve" if approve else "reject"
        if question is not None and question.kind == "unknown_outcome":  # of a call that a restart broke off
            word = "retry" if approve else "fail"
        answer = SessionAnswer(confirmation_id=confirmation_id, answers=(word,), reason=reason, input=input)
        await self._respond(request, session_id, answer)

    async def cancel(self, request: Request[Any], session_id: str) -> None:
        """Cancels the running turn of a session."""
        await self._enter(request, session_id)
        await self._run(request, "POST", f"{_SESSION}/cancel", session_id)

    async def delete(self, request: Request[Any], session_id: str) -> None:
        """Deletes a session with all its turns."""
        await self._enter(request, session_id)
        await self._run(request, "DELETE", _SESSION, session_id)

    async def _respond(self, request: Request[Any], session_id: str, answer: SessionAnswer) -> None:
        await self._enter(request, session_id)
        turn_id, key = await self._engine.runner.running(session_id), request.key
        if key is None or key.turn_id is not None or turn_id is None:
            await self._run(request, "POST", f"{_SESSION}/respond", session_id, answer)
            return
        key = replace(key, turn_id=turn_id)

        def keep(conn: Connection, body: Any) -> None:
            idempotency.keep_turn(conn, key, turn_id)

        await self._run(request, "POST", f"{_SESSION}/respond", session_id, answer, keep)
        request.key, request.recorded = key, True  # it names the turn now

    async def _run(
        self,
        request: Request[Any],
        method: str,
        pattern: str,
        session_id: str,
        body: Any = None,
        *records: Record,
    ) -> None:
        """Runs a route of the core for a session, with its records."""
        route = self._routes[method, pattern]
        path = route.path.replace("{id}", session_id)
        inner = with_fields(
            request,
            path={"id": session_id},
            query={},
            url_path=path,
            method=route.method,
            body=body,
            key=None,
            records=records,
            recorded=False,
            place=None,
        )
        change = None
        if self._engine.observers.record_actions:
            change = recorded_changes.Change(inner, route, recorded_changes.Resource(None, "id"), self._engine.record)
            inner.records += (change.record,)
        with public_view.in_view(request):
            await recorded_changes.perform(inner, route, change)
        if change and change.action:
            await self._engine.notify("actor_acted", action=change.action)

    async def _enter(self, request: Request[Any], session_id: str) -> None:
        """Sets the view of a session of the caller; NotFound for any other."""
        found = await self._engine.db.glance(face_turns.view, session_id)
        owner, schema, view, by_agent = found or (None, "", "full", False)
        owner = None if by_agent and _is_public(request, view) else owner
        sessions.check_owner(request.actor, owner, session_id)
        check_schema(request.actor, schema)
        self._set_view(request, view)

    def _set_view(self, request: Request[Any], view: str) -> None:
        if _is_public(request, view):
            request.actor = replace(request.actor, view="public")

    def _may_see(self, request: Request[Any], stored: StoredTurn) -> bool:
        actor = request.actor
        if stored.by_agent and _is_public(request, stored.view):
            return False
        return (stored.owner == actor.subject or actor.is_admin) and (
            actor.schemas is None or stored.schema in actor.schemas
        )

    async def _shown(self, request: Request[Any], stored: StoredTurn) -> "_Turn":
        self._set_view(request, stored.view)
        running = None if stored.last is not None else await self._engine.runner.find(stored.id)
        if running is None and stored.last is None:  # it has ended since it was read
            ended = await self._engine.db.glance(face_turns.get, stored.id)
            stored = ended or stored
        return _Turn(self, stored, running, public=request.actor.view == "public")

    async def before(self, stored: StoredTurn) -> Sequence[PrecedingTurn] | None:
        """The turns of its session before one; None if they take more than a megabyte."""
        return await self._engine.db.scan(face_turns.before, stored)

    def frames(self, stored: StoredTurn, running: Turn | RemoteTurn | None) -> AsyncGenerator[bytes, None]:
        """The frames of a turn from its first event to its last."""
        engine = self._engine
        if running is not None and running.first is None:
            return waiting_turns.frames(engine.journal, engine.runner.lanes, running, running)
        if running is not None:
            return engine.journal.follow(running.log, running)
        return self._stored(stored)

    async def _stored(self, stored: StoredTurn) -> AsyncGenerator[bytes, None]:
        if (last := stored.last) is None:
            raise TurnInterrupted(_STOPPED)
        log = await self._engine.journal.log(stored.session_id)
        if await self._engine.journal.newest(log, last) < last:
            raise NotFound("The session was deleted")
        async for chunk in self._engine.journal.follow(log, OpenEventRange(stored.first, last)):
            yield chunk

    async def so_far(self, stored: StoredTurn, running: Turn | RemoteTurn | None) -> AsyncGenerator[bytes, None]:
        """The frames of the events that a turn has now."""
        first = stored.first if running is None else running.first
        if first is None:
            return
        log = await self._engine.journal.log(stored.session_id)
        last = stored.last if running is None or running.last is None else running.last
        through = log.committed if last is None else min(await self._engine.journal.newest(log, last), last)
        if through >= first:
            async for chunk in self._engine.journal.follow(log, OpenEventRange(first, through)):
                yield chunk


class _Turn:
    """A turn as `bytebrew.FaceTurn` describes it."""

    def __init__(
        self, chats: Conversations, stored: StoredTurn, running: Turn | RemoteTurn | None, *, public: bool
    ) -> None:
        self._chats, self._stored, self._running, self._public = chats, stored, running, public
        self.id, self.session_id, self.schema = stored.id, stored.session_id, stored.schema
        self.created_at, self.ended_at, self.message = stored.created_at, stored.ended_at, stored.message
        self.key, self.kept, self.newest = stored.key, stored.kept, stored.newest

    @property
    def last(self) -> int | None:
        """The number of its last event, None before its end."""
        return self._running.last if self._running else self._stored.last

    @property
    def status(self) -> Status:
        """Its status."""
        return self._running.answering.status if self._running else self._stored.status

    @property
    def failure(self) -> int | None:
        """The HTTP status of its error, once it has failed."""
        if self._running is None:
            return self._stored.failure
        failure = self._running.answering.failure
        return failure.status if failure else None

    def events(self, *, live: bool = True) -> AsyncGenerator[Sequence[TurnEvent], None]:
        """The turn's events from its first."""
        chats, stored, running = self._chats, self._stored, self._running
        frames = chats.frames(stored, running) if live else chats.so_far(stored, running)
        return turn_events(frames, chats.decoder, public=self._public)

    async def before(self) -> Sequence[PrecedingTurn] | None:
        """The turns before it."""
        found = await self._chats.before(self._stored)
        if found is None or not self._public:
            return found
        return [replace(one, messages=tuple(filter(None, map(public_view.message, one.messages)))) for one in found]


def _is_public(request: Request[Any], view: str) -> bool:
    """Whether the caller has the public view of what has a view."""
    actor = request.actor  # whoever approves calls must see them
    return actor.view == "public" or (view == "public" and not actor.scopes & {"admin", "approvals"})


def _schema_and_agent(conn: Connection, name: str) -> tuple[Schema, Agent]:
    schema = schemas.get(conn, name)
    return schema, agents.get(conn, schema.entry_agent_name)


def _face_schema(schema: Schema, agents: Iterable[Agent]) -> FaceSchema:
    return FaceSchema(
        name=schema.name,
        description=schema.description,
        created_at=schema.created_at,
        client_tools=schema.client_tools,
        approvals=schema.approvals,
        response_format=next((one.response_format for one in agents if one.name == schema.entry_agent_name), None),
    )


def _begun_in(
    conn: Connection, request: Request[Any], new: NewChat, session_id: str | None
) -> tuple[schemas.Entrance, str | None, ForkedFrom | None]:
    """The entrance of a schema, the owner of the session if there is one, and the history that a fork has of it."""
    entrance = schemas.entrance(conn, new.schema)
    owner = sessions.owner(conn, session_id) if session_id else None
    if owner is not None:
        sessions.check_owner(request.actor, owner, session_id or "")
    if new.fork_after is None:
        return entrance, owner, None
    if session_id is None:
        raise InvalidRequest("A fork needs the session that it shares the history of")
    return entrance, owner, forks.behind(conn, session_id, request.actor, new.fork_after)
