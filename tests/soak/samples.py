"""Looks at the engine every few seconds, and writes a line of JSON for each look."""

import asyncio
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.bench.figures import percentile
from tests.soak.engine import Engine

_TASKS = re.compile(r"^soak_tasks (\S+)$", re.MULTILINE)


class Sample(NamedTuple):
    """What was seen at a moment, in seconds since the begin; `engine` is the number of the process."""

    at: float
    rss_mb: float
    descriptors: int
    tasks: int
    turns: int
    p50_ms: float
    p99_ms: float
    wal_mb: float
    file_mb: float
    engine: int


class Sampler:
    """Takes samples and keeps them; those within a restart are left out."""

    def __init__(self, engine: Engine, report: Callable[[str], None], every: float) -> None:
        self._engine, self._report, self._every = engine, report, every
        self.samples: list[Sample] = []
        self.counts: Counter[str] = Counter()

    async def run(self, turns: Callable[[], int], took: list[float]) -> None:
        """Samples until it is cancelled; `took` has the seconds of turns that ended, and is emptied."""
        began = due = time.monotonic()
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            while True:
                due += self._every
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await asyncio.to_thread(self._engine.read_log)
                times, number = [1000 * one for one in took], self._engine.number
                took.clear()
                with suppress(httpx.TransportError, OSError):
                    tasks = await self._scrape(http)
                    at, p50, p99 = time.monotonic() - began, *(percentile(times, n) if times else 0 for n in (50, 99))
                    sample = Sample(
                        round(at, 1),
                        *self._process(),
                        tasks,
                        turns(),
                        round(p50, 2),
                        round(p99, 2),
                        *self._files(),
                        number,
                    )
                    if number == self._engine.number and tasks:
                        self.samples.append(sample)
                        self._report(json.dumps(sample._asdict()))

    async def _scrape(self, http: httpx.AsyncClient) -> int:
        answer = await http.get(f"{self._engine.url}/metrics")
        self.counts[f"/metrics {answer.status_code}"] += 1
        found = _TASKS.search(answer.text)
        return int(float(found[1])) if found else 0

    def _process(self) -> tuple[float, int]:
        """Resident megabytes, and open descriptors."""
        proc = Path(f"/proc/{self._engine.pid}")
        pages = int((proc / "statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 2), sum(1 for _ in (proc / "fd").iterdir())

    def _files(self) -> tuple[float, float]:
        """Megabytes of the log and of the file."""
        file = self._engine.data / "bytebrew.db"
        log = file.with_name(f"{file.name}-wal")
        return round(log.stat().st_size / 2**20, 2), round(file.stat().st_size / 2**20, 2)
