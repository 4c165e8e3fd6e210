"""The clients: `Client` blocks, `AsyncClient` is the same on asyncio."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

import httpx

from bytebrew_client.calls import ApprovalCalls, SessionCalls, TaskCalls
from bytebrew_client.chat_request import UNSET, ChatOptions, Unset, new_turn
from bytebrew_client.chats import AsyncChat, AsyncEvents, Chat, Events, Origin
from bytebrew_client.flow import Flow, Request, path
from bytebrew_client.methods import Async, Blocking
from bytebrew_client.transport import AsyncTransport, Engine, Transport
from bytebrew_client.turn import EventFlow

T = TypeVar("T")
R = TypeVar("R")
RETRY_SECONDS = 120.0


class Client:
    """A client of an engine.

    `retry_seconds` is how long a request is tried again, or a stream connected again, without any progress. `http` is
    an httpx client of your own, for proxies and certificates; it stays yours to close.
    """

    def __init__(
        self, url: str, token: str = "", *, retry_seconds: float = RETRY_SECONDS, http: httpx.Client | None = None
    ) -> None:
        self._engine, self._seconds = Engine(url, token), retry_seconds
        self._http, self._is_own = http or httpx.Client(), http is None
        self.sessions = Sessions(self, SessionCalls(retry_seconds))
        self.approvals = Approvals(self, ApprovalCalls(retry_seconds))
        self.tasks = Tasks(self, TaskCalls(retry_seconds))

    @overload
    def chat(
        self, schema: str, message: str, *, response_format: type[T], **options: Unpack[ChatOptions]
    ) -> Chat[T]: ...
    @overload
    def chat(
        self,
        schema: str,
        message: str,
        *,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        **options: Unpack[ChatOptions],
    ) -> Chat[Any]: ...
    def chat(
        self, schema: str, message: str, *, response_format: Any = UNSET, **options: Unpack[ChatOptions]
    ) -> Chat[Any]:
        """A message to a schema; see ChatOptions.

        `response_format` is a type (a dataclass, a TypedDict, a model of pydantic or msgspec), a JSON Schema, or None
        to switch off the agent's own.
        """
        return self._chat(schema, message, response_format, options)

    def close(self) -> None:
        """Closes the connections."""
        if self._is_own:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._engine)!r})"

    def _chat(
        self, schema: str, message: str | Mapping[str, Any], response_format: Any, options: ChatOptions
    ) -> Chat[Any]:
        turn = new_turn(schema, message, response_format, options, self._seconds)
        return Chat(self, turn, Origin(schema, response_format, options))

    def _events(self, where: str, after: str) -> Events:
        return Events(self, EventFlow(Request("GET", where), self._seconds, after))

    def _transport(self) -> Transport:
        return Transport(self._engine, self._http)


class AsyncClient:
    """The client of an engine, on asyncio; see `Client`."""

    def __init__(
        self, url: str, token: str = "", *, retry_seconds: float = RETRY_SECONDS, http: httpx.AsyncClient | None = None
    ) -> None:
        self._engine, self._seconds = Engine(url, token), retry_seconds
        self._http, self._is_own = http or httpx.AsyncClient(), http is None
        self.sessions = AsyncSessions(self, SessionCalls(retry_seconds))
        self.approvals = AsyncApprovals(self, ApprovalCalls(retry_seconds))
        self.tasks = AsyncTasks(self, TaskCalls(retry_seconds))

    @overload
    def chat(
        self, schema: str, message: str, *, response_format: type[T], **options: Unpack[ChatOptions]
    ) -> AsyncChat[T]: ...
    @overload
    def chat(
        self,
        schema: str,
        message: str,
        *,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        **options: Unpack[ChatOptions],
    ) -> AsyncChat[Any]: ...
    def chat(
        self, schema: str, message: str, *, response_format: Any = UNSET, **options: Unpack[ChatOptions]
    ) -> AsyncChat[Any]:
        """A message to a schema; see ChatOptions, and `Client.chat`."""
        return self._chat(schema, message, response_format, options)

    async def close(self) -> None:
        """Closes the connections."""
        if self._is_own:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._engine)!r})"

    def _chat(
        self, schema: str, message: str | Mapping[str, Any], response_format: Any, options: ChatOptions
    ) -> AsyncChat[Any]:
        turn = new_turn(schema, message, response_format, options, self._seconds)
        return AsyncChat(self, turn, Origin(schema, response_format, options))

    def _events(self, where: str, after: str) -> AsyncEvents:
        return AsyncEvents(self, EventFlow(Request("GET", where), self._seconds, after))

    def _transport(self) -> AsyncTransport:
        return AsyncTransport(self._engine, self._http)


class _Part:
    """A part of a client: methods out of flows."""

    def __init__(self, client: Client, flows: Any) -> None:
        self._client, self._flows = client, flows

    def _run(self, flow: Flow[R]) -> R:
        return self._client._transport().run(flow)


class _AsyncPart:
    """A part of an async client: methods out of flows."""

    def __init__(self, client: AsyncClient, flows: Any) -> None:
        self._client, self._flows = client, flows

    async def _run(self, flow: Flow[R]) -> R:
        return await self._client._transport().run(flow)


class Sessions(_Part):
    """Conversations."""

    list = Blocking(SessionCalls.list)
    get = Blocking(SessionCalls.get)
    messages = Blocking(SessionCalls.messages)
    rename = Blocking(SessionCalls.rename)
    delete = Blocking(SessionCalls.delete)
    fork = Blocking(SessionCalls.fork)
    cancel = Blocking(SessionCalls.cancel)
    turn = Blocking(SessionCalls.turn)

    def events(self, session_id: str, *, after: str = "") -> Events:
        """All events of a session behind the id `after`, and those to come, without an end."""
        return self._client._events(path("sessions", session_id, "events"), after)


class AsyncSessions(_AsyncPart):
    """Conversations."""

    list = Async(SessionCalls.list)
    get = Async(SessionCalls.get)
    messages = Async(SessionCalls.messages)
    rename = Async(SessionCalls.rename)
    delete = Async(SessionCalls.delete)
    fork = Async(SessionCalls.fork)
    cancel = Async(SessionCalls.cancel)
    turn = Async(SessionCalls.turn)

    def events(self, session_id: str, *, after: str = "") -> AsyncEvents:
        """All events of a session behind the id `after`, and those to come, without an end."""
        return self._client._events(path("sessions", session_id, "events"), after)


class Approvals(_Part):
    """The inbox of questions to a person; its token has the scope `approvals`."""

    list = Blocking(ApprovalCalls.list)
    approve = Blocking(ApprovalCalls.approve)
    reject = Blocking(ApprovalCalls.reject)
    answer = Blocking(ApprovalCalls.answer)


class AsyncApprovals(_AsyncPart):
    """The inbox of questions to a person; its token has the scope `approvals`."""

    list = Async(ApprovalCalls.list)
    approve = Async(ApprovalCalls.approve)
    reject = Async(ApprovalCalls.reject)
    answer = Async(ApprovalCalls.answer)


class Tasks(_Part):
    """Work in the background; the token has the scope `tasks`."""

    create = Blocking(TaskCalls.create)
    list = Blocking(TaskCalls.list)
    get = Blocking(TaskCalls.get)
    approve = Blocking(TaskCalls.approve)
    answer = Blocking(TaskCalls.answer)
    cancel = Blocking(TaskCalls.cancel)

    def events(self, task_id: str, *, after: str = "") -> Events:
        """All events of a task's session behind the id `after`, and those to come, without an end."""
        return self._client._events(path("tasks", task_id, "events"), after)


class AsyncTasks(_AsyncPart):
    """Work in the background; the token has the scope `tasks`."""

    create = Async(TaskCalls.create)
    list = Async(TaskCalls.list)
    get = Async(TaskCalls.get)
    approve = Async(TaskCalls.approve)
    answer = Async(TaskCalls.answer)
    cancel = Async(TaskCalls.cancel)

    def events(self, task_id: str, *, after: str = "") -> AsyncEvents:
        """All events of a task's session behind the id `after`, and those to come, without an end."""
        return self._client._events(path("tasks", task_id, "events"), after)
