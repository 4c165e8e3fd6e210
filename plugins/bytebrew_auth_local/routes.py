"""The routes of local sessions."""

import time

from bytebrew import InvalidRequest, Parameter, Reply, Request, Route

from . import ended_sessions
from .caller_checks import check, check_origin
from .sessions import MODE, LocalSession
from .settings import Local
from .sign_in_page import show_page

PATH = "/api/v1/auth/local-session"
ENDED = "/api/v1/auth/local-sessions"


async def open_session(request: Request[None]) -> Reply:
    """An admin session for the engine's own user.

    Who that is shows the process that connects, on the same Linux machine, or the token in the file local-session.token
    of the data folder, as bearer token, which is good once.
    """
    settings, mode = request.engine.settings, request.engine.state[MODE]
    local = settings.of(Local)
    check_origin(request)
    with mode.sign_in_token.taken(_bearer(request)) as by_link:
        if not by_link:
            await check(request, mode, local, settings.core)
        reply = _reply(await mode.open(local))
        if request.records:
            await request.write(lambda conn: reply)
    return reply


async def refresh_session(request: Request[None]) -> Reply:
    """A new session for the one in the header Authorization, if it is still alive and has not had its whole time."""
    local = request.engine.settings.of(Local)
    return _reply(await request.engine.state[MODE].refresh(_bearer(request), local))


async def end_session(request: Request[None]) -> None:
    """Ends the session in the header Authorization, with all that it was refreshed to."""
    token = _bearer(request)
    claims = {} if request.actor.kind == "token" else await request.engine.state[MODE].claims(token)
    if not (sid := claims.get("sid", "")):
        path = ENDED.removeprefix("/api/v1")
        raise InvalidRequest(f"This token is no local session that can be ended alone; DELETE {path} ends every one")
    await request.write(ended_sessions.end, sid, request.engine.settings.of(Local).end(claims), time.time())


async def end_sessions(request: Request[None]) -> None:
    """Ends every local session that was opened so far."""
    await request.write(ended_sessions.end_all)


def _reply(session: LocalSession) -> Reply:
    return Reply(body=session, headers={"cache-control": "no-store"})


def _bearer(request: Request[None]) -> str:
    return request.headers.get("authorization", "").partition(" ")[2].strip()


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path=PATH,
        scope=None,
        run=open_session,
        summary="Open a local admin session",
        action="auth.success",
        answer=LocalSession,
        also={403: None, 429: None},
    ),
    Route(
        method="POST",
        path=f"{PATH}/refresh",
        scope=None,
        run=refresh_session,
        summary="Refresh a local admin session",
        headers={"Authorization": Parameter("Bearer and the session's token", required=True)},
        answer=LocalSession,
        also={401: None},
    ),
    Route(
        method="GET",
        path="/sign-in",
        scope=None,
        run=show_page,
        summary="The page of the link that the engine prints",
        gives=("text/html",),
    ),
    Route(
        method="DELETE",
        path=PATH,
        scope="admin",
        run=end_session,
        summary="End a local admin session",
        status=204,
        also={400: None},
    ),
    Route(
        method="DELETE", path=ENDED, scope="admin", run=end_sessions, summary="End all local admin sessions", status=204
    ),
)
