"""HTTP tools over REST, and a trial of one."""

import time
from typing import Any

from msgspec import Struct

from bytebrew import Conflict, Detail, Request, Route, ToolError, environment, within

from . import store
from .definition import HttpTool, HttpToolPatch, NewHttpTool
from .tool import DeclaredTool

_DYNAMIC_SOURCES = ("http", "mcp", "spawn")
"""Sources whose tools change at run time, and therefore reserve no names."""


class Trial(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments to run a tool with."""

    arguments: dict[str, Any] = {}


class TrialResult(Struct, frozen=True, kw_only=True):
    """What a model would be told; `status` is the HTTP status, null where no answer came."""

    status: int | None
    output: str
    has_error: bool
    duration_ms: int


async def list_tools(request: Request[None]) -> list[HttpTool]:
    """Every HTTP tool by name."""
    return await request.engine.db.scan(lambda conn: store.shown(conn, *store.list_all(conn)))


async def get_tool(request: Request[None]) -> HttpTool:
    """One HTTP tool."""
    [tool] = await request.engine.db.read(lambda conn: store.shown(conn, store.get(conn, request.path["name"])))
    return tool


async def create_tool(request: Request[NewHttpTool]) -> HttpTool:
    """A new HTTP tool; its credential is sealed."""
    engine, name = request.engine, request.body.name
    others = [tool for toolset in engine.toolsets for tool in await toolset.all()]
    taken = {tool.name for tool in others if tool.source.partition(":")[0] not in _DYNAMIC_SOURCES}
    if engine.reserves(name) or name in taken:
        raise Conflict(f"'{name}' is a built-in tool; choose another name", details=[Detail("$.name", "is taken")])
    return await request.write(lambda conn: store.shown(conn, store.create(conn, request.body, engine.secrets.seal))[0])


async def update_tool(request: Request[HttpToolPatch]) -> HttpTool:
    """The HTTP tool with the fields that were sent; an empty credential keeps the old one."""
    name, seal = request.path["name"], request.engine.secrets.seal
    return await request.write(lambda conn: store.shown(conn, store.update(conn, name, request.body, seal))[0])


async def delete_tool(request: Request[None]) -> None:
    """Removes an HTTP tool that no agent names."""
    await request.write(store.delete, request.path["name"])


async def try_tool(request: Request[Trial]) -> TrialResult:
    """Runs an HTTP tool once, without asking anyone; what becomes of it is in the answer, not in the status."""
    engine = request.engine
    stored = await engine.db.read(store.get, request.path["name"])
    tool = DeclaredTool(stored, engine.http, engine.secrets.open, environment())
    own = ("authorization", "cookie")  # the operator's own
    headers = {name: value for name, value in request.headers.items() if name not in own}
    began, status = time.monotonic(), None
    try:
        with within(tool.timeout):
            answer = await tool.exchange(headers, request.body.arguments)
        status = answer.status
        output, has_error = tool.output(answer, headers), False
    except TimeoutError:
        output, has_error = f"'{tool.name}' did not finish within {tool.timeout:g} s", True
    except ToolError as error:
        output, has_error = str(error), True
    duration = round((time.monotonic() - began) * 1000)
    return TrialResult(status=status, output=output, has_error=has_error, duration_ms=duration)


_LIST, _PATH = "/api/v1/tools", "/api/v1/tools/{name}"


def _route(method: Any, path: str, run: Any, summary: str, **more: Any) -> Route:
    return Route(method=method, path=path, scope="config", run=run, summary=summary, **more)


ROUTES = (
    _route("GET", _LIST, list_tools, "List HTTP tools", answer=list[HttpTool]),
    _route(
        "POST",
        _LIST,
        create_tool,
        "Create an HTTP tool",
        body=NewHttpTool,
        example={
            "name": "get_order",
            "url": "https://shop.example/orders/{{id}}",
            "description": "One order of a customer",
            "parameters": {"id": {"type": "string", "description": "the order's number"}},
            "auth": {"type": "bearer", "token": "a-secret"},
        },
        answer=HttpTool,
        status=201,
        idempotent=True,
    ),
    _route("GET", _PATH, get_tool, "Get an HTTP tool", answer=HttpTool),
    *(
        _route(
            method,
            _PATH,
            update_tool,
            "Update an HTTP tool",
            body=HttpToolPatch,
            example={"description": "One order, by its number"},
            answer=HttpTool,
        )
        for method in ("PUT", "PATCH")
    ),
    _route("DELETE", _PATH, delete_tool, "Delete an HTTP tool", status=204),
    _route(
        "POST",
        f"{_PATH}/test",
        try_tool,
        "Run an HTTP tool once",
        body=Trial,
        example={"arguments": {"id": "A-17"}},
        answer=TrialResult,
    ),
)
