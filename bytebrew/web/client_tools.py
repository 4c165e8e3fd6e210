"""The tools that a chat request declares, for its client to run."""

from collections.abc import Callable, Collection
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from bytebrew.base.errors import Detail, Forbidden, InvalidRequest
from bytebrew.base.validation import depth
from bytebrew.contract.messages import ToolSpec
from bytebrew.store.configuration.schemas import Entrance

MOST_BYTES = 32 * 1024
"""Limit in bytes of one input schema."""
MOST_TOTAL = 128 * 1024
"""Limit in bytes of all tools of a request, which a turn that waits keeps in memory."""
MOST_LEVELS = 20
"""Limit of its nesting."""


class NewClientTool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool that the client runs; `input_schema` is a JSON Schema of type object, 32 KB at most."""

    name: Annotated[
        str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}\Z", description="a name of letters, digits, _ and -, 64 at most")
    ]
    description: Annotated[str, Meta(max_length=10_000)] = ""
    input_schema: dict[str, Any]


ClientTools = Annotated[tuple[NewClientTool, ...], Meta(max_length=64)]


def declared(tools: ClientTools, entrance: Entrance, reserved: Callable[[str], bool]) -> tuple[ToolSpec, ...]:
    """The tools of a request, which the schema must allow.

    Raises InvalidRequest with the path of each one whose name is taken by the request, the agent or the engine, or
    whose schema is none.
    """
    if not entrance.client_tools:
        message = f"Schema '{entrance.schema}' allows no tools of clients; an admin turns on its client_tools"
        raise Forbidden(message, code="client_tools_disabled")
    faults: list[Detail] = []
    if len(msgspec.json.encode(tools)) > MOST_TOTAL:
        faults.append(Detail("$.client_tools", f"Expected {MOST_TOTAL} bytes at most, all tools together"))
    seen: set[str] = set()
    agents_own = {name.casefold() for name in entrance.agent.tools}
    for n, one in enumerate(tools):
        name = one.name.casefold()
        if fault := _name_fault(name, seen, agents_own, reserved):
            faults.append(Detail(f"$.client_tools[{n}].name", fault))
        if fault := _schema_fault(one.input_schema):
            faults.append(Detail(f"$.client_tools[{n}].input_schema", fault))
        seen.add(name)
    if faults:
        raise InvalidRequest(f"{faults[0].path}: {faults[0].message}", details=faults)
    return tuple(ToolSpec(one.name, one.description, one.input_schema) for one in tools)


def _name_fault(name: str, seen: Collection[str], agents_own: Collection[str], reserved: Callable[[str], bool]) -> str:
    if name in seen:
        return "two tools have this name"
    if name in agents_own or reserved(name):
        return "the engine or the agent has a tool of this name; take another"
    return ""


def _schema_fault(schema: dict[str, Any]) -> str:
    raw = msgspec.json.encode(schema)
    if schema.get("type") != "object":
        return 'Expected a JSON Schema with "type": "object"'
    if len(raw) > MOST_BYTES:
        return f"Expected a JSON Schema of {MOST_BYTES} bytes at most"
    return f"Expected a JSON Schema of {MOST_LEVELS} levels at most" if depth(raw) > MOST_LEVELS else ""
