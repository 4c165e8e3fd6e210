"""What msgspec says of a value that does not fit, with what a pattern means in place of the pattern."""

import re
from functools import cache
from typing import Any

import msgspec

from bytebrew.errors import Detail, InvalidRequest

_PATTERN = re.compile(r"Expected `str` matching regex (.+?)(?= - at `|\Z)", re.DOTALL)


def told(words: str, kind: Any) -> str:
    """The words of a ValidationError of the type; a pattern is told by its field's description, if that has one."""
    found = _PATTERN.match(words)
    if found is None or (meaning := _meanings(kind).get(found[1])) is None:
        return words
    return f"Expected {meaning}{words[found.end() :]}"


def refused(error: msgspec.ValidationError, kind: Any) -> InvalidRequest:
    """The refusal of a body, with the path of the fault."""
    words, _, at = told(str(error), kind).partition(" - at `")
    path = at.removesuffix("`") or "$"
    if words.startswith(("Object contains unknown field `", "Object missing required field `")):
        path = f"{path}.{words.split('`')[1]}"
    path, words = path[:300], words[:300]  # either may quote the client
    return InvalidRequest(f"{path}: {words}", details=[Detail(path, words)])


@cache
def _meanings(kind: Any) -> dict[str, str]:
    """The descriptions of the patterns anywhere in a type, by how msgspec shows each pattern."""
    found: dict[str, str] = {}
    waiting: list[Any] = [msgspec.json.schema(kind)]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if isinstance(one.get("pattern"), str) and isinstance(one.get("description"), str):
                found[repr(one["pattern"])] = one["description"]
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return found
