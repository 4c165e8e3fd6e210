"""The connections of users to MCP servers with OAuth, over REST."""

import asyncio
import logging
import secrets
from datetime import UTC, datetime
from hmac import compare_digest
from typing import Any, Literal

from msgspec import Struct

from bytebrew import (
    Conflict,
    Connection,
    Core,
    EngineError,
    InvalidRequest,
    Live,
    NotFound,
    Reply,
    Request,
    Route,
    ToolError,
    Unprocessable,
    own_origin,
    parse_time,
    visible,
)

from .. import store as servers
from ..config import ServerRow
from ..jsonrpc import ConnectionLost
from ..toolset import SERVERS
from . import authorization, clients, store
from .callback_page import page
from .credentials import AUTHORIZATIONS
from .discovery import CODE
from .endpoints import is_loopback
from .errors import OAuthError
from .user_connections import CONNECTIONS, UserConnections

log = logging.getLogger(__name__)

COOKIE = "bytebrew_oauth"
OPEN_SECONDS = 10.0
"""How long a page waits for the server, so that agents know its tools at once."""
State = Literal["connected", "needs_authorization", "expired", "error"]


class UserConnection(Struct, frozen=True, kw_only=True):
    """The caller's own connection to an MCP server with OAuth.

    `scopes` are those that were granted, `wanted_scopes` those that the server has asked for since. `expires_at` is the
    end of the access token, which is refreshed if the server allows it; `account` is who authorized, if that is known.
    """

    server: str
    state: Live[State]
    message: Live[str]
    scopes: tuple[str, ...]
    wanted_scopes: tuple[str, ...]
    expires_at: str | None
    account: str
    connected_at: str | None


class Authorization(Struct, frozen=True, kw_only=True):
    """The address that the user opens in a browser, until it expires."""

    authorize_url: str
    expires_at: str


async def list_connections(request: Request[None]) -> list[UserConnection]:
    """The caller's connections to MCP servers for which each user has own credentials, by server."""
    return await request.engine.db.read(_every, request)


async def begin_connection(request: Request[None]) -> Reply:
    """Begins an authorization: the answer has the address that the user opens in a browser.

    There the user signs in to the server's own authorization server, which leads back to the engine. An earlier
    authorization that was not finished ends. 409 if the server has no authorization that the engine can use.
    """
    engine, actor = request.engine, request.actor
    server = await engine.db.read(_server, request.path["server"])
    public_url, browser = _public_url(request), secrets.token_urlsafe(32)
    grant = await engine.db.read(store.find, server, actor.subject, engine)
    try:
        begun = await authorization.begin(engine, server, actor, grant, public_url, browser)
    except OAuthError as error:
        raise Conflict(f"MCP server '{server.name}': {error}", code="authorization_unavailable") from error
    until = ""

    def work(conn: Connection) -> UserConnection:
        nonlocal until
        current = _server(conn, server.name)
        if (current.id, current.url) != (server.id, server.url):
            raise Conflict(f"MCP server '{server.name}' was changed meanwhile; begin again")
        until = begun.store(conn, current, actor.subject, engine)
        return _shown(current, store.find(conn, current, actor.subject, engine))

    await request.write(work)
    secure = "; Secure" if public_url.startswith("https:") else ""
    path, age = clients.CALLBACK, int(authorization.LIFETIME_SECONDS)
    cookie = f"{COOKIE}={browser}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"
    body = Authorization(authorize_url=begun.url, expires_at=until)
    return Reply(body=body, headers={"set-cookie": cookie, "cache-control": "no-store"})


async def end_connection(request: Request[None]) -> None:
    """Removes the caller's credentials for a server, and revokes them where its authorization server offers that."""
    engine, subject = request.engine, request.actor.subject
    server = await engine.db.read(_server, request.path["server"])

    def work(conn: Connection) -> store.Grant | None:
        grant = store.find(conn, server, subject, engine)
        store.remove(conn, server, subject)
        request.record(conn)
        return grant

    grant = await engine.db.write(work)
    if isinstance(connection := engine.state[SERVERS].connections.get(server.name), UserConnections):
        connection.forget(subject)
    if grant is not None and grant.tokens is not None:
        await engine.state[AUTHORIZATIONS].revoke(server, grant.tokens)


async def finish_connection(request: Request[None]) -> Reply:
    """The page to which an authorization server leads back: it stores the user's credentials.

    A state is valid once. In another browser than the one that has begun, the user confirms for whom this is, so that
    nobody connects their account for someone else who sent them an address.
    """
    engine, query = request.engine, request.query
    state = query.get("state", "")
    found = await engine.db.read(store.pending, state, engine)
    if found is None:
        return _not_connected(request, "This address was used before, or it has expired. Begin again")
    if request.method != "GET":  # a scanner of links uses nothing up
        return page("ByteBrew", "")
    server_id, subject, pending = found
    try:
        server = await engine.db.read(servers.get, server_id)
        authorization.check_issuer(pending, query.get("iss"))
        if not _begun_here(request, pending) and query.get("confirm") != "yes":
            return _confirmation(query, server, subject, pending)
        if not await engine.db.write(store.take, state):
            raise OAuthError("This address was used before")
        if "code" not in query:
            raise OAuthError(f"The authorization server answers: {_code(query.get('error', ''))}")
        if server.url != pending.url:
            raise OAuthError("The address of the server was changed meanwhile")
        granted = await authorization.finish(engine, server, pending, query["code"])
        if not await engine.db.write(store.complete, server, subject, state, granted, engine):
            await engine.state[AUTHORIZATIONS].revoke(server, granted.tokens)
            raise OAuthError("The connection was ended, or the server was changed, meanwhile")
    except (OAuthError, EngineError) as error:
        return _not_connected(request, f"{error}. Begin again")
    log.info("MCP server %s: a user has authorized the engine", server.name)
    return page("Connected", await _connected(request, server, subject))


def _not_connected(request: Request[None], text: str) -> Reply:
    """The page for a browser; InvalidRequest for any other client."""
    if "text/html" in request.headers.get("accept", ""):
        return page("Not connected", f"{text}.", 400)
    raise InvalidRequest(text)


async def get_client_document(request: Request[None]) -> Reply:
    """The engine as a client of authorization servers: its Client ID Metadata Document."""
    public_url = request.engine.settings.core.public_url
    if not public_url.startswith("https://"):
        raise NotFound("There is no client metadata document: BYTEBREW_PUBLIC_URL is not an https origin")
    return Reply(body=clients.document(public_url), headers={"cache-control": "max-age=3600"})


def _every(conn: Connection, request: Request[Any]) -> list[UserConnection]:
    grants = store.of_subject(conn, request.actor.subject, request.engine)
    rows = [row for row in servers.list_all(conn) if _is_per_user(row)]
    return [_shown(row, grants.get((row.id, row.url))) for row in rows]


def _server(conn: Connection, name: str) -> ServerRow:
    """A server to which users connect; NotFound for any other."""
    row = servers.find(conn, name)
    if row is None or not _is_per_user(row):
        raise NotFound(f"There is no MCP server '{name[:255]}' for which users have own credentials")
    return row


def _is_per_user(row: ServerRow) -> bool:
    return row.enabled and row.auth_type == "oauth2" and row.auth_grant == "authorization_code"


def _shown(server: ServerRow, grant: store.Grant | None) -> UserConnection:
    state, message = _state(server, grant)
    return UserConnection(
        server=server.name,
        state=state,
        message=message,
        scopes=grant.scopes if grant else (),
        wanted_scopes=grant.wanted if grant else (),
        expires_at=grant.expires_at if grant and grant.tokens else None,
        account=visible(grant.account) if grant else "",
        connected_at=grant.created_at if grant and grant.tokens else None,
    )


def _state(server: ServerRow, grant: store.Grant | None) -> tuple[State, str]:
    begin = f"POST {CONNECTIONS}/{server.name} returns the address to open"
    if grant is None:
        return "needs_authorization", begin
    if grant.failure == store.EXPIRED:
        return "expired", f"The authorization has ended: {begin}"
    if grant.tokens is None:
        return "error", f"The credentials are of no use any more ({grant.failure}): {begin}"
    if not set(grant.wanted) <= set(grant.scopes):
        return "needs_authorization", f"The server wants more access: {begin}"
    over = grant.expires_at is not None and parse_time(grant.expires_at) <= datetime.now(UTC)
    if over and not grant.tokens.refresh_token:
        return "expired", f"The authorization has ended: {begin}"
    return "connected", ""


def _public_url(request: Request[Any]) -> str:
    """The origin to which an authorization server leads back.

    A Host that anyone may write would have codes sent to a stranger, so that it has to be an address of the engine.
    """
    core: Core = request.engine.settings.core
    if core.public_url:
        return core.public_url
    origin = own_origin(request)
    host = origin.rpartition("://")[2]
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    local = request.connection[1] if request.connection else ("", 0)
    if is_loopback(name.strip("[]")) or host == f"{local[0]}:{local[1]}":
        return origin
    raise Unprocessable("Set BYTEBREW_PUBLIC_URL, the origin to which an authorization server leads people back")


def _begun_here(request: Request[Any], pending: store.Pending) -> bool:
    """Whether this browser has begun the authorization."""
    cookies = [one.strip().partition("=") for one in request.headers.get("cookie", "").split(";")]
    return any(
        name == COOKIE and compare_digest(value.encode(), pending.browser.encode()) for name, _, value in cookies
    )


def _confirmation(query: Any, server: ServerRow, subject: str, pending: store.Pending) -> Reply:
    form = {name: query[name] for name in ("state", "code", "iss", "error") if name in query} | {"confirm": "yes"}
    text = (
        f"Connect '{server.name}' for {visible(pending.name)} ({visible(subject)})? From then on that user's agents "
        "use your account there. If that is not you, or you did not begin this, close this page."
    )
    return page("Connect?", text, form=form)


async def _connected(request: Request[Any], server: ServerRow, subject: str) -> str:
    """Connects as the user, so that agents know the tools; returns what to show."""
    close = "You may close this page."
    connection = request.engine.state[SERVERS].connections.get(server.name)
    if not isinstance(connection, UserConnections):
        return close
    connection.forget(subject, drains=True)
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            await connection.open(subject)
    except (ConnectionLost, EngineError, ToolError, TimeoutError) as error:
        log.warning("MCP server %s %s", server.name, error or "does not begin in time")
        return f"The server itself could not be reached yet. {close}"
    return close


def _code(text: str) -> str:
    return text if CODE.fullmatch(text) else "an error"


ROUTES = (
    Route(
        method="GET",
        path=CONNECTIONS,
        scope="chat",
        run=list_connections,
        summary="List own connections to MCP servers",
        answer=list[UserConnection],
    ),
    Route(
        method="POST",
        path=f"{CONNECTIONS}/{{server}}",
        scope="chat",
        run=begin_connection,
        summary="Connect to an MCP server as oneself",
        action="connection.begin",
        answer=Authorization,
        sends={"Set-Cookie": "binds the authorization to this browser"},
        also={409: None},
    ),
    Route(
        method="DELETE",
        path=f"{CONNECTIONS}/{{server}}",
        scope="chat",
        run=end_connection,
        summary="End an own connection to an MCP server",
        action="connection.end",
        status=204,
    ),
    Route(
        method="GET",
        path=clients.CALLBACK,
        scope=None,
        run=finish_connection,
        summary="The page to which an authorization server leads back",
        query={
            "state": "the state of the authorization",
            "code": "the authorization code",
            "error": "why there is none",
            "iss": "the issuer that answers (RFC 9207)",
            "confirm": "yes, if the user confirms for whom this is",
            "<other>": "what else the authorization server sends",
        },
        gives=("text/html",),
        also={400: None},
    ),
    Route(
        method="GET",
        path=clients.DOCUMENT,
        scope=None,
        run=get_client_document,
        summary="The engine's OAuth client metadata document",
        answer=dict[str, Any],
        also={404: None},
    ),
)
