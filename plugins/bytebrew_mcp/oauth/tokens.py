"""Requests to the token endpoint and the revocation endpoint."""

from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from .challenges import scopes_of
from .clients import Client, refusal
from .endpoints import Endpoints
from .errors import OAuthError

MAX_SECONDS = 10 * 365 * 86400
MAX_TOKEN = 16384
_ACCOUNT_CLAIMS = ("email", "preferred_username", "name", "sub")


class TokenAnswer(Struct, frozen=True):
    """The answer of a token endpoint (RFC 6749 section 5.1)."""

    access_token: str
    token_type: str
    expires_in: float | None = None
    refresh_token: str | None = None
    scope: str | None = None
    id_token: str | None = None


class Tokens(Struct, frozen=True):
    """What is stored sealed: the tokens, and all that their refresh needs."""

    access_token: str
    refresh_token: str
    client: Client
    issuer: str
    token_endpoint: str
    revocation_endpoint: str
    resource: str


class Granted(Struct, frozen=True):
    """The tokens of an answer, with what is known of them; `seconds` is how long the access token is valid."""

    tokens: Tokens
    scopes: tuple[str, ...]
    seconds: float | None
    account: str


async def request_tokens(
    endpoints: Endpoints, tokens: Tokens, grant: Mapping[str, str], scopes: tuple[str, ...]
) -> Granted:
    """Exchanges a grant for tokens; `scopes` are those in force if the answer does not name any."""
    form = {**grant, "resource": tokens.resource}
    headers = tokens.client.authenticate(form)
    status, body = await endpoints.post(tokens.token_endpoint, "token endpoint", form=form, headers=headers)
    if status != 200:
        raise refusal(status, body, "token")
    try:
        answer = msgspec.json.decode(body, type=TokenAnswer, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise OAuthError("The answer of the token endpoint is malformed") from error
    if answer.token_type.lower() != "bearer":
        raise OAuthError("The authorization server issues tokens of an unknown type")
    for token in (answer.access_token, answer.refresh_token or "x"):
        if not (0 < len(token) <= MAX_TOKEN and token.isascii() and token.isprintable() and " " not in token):
            raise OAuthError("The authorization server issues a token that is none")
    return Granted(
        msgspec.structs.replace(
            tokens,
            access_token=answer.access_token,
            refresh_token=answer.refresh_token or tokens.refresh_token,  # without rotation the old one stays valid
        ),
        scopes if answer.scope is None else scopes_of(answer.scope),
        None if answer.expires_in is None else min(max(answer.expires_in, 0.0), MAX_SECONDS),
        _account(answer.id_token or ""),
    )


async def revoke(endpoints: Endpoints, tokens: Tokens) -> None:
    """Revokes tokens where the authorization server offers that (RFC 7009)."""
    if not tokens.revocation_endpoint:
        return
    for hint in ("refresh_token", "access_token"):
        if token := getattr(tokens, hint):
            form = {"token": token, "token_type_hint": hint}
            headers = tokens.client.authenticate(form)
            what = "revocation endpoint"
            status, body = await endpoints.post(tokens.revocation_endpoint, what, form=form, headers=headers)
            if status != 200:
                raise refusal(status, body, "revocation of a token")


def _account(id_token: str) -> str:
    """Who authorized, by an ID token.

    It came from the token endpoint over TLS, so that its signature need not be checked (OpenID Connect Core section
    3.1.3.7), and it is shown to its own user only.
    """
    parts = id_token.split(".")
    try:
        payload = parts[1] + "=" * (-len(parts[1]) % 4)
        claims: Any = msgspec.json.decode(urlsafe_b64decode(payload))
        found = [claims[name] for name in _ACCOUNT_CLAIMS if isinstance(claims.get(name), str) and claims[name]]
    except (ValueError, IndexError, AttributeError, RecursionError):
        return ""
    return found[0][:200] if found else ""
