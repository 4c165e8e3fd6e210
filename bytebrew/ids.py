"""Identifiers of the things that clients see."""

import re
import uuid

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def new_uuid() -> str:
    """A random UUID (version 4) in lower case."""
    return str(uuid.uuid4())


def new_id(prefix: str) -> str:
    """`prefix_` and 24 random hex digits."""
    return f"{prefix}_{uuid.uuid4().hex[:24]}"


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID in its canonical form."""
    return _UUID.fullmatch(text) is not None
