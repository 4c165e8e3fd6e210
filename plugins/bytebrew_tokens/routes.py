"""API tokens."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

from bytebrew import Detail, InvalidRequest, Reply, Request, Route, Scope, rfc3339

from . import store
from .store import CreatedToken, NewToken, Token
from .visitors import PUBLIC, VISITORS


async def list_tokens(request: Request[None]) -> list[Token]:
    """Every live token, without its secret."""
    return await request.engine.db.scan(store.list_all, request.engine.scopes)


async def create_token(request: Request[NewToken]) -> CreatedToken:
    """A new token, shown this once, and again to whoever repeats the request with its Idempotency-Key."""
    return await request.write(store.create, request.engine.scopes, request.body)


async def revoke_token(request: Request[None]) -> None:
    """Ends a token at once, and the streams that it has open within 15 seconds."""
    await request.write(store.revoke, request.path["id"])


async def list_scopes(request: Request[None]) -> list[Scope]:
    """Every scope that a token may have, with what it allows; the scope admin includes all but public."""
    return [*request.engine.scopes.values()]


class Visit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A visit of a public page; `access_token` is the visitor's of an earlier visit, who then stays the same one."""

    access_token: Annotated[str, Meta(max_length=1000)] = ""


class VisitorToken(Struct, frozen=True, kw_only=True):
    """The bearer token of one visitor, with the scope chat and sessions, memories and limits of the visitor's own."""

    access_token: str
    expires_at: str
    visitor: str
    token_type: str = "Bearer"  # noqa: S105


async def visit(request: Request[Visit]) -> Reply:
    """A token for a visitor of the page in which the caller's token stands; keep it in the browser for later visits."""
    if PUBLIC not in request.actor.scopes or request.actor.kind != "token":
        message = f"show the API token of the page: one with the scope {PUBLIC} alone"
        raise InvalidRequest(message[0].upper() + message[1:], details=[Detail("$.headers.Authorization", message)])
    page = request.actor.subject.removeprefix("token:")
    token, visitor = request.engine.state[VISITORS].new(page, request.body.access_token)
    request.recorded = True  # nothing is stored, and the audit is not for strangers to fill
    until = rfc3339(datetime.fromtimestamp(visitor.expires, UTC))
    answer = VisitorToken(access_token=token, expires_at=until, visitor=visitor.id)
    return Reply(body=answer, headers={"cache-control": "no-store"})


ROUTES = (
    Route(
        method="POST",
        path="/api/v1/auth/visitors",
        scope=PUBLIC,
        run=visit,
        summary="Let a visitor in",
        body=Visit,
        example={},
        answer=VisitorToken,
    ),
    Route(
        method="GET",
        path="/api/v1/auth/scopes",
        scope="admin",
        run=list_scopes,
        summary="List scopes",
        answer=list[Scope],
    ),
    Route(
        method="GET",
        path="/api/v1/auth/tokens",
        scope="admin",
        run=list_tokens,
        summary="List API tokens",
        answer=list[Token],
    ),
    Route(
        method="POST",
        path="/api/v1/auth/tokens",
        scope="admin",
        run=create_token,
        summary="Create an API token",
        body=NewToken,
        example={"name": "ci", "scopes": ["chat", "tasks"], "expires_at": "2099-01-01T00:00:00Z"},
        answer=CreatedToken,
        status=201,
        idempotent=True,
    ),
    Route(
        method="DELETE",
        path="/api/v1/auth/tokens/{id}",
        scope="admin",
        run=revoke_token,
        summary="Revoke an API token",
        action="token.revoke",
        status=204,
    ),
)
