"""Writes the types of the TypeScript client from the engine's API document: `make docs` runs it."""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bytebrew.contract.events import Event
from bytebrew.engine import Engine
from bytebrew.web.api_document.openapi import EVENTS, document
from bytebrew.web.routes import every

FILE = Path(__file__).parent.parent / "clients" / "typescript" / "src" / "types.ts"
ROOTS = (
    *("StreamEvent", "ChatRequest", "EditRequest", "ChatAnswer", "SessionAnswer", "Answered", "Error", "VisitorToken"),
    *("SessionPage", "SessionDetail", "MessagePage", "EventPage", "ForkRequest", "ForkPage", "Inbox", "Answer"),
    *("NewTask", "TaskPatch", "CreatedTask", "TaskPage", "Input"),
)
"""The components that the client names; those that they refer to come along."""
NAMES = {"StoreMessagesEntry": "Message", "Error": "Refusal", "Input": "TaskInput", "Answer": "ApprovalAnswer"}
"""Components under another name than the document's: one that says more outside of it."""
HEAD = "// Written by scripts/client_types.py from the engine's API document (`make docs`): change nothing here.\n"
_REF = re.compile(r'"#/components/schemas/(\w+)"')
_NAME = re.compile(r"[A-Za-z_]\w*")


def text(roots: Sequence[str] = ROOTS) -> str:
    """The types that some components reach, as the engine with its bundled plugins has them; all without roots."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine({"BYTEBREW_DATA_DIR": folder})
        kinds = [*dict.fromkeys([*EVENTS, *engine.events])]
        routes = [route for route in every(engine) if route.face is None]
        schemas = document(routes, "", kinds)["components"]["schemas"]
    by_name = {kind.__name__: kind for kind in kinds}
    declared = [_declared(name, schemas[name], by_name.get(name)) for name in _reached(schemas, roots or [*schemas])]
    return "\n".join([HEAD, *declared, _events(kinds)])


def _reached(schemas: Mapping[str, Any], roots: Sequence[str]) -> list[str]:
    """The components that the roots reach, by name, but those of frames: the union of events stands for these."""
    waiting, reached = [*roots], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += _REF.findall(json.dumps(schemas[name]))
    return sorted(name for name in reached if name != "StreamEvent" and not name.endswith("Frame"))


def _declared(name: str, schema: Mapping[str, Any], event: type[Event] | None) -> str:
    optional = set(schema["properties"]) - set(schema.get("required", ()))
    about = schema.get("description", "")
    if event and event.public and (hidden := sorted(set(schema["properties"]) - {*event.public} - optional)):
        optional |= {*hidden}
        about += f"\n\nThe public view has no {', '.join(f'`{one}`' for one in hidden)}."
    lines = [*_comment(about, ""), f"export interface {NAMES.get(name, name)} {{"]
    for field, one in schema["properties"].items():
        lines += _comment(one.get("description", ""), "  ")
        lines.append(f"  {_key(field)}{'?' if field in optional else ''}: {_type(one)};")
    return "\n".join([*lines, "}\n"])


def _events(kinds: list[type[Event]]) -> str:
    frames = (f'  | Frame<"{kind.name}", {kind.__name__}>' for kind in kinds)
    names = (f'  "{kind.name}",' for kind in kinds)
    return "\n".join(
        [
            "/** One event of a stream; `id` is its number in the session, empty for what has none (`queued`). */",
            "export interface Frame<Name extends string, Data> {",
            *("  id: string;", "  event: Name;", "  data: Data;", "}\n"),
            "/** The events that the engine and its bundled plugins send; `event` says which. */",
            *("export type KnownEvent =", *frames),
            *("  | never;\n", "/** Their names. */", "export const EVENT_NAMES = [", *names, "] as const;\n"),
        ]
    )


def _comment(about: str, indent: str) -> Iterator[str]:
    lines = about.replace("*/", "* /").splitlines()
    if len(lines) == 1:
        yield f"{indent}/** {lines[0]} */"
    elif lines:
        yield f"{indent}/**"
        yield from (f"{indent} * {line}".rstrip() for line in lines)
        yield f"{indent} */"


def _key(name: str) -> str:
    return name if _NAME.fullmatch(name) else json.dumps(name)


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return NAMES.get(name, name)
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(map(json.dumps, schema["enum"]))
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " | ".join(dict.fromkeys(map(_type, schema[key])))
    match schema.get("type"):
        case "array":
            inner = _type(schema["items"])
            return f"({inner})[]" if " | " in inner else f"{inner}[]"
        case "object":
            values = schema.get("additionalProperties", {})
            return f"Record<string, {_type(values) if isinstance(values, dict) else 'unknown'}>"
        case "integer" | "number":
            return "number"
        case "string" | "boolean" | "null" as plain:
            return str(plain)
        case None:
            return "unknown"
        case other:
            raise ValueError(f"no type of TypeScript for {other}")


if __name__ == "__main__":
    FILE.write_text(text())
