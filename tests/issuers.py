"""Issuers of JWTs whose keys are RSA or P-256, as most are."""

from collections.abc import Mapping
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.forged import b64url, signing_input

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


def signature(key: Private, message: bytes) -> bytes:
    """As RS256 and ES256 sign."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), SHA256())
    size = (key.curve.key_size + 7) // 8
    return b"".join(
        number.to_bytes(size, "big") for number in decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
    )


def algorithm(key: Private) -> str:
    """The name of the key's algorithm."""
    return "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"


def issued(claims: Mapping[str, Any], key: Private, kid: str | None = None, **header: Any) -> str:
    """A token by the key."""
    text = signing_input({"alg": algorithm(key), "typ": "JWT", **({"kid": kid} if kid else {}), **header}, claims)
    return f"{text}.{b64url(signature(key, text.encode()))}"


def jwk(key: Private, **more: Any) -> dict[str, Any]:
    """The public key as a JWK (RFC 7518 section 6)."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e), **more}
    size = (public.curve.key_size + 7) // 8
    x, y = (b64url(value.to_bytes(size, "big")) for value in (public.public_numbers().x, public.public_numbers().y))
    return {"kty": "EC", "crv": {256: "P-256", 384: "P-384"}[public.curve.key_size], "x": x, "y": y, **more}


def jwks(*keys: Mapping[str, Any]) -> str:
    """A JWK set."""
    return msgspec.json.encode({"keys": keys}).decode()


def pem(key: Private) -> str:
    """The public key as OpenSSL writes it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _number(value: int) -> str:
    return b64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))
