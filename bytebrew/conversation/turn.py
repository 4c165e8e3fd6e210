"""A turn, one user message on its way to done; the queue of its session; and constructors of turns by origin."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

import anyio
from msgspec import UNSET
from msgspec.structs import astuple, replace

from bytebrew.base.errors import EngineError, ProviderError
from bytebrew.base.formats import is_uuid, new_id, new_uuid
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.engine import ModelCall
from bytebrew.contract.entities import Agent
from bytebrew.contract.events import Done, ErrorEvent, Event, FinishReason, form_of
from bytebrew.contract.messages import Attachment, ModelRequest, ResponseFormat, Spent, Usage
from bytebrew.contract.route import Key
from bytebrew.conversation.model_calls import Answered, BoundModel, Models
from bytebrew.conversation.resumed_answer import ResumedStep
from bytebrew.conversation.spending import reserved
from bytebrew.conversation.tools.running_call import RunningCall
from bytebrew.store import open_turns, turn_results, turns
from bytebrew.store.configuration.schemas import Entrance
from bytebrew.store.journal import Journal, Log
from bytebrew.store.sessions import ForkedFrom

P = ParamSpec("P")
T = TypeVar("T")
OnBusy = Literal["queue", "interrupt", "reject", "steer"]
_LONGEST_WAIT = 1e9


class Notify(Protocol):
    """Awaits every observer of a hook."""

    async def __call__(self, hook: str, **arguments: Any) -> None:
        """Calls the observers in order; does not raise their exceptions."""


class Turn:
    """One user message on its way to done; `bytebrew.Turn` is what observers may read of it.

    `first` and `last` are the numbers of its events, once known. `on_hold` is called whenever `holds` changes.
    """

    def __init__(
        self, new: turns.NewTurn, agent: Agent, model: BoundModel, journal: Journal, on_hold: Callable[["Turn"], None]
    ) -> None:
        self.new = new
        self.id = new.id
        self.session_id = new.session_id
        self.subject, self.size = new.actor.subject, turns.size(new)
        self.agent = agent
        self.model = model
        format = new.response_format or agent.response_format
        self.response_format = format if format and format.type == "json_schema" else None
        self.data: Any = UNSET  # the value of a structured answer
        self.headers: Mapping[str, str] = {}
        self.parent: Turn | None = None
        self.unresumable: list[tuple[str, EngineError]] = []  # queued turns that fail once it has ended
        self.spawn_lock = asyncio.Lock()  # spawned turns start in the order of their calls
        self.running_calls: dict[str, RunningCall] = {}
        self.elicited: set[str] = set()  # calls whose source has asked a person
        self.sampling = asyncio.Lock()  # models that tool calls ask answer one after another
        self.has_history = True
        self.first: int | None = None
        self.last: int | None = None
        self.usage = Usage()
        self.text: list[str] = []
        self.partial: list[str] = []  # text of the current step
        self.resume_point: open_turns.ResumePoint | None = None
        self.closing_events: Sequence[Event] = ()  # from the tool call that ended the turn
        self.resumed_step: ResumedStep | None = None
        self.has_long_results, self.stop_reason = False, "end"
        self.unsaved = self._nothing_unsaved()
        self.call_ids: set[str] = set()
        self.status: turns.Status = "queued"
        self.urgent = self.steering = False  # its place among the waiting: interrupting, steering, others
        self.steers: list[Turn] = []  # stored messages that it absorbs at its next boundary
        self.steer_event: int | None = None  # of a message that steers another turn
        self.steers_stored = True  # False: of a message of another node that may steer
        self.on_busy: OnBusy = "queue"  # how a stored message enters the queue
        self.absorbed: list[Turn] = []
        self.absorbed_by: Turn | None = None
        self.lane: Lane
        self.log: Log
        self.admitted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()  # False: it is not stored
        self.recorded = False
        self.storage_error: EngineError | None = None
        self.failure: EngineError | None = None
        self.cancelled_for: Literal["cancelled", "stopped"] | None = None
        self.scope = anyio.CancelScope()
        self.holds, self._seconds_left = 0, math.inf
        self._waits_for: set[str] = set()
        self.started_at, self.tool_seconds = time.monotonic(), 0.0
        self.first_delta_seconds: float | None = None
        self.model_calls: list[ModelCall] = []
        self._journal = journal
        self._on_hold = on_hold

    @asynccontextmanager
    async def call(
        self, models: Models, request: ModelRequest, model: BoundModel | None = None
    ) -> AsyncIterator[AsyncGenerator[Answered, None]]:
        """The events of a call of a model, the turn's own unless another is passed; `spend` each Spent among them.

        All model calls of turns are made here: what they may cost is reserved before, and their duration is measured.
        """
        model = model or self.model
        guards = [guard for guard in models.guards if guard.active]
        allowed: AbstractAsyncContextManager[ModelRequest] = nullcontext(request)
        if guards:
            write = partial(self._journal.write, self.log)
            allowed = reserved(guards, self.new, model, request, self.unsaved, self.append, write)
        with self._timed_call(model):
            async with allowed as sent, aclosing(models.answer(model, sent)) as events:
                yield events

    @contextmanager
    def _timed_call(self, called: BoundModel) -> Iterator[None]:
        """Measures the duration of a model call, including failed ones."""
        begun, earlier = time.monotonic(), len(self.unsaved.spent)
        try:
            yield
        finally:
            paid = {spent.model for spent in self.unsaved.spent[earlier:]}
            answered = next((model for model in called.fallback if model.name in paid), called)
            seconds = time.monotonic() - begun
            self.model_calls.append(ModelCall(answered.provider.type, answered.name, seconds))

    def spend(self, spent: Spent) -> None:
        """Adds the usage of a model call, which is stored by the next `record`."""
        self.add(spent.usage)
        self.unsaved.spent.append(spent)

    def add(self, usage: Usage) -> None:
        """Adds usage of the turn or of an agent that it spawned."""
        *counts, costs = zip(astuple(self.usage), astuple(usage), strict=True)
        # unknown prices count as 0 if any price is known
        cost = None if costs == (None, None) else sum(cost or 0.0 for cost in costs)
        total: tuple[Any, ...] = (*map(sum, counts), cost)
        self.usage = Usage(*total)

    async def record(
        self, work: Callable[Concatenate[Connection, turns.Unsaved, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Runs work that stores the unsaved messages and usage; returns its result after the commit.

        It is committed together with the events appended before, or not at all; then everything stays unsaved. It
        cannot be cancelled: the caller would not know whether it was committed.
        """
        with anyio.CancelScope(shield=True):
            result = await self._journal.write(self.log, work, self.unsaved, *args, **kwargs)
        self.unsaved = self._nothing_unsaved()
        return result

    @property
    def finish_reason(self) -> FinishReason:
        """Why its answer ended."""
        return (
            "cancelled" if self.status == "cancelled" else "max_tokens" if self.stop_reason == "max_tokens" else "stop"
        )

    def done(self, status: Literal["completed", "cancelled"]) -> Done:
        """Sets the status; returns the last event of a turn that did not fail."""
        self.status, ids = status, {"session_id": self.session_id, "turn_id": self.id}
        return Done(**ids, usage=self.usage, status=status, finish_reason=self.finish_reason)

    def result(self) -> turn_results.TurnResult:
        """The outcome, as far as this process ran the turn; `turn_results.result` has the part before a restart too."""
        error = self.failure
        return turn_results.TurnResult(
            id=self.id,
            session_id=self.session_id,
            status=self.status,
            text="".join(self.text),
            usage=self.usage,
            failure=error.status if error else None,
            code=error.code if error else "",
            message=error.message if error else "",
            retry_after=retry_after(error) if error else None,
            finish_reason=self.finish_reason,
            data=self.data,
            form=next(filter(None, map(form_of, reversed(self.closing_events))), None),
            agent_version=self.new.agent_version,
        )

    def _nothing_unsaved(self) -> turns.Unsaved:
        return turns.Unsaved(self.agent.name, self.subject, self.new.schema)

    @property
    def message(self) -> str:
        """The user's message, or that of the agent that spawned this one."""
        return self.new.message

    @property
    def spawned(self) -> bool:
        """Whether another agent's turn spawned this one."""
        return self.new.parent is not None

    @property
    def root_id(self) -> str:
        """The id of the root turn of the spawn tree."""
        return self.new.parent.root_turn_id if self.new.parent else self.id

    @property
    def traceparent(self) -> str | None:
        """The trace that the chat request came with (W3C Trace Context)."""
        return self.new.traceparent

    @property
    def subagents(self) -> bool:
        """Whether the client of the root turn receives the events of spawned agents."""
        return self.new.subagents

    @property
    def may_be_steered(self) -> bool:
        """Whether a message may still reach it at a boundary, as far as is known."""
        return self.status == "running" and self.cancelled_for is None and not self.spawned and self.log.error is None

    @property
    def answering(self) -> "Turn":
        """The turn that answers its message: itself, or the one that has absorbed it."""
        return self.absorbed_by or self

    @property
    def root(self) -> "Turn":
        """Root turn of the spawn tree."""
        return self if self.parent is None else self.parent.root

    def append(self, event: Event) -> int:
        """Appends an event to the session's journal, and a copy to the root's if its client wants or needs it."""
        if self.parent is not None:
            self._append_above(event)
        return self._journal.append(self.log, event)

    def _append_above(self, event: Event) -> None:
        above, shared = self.new.parent, self.new.subagents or event.rises
        # only the root's own last event ends the root's stream
        if above and shared and type(event) not in (Done, ErrorEvent):
            copy = replace(event, agent=self.agent.name, parent_call_id=above.call_id)
            self._journal.append(self.root.log, copy)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Pauses the time limits of the turn and of its ancestors while a person is asked."""
        self.hold(1)
        try:
            yield
        finally:
            self.hold(-1)

    def wait_for(self, question_id: str) -> None:
        """Waits for a person's answer from now on, as `waiting`; nothing if it does already."""
        if question_id not in self._waits_for:
            self._waits_for.add(question_id)
            self.hold(1)

    def wait_no_more(self, *question_ids: str) -> None:
        """Ends `wait_for` of questions, of all without an id."""
        for question_id in self._waits_for.intersection(question_ids or self._waits_for):
            self._waits_for.remove(question_id)
            self.hold(-1)

    def start_clock(self, seconds: float) -> None:
        """Starts the turn's time limit in seconds, which excludes waiting for a person."""
        self._seconds_left = seconds
        self.scope.deadline = math.inf if self.holds else anyio.current_time() + seconds

    def hold(self, change: int) -> None:
        """Changes the number of questions to a person that this turn and those below it wait for."""
        if self.scope.deadline != math.inf:  # pause the running time limit
            self._seconds_left = self.scope.deadline - anyio.current_time()
        self.holds += change
        self.scope.deadline = math.inf if self.holds else anyio.current_time() + self._seconds_left
        self._on_hold(self)
        self.log.notify()  # wakes clients that wait for the turn: they get the questions
        if self.parent is not None:
            self.parent.hold(change)

    async def wait_recorded(self, *, raise_storage_error: bool = False) -> None:
        """Waits until its end is stored, through all retries; may raise the first StorageError instead."""
        await asyncio.wait([self.admitted])
        while not self.recorded:
            if self.storage_error is not None and raise_storage_error:
                raise self.storage_error
            await self.log.changed()

    def cancel(self, reason: Literal["cancelled", "stopped"]) -> None:
        """Ends the turn at its next await; a stopped turn records no end and resumes at the next start."""
        if self.cancelled_for is None:
            self.cancelled_for = reason
            self.scope.cancel()


class Lane:
    """The turns of one session: one runs, the rest wait in order."""

    def __init__(self, first: Turn) -> None:
        self.owner = first.new.owner
        self.current = first
        self.waiting: list[Turn] = []  # a deque takes 760 bytes, and each session that runs has a lane
        self.empty: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def position(self, turn: Turn) -> int:
        """The number of turns before a waiting one; 0 if it does not wait."""
        return self.waiting.index(turn) + 1 if turn in self.waiting else 0


def retry_after(error: EngineError) -> int | None:
    """Whole seconds after which a retry may succeed, if the vendor or the engine states them."""
    if isinstance(error, ProviderError):
        wait = error.retry_after
        return None if wait is None or not wait < _LONGEST_WAIT else math.ceil(wait)
    return int(error.headers["Retry-After"]) if "Retry-After" in error.headers else None


def chat_turn(
    entrance: Entrance,
    actor: Actor,
    message: str,
    *,
    session_id: str | None,
    owner: str | None,
    user_sub: str,
    attachments: tuple[Attachment, ...],
    own_key: bool,
    subagents: bool,
    traceparent: str | None,
    response_format: ResponseFormat | None = None,
    key: Key | None,
    fork: ForkedFrom | None = None,
) -> turns.NewTurn:
    """A turn for a client's message; without `session_id`, or with an unused UUID, it creates a session or a fork."""
    return turns.NewTurn(
        id=new_id("turn"),
        session_id=session_id or new_uuid(),
        schema=entrance.schema,
        agent=entrance.agent.name,
        actor=actor,
        owner=owner or actor.subject,
        user_sub=user_sub,
        message=message,
        attachments=attachments,
        own_key=own_key,
        subagents=subagents,
        traceparent=traceparent,
        response_format=response_format,
        fresh=session_id is None or is_uuid(session_id),
        begins=session_id is None,
        key=key,
        fork=fork,
    )


def owner_alone(subject: str) -> Actor:
    """The user of a turn without a request."""
    return Actor(subject=subject, name=subject, kind="user", scopes=frozenset())
