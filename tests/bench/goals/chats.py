"""Turns without a pause, with and without a tool, and the wait for the first delta."""

from collections.abc import Iterator
from statistics import median

import uvloop

from tests.bench import load
from tests.bench.data import add_schema, admin
from tests.bench.double import DELTAS, TOOL
from tests.bench.figures import percentile
from tests.bench.goals.table import Goal, Row
from tests.bench.goals.trees import Bench, bare, beside_floor, completions, engines, vendor
from tests.bench.measures import CLIENTS, Rate, Side, engine_wire, floor_wire, rates
from tests.bench.servers import Server

TURNS = 10
"""Times as many turns as elsewhere: the slowest of a hundred counts."""


def burst(bench: Bench) -> Iterator[object]:
    """New sessions from clients that never pause."""
    with beside_floor(bench) as (floor, ours):
        yield from _rated(bench, f"{CLIENTS} clients, {DELTAS} deltas at once", floor, ours, "burst", 0.7)


def tool(bench: Bench) -> Iterator[object]:
    """The same with one call of an HTTP tool, beside a pass-through that calls vendor, tool and vendor."""
    with vendor(bench) as double:
        stock = f"http://127.0.0.1:{double.port}/stock/"
        with (
            bare(bench, "tests.bench.floors.two_calls", completions(double), stock) as floor,
            engines(bench, double) as ours,
        ):
            for one in ours:
                _add_tool(one, double, stock)
            yield from _rated(bench, "one HTTP tool", floor, ours, "tool", 0.55)


def first_delta(bench: Bench) -> Iterator[object]:
    """How long one client alone waits for the first word."""
    turns = bench.effort.turns * TURNS
    with beside_floor(bench) as (floor, ours):
        wires = [floor_wire(floor, "burst"), *(engine_wire(one, "burst") for one in ours)]
        found = uvloop.run(load.in_turns(wires, turns))
    waits = [[turn.first * 1000 for turn in side[turns // 10 :]] for side in found]  # the first ones load and connect
    base, *rest = map(median, waits)
    yield Row.added("first delta, p50 ms", base, rest, Goal("<=", 1.0, "ms added"))
    base, *rest = (percentile(some, 99) for some in waits)
    yield Row.added("first delta, p99 ms", base, rest, Goal("<=", 3.0, "ms added"))


def _rated(bench: Bench, work: str, floor: Server, ours: list[Server], model: str, least: float) -> Iterator[object]:
    sides = [Side(floor, [floor_wire(floor, model)] * CLIENTS)]
    sides += [Side(one, [engine_wire(one, model)] * CLIENTS) for one in ours]
    for side in sides:  # what is loaded once is no part of a turn
        uvloop.run(load.turn_after_turn(side.wires, 0))
    found = rates(sides, bench.effort)

    def row(words: str, which: str, goal: Goal | None = None) -> Row:
        base, *rest = (getattr(one, which) for one in found)
        return Row.ratio(f"{work}: {words}", base, rest, goal)

    assert Rate._fields == ("per_second", "cpu_ms", "p50_ms", "p99_ms")
    yield row("turns/s", "per_second", Goal(">=", least, "x"))
    yield row("CPU ms", "cpu_ms")
    yield row("p50 ms", "p50_ms")
    yield row("p99 ms", "p99_ms")


def _add_tool(engine: Server, double: Server, stock: str) -> None:
    with admin(engine) as api:
        body = {"name": TOOL, "type": "http", "method": "GET", "url": f"{stock}{{{{sku}}}}", "allow_private": True}
        api.post("/tools", json={**body, "description": "Current stock of one item"}).raise_for_status()
    add_schema(engine, double, "tool", tools=[TOOL])
