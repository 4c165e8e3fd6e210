"""The form of an elicitation: the schema that a server sends, brought to the fields that a person can fill in."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bytebrew import visible

MAX_FIELDS, MAX_CHOICES = 50, 500
MAX_NAME, MAX_TEXT = 200, 2000
MAX_BYTES = 64 * 1024
FORMATS = ("email", "uri", "date", "date-time")
_BOUNDS: Mapping[str, tuple[str, ...]] = {
    "string": ("minLength", "maxLength"),
    "number": ("minimum", "maximum"),
    "integer": ("minimum", "maximum"),
    "array": ("minItems", "maxItems"),
    "boolean": (),
}
_VALUES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "array": (list,),
    "boolean": (bool,),
}


def form_of(schema: Any) -> dict[str, Any]:
    """The schema with the keywords that forms have (MCP 2025-11-25 and earlier spellings); ValueError if it is none."""
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise ValueError("its requestedSchema is not of type object")
    fields = schema.get("properties", {})
    if not isinstance(fields, dict) or len(fields) > MAX_FIELDS:
        raise ValueError(f"its form has not 0 to {MAX_FIELDS} fields")
    if any(not 0 < len(name) <= MAX_NAME or visible(name) != name for name in fields):
        raise ValueError(f"a field's name has not 1 to {MAX_NAME} characters, all of which a person sees")
    required = schema.get("required", [])
    names = [name for name in fields if isinstance(required, list) and name in required]
    form = {
        "type": "object",
        "properties": {name: _field(name, field) for name, field in fields.items()},
        "required": names,
    }
    if len(msgspec.json.encode(form)) > MAX_BYTES:
        raise ValueError(f"its form is longer than {MAX_BYTES} bytes")
    return form


def _field(name: str, field: Any) -> dict[str, Any]:
    if not isinstance(field, dict):
        raise ValueError(f"the field {name!r:.80} is not an object")
    field = _without_null(field)
    kind = field.get("type", "string" if _titled(field) or "enum" in field or "const" in field else None)
    if not isinstance(kind, str) or kind not in _BOUNDS:
        raise ValueError(f"the field {name!r:.80} is of type {kind!r:.40}, which no form has")
    made: dict[str, Any] = {"type": kind, **_texts(field)}
    made |= {bound: field[bound] for bound in _BOUNDS[kind] if _is_number(field.get(bound))}
    if kind == "array":
        items = field.get("items")
        if not isinstance(items, dict) or not (choices := _choices(items, "anyOf")):
            raise ValueError(f"the field {name!r:.80} is a list of anything, which no form has")
        made["items"] = {"type": "string", **choices}
    elif kind == "string":
        made |= _choices(field, "oneOf")
        made |= {"format": field["format"]} if field.get("format") in FORMATS else {}
    default = field.get("default")
    if isinstance(default, _VALUES[kind]) and isinstance(default, bool) == (kind == "boolean"):
        made |= {"default": default} if visible(default) == default else {}  # it would be sent unseen
    return made


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """The field without the choice of null, which an answer makes by leaving the field out."""
    kind, either = field.get("type"), field.get("anyOf")
    if isinstance(kind, list) and len(others := [one for one in kind if one != "null"]) == 1:
        return {**field, "type": others[0]}
    if kind is None and isinstance(either, list):
        others = [one for one in either if isinstance(one, dict) and one.get("type") != "null"]
        if len(others) == 1 and "const" not in others[0]:
            return {**{key: value for key, value in field.items() if key != "anyOf"}, **others[0]}
    return field


def _choices(field: Mapping[str, Any], keyword: str) -> dict[str, Any]:
    """The choices of a field: values alone, or values with titles under the keyword; empty without choices."""
    if titled := _titled(field):
        return {keyword: _limited([{"const": value, "title": title} for value, title in titled])}
    values = field.get("enum", [field["const"]] if "const" in field else [])
    values = [one for one in values if isinstance(one, str)] if isinstance(values, list) else []
    names = field.get("enumNames")
    if isinstance(names, list) and len(names) == len(values) and all(isinstance(one, str) for one in names):
        named = zip(values, names, strict=True)
        return {keyword: _limited([{"const": value, "title": _shown(title)} for value, title in named])}
    return {"enum": _limited(values)} if values else {}


def _titled(field: Mapping[str, Any]) -> list[tuple[str, str]]:
    either = field.get("oneOf") or field.get("anyOf")
    if not isinstance(either, list):
        return []
    return [
        (one["const"], _shown(str(one.get("title", one["const"]))))
        for one in either
        if isinstance(one, dict) and isinstance(one.get("const"), str)
    ]


def _limited(choices: Sequence[Any]) -> list[Any]:
    """The choices, whose values come back as they are: none of them has characters that nobody sees."""
    if any(visible(value) != value for one in choices for value in (one["const"] if isinstance(one, dict) else one,)):
        raise ValueError("a choice has characters that nobody sees")
    if len(choices) > MAX_CHOICES:
        raise ValueError(f"a field has more than {MAX_CHOICES} choices")
    return list(choices)


def _texts(field: Mapping[str, Any]) -> dict[str, str]:
    texts = {name: field[name] for name in ("title", "description") if isinstance(field.get(name), str)}
    return {name: _shown(text) for name, text in texts.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(text: str) -> str:
    """A text for people, with marks for characters that nobody sees."""
    return str(visible(text[:MAX_TEXT]))
