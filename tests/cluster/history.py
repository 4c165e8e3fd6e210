"""What the clients of a cluster saw, what the outside world did for it, and the violations that this shows."""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.disturbed.record import Record

LEASE_SECONDS = 10.0
"""How long a node that shows no sign of life keeps its turns."""
TAKEOVER_SECONDS = LEASE_SECONDS + 8.0
"""The longest silence of a turn whose node is gone: its lease, the look that ends it, and the next event."""
EXCUSED_SECONDS = 20.0
"""How long after a disturbance a request may fail for it: a stopped node has its lease, a balancer its look."""


@dataclass
class Sent:
    """A message of a client: its script, the key under which it is sent, and what became of it."""

    mark: str
    session_id: str
    body: dict[str, Any]
    key: str
    at: float
    turn_id: str = ""
    end: str = ""
    """The event that ended its stream, `done` or `error`."""
    status: str = ""
    bytes_at_end: bytes = b""
    removed: bool = False
    """A client took it from the queue, or tried to."""


@dataclass
class Disturbance:
    """Something that was done to the cluster, until `until`, `inf` while it lasts."""

    what: str
    at: float
    until: float = float("inf")


@dataclass
class Run:
    """One execution of a tool: which call it was of, and when."""

    tool: str
    key: str
    mark: str
    at: float


@dataclass
class History(Record):
    """All that is known of a run without a look into the database."""

    nodes: int = 1
    acts: Counter[str] = field(default_factory=Counter)
    sent: dict[str, Sent] = field(default_factory=dict)
    """Messages by their marks."""
    replaced: list[tuple[str, str]] = field(default_factory=list)
    """Turns that a key began, and the turn that it began after each."""
    tasks: dict[str, str] = field(default_factory=dict)
    """Marks of the tasks that were acknowledged, by their ids."""
    cancelled: set[str] = field(default_factory=set)
    """Tasks that a client cancelled, or tried to."""
    hooks: dict[str, bool] = field(default_factory=dict)
    """Requests to the webhook by their mark: whether they were acknowledged."""
    schedules: dict[str, float] = field(default_factory=dict)
    """When each schedule was made, by the wall clock."""
    runs: list[Run] = field(default_factory=list)
    retries: Counter[str] = field(default_factory=Counter)
    """Calls that a person had run again, by their keys."""
    delivered: dict[str, list[tuple[float, bytes]]] = field(default_factory=lambda: defaultdict(list))
    """Callbacks by the id of their delivery: when each came, and its body."""
    disturbances: list[Disturbance] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    """Seconds by which followers saw events of undisturbed streams later than the client of the turn."""
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds until cancels, answers and changes took effect."""

    def disturb(self, what: str) -> Disturbance:
        """Notes what is done to the cluster; the caller sets when it was over."""
        self.acts[what.partition(" ")[0]] += 1
        self.disturbances.append(one := Disturbance(what, time.monotonic()))
        return one

    def disturbed(self, since: float, until: float | None = None, slack: float = EXCUSED_SECONDS) -> bool:
        """Whether anything was done to the cluster between two moments, or shortly before them."""
        end = time.monotonic() if until is None else until
        return any(one.at <= end and since <= one.until + slack for one in self.disturbances)

    def count(self, since: float, until: float) -> int:
        """How many nodes were taken out between two moments; a stop of the database counts as all."""
        fatal = ("kill", "sleep", "hold", "stop", "restart", "crash")
        return sum(
            1 + one.what.startswith(("restart", "crash"))
            for one in self.disturbances
            if one.what.startswith(fatal) and one.at <= until and since <= one.until
        )
