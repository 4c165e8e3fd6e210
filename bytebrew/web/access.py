"""Authentication and authorization of a request."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from bytebrew.base.errors import Forbidden, Unauthorized
from bytebrew.contract.auth import Actor, Scopes
from bytebrew.contract.route import ANYONE, Request, Route
from bytebrew.web import cors
from bytebrew.web.http_state import http_state

STALE_SECONDS = 5.0
"""How long ago a credential may have been looked at when a piece of a stream is sent to its holder."""


async def require(request: Request[Any], route: Route) -> None:
    """Finds out who calls, unless anyone may; raises Unauthorized, or Forbidden where they lack the route's scope."""
    if route.scope is not None:
        request.actor = await authenticate(request)
        check_scope(request.actor, route.scope, request.engine.scopes)


async def authenticate(request: Request[Any]) -> Actor:
    """The actor that the token's own mode or else the chosen one knows; raises Unauthorized where that is nobody."""
    engine, (scheme, _, token) = request.engine, request.headers.get("authorization", "").partition(" ")
    token = token.strip() if scheme.lower() == "bearer" else ""
    for prefix, mode in engine.token_modes.items():
        if token.startswith(prefix):
            if (actor := await mode.authenticate(token)) is None:
                raise Unauthorized
            return actor
    user = await engine.auth_mode.identify(request)
    if user is None:
        if token:
            raise Unauthorized
        mode, words = engine.auth_mode, "Send a token in the header Authorization: Bearer <token>"
        other = "" if mode.challenge.startswith("Bearer") else f", or what the auth mode '{mode.name}' asks for"
        raise Unauthorized(f"{words}{other}", missing=True, challenge=mode.challenge)
    if not token:
        cors.check_page(request.headers, http_state(engine).origins)
    return user


async def while_live(
    request: Request[Any], route: Route, frames: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """A stream's frames for as long as its caller may open it; raises as `require` then."""
    looked, named = time.monotonic(), request.actor is not ANYONE
    async with aclosing(frames):
        async for frame in frames:
            if named and time.monotonic() - looked >= STALE_SECONDS:
                await require(request, route)
                looked = time.monotonic()
            yield frame


def check_scope(actor: Actor, scope: str, scopes: Scopes) -> None:
    """Raises Forbidden unless the actor has the scope or is an admin, and it is for some schemas where the actor is."""
    if scope not in actor.scopes and "admin" not in actor.scopes:
        raise Forbidden(f"Token does not have '{scope}' scope")
    if actor.schemas is not None and scope not in scopes.bindable:
        raise Forbidden(f"Token is bound to schemas, and '{scope}' is about all of them")


def check_schema(actor: Actor, schema: str) -> None:
    """Raises Forbidden where a token is bound to other schemas."""
    if actor.schemas is not None and schema not in actor.schemas:
        raise Forbidden(f"Token is not valid for schema '{schema}'")
