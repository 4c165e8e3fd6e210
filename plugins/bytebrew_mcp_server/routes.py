"""The endpoint /mcp, and the metadata by which clients find out whom to ask for a token (RFC 9728)."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct

from bytebrew import (
    CONVERSATIONS,
    KEEP_ALIVE,
    EngineError,
    Reply,
    Request,
    Route,
    Stream,
    own_origin,
)

from . import resources, tasks, tools
from .calls import CallProjection, answer_questions, call_frames, read_cursor
from .messages import (
    FACE,
    METHOD_NOT_FOUND,
    Id,
    Message,
    RpcError,
    error_message,
    frame,
    result_message,
    rpc_error,
)
from .revisions import LEGACY, SERVER, SESSION_HEADER, SUPPORTED, TASKS, Client, begin_session, client_of, decoded

METADATA = "/.well-known/oauth-protected-resource"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
INSTRUCTIONS = (
    "Each tool is an agent. Send it a message; to go on with a conversation, send the session_id of the result too. "
    "An answer may take minutes, and may wait for a person's approval."
)


class McpServer(Struct, frozen=True, kw_only=True):
    """The plugin's settings."""

    mcp_authorization_servers: Annotated[
        tuple[str, ...], Meta(description="issuers of JWTs that MCP clients may ask for a token (RFC 9728)")
    ] = ()


class Metadata(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The metadata of a protected resource."""

    resource: str
    resource_name: str
    bearer_methods_supported: tuple[str, ...]
    scopes_supported: tuple[str, ...]
    authorization_servers: tuple[str, ...] = ()


class NoStream(EngineError):
    """A GET that resumes no stream."""

    status = 405
    code = "no_stream"


async def metadata(request: Request[None]) -> Metadata:
    """What a client must know to get a token for /mcp."""
    return Metadata(
        resource=f"{own_origin(request)}/mcp",
        resource_name="ByteBrew",
        bearer_methods_supported=("header",),
        scopes_supported=("chat",),
        authorization_servers=request.engine.settings.of(McpServer).mcp_authorization_servers,
    )


async def post(request: Request[Message]) -> Stream | Reply:
    """Takes one message of a client: a request, a notification, or its answer to a question."""
    message, client = request.body, None
    try:
        client = client_of(request)
        if message.method is UNSET:
            await _take_answer(request)
            return Reply(status=202)
        if message.id is UNSET:
            if message.method == "notifications/cancelled" and not client.is_modern:
                await tools.cancel_request(request, client)
            return Reply(status=202)
        return await _answer(request, client, message.id)
    except RpcError as error:
        return _error(error, client, message)
    except EngineError as error:
        reply = _error(rpc_error(error), client, message)
        reply.status, reply.headers = error.status, dict(error.headers)
        return reply


async def resume(request: Request[None]) -> Stream:
    """The rest of a stream that broke off, behind the event of `Last-Event-ID`: before 2026-07-28 alone."""
    cursor = read_cursor(request.headers.get("last-event-id", ""))
    if cursor is None:
        raise NoStream("There is no stream of its own here: POST a request", headers={"Allow": "POST"})
    turn_id, rpc, after = cursor
    client = Client(LEGACY[0])
    turn = await request.engine.state[CONVERSATIONS].turn(request, turn_id)
    projection = CallProjection(turn, client, rpc)
    return Stream(frames=call_frames(request, turn, client, projection, rpc, after))


async def _answer(request: Request[Message], client: Client, id: Id) -> Stream | Reply:
    method, modern = request.body.method, client.is_modern
    headers: dict[str, str] = {}
    match method:
        case "tools/call":
            return await tools.call_tool(request, client)
        case "tasks/result" if not modern:
            return await tools.answer_call(request, request.body, await tasks.task_turn(request, client), client)
        case "subscriptions/listen" if modern:
            return Stream(frames=_listen(id))
        case "server/discover" if modern:
            fields = {"supportedVersions": SUPPORTED, "capabilities": _capabilities(request, client)}
            result = client.cached({**fields, "instructions": INSTRUCTIONS})
        case "initialize" if not modern:
            headers[SESSION_HEADER] = begin_session(client)
            fields = {"protocolVersion": client.revision, "capabilities": _capabilities(request, client)}
            result = {**fields, "serverInfo": SERVER, "instructions": INSTRUCTIONS}
        case "ping" if not modern:
            result = {}
        case "tools/list":
            result = await tools.list_tools(request, client)
        case "resources/list":
            result = await resources.list_resources(request, client)
        case "resources/templates/list":
            result = await resources.list_templates(request, client)
        case "resources/read":
            result = await resources.read_resource(request, client)
        case "tasks/get":
            result = await tasks.get_task(request, client)
        case "tasks/cancel":
            result = await tasks.cancel_task(request, client)
        case "tasks/update" if modern:
            result = await tasks.update_task(request, client)
        case _:
            raise RpcError(METHOD_NOT_FOUND, f"Method not found: {str(method)[:100]}", status=404)
    return Reply(body=result_message(id, result), headers=headers)


def _capabilities(request: Request[Any], client: Client) -> dict[str, Any]:
    found: dict[str, Any] = {"tools": {}}
    if resources.may_read(request):
        found["resources"] = {}
    if client.is_modern:
        found["extensions"] = {TASKS: {}}
    elif client.revision == "2025-11-25":
        found["tasks"] = {"cancel": {}, "requests": {"tools": {"call": {}}}}
    return found


def _error(error: RpcError, client: Client | None, message: Message) -> Reply:
    """An error as the answer to a request; before 2026-07-28 most of them have the status 200."""
    plain = client is not None and not client.is_modern and error.code < -32000
    return Reply(status=200 if plain else error.status, body=error_message(error, message.id))


async def _take_answer(request: Request[Message]) -> None:
    """Takes the answer to an elicitation, whose id names the session and the question."""
    session_id, _, question = str(request.body.id).partition("/")
    newest = await request.engine.state[CONVERSATIONS].newest(request, session_id) if question else None
    if newest is not None:
        await answer_questions(request, newest, {question: request.body.result})


async def _listen(id: Id) -> AsyncGenerator[bytes, None]:
    """A subscription to nothing, since no list here reports changes: it is acknowledged, and ends."""
    meta = {"_meta": {SUBSCRIPTION: id}}
    acknowledged = "notifications/subscriptions/acknowledged"
    yield frame({"jsonrpc": "2.0", "method": acknowledged, "params": {**meta, "notifications": {}}})
    yield KEEP_ALIVE
    yield frame(result_message(id, {"resultType": "complete", **meta}))


def _counts(request: Request[Any]) -> bool:
    """Rate limits count what begins a turn; only 2026-07-28 says so before the body is read."""
    return decoded(request.headers.get("mcp-method", "tools/call")) == "tools/call"


def _never(request: Request[Any]) -> bool:
    """Rate limits do not count what begins nothing."""
    return False


_HEADERS = {
    "MCP-Protocol-Version": "the revision that the request speaks",
    "Mcp-Method": "the method in the body",
    "Mcp-Name": "the name, URI or task id in the body",
    "Mcp-Session-Id": "that of the answer to `initialize`",
}
_EVENT_ID = {"Last-Event-ID": "the id of the last event of a stream that broke off"}
_ROUTE: dict[str, Any] = {
    "streams": True,
    "own_pages": True,
    "resource_metadata": f"{METADATA}/mcp",
    "face": FACE,
    "gives": ("application/json", "text/event-stream"),
}
ROUTES = (
    Route(
        "POST",
        "/mcp",
        "chat",
        post,
        "Send a message of MCP",
        body=Message,
        example={"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}},
        idempotent=True,
        counts=_counts,
        headers=_HEADERS,
        sends={"Mcp-Session-Id": "with the answer to `initialize`: what the client can do"},
        also={202: None},
        **_ROUTE,
    ),
    Route(
        "GET",
        "/mcp",
        "chat",
        resume,
        "Resume a stream of MCP",
        headers={**_HEADERS, **_EVENT_ID},
        counts=_never,
        also={405: None},
        **_ROUTE,
    ),
    Route("GET", METADATA, None, metadata, "Where MCP clients get a token", answer=Metadata),
    Route("GET", f"{METADATA}/mcp", None, metadata, "Where MCP clients get a token", answer=Metadata),
)
