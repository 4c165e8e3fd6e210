"""Tool definitions from `tools/list`, validated and bounded."""

from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from bytebrew import Masker, visible

from .header_params import marked

MAX_TOOLS = 1000
MAX_NAME = 255
MAX_BYTES = 65536
MAX_DEPTH = 100
"""Limit of a schema's nesting, so that it fits into the API's answers."""


class Hints(Struct, frozen=True, rename="camel"):
    """Annotations of a tool's behaviour."""

    read_only_hint: bool | None = None
    destructive_hint: bool | None = None
    idempotent_hint: bool | None = None


class Definition(Struct, frozen=True, rename="camel"):
    """A tool as its server lists it."""

    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    annotations: Hints | None = None


class Listed(NamedTuple):
    """A definition, its canonical JSON and the hash of that."""

    definition: Definition
    text: str
    digest: str


class Listing:
    """The tools of one server by name, read page by page; `faults` are the reasons why tools are omitted.

    `mask` removes the server's credentials from them.
    """

    def __init__(self, mask: Masker, *, modern: bool) -> None:
        self.tools: dict[str, Listed] = {}
        self.faults: list[str] = []
        self._mask = mask
        self._modern = modern
        self._left = MAX_TOOLS

    def take(self, page: Any) -> bool:
        """Adds a page; returns whether more may follow. The first of two tools with one name counts."""
        listed = page if isinstance(page, list) else []
        for one in listed[: self._left]:
            try:
                tool = self._read(one)
            except (ValueError, RecursionError) as error:
                name = one.get("name") if isinstance(one, dict) else one
                self.faults.append(f"{name!r:.80}, for {error}")
            else:
                if self.tools.setdefault(tool.definition.name, tool).digest != tool.digest:
                    self.faults.append(f"{tool.definition.name!r:.80}, another of this name")
        self._left -= len(listed)
        if self._left < 0:
            self.faults.insert(0, f"all beyond {MAX_TOOLS}")
        return self._left > 0

    def _read(self, tool: Any) -> Listed:
        definition = msgspec.json.decode(self._mask(msgspec.json.encode(tool).decode()), type=Definition)
        raw = msgspec.json.encode(definition, order="deterministic")
        if not 0 < len(definition.name) <= MAX_NAME:
            raise ValueError(f"its name has not 1 to {MAX_NAME} characters")
        if visible(definition.name) != definition.name:  # a person could mistake it for another tool
            raise ValueError("its name has characters that nobody sees")
        if definition.input_schema.get("type", "object") != "object":
            raise ValueError("its inputSchema is not of type object")
        if len(raw) > MAX_BYTES:
            raise ValueError(f"it is longer than {MAX_BYTES} bytes")
        if _deep(definition.input_schema, MAX_DEPTH):
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        if self._modern:
            marked(definition.input_schema)
        return Listed(definition, raw.decode(), sha256(raw).hexdigest())


def _deep(value: Any, levels: int) -> bool:
    """Whether a value is nested deeper than this."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deep(one, levels - 1) for one in inner)
