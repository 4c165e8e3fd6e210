"""A chat as its caller has it: an iterator of events, and what to do with them."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack

from bytebrew_client.chat_request import ChatOptions
from bytebrew_client.events import Event, StructuredOutput
from bytebrew_client.flow import Flow
from bytebrew_client.methods import Async, Blocking
from bytebrew_client.turn import Answer, EventFlow, Turn

if TYPE_CHECKING:
    from bytebrew_client.client import AsyncClient, Client

T = TypeVar("T")
R = TypeVar("R")
KEPT = ("tools", "subagents", "headers", "user_sub")
"""The options that the next message of a conversation has too."""


class _Reader:
    """What an iterator of events shows of its flow."""

    _flows: EventFlow

    @property
    def last_event_id(self) -> str:
        """The id of the last event that was read: the `after` of what is to go on behind it."""
        return self._flows.last_event_id


class Events(_Reader):
    """Events as they come, each once, over broken connections and restarts; `with` closes the connection."""

    def __init__(self, client: "Client", flow: EventFlow) -> None:
        self._client, self._flows, self._stream = client, flow, client._transport()

    def close(self) -> None:
        """Leaves the stream. The turn goes on, and so do these events where they are iterated again."""
        self._stream.run(self._flows.leave())

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        if (event := self._stream.run(self._flows.next_event())) is None:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class AsyncEvents(_Reader):
    """Events as they come, each once, over broken connections and restarts; `async with` closes the connection."""

    def __init__(self, client: "AsyncClient", flow: EventFlow) -> None:
        self._client, self._flows, self._stream = client, flow, client._transport()

    async def close(self) -> None:
        """Leaves the stream. The turn goes on, and so do these events where they are iterated again."""
        await self._stream.run(self._flows.leave())

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if (event := await self._stream.run(self._flows.next_event())) is None:
            raise StopAsyncIteration
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


@dataclass(frozen=True)
class Origin:
    """What a chat was begun with, for the messages that follow."""

    schema: str
    response_format: Any
    options: ChatOptions


class _Conversation(_Reader):
    """What a chat shows of its turn; the next messages of its session are begun out of it."""

    _flows: Turn
    _origin: Origin

    @property
    def session_id(self) -> str:
        """The session, once the engine has the message."""
        return self._flows.session_id

    @property
    def turn_id(self) -> str:
        """The turn, or the id of a message that steers one, once the engine has it."""
        return self._flows.turn_id

    @property
    def idempotency_key(self) -> str:
        """The key under which the message counts once."""
        return self._flows.key

    @property
    def text_so_far(self) -> str:
        """The answer as far as it was read."""
        return self._flows.text_so_far

    @property
    def form(self) -> StructuredOutput | None:
        """The form that the turn has shown, for `answer_form`."""
        return self._flows.form

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._origin.schema!r}, {self.session_id!r}, {self.turn_id!r})"

    def _following(self, options: ChatOptions) -> ChatOptions:
        """The options of a message in the same session."""
        if not self.session_id:
            raise ValueError("The chat has no session yet: send it, or read its first event")
        kept = {name: value for name, value in self._origin.options.items() if name in KEPT}
        return ChatOptions(**{**kept, "session_id": self.session_id, **options})  # type: ignore[typeddict-item]


class Chat(_Conversation, Events, Generic[T]):
    """A message and its turn: an iterator of its events, from the first one on to `done` or `error`.

    Nothing is sent before the first event is asked for, or one of the methods is called that say so.
    """

    def __init__(self, client: "Client", flow: Turn, origin: Origin) -> None:
        super().__init__(client, flow)
        self._flows: Turn = flow
        self._origin = origin

    def _run(self, flow: Flow[R]) -> R:
        return self._client._transport().run(flow)

    answer_question = Blocking(Turn.answer_question)
    approve = Blocking(Turn.approve)
    reject = Blocking(Turn.reject)
    send_result = Blocking(Turn.send_result)

    def send(self) -> Self:
        """Sends the message, and returns once the engine has it; the turn goes on by itself."""
        self._stream.run(self._flows.send())
        return self

    def answer(self) -> Answer:
        """Reads on to the end of the turn, or to the next question to a person. Raises TurnFailed."""
        return self._stream.run(self._flows.answer())

    def text(self) -> str:
        """The text of the whole answer. Raises TurnFailed, and InputNeeded where a person must answer first."""
        return self._stream.run(self._flows.whole_answer()).text

    def value(self) -> T:
        """The value of a structured answer, of the type that was its response format. Raises as `text` does."""
        value: T = self._stream.run(self._flows.value())
        return value

    def reply(self, message: str, **options: Unpack[ChatOptions]) -> "Chat[T]":
        """The next message of the session, with the same tools and response format."""
        return self._next(message, options)

    def answer_form(self, answers: Mapping[str, Any], **options: Unpack[ChatOptions]) -> "Chat[T]":
        """Answers the form by the ids of its questions: the next message of the session."""
        return self._next({"form": answers}, options)

    def steer(self, message: str) -> "Chat[T]":
        """Puts a message into the turn that runs, at once. This chat's events go on with it, and the new one's too."""
        return self._next(message, {"on_busy": "steer"}).send()

    def edit(self, message: str, **options: Unpack[ChatOptions]) -> "Chat[T]":
        """Another message in place of this one, in a fork of the session."""
        return self._next(message, {"replaces": self.turn_id, **options})

    def cancel(self) -> None:
        """Stops the turn that the session runs; its events end with `done`."""
        self._client.sessions.cancel(self.session_id)

    def _next(self, message: str | Mapping[str, Any], options: ChatOptions) -> "Chat[T]":
        origin = self._origin
        return self._client._chat(origin.schema, message, origin.response_format, self._following(options))


class AsyncChat(_Conversation, AsyncEvents, Generic[T]):
    """A message and its turn: an async iterator of its events, from the first one on to `done` or `error`.

    Nothing is sent before the first event is asked for, or one of the methods is called that say so.
    """

    def __init__(self, client: "AsyncClient", flow: Turn, origin: Origin) -> None:
        super().__init__(client, flow)
        self._flows: Turn = flow
        self._origin = origin

    async def _run(self, flow: Flow[R]) -> R:
        return await self._client._transport().run(flow)

    answer_question = Async(Turn.answer_question)
    approve = Async(Turn.approve)
    reject = Async(Turn.reject)
    send_result = Async(Turn.send_result)

    async def send(self) -> Self:
        """Sends the message, and returns once the engine has it; the turn goes on by itself."""
        await self._stream.run(self._flows.send())
        return self

    async def answer(self) -> Answer:
        """Reads on to the end of the turn, or to the next question to a person. Raises TurnFailed."""
        return await self._stream.run(self._flows.answer())

    async def text(self) -> str:
        """The text of the whole answer. Raises TurnFailed, and InputNeeded where a person must answer first."""
        return (await self._stream.run(self._flows.whole_answer())).text

    async def value(self) -> T:
        """The value of a structured answer, of the type that was its response format. Raises as `text` does."""
        value: T = await self._stream.run(self._flows.value())
        return value

    def reply(self, message: str, **options: Unpack[ChatOptions]) -> "AsyncChat[T]":
        """The next message of the session, with the same tools and response format."""
        return self._next(message, options)

    def answer_form(self, answers: Mapping[str, Any], **options: Unpack[ChatOptions]) -> "AsyncChat[T]":
        """Answers the form by the ids of its questions: the next message of the session."""
        return self._next({"form": answers}, options)

    async def steer(self, message: str) -> "AsyncChat[T]":
        """Puts a message into the turn that runs, at once. This chat's events go on with it, and the new one's too."""
        return await self._next(message, {"on_busy": "steer"}).send()

    def edit(self, message: str, **options: Unpack[ChatOptions]) -> "AsyncChat[T]":
        """Another message in place of this one, in a fork of the session."""
        return self._next(message, {"replaces": self.turn_id, **options})

    async def cancel(self) -> None:
        """Stops the turn that the session runs; its events end with `done`."""
        await self._client.sessions.cancel(self.session_id)

    def _next(self, message: str | Mapping[str, Any], options: ChatOptions) -> "AsyncChat[T]":
        origin = self._origin
        return self._client._chat(origin.schema, message, origin.response_format, self._following(options))
