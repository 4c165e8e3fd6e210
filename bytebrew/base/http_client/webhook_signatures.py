"""Signatures of Standard Webhooks 1.0.0 (github.com/standard-webhooks): HMAC-SHA256, symmetric, `v1`."""

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode

PREFIX = "whsec_"
LEAST, MOST = 24, 64
"""Length of a key in bytes, as the specification has it."""


def new_webhook_secret() -> str:
    """A random secret of 32 bytes, as it is shown to a receiver: `whsec_` and base64."""
    return PREFIX + b64encode(secrets.token_bytes(32)).decode()


def webhook_key(secret: str) -> bytes:
    """The key of a secret; ValueError unless that is `whsec_` and base64 of 24 to 64 bytes."""
    try:
        key = b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(PREFIX) or not LEAST <= len(key) <= MOST:
        raise ValueError(f"is not {PREFIX} and {LEAST} to {MOST} random bytes in base64")
    return key


def webhook_signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The signature of a message, `v1,` and base64, as it is in the header `webhook-signature`.

    `timestamp` is in seconds since 1970, and the id has no dot.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"
