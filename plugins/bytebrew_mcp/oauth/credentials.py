"""Access tokens: read for each request, refreshed once for all that need them, and never lost in between."""

import asyncio
import logging
from contextvars import Context
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from bytebrew import Engine, StateKey, parse_time

from .. import credentials
from ..config import ServerRow
from ..jsonrpc import ConnectionLost, RequestFailed
from . import clients, store
from .discovery import Authority, discover
from .endpoints import Endpoints
from .errors import AuthorizationRequired, OAuthError
from .tokens import Granted, Tokens, request_tokens, revoke

log = logging.getLogger(__name__)

MARGIN_SECONDS = 10
"""How long before its end an access token is refreshed."""
CLOSE_SECONDS = 12.0
DISCOVERY_SECONDS = 30.0


class Authorizations:
    """The access tokens of an engine's MCP servers.

    A refresh runs in a task of its own: many authorization servers rotate refresh tokens, so that an answer which a
    cancelled turn did not store would end the connection.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running: dict[tuple[str, str], asyncio.Task[str]] = {}

    async def token(self, server: ServerRow, subject: str, rejected: str = "") -> str:
        """A valid access token, other than one that the server has rejected.

        Raises AuthorizationRequired if the user has to authorize, and RequestFailed if a refresh fails for now.
        """
        grant = await self._engine.db.glance(store.find, server, subject, self._engine)
        if grant and grant.tokens and grant.tokens.access_token != rejected and not _ends(grant, MARGIN_SECONDS):
            return grant.tokens.access_token
        key = server.id, subject
        if (task := self._running.get(key)) is None:
            work = self._own_token if subject == store.OWN else self._refreshed_token
            task = self._running[key] = asyncio.create_task(work(server, subject, rejected), context=Context())
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    def _done(self, key: tuple[str, str], task: asyncio.Task[str]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # whoever waited for it may be gone

    async def wants(self, server: ServerRow, subject: str, scopes: tuple[str, ...]) -> bool:
        """Stores that a server wants more scopes; returns whether there are any that it was not granted."""
        grant = await self._engine.db.glance(store.find, server, subject, self._engine)
        if grant is None:
            return False
        await self._engine.db.write(store.want, server, subject, scopes)
        return not set(scopes) <= set(grant.scopes)

    async def reject(self, server: ServerRow, subject: str, token: str) -> None:
        """Removes tokens that a server rejects although they were just issued."""
        grant = await self._engine.db.glance(store.find, server, subject, self._engine)
        if grant and grant.tokens and grant.tokens.access_token == token:
            await self._engine.db.write(store.fail, server, subject, grant.sealed, "rejected")

    async def revoke(self, server: ServerRow, tokens: Tokens) -> None:
        """Revokes tokens that are stored no more; a failure is logged, as the user cannot mend it."""
        endpoints = Endpoints(self._engine.http, server.url)
        try:
            await revoke(endpoints, self._current(server, tokens))
        except OAuthError as error:
            log.warning("MCP server %s: tokens were not revoked: %s", server.name, error)

    async def authority(self, server: ServerRow) -> Authority:
        """Who authorizes the use of a server."""
        headers = credentials.resolve(server, self._engine).headers
        try:
            async with asyncio.timeout(DISCOVERY_SECONDS):
                return await discover(self._engine.http, Endpoints(self._engine.http, server.url), server, headers)
        except TimeoutError as error:
            raise OAuthError("The authorization server was not found in time", passing=True) from error

    async def close(self) -> None:
        """Waits for the refreshes that run, so that no rotated token is lost."""
        if running := [*self._running.values()]:
            await asyncio.wait(running, timeout=CLOSE_SECONDS)

    async def _refreshed_token(self, server: ServerRow, subject: str, rejected: str) -> str:
        # two nodes that refresh at once would send the same refresh token, of which only the first is good
        async with self._engine.lock(f"oauth {server.id} {subject}"):
            return await self._renewed_token(server, subject, rejected)

    async def _renewed_token(self, server: ServerRow, subject: str, rejected: str) -> str:
        grant = await self._engine.db.read(store.find, server, subject, self._engine)
        if grant is None:
            raise AuthorizationRequired("needs your authorization")
        if grant.tokens is None:
            raise AuthorizationRequired("needs your authorization again, because the last one has ended")
        tokens = grant.tokens
        if tokens.access_token != rejected and not _ends(grant, MARGIN_SECONDS):
            return tokens.access_token  # another request has refreshed it
        if not tokens.refresh_token:
            if tokens.access_token != rejected and not _ends(grant, 0):
                return tokens.access_token
            await self._engine.db.write(store.fail, server, subject, grant.sealed, store.EXPIRED)
            raise AuthorizationRequired("needs your authorization again, because the last one has ended")
        try:
            granted = await self._refresh(server, tokens, grant.scopes)
        except OAuthError as error:
            if error.passing:
                if tokens.access_token != rejected and not _ends(grant, 0):
                    return tokens.access_token
                raise RequestFailed(f"has no access token: {error}") from error
            failure = store.EXPIRED if error.code in ("invalid_grant", "invalid_client") else error.code or "refused"
            await self._engine.db.write(store.fail, server, subject, grant.sealed, failure)
            if error.code == "invalid_client":
                await self._engine.db.write(store.forget_clients, server)
            raise AuthorizationRequired(f"needs your authorization again: {error}") from error
        if await self._engine.db.write(store.renew, server, subject, grant.sealed, granted, self._engine):
            return granted.tokens.access_token
        await self.revoke(server, granted.tokens)  # the user has disconnected meanwhile, or authorized anew
        raise RequestFailed("has other credentials since the call began")

    async def _refresh(self, server: ServerRow, tokens: Tokens, scopes: tuple[str, ...]) -> Granted:
        form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token}
        endpoints = Endpoints(self._engine.http, server.url)
        return await request_tokens(endpoints, self._current(server, tokens), form, scopes)

    async def _own_token(self, server: ServerRow, subject: str, rejected: str) -> str:
        """A token of the engine's own, by the client credentials grant (RFC 6749 section 4.4)."""
        try:
            return await self._own_tokens(server, subject)
        except OAuthError as error:
            raise (RequestFailed if error.passing else ConnectionLost)(f"has no access token: {error}") from error

    async def _own_tokens(self, server: ServerRow, subject: str) -> str:
        grant = await self._engine.db.read(store.find, server, subject, self._engine)
        authority = await self.authority(server)
        wanted = server.auth_scopes or authority.scopes or ()
        scopes = tuple(dict.fromkeys((*wanted, *(grant.wanted if grant else ()))))
        secret = credentials.secret_of(server, self._engine)
        client = clients.configured(server, secret, authority.issuer)
        if client is None:
            raise OAuthError("auth_client_id is not set")
        tokens = Tokens("", "", client, *where(authority))
        form = {"grant_type": "client_credentials"} | ({"scope": " ".join(scopes)} if scopes else {})
        endpoints = Endpoints(self._engine.http, server.url)
        granted = await request_tokens(endpoints, tokens, form, scopes)
        await self._engine.db.write(store.keep, server, subject, granted, self._engine)
        return granted.tokens.access_token

    def _current(self, server: ServerRow, tokens: Tokens) -> Tokens:
        """The tokens with the secret that the operator has configured by now."""
        client = tokens.client
        if client.id != server.auth_client_id or client.method == clients.NONE:
            return tokens
        secret = credentials.secret_of(server, self._engine)
        return replace(tokens, client=clients.Client(client.id, secret, client.method))


def where(authority: Authority) -> tuple[str, str, str, str]:
    """Issuer, endpoints and resource, as `Tokens` has them."""
    issuer = authority.issuer
    return issuer.issuer, issuer.token_endpoint, issuer.revocation_endpoint or "", authority.resource


AUTHORIZATIONS = StateKey[Authorizations]("mcp_authorizations")


def _ends(grant: store.Grant, seconds: float) -> bool:
    """Whether the access token is valid no longer than this."""
    return grant.expires_at is not None and parse_time(grant.expires_at) <= datetime.now(UTC) + timedelta(
        seconds=seconds
    )
