"""How long a fork takes, of a short session and of a long one, and how long it holds up the messages of others."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median

import httpx
import uvloop

from bytebrew.store.queries import events
from bytebrew.store.sqlite.pragmas import connect
from bytebrew.testing import ADMIN
from tests.bench import load
from tests.bench.data import copied, multiply
from tests.bench.figures import Heading, Line, Target, percentile
from tests.bench.measures import engine_wire
from tests.bench.servers import Server, running_engine

TURNS = 5000
CLIENTS = 4
MOST = 0.050
"""Seconds from the request for a fork to its answer."""


def measured(fresh: Path, session_id: str, rounds: int, seconds: float) -> Iterator[object]:
    """The lines of the table; the sessions' events are packed, as after a week."""
    data = copied(fresh, "forked")
    (short,), (long,) = multiply(data, session_id, 1, 5), multiply(data, session_id, 1, TURNS)
    with closing(connect(data / "bytebrew.db")) as conn:
        conn.execute("begin")
        for row in conn.execute("select session_id, first_event, last_event from turns").fetchall():
            while events.pack(conn, *row):
                pass
        conn.execute("update turns set packed = 1")
        conn.execute("commit")
    yield Heading("Fork of a session of so many messages", "10", f"{2 * TURNS:,}")
    with running_engine(data) as engine:
        few, many = (_times(engine, one, 20 * rounds) for one in (short, long))
        met = median(many) < MOST
        yield Line("ms, median", median(few) * 1000, median(many) * 1000, Target("< 50 ms", met))
        yield Line("ms, the longest", max(few) * 1000, max(many) * 1000)
        alone, _ = uvloop.run(load.turn_after_turn([engine_wire(engine, "burst")] * CLIENTS, seconds))
        beside = uvloop.run(_beside(engine, long, seconds))
        base, ours = (percentile([turn.total * 1000 for turn in turns], 99) for turns in (alone, beside))
        yield Line(f"p99 ms of a turn of {CLIENTS}, forks beside", base, ours)


def _times(engine: Server, session_id: str, count: int) -> list[float]:
    """Seconds of each request, from different places of the history."""
    found: list[float] = []
    base = f"http://127.0.0.1:{engine.port}/api/v1/sessions/{session_id}"
    with httpx.Client(headers={"Authorization": f"Bearer {ADMIN}"}, timeout=30) as api:
        page = api.get(f"{base}/events?follow=false&limit=1").raise_for_status().json()
        turns = api.get(base).raise_for_status().json()["message_count"] // 2
        each = page["total"] // turns
        for n in range(count):
            after = each * (1 + n * (turns - 1) // max(count - 1, 1))
            started = time.perf_counter()
            api.post(f"{base}/fork", json={"after": after}).raise_for_status()
            found.append(time.perf_counter() - started)
    return found


async def _beside(engine: Server, session_id: str, seconds: float) -> list[load.Turn]:
    """Turns while somebody forks without a pause."""
    url = f"http://127.0.0.1:{engine.port}/api/v1/sessions/{session_id}/fork"

    async def fork() -> None:
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {ADMIN}"}, timeout=30) as api:
            while True:
                (await api.post(url, json={})).raise_for_status()

    forking = asyncio.create_task(fork())
    turns, _ = await load.turn_after_turn([engine_wire(engine, "burst")] * CLIENTS, seconds)
    forking.cancel()
    return turns
