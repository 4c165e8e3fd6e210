"""The many: turns that come at a rate in new and old sessions, of clients that vanish now and then."""

import asyncio
import json
import random
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bytebrew.contract.connection import Connection
from bytebrew.store.journal import frame
from tests.bench.double import DELTAS
from tests.chaos.model import Model
from tests.disturbed.client import frames
from tests.faults.invariants import events
from tests.soak.engine import Engine
from tests.soak.raw import GONE, Head, Raw

PACED, VANISHES, OLD, KEYED = 0.02, 0.03, 0.5, 0.1
"""How many turns have deltas 20 ms apart, lose their client, go on in an old session, and have an Idempotency-Key."""
IDLE = 300
"""Sessions that may go on."""
LATE = 5.0
"""Seconds of turns that are made up for behind a restart."""
MOST = 400
"""Turns that are under way at a time; more wait, as they do while no engine serves."""
SILENCE = 40.0
"""Seconds after which a stream must have ended."""
LONGEST = 90.0
"""Seconds after which a turn must have ended, whatever happened to its engine."""
REFUSALS = (429, 503)
RETRY = 0.5
"""Seconds after which a client comes again."""


@dataclass(slots=True)
class Turn:
    """A turn that an engine has acknowledged: where it is in its session's journal, and a sum over all its frames."""

    session_id: str
    turn_id: str
    before: int
    last: int = 0
    sum: int = 0
    deltas: int = 0
    restarted: bool = False
    end: str = ""
    status: str = ""


@dataclass(slots=True)
class Session:
    """A session of ours with the number of its last event."""

    id: str
    schema: str
    last: int = 0


class Bulk:
    """Sends turns and keeps what became of them; `took` is how long those took that have ended since it was emptied."""

    def __init__(self, engine: Engine, model: Model, rate: float) -> None:
        self._engine, self._model, self._rate = engine, model, rate
        self._dice = random.Random(f"{model.seed} bulk")
        self._sessions: list[Session] = []
        self._idle: list[Raw] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self.turns: list[Turn] = []
        self.took: list[float] = []
        self.counts: Counter[str] = Counter()

    async def run(self, until: float) -> None:
        """Begins turns at the rate until a moment of the monotonic clock; returns once all have ended."""
        due = time.monotonic()
        while (now := time.monotonic()) < until:
            due = max(due + self._dice.expovariate(self._rate), now - LATE)
            await asyncio.sleep(max(0.0, min(due, until) - now))
            while len(self._under_way) >= MOST:
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            self._under_way.add(task := asyncio.create_task(self._turn()))
            task.add_done_callback(self._ended)
        while self._under_way:
            await asyncio.wait(self._under_way)
        for one in self._idle:
            one.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._model.violation(f"a client of the many broke off: {error!r}")

    async def _turn(self) -> None:
        dice = self._dice
        if old := bool(self._sessions) and dice.random() < OLD:
            session = self._sessions.pop(dice.randrange(len(self._sessions)))
        else:
            session = Session(_uuid(dice), "paced" if dice.random() < PACED else "burst")
        schema = session.schema
        body = {"session_id": session.id, "message": f"Tell me about word{dice.randrange(10**6)}."}
        headers = {"Idempotency-Key": _uuid(dice)} if dice.random() < KEYED else {}
        leaves = dice.randint(1, DELTAS) if dice.random() < VANISHES else 0
        until, began, turn = time.monotonic() + LONGEST, time.monotonic(), None
        self.counts[f"{schema} in an {'old' if old else 'new'} session"] += 1
        while time.monotonic() < until:
            await self._engine.up.wait()
            connection = await self._connected()
            if connection is None:
                continue
            head, first, moment = Head(0, {}), turn is None, time.monotonic()
            try:
                async with asyncio.timeout(SILENCE):
                    if turn is None:
                        head = await connection.ask("POST", f"/schemas/{schema}/chat", body, headers)
                    else:
                        self.counts["resumed"] += 1
                        after = {"Last-Event-ID": str(turn.last or turn.before)}
                        head = await connection.ask("GET", f"/sessions/{session.id}/events", headers=after)
                    if head.status == 200:
                        turn = turn or self._begun(session, head)
                        await self._read(connection, turn, leaves, whole=first)
                    else:
                        await connection.whole(head)
            except TimeoutError:
                fine = self._engine.disturbed > moment
                self._model.check(fine, f"a stream has not ended for {SILENCE:g} s: {head} {turn}")
            except GONE:
                pass
            leaves = 0
            if turn is not None and turn.end:
                self._release(connection, whole=first)
                self.took.append(time.monotonic() - began)
                self._over(session, turn)
                return
            connection.close(at_once=True)
            if turn is None and not self._again(head, bool(headers)):
                return
            await asyncio.sleep(RETRY)
        if turn is None:
            self.counts["given up"] += 1
            return
        self._model.violation(f"a turn of session {session.id} has not ended after {LONGEST:g} s: {turn}")

    async def _connected(self) -> Raw | None:
        while self._idle:
            one = self._idle.pop()
            if not one.writer.is_closing():
                return one
        try:
            return await Raw.open(self._engine.url)
        except OSError:
            await asyncio.sleep(0.05)
            return None

    def _again(self, head: Head, keyed: bool) -> bool:
        """Whether a message that began no turn may be sent again."""
        if head.status == 0:
            self.counts["sent again under its key" if keyed else "unanswered"] += 1
            return keyed
        self.counts[f"refused with {head.status}"] += 1
        self._model.check(head.status in REFUSALS, f"a chat of the many was answered {head.status}")
        return True

    def _begun(self, session: Session, head: Head) -> Turn:
        turn = Turn(session.id, head.headers["x-turn-id"], session.last)
        self.turns.append(turn)
        return turn

    def _release(self, connection: Raw, *, whole: bool) -> None:
        if whole:
            self._idle.append(connection)
        else:
            connection.close(at_once=True)

    async def _read(self, connection: Raw, turn: Turn, leaves: int, *, whole: bool) -> None:
        """Reads to the end of the stream, or of the turn where it goes on behind that, or until the client leaves."""
        count = 0
        async for one in frames(connection.pieces()):
            if not one.startswith(b"id: "):
                self.counts["without a number"] += 1
                continue
            number_line, name_line, data = one.split(b"\n", 2)
            number, name = int(number_line[4:].rpartition(b":")[2]), name_line[7:]
            if number != (turn.last or turn.before) + 1:
                words = f"event {number} follows event {turn.last or turn.before} in session {turn.session_id}"
                self._model.violation(words)
            turn.last, turn.sum = number, zlib.crc32(one + b"\n\n", turn.sum)
            turn.deltas += name == b"message_delta"
            turn.restarted = turn.restarted or name == b"message_restart"
            if name in (b"done", b"error"):
                turn.end, turn.status = name.decode(), json.loads(data[6:]).get("status", "failed")
                if not whole:
                    return
            if (count := count + 1) == leaves and not turn.end:
                self.counts["vanished"] += 1
                raise ConnectionResetError

    def _over(self, session: Session, turn: Turn) -> None:
        self.counts[turn.end] += 1
        self.counts["deltas"] += turn.deltas
        session.last = turn.last
        if len(self._sessions) < IDLE:
            self._sessions.append(session)
        else:
            self._sessions[self._dice.randrange(IDLE)] = session
        if turn.end == "done" and turn.status == "completed" and not turn.restarted and turn.deltas != DELTAS:
            self._model.violation(f"turn {turn.turn_id} is done with {turn.deltas} of {DELTAS} deltas")


def file_has(conn: Connection, turns: list[Turn]) -> Iterator[str]:
    """What the file lacks of turns that clients saw."""
    rows = {row[0]: row[1] for row in conn.execute("select id, status from turns")}
    by_session: dict[str, list[Turn]] = defaultdict(list)
    for turn in turns:
        by_session[turn.session_id].append(turn)
    for session_id, seen in by_session.items():
        journal = [frame(n, name, data) for n, name, data in events(conn, session_id)]
        for turn in seen:
            if rows.get(turn.turn_id) != turn.status:
                yield f"turn {turn.turn_id} was shown as {turn.status!r} and is {rows.get(turn.turn_id)}"
            total = 0
            for one in journal[turn.before : turn.last]:
                total = zlib.crc32(one, total)
            if total != turn.sum:
                yield f"events {turn.before + 1} to {turn.last} of session {session_id} are not those that a client saw"


def _uuid(dice: random.Random) -> str:
    bits: Any = f"{dice.getrandbits(128):032x}"
    return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-a{bits[17:20]}-{bits[20:]}"
