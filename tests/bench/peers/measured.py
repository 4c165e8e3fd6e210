"""The table of the peers: each of them, the floor and the engine in the same rounds."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

import uvloop

from tests.bench import load
from tests.bench.data import configure
from tests.bench.load import Wire
from tests.bench.measures import CLIENTS, Effort, Side, engine_wire, floor_wire, rates
from tests.bench.peers.peers import PEERS
from tests.bench.servers import LOAD_CORE, SERVER_CORE, Server, running, running_engine

LONGEST = 60.0
"""Seconds after which a peer that does not answer is given up."""


class Contender(NamedTuple):
    """A running server, how it is asked, its memory before it was, and what it promises."""

    name: str
    server: Server
    wire: Wire
    memory: float
    promise: str


def measured(folder: Path, effort: Effort) -> Iterator[object]:
    """The lines of the table."""
    with ExitStack() as stack:
        found = list(contenders(stack, folder))
        yield from (f"{peer.name}: left out; `make bench-peers` sets it up" for peer in PEERS if not peer.is_set_up)
        heads = ("turns/s", "of floor", "CPU ms", "p50 ms", "p99 ms", "first ms", "MB at rest")
        yield f"\n{f'{CLIENTS} clients, new sessions, 50 deltas':<38}{''.join(f'{head:>11}' for head in heads)}"
        burst = rates([Side(one.server, [one.wire] * CLIENTS) for one in found], effort)
        alone = uvloop.run(load.in_turns([one.wire for one in found], effort.turns // 4))
        for one, rate, turns in zip(found, burst, alone, strict=True):
            first = median(turn.first * 1000 for turn in turns)
            figures = (rate.per_second / burst[0].per_second, rate.cpu_ms, rate.p50_ms, rate.p99_ms, first)
            columns = "".join(f"{value:>11.2f}" for value in figures)
            yield f"{one.name:<38}{rate.per_second:>11,.0f}{columns}{one.memory:>11,.0f}"
        yield "\nWhat is kept"
        yield from (f"  {one.name}: {one.promise}" for one in found)


def contenders(stack: ExitStack, folder: Path) -> Iterator[Contender]:
    """The floor, the engine, and each peer that is set up, all in front of the same double."""
    errors = folder / "errors.log"
    vendor = stack.enter_context(running("tests.bench.double", core=LOAD_CORE, errors=errors))
    base_url = f"http://127.0.0.1:{vendor.port}/v1"
    floor = stack.enter_context(
        running("tests.bench.floor", f"{base_url}/chat/completions", core=SERVER_CORE, errors=errors)
    )
    yield _ready("floor", floor, floor_wire(floor, "burst"), "nothing")
    with running_engine(folder / "data") as fresh:
        configure(fresh, vendor)
    engine = stack.enter_context(running_engine(folder / "data"))
    kept = "each delta in SQLite before a client sees it; a stream goes on where it broke off"
    yield _ready("ByteBrew", engine, engine_wire(engine, "burst"), kept)
    for peer in PEERS:
        if not peer.is_set_up:
            continue
        own = folder / peer.environment
        own.mkdir()
        server = stack.enter_context(
            running(
                peer.module,
                base_url,
                str(own),
                core=SERVER_CORE,
                errors=errors,
                python=str(peer.python),
                PYTHONPATH=str(Path.cwd()),
            )
        )
        yield _ready(peer.name, server, peer.wire(server.port), peer.promise)


def _ready(name: str, server: Server, wire: Wire, promise: str) -> Contender:
    """Waits until a server listens, and has one turn of it, which loads what is loaded once."""
    until = time.monotonic() + LONGEST
    while True:
        try:
            uvloop.run(load.turn_after_turn([wire], 0))
            return Contender(name, server, wire, server.rss_kb / 1024, promise)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
