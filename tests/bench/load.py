"""The load: many clients on keep-alive connections, cheap enough never to be what is measured."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, cast

from bytebrew.base.formats import new_uuid
from tests.bench.double import DELTAS

END = b"\r\n0\r\n\r\n"
LONGEST = 60
"""Seconds after which a measurement is given up: a turn hangs."""
RETRY_AFTER = 1.0
"""Seconds for which a refusal asks."""
NEW = "01890000-0000-7000-8000-000000000000"
"""Stands in a request for an id that is another one in each turn."""


class Wire(NamedTuple):
    """How a server is asked for a turn, how a delta and the end of its answer look, and how often a delta comes."""

    port: int
    request: bytes
    delta: bytes
    end: bytes
    times: int = DELTAS


class Turn(NamedTuple):
    """Seconds from the request to the first delta and to the last byte, and how often it was refused before."""

    first: float
    total: float
    refused: int = 0


class Refused(Exception):
    """The server answered at once that it takes no more turns."""


class Client(asyncio.Protocol):
    """A keep-alive connection with one turn at a time."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self.connected = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.connected = True

    def close(self) -> None:
        """Leaves, if it has come."""
        if self.connected:
            self.connected = False
            self.transport.close()

    async def turn(self) -> Turn:
        """One turn; raises ValueError unless it comes whole and well."""
        self._received: list[bytes] = []
        self._first = 0.0
        self._whole: asyncio.Future[float] = self._loop.create_future()
        started = time.perf_counter()
        self.transport.write(self._wire.request.replace(NEW.encode(), new_uuid().encode()))
        ended = await self._whole
        self._check(b"".join(self._received))
        return Turn(self._first - started, ended - started)

    async def patient_turn(self) -> Turn:
        """One turn, for which it asks again as long as it is refused; the time counts from the first request."""
        started, refused = time.perf_counter(), 0
        while True:
            try:
                if not self.connected:
                    await self._loop.create_connection(lambda: self, "127.0.0.1", self._wire.port)
                turn = await self.turn()
            except Refused:
                refused += 1
                await asyncio.sleep(RETRY_AFTER)
            else:
                waited = time.perf_counter() - started - turn.total
                return Turn(waited + turn.first, waited + turn.total, refused)

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        if not self._first and self._wire.delta in data:
            self._first = time.perf_counter()
        if data.endswith(END) or (len(data) < len(END) and b"".join(self._received[-len(END) :]).endswith(END)):
            self._whole.set_result(time.perf_counter())
        elif self._received[0].startswith(b"HTTP/1.1 503") and data.endswith(b"}") and not self._whole.done():
            self._whole.set_exception(Refused())

    def connection_lost(self, error: Exception | None) -> None:
        self.connected = False
        if hasattr(self, "_whole") and not self._whole.done():
            self._whole.set_exception(error or ConnectionResetError("the server hung up"))

    def _check(self, answer: bytes) -> None:
        head, _, chunks = answer.partition(b"\r\n\r\n")
        body = b""
        while chunks:
            size, _, rest = chunks.partition(b"\r\n")
            length = int(size, 16)
            body += rest[:length]
            chunks = rest[length + 2 :]
        if (
            not head.startswith(b"HTTP/1.1 200")
            or body.count(self._wire.delta) != self._wire.times
            or self._wire.end not in body
        ):
            raise ValueError(f"a turn failed: {(head + body)[-600:].decode('utf-8', 'replace')}")


@asynccontextmanager
async def _connected(wires: Sequence[Wire], longest: float | None = LONGEST) -> AsyncIterator[list[Client]]:
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    try:
        for wire in wires:
            _, client = await loop.create_connection(lambda wire=wire: Client(wire), "127.0.0.1", wire.port)  # type: ignore[misc]
            clients.append(client)
        async with asyncio.timeout(longest):
            yield clients
    finally:
        for client in clients:
            client.transport.close()


async def turn_after_turn(wires: Sequence[Wire], seconds: float, patient: bool = False) -> tuple[list[Turn], float]:
    """The turns of one client a wire, each one after the other for so many seconds, and how long it really took.

    A patient client asks again when it is refused.
    """
    async with _connected(wires) as clients:
        started = time.perf_counter()

        async def run(client: Client) -> list[Turn]:
            turn = client.patient_turn if patient else client.turn
            turns = [await turn()]
            while time.perf_counter() - started < seconds:
                turns.append(await turn())
            return turns

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(client)) for client in clients]
        return [turn for task in tasks for turn in task.result()], time.perf_counter() - started


async def in_turns(wires: Sequence[Wire], count: int) -> list[list[Turn]]:
    """So many turns on each wire, one at a time and in turns, so that noise meets all alike."""
    async with _connected(wires, None) as clients:
        found: list[list[Turn]] = [[] for _ in wires]
        for _ in range(count):
            async with asyncio.timeout(LONGEST):
                for client, turns in zip(clients, found, strict=True):
                    turns.append(await client.turn())
        return found


async def side_by_side(
    wire: Wire,
    clients: int,
    apart: float,
    turns: int,
    watch: Callable[[], None],
    longest: float = LONGEST,
    patient: bool = False,
) -> list[Turn | BaseException]:
    """So many turns of each client, who begin some seconds apart; calls `watch` ten times a second meanwhile.

    A patient client asks again when it is refused.
    """
    async with _connected([wire] * clients, longest) as connected:

        async def run(client: Client, wait: float) -> list[Turn | BaseException]:
            await asyncio.sleep(wait)
            found: list[Turn | BaseException] = []
            try:
                while len(found) < turns:
                    found.append(await (client.patient_turn() if patient else client.turn()))
            except (OSError, ValueError, Refused) as error:
                found += [error] * (turns - len(found))
            return found

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(client, n * apart)) for n, client in enumerate(connected)]
            while not all(task.done() for task in tasks):
                watch()
                await asyncio.wait(tasks, timeout=0.1)
        return [turn for task in tasks for turn in task.result()]


class Came(NamedTuple):
    """A client who came: after so many seconds, how long it took, and whether the turn was done, refused or failed."""

    at: float
    took: float
    became: str


async def at_rate(wire: Wire, rate: float, seconds: float, patience: float, watch: Callable[[], None]) -> list[Came]:
    """Turns of clients who do not know of each other: as many a second as the rate says, whatever becomes of them.

    A client gives up after `patience` seconds. The time of a turn counts from the moment at which its client comes,
    be there a connection or not. `watch` is called ten times a second.
    """
    loop, dice = asyncio.get_running_loop(), random.Random(1)
    idle: list[Client] = []
    all_: list[Came] = []

    async def come() -> None:
        came = time.perf_counter()
        became = "failed"
        client = idle.pop() if idle else Client(wire)
        try:
            async with asyncio.timeout(patience):
                if not client.connected:
                    await loop.create_connection(lambda: client, "127.0.0.1", wire.port)
                await client.turn()
            became = "done"
        except Refused:
            became = "refused"
        except (OSError, ValueError, TimeoutError):
            client.close()
        all_.append(Came(came - began, time.perf_counter() - came, became))
        if client.connected:
            idle.append(client)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        due, looked = began, began
        while (due := due + dice.expovariate(rate)) < began + seconds:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            group.create_task(come())
            if due - looked > 0.1:
                looked = due
                watch()
    watch()
    for client in idle:
        client.close()
    return all_
