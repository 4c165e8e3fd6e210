"""The worker: reads ended turns behind the cursor, sends their spans, and moves the cursor once they have arrived."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

from bytebrew import Engine, EngineError, ProviderError, within

from . import cursor, turn_rows

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from .spans import Spans

log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between two looks at whether anything was committed."""
MOST_SPANS, MOST_BYTES = 512, 1024 * 1024
"""Limits of one export, above which it ends with the next span."""
POST_SECONDS = 10.0
LONGEST_WAIT = 60.0
LAST_SECONDS = 2.0
"""How long a stop waits for a last export; what is left is sent after the next start."""
_BAD_DATA = (400, 413, 422)
"""Statuses after which the same bytes would fail again."""


class Refused(Exception):
    """The collector does not take spans at the moment; `wait` is how long it says to wait, in seconds."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class Worker:
    """Exports the turns of an engine to one collector."""

    def __init__(self, engine: Engine, spans: "Spans", endpoint: str, headers: Mapping[str, str]) -> None:
        self._engine = engine
        self._spans = spans
        base = endpoint.rstrip("/")
        self._url = base if base.endswith("/v1/traces") else f"{base}/v1/traces"
        self._headers = {"Content-Type": "application/x-protobuf", **headers}
        self._failures = 0

    async def start(self) -> None:
        """Sets the cursor if it is the first start, and exports while this node leads."""
        await self._engine.db.write(cursor.begin)
        self._engine.duties.add("traces", self._run, lambda: None)

    async def stop(self) -> None:
        """A last export if the collector has taken the one before."""
        if self._engine.node.leads and not self._failures:
            try:
                with within(LAST_SECONDS):
                    await self._export_all()
            except (Refused, EngineError, TimeoutError) as error:
                log.info("the last traces are sent after the next start: %s", error)

    async def _run(self) -> None:
        seen, alone = -1, self._engine.node.id is None
        while True:
            wait = TICK
            if (commits := self._engine.db.commits) != seen or not alone:
                try:
                    await self._export_all()
                    seen, self._failures = commits, 0
                except (Refused, EngineError) as error:
                    wait = self._backoff(error)
                except Exception as error:
                    log.exception("traces could not be exported")
                    wait = self._backoff(error)
            await asyncio.sleep(wait)

    def _backoff(self, error: Exception) -> float:
        self._failures += 1
        if self._failures in (1, 10) or self._failures % 60 == 0:
            log.warning("traces wait in the database, %d tries have failed: %s", self._failures, error)
        # jitter, so that engines that lost their collector together do not return together
        wait = min(LONGEST_WAIT, 2.0 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
        return max(wait, min(error.wait, LONGEST_WAIT)) if isinstance(error, Refused) else wait

    async def _export_all(self) -> None:
        """Exports batch after batch until no ended turn is left."""
        db, alone = self._engine.db, self._engine.node.id is None
        while True:
            batch = await db.read(cursor.following)
            if not alone and (batch.turns or batch.passed):
                # a write excludes those of other nodes, so that no turn with a lower number is committed later
                batch = await db.write(cursor.following)
            spans: list[Span] = []
            size = 0
            async with aclosing(self._made(batch)) as made:
                async for span in made:
                    spans.append(span)
                    size += span.ByteSize()
                    if len(spans) >= MOST_SPANS or size >= MOST_BYTES:
                        await self._post(spans)
                        spans, size = [], 0
            if spans:
                await self._post(spans)
            if batch.turns or batch.passed or batch.done:
                await self._engine.db.write(cursor.advance, batch)
            if not batch.more:
                return

    async def _made(self, batch: cursor.Batch) -> AsyncGenerator["Span", None]:
        for turn_id in batch.turns:
            rows = await self._engine.db.read(turn_rows.read, turn_id, self._spans.content)
            if rows is None:
                continue
            try:
                for span in self._spans.of_turn(rows):
                    yield span
            except (ValueError, TypeError, LookupError):  # must not hold up the turns behind it
                log.exception("turn %s has no trace, or only a part", turn_id)

    async def _post(self, spans: "list[Span]") -> None:
        """Sends spans; raises Refused if they must be sent again."""
        body = self._spans.request(spans)
        try:
            with within(POST_SECONDS):
                answer = await self._engine.http.ask(
                    "POST", self._url, headers=self._headers, content=body, limit=65536
                )
        except ProviderError as error:
            raise Refused(error.message) from error
        except TimeoutError as error:
            raise Refused(f"no answer within {POST_SECONDS:g} s") from error
        if 200 <= answer.status < 300:
            if words := self._spans.rejected(answer.body):
                log.warning("the collector of traces %s", words)
        elif answer.status in _BAD_DATA:
            log.error("the collector of traces refuses %d spans for good: HTTP %d", len(spans), answer.status)
        else:
            after = answer.headers.get("retry-after", "")
            raise Refused(f"HTTP {answer.status}", float(after) if after.isascii() and after.isdecimal() else 0.0)
