"""Requests to an MCP server with an access token, which is renewed when the server rejects it."""

from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from bytebrew import Answer, Http, UpstreamError, masker

from ..config import ServerRow
from ..jsonrpc import AccessDenied
from . import store
from .challenges import challenge_of
from .credentials import Authorizations
from .errors import AuthorizationRequired

REMEMBERED = 4
"""How many of the tokens that were sent last are masked where the server repeats them."""


class AuthorizedHttp:
    """Sends the requests of a transport as one user, or as the engine itself."""

    def __init__(self, http: Http, authorizations: Authorizations, server: ServerRow, subject: str) -> None:
        self._http = http
        self._authorizations = authorizations
        self._server = server
        self._subject = subject
        self._sent: deque[str] = deque(maxlen=REMEMBERED)

    def mask(self, text: str) -> str:
        """The text without the tokens that were sent."""
        return masker(self._sent, 0)(text)

    @asynccontextmanager
    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> AsyncIterator[Answer]:
        """As `Http.request`, with a token; a request that is rejected is sent once more with another token."""
        own = {name: value for name, value in (headers or {}).items() if name.lower() != "authorization"}
        rejected, widened = "", False
        while True:
            token = await self._token(rejected)
            opened = False
            try:
                sent = own | {"Authorization": f"Bearer {token}"}
                async with self._http.request(method, url, headers=sent, json=json) as answer:
                    opened = True
                    yield answer
                return
            except UpstreamError as error:
                if opened or error.status not in (401, 403):
                    raise
                if error.status == 403:
                    if not await self._widens(error) or widened:
                        raise
                    widened = True
                elif rejected:
                    raise await self._denied(token) from error
                rejected = token

    async def _token(self, rejected: str) -> str:
        token = await self._authorizations.token(self._server, self._subject, rejected)
        if token not in self._sent:
            self._sent.append(token)
        return token

    async def _widens(self, error: UpstreamError) -> bool:
        """Whether the engine may get a token with more scopes, which the server wants; a user is asked first."""
        challenge = challenge_of(error.headers)
        if challenge.error != "insufficient_scope" or not challenge.scopes:
            return False
        more = await self._authorizations.wants(self._server, self._subject, challenge.scopes)
        if more and self._subject != store.OWN:
            raise AuthorizationRequired(f"needs more access: {' '.join(challenge.scopes):.500}")
        return more

    async def _denied(self, token: str) -> Exception:
        """The exception for a new token that was rejected too."""
        if self._subject == store.OWN:
            return AccessDenied("rejects the access token that its authorization server issued (HTTP 401)")
        await self._authorizations.reject(self._server, self._subject, token)
        return AuthorizationRequired("needs your authorization again: it rejects the access token (HTTP 401)")
