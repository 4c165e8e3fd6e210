"""JSON Web Tokens (RFC 7519): signed with Ed25519 (RFC 8037, RFC 9864), verified by the algorithm of the key's type."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from nacl.signing import SigningKey as SigningKey
from nacl.signing import VerifyKey

from bytebrew.base.jwt.base64url import decode, encode
from bytebrew.base.jwt.keys import algorithms, thumbprint, verifies

if TYPE_CHECKING:
    from bytebrew.base.jwt.issuer_keys import IssuerKey

ALGORITHMS = ("EdDSA", "Ed25519", "RS256", "ES256")
MAX_LENGTH = 8192
"""Longest accepted token; an HTTP/1.1 request's head may have twice as many characters."""


class BadToken(ValueError):
    """The token is malformed, not signed by a known key, expired, or not yet valid."""


class UnknownKey(BadToken):
    """The token is signed by no known key and names none: its issuer may have a newer one."""


def sign(claims: Mapping[str, Any], key: SigningKey, kid: str | None = None) -> str:
    """A compact JWS with alg EdDSA over the claims."""
    header = {"alg": "EdDSA", "typ": "JWT"} | ({"kid": kid} if kid else {})
    signed = f"{encode(msgspec.json.encode(header))}.{encode(msgspec.json.encode(claims))}"
    return f"{signed}.{encode(key.sign(signed.encode()).signature)}"


def verify(
    token: str,
    keys: Mapping[str, "VerifyKey | IssuerKey"],
    *,
    leeway: float = 60.0,
    issuer: str = "",
    audience: str = "",
    now: float | None = None,
) -> dict[str, Any]:
    """The claims of a valid token; BadToken has the reason if it is invalid.

    The token's kid selects the key; otherwise keys without a kid are tried. The algorithm is that of the key's type,
    and the token's header must name it. `exp` is required; `exp` and `nbf` are checked with `leeway` seconds. A
    non-empty issuer or audience must match.
    """
    if len(token) > MAX_LENGTH or token.count(".") != 2:
        raise BadToken("not a JWT")
    head, body, tail = token.split(".")
    header = _object(head)
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS or "crit" in header:
        raise BadToken("its alg is not EdDSA, RS256 or ES256")
    if is_named := isinstance(kid, str) and kid in keys:
        tried = [keys[kid]]
    else:
        tried = [key for name, key in keys.items() if kid is None or name == thumbprint(key)]
    signature, message = _decode(tail), f"{head}.{body}".encode()
    if not any(algorithm in algorithms(key) and verifies(key, message, signature) for key in tried):
        raise (BadToken if is_named else UnknownKey)("its signature is not by a known key")
    claims = _object(body)
    _check_times(claims, time.time() if now is None else now, leeway)
    if issuer and claims.get("iss") != issuer:
        raise BadToken("its issuer is another")
    audiences = claims.get("aud")
    if audience and audience not in (audiences if isinstance(audiences, list) else [audiences]):
        raise BadToken("its audience is another")
    return claims


def _check_times(claims: Mapping[str, Any], now: float, leeway: float) -> None:
    for name in ("exp", "nbf"):
        moment = claims.get(name)
        if moment is None and name == "nbf":
            continue
        if isinstance(moment, bool) or not isinstance(moment, int | float):
            raise BadToken(f"its {name} is missing or no number")
        if name == "exp" and moment <= now - leeway:
            raise BadToken("it has expired")
        if name == "nbf" and moment > now + leeway:
            raise BadToken("it is not valid yet")


def _object(part: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(_decode(part), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadToken("a part of it is no JSON object") from error


def _decode(part: str) -> bytes:
    try:
        return decode(part)
    except ValueError as error:
        raise BadToken(str(error)) from error
