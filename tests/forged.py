"""JWTs that nobody honest would send, for keys that a test owns."""

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from nacl.signing import SigningKey, VerifyKey

from bytebrew.base.jwt import MAX_LENGTH, sign

SPKI = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410)."""
EDDSA = {"alg": "EdDSA", "typ": "JWT"}


def b64url(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signing_input(header: Any, claims: Any) -> str:
    """The two parts that a signature covers."""
    return f"{b64url(msgspec.json.encode(header))}.{b64url(msgspec.json.encode(claims))}"


def jws(header: Any, claims: Any, key: SigningKey) -> str:
    """A token with any header, properly signed."""
    text = signing_input(header, claims)
    return f"{text}.{b64url(key.sign(text.encode()).signature)}"


def pem(key: VerifyKey) -> str:
    """The public key as OpenSSL writes it."""
    return f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(SPKI + bytes(key)).decode()}\n-----END PUBLIC KEY-----\n"


def jwk(key: VerifyKey, **more: Any) -> dict[str, Any]:
    """The public key as a JWK (RFC 8037)."""
    return {"kty": "OKP", "crv": "Ed25519", "x": b64url(bytes(key)), **more}


def fresh(claims: Mapping[str, Any]) -> dict[str, Any]:
    """The claims, good for an hour."""
    return {**claims, "exp": int(time.time()) + 3600}


def confused(claims: Any, public: VerifyKey) -> Iterator[str]:
    """HS256 tokens whose secret is the public key, in every form in which a verifier may hold it."""
    raw = bytes(public)
    text = signing_input({"alg": "HS256", "typ": "JWT"}, claims)
    for secret in (raw, raw.hex().encode(), f"{raw.hex()}\n".encode(), pem(public).encode(), SPKI + raw):
        yield f"{text}.{b64url(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def forgeries(claims: Mapping[str, Any], key: SigningKey) -> dict[str, str]:
    """Tokens that a verifier of this key must refuse, by what is wrong with them; their claims it would like."""
    good = fresh(claims)
    head, body, tail = sign(good, key).split(".")
    tampered = b64url(msgspec.json.encode({**good, "tampered": True}))
    none = signing_input({"alg": "none", "typ": "JWT"}, good)
    return {
        "expired": sign({**claims, "exp": int(time.time()) - 3600}, key),
        "no exp": sign(claims, key),
        "not yet valid": sign({**good, "nbf": int(time.time()) + 3600}, key),
        "alg none": f"{none}.",
        "alg none, signed": f"{none}.{b64url(key.sign(none.encode()).signature)}",
        "alg None": f"{signing_input({'alg': 'None'}, good)}.",
        **{f"HS256 with the public key, form {n}": token for n, token in enumerate(confused(good, key.verify_key))},
        "payload tampered with": f"{head}.{tampered}.{tail}",
        "signature tampered with": f"{head}.{body}.{'B' if tail[0] == 'A' else 'A'}{tail[1:]}",
        "signature empty": f"{head}.{body}.",
        "signature of another key": sign(good, SigningKey.generate()),
        "crit": jws({**EDDSA, "crit": ["exp"]}, good, key),
        "no alg": jws({"typ": "JWT"}, good, key),
        "over-long": sign({**good, "pad": "x" * MAX_LENGTH}, key),
        "padded base64": f"{head}.{body}.{tail}==",
        "two parts": f"{head}.{body}",
        "four parts": f"{head}.{body}.{tail}.{tail}",
        "no JSON inside": f"{b64url(b'{')}.{body}.{tail}",
        "garbage": "garbage",
        "dots": "..",
    }
