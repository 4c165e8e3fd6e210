"""Tools by which an agent lists and reads the resources of a server, where its operator has opted in."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from bytebrew import Call, Result, Tool, ToolError

from ..connection import ServerConnection
from ..tool_definitions import Definition
from .requests import LIST, READ

NAMES = (LIST.name, READ.name)
MAX_URI = 4000
_SPARE = 4

Forms = Callable[[str, str], Iterator[str]]
"""The names for a tool of a server, the best first."""


class ResourceTool(Tool):
    """A tool of ours about the resources of one server; a filter of the server's own tools says nothing of it."""

    foreign = True
    idempotent = True

    def __init__(self, connection: ServerConnection, definition: Definition, longest: float, forms: Forms) -> None:
        server = connection.server.name
        _, self.name, *self._spare = islice(forms(server, definition.name), _SPARE)  # the first lacks the server's name
        self.description = (definition.description or "").format(server)
        self.input_schema = definition.input_schema
        self.timeout = longest
        self.source = f"mcp:{server}"
        self._connection = connection
        self._definition = definition

    @property
    def spare(self) -> tuple[str, ...]:
        return tuple(self._spare)

    async def run(self, call: Call, input: dict[str, Any]) -> Result:
        if unfit := [name for name in input if name not in self.input_schema["properties"]]:
            raise ToolError(f"There is no argument '{unfit[0][:100]}'")
        for name, value in input.items():
            if not isinstance(value, str) or len(value) > MAX_URI:
                raise ToolError(f"'{name}' is a text of at most {MAX_URI} characters")
        if self._definition is READ and not input.get("uri"):
            raise ToolError("Name the resource by its 'uri'")
        return await self._connection.run(self._definition, call, input)


def tools_of(connection: ServerConnection, longest: float, forms: Forms) -> Iterator[ResourceTool]:
    """The tools for the resources of a server, if it has some and they are opted in."""
    if connection.server.resources and connection.status.status == "connected" and connection.offers("resources"):
        for definition in (LIST, READ):
            yield ResourceTool(connection, definition, longest, forms)
