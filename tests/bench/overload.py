"""The overload curve: turns that come at a rate, a fraction of what the engine can do up to four times as much."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import uvloop

from tests.bench import load
from tests.bench.data import configure
from tests.bench.figures import percentile
from tests.bench.load import Wire
from tests.bench.measures import Effort, engine_wire
from tests.bench.plots.overload import Curve, drawn
from tests.bench.servers import LOAD_CORE, SERVER_CORE, Server, running, running_engine

FACTORS = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4)
NEIGHBOURS = 2
"""Processes that want all of the engine's core, which leave it a third: load and vendor are then not late first."""
WARM_SECONDS = 2.0
"""What comes before is not counted: the engine has yet to see what is wanted of it."""
PATIENCE = 10.0
CLIENTS = 60
"""As many as are never refused."""
SVG = Path("docs/images/overload.svg")
KINDS = {"paced": "streams of 50 deltas, 20 ms apart", "burst": "50 deltas at once"}


class Point(NamedTuple):
    """What became of turns that came at a rate; rates are by the second, times in milliseconds, memory in MB."""

    offered: float
    done: float
    p50: float
    p99: float
    refused: float
    refusal_p99: float
    failed: float
    memory: float

    def __str__(self) -> str:
        return "".join(f"{value:>11,.0f}" for value in self)


def run(folder: Path, effort: Effort) -> Iterator[object]:
    """The table's lines as they are measured; then the curves are drawn."""
    seconds = WARM_SECONDS + 4 * effort.seconds
    curves: list[Curve] = []
    with ExitStack() as stack:
        vendor = stack.enter_context(running("tests.bench.double", core=LOAD_CORE, errors=folder / "errors.log"))
        for _ in range(NEIGHBOURS):
            stack.enter_context(neighbour())
        for schema, words in KINDS.items():
            with running_engine(folder / schema) as engine:
                configure(engine, vendor)
                wire = engine_wire(engine, schema)
                able = capacity(engine, wire, effort.seconds)
                yield f"\n{words}: {able:.0f} turns a second by their CPU time"
                heads = ("offered/s", "done/s", "p50 ms", "p99 ms", "refused/s", "p99 ms", "failed/s", "MB")
                yield "".join(f"{head:>11}" for head in heads)
                points: list[Point] = []
                for factor in FACTORS:
                    points.append(point(engine, wire, able * factor, seconds))
                    yield points[-1]
                yield from verdict(points)
                curves.append(Curve(words, points))
    SVG.parent.mkdir(exist_ok=True)
    SVG.write_text(drawn(curves))
    yield f"\nwrote {SVG}"


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that wants all of the engine's core."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    if SERVER_CORE is not None:
        os.sched_setaffinity(process.pid, {SERVER_CORE})
    try:
        yield
    finally:
        process.kill()
        process.wait()


def capacity(engine: Server, wire: Wire, seconds: float) -> float:
    """Turns a second that the engine can do: the CPU time that it gets when it wants all, by what a turn takes."""
    spent: list[tuple[float, float]] = []
    for one in (wire, engine_wire(engine, "burst")):
        uvloop.run(load.turn_after_turn([one] * 4, seconds / 2))
        before = engine.cpu_seconds
        turns, took = uvloop.run(load.turn_after_turn([one] * CLIENTS, seconds))
        spent.append(((engine.cpu_seconds - before) / len(turns), (engine.cpu_seconds - before) / took))
    return spent[1][1] / spent[0][0]


def point(engine: Server, wire: Wire, rate: float, seconds: float) -> Point:
    """What becomes of turns that come at a rate."""
    memory: list[float] = []
    came = uvloop.run(load.at_rate(wire, rate, seconds, PATIENCE, lambda: memory.append(engine.rss_kb / 1024)))
    counted = [one for one in came if one.at >= WARM_SECONDS]
    ended = [one for one in came if one.became == "done" and WARM_SECONDS <= one.at + one.took <= seconds]
    done, refused = ([one.took * 1000 for one in counted if one.became == which] for which in ("done", "refused"))
    span = seconds - WARM_SECONDS
    return Point(
        offered=len(counted) / span,
        done=len(ended) / span,
        p50=percentile(done, 50) if done else 0,
        p99=percentile(done, 99) if done else 0,
        refused=len(refused) / span,
        refusal_p99=percentile(refused, 99) if refused else 0,
        failed=sum(one.became == "failed" for one in counted) / span,
        memory=max(memory),
    )


def verdict(points: Sequence[Point]) -> Iterator[str]:
    """How the highest rate compares with the best that was done, and with the lowest rate."""
    best, first, last = max(one.done for one in points), points[0], points[-1]
    done, slow = last.done / best, last.p99 / first.p99
    yield f"  at {last.offered / best:.1f} times the most: done {done:.2f} of it, p99 {slow:.2f} of unloaded"
