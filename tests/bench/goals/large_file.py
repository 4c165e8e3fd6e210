"""A file with years of use in it: turns, lists and the start, beside an empty file."""

import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median

import uvloop

from bytebrew.testing import ADMIN
from tests.bench import large, load
from tests.bench.data import configure
from tests.bench.figures import percentile
from tests.bench.goals.table import Goal, Row
from tests.bench.goals.trees import Bench, Tree, data_of, engine, vendor
from tests.bench.measures import CLIENTS, Side, engine_wire, rates
from tests.bench.servers import Server


def large_file(bench: Bench) -> Iterator[object]:
    """The file of each tree is filled by its own engine's tables."""
    past = bench.amounts.past
    name = f"{past.events:,} events"
    own: list[str] = []
    with vendor(bench) as double:
        for tree in bench.trees:
            for folder in ("empty", "full"):
                with engine(bench, tree, folder) as one:
                    configure(one, double)
                    bearer, subject = large.token(one)
            own.append(bearer)
            large.fill(data_of(bench, tree, "full"), subject, past)
        with ExitStack() as stack:
            sides = [
                stack.enter_context(engine(bench, tree, folder)) for tree in bench.trees for folder in ("empty", "full")
            ]
            wires = [Side(one, [engine_wire(one, "burst")] * CLIENTS) for one in sides]
            for wire in wires:
                uvloop.run(load.turn_after_turn(wire.wires, 0))
            found = [one.per_second for one in rates(wires, bench.effort)]
        ratios = [full / empty for empty, full in zip(found[::2], found[1::2], strict=True)]
        yield Row(f"{name}: turns/s, of an empty file", None, found[1::2], ratios, Goal(">=", 0.95, "x"))
        slowest = []
        for tree, bearer in zip(bench.trees, own, strict=True):
            with engine(bench, tree, "full") as one:
                slowest.append(_slowest(one, bearer))
        yield Row.alone(f"{name}: slowest list, p99 ms", [ms for ms, _ in slowest], Goal("<=", 20, "ms"))
        yield f"  the slowest of {len(large.LISTS)}: {', '.join(path for _, path in slowest)}"
        starts: list[list[float]] = [[] for _ in bench.trees]
        for _ in range(bench.effort.rounds):
            for tree, times in zip(bench.trees, starts, strict=True):
                times.append(_start(bench, tree))
        yield Row.alone(f"{name}: start, s", [median(times) for times in starts], Goal("<=", 1.2, "s"))


def _slowest(server: Server, own: str) -> tuple[float, str]:
    """The p99 of the list that is slowest, and how it is asked for."""
    found: list[tuple[float, str]] = []
    for path in large.LISTS.values():
        bearer = own if path.endswith("&mine") else ADMIN
        times = large.times(server, path.removesuffix("&mine"), bearer)
        found.append((percentile(times, 99), path))
    return max(found)


def _start(bench: Bench, tree: Tree) -> float:
    """Seconds from the start of the process to a healthy answer."""
    started = time.perf_counter()
    with engine(bench, tree, "full") as one:
        with urllib.request.urlopen(f"http://127.0.0.1:{one.port}/api/v1/health", timeout=30) as answer:
            assert answer.status == 200
        return time.perf_counter() - started
