"""The two clients behind one face, so that each test is of both."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest

from bytebrew import MessageDelta, ToolCall, tool
from bytebrew.testing import ADMIN, ScriptedProvider, plugin, providing, scripted_schema, served_engine
from bytebrew_client import AsyncClient, Client, Event

Kind = Literal["sync", "async"]
KINDS: tuple[Kind, ...] = ("sync", "async")
BOTH = pytest.mark.parametrize("kind", KINDS)


class Caller:
    """Calls a client: the blocking one in a thread, as the engine of a test runs in the test's own loop."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client: Any = client

    async def __call__(self, do: Callable[[Any], Any]) -> Any:
        """What a call of the client returns."""
        return await self.run(lambda: do(self.client))

    async def run(self, do: Callable[[], Any]) -> Any:
        """What a call of one of the client's objects returns."""
        if isinstance(self.client, Client):
            return await asyncio.to_thread(do)
        result = do()
        return await result if inspect.isawaitable(result) else result

    async def events(
        self, chat: Any, react: Callable[[Event], Any] = lambda event: None, *, count: int = 1_000_000
    ) -> list[Event]:
        """The next events of a chat, at most `count`; `react` is called with each, as soon as it comes."""
        if not isinstance(self.client, Client):
            read = []
            async for event in chat:
                read.append(event)
                if inspect.isawaitable(result := react(event)):
                    await result
                if len(read) == count:
                    break
            return read

        def blocking() -> list[Event]:
            read = []
            for event in chat:
                read.append(event)
                react(event)
                if len(read) == count:
                    break
            return read

        return await asyncio.to_thread(blocking)


@asynccontextmanager
async def calling(kind: Kind, url: str, token: str = ADMIN, *, retry_seconds: float = 20) -> AsyncIterator[Caller]:
    """A client of one kind, which is closed afterwards."""
    if kind == "sync":
        with Client(url, token, retry_seconds=retry_seconds) as blocking:
            yield Caller(blocking)
    else:
        async with AsyncClient(url, token, retry_seconds=retry_seconds) as client:
            yield Caller(client)


@asynccontextmanager
async def scripted(
    kind: Kind, *answers: Any, plugins: tuple[Any, ...] = (), **agent: Any
) -> AsyncIterator[tuple[Caller, ScriptedProvider]]:
    """A client of an engine whose schema `test` answers by a script."""
    model = answers[0] if isinstance(answers[0], ScriptedProvider) else ScriptedProvider(*answers)
    async with served_engine(*plugins, providing(model)) as (running, http):
        await scripted_schema(running, **agent)
        await http.patch("/api/v1/schemas/test", json={"client_tools": True})
        async with calling(kind, str(http.base_url)) as call:
            yield call, model


def chat_of(call: Caller, *args: Any, **options: Any) -> Any:
    """A chat that is not sent yet."""
    return call.client.chat(*args, **options)


wiped: list[str] = []


@tool(confirm=True)
async def wipe(disk: str) -> str:
    """Erases a disk."""
    wiped.append(disk)
    return f"{disk} is empty"


WIPING = ([ToolCall("wipe", {"disk": "sda"})], [MessageDelta(content="As you say.")])
WIPE = plugin(register_tools=lambda register: register(wipe))
