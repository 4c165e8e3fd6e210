"""Renders the OpenAPI document as an HTML page: contents, search, and an example of each operation."""

import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from msgspec.json import encode

from . import example
from .example import ORIGIN, Schemas

Row = tuple[str, str, str]

_LIMITS = ("minLength", "maxLength", "minimum", "maximum", "exclusiveMaximum", "maxItems", "pattern")
_LOGIN = f"""TOKEN=$(curl -s -X POST {ORIGIN}/api/v1/auth/local-session \\
  | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')"""


def written(described: Mapping[str, Any]) -> str:
    """The HTML page of a document."""
    about, schemas = described["info"], described["components"]["schemas"]
    tags = _by_tag(described)
    words = {tag["name"]: tag.get("description", "") for tag in described.get("tags", ())}
    parts = [_head(f"{about['title']} API"), "<div class=page><nav><strong>ByteBrew API</strong>"]
    parts.append(
        '<label hidden>Search <input type=search placeholder="path, field, word" autocomplete=off></label><ul>'
    )
    for tag, operations in tags.items():
        parts.append(f"<li><a href='#{_anchor(tag)}'>{escape(tag)}</a><ul>")
        for method, path, operation in operations:
            name = f"<b class={method}>{method.upper()}</b> {escape(path.removeprefix('/api/v1'))}"
            parts.append(f"<li><a href='#{escape(operation['operationId'])}' title='{escape(path)}'>{name}</a></li>")
        parts.append("</ul></li>")
    parts.append("<li><a href='#shapes'>Shapes</a></li></ul></nav><main><header>")
    parts.append(f"<h1>{escape(about['title'])} {escape(about['version'])}</h1><p>{_prose(about['description'])}</p>")
    parts.append(
        "<ul><li><a href='/api/v1/openapi.json'>openapi.json</a></li><li><a href='/'>Where things are</a></li>"
    )
    parts.append(
        "</ul><p>The examples read a token from <code>TOKEN</code>. In a shell of the engine's own user, on "
        "Linux it comes from this; <code>bytebrew session create</code> prints one everywhere.</p>"
    )
    parts.append(f"{_code(_LOGIN)}</header>")
    for tag, operations in tags.items():
        parts.append(f"<section id='{_anchor(tag)}'><h2>{escape(tag)}</h2>")
        parts.append(f"<p>{_prose(words[tag])}</p>" if words.get(tag) else "")
        for method, path, operation in operations:
            parts += _operation(method, path, operation, schemas)
        parts.append("</section>")
    parts.append("<section id=shapes><h2>Shapes</h2>")
    for name, schema in sorted(schemas.items()):
        parts.append(
            f"<details class='item shape' id='{escape(name)}'><summary><code>{escape(name)}</code></summary><div>"
        )
        parts += [_description(schema), *_table(_fields(schema)), "</div></details>"]
    parts.append("</section><p class=none hidden>Nothing here has these words.</p></main></div></body>")
    return "".join(parts)


def _head(title: str) -> str:
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)}</title><link rel=icon href='data:,'><link rel=stylesheet href=/docs/page.css>"
        "<script src=/docs/page.js type=module></script><body>"
    )


def _by_tag(described: Mapping[str, Any]) -> dict[str, list[tuple[str, str, Mapping[str, Any]]]]:
    """The operations of each tag, in the order of the document's tags and paths."""
    found: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {tag["name"]: [] for tag in described.get("tags", ())}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            found.setdefault(operation["tags"][0], []).append((method, path, operation))
    return {tag: operations for tag, operations in found.items() if operations}


def _operation(method: str, path: str, operation: Mapping[str, Any], schemas: Schemas) -> Iterator[str]:
    scope = escape(operation.get("x-scope") or ("token" if operation.get("security") else "public"))
    yield f"<details class=item id='{escape(operation['operationId'])}'><summary><b class={method}>{method.upper()}</b>"
    yield f"<code>{escape(path)}</code><span>{escape(operation['summary'])}</span>"
    yield f"<span class=scope>{scope}</span></summary><div>"
    yield _description(operation)
    yield from _table(_exchange(operation))
    yield f"<h3>Example</h3>{_code(example.curl(method, path, operation, schemas))}"
    if answer := example.answered(operation, schemas):
        yield f"<h3>It answers</h3><div class=code><pre>{escape(answer)}</pre></div>"
    yield "</div></details>"


def _code(text: str) -> str:
    """A command; the page's script replaces its origin."""
    return f"<div class=code><pre>{escape(text).replace(ORIGIN, f'<span class=origin>{ORIGIN}</span>')}</pre></div>"


def _anchor(tag: str) -> str:
    return f"tag-{re.sub(r'[^a-z0-9]+', '-', tag.lower())}"


def _exchange(operation: Mapping[str, Any]) -> Iterator[Row]:
    """The parameters, body and answers of an operation."""
    for one in operation.get("parameters", ()):
        needed = "" if one["required"] else " <small>optional</small>"
        yield f"<code>{escape(one['name'])}</code>", f"{one['in']}{needed}: {_kind(one['schema'])}", _description(one)
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


def _bodies(described: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for media, one in described.get("content", {}).items():
        schema = one.get("schema", {})
        yield escape(media), _kind(schema)


def _fields(schema: Mapping[str, Any]) -> Iterator[Row]:
    if "properties" not in schema:
        yield _kind(schema), "", ""
    for name, field in schema.get("properties", {}).items():
        needed = "" if name in schema.get("required", ()) else " <small>optional</small>"
        usual = field.get("x-default")
        default = f" <small>= {escape(encode(usual).decode())}</small>" if usual else ""
        yield f"<code>{escape(name)}</code>{needed}", f"{_kind(field)}{default}", _description(field)


def _table(rows: Iterable[Row]) -> Iterator[str]:
    yield "<div class=scroll><table class=stacked>"
    yield from (f"<tr>{''.join(f'<td>{cell}' for cell in row)}" for row in rows)
    yield "</table></div>"


def _prose(text: str) -> str:
    """A text of the document, with names between backticks as code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escape(text))


def _description(described: Mapping[str, Any]) -> str:
    return f"<p class=description>{_prose(described['description'])}</p>" if described.get("description") else ""


def _kind(schema: Mapping[str, Any]) -> str:
    """A short description of a schema's type."""
    if target := schema.get("$ref"):
        name = escape(target.rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    if choices := schema.get("anyOf", schema.get("oneOf")):
        return " or ".join(map(_kind, choices))
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in values)
    if inner := schema.get("contentSchema"):
        return f"string with the JSON of {_kind(inner)}"
    limits = "".join(f" <small>{key} {escape(str(schema[key]))}</small>" for key in _LIMITS if key in schema)
    kind = schema.get("type", schema.get("format", "any value"))
    if kind == "array":
        return f"array of {_kind(schema['items'])}{limits}" if "items" in schema else f"array{limits}"
    if isinstance(inner := schema.get("additionalProperties"), dict):
        return f"object of {_kind(inner)}{limits}"
    return f"{escape(kind if isinstance(kind, str) else ' or '.join(kind))}{limits}"
