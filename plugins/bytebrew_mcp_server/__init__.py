"""An MCP server at /mcp: each schema is a tool, a long call a task, and knowledge bases are resources."""

from msgspec import Struct

from bytebrew import Register, Route, hookimpl

from .routes import ROUTES, McpServer


@hookimpl
def register_settings(register: Register[type[Struct]]) -> None:
    register(McpServer)


@hookimpl
def register_routes(register: Register[Route]) -> None:
    for route in ROUTES:
        register(route)
