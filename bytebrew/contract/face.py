"""Faces: other protocols for the same turns, each a plugin of routes and a projection."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from bytebrew.contract.engine import StateKey
from bytebrew.contract.entities import Approvals
from bytebrew.contract.events import Event
from bytebrew.contract.messages import Attachment, Message, ResponseFormat, ToolSpec
from bytebrew.contract.route import Request

KEEP_ALIVE = b": ping\n\n"
"""The SSE comment of a stream in which nothing happens."""


class TurnEvent(NamedTuple):
    """An event of a turn as its caller may see it; None for one that the public view leaves out.

    `number` is the journal's, 0 for the event `queued`, which is not stored. `waits` is set if after it every open tool
    call of the turn waits for the client or a person, so that nothing more comes until they answer. Equal turns have
    equal `waits`, live or stored. `waiting` are the ids of these calls then; in the public view a question to a person
    has its own id there.
    """

    number: int
    event: Event | None
    waits: bool = False
    waiting: tuple[str, ...] = ()


class EarlierTurn(Struct, frozen=True, kw_only=True):
    """A turn of a conversation that was held elsewhere: the user's message, and those of assistant and tools after it.

    `key` is as that of `NewChat`.
    """

    message: Message
    answers: tuple[Message, ...] = ()
    key: str = ""


def earlier_turns(messages: Iterable[Message]) -> tuple[EarlierTurn, ...]:
    """A conversation in turns; messages of the user that follow one another are one.

    ValueError if it does not begin with a message of the user.
    """
    turns: list[tuple[list[Message], list[Message]]] = []
    for message in messages:
        if message.role != "user":
            if not turns:
                raise ValueError("a conversation begins with a message of the user")
            turns[-1][1].append(message)
        elif turns and not turns[-1][1]:
            turns[-1][0].append(message)
        else:
            turns.append(([message], []))
    return tuple(EarlierTurn(message=_joined(asked), answers=tuple(answers)) for asked, answers in turns)


def _joined(messages: Sequence[Message]) -> Message:
    """Messages of the user as one."""
    if len(messages) == 1:
        return messages[0]
    content = "\n\n".join(one.content for one in messages if one.content)
    files = tuple(file for one in messages for file in one.attachments)
    return replace(messages[0], content=content, attachments=files)


class NewChat(Struct, frozen=True, kw_only=True):
    """A message to a schema; an empty `message` with `form` answers the last form of the session.

    `session_id` is of a session of the caller, or a UUID that begins one; without it a session begins. `fork_after` is
    the number of the last event of one of its turns: the message goes to a fork that ends there. `behind` is the newest
    turn of the session: if another message gets there first, this one goes to a fork that ends there, or is a Conflict
    if that turn has not ended. `history` are turns that precede this one in the session or fork that begins; they
    become turns of it like any other. `instructions` are for this turn alone; the model reads them as words of the
    user. `key` is what `find` finds the turn by, `kept` any JSON that is stored with the turn.
    """

    schema: str
    message: str = ""
    form: Mapping[str, Any] | None = None
    attachments: tuple[Attachment, ...] = ()
    session_id: str | None = None
    fork_after: int | None = None
    behind: str = ""
    history: tuple[EarlierTurn, ...] = ()
    instructions: str = ""
    on_busy: Literal["queue", "interrupt", "reject", "steer"] = "queue"
    user_sub: str = ""
    response_format: ResponseFormat | None = None
    client_tools: tuple[ToolSpec, ...] = ()
    key: str = ""
    kept: Any = None


class OpenCall(Struct, frozen=True, kw_only=True):
    """A tool call that waits: for the client's result if its kind is client_tool, else for a person's answer."""

    call_id: str
    confirmation_id: str
    kind: Literal["confirm", "unknown_outcome", "elicitation", "client_tool"]
    tool: str
    input: Mapping[str, Any]


class PrecedingTurn(Struct, frozen=True, kw_only=True):
    """A turn that precedes another one in its session; `kept` is as `NewChat` had it, None without a face."""

    id: str
    kept: Any
    messages: tuple[Message, ...]


class FaceTurn(Protocol):
    """A turn that the caller may see."""

    @property
    def id(self) -> str:
        """The turn's id."""

    @property
    def session_id(self) -> str:
        """The session of its message."""

    @property
    def schema(self) -> str:
        """The schema of its session."""

    @property
    def created_at(self) -> str:
        """When its message came (RFC 3339)."""

    @property
    def ended_at(self) -> str | None:
        """When it had ended, if it had when it was read (RFC 3339)."""

    @property
    def message(self) -> str:
        """The text of its message."""

    @property
    def last(self) -> int | None:
        """The number of its last event when it was read, None before its end."""

    @property
    def newest(self) -> bool:
        """Whether no later turn of its session was there when it was read."""

    @property
    def key(self) -> str:
        """As `NewChat` had it."""

    @property
    def kept(self) -> Any:
        """As `NewChat` had it."""

    @property
    def status(self) -> Literal["queued", "running", "completed", "failed", "cancelled"]:
        """Its status when it was read."""

    @property
    def failure(self) -> int | None:
        """The HTTP status of its error, once it has failed."""

    def events(self, *, live: bool = True) -> AsyncGenerator[Sequence[TurnEvent], None]:
        """The turn's events from its first to its last, in batches; an empty batch after 15 s without one.

        Without `live` those that are stored now. Raises NotFound if the session is deleted.
        """

    async def before(self) -> Sequence[PrecedingTurn] | None:
        """The turns before it, oldest first, as the caller may see them; None if they take more than a megabyte."""


class FaceSchema(Struct, frozen=True, kw_only=True):
    """A schema that the caller may chat with.

    `approvals` is as that of the schema, `response_format` that of its entry agent.
    """

    name: str
    description: str
    created_at: str
    client_tools: bool
    approvals: Approvals
    response_format: ResponseFormat | None = None


class Conversations(Protocol):
    """Chats of an engine that is served over HTTP, for faces: with the rules of the engine's own routes.

    All methods check the request's actor: its schemas, its sessions, its view. They raise EngineErrors.
    """

    async def schemas(self, request: Request[Any]) -> list[FaceSchema]:
        """The schemas with chat that the caller may use, by name."""

    async def schema(self, request: Request[Any], name: str) -> FaceSchema:
        """One of them, by name or id; NotFound or Forbidden for any other."""

    async def begin(self, request: Request[Any], new: NewChat) -> FaceTurn:
        """Begins a turn; for a repeated Idempotency-Key the turn that it began."""

    async def turn(self, request: Request[Any], turn_id: str) -> FaceTurn:
        """A turn of a session of the caller; NotFound otherwise."""

    async def keep(self, request: Request[Any], turn_id: str, kept: Any) -> None:
        """Stores what is kept with a turn of the caller, in place of what was."""

    async def newest(self, request: Request[Any], session_id: str) -> FaceTurn | None:
        """The newest turn of a session; None if it has none, or there is no such session."""

    async def find(
        self, request: Request[Any], schema: str, keys: Sequence[str], *, user_sub: str | None = None
    ) -> list[FaceTurn]:
        """The caller's turns in a schema with one of the keys, for an end user or all: the 20 newest of a key.

        Leave `user_sub` out only for keys that no two conversations have.
        """

    async def open_calls(self, request: Request[Any], session_id: str) -> list[OpenCall]:
        """The calls of a session that wait, oldest first."""

    async def finish_call(
        self, request: Request[Any], session_id: str, call_id: str, result: str, *, has_error: bool = False
    ) -> None:
        """Takes the result of a tool that the client runs; the same result again changes nothing."""

    async def answer(
        self,
        request: Request[Any],
        session_id: str,
        confirmation_id: str,
        *,
        approve: bool,
        reason: str = "",
        input: dict[str, Any] | None = None,
    ) -> None:
        """Answers a question to a person; the same answer again changes nothing.

        Of a call that a restart broke off it says whether that runs again.
        """

    async def cancel(self, request: Request[Any], session_id: str) -> None:
        """Cancels the running turn of a session."""

    async def delete(self, request: Request[Any], session_id: str) -> None:
        """Deletes a session with all its turns."""


CONVERSATIONS = StateKey[Conversations]("conversations")
"""The conversations of an engine that is served over HTTP."""


class Projection(Protocol):
    """Folds the events of a turn into the frames of a protocol.

    Equal events give equal frames, so a stream that is resumed has the bytes of one that was not. All that it needs
    beside events must be stored: no clock, no random ids.
    """

    @property
    def ended(self) -> bool:
        """Whether the stream ends here."""

    def frames(self, event: TurnEvent, /) -> bytes:
        """The frames of the next event; empty if it has none."""


async def project(turn: FaceTurn, projection: Projection, after: int = 0) -> AsyncGenerator[bytes, None]:
    """The frames of a turn until the projection has ended; without those of events up to the number `after`."""
    async with aclosing(turn.events()) as batches:
        async for batch in batches:
            chunk = []
            for one in batch:
                made = projection.frames(one)
                if made and not 0 < one.number <= after:
                    chunk.append(made)
                if projection.ended:
                    break
            if chunk:
                yield b"".join(chunk)
            elif not batch:
                yield KEEP_ALIVE
            if projection.ended:
                return
