"""Tools of all sources, for people to look at."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec import Struct

from bytebrew.contract.events import Risk
from bytebrew.contract.route import Request, Route
from bytebrew.contract.tool import Tool, Toolset
from bytebrew.engine import Engine


class Metadata(Struct, frozen=True, kw_only=True):
    """A tool, where it comes from, and how much harm it can do."""

    name: str
    description: str
    source: str
    security_zone: Risk
    input_schema: dict[str, Any]
    idempotent: bool
    confirm: bool


def _metadata(tool: Tool) -> Metadata:
    return Metadata(
        name=tool.name,
        description=tool.description,
        source=tool.source,
        security_zone=tool.risk,
        input_schema=tool.input_schema,
        idempotent=tool.idempotent,
        confirm=tool.confirm,
    )


async def list_metadata(tools: Sequence[Tool], toolsets: Sequence[Toolset], request: Request[None]) -> list[Metadata]:
    """Every tool that an agent may have."""
    found = [*tools]
    for toolset in toolsets:
        found += await toolset.all()
    return [_metadata(tool) for tool in sorted(found, key=lambda tool: (tool.name, tool.source))]


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    return (
        Route(
            "GET",
            "/api/v1/tools/metadata",
            "agents:read",
            partial(list_metadata, [*engine.tools.values(), engine.read_result], engine.toolsets),
            "List tools of all sources",
            answer=list[Metadata],
        ),
    )
