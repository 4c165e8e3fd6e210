"""Public keys that verify tokens, by their kid: from hex, PEM, JWKs and JWK sets."""

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from bytebrew.base.jwt.base64url import decode, encode

if TYPE_CHECKING:
    from bytebrew.base.jwt.issuer_keys import IssuerKey

PublicKeys = dict[str, "VerifyKey | IssuerKey"]
"""Keys by kid; a key without one is stored under its RFC 7638 thumbprint and verifies tokens of any kid."""

MOST_KEYS = 64
"""Keys of a set: a token without a kid is tried with each of them."""
EXTRA = "RSA and P-256 keys need cryptography: pip install 'bytebrew[issuers]'"

_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----")
_ED25519 = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410)."""
_RSA_OR_EC = (bytes.fromhex("06092a864886f70d010101"), bytes.fromhex("06072a8648ce3d0201"))
"""The object identifiers rsaEncryption (RFC 8017) and id-ecPublicKey (RFC 5480)."""


def algorithms(key: "VerifyKey | IssuerKey") -> tuple[str, ...]:
    """The names of a key's one algorithm; Ed25519's older one is EdDSA (RFC 9864)."""
    return ("EdDSA", "Ed25519") if isinstance(key, VerifyKey) else (key.algorithm,)


def verifies(key: "VerifyKey | IssuerKey", message: bytes, signature: bytes) -> bool:
    """Whether the signature of a message is by this key."""
    if not isinstance(key, VerifyKey):
        return key.verifies(message, signature)
    try:
        key.verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


def thumbprint(key: "VerifyKey | IssuerKey") -> str:
    """The key's RFC 7638 thumbprint."""
    if not isinstance(key, VerifyKey):
        return key.thumbprint
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{encode(bytes(key))}"}}'
    return encode(hashlib.sha256(canonical.encode()).digest())


def read_public_keys(text: str) -> PublicKeys:
    """Public keys from hex lines (Ed25519), PEM blocks, a JWK or a JWK set: Ed25519, RSA of 2048 bits or more, P-256.

    A set may hold other keys, which are left out. Raises ValueError for invalid keys, or if there are none.
    """
    if text.lstrip().startswith("{"):
        return _read_jwks(text)
    blocks = _PEM.findall(text)
    if text.count("-----BEGIN ") != len(blocks):
        raise ValueError("it holds a PEM block that is no PUBLIC KEY")
    if blocks:
        read = [_from_der(base64.b64decode(re.sub(r"\s", "", block), validate=True)) for block in blocks]
    else:
        read = [VerifyKey(bytes.fromhex(line)) for line in text.split()]
    if not read:
        raise ValueError("there is no key in it")
    return {thumbprint(key): key for key in read}


def _from_der(der: bytes) -> "VerifyKey | IssuerKey":
    if len(der) == 44 and der.startswith(_ED25519):
        return VerifyKey(der[-32:])
    if not any(identifier in der[:32] for identifier in _RSA_OR_EC):
        raise ValueError("a PEM block holds no Ed25519, RSA or P-256 public key")
    try:
        from bytebrew.base.jwt.issuer_keys import from_der
    except ImportError as error:
        raise ValueError(EXTRA) from error
    return from_der(der)


def _read_jwks(text: str) -> PublicKeys:
    try:
        document = msgspec.json.decode(text, type=dict[str, Any])
        listed = msgspec.convert(document.get("keys", [document]), list[dict[str, Any]])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError("it is no JWK and no JWK set") from error
    if len(listed) > MOST_KEYS:
        raise ValueError(f"it holds more than {MOST_KEYS} keys")
    keys: PublicKeys = {}
    unfit: list[str] = []
    for jwk in listed:
        try:
            key, kid = _from_jwk(jwk), jwk.get("kid")
        except ValueError as error:
            unfit.append(str(error))
        else:
            keys[kid if isinstance(kid, str) else thumbprint(key)] = key
    if not keys:
        reasons = f" ({'; '.join(dict.fromkeys(unfit))})" if unfit else ""
        raise ValueError(f"it holds no JWK of an Ed25519, RSA or P-256 key that signs{reasons}")
    return keys


def _from_jwk(jwk: Mapping[str, Any]) -> "VerifyKey | IssuerKey":
    """The key; ValueError if it is of another kind or for another use, or is malformed."""
    kind = jwk.get("kty")
    if jwk.get("use", "sig") != "sig":
        raise ValueError("a key is for another use than sig")
    key: VerifyKey | IssuerKey
    if kind == "OKP" and jwk.get("crv") == "Ed25519":
        if not isinstance(jwk.get("x"), str):
            raise ValueError("a key of kty OKP lacks its x")
        key = VerifyKey(decode(jwk["x"]))
    elif kind in ("RSA", "EC"):
        try:
            from bytebrew.base.jwt.issuer_keys import from_jwk
        except ImportError as error:
            raise ValueError(EXTRA) from error
        key = from_jwk(jwk)
    else:
        raise ValueError("a key is of another kind")
    if jwk.get("alg") not in (None, *algorithms(key)):
        raise ValueError("a key is for another algorithm than RS256, ES256 and EdDSA")
    return key
