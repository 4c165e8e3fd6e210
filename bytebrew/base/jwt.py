"""JSON Web Tokens signed with Ed25519 (RFC 7519, RFC 8037, RFC 9864), the only supported algorithm."""

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey as SigningKey
from nacl.signing import VerifyKey

PublicKeys = dict[str, VerifyKey]
"""Keys by kid; a key without one is stored under its RFC 7638 thumbprint and verifies tokens of any kid."""

_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----")
_SPKI = bytes.fromhex("302a300506032b6570032100")

MAX_LENGTH = 8192
"""Longest accepted token; an HTTP/1.1 request's head may have twice as many characters."""


class BadToken(ValueError):
    """The token is malformed, not signed by a known key, expired, or not yet valid."""


def sign(claims: Mapping[str, Any], key: SigningKey, kid: str | None = None) -> str:
    """A compact JWS with alg EdDSA over the claims."""
    header = {"alg": "EdDSA", "typ": "JWT"} | ({"kid": kid} if kid else {})
    signed = f"{_encode(msgspec.json.encode(header))}.{_encode(msgspec.json.encode(claims))}"
    return f"{signed}.{_encode(key.sign(signed.encode()).signature)}"


def verify(
    token: str,
    keys: PublicKeys,
    *,
    leeway: float = 60.0,
    issuer: str = "",
    audience: str = "",
    now: float | None = None,
) -> dict[str, Any]:
    """The claims of a valid token; BadToken has the reason if it is invalid.

    The token's kid selects the key; otherwise keys without a kid are tried. `exp` is required; `exp` and `nbf` are
    checked with `leeway` seconds. A non-empty issuer or audience must match.
    """
    if len(token) > MAX_LENGTH or token.count(".") != 2:
        raise BadToken("not a JWT")
    head, body, tail = token.split(".")
    header = _object(head)
    if header.get("alg") not in ("EdDSA", "Ed25519") or "crit" in header:
        raise BadToken("its alg is not EdDSA")
    kid = header.get("kid")
    if isinstance(kid, str) and kid in keys:
        tried = [keys[kid]]
    else:
        tried = [key for name, key in keys.items() if kid is None or name == thumbprint(key)]
    signature = _decode(tail)
    if not any(_signed(key, f"{head}.{body}".encode(), signature) for key in tried):
        raise BadToken("its signature is not by a known key")
    claims = _object(body)
    _check_times(claims, time.time() if now is None else now, leeway)
    if issuer and claims.get("iss") != issuer:
        raise BadToken("its issuer is another")
    audiences = claims.get("aud")
    if audience and audience not in (audiences if isinstance(audiences, list) else [audiences]):
        raise BadToken("its audience is another")
    return claims


def thumbprint(key: VerifyKey) -> str:
    """The key's RFC 7638 thumbprint."""
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{_encode(bytes(key))}"}}'
    return _encode(hashlib.sha256(canonical.encode()).digest())


def read_public_keys(text: str) -> PublicKeys:
    """Ed25519 public keys from hex lines, PEM blocks (RFC 8410), a JWK or a JWK set (RFC 8037).

    Raises ValueError for invalid keys, or if there are none.
    """
    if text.lstrip().startswith("{"):
        return _read_jwks(text)
    blocks = _PEM.findall(text)
    raw = [base64.b64decode(re.sub(r"\s", "", block), validate=True) for block in blocks]
    if text.count("-----BEGIN ") != len(blocks):
        raise ValueError("it holds a PEM block that is no PUBLIC KEY")
    if blocks:
        if any(len(der) != 44 or not der.startswith(_SPKI) for der in raw):
            raise ValueError("a PEM block holds no Ed25519 public key")
        found = [VerifyKey(der[-32:]) for der in raw]
    else:
        found = [VerifyKey(bytes.fromhex(line)) for line in text.split()]
    if not found:
        raise ValueError("there is no key in it")
    return {thumbprint(key): key for key in found}


def _read_jwks(text: str) -> PublicKeys:
    try:
        document = msgspec.json.decode(text, type=dict[str, Any])
        listed = document.get("keys", [document])
        ours = [jwk for jwk in listed if jwk.get("kty") == "OKP" and jwk.get("crv") == "Ed25519"]
        keys = [(jwk.get("kid"), VerifyKey(_decode(jwk["x"]))) for jwk in ours]
    except (msgspec.MsgspecError, AttributeError, KeyError, TypeError) as error:
        raise ValueError("it is no JWK and no JWK set") from error
    if not keys:
        raise ValueError("it holds no JWK of kty OKP and crv Ed25519")
    return {kid if isinstance(kid, str) else thumbprint(key): key for kid, key in keys}


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


def _signed(key: VerifyKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


def _object(part: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(_decode(part), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadToken("a part of it is no JSON object") from error


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(part: str) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (ValueError, binascii.Error) as error:
        raise BadToken("a part of it is not base64url") from error
    if _encode(raw) != part:
        raise BadToken("a part of it is not canonical base64url")
    return raw
