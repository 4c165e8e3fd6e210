"""Keys of issuers by the extra `bytebrew[issuers]`: RSA for RS256 and P-256 for ES256 (RFC 7518 sections 3.3, 3.4)."""

import hashlib
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from bytebrew.base.jwt.base64url import decode, encode

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
"""RFC 7518 section 3.3 has the least; a longer key than the most would take milliseconds for each token."""
MAX_EXPONENT = 1 << 32


class IssuerKey:
    """A public key of one type, and so of one algorithm, whatever the header of a token says."""

    def __init__(self, key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> None:
        self._key = key
        if isinstance(key, rsa.RSAPublicKey):
            self.algorithm = "RS256"
            numbers = key.public_numbers()
            if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS or numbers.e >= MAX_EXPONENT:
                raise ValueError(f"an RSA key has {key.key_size} bits, not {MIN_RSA_BITS} to {MAX_RSA_BITS}")
            members = {"e": _number(numbers.e), "kty": "RSA", "n": _number(numbers.n)}
        else:
            self.algorithm = "ES256"
            if not isinstance(key.curve, ec.SECP256R1):
                raise ValueError(f"a key is on the curve {key.curve.name}, not P-256")
            point = key.public_numbers()
            x, y = (encode(value.to_bytes(32, "big")) for value in (point.x, point.y))
            members = {"crv": "P-256", "kty": "EC", "x": x, "y": y}
        canonical = ",".join(f'"{name}":"{value}"' for name, value in members.items())
        self.thumbprint = encode(hashlib.sha256(f"{{{canonical}}}".encode()).digest())

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature of a message is by this key."""
        try:
            if isinstance(self._key, rsa.RSAPublicKey):
                self._key.verify(signature, message, padding.PKCS1v15(), SHA256())
            elif len(signature) != 64:
                return False
            else:
                r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
                self._key.verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


def from_jwk(jwk: Mapping[str, Any]) -> IssuerKey:
    """The key of a JWK of kty RSA or EC; ValueError if it is malformed, too weak, or on another curve."""
    names = ("n", "e") if jwk["kty"] == "RSA" else ("x", "y")
    if jwk["kty"] == "EC" and jwk.get("crv") != "P-256":
        raise ValueError("a key is on another curve than P-256")
    if not all(isinstance(jwk.get(name), str) for name in names):
        raise ValueError(f"a key of kty {jwk['kty']} lacks its {' or '.join(names)}")
    first, second = (int.from_bytes(decode(jwk[name]), "big") for name in names)
    if jwk["kty"] == "EC":
        return IssuerKey(ec.EllipticCurvePublicNumbers(first, second, ec.SECP256R1()).public_key())
    if not 3 <= second < MAX_EXPONENT or first.bit_length() > MAX_RSA_BITS:
        raise ValueError("an RSA key is malformed or too long")
    return IssuerKey(rsa.RSAPublicNumbers(second, first).public_key())


def from_der(der: bytes) -> IssuerKey:
    """The key of a SubjectPublicKeyInfo; ValueError for one that is no RSA or P-256 key."""
    try:
        key = load_der_public_key(der)
    except UnsupportedAlgorithm as error:
        raise ValueError("a PEM block holds a key on an unknown curve") from error
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise ValueError("a PEM block holds no RSA and no P-256 key")
    return IssuerKey(key)


def _number(value: int) -> str:
    return encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))
