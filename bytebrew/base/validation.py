"""Bodies that do not fit: what msgspec says of a value, other names of a field, brackets within brackets."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import accumulate
from typing import Any

import msgspec
from msgspec import inspect

from bytebrew.base.errors import Detail, InvalidRequest

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_MARKS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""One level more or, as a signed byte, one less."""
_STEPS = re.compile(r"\.(\w+)|\[[^]]*\]")
"""The steps of a path; the name of a field is a group, and empty for an item."""
_FIRST = re.compile(r"^\$\.(\w+)")
_PATTERN = re.compile(r"Expected `str` matching regex (.+?)(?= - at `|\Z)", re.DOTALL)


def told(words: str, kind: Any) -> str:
    """The words of a ValidationError of the type; a pattern is told by its field's description, if that has one."""
    found = _PATTERN.match(words)
    if found is None or (meaning := _meanings(kind).get(found[1])) is None:
        return words
    return f"Expected {meaning}{words[found.end() :]}"


def refused(error: msgspec.ValidationError, kind: Any, sent: Mapping[str, str]) -> InvalidRequest:
    """The refusal of a body, with the path of the fault; `sent` are the names under which some of its fields came."""
    words, _, at = told(str(error), kind).partition(" - at `")
    path = at.removesuffix("`") or "$"
    known = ", ".join(_known(words, path, kind))
    path = _FIRST.sub(lambda found: f"$.{sent.get(found[1], found[1])}", path)
    if words.startswith(("Object contains unknown field `", "Object missing required field `")):
        path = f"{path}.{words.split('`')[1]}"
    path, words = path[:300], words[:300]  # either may quote the client
    if known:
        words = f"{words[:150]}; known are {known}"[:390]
    return InvalidRequest(f"{path}: {words}", details=[Detail(path, words)])


def _known(words: str, path: str, kind: Any) -> Iterator[str]:
    """What may stand where a value of the type has an unknown field, or a word that is none of the known."""
    for one in _at(kind, path):
        if isinstance(one, inspect.StructType) and words.startswith("Object contains unknown field `"):
            yield from (field.encode_name for field in one.fields)
        elif isinstance(one, inspect.LiteralType) and words.startswith("Invalid enum value "):
            yield from map(str, one.values)


def _at(kind: Any, path: str) -> list[inspect.Type]:
    """The types that a value of the type may have at a path as msgspec writes it: $.name, [2] or [...]."""
    found = _alternatives(inspect.type_info(kind))
    for name in _STEPS.findall(path):
        inner: list[Any] = [
            field.type
            for one in found
            if isinstance(one, inspect.StructType)
            for field in one.fields
            if field.encode_name == name
        ]
        if not name:
            inner = [getattr(one, "item_type", None) or getattr(one, "value_type", None) for one in found]
        found = [one for type in inner if type for one in _alternatives(type)]
    return found


def _alternatives(kind: inspect.Type) -> list[inspect.Type]:
    if isinstance(kind, inspect.Metadata):
        return _alternatives(kind.type)
    if isinstance(kind, inspect.UnionType):
        return [one for type in kind.types for one in _alternatives(type)]
    return [kind]


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
    """How deep the brackets of a JSON text lie within each other; it may consist of brackets."""
    marks = _STRINGS.sub(b"", raw).translate(_MARKS, _NO_BRACKETS)
    return max(accumulate(memoryview(marks).cast("b")), default=0)
