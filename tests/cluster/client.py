"""A client of the cluster: requests that may fail while something is wrong, and streams that are taken up anywhere."""

import asyncio
import json
import random
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.cluster.history import History
from tests.cluster.wire import Answer, Lost, sent

SILENCE = 25.0
"""Seconds after which a client gives up an answer or a stream and tries again; a stream's comments come at 15."""
PATIENCE = 150.0
"""Seconds for which a client tries the same."""
PASSING = frozenset({"draining", "storage", "interrupted", "overloaded"})
"""Codes of the 503 that use up no key."""


class Stretch(NamedTuple):
    """A part of a stream: its status, 0 for none, how it ended, and the code that refused it or broke it off."""

    status: int
    fields: Mapping[str, str]
    last: int
    end: str
    data: dict[str, Any]
    code: str


class Client:
    """A caller with dice of its own."""

    def __init__(self, port: int, history: History, name: str) -> None:
        self.port, self.history, self.name = port, history, name
        self.dice = random.Random(f"{history.seed} {name}")
        self._marks = 0

    def mark(self) -> str:
        """A text that nobody else uses in this run."""
        self._marks += 1
        return f"{self.name}-{self._marks}"

    def uuid(self) -> str:
        """A UUID by the client's dice."""
        bits = f"{self.dice.getrandbits(128):032x}"
        return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-a{bits[17:20]}-{bits[20:]}"

    async def send(self, method: str, path: str, body: Any = None, *, port: int = 0, **more: Any) -> Answer | None:
        """The answer of any node, or of the one at `port`; None where none came."""
        began = time.monotonic()
        try:
            async with sent(port or self.port, method, path, body, seconds=SILENCE, **more) as exchange:
                answer = await exchange.whole(SILENCE)
        except (Lost, TimeoutError) as error:
            self._excused(f"{method} {path} was not answered: {error!r}", began)
            return None
        if answer.code == "internal_error":
            self.history.violation(f"{method} {path} answered 500 internal_error")
        elif answer.status >= 500:
            self._excused(f"{method} {path} answered {answer.status} {answer.content[:200]!r}", began)
            return None if answer.status == 502 else answer
        self.history.check(answer.status not in (401, 403) or "token" in more, f"{method} {path}: {answer.status}")
        return answer

    def _excused(self, words: str, began: float) -> None:
        self.history.check(self.history.disturbed(began), f"{words}, after {time.monotonic() - began:.1f} s")

    async def insist(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        """The first answer that is no failure of a node; TimeoutError if there is none in good time."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            answer = await self.send(method, path, body, **more)
            if answer is not None and answer.status <= 500:
                return answer
            await asyncio.sleep(self.dice.uniform(0.1, 0.5))
        self.history.violation(f"{method} {path} was answered by no node for {PATIENCE:g} s")
        raise TimeoutError

    async def keyed(self, path: str, body: Any, key: str = "", **more: Any) -> Answer:
        """A POST under a key, repeated until it is answered."""
        headers = {"idempotency-key": key or f"key-{self.mark()}"}
        return await self.insist("POST", path, body, headers=headers, **more)

    async def stream(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        session_id: str = "",
        after: int = 0,
        last: int = 0,
        most: int = 0,
        turn_id: str = "",
        port: int = 0,
        times: dict[int, float] | None = None,
    ) -> Stretch:
        """Reads a stream up to the end of a turn, the event `last`, or `most` events.

        With `after` the events follow that number. `times` is where to put when each came.
        """
        began, number, count = time.monotonic(), after, 0
        status, fields = 0, dict[str, str]()
        try:
            async with sent(port or self.port, method, path, body, headers=headers, seconds=SILENCE) as exchange:
                status, fields = exchange.status, dict(exchange.fields)
                if status != 200:
                    answer = await exchange.whole(SILENCE)
                    if status >= 500:
                        self._excused(f"{method} {path} answered {status} {answer.content[:200]!r}", began)
                    return Stretch(status, fields, number, "", {}, answer.code)
                session_id, turn_id = session_id or fields["x-session-id"], turn_id or fields.get("x-turn-id", "")
                async for frame in exchange.frames(SILENCE):
                    began = time.monotonic()
                    lines = dict(line.split(": ", 1) for line in frame.decode().split("\n") if ": " in line)
                    if lines["event"] == "queued":
                        continue  # its place in the queue is in no journal
                    if "id" not in lines:
                        code = str(json.loads(lines["data"])["code"])
                        self._excused(f"the stream of {path} broke off with {code}", began)
                        return Stretch(status, fields, number, "", {}, code)
                    number, previous = int(lines["id"].rpartition(":")[2]), number
                    if times is not None:
                        times[number] = began
                    if (previous or count) and number != previous + 1:
                        self.history.violation(f"event {number} follows event {previous} in session {session_id}")
                    count += 1
                    self.history.saw(session_id, number, frame)
                    ends = lines["event"] in ("done", "error")
                    if ends and not last:
                        return Stretch(status, fields, number, lines["event"], json.loads(lines["data"]), "")
                    if number == last or count == most:
                        return Stretch(status, fields, number, "", {}, "")
        except (Lost, TimeoutError) as error:
            self._excused(f"the stream of {path} in session {session_id} broke off at {number}: {error!r}", began)
        return Stretch(status, fields, number, "", {}, "")
