"""From a bearer token to an Actor who may do what the route does."""

import re
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from bytebrew.api import Request, Route
from bytebrew.auth import BINDABLE, Actor
from bytebrew.errors import Forbidden, StorageError, Unauthorized
from bytebrew.store import tokens

if TYPE_CHECKING:
    from bytebrew.engine import Engine

_TOKEN = re.compile(r"bb_[0-9a-f]{64}")
STALE_SECONDS = 5.0
"""How long ago a token may have been looked at when a piece of a stream is sent to its holder."""


async def require(request: Request[Any], route: Route) -> None:
    """Finds out who calls, unless anyone may; raises Unauthorized, or Forbidden where they lack the route's scope."""
    if route.scope is not None:
        request.actor = await authenticate(request.engine, request.headers)
        check_scope(request.actor, route.scope)


async def authenticate(engine: "Engine", headers: Mapping[str, str]) -> Actor:
    """The actor of the Authorization header."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("Send a token in the header Authorization: Bearer <token>", missing=True)
    if token.startswith("bb_"):
        if not _TOKEN.fullmatch(token):
            raise Unauthorized
        found = await engine.db.glance(tokens.actor, token)
        if found is None:
            raise Unauthorized
        actor, stale = found
        if stale:
            with suppress(StorageError):  # a full disk must not shut out those who could make room
                await engine.db.write(tokens.touch, token)
        return actor
    user = await engine.auth_mode.authenticate(token)
    if user is None:
        raise Unauthorized
    return user


async def while_live(request: Request[Any], frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """A stream's frames for as long as the caller's API token is live; raises Unauthorized then."""
    looked = time.monotonic()
    async with aclosing(frames):
        async for frame in frames:
            if request.actor.kind == "token" and time.monotonic() - looked >= STALE_SECONDS:
                request.actor, looked = await authenticate(request.engine, request.headers), time.monotonic()
            yield frame


def check_scope(actor: Actor, scope: str) -> None:
    """Raises Forbidden unless the actor has the scope or is an admin, and it is for some schemas where the actor is."""
    if scope not in actor.scopes and "admin" not in actor.scopes:
        raise Forbidden(f"Token does not have '{scope}' scope")
    if actor.schemas is not None and scope not in BINDABLE:
        raise Forbidden(f"Token is bound to schemas, and '{scope}' is about all of them")


def check_schema(actor: Actor, schema: str) -> None:
    """Raises Forbidden where a token is bound to other schemas."""
    if actor.schemas is not None and schema not in actor.schemas:
        raise Forbidden(f"Token is not valid for schema '{schema}'")
