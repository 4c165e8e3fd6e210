"""Bodies that do not fit: what msgspec says of a value, other names of a field, brackets within brackets."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from bytebrew.errors import Detail, InvalidRequest

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
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


def canonical(fields: dict[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a body under their own names; InvalidRequest where two names of one field differ."""
    for alias, name in aliases.items():
        if alias not in fields:
            continue
        if name in fields and fields[name] != fields[alias]:
            details = [Detail(f"$.{alias}", f"is another name of {name}")]
            raise InvalidRequest(f"{alias} and {name} are one field; send one of them", details=details)
        fields[name] = fields.pop(alias)
    return fields


def depth(raw: bytes) -> int:
    """How deep the brackets of a JSON text lie within each other."""
    depth = deepest = 0
    for mark in _STRINGS.sub(b"", raw).translate(None, _NO_BRACKETS):
        depth += 1 if mark in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest
