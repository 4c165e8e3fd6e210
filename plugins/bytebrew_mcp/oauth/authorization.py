"""A user's authorization: from the address that the user opens to the tokens (OAuth 2.1 section 4.1)."""

import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from time import time
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from bytebrew import Actor, Connection, Engine

from ..config import ServerRow
from ..credentials import secret_of
from . import clients, store
from .clients import Client
from .credentials import AUTHORIZATIONS, where
from .discovery import Authority, Issuer
from .endpoints import Endpoints
from .errors import OAuthError
from .store import Pending
from .tokens import Granted, Tokens, request_tokens

LIFETIME_SECONDS = 600.0
OFFLINE = "offline_access"


class Begun(NamedTuple):
    """An authorization to store, with its state and the address that the user opens; a `registered` client is new."""

    pending: Pending
    state: str
    url: str
    registered: bool

    def store(self, conn: Connection, server: ServerRow, subject: str, engine: Engine) -> str:
        """Stores it; returns when it expires."""
        pending = self.pending
        if self.registered:
            store.keep_client(conn, server, pending.issuer.issuer, pending.redirect_uri, pending.client, engine)
        return store.begin(conn, server, subject, self.state, pending, LIFETIME_SECONDS, engine)


async def begin(
    engine: Engine, server: ServerRow, actor: Actor, grant: store.Grant | None, public_url: str, browser: str
) -> Begun:
    """Prepares an authorization; OAuthError in words if that cannot be done."""
    authority = await engine.state[AUTHORIZATIONS].authority(server)
    issuer, redirect_uri = authority.issuer, public_url + clients.CALLBACK
    if not issuer.authorization_endpoint:
        raise OAuthError("The authorization server has no authorization endpoint")
    if "S256" not in (issuer.code_challenge_methods_supported or ()):
        raise OAuthError("The authorization server does not support PKCE with S256")
    scopes = _scopes(server, authority, grant)
    client = await _known_client(engine, server, issuer, redirect_uri, public_url)
    registered = client is None
    if client is None:
        client = await clients.register(Endpoints(engine.http, server.url), issuer, redirect_uri, scopes)
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    parameters = {
        "response_type": "code",
        "client_id": client.id,
        "redirect_uri": redirect_uri,
        "state": state,
        "code_challenge": urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("="),
        "code_challenge_method": "S256",
        "resource": authority.resource,
    }
    if scopes:
        parameters["scope"] = " ".join(scopes)
    if OFFLINE in scopes:
        parameters["prompt"] = "consent"  # OpenID Connect Core section 11
    joint = "&" if urlsplit(issuer.authorization_endpoint).query else "?"
    url = f"{issuer.authorization_endpoint}{joint}{urlencode(parameters)}"
    pending = Pending(
        server.url, actor.name, browser, verifier, redirect_uri, issuer, client, authority.resource, scopes
    )
    return Begun(pending, state, url, registered)


async def finish(engine: Engine, server: ServerRow, pending: Pending, code: str) -> Granted:
    """Exchanges the code for tokens."""
    authority = Authority(pending.issuer, pending.resource, pending.scopes)
    tokens = Tokens("", "", pending.client, *where(authority))
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": pending.redirect_uri,
        "code_verifier": pending.verifier,
    }
    return await request_tokens(Endpoints(engine.http, server.url), tokens, form, pending.scopes)


def check_issuer(pending: Pending, iss: str | None) -> None:
    """Raises OAuthError unless the answer is from the authorization server that was asked (RFC 9207 section 2.4)."""
    if iss is None and pending.issuer.authorization_response_iss_parameter_supported:
        raise OAuthError("The answer does not name the authorization server that sends it")
    if iss is not None and iss != pending.issuer.issuer:
        raise OAuthError("The answer is from another authorization server than the one that was asked")


def _scopes(server: ServerRow, authority: Authority, grant: store.Grant | None) -> tuple[str, ...]:
    """The scopes to ask for: those of before, so that no access is lost, and those that are wanted now."""
    wanted = server.auth_scopes or authority.scopes or ()
    more = (*grant.scopes, *grant.wanted) if grant else ()
    scopes = tuple(dict.fromkeys((*wanted, *more)))
    offline = bool(scopes) and OFFLINE in (authority.issuer.scopes_supported or ())
    return (*scopes, OFFLINE) if offline and OFFLINE not in scopes else scopes


async def _known_client(
    engine: Engine, server: ServerRow, issuer: Issuer, redirect_uri: str, public_url: str
) -> Client | None:
    """The client that need not be registered, in the order that the MCP specification recommends."""
    client = clients.configured(server, secret_of(server, engine), issuer) or clients.by_document(issuer, public_url)
    if client is None:
        client = await engine.db.read(store.client, server, issuer.issuer, redirect_uri, engine)
    expires_at = client.expires_at if client else 0
    return None if 0 < expires_at < time() + LIFETIME_SECONDS else client
