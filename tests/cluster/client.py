"""A client of the cluster: requests that may fail while something is wrong, and streams that are taken up anywhere."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from tests.cluster.history import History
from tests.cluster.wire import Lost, sent
from tests.disturbed.client import Answer, Caller, Stretch

SILENCE = 25.0
"""Seconds after which a client gives up an answer or a stream and tries again; a stream's comments come at 15."""
PATIENCE = 150.0
"""Seconds for which a client tries the same."""


class Client(Caller):
    """A caller with dice of its own."""

    def __init__(self, port: int, history: History, name: str) -> None:
        super().__init__(history.seed, name)
        self.port, self.history = port, history
        self._marks = 0

    def mark(self) -> str:
        """A text that nobody else uses in this run."""
        self._marks += 1
        return f"{self.name}-{self._marks}"

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
        port: int = 0,
        times: dict[int, float] | None = None,
    ) -> Stretch:
        """Reads a stream up to the end of a turn, the event `last`, or `most` events.

        With `after` the events follow that number. `times` is where to put when each came.
        """
        part = Stretch(session_id, after, times)
        try:
            async with sent(port or self.port, method, path, body, headers=headers, seconds=SILENCE) as exchange:
                part.status, part.headers = exchange.status, exchange.fields
                if part.status == 200:
                    await part.read(exchange.pieces(SILENCE), self.history, last=last, most=most)
                    if part.code:
                        self._excused(f"the stream of {path} broke off with {part.code}", part.moment)
                else:
                    answer = await exchange.whole(SILENCE)
                    part.code = answer.code
                    if part.status >= 500:
                        self._excused(f"{method} {path} answered {part.status} {answer.content[:200]!r}", part.moment)
        except (Lost, TimeoutError) as error:
            words = f"the stream of {path} in session {part.session_id} broke off at {part.last}: {error!r}"
            self._excused(words, part.moment)
        return part
