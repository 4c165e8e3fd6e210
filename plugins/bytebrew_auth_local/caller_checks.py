"""Checks whether a caller may get an admin session: the engine's own user, or one that the operator allows."""

import secrets
import time
from typing import ClassVar

from bytebrew import Core, EngineError, Forbidden, Request, is_known_host

from .addresses import is_loopback, is_within
from .peer_process import NotProven
from .sessions import LocalMode
from .settings import Local

FORWARDED = ("forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip")
HOW = (
    "send, as Authorization: Bearer, what the file local-session.token in the engine's data folder holds, "
    "or take the token that `bytebrew session create` prints"
)
"""Advice for error messages on how to open a session from another machine."""


class TooManyAttempts(EngineError):
    """Too many wrong secrets from this address."""

    status: ClassVar[int] = 429
    code = "too_many_attempts"


def check_origin(request: Request[None]) -> None:
    """Raises Forbidden for requests from pages of another origin, even with a valid secret."""
    headers = request.headers
    origin = headers.get("origin")
    foreign = origin is not None and origin.partition("://")[2] != request.host
    if foreign or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise Forbidden("A page of another origin may not open a local session", code="foreign_origin")


async def check(request: Request[None], mode: LocalMode, local: Local, core: Core) -> None:
    """Raises Forbidden unless the caller may get an admin session, TooManyAttempts after wrong secrets.

    If a secret is configured, only the secret counts, from any address. Otherwise the caller must be in an allowed
    network, or be a process of the engine's own user that is not a proxy.
    """
    headers = request.headers
    if sent := headers.get("authorization", "").partition(" ")[2].strip():
        _check_proof(sent, request.client, mode, local.local_session_secret)
        return
    if local.local_session_secret:
        message = f"Send the value of BYTEBREW_LOCAL_SESSION_SECRET as Authorization: Bearer <secret>, or {HOW}"
        raise Forbidden(message, code="secret_required")
    peer = request.connection[0][0] if request.connection else ""
    by_proxy = is_within(peer, core.trusted_proxies)
    passed_on = any(name in FORWARDED or name.startswith("x-forwarded-") for name in headers)
    if passed_on or request.http_version != "1.1" or (by_proxy and not is_loopback(peer)):
        raise Forbidden(f"A proxy passed this on, so {HOW}", code="forwarded")
    if not is_known_host(headers.get("host", ""), core.host):
        message = "The Host header may be a foreign site's; call the engine by its IP address or as localhost"
        raise Forbidden(f"{message}, or {HOW}", code="foreign_host")
    if is_within(peer, local.local_session_from) and not by_proxy:
        return
    if not is_loopback(peer):
        message = f"{peer} may not open a local session; add its network to BYTEBREW_LOCAL_SESSION_FROM"
        raise Forbidden(f"{message}, or {HOW}", code="foreign_address")
    try:
        if request.connection is None:
            raise NotProven("its address is not known")
        await mode.owners.check(*request.connection)
    except NotProven as error:
        message = f"Nothing shows that this is the engine's own user: {error}"
        raise Forbidden(f"{message}. To prove it, {HOW}", code="proof_required") from error


def _check_proof(sent: str, client: str, mode: LocalMode, secret: str) -> None:
    """Raises unless the configured secret was sent; the sign-in token was checked before."""
    now, attempts = time.monotonic(), mode.attempts
    if seconds := attempts.wait(client, now):
        message = f"Too many wrong secrets have come from {client}: wait {seconds} s, or {HOW}"
        raise TooManyAttempts(message, headers={"Retry-After": str(seconds)})
    if secret and secrets.compare_digest(sent.encode("latin-1"), secret.encode()):
        return
    attempts.failed(client, now)
    if secret:
        message = "This is not the value of BYTEBREW_LOCAL_SESSION_SECRET, which to send as Authorization: Bearer"
        raise Forbidden(f"{message}; or {HOW}", code="secret_required")
    raise Forbidden(f"This token is none, or was used before; {HOW}", code="wrong_token")
