"""What the clients were promised, and the violations that were seen."""

import time
from collections import Counter, defaultdict
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from tests.disturbed.record import Record

LABEL: ContextVar[str] = ContextVar("LABEL", default="the world")
"""Which act is at work: a client and the number of its step."""


@dataclass
class Chat:
    """A turn whose beginning a client was shown."""

    turn_id: str
    session_id: str
    label: str
    answer: dict[str, Any] | None = None
    done: dict[str, Any] | None = None


@dataclass
class Keyed:
    """A request with an Idempotency-Key and its first answer that counts."""

    method: str
    path: str
    body: Any
    key: str
    era: int
    status: int
    content: bytes
    turn_id: str = ""


@dataclass
class Task:
    """A task that was acknowledged."""

    id: str
    blocked_by: list[str]
    end: str = ""
    cancelled: bool = False


@dataclass
class Model(Record):
    """What is known of the engine's state by its answers alone."""

    acts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    era: int = 0
    """Grows with each jump of the clock over the time for which keys are kept."""
    faulty_until: float = 0.0
    """The moment of the monotonic clock up to which failures of the disk are excused."""
    sessions: list[str] = field(default_factory=list)
    schema_of: dict[str, str] = field(default_factory=dict)
    talking: Counter[str] = field(default_factory=Counter)
    """Messages under way to sessions by their ids: one that comes behind a deletion begins the session again."""
    chats: dict[str, Chat] = field(default_factory=dict)
    replaced: list[tuple[str, str]] = field(default_factory=list)
    keyed: list[Keyed] = field(default_factory=list)
    tasks: dict[str, Task] = field(default_factory=dict)
    things: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """For each thing that a client made the states that it may have: `there`, `gone` or a value."""
    requests: list[tuple[str, int]] = field(default_factory=list)
    """Method and path of each request that changes something, with its status, 0 where that is unknown."""
    acted: set[str] = field(default_factory=set)
    """Keys under which something was done."""
    imported: set[str] = field(default_factory=set)
    jumped: float = 0.0
    """When the engine's wall clock was last set."""
    retries: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    hooks: dict[str, bool] = field(default_factory=dict)
    """Requests to webhooks by their mark: whether they were acknowledged."""

    @property
    def faulty(self) -> bool:
        """Whether the disk refuses work, or has a moment ago."""
        return time.monotonic() < self.faulty_until

    @property
    def actor(self) -> str:
        return LABEL.get()

    def count(self, act: str) -> None:
        """Counts an act."""
        self.acts[act] += 1

    def set_state(self, kind: str, name: str, *states: str) -> None:
        """What a thing may be now."""
        self.things[kind, name] = set(states)

    def may_be(self, kind: str, name: str, state: str) -> None:
        """A change of a thing whose outcome is unknown."""
        self.things.setdefault((kind, name), {"gone"}).add(state)
