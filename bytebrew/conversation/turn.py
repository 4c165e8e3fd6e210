"""A turn: one user message on its way to done, and what it has produced."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar

import anyio
from msgspec.structs import astuple, replace

from bytebrew.base.errors import EngineError
from bytebrew.contract.connection import Connection
from bytebrew.contract.engine import ModelCall
from bytebrew.contract.entities import Agent
from bytebrew.contract.events import ConfirmationAsked, Done, ErrorEvent, Event, FinishReason
from bytebrew.contract.messages import Spent, Usage
from bytebrew.conversation.model_calls import BoundModel
from bytebrew.conversation.resumed_answer import Shown
from bytebrew.store import open_turns, turns
from bytebrew.store.journal import Log

if TYPE_CHECKING:
    from bytebrew.engine import Engine

P = ParamSpec("P")
T = TypeVar("T")


class Turn:
    """One user message on its way to done; `first` and `last` are the numbers of its events once they are known."""

    def __init__(self, engine: "Engine", new: turns.NewTurn, agent: Agent, model: BoundModel) -> None:
        self.engine = engine
        self.new = new
        self.id = new.id
        self.session_id = new.session_id
        self.subject, self.size = new.actor.subject, turns.size(new)
        self.agent = agent
        self.model = model
        self.headers: Mapping[str, str] = {}
        self.parent: Turn | None = None
        self.hopeless: list[tuple[str, EngineError]] = []  # turns behind it that cannot go on, and end after it
        self.spawning = asyncio.Lock()  # turns that it spawns begin in the order of their calls
        self.continues = True
        self.first: int | None = None
        self.last: int | None = None
        self.usage = Usage()
        self.text: list[str] = []
        self.partial: list[str] = []
        self.past: open_turns.Past | None = None
        self.ending: Sequence[Event] = ()  # what was shown by the call that ended it
        self.shown: Shown | None = None
        self.cut, self.stop = False, "end"
        self.unsaved = self._nothing()
        self.call_ids: set[str] = set()
        self.status: turns.Status = "queued"
        self.urgent = False
        self.log: Log
        self.admitted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.recorded = False
        self.unrecordable: EngineError | None = None
        self.failure: EngineError | None = None
        self.cancelled_for: Literal["cancelled", "stopped"] | None = None
        self.scope = anyio.CancelScope()
        self.holds, self._left = 0, math.inf
        self.began, self.in_tools = time.monotonic(), 0.0
        self.first_delta_seconds: float | None = None
        self.model_calls: list[ModelCall] = []

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Times a model call, whatever becomes of it."""
        began, earlier = time.monotonic(), len(self.unsaved.spent)
        try:
            yield
        finally:
            paid = {spent.model for spent in self.unsaved.spent[earlier:]}
            answered = next((one for one in self.model.fallback if one.name in paid), self.model)
            seconds = time.monotonic() - began
            self.model_calls.append(ModelCall(answered.provider.type, answered.name, seconds))

    def spend(self, spent: Spent) -> None:
        """Counts a model call, to be recorded with what it led to."""
        self.add(spent.usage)
        self.unsaved.spent.append(spent)

    def add(self, usage: Usage) -> None:
        """Counts tokens, of a call of its own or of an agent that it has spawned."""
        *counts, costs = zip(astuple(self.usage), astuple(usage), strict=True)
        cost = None if costs == (None, None) else sum(cost or 0.0 for cost in costs)
        total: tuple[Any, ...] = (*map(sum, counts), cost)
        self.usage = Usage(*total)

    async def record(
        self, work: Callable[Concatenate[Connection, turns.Unsaved, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The result of work on the messages and usage produced since the last record, once it is committed.

        It is committed with the events appended before, or not at all; then they stay unsaved. It cannot be cancelled,
        for then nobody would know.
        """
        with anyio.CancelScope(shield=True):
            result = await self.engine.journal.write(self.log, work, self.unsaved, *args, **kwargs)
        self.unsaved = self._nothing()
        return result

    @property
    def finish_reason(self) -> FinishReason:
        """Why its answer has ended."""
        return "cancelled" if self.status == "cancelled" else "max_tokens" if self.stop == "max_tokens" else "stop"

    def done(self, status: Literal["completed", "cancelled"]) -> Done:
        """Ends it well, or as cancelled: its last event."""
        self.status, ids = status, {"session_id": self.session_id, "turn_id": self.id}
        return Done(**ids, usage=self.usage, status=status, finish_reason=self.finish_reason)

    def _nothing(self) -> turns.Unsaved:
        return turns.Unsaved(self.agent.name, self.subject, self.new.schema)

    @property
    def message(self) -> str:
        """The user's message, or that of the agent that spawned this one."""
        return self.new.message

    @property
    def spawned(self) -> bool:
        """Whether the message comes from another agent's turn."""
        return self.new.parent is not None

    @property
    def subagents(self) -> bool:
        """Whether the client of the root turn wants to see the events of spawned agents."""
        return self.new.subagents

    @property
    def root(self) -> "Turn":
        """The turn of a person's message, far above perhaps."""
        return self if self.parent is None else self.parent.root

    def append(self, event: Event) -> int:
        """Puts an event into the session's journal, and into the root's where its client wants or needs it."""
        above, shared = self.new.parent, self.new.subagents or type(event) is ConfirmationAsked
        if above and shared and self.root is not self and type(event) not in (Done, ErrorEvent):
            copy = replace(event, agent=self.agent.name, parent_call_id=above.call_id)
            self.engine.journal.append(self.root.log, copy)
        return self.engine.journal.append(self.log, event)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Stops the clock of the turn and of all above it: a person may take their time."""
        self.hold(1)
        try:
            yield
        finally:
            self.hold(-1)

    def start_clock(self, seconds: float) -> None:
        """From now on the turn has so many seconds, not counting those in which it waits for a person."""
        self._left = seconds
        self.scope.deadline = math.inf if self.holds else anyio.current_time() + seconds

    def hold(self, change: int) -> None:
        """Counts what waits for a person, here and above."""
        if self.scope.deadline != math.inf:
            self._left = self.scope.deadline - anyio.current_time()
        self.holds += change
        self.scope.deadline = math.inf if self.holds else anyio.current_time() + self._left
        if self.holds and self.engine.runner.draining:
            self.cancel("stopped")
        self.log.notify()  # whoever waits for the turn may now have to wait for a person
        if self.parent is not None:
            self.parent.hold(change)
        self.engine.tasks.wake()  # a task that asks a person makes way for others

    async def end(self, *, patient: bool = True) -> None:
        """Returns once its end is in the file; who is not patient gets a StorageError when that does not take it."""
        await asyncio.wait([self.admitted])
        while not self.recorded:
            if self.unrecordable is not None and not patient:
                raise self.unrecordable
            await self.log.changed()

    def cancel(self, reason: Literal["cancelled", "stopped"]) -> None:
        """Ends the turn at its next await; a stopped one records no end and goes on at the next start."""
        if self.cancelled_for is None:
            self.cancelled_for = reason
            self.scope.cancel()
