"""Forks of a session: with its history up to the end of a turn, or with another message in place of a turn's."""

import time
from functools import partial
from typing import Annotated

from msgspec import Meta, Struct

from bytebrew.base.errors import Detail, InvalidRequest
from bytebrew.base.formats import new_uuid
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.lists import OFFSET, Page, page_window
from bytebrew.contract.route import Parameter, Reply, Request, Route, Stream
from bytebrew.engine import Engine
from bytebrew.store import forks, sessions
from bytebrew.store.configuration import schemas
from bytebrew.store.database.database import Database
from bytebrew.store.sessions import ForkedFrom, Session
from bytebrew.web.routes.chat import ChatRequest, OwnModels, again, begin
from bytebrew.web.routes.turns import ChatAnswer

_SESSION = "/api/v1/sessions/{id}"


class ForkRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`after` is the number of the last event of a turn; without it the fork has the history of all that have ended."""

    after: Annotated[int, Meta(ge=1, lt=2**53)] | None = None


class EditRequest(ChatRequest, frozen=True, kw_only=True):
    """A chat's body, whose message comes in place of that of the turn `turn_id`; its session is a new one."""

    turn_id: Annotated[str, Meta(min_length=1, max_length=255)]


class ForkPage(Page[Session], frozen=True, kw_only=True):
    """A page of a session's forks, newest first."""


async def fork(request: Request[ForkRequest]) -> Session:
    """A new session with the same history up to the end of a turn; what comes later in one is not in the other."""
    return await request.write(forks.fork, request.path["id"], request.actor, request.body.after, new_uuid())


async def edit(engine: Engine, models: OwnModels, request: Request[EditRequest]) -> Stream | Reply:
    """Sends another message in place of a turn's, in a fork that ends before it, and answers as a chat does."""
    arrived = time.monotonic()
    if request.key is not None and request.key.turn_id is not None:
        return await again(engine, request, request.key.turn_id, arrived)
    session_id, turn_id = request.path["id"], request.body.turn_id
    entrance, owner, origin = await engine.db.read(_edited, session_id, request.actor, turn_id)
    if request.body.session_id is not None:
        message = "the message goes to a new session: leave it out"
        raise InvalidRequest(f"session_id: {message}", details=[Detail("$.session_id", message)])
    return await begin(engine, models, request, arrived, entrance, owner, origin)


def _edited(
    conn: Connection, session_id: str, actor: Actor, turn_id: str
) -> tuple[schemas.Entrance, str | None, ForkedFrom]:
    origin = forks.before(conn, session_id, actor, turn_id)
    entrance = schemas.entrance(conn, sessions.get(conn, session_id, actor).schema)
    return entrance, sessions.owner(conn, session_id), origin


async def list_forks(db: Database, request: Request[None]) -> ForkPage:
    """The forks of a session, newest first; each may have forks of its own."""
    limit, offset = page_window(request.query, 20, 100)
    page = await db.scan(forks.page, request.path["id"], request.actor, limit, offset)
    return ForkPage(data=page.data, total=page.total, limit=limit, offset=offset, next=page.next)


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    models = OwnModels(engine)
    return (
        Route(
            "POST",
            f"{_SESSION}/fork",
            "chat",
            fork,
            "Fork a session",
            body=ForkRequest,
            example={},
            idempotent=True,
            status=201,
            answer=Session,
        ),
        Route(
            "POST",
            f"{_SESSION}/edit",
            "chat",
            partial(edit, engine, models),
            "Send another message in place of a turn's",
            body=EditRequest,
            example={"turn_id": "turn_0190", "message": "And under $800?"},
            upload=True,
            idempotent=True,
            begins_turn=True,
            streams=True,
            headers=models.documented,
            answer=ChatAnswer,
            also={202: ChatAnswer},
        ),
        Route(
            "GET",
            f"{_SESSION}/forks",
            "chat",
            partial(list_forks, engine.db),
            "List the forks of a session",
            query={"limit": Parameter("rows, 100 at most", int | str), "offset": OFFSET},
            answer=ForkPage,
        ),
    )
