"""The API, a page for each tag of the OpenAPI document: routes, parameters, bodies, answers, and a curl line each."""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bytebrew_docs import example

from bytebrew.engine import Engine
from bytebrew.web.api_document.openapi import EVENTS, document
from bytebrew.web.routes import every

_LIMITS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "above {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "pattern `{}`",
}
_REF = re.compile(r'"#/components/schemas/(\w+)"')
_SHARED = "types"

Schema = Mapping[str, Any]


class Operation(NamedTuple):
    """One method of one path."""

    method: str
    path: str
    described: Schema

    @property
    def scope(self) -> str:
        """What a caller needs, in words."""
        if not self.described["security"]:
            return "for anyone"
        return f"scope `{self.described['x-scope']}`" if self.described["x-scope"] else "any token"


def pages() -> dict[str, str]:
    """The list of tags for the page about the API, a page for each tag, and one of the types that several use."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine({"BYTEBREW_DATA_DIR": folder})
        described = document(every(engine), "", [*dict.fromkeys([*EVENTS, *engine.events])])
    schemas = described["components"]["schemas"]
    tags = {tag["name"]: list[Operation]() for tag in described["tags"]}
    about = {tag["name"]: tag["description"] for tag in described["tags"]}
    for path, methods in described["paths"].items():
        for method, one in methods.items():
            tags[one["tags"][0]].append(Operation(method.upper(), path, one))
    tags = {tag: operations for tag, operations in tags.items() if operations}
    uses = {tag: _reached(schemas, [one.described for one in operations]) for tag, operations in tags.items()}
    users = Counter(name for names in uses.values() for name in names)
    texts = {_SHARED: _page("Types", "What several parts of the API use.", [], schemas, _shared(users, schemas))}
    for tag, operations in tags.items():
        own = [name for name in sorted(uses[tag]) if users[name] == 1]
        texts[_slug(tag)] = _page(tag, about[tag], operations, schemas, own)
    found = {f"reference/api/{name}.md": text for name, text in texts.items()}
    return {"reference/api.md": _list(tags, about), **found}


def _slug(tag: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", tag.lower()).strip("-")


def _shared(users: Mapping[str, int], schemas: Schema) -> list[str]:
    return [name for name in sorted(schemas) if users[name] != 1]


def _reached(schemas: Schema, operations: Sequence[Schema]) -> set[str]:
    waiting, reached = _REF.findall(json.dumps(operations)), set[str]()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += _REF.findall(json.dumps(schemas[name]))
    return reached


def _list(tags: Mapping[str, Sequence[Operation]], about: Mapping[str, str]) -> str:
    rows = [f"| [{tag}](api/{_slug(tag)}.md) | {_prose(about[tag])} | {len(tags[tag])} |" for tag in tags]
    entries = [f"api/{_slug(tag)}" for tag in tags]
    contents = ["```{toctree}\n:hidden:\n", *entries, f"api/{_SHARED}", "```\n"]
    return "\n".join(["## Every route\n", "| part | subject | routes |\n|---|---|---|", *rows, "", *contents])


def _page(title: str, about: str, operations: Sequence[Operation], schemas: Schema, types: Sequence[str]) -> str:
    lines = [f"# {title}\n\n{_prose(about)}\n"]
    if operations:
        rows = (f"| [`{one.method} {one.path}`](#{_label(one)}) | {one.scope} |" for one in operations)
        lines += ["| route | who |\n|---|---|", *rows, ""]
    for one in operations:
        lines += _operation(one, schemas)
    if operations and types:
        lines.append("## Types\n")
    for name in types:
        described = _prose(schemas[name].get("description", ""))
        lines += [f"(type-{name.lower()})=\n{'###' if operations else '##'} {name}\n\n{described}\n"]
        lines += _fields(schemas[name])
    return "\n".join(lines)


def _label(operation: Operation) -> str:
    return str(operation.described["operationId"]).replace("_", "-")


def _operation(operation: Operation, schemas: Schema) -> Iterator[str]:
    method, path, described = operation
    yield f"({_label(operation)})=\n## {_prose(described['summary'])}\n"
    yield f"`{method} {path}`, {operation.scope}\n\n{_prose(described['description'])}\n"
    if parameters := described.get("parameters"):
        yield "| parameter | in | type | meaning |\n|---|---|---|---|"
        for one in parameters:
            name = f"`{one['name']}`" + (", required" if one["required"] and one["in"] != "path" else "")
            yield f"| {name} | {one['in']} | {_kind(one['schema'])} | {_prose(one.get('description', ''))} |"
        yield ""
    yield "| body or answer | content | type |\n|---|---|---|"
    for media, one in described.get("requestBody", {}).get("content", {}).items():
        yield f"| body | `{media}` | {_kind(one.get('schema', {}))} |"
    refusals = []
    for status, answer in described["responses"].items():
        if "$ref" in answer:
            refusals.append(status)
        for media, one in answer.get("content", {}).items():
            yield f"| {status} | `{media}` | {_kind(one.get('schema', {}))} |"
        if answer.keys().isdisjoint(("$ref", "content")):
            yield f"| {status} | nothing | |"
    if refusals:
        yield f"| {', '.join(refusals)} | `application/json` | {_type('Error')} |"
    yield f"\n```bash\n{example.curl(method.lower(), path, described, schemas)}\n```\n"
    if answer := example.answered(described, schemas):
        yield f"It answers:\n\n```json\n{answer}\n```\n"


def _fields(schema: Schema) -> Iterator[str]:
    if not schema.get("properties"):
        yield f"{_kind(schema)}\n"
        return
    yield "| field | type | meaning |\n|---|---|---|"
    for name, field in schema["properties"].items():
        needed = "" if name in schema.get("required", ()) else ", optional"
        default = f", `{json.dumps(field['x-default'])}` if left out" if field.get("x-default") else ""
        yield f"| `{name}`{needed} | {_kind(field)}{default} | {_prose(field.get('description', ''))} |"
    yield ""


def _kind(schema: Schema) -> str:
    """A short description of a schema's type."""
    if target := schema.get("$ref"):
        return _type(target.rpartition("/")[2])
    if choices := schema.get("anyOf", schema.get("oneOf")):
        return " or ".join(map(_kind, choices))
    if "const" in schema or "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema.get("enum", [schema.get("const")]))
    if inner := schema.get("contentSchema"):
        return f"string with the JSON of {_kind(inner)}"
    limits = "".join(f", {limit.format(_cell(schema[key]))}" for key, limit in _LIMITS.items() if key in schema)
    kind = schema.get("type", schema.get("format", "any value"))
    if kind == "array":
        return f"array of {_kind(schema['items'])}{limits}" if "items" in schema else f"array{limits}"
    if isinstance(inner := schema.get("additionalProperties"), dict):
        return f"object of {_kind(inner)}{limits}"
    return f"{kind if isinstance(kind, str) else ' or '.join(kind)}{limits}"


def _type(name: str) -> str:
    return f"[{name}](#type-{name.lower()})"


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|")


def _prose(text: str) -> str:
    """A text of the document as Markdown: what is outside of backticks is text alone."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\*<\[\]_])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts).replace("|", "\\|")
