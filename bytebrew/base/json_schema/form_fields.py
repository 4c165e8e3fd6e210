"""Values against the flat JSON Schema of a form: what is wrong with each field, in words for who fills it in."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from urllib.parse import urlsplit

from bytebrew.base.errors import Detail

_EMAIL = re.compile(r"[^\s@]+@[^\s@]+")
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
}


def defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the fields that have one from the start."""
    return {name: field["default"] for name, field in schema.get("properties", {}).items() if "default" in field}


def choices(field: Mapping[str, Any]) -> list[Any] | None:
    """The values that a field offers, None if it offers none."""
    titled = field.get("oneOf") or field.get("anyOf")
    if titled is not None:
        return [one["const"] for one in titled]
    offered = field.get("enum")
    return None if offered is None else list(offered)


def faults(schema: Mapping[str, Any], values: Mapping[str, Any], path: str) -> list[Detail]:
    """What is wrong with the values of a form, each with the path of its field."""
    fields: Mapping[str, Any] = schema.get("properties", {})
    found = [Detail(f"{path}.{name[:100]}", "is no field of this form") for name in values if name not in fields]
    missing = [name for name in schema.get("required", ()) if name not in values]
    found += [Detail(f"{path}.{name}", "must be filled in") for name in missing]
    for name, value in values.items():
        if name in fields:
            found += [Detail(f"{path}.{name}", fault) for fault in _faults(fields[name], value)]
    return found


def _faults(field: Mapping[str, Any], value: Any) -> Iterator[str]:
    kind = field.get("type", "string")
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        yield f"must be of type {kind}"
    elif isinstance(value, list):
        yield from _list_faults(field, value)
    elif (offered := choices(field)) is not None and value not in offered:
        yield "must be one of the choices"
    elif isinstance(value, str):
        yield from _text_faults(field, value)
    elif isinstance(value, int | float) and kind != "boolean":
        yield from _number_faults(field, value)


def _list_faults(field: Mapping[str, Any], value: Sequence[Any]) -> Iterator[str]:
    offered = choices(field.get("items", {})) or []
    if any(one not in offered for one in value):
        yield "must have nothing but the choices"
    if len(value) < field.get("minItems", 0):
        yield f"must have {field['minItems']} choices at least"
    if len(value) > field.get("maxItems", len(value)):
        yield f"must have {field['maxItems']} choices at most"


def _text_faults(field: Mapping[str, Any], value: str) -> Iterator[str]:
    if len(value) < field.get("minLength", 0):
        yield f"must have {field['minLength']} characters at least"
    if len(value) > field.get("maxLength", len(value)):
        yield f"must have {field['maxLength']} characters at most"
    format = field.get("format")
    if format is not None and not _has_format(format, value):
        words = {"email": "an e-mail address", "uri": "a URL", "date": "a date such as 2026-07-28"}
        yield f"must be {words.get(format, 'a time such as 2026-07-28T12:00:00Z')}"


def _number_faults(field: Mapping[str, Any], value: float) -> Iterator[str]:
    if value != value or value in (float("inf"), float("-inf")):
        yield "must be a number that JSON has"
    elif value < field.get("minimum", value):
        yield f"must be {field['minimum']} at least"
    elif value > field.get("maximum", value):
        yield f"must be {field['maximum']} at most"


def _has_format(format: str, value: str) -> bool:
    try:
        if format == "email":
            return _EMAIL.fullmatch(value) is not None
        if format == "uri":
            return bool(urlsplit(value).scheme)
        if format == "date":
            return date.fromisoformat(value).isoformat() == value
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
