"""What clients by dice get: whole answers, and streams as far as they came."""

import json
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from tests.disturbed.record import Record

PASSING = frozenset({"draining", "storage", "interrupted", "overloaded"})
"""Codes of the 503 that use up no key."""


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def asks(self) -> bool:
        """Whether a person must answer before a chat goes on."""
        return self.status == 202 and "x-turn-id" in self.headers

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.content) if self.content else None

    @property
    def code(self) -> str:
        """The code of a refusal."""
        with suppress(ValueError):
            body = self.json if self.status >= 400 else None
            return str(body.get("error", "")) if isinstance(body, dict) else ""
        return ""


class Stretch:
    """A part of a stream: the answer's status, 0 where there was none, and how far its events were read.

    `last` is the number of the last event, `last_id` its id; `end` is `done` or `error` with its `data`, empty where
    the stream ended before; `code` is what refused it or broke it off. `times` has when each event came.
    """

    def __init__(self, session_id: str = "", after: int = 0, times: dict[int, float] | None = None) -> None:
        self.session_id, self.last, self.last_id, self.count = session_id, after, "", 0
        self.status, self.end, self.code = 0, "", ""
        self.headers: Mapping[str, str] = {}
        self.data: dict[str, Any] = {}
        self.times = {} if times is None else times
        self.moment = time.monotonic()
        """When the last piece of it came."""

    async def read(
        self, pieces: AsyncIterator[bytes], record: Record, *, last: int = 0, most: int = 0, restarts: bool = False
    ) -> None:
        """Reads up to the end of a turn, the event `last`, or `most` events.

        Each event is one more than the one before; in a deleted session only unless it `restarts`.
        """
        self.session_id = self.session_id or self.headers["x-session-id"]
        async for frame in frames(pieces):
            self.moment = time.monotonic()
            lines = dict(line.split(": ", 1) for line in frame.decode().split("\n") if ": " in line)
            if lines["event"] == "queued":
                continue  # its place in the queue is in no journal
            if "id" not in lines:
                self.code = str(json.loads(lines["data"])["code"])
                return
            number = int(lines["id"].rpartition(":")[2])
            if self.last and number != self.last + 1 and not (restarts and self.session_id in record.deleting):
                record.violation(f"event {number} follows event {self.last} in session {self.session_id}")
            self.last, self.last_id, self.times[number] = number, lines["id"], self.moment
            self.count += 1
            record.saw(self.session_id, number, frame)
            if lines["event"] in ("done", "error") and not last:
                self.end, self.data = lines["event"], json.loads(lines["data"])
                return
            if number == last or self.count == most:
                return


async def frames(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The events of a stream as they are, without comments; a last one that is not whole is none."""
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n\n")
        for frame in whole:
            if not frame.startswith(b":"):
                yield frame


class Caller:
    """A client with dice of its own, which its name and the seed of the run begin."""

    def __init__(self, seed: int, name: str) -> None:
        self.name, self.dice = name, random.Random(f"{seed} {name}")

    def uuid(self) -> str:
        """A UUID by the client's dice."""
        bits = f"{self.dice.getrandbits(128):032x}"
        return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-a{bits[17:20]}-{bits[20:]}"
