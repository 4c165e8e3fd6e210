"""Base64url without padding (RFC 7515 section 2), in its one canonical spelling."""

import base64
import binascii


def encode(raw: bytes) -> str:
    """The text of bytes."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes of a text; ValueError for any but the canonical spelling."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error) as error:
        raise ValueError("a part of it is not base64url") from error
    if encode(raw) != text:
        raise ValueError("a part of it is not canonical base64url")
    return raw
