"""Resources and prompts of MCP servers over REST."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from bytebrew import Conflict, Request, Route

from .. import store
from ..connection import ServerConnection
from ..jsonrpc import METHOD_NOT_FOUND, ConnectionLost, JsonRpcError
from ..toolset import SERVERS
from .listing import ServerPage, ShownPrompt, ShownResource, cursor, items, prompt, resource

Item = TypeVar("Item")
_AFTER = {"after": "the `next` of the page before"}


async def list_resources(request: Request[None]) -> ServerPage[ShownResource]:
    """The resources of a connected server, as it lists them now; empty if it has none."""
    return await _page(request, "resources", resource)


async def list_prompts(request: Request[None]) -> ServerPage[ShownPrompt]:
    """The prompts of a connected server, as it lists them now; empty if it has none."""
    return await _page(request, "prompts", prompt)


async def _page(
    request: Request[None], kind: str, read: Callable[[Mapping[str, Any]], Item | None]
) -> ServerPage[Item]:
    row = await request.engine.db.read(store.get, request.path["name"])
    connection = request.engine.state[SERVERS].connections.get(row.name)
    if connection is None or connection.status.status != "connected":
        raise Conflict(f"MCP server '{row.name}' is not connected at the moment", code="not_connected")
    answer = await _listed(connection, kind, request)
    found = [made for one in items(answer, kind, connection.mask) if (made := read(one)) is not None]
    return ServerPage(data=found, next=cursor(answer))


async def _listed(connection: ServerConnection, kind: str, request: Request[None]) -> dict[str, Any]:
    try:
        return await connection.page(kind, request.query.get("after", ""), request.actor.subject)
    except JsonRpcError as error:
        if error.code == METHOD_NOT_FOUND:
            return {}
        reason = f"refuses the list: {connection.mask(str(error))}"
        raise Conflict(f"MCP server '{connection.server.name}' {reason}") from error
    except (ConnectionLost, TimeoutError) as error:
        reason = connection.mask(str(error)) or "did not answer in time"
        raise Conflict(f"MCP server '{connection.server.name}' {reason}", code="not_connected") from error


def _route(kind: str, run: Any, summary: str, answer: Any) -> Route:
    path = f"/api/v1/mcp-servers/{{name}}/{kind}"
    return Route(
        method="GET",
        path=path,
        scope="mcp:read",
        run=run,
        summary=summary,
        answer=answer,
        query=_AFTER,
        also={409: None},
    )


ROUTES = (
    _route("resources", list_resources, "List the resources of an MCP server", ServerPage[ShownResource]),
    _route("prompts", list_prompts, "List the prompts of an MCP server", ServerPage[ShownPrompt]),
)
