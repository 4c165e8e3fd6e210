"""Clients who follow a session in which nothing happens."""

import asyncio
import resource
import time
from collections.abc import Iterator, Sequence

import uvloop

from tests.bench.data import admin, configure, multiply
from tests.bench.goals.asked import request
from tests.bench.goals.table import Goal, Row
from tests.bench.goals.trees import Bench, data_of, engine, vendor
from tests.bench.servers import Server

KEPT = 200
"""Descriptors that both sides keep for other things."""
AT_ONCE = 100
IDLE = 2.0
"""Seconds in which nothing comes any more."""


class Follower(asyncio.Protocol):
    """A connection whose answer does not end."""

    def __init__(self) -> None:
        self.began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = False

    def data_received(self, data: bytes) -> None:
        if self.began.done():
            return
        if data.startswith(b"HTTP/1.1 200"):
            self.began.set_result(None)
        else:
            self.began.set_exception(ValueError(data[:300].decode("utf-8", "replace")))

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if not self.began.done():
            self.began.set_exception(error or ConnectionResetError("the server hung up"))


def followers(bench: Bench) -> Iterator[object]:
    """Each follows a session of its own, and has read all of it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(bench.amounts.followers, hard // 2 - KEPT)  # the engine gives clients half of its own
    memory: list[float] = []
    lost: list[float] = []
    with vendor(bench) as double:
        for tree in bench.trees:
            with engine(bench, tree) as one:
                session_id = configure(one, double)
                with admin(one) as api:
                    page = api.get(f"/sessions/{session_id}/events?follow=false&limit=1").raise_for_status().json()
            ids = multiply(data_of(bench, tree), session_id, count, 1)
            paths = [f"/api/v1/sessions/{one}/events?after={page['total']}" for one in ids]
            with engine(bench, tree) as one:
                uvloop.run(_follow(one, paths[:1]))  # what is loaded once is no part of a follower
                before = one.rss_kb
                most, gone = uvloop.run(_follow(one, paths))
                memory.append((most - before) / count)
                lost.append(gone)
    yield Row.alone(f"{count:,} idle followers: lost", lost, Goal("<=", 0))
    yield Row.alone(f"{count:,} idle followers: KB each", memory, Goal("<=", 12, "KB"))


async def _follow(server: Server, paths: Sequence[str]) -> tuple[float, int]:
    """The server's memory while all paths are followed, and how many followers it has lost by then."""
    loop, turns = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)
    protocols: list[Follower] = []
    transports: list[asyncio.BaseTransport] = []

    async def follow(path: str) -> None:
        async with turns:
            transport, follower = await loop.create_connection(Follower, "127.0.0.1", server.port)
            transports.append(transport)
            protocols.append(follower)
            transport.write(request("GET", path))
            await follower.began

    try:
        async with asyncio.TaskGroup() as group:
            for one in paths:
                group.create_task(follow(one))
        memory, until = 0.0, time.perf_counter() + IDLE
        while time.perf_counter() < until:
            memory = server.rss_kb
            await asyncio.sleep(0.1)
        return memory, sum(one.lost for one in protocols)
    finally:
        for transport in transports:
            transport.close()
