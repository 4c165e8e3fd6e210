# mypy: ignore-errors
"""Acts of MCP's official client for Python; run in its own environment. Prints a line of JSON for each thing learned.

Arguments: URL, token, mode (auto or legacy), act.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Literal

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.streamable_http import streamable_http_client
from pydantic import Field

URL, TOKEN, MODE, ACT, *REST = sys.argv[1:]


def say(**found: Any) -> None:
    print(json.dumps(found), flush=True)


async def elicited(context: Any, params: Any) -> types.ElicitResult:
    """Approves what a person is asked."""
    say(asked=params.message)
    return types.ElicitResult(action="accept", content={"decision": "approve"})


class TaskId(types.RequestParams):
    """The params of requests about a task."""

    task_id: str = Field(alias="taskId")


class GetTask(types.Request[TaskId, Literal["tasks/get"]]):
    """A poll."""

    name_param: ClassVar[str] = "taskId"
    method: Literal["tasks/get"] = "tasks/get"


class Created(types.Result):
    """A call that became a task."""

    result_type: Literal["task"] = Field(alias="resultType")
    task_id: str = Field(alias="taskId")


class Task(types.Result):
    """What a poll says."""

    status: str
    result: dict[str, Any] | None = None


class Tasks(ClientExtension):
    """The extension for tasks."""

    identifier = "io.modelcontextprotocol/tasks"

    def claims(self) -> list[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=Created, resolve=self.refuse)]

    async def refuse(self, created: Created, context: ClaimContext) -> types.CallToolResult:
        raise AssertionError("the task is polled by its id")


async def poll(task_id: str) -> types.CallToolResult:
    """The result of a task, by a new client after each connection that is lost."""
    while True:
        try:
            async with connected() as client:
                while True:
                    request = GetTask(params=TaskId(taskId=task_id))
                    task = await client.session.send_request(request, Task)
                    say(status=task.status)
                    if task.status == "completed":
                        return types.CallToolResult.model_validate(task.result)
                    await asyncio.sleep(0.2)
        except Exception as error:  # the engine is being started again
            say(away=type(error).__name__)
            await asyncio.sleep(0.2)


@asynccontextmanager
async def connected() -> AsyncIterator[Client]:
    """A client of the engine."""
    extensions = [Tasks()] if ACT == "task" else []
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60) as http:
        transport = streamable_http_client(f"{URL}/mcp", http_client=http)
        async with Client(transport, mode=MODE, elicitation_callback=elicited, extensions=extensions) as client:
            yield client


async def acts(client: Client) -> None:
    """All that a server with tools and resources can do."""
    say(version=client.protocol_version, server=client.server_info.name if client.server_info else None)
    say(tools=[tool.name for tool in (await client.list_tools()).tools])
    first = await client.call_tool("talk", {"message": '[["Hello"]]'})
    say(text=first.content[0].text, structured=first.structured_content)
    again = {"message": '[["more"]]', "session_id": first.structured_content["session_id"]}
    say(text=(await client.call_tool("talk", again)).content[0].text)
    progress: list[float] = []

    async def on_progress(value: float, total: float | None, message: str | None) -> None:
        progress.append(value)

    message = '[[["weather", {"city": "Oslo"}]], ["So: ", null]]'
    result = await client.call_tool("talk", {"message": message}, progress_callback=on_progress)
    say(text=result.content[0].text, progress=progress)
    approved = await client.call_tool("talk", {"message": '[[["pay", {"amount": 3}]], [null]]'})
    say(text=approved.content[0].text)
    wrong = await client.call_tool("talk", {"message": "hi", "session_id": "nothing"})
    say(is_error=wrong.is_error)
    try:
        await client.call_tool("nothing", {})
    except Exception as error:
        say(code=getattr(error, "code", None))
    try:
        async with asyncio.timeout(0.7):
            await client.call_tool("talk", {"message": "count"})
    except TimeoutError:
        say(left=True)
    await asyncio.sleep(0.3)


async def call() -> types.CallToolResult:
    """The result of one call."""

    async def on_progress(value: float, total: float | None, message: str | None) -> None:
        say(progress=value)

    async with connected() as client:
        if ACT == "call":
            return await client.call_tool("talk", {"message": REST[0]}, progress_callback=on_progress)
        created = await client.session.call_tool("talk", {"message": REST[0]}, allow_claimed=True)
        say(task=created.task_id)
    return await poll(created.task_id)


async def main() -> None:
    if ACT == "acts":
        async with connected() as client:
            await acts(client)
    else:
        result = await call()
        say(text=result.content[0].text, session=result.structured_content["session_id"])


asyncio.run(main())
