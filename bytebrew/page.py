"""The OpenAPI document as a page that people read, without a script and without another host."""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from msgspec.json import encode

Row = tuple[str, str, str]

_LIMITS = ("minLength", "maxLength", "minimum", "maximum", "exclusiveMaximum", "maxItems", "pattern")
_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
:root{color-scheme:light dark}
summary{cursor:pointer;padding:.2rem 0}code{font-family:ui-monospace,monospace}b{display:inline-block;min-width:4.5rem}
details>:not(summary){margin-left:1.5rem}td{padding:.1rem 1rem .1rem 0;vertical-align:top}td:first-child{min-width:9rem}
p{white-space:pre-line;margin:.3rem 0}small{opacity:.7}:target{outline:2px solid}"""
POLICY = f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
"""The Content-Security-Policy that the page needs."""


def written(described: dict[str, Any]) -> str:
    """The page of a document."""
    about = described["info"]
    parts = [f"<h1>{escape(about['title'])} {escape(about['version'])}</h1>"]
    parts.append(f"<p>{escape(about['description'])} <a href='/api/v1/openapi.json'>openapi.json</a></p>")
    tag = ""
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                parts.append(f"<h2>{escape(tag)}</h2>")
            scope = escape(operation.get("x-scope", "public"))
            parts.append(f"<details><summary><b>{method.upper()}</b><code>{escape(path)}</code> ")
            parts.append(f"{escape(operation['summary'])} <small>{scope}</small></summary>")
            parts += [_words(operation), *_table(_exchange(operation)), "</details>"]
    parts.append("<h2>Shapes</h2>")
    for name, schema in sorted(described["components"]["schemas"].items()):
        parts.append(f"<details><summary><code>{escape(name)}</code></summary><div id='{escape(name)}'>")
        parts += [_words(schema), *_table(_fields(schema)), "</div></details>"]  # a link to what is inside opens it
    return f"<!doctype html><meta charset=utf-8><title>ByteBrew API</title><style>{_STYLE}</style>{''.join(parts)}"


def _exchange(operation: dict[str, Any]) -> Iterator[Row]:
    """What a request takes and what it gives."""
    for one in operation.get("parameters", ()):
        needed = "" if one["required"] else " <small>optional</small>"
        yield f"<code>{escape(one['name'])}</code>", f"{one['in']}{needed}: {_kind(one['schema'])}", _words(one)
    for media, kind in _bodies(operation.get("requestBody", {})):
        yield "body", kind, media
    refusals = []
    for status, answer in operation["responses"].items():
        if "$ref" in answer:
            refusals.append(status)
        for media, kind in _bodies(answer):
            yield status, kind, media
        if answer.keys().isdisjoint(("$ref", "content")):
            yield status, "nothing", ""
    yield ", ".join(refusals), "<a href='#Error'>Error</a>", "application/json"


def _bodies(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for media, one in told.get("content", {}).items():
        schema = one.get("schema", {})
        if media == "text/event-stream":
            yield media, ", ".join(f"{escape(event['title'])} {_kind(_data(event))}" for event in schema["oneOf"])
        else:
            yield escape(media), _kind(schema)


def _data(event: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = event["properties"]["data"]["contentSchema"]
    return found


def _fields(schema: dict[str, Any]) -> Iterator[Row]:
    if "properties" not in schema:
        yield _kind(schema), "", ""
    for name, field in schema.get("properties", {}).items():
        needed = "" if name in schema.get("required", ()) else " <small>optional</small>"
        default = f" <small>= {escape(encode(field['default']).decode())}</small>" if field.get("default") else ""
        yield f"<code>{escape(name)}</code>{needed}", f"{_kind(field)}{default}", _words(field)


def _table(rows: Iterable[Row]) -> Iterator[str]:
    yield "<table>"
    yield from (f"<tr>{''.join(f'<td>{cell}' for cell in row)}" for row in rows)
    yield "</table>"


def _words(told: dict[str, Any]) -> str:
    return f"<p>{escape(told['description'])}</p>" if told.get("description") else ""


def _kind(schema: dict[str, Any]) -> str:
    """What a value may be, in a few words."""
    if target := schema.get("$ref"):
        name = escape(target.rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    if choices := schema.get("anyOf", schema.get("oneOf")):
        return " or ".join(map(_kind, choices))
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in values)
    limits = "".join(f" <small>{key} {escape(str(schema[key]))}</small>" for key in _LIMITS if key in schema)
    kind = schema.get("type", schema.get("format", "any value"))
    if kind == "array":
        return f"array of {_kind(schema['items'])}{limits}" if "items" in schema else f"array{limits}"
    if isinstance(inner := schema.get("additionalProperties"), dict):
        return f"object of {_kind(inner)}{limits}"
    return f"{escape(kind if isinstance(kind, str) else ' or '.join(kind))}{limits}"
