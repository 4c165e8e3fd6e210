"""Admission control: limits on concurrent turns and on the memory of request bodies."""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from itertools import chain

from starlette.types import Receive

from bytebrew.base.errors import InvalidRequest, Overloaded, PayloadTooLarge, RequestTimeout
from bytebrew.base.machine.memory import memory
from bytebrew.conversation.remote.remote_turns import RemoteTurn, RemoteTurns
from bytebrew.conversation.turn import Turn

TICK = 0.01
"""Seconds between two measurements of the event loop's lag."""
INTERVAL = 0.1
"""Seconds over which the lag is averaged; two laggy intervals in a row are overload, so a single long step is not."""
TARGET = 0.02
"""Average lag in seconds above which the engine is overloaded."""
FEW = 64
"""The smallest limit of active turns."""
CALM = 10
"""Intervals without lag and rejections after which only memory limits the turns."""
TURN_BYTES = 1024 * 1024
"""Memory per turn: a stream takes 60 KB, a long conversation a part of its model's context window."""
LEAST, MOST = 16, 4096
"""Bounds of the memory-based limit; the upper one is the limit of connections to one vendor."""
BODY_SECONDS = 15.0
"""Time limit for a body in memory as a whole, and between the chunks of other bodies."""
STREAM_SECONDS = 900.0
LATE_SECONDS = 0.05
LEAST_RATE = 1024
"""Minimum bytes per second of a body that is not held in memory, after the first BODY_SECONDS."""
MOST_BODIES, MOST_PUBLIC_BODIES = 512 * 1024 * 1024, 32 * 1024 * 1024
"""Limits of the memory for all bodies, and for those of unauthenticated callers."""
_CROWDED_BODIES = "The bodies of other requests take all the memory that is for them; try again in a moment"
PLACES = "places"
"""Key in a connection's state for the place of a request that was admitted before parsing."""


class Limit:
    """The limit of active turns: infinite until the event loop lags.

    As in TCP congestion control, lag shrinks it in proportion, and demand without lag lets it grow.
    """

    def __init__(self) -> None:
        self.turns = math.inf
        self.lag = 0.0
        self._sum = self._ends = 0.0
        self._looks = self._calm = 0
        self._behind = False

    def look(self, now: float, late: float, active: int, *, refused: bool) -> bool:
        """Records a lag of `late` seconds; returns whether this ends an interval.

        `active` turns are running; `refused` tells whether more were wanted during the interval.
        """
        self._sum += late
        self._looks += 1
        if now < self._ends:
            return False
        self.lag = self._sum / self._looks
        before, self._behind = self._behind, self.lag > TARGET
        if self._behind:
            self._calm = 0
            if before and active <= self.turns * 1.1:  # else the last reduction has not taken effect yet
                self.turns = max(FEW, min(self.turns, active) * max(0.5, TARGET / self.lag))
        elif refused:
            self._calm = 0
            self.turns = self.turns * 1.1 + 1
        else:
            self._calm += 1
            if self._calm >= CALM:
                self.turns = math.inf
        self._sum, self._looks, self._ends = 0.0, 0, now + INTERVAL
        return True


class Place:
    """The place of a request that becomes a turn, until it is freed."""

    def __init__(self, admission: "Admission") -> None:
        self._admission: Admission | None = admission
        admission.entering += 1

    def free(self) -> None:
        """Releases the place once the turn itself is counted, or if there will be none; safe to call twice."""
        if self._admission is not None:
            self._admission.entering -= 1
            self._admission = None


class Admission:
    """Rejects requests for turns above the limits.

    `most` limits all turns, running and waiting, with those of other nodes that are followed here, as `remote` has
    them; `refused` counts rejections. `delay` returns the seconds that reads of the database have waited. `crowd` is
    the message while there are too many connections, else empty.
    """

    def __init__(
        self, most: int, upstreams: int, turns: Mapping[str, Turn], remote: RemoteTurns, delay: Callable[[], float]
    ) -> None:
        self.most = min(most, upstreams)
        self._cure = "the limit of descriptors (ulimit -n)" if self.most == upstreams else "BYTEBREW_MAX_TURNS"
        self.crowd = ""
        self.limit = Limit()
        self.entering = self.refused = 0
        self._turns, self._remote = turns, remote
        self._delay = delay
        self._rest = self._seen = 0
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def enter(self, held: list[Place] | None = None) -> Place:
        """A place for one more turn, or the place `held` already; raises Overloaded if there is none."""
        if held:
            return held.pop()
        if words := self.lacks():
            self.refused += 1
            raise Overloaded(words)
        if self._timer is None:
            self.limit = Limit()
            self._wait(asyncio.get_running_loop())
        return Place(self)

    def overload(self) -> str:
        """Why no turn or connection is accepted now; empty if they are."""
        return self.crowd or self.lacks()

    def pressed(self) -> bool:
        """Whether requests may have to be rejected, so that their first bytes must be examined."""
        return self.limit.turns < math.inf or 2 * self._count() >= self.most

    def lacks(self) -> str:
        """Why no turn is accepted now; empty if turns are."""
        turns = self._count()
        if turns >= self.most:
            return f"The engine has {turns} turns, its most; try again in a moment, or raise {self._cure}"
        if turns - self._rest >= self.limit.turns:
            return "The engine has as many turns as its processor keeps up with; try again in a moment"
        return ""

    def close(self) -> None:
        """Stops measuring."""
        if self._timer is not None:
            self._timer.cancel()

    def _count(self) -> int:
        return len(self._turns) + len(self._remote.turns) + self._remote.arriving + self.entering

    def _waiting_turns(self) -> int:
        """The number of turns that wait for another of their session or for a person, and use no CPU time."""
        turns: Iterable[Turn | RemoteTurn] = chain(self._turns.values(), self._remote.turns.values())
        return sum(turn.status == "queued" or turn.holds > 0 for turn in turns)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + TICK
        self._timer = loop.call_at(self._due, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now, turns = loop.time(), self._count()
        late = max(now - self._due, self._delay())  # the database's threads may lag without the event loop
        if self.limit.look(now, late, turns - self._rest, refused=self.refused > self._seen):
            self._seen, self._rest = self.refused, self._waiting_turns()
        if turns or self.limit.turns < math.inf:
            self._wait(loop)
        else:
            self._timer = None


def default_turns(processes: int = 1) -> int:
    """The limit of turns for half of this process's memory, which is a share of the machine's."""
    return max(LEAST, min(MOST, memory(processes) // 2 // TURN_BYTES))


class BodyMemory:
    """Limits the memory of request bodies.

    Above the limit, the oldest incomplete bodies are rejected: they are the slowest.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._coming: dict[BodyReader, None] = {}

    def take(self, body: "BodyReader", size: int) -> None:
        """Adds a chunk; raises Overloaded if there is no room for it."""
        self._coming.setdefault(body)
        self.held += size
        body.held += size
        while self.held > self.most:
            slowest = next(iter(self._coming), body)
            self.leave(slowest)
            slowest.abort()
            if slowest is body:
                raise Overloaded(_CROWDED_BODIES)

    def whole(self, body: "BodyReader") -> None:
        """Marks the body as complete; it still counts until `leave`."""
        self._coming.pop(body, None)

    def leave(self, body: "BodyReader") -> None:
        """Subtracts the body, which is no longer in memory."""
        self._coming.pop(body, None)
        self.held -= body.held
        body.held = 0


class BodyReader:
    """Reads the chunks of a request's body within its limits of size, time and rate."""

    def __init__(self, receive: Receive, headers: Mapping[str, str], limit: int, bodies: BodyMemory | None) -> None:
        self.held = 0
        self._receive, self._headers, self._limit, self._bodies = receive, headers, limit, bodies
        self._began = asyncio.get_running_loop().time()
        self._size, self._more, self._late, self._gives_way = 0, True, 0.0, False
        self._waiting: asyncio.Timeout | None = None

    def close(self) -> None:
        """Subtracts its bytes from the body memory."""
        if self._bodies is not None:
            self._bodies.leave(self)

    def check(self) -> None:
        """Raises PayloadTooLarge if its Content-Length is above the limit."""
        declared = self._headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:19]) > self._limit:
            raise self._too_large()

    def abort(self) -> None:
        """Makes the pending read raise Overloaded."""
        self._gives_way = True
        if self._waiting is not None:
            self._waiting.reschedule(0)

    async def whole(self) -> bytes:
        """The whole body."""
        return b"".join([piece async for piece in self])

    def __aiter__(self) -> "BodyReader":
        return self

    async def __anext__(self) -> bytes:
        if not self._more:
            raise StopAsyncIteration
        self.check()
        try:
            piece = await self._in_time()
        except TimeoutError as error:
            self._more = False
            if self._gives_way:
                raise Overloaded(_CROWDED_BODIES) from error
            message = f"The body fell silent for {BODY_SECONDS:g} s, or did not arrive in time"
            raise RequestTimeout(message) from error
        self._size += len(piece)
        if self._size > self._limit:
            raise self._too_large()
        if self._bodies is not None:
            self._bodies.take(self, len(piece))
            if not self._more:
                self._bodies.whole(self)
        return piece

    def _until(self) -> float:
        """The deadline of the body: fixed for one in memory, else extended by each byte according to LEAST_RATE."""
        if self._bodies is not None:
            return self._began + BODY_SECONDS
        return self._began + min(STREAM_SECONDS, BODY_SECONDS + self._size / LEAST_RATE)

    async def _in_time(self) -> bytes:
        now = asyncio.get_running_loop().time
        try:
            return await self._next(min(self._late or self._until(), now() + BODY_SECONDS))
        except TimeoutError:  # even after a suspended process, data that has arrived is read first
            if self._late or self._gives_way:
                raise
            if now() >= self._until():
                self._late = now() + LATE_SECONDS
            return await self._next(now() + LATE_SECONDS)

    async def _next(self, until: float) -> bytes:
        if self._gives_way:
            raise TimeoutError
        try:
            async with asyncio.timeout_at(until) as self._waiting:
                message = await self._receive()
        finally:
            self._waiting = None
        self._more = message.get("more_body", False)
        if message["type"] == "http.disconnect":
            raise InvalidRequest("The client left before its body was whole")
        return bytes(message.get("body", b""))

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The body is larger than {self._limit} bytes")


def default_body_memory(longest: int, most: int, processes: int = 1) -> BodyMemory:
    """The memory for bodies: an eighth of all memory, within `most`, but at least two of the longest bodies."""
    return BodyMemory(max(2 * longest, min(most, memory(processes) // 8)))
