"""The catalog of known MCP servers."""

from importlib.resources import files
from typing import Literal

import msgspec
from msgspec import Struct

from bytebrew import Request, Route


class Variable(Struct, frozen=True, kw_only=True):
    """What a package needs to be told."""

    name: str
    required: bool = True
    secret: bool = True


class HeaderTemplate(Struct, frozen=True, kw_only=True):
    """A header to send, with `${VAR}` in place of a secret, which a URL never has."""

    name: str
    value: str


class Package(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A way to run or reach a server."""

    type: Literal["stdio", "remote", "docker"]
    command: str = ""
    args: tuple[str, ...] = ()
    image: str = ""
    transport: str = ""
    url_template: str = ""
    headers: tuple[HeaderTemplate, ...] = ()
    env_vars: tuple[Variable, ...] | None = None


class ProvidedTool(Struct, frozen=True, kw_only=True):
    """A tool that a server is known for."""

    name: str
    description: str


class Entry(Struct, frozen=True, kw_only=True):
    """A known server."""

    name: str
    display: str
    description: str
    category: str
    verified: bool
    packages: tuple[Package, ...]
    provided_tools: tuple[ProvidedTool, ...]


class Catalog(Struct, frozen=True, kw_only=True):
    """The known servers."""

    version: str
    servers: tuple[Entry, ...]


CATALOG = msgspec.json.decode(files(__package__).joinpath("catalog.json").read_bytes(), type=Catalog)


async def list_known(request: Request[None]) -> Catalog:
    """Known MCP servers; `category` and `q` narrow."""
    category, text = request.query.get("category", ""), request.query.get("q", "").casefold()

    def matches(entry: Entry) -> bool:
        described = f"{entry.name} {entry.display} {entry.description}".casefold()
        return category in ("", entry.category) and text in described

    return Catalog(version=CATALOG.version, servers=tuple(filter(matches, CATALOG.servers)))


ROUTE = Route(
    method="GET",
    path="/api/v1/mcp/catalog",
    scope="mcp:read",
    run=list_known,
    summary="List known MCP servers",
    answer=Catalog,
    query={"category": "of this category alone", "q": "words within the name or the description"},
)
