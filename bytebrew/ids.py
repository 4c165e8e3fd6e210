"""Identifiers of the things that clients see."""

import re
import secrets
import time
import uuid

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def new_uuid() -> str:
    """A UUID of version 7 (RFC 9562): in order of time, so that what is written together lies together in the file."""
    value = _milliseconds() << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))


def new_id(prefix: str) -> str:
    """`prefix_` and 24 hex digits, 12 of the time in milliseconds and 12 random ones."""
    return f"{prefix}_{_milliseconds():012x}{secrets.token_hex(6)}"


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID in its canonical form."""
    return _UUID.fullmatch(text) is not None
