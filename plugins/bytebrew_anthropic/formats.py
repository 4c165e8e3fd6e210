"""Response formats as the Messages API takes them."""

import re
from typing import Any

from bytebrew import ModelRequest

_FORMATS = re.compile(r"claude-((opus|sonnet|haiku)-(4-[5-9]\b|[5-9])|opus-4-1\b|fable|mythos)")
"""Claude models with structured outputs, tools beside them too.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""
_STRINGS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_KEYWORDS = ("type", "title", "description", "enum", "const", "default", "required")


def output_format(request: ModelRequest) -> dict[str, Any] | None:
    """The format for the API, with what it takes of the schema; None if that does not say enough.

    It takes no recursive schemas, and no bounds of numbers, strings and arrays; the engine checks these.
    """
    if request.response_format is None or not _FORMATS.search(request.model_name):
        return None
    schema = request.response_format.schema
    try:
        return {"type": "json_schema", "schema": _narrowed(schema, schema, ())}
    except ValueError:
        return None


def _narrowed(schema: Any, root: dict[str, Any], within: tuple[str, ...]) -> dict[str, Any]:
    """A subschema with the supported keywords alone, its references resolved; ValueError if it has no type."""
    if not isinstance(schema, dict):
        raise ValueError("no object")
    if isinstance(ref := schema.get("$ref"), str):
        if ref in within or not ref.startswith("#/$defs/") or "~" in ref or "%" in ref:
            raise ValueError("recursive, or not in $defs")
        return _narrowed(root.get("$defs", {}).get(ref.removeprefix("#/$defs/")), root, (*within, ref))
    made = {name: schema[name] for name in _KEYWORDS if name in schema}
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            made["anyOf" if name == "oneOf" else name] = [_narrowed(one, root, within) for one in schema[name]]
    if not made.keys() & {"type", "enum", "const", "anyOf", "allOf"}:
        raise ValueError("no type")
    if schema.get("format") in _STRINGS:
        made["format"] = schema["format"]
    if schema.get("minItems") in (0, 1):
        made["minItems"] = schema["minItems"]
    if "items" in schema:
        made["items"] = _narrowed(schema["items"], root, within)
    if schema.get("type") == "object" or "properties" in schema:
        if "properties" not in schema and schema.get("additionalProperties") is not False:
            raise ValueError("an object of any properties")
        properties = schema.get("properties", {})
        made["properties"] = {name: _narrowed(one, root, within) for name, one in properties.items()}
        made["additionalProperties"] = False
    return made
