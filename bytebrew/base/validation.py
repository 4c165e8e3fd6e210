"""JSON bodies: messages for the errors of msgspec, aliases of fields, nesting depth, and equality in JSON."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import accumulate, islice
from typing import Any

import msgspec
from msgspec import inspect

from bytebrew.base.errors import Detail, InvalidRequest, PayloadTooLarge

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_MARKS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""Brackets as signed bytes: +1 opens, -1 closes."""
_STEPS = re.compile(r"\.(\w+)|\[[^]]*\]")
"""The steps of a path; the group is a field's name, or empty for an item."""
_FIRST = re.compile(r"^\$\.(\w+)")
MAX_DEPTH = 100
"""Nesting limit of a JSON body, which must fit into an answer; msgspec's own limit is near 1000."""
MAX_VALUES = 1 << 20
"""Limit of brackets and commas in a JSON body: a parsed value takes 30 times its bytes."""
ESCAPED_NUL = rb"\u0000"
"""How a JSON text has the character U+0000, unless a backslash stands before it; unescaped, it is no JSON."""
NUL = "has the character U+0000, which no text may have"
_MOST_DETAILS = 100
_PATTERN = re.compile(r"Expected `str` matching regex (.+?)(?= - at `|\Z)", re.DOTALL)


def plain_json(value: Any) -> Any:
    """The value in the types of JSON: lists, not tuples as to_builtins leaves them."""
    return msgspec.json.decode(msgspec.json.encode(value))


def same_json(first: Any, second: Any) -> bool:
    """Whether two values are equal in JSON, where `true` is not 1."""
    if first is second:
        return True
    return msgspec.json.encode(first, order="sorted") == msgspec.json.encode(second, order="sorted")


def did_you_mean(name: str, known: Collection[str]) -> str:
    """`; did you mean 'x'?` with the nearest of the known names, or nothing."""
    nearest = difflib.get_close_matches(name[:100], known, 1, 0.5)
    return f"; did you mean '{nearest[0]}'?" if nearest else ""


def check_shape(raw: bytes) -> None:
    """Raises PayloadTooLarge or InvalidRequest for a JSON body with more values or levels than the limits."""
    brackets = raw.count(b"[") + raw.count(b"{")
    if len(raw) > MAX_VALUES and brackets + raw.count(b",") > MAX_VALUES:
        message = f"The body has more than {MAX_VALUES} brackets and commas; send fewer values in one"
        raise PayloadTooLarge(message, details=[Detail("$", "too many values")])
    if brackets > MAX_DEPTH and depth(raw) > MAX_DEPTH:
        raise InvalidRequest(f"The body has more than {MAX_DEPTH} levels", details=[Detail("$", "too deep")])


def check_text(raw: bytes) -> None:
    """Raises InvalidRequest, with paths, if a text in a JSON body has the character U+0000.

    PostgreSQL's text does not have it, and what is refused there is refused on SQLite.
    """
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):  # whoever decodes the body says what is wrong
        return
    if details := [Detail(path[:300], NUL) for path in islice(_with_nul(value, "$"), _MOST_DETAILS)]:
        raise InvalidRequest(f"{details[0].path}: {NUL}", details=details)


def _with_nul(value: Any, path: str) -> Iterator[str]:
    """The paths of texts with the character U+0000; a key with it has the path of its object."""
    if isinstance(value, str):
        if "\0" in value:
            yield path
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from _with_nul(item, f"{path}[{n}]")
    elif isinstance(value, dict):
        if any("\0" in key for key in value):
            yield path
        for key, item in value.items():
            if "\0" not in key:
                yield from _with_nul(item, f"{path}.{key}")


def readable(message: str, kind: Any) -> str:
    """The message of a ValidationError of the type, with patterns replaced by the descriptions of their fields."""
    match = _PATTERN.match(message)
    if match is None or (meaning := _meanings(kind).get(match[1])) is None:
        return message
    return f"Expected {meaning}{message[match.end() :]}"


def refused(error: msgspec.ValidationError, kind: Any, sent: Mapping[str, str]) -> InvalidRequest:
    """The error for a body, with the path of the fault; `sent` maps fields to the aliases that were sent."""
    message, _, at = readable(str(error), kind).partition(" - at `")
    path = at.removesuffix("`") or "$"
    known = ", ".join(_known(message, path, kind))
    path = _FIRST.sub(lambda match: f"$.{sent.get(match[1], match[1])}", path)
    if message.startswith(("Object contains unknown field `", "Object missing required field `")):
        path = f"{path}.{message.split('`')[1]}"
    path, message = path[:300], message[:300]  # either may quote the client
    if known:
        message = f"{message[:150]}; known are {known}"[:390]
    return InvalidRequest(f"{path}: {message}", details=[Detail(path, message)])


def _known(message: str, path: str, kind: Any) -> Iterator[str]:
    """The known fields or values in place of which a body has an unknown one."""
    for type in _at(kind, path):
        if isinstance(type, inspect.StructType) and message.startswith("Object contains unknown field `"):
            yield from (field.encode_name for field in type.fields)
        elif isinstance(type, inspect.LiteralType) and message.startswith("Invalid enum value "):
            yield from map(str, type.values)


def _at(kind: Any, path: str) -> list[inspect.Type]:
    """The possible types at a path in msgspec's notation: $.name, [2] or [...]."""
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


def _meanings(kind: Any) -> dict[str, str]:
    """Descriptions of all patterns within a type, by pattern as msgspec prints it."""
    meanings: dict[str, str] = {}
    waiting: list[Any] = [msgspec.json.schema(kind)]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if isinstance(one.get("pattern"), str) and isinstance(one.get("description"), str):
                meanings[repr(one["pattern"])] = one["description"]
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return meanings


def canonical(fields: dict[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a body with aliases resolved; InvalidRequest if a field and its alias differ."""
    for alias, name in aliases.items():
        if alias not in fields:
            continue
        if name in fields and fields[name] != fields[alias]:
            details = [Detail(f"$.{alias}", f"is another name of {name}")]
            raise InvalidRequest(f"{alias} and {name} are one field; send one of them", details=details)
        fields[name] = fields.pop(alias)
    return fields


def depth(raw: bytes) -> int:
    """The nesting depth of a JSON text, in linear time even if it consists of brackets."""
    marks = _STRINGS.sub(b"", raw).translate(_MARKS, _NO_BRACKETS)
    return max(accumulate(memoryview(marks).cast("b")), default=0)
