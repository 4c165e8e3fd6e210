"""Authentication and authorization of a request."""

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from bytebrew.base.errors import Forbidden, Unauthorized
from bytebrew.contract.auth import Actor, Scopes
from bytebrew.contract.auth_mode import AuthMode
from bytebrew.contract.route import ANYONE, Request, Route, own_origin
from bytebrew.web import cors

STALE_SECONDS = 5.0
"""Interval at which the credential of an open stream is checked again."""


class Access:
    """Authenticates requests, and checks the scopes of their actors.

    A bearer token with a prefix of `token_modes` goes to that mode only, any other request to the chosen `mode`.
    """

    def __init__(
        self, mode: AuthMode, token_modes: Mapping[str, AuthMode], scopes: Scopes, origins: Callable[[], Sequence[str]]
    ) -> None:
        self._mode, self._token_modes, self._scopes, self._origins = mode, token_modes, scopes, origins

    async def require(self, request: Request[Any], route: Route) -> None:
        """Sets the actor of a request to a route with a scope; raises Unauthorized and Forbidden."""
        if route.scope is not None:
            if route.own_pages:
                cors.check_origin(request.headers, request.host, self._origins(), request.engine.settings.core.host)
            try:
                request.actor = await self.authenticate(request)
            except Unauthorized as error:
                if route.resource_metadata:
                    where = f', resource_metadata="{own_origin(request)}{route.resource_metadata}"'
                    error.headers["WWW-Authenticate"] += f'{where}, scope="{route.scope}"'
                raise
            check_scope(request.actor, route.scope, self._scopes)

    async def authenticate(self, request: Request[Any]) -> Actor:
        """The actor of a request; raises Unauthorized if there is none."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        for prefix, mode in self._token_modes.items():
            if token.startswith(prefix):
                if (actor := await mode.authenticate(token)) is None:
                    raise Unauthorized
                return actor
        actor = await self._mode.identify(request)
        if actor is None:
            if token:
                raise Unauthorized
            name, challenge = self._mode.name, self._mode.challenge
            other = "" if challenge.startswith("Bearer") else f", or what the auth mode '{name}' asks for"
            message = f"Send a token in the header Authorization: Bearer <token>{other}"
            raise Unauthorized(message, missing=True, challenge=challenge)
        if not token:
            cors.check_page(request.headers, request.host, self._origins())
        return actor

    async def while_live(
        self, request: Request[Any], route: Route, frames: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        """A stream's frames while its caller has access; raises as `require` does once access is lost."""
        checked, is_known = time.monotonic(), request.actor is not ANYONE
        async with aclosing(frames):
            async for frame in frames:
                if is_known and time.monotonic() - checked >= STALE_SECONDS:
                    await self.require(request, route)
                    checked = time.monotonic()
                yield frame
                del frame  # frees its memory while the stream waits for more


def check_scope(actor: Actor, scope: str, scopes: Scopes) -> None:
    """Raises Forbidden unless the actor has the scope or is an admin; one limited to schemas needs a bindable scope."""
    if scope not in actor.scopes and "admin" not in actor.scopes:
        raise Forbidden(f"Token does not have '{scope}' scope")
    if actor.schemas is not None and scope not in scopes.bindable:
        raise Forbidden(f"Token is bound to schemas, and '{scope}' is about all of them")


def check_schema(actor: Actor, schema: str) -> None:
    """Raises Forbidden if the token is limited to other schemas."""
    if actor.schemas is not None and schema not in actor.schemas:
        raise Forbidden(f"Token is not valid for schema '{schema}'")
