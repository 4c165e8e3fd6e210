"""Chats with nodes, read in the background, and pairs of nodes with a scripted vendor."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from bytebrew.base.sse_reader import ServerSentEvent
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.tool import Tool
from bytebrew.testing import ScriptedProvider, events_of, names, plugin, providing, scripted_schema
from tests.nodes.engines import Node, nodes

URL = "/api/v1/schemas/test/chat"


def say(text: str) -> MessageDelta:
    return MessageDelta(content=text)


def data(event: ServerSentEvent) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(event.data)
    return found


class Stream:
    """The events of a chat as they arrive, read in the background."""

    def __init__(self, http: httpx.AsyncClient, message: str, **body: Any) -> None:
        self.events: list[ServerSentEvent] = []
        self.headers: httpx.Headers = httpx.Headers()
        self.status = 0
        self._changed = asyncio.Event()
        self._http, self._body = http, {"message": message, **body}
        given = {"idempotency-key": self._body.pop("key", ""), "last-event-id": self._body.pop("last_event_id", "")}
        self._headers = {name: value for name, value in given.items() if value} | self._body.pop("sent", {})
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self._http.stream("POST", URL, json=self._body, headers=self._headers) as response:
            self.status, self.headers = response.status_code, response.headers
            self._changed.set()
            async for event in events_of(response):
                self.events.append(event)
                self._changed.set()

    async def until(self, name: str) -> ServerSentEvent:
        """The first event with a name."""
        while not (found := [one for one in self.events if one.event == name]):
            if self.task.done():
                await self.task
                raise AssertionError(f"the stream ended without {name}: {names(self.events)}")
            self._changed.clear()
            await asyncio.wait([asyncio.create_task(self._changed.wait()), self.task], return_when="FIRST_COMPLETED")
        return found[0]

    async def opened(self) -> None:
        """Returns once its head is there."""
        while not self.status and not self.task.done():
            self._changed.clear()
            await self._changed.wait()

    async def leave(self) -> None:
        """Reads no more."""
        self.task.cancel()
        await asyncio.wait([self.task])

    async def whole(self) -> list[str]:
        """The types of all its events, once it has ended."""
        await self.task
        return names(self.events)

    @property
    def text(self) -> str:
        return "".join(data(one)["content"] for one in self.events if one.event == "message_delta")

    @property
    def session(self) -> str:
        return self.headers["x-session-id"]


@asynccontextmanager
async def two(
    *answers: Sequence[Any],
    tools: Sequence[Tool] = (),
    settings: Mapping[str, str] | None = None,
    **agent: Any,
) -> AsyncIterator[tuple[Node, Node, ScriptedProvider]]:
    """Two nodes with one scripted vendor."""
    vendor = ScriptedProvider(*answers)

    def register_tools(register: Any) -> None:
        for one in tools:
            register(one)

    both = [providing(vendor), plugin("tools", register_tools=register_tools)]
    async with nodes(both, both, settings=settings) as (a, b):
        await scripted_schema(a.engine, tools=[one.name for one in tools], **agent)
        yield a, b, vendor


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await holds():
            await asyncio.sleep(0.01)
