"""Sessions: pages, one with its messages, its events, cancel, delete."""

from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Literal

import anyio
import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.structs import asdict

from bytebrew.base.errors import Detail, Forbidden, InvalidRequest
from bytebrew.base.formats import rfc3339
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Live
from bytebrew.contract.lists import OFFSET, NumberedPage, Page, page_numbers, page_window
from bytebrew.contract.messages import Usage
from bytebrew.contract.route import (
    FORMAT,
    NDJSON,
    Moment,
    Parameter,
    Reply,
    Request,
    Route,
    Stream,
    moment,
    positive,
    wants_lines,
)
from bytebrew.conversation.runner import Runner
from bytebrew.engine import Engine
from bytebrew.store import confirmations, messages, sessions
from bytebrew.store.database.database import Database
from bytebrew.store.journal import Journal, Log, OpenEventRange
from bytebrew.store.queries import session_list
from bytebrew.store.queries.events import last_number, read_events
from bytebrew.store.queries.session_list import SessionRow
from bytebrew.store.sessions import Session
from bytebrew.web.event_cursor import Cursor, EventId, Number, event_cursor
from bytebrew.web.routes.turns import ClientCall, client_calls

CANCEL_SECONDS = 5.0
"""How long to wait for the end of a cancelled turn, as a tool may not end."""
Order = Literal["created", "updated", ""]
MOST_SEARCHED = 1000
"""Characters of a search."""
NEWEST = 1000
"""Limit of messages in the answer of a session; `/messages` pages through all of them."""
_encode_lines = msgspec.json.Encoder().encode_lines


class SessionPage(NumberedPage[SessionRow], frozen=True, kw_only=True):
    """A page of sessions; `sessions` and `data` hold the same rows, `next` is the `after` of the page behind."""

    sessions: list[SessionRow]


class SessionDetail(Session, frozen=True, kw_only=True):
    """A session with its newest messages and the tokens of all its turns; `summary` is of what no longer fits a model.

    They are a thousand at most, and a megabyte; `earlier_messages` come before them: `/messages` has those too.
    `client_calls` wait for the results of tools that the client runs.
    """

    usage: Live[Usage]
    summary: Live[messages.Summary | None]
    messages: Live[list[messages.Entry]]
    earlier_messages: Live[int]
    client_calls: Live[list[ClientCall]]


class MessagePage(Page[messages.Entry], frozen=True, kw_only=True):
    """A page of a session's messages, oldest first; `next` is the number of the last of them."""


class SessionPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A session's new title."""

    title: Annotated[str, Meta(max_length=1000)]


class EventEntry(Struct, frozen=True):
    """One event as a JSON page shows it; `at` is null where an older engine, which kept no times, has stored it."""

    id: int
    event: str
    data: Raw
    at: str | None


class EventPage(Struct, frozen=True, kw_only=True):
    """A page of events; `last` is the number of the session's newest, so there are more while the page ends before.

    `events` and `data` hold the same rows, `total` is `last`: events are numbered from 1. `epoch` is that of the
    history, and `next` is the `after` of the page behind, also where nothing is there yet.
    """

    events: list[EventEntry]
    data: list[EventEntry]
    total: int
    limit: int
    last: int
    epoch: int
    next: str


async def list_sessions(db: Database, request: Request[None]) -> SessionPage:
    """The caller's sessions, newest first; an admin sees all."""
    query = request.query
    limit, offset = page_window(query, 20, 100)
    if query.get("sort") and query["sort"] not in session_list.ORDERS:
        message = f"one of {', '.join(session_list.ORDERS)}"
        raise InvalidRequest(f"sort is {message}", details=[Detail("$.sort", message)])
    if request.actor.view == "public" and (query.get("tool") or query.get("error")):
        raise Forbidden("The public view does not show this")  # neither by what it finds
    if len(query.get("q", "")) > MOST_SEARCHED:
        message = f"has {MOST_SEARCHED} characters at most"
        raise InvalidRequest(f"q {message}", details=[Detail("$.q", message)])
    wanted = sessions.Filter(
        agent=query.get("agent") or query.get("agent_name", ""),
        schema=query.get("schema", ""),
        user_sub=query.get("user_sub", ""),
        status=query.get("status", ""),
        since=moment(query, "from"),
        until=moment(query, "to", last=True),
        after=query.get("after", ""),
        q=query.get("q", ""),
        error=query.get("error", ""),
        tool=query.get("tool", ""),
        sort=query.get("sort", ""),
    )
    found = await db.browse(session_list.page, request.actor, wanted, offset, limit)
    numbers = page_numbers(found.total, limit, offset)
    return SessionPage(sessions=found.data, data=found.data, next=found.next, **numbers)


def _with_messages(conn: Connection, session_id: str, actor: Actor) -> SessionDetail:
    session = sessions.get(conn, session_id, actor)
    newest = messages.newest(conn, session_id, NEWEST)
    usage, earlier = sessions.usage(conn, session_id), session.message_count - len(newest)
    return SessionDetail(
        **asdict(session),
        usage=usage,
        summary=messages.summary(conn, session_id) if actor.view == "full" else None,  # it is of tools' outputs too
        messages=newest,
        earlier_messages=earlier,
        client_calls=client_calls(confirmations.of_session(conn, session_id)),
    )


async def get_session(db: Database, request: Request[None]) -> SessionDetail:
    """One session with its messages."""
    return await db.scan(_with_messages, request.path["id"], request.actor)


def _messages(conn: Connection, session_id: str, actor: Actor, limit: int, offset: int) -> Page[messages.Entry]:
    total = sessions.get(conn, session_id, actor).message_count
    rows = messages.entries(conn, session_id, offset, limit)  # numbered from 1
    following = rows[-1].id if rows and int(rows[-1].id) < total else None
    return Page(data=rows, total=total, limit=limit, offset=offset, next=following)


async def list_messages(db: Database, request: Request[None]) -> Reply | Stream:
    """A session's messages, oldest first, from the one after `after`; all of them as NDJSON where that is wanted.

    A page ends early where its messages take more than a megabyte; its Link header leads to the next. With `offset` it
    is an object as other pages are.
    """
    session_id, actor, scan = request.path["id"], request.actor, db.scan
    after, whole = _number(request.query, "after", 0), wants_lines(request)
    limit, offset = page_window(request.query, 100, 1000)
    if "offset" in request.query and not whole:
        return Reply(body=await scan(_messages, session_id, actor, limit, after or offset))
    page = await scan(_messages, session_id, actor, limit, after)
    Cursor(1, after).check(1, page.total)
    if not whole:
        rest = f"{_SESSION.format(id=session_id)}/messages?after={page.next}&limit={limit}"
        return Reply(body=page.data, headers={"link": f'<{rest}>; rel="next"'} if page.next else {})

    async def lines() -> AsyncGenerator[bytes, None]:
        rows = page.data
        while rows:
            yield _encode_lines(rows)
            rows = (await scan(_messages, session_id, actor, limit, int(rows[-1].id))).data

    return Stream(frames=lines(), headers={"content-type": NDJSON})


async def rename_session(request: Request[SessionPatch]) -> Session:
    """The session under another title."""
    return await request.write(sessions.rename, request.path["id"], request.actor, request.body.title)


async def delete_session(engine: Engine, request: Request[None]) -> None:
    """Cancels what runs in a session and removes it with all that belongs to it.

    It is gone at once. Where it is large its id stays taken until its last rows are gone too: a message to it is a 409.
    """
    session_id = request.path["id"]
    await engine.db.read(sessions.get, session_id, request.actor)
    await engine.runner.stop_session(session_id)
    tree = await engine.db.read(sessions.below, session_id)

    def delete(conn: Connection) -> bool:
        more = sessions.delete(conn, session_id, request.actor)
        request.record(conn)
        return more

    more = await engine.db.write(delete)
    for one in tree:
        engine.journal.forget(one)
    if more:
        engine.duties.wake("retention")


async def cancel_turn(db: Database, runner: Runner, request: Request[None]) -> None:
    """Stops the turn that is running; its stream ends with `done`.

    The answer comes once that is in the file, or after 5 seconds where a tool does not let go.
    """
    session_id = request.path["id"]
    await db.read(sessions.get, session_id, request.actor)
    with anyio.move_on_after(CANCEL_SECONDS):
        await runner.cancel(session_id)


def _time(at: int | None) -> str | None:
    return None if at is None else rfc3339(datetime.fromtimestamp(at / 1000, UTC))


def _events(conn: Connection, session_id: str, epoch: int, cursor: Cursor, limit: int) -> EventPage:
    last = last_number(conn, session_id)
    cursor.check(epoch, last)
    rows = read_events(conn, session_id, cursor.number, last, limit)
    events = [EventEntry(n, name, Raw(data), _time(at)) for n, name, data, at in rows]
    behind = Cursor(epoch, events[-1].id if events else last)
    return EventPage(events=events, data=events, total=last, limit=limit, last=last, epoch=epoch, next=str(behind))


async def follow_events(db: Database, journal: Journal, request: Request[None]) -> Stream | Reply:
    """A session's events after `Last-Event-ID` or `after`, then those to come; `follow=false` gives a JSON page."""
    session_id = request.path["id"]
    log = await journal.log(session_id)  # before the check, so that a later deletion ends the stream
    sessions.check_owner(request.actor, await db.read(sessions.owner, session_id), session_id)
    return await follow(db, journal, request, session_id, log)


async def follow(
    db: Database, journal: Journal, request: Request[None], session_id: str, log: Log | None = None
) -> Stream | Reply:
    """The events of a session that the caller may see, in the requested format."""
    cursor = event_cursor(request.headers, request.query)
    if request.query.get("follow", "true").lower() in ("false", "0", "no"):
        limit = positive(request.query.get("limit"), 500, 500)
        return Reply(body=await db.scan(_events, session_id, journal.epoch, cursor, limit))
    log = log or await journal.log(session_id)
    cursor.check(journal.epoch, await journal.newest(log, cursor.number))
    frames = journal.follow(log, OpenEventRange(cursor.number + 1))
    return Stream(frames=frames, headers={"x-session-id": session_id})


def _number(source: Mapping[str, str], name: str, default: int) -> int:
    text = source.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        message = f"{name} is the number of a message, such as 17"
        raise InvalidRequest(message, details=[Detail(f"$.{name}", "no number")])
    return int(text)


_SESSION = "/api/v1/sessions/{id}"
EVENTS_QUERY: Mapping[str, str | Parameter] = {
    "after": Parameter("the id of the last event before, 0 for the start", EventId),
    "follow": Parameter("false for a JSON page", bool | str),
    "limit": Parameter("rows of a page, 500 at most", int | str),
}


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    return (
        Route(
            "GET",
            "/api/v1/sessions",
            "chat",
            partial(list_sessions, engine.db),
            "List sessions",
            query={
                "agent": "of this agent",
                "agent_name": "as agent",
                "schema": "of this schema",
                "user_sub": "of this end user",
                "status": "completed, failed, cancelled or active, of which some are running and others needs_input",
                "q": "each word is in its title, in its user's name or in a message to it, or begins its id",
                "error": "with a turn that failed with this code, such as model_rate_limited",
                "tool": "in which its agent called this tool",
                "sort": Parameter("newest first, or the latest that something happened in first", Order),
                "from": Parameter("begun at this time or later", Moment),
                "to": Parameter("begun before this time, or at it if it is a date", Moment),
                "limit": Parameter("rows, 100 at most", int | str),
                "offset": OFFSET,
                "per_page": Parameter("as limit", int | str),
                "page": Parameter("from 1", int | str),
                "after": "the last session of the page before",
            },
            answer=SessionPage,
            also={404: None},
        ),
        Route("GET", _SESSION, "chat", partial(get_session, engine.db), "Get a session", answer=SessionDetail),
        *(
            Route(
                method,
                _SESSION,
                "chat",
                rename_session,
                "Rename a session",
                body=SessionPatch,
                example={"title": "Laptops under $1000"},
                upload=True,  # accepts the answer of GET, with all its messages
                answer=Session,
            )
            for method in ("PUT", "PATCH")
        ),
        Route("DELETE", _SESSION, "chat", partial(delete_session, engine), "Delete a session", status=204),
        Route(
            "GET",
            f"{_SESSION}/messages",
            "chat",
            partial(list_messages, engine.db),
            "List a session's messages",
            query={
                "after": Parameter("the number of the last message before", Number),
                "limit": Parameter("rows, 1000 at most, and a megabyte", int | str),
                "offset": OFFSET,
                "format": FORMAT,
            },
            answer=list[messages.Entry] | MessagePage,
            also={410: None},
            gives=(NDJSON,),
            sends={"Link": "the page behind, where an array is not all"},
        ),
        Route(
            "GET",
            f"{_SESSION}/events",
            "chat",
            partial(follow_events, engine.db, engine.journal),
            "Follow a session's events",
            query=EVENTS_QUERY,
            streams=True,
            answer=EventPage,
            also={410: None},
        ),
        Route(
            "POST",
            f"{_SESSION}/cancel",
            "chat",
            partial(cancel_turn, engine.db, engine.runner),
            "Cancel the running turn",
            status=204,
        ),
    )
