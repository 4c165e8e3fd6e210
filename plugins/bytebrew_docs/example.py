"""An example of each operation: request body, answer, and curl command."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from msgspec.json import encode
from msgspec.json import format as indented

ORIGIN = "http://localhost:8443"
_DEEPEST = 5
_TEXT, _TIME = "text", "2026-03-01T09:00:00Z"
_USUAL = {
    "date-time": _TIME,
    "date": "2026-03-01",
    "uuid": "01a229b0-7d1c-7f6e-8a55-3c2f1b9d4e60",
    "uri": "https://example.com",
}
_SAFE = re.compile(r"[A-Za-z0-9_./:@=-]+")

Schemas = Mapping[str, Any]


def curl(method: str, path: str, operation: Mapping[str, Any], schemas: Schemas) -> str:
    """The curl command for an operation; `$TOKEN` and the like are variables of the reader's shell."""
    lines = []
    if operation.get("security"):
        lines.append('-H "Authorization: Bearer $TOKEN"')
    for one in operation.get("parameters", ()):
        if one["in"] == "header" and (one["required"] or "examples" in one["schema"]):
            value = "Bearer $TOKEN" if one["name"] == "Authorization" else f"${one['name'].upper().replace('-', '_')}"
            lines.append(f'-H "{one["name"]}: {value}"')
    media, body = sent(path, operation, schemas)
    if media == "multipart/form-data":
        lines.append("-F file=@handbook.md")
    elif media:
        lines.append(f'-H "Content-Type: {media}"')
        lines.append("--data-binary @file" if body is None else f"-d {_quoted(body)}")
    answers = operation["responses"].values()
    options = "-N" if any("text/event-stream" in one.get("content", {}) for one in answers) else "-s"
    if method.upper() != "GET" and not (method.upper() == "POST" and media == "application/json"):
        options += f" -X {method.upper()}"
    url = f"{ORIGIN}{_filled(path)}{_query(operation, schemas)}"
    where = url if _SAFE.fullmatch(url) else f'"{url}"'
    return " \\\n  ".join([f"curl {options} {where}", *lines])


def sent(path: str, operation: Mapping[str, Any], schemas: Schemas) -> tuple[str, str | None]:
    """The media type and text of a body; the text is None for a file, the media type empty if there is no body."""
    for media, one in operation.get("requestBody", {}).get("content", {}).items():
        if "example" in one:
            example = one["example"]
        elif "json" in media:
            example = sample(one.get("schema", {}), schemas, required=True)
        else:
            return ("application/octet-stream" if media == "*/*" else media), None
        return media, example if isinstance(example, str) else encode(example).decode()
    return "", None


def answered(operation: Mapping[str, Any], schemas: Schemas) -> str:
    """The JSON of a successful answer, indented, with the values of the example's request; empty if it has no JSON."""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    for status, answer in operation["responses"].items():
        one = answer.get("content", {}).get("application/json")
        if status.startswith("2") and one is not None:
            value = one["example"] if "example" in one else sample(one.get("schema", {}), schemas)
            if isinstance(value, dict) and isinstance(body, dict):
                value |= {name: one for name, one in body.items() if name in value}
            return indented(encode(value), indent=2).decode() if value not in ({}, None) else ""
    return ""


def sample(schema: Mapping[str, Any], schemas: Schemas, *, required: bool = False, depth: int = 0) -> Any:
    """A sample value of a schema; with `required` an object has only its required fields."""
    if target := schema.get("$ref"):
        return sample(schemas[target.rpartition("/")[2]], schemas, required=required, depth=depth + 1)
    for key in ("example", "const", "x-default"):
        if schema.get(key) is not None:
            return schema[key]
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    if choices := schema.get("anyOf", schema.get("oneOf")):
        fit = [one for one in choices if one.get("type") != "null"]
        return sample(fit[0], schemas, required=required, depth=depth) if fit else None
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, Sequence) and not isinstance(kind, str) else kind
    if kind == "object" or "properties" in schema:
        fields = schema.get("properties", {})
        names = [name for name in fields if not required or name in schema.get("required", ())]
        found = {name: sample(fields[name], schemas, required=required, depth=depth + 1) for name in names}
        return {name: _TIME if name.endswith("_at") and one == _TEXT else one for name, one in found.items()}
    if kind == "array":
        items = schema.get("items")
        return [sample(items, schemas, required=required, depth=depth + 1)] if items and depth < _DEEPEST else []
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    if kind == "boolean":
        return False
    return _USUAL.get(schema.get("format", ""), _TEXT) if kind == "string" else None


def _filled(path: str) -> str:
    """The path with a name or a shell variable for each parameter."""
    parts = path.split("/")
    for at, part in enumerate(parts):
        if part.startswith("{"):
            parts[at] = f"my-{parts[at - 1].removesuffix('s')}" if part == "{name}" else f"${part[1:-1].upper()}"
    return "/".join(parts)


def _query(operation: Mapping[str, Any], schemas: Schemas) -> str:
    given = [
        f"{one['name']}={quote(str(one.get('example', sample(one['schema'], schemas))), safe='/:@,')}"
        for one in operation.get("parameters", ())
        if one["in"] == "query" and (one["required"] or "example" in one)
    ]
    return f"?{'&'.join(given)}" if given else ""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
