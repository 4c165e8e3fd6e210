"""Schemas as tools: their list, and calls of them."""

import asyncio
from contextlib import aclosing, suppress
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from bytebrew import (
    CONVERSATIONS,
    Attachment,
    EngineError,
    FaceSchema,
    FaceTurn,
    NewChat,
    NotFound,
    Reply,
    Request,
    Stream,
    Url,
)

from . import tasks
from .calls import CallProjection, RpcRequest, answer_questions, answered, call_frames, cancel
from .messages import INTERNAL_ERROR, INVALID_PARAMS, Message, RpcError, result_message
from .revisions import Client

TASK_AFTER = 1.0
"""Seconds after which a call becomes a task for a client that takes tasks; one that waits becomes one at once."""
_FAULTS = frozenset({400, 404, 409, 410, 413, 415, 422})
"""Statuses of faults in the arguments of a call, which the model reads and can mend."""
_ATTACHMENT = {
    "type": "object",
    "properties": {
        "media_type": {"type": "string", "description": "such as image/png"},
        "data": {"type": "string", "description": "its bytes in Base64, or else a url"},
        "url": {"type": "string"},
        "name": {"type": "string"},
    },
    "required": ["media_type"],
}
_INPUT = {
    "type": "object",
    "properties": {
        "message": {"type": "string", "description": "What to say to the agent"},
        "session_id": {"type": "string", "description": "That of an earlier result, to go on with its conversation"},
        "turn_id": {
            "type": "string",
            "description": "That of an earlier result that waited for a person: gives its answer and sends no message",
        },
        "attachments": {"type": "array", "items": _ATTACHMENT, "description": "Images and files for the agent"},
    },
    "required": ["message"],
}
_OUTPUT = {
    "type": "object",
    "properties": {
        "message": {"type": "string", "description": "The agent's answer"},
        "status": {"type": "string", "enum": ["completed", "failed", "cancelled", "needs_input"]},
        "session_id": {"type": "string", "description": "To go on with the conversation"},
        "turn_id": {"type": "string"},
    },
    "required": ["message", "status", "session_id", "turn_id"],
}


class File(Struct, frozen=True, kw_only=True):
    """An image or a file of a message."""

    media_type: Annotated[str, Meta(max_length=200)]
    data: str = ""
    url: Url = ""
    name: Annotated[str, Meta(max_length=255)] = ""


class Arguments(Struct, frozen=True, kw_only=True):
    """The arguments of a call."""

    message: str = ""
    session_id: Annotated[str, Meta(max_length=255)] | None = None
    turn_id: Annotated[str, Meta(max_length=255)] | None = None
    attachments: Annotated[tuple[File, ...], Meta(max_length=20)] = ()


async def list_tools(request: Request[Any], client: Client) -> dict[str, Any]:
    """The result of tools/list: a tool for each schema that the caller may use, by name."""
    schemas = await request.engine.state[CONVERSATIONS].schemas(request)
    return client.cached({"tools": [_tool(one, client) for one in schemas]})


def _tool(schema: FaceSchema, client: Client) -> dict[str, Any]:
    tool = {
        "name": schema.name,
        "description": schema.description or f"Ask the agent '{schema.name}'",
        "inputSchema": _INPUT,
        "outputSchema": _OUTPUT,
    }
    if schema.response_format is not None:
        tool["outputSchema"] = schema.response_format.schema
        if not client.is_modern and schema.response_format.schema.get("type") != "object":
            del tool["outputSchema"]  # which those revisions have for objects alone
    if client.revision == "2025-11-25":
        tool["execution"] = {"taskSupport": "optional"}
    return tool


async def call_tool(request: Request[Message], client: Client) -> Stream | Reply:
    """The answer to tools/call: a stream or one response, or a task."""
    message, name = request.body, request.body.text("name")
    id = message.request_id
    chats = request.engine.state[CONVERSATIONS]
    schema = next((one for one in await chats.schemas(request) if one.name == name), None)
    if schema is None:
        raise RpcError(INVALID_PARAMS, f"Unknown tool: {name[:255]}")
    try:
        arguments = msgspec.convert(message.fields("arguments"), Arguments)
        turn, continues = await _turn(request, client, schema, arguments)
    except msgspec.ValidationError as error:
        return Reply(body=result_message(id, client.result(_fault(f"Wrong arguments: {error}"))))
    except EngineError as error:
        if error.status not in _FAULTS:
            raise
        return Reply(body=result_message(id, client.result(_fault(error.message))))
    if client.revision == "2025-11-25" and "task" in message.params:
        return Reply(body=result_message(id, {"task": await tasks.task(request, turn, client)}))
    return await answer_call(request, message, turn, client, continues=continues)


async def answer_call(
    request: Request[Any], message: Message, turn: FaceTurn, client: Client, *, continues: bool = True
) -> Stream | Reply:
    """A turn, which `continues` unless the request has begun it, as a stream, one response or a task."""
    skipped = await answered(request, turn) if continues else frozenset()
    token = message.meta.get("progressToken")
    progress = token if isinstance(token, str | int) and not isinstance(token, bool) else None
    is_task = message.method == "tasks/result"
    may_ask = client.elicits and request.actor.view != "public"
    rpc = RpcRequest(message.request_id, progress, may_ask=may_ask, is_task=is_task)
    projection = CallProjection(turn, client, rpc, skipped)
    headers = {"x-session-id": turn.session_id, "x-turn-id": turn.id}
    if client.takes_tasks:
        with suppress(TimeoutError):
            async with asyncio.timeout(TASK_AFTER):
                response = await _whole(turn, projection)
            if projection.has_end:
                return Reply(body=response, headers=headers)
        result = client.result(await tasks.task(request, turn, client, seed=True), "task")
        return Reply(body=result_message(message.request_id, result), headers=headers)
    if "text/event-stream" not in request.headers.get("accept", ""):
        return Reply(body=await _whole(turn, projection), headers=headers)
    return Stream(frames=call_frames(request, turn, client, projection, rpc), headers=headers)


async def _turn(
    request: Request[Message], client: Client, schema: FaceSchema, arguments: Arguments
) -> tuple[FaceTurn, bool]:
    """The turn of a call, and whether an earlier request began it."""
    chats, message = request.engine.state[CONVERSATIONS], request.body
    state = message.params.get("requestState")
    turn_id = _turn_of(message.text("requestState")) if state is not None else arguments.turn_id
    if state is not None or turn_id:
        try:
            turn = await chats.turn(request, turn_id or "")
        except NotFound as error:
            if state is None:
                raise
            raise RpcError(INVALID_PARAMS, "requestState is not one of the server's") from error
        if turn.schema != schema.name:
            raise RpcError(INVALID_PARAMS, "The turn is one of another tool")
        await answer_questions(request, turn, message.fields("inputResponses"))
        return turn, True
    new = NewChat(
        schema=schema.name,
        message=arguments.message,
        session_id=arguments.session_id,
        attachments=tuple(
            Attachment(media_type=one.media_type, data=one.data, url=one.url, name=one.name)
            for one in arguments.attachments
        ),
        key=request_key(client, message.id),
        kept={"structured": True} if schema.response_format is not None else None,
    )
    return await chats.begin(request, new), False


def _turn_of(state: str) -> str:
    """The id of the turn that a state names."""
    turn_id, _, number = state.partition(".")
    return turn_id if number.isdecimal() else ""


def request_key(client: Client, id: object) -> str:
    """The key of the turn that a request begins, by which a notification cancels it; empty without a session."""
    return f"mcp {client.session} {type(id).__name__} {id}" if client.session else ""


async def cancel_request(request: Request[Message], client: Client) -> None:
    """Cancels the turn of the request that notifications/cancelled names, if it runs."""
    chats = request.engine.state[CONVERSATIONS]
    key = request_key(client, request.body.params.get("requestId"))
    for schema in await chats.schemas(request) if key else ():
        for turn in await chats.find(request, schema.name, [key]):
            await cancel(request, turn)


async def _whole(turn: FaceTurn, projection: CallProjection) -> dict[str, Any]:
    async with aclosing(turn.events()) as batches:
        async for batch in batches:
            for one in batch:
                projection.frames(one)
                if projection.ended:
                    return projection.response
    raise RpcError(INTERNAL_ERROR, "The turn has no end")


def _fault(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": True}
