"""Slow streams: as many as a core carries with ease, and many more than it can."""

from collections.abc import Iterator, Sequence

import uvloop

from tests.bench import load
from tests.bench.goals.table import Goal, Row
from tests.bench.goals.trees import Bench, beside_floor
from tests.bench.measures import IDEAL, STREAMS, Flow, engine_wire, floor_wire, flow, over


def paced(bench: Bench) -> Iterator[object]:
    """200 streams of 50 deltas, 20 ms apart."""
    base, *ours = _flows(bench, STREAMS, bench.effort.rounds, patient=False)
    name = f"{STREAMS} paced streams"
    yield Row.alone(f"{name}: errors", [one.errors for one in ours], Goal("<=", 0), base.errors)
    yield Row.ratio(f"{name}: p50 s", base.p50, [one.p50 for one in ours])
    yield Row.ratio(f"{name}: p99 s", base.p99, [one.p99 for one in ours], Goal("<=", 1.05, "x"))
    yield Row.ratio("CPU us of a paced delta", base.cpu_us, [one.cpu_us for one in ours], Goal("<=", 1.3, "x"))
    yield Row.ratio("memory KB of a slow stream", base.memory, [one.memory for one in ours], Goal("<=", 1.1, "x"))


def crowd(bench: Bench) -> Iterator[object]:
    """1,000 of them: more than one core can pass on as they come; who is refused asks again, and its time goes on."""
    base, *ours = _flows(bench, bench.amounts.streams, max(1, bench.effort.rounds // 2), patient=True)
    name = f"{bench.amounts.streams:,} paced streams"
    yield Row(f"{name}: asked again", base.refused, [one.refused for one in ours], [])
    yield Row.alone(f"{name}: errors", [one.errors for one in ours], Goal("<=", 0), base.errors)
    yield Row.ratio(f"{name}: p50 s", base.p50, [one.p50 for one in ours])
    yield Row.ratio(f"{name}: p99 s", base.p99, [one.p99 for one in ours], Goal("<=", 1.5, "x"))


def _flows(bench: Bench, streams: int, rounds: int, patient: bool) -> Sequence[Flow]:
    """Of the floor and of each tree, in rounds in which they take turns."""
    with beside_floor(bench) as (floor, ours):
        sides = [(floor, floor_wire(floor, "paced")), *((one, engine_wire(one, "paced")) for one in ours)]
        for _, wire in sides:  # what is loaded once and kept is no part of a stream
            uvloop.run(load.turn_after_turn([wire] * 2, 0))
        found: list[list[Flow]] = [[] for _ in sides]
        for _ in range(rounds):
            for (server, wire), flows in zip(sides, found, strict=True):
                flows.append(flow(server, wire, IDEAL / streams, 2, streams, patient))
    return [over(flows) for flows in found]
