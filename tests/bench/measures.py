"""What is measured, and on what."""

import random
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import httpx
import msgspec
import uvloop

from bytebrew.testing import ADMIN
from tests.bench import load
from tests.bench.data import FREQUENCY, WORDS, copied, know, open_turns
from tests.bench.double import DELTAS, GAP
from tests.bench.figures import Heading, Line, Target, percentile
from tests.bench.load import Turn, Wire
from tests.bench.servers import Server, running_engine

CLIENTS = 20
STREAMS = 200
IDEAL = DELTAS * GAP
ASKED = "Tell me about words."


class Effort(NamedTuple):
    """How many rounds a figure is the median of, how long one lasts, and how many turns the lone client takes."""

    rounds: int
    seconds: float
    turns: int


class Side(NamedTuple):
    """One of the two things that are compared: a server, and the wire of each client."""

    server: Server
    wires: Sequence[Wire]


class Rate(NamedTuple):
    """How a server does under clients that never pause."""

    per_second: float
    cpu_ms: float
    p50_ms: float
    p99_ms: float


class Flow(NamedTuple):
    """How a server carries slow streams; memory in KB and CPU in microseconds, for a stream and for a delta."""

    errors: int
    p50: float
    p99: float
    cpu_us: float
    memory: float
    refused: float


def floor_wire(floor: Server, model: str) -> Wire:
    """A turn through the floor: the vendor's own request and answer."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": ASKED}]}
    return Wire(floor.port, post("/", body, ""), b'"delta":{"content":', b"data: [DONE]")


def engine_wire(engine: Server, schema: str, session_id: str | None = None) -> Wire:
    """A turn through the engine: of a new session, unless one is named."""
    body = {"message": ASKED} | ({"session_id": session_id} if session_id else {})
    return Wire(engine.port, post(f"/api/v1/schemas/{schema}/chat", body), b"event: message_delta\n", b"event: done\n")


def post(path: str, body: object, header: str = f"Authorization: Bearer {ADMIN}\r\n") -> bytes:
    """The bytes of a request, of the admin unless another header stands in its place."""
    raw = msgspec.json.encode(body)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{header}"
    return f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


def rates(sides: Sequence[Side], effort: Effort) -> list[Rate]:
    """The medians of all sides over rounds in which they take turns."""
    rounds: list[list[Rate]] = [[] for _ in sides]
    for _ in range(effort.rounds):
        for side, found in zip(sides, rounds, strict=True):
            before = side.server.cpu_seconds
            turns, seconds = uvloop.run(load.turn_after_turn(side.wires, effort.seconds))
            spent = side.server.cpu_seconds - before
            totals = [turn.total * 1000 for turn in turns]
            found.append(
                Rate(len(turns) / seconds, spent * 1000 / len(turns), percentile(totals, 50), percentile(totals, 99))
            )
    return [Rate(*map(median, zip(*found, strict=True))) for found in rounds]


def burst(floor: Server, engine: Server, effort: Effort) -> Iterator[object]:
    """New sessions from clients that never pause."""
    yield Heading(f"{CLIENTS} clients, {DELTAS} deltas at once")
    sides = [
        Side(floor, [floor_wire(floor, "burst")] * CLIENTS),
        Side(engine, [engine_wire(engine, "burst")] * CLIENTS),
    ]
    base, ours = rates(sides, effort)
    yield Line(
        "turns/s", base.per_second, ours.per_second, Target("ratio >= 0.45", ours.per_second >= 0.45 * base.per_second)
    )
    yield Line("CPU ms a turn", base.cpu_ms, ours.cpu_ms)
    yield Line("p50 ms of a turn", base.p50_ms, ours.p50_ms)
    yield Line("p99 ms of a turn", base.p99_ms, ours.p99_ms)


def first_delta(floor: Server, engine: Server, effort: Effort) -> Iterator[object]:
    """How long one client alone waits for the first word."""
    yield Heading(f"One client alone, {effort.turns} turns")
    wires = [floor_wire(floor, "burst"), engine_wire(engine, "burst")]
    base, ours = (
        median(turn.first * 1000 for turn in turns) for turns in uvloop.run(load.in_turns(wires, effort.turns))
    )
    yield Line("ms to the first delta", base, ours, Target("floor + 3 ms", ours <= base + 3))
    yield Line("  of that above the floor", None, ours - base)


def paced(floor: Server, engine: Server, effort: Effort) -> Iterator[object]:
    """Many slow streams; to be measured before other load, whose memory would hide what a stream takes."""
    yield Heading(f"{STREAMS} streams, {GAP * 1000:.0f} ms between deltas")
    sides = [(floor, floor_wire(floor, "paced")), (engine, engine_wire(engine, "paced"))]
    for _, wire in sides:  # what is loaded once and kept is no part of a stream
        uvloop.run(load.turn_after_turn([wire] * 2, 0))
    flows: list[list[Flow]] = [[], []]
    rushes: list[list[Flow]] = [[], []]
    for _ in range(effort.rounds):
        for (server, wire), steady, rush in zip(sides, flows, rushes, strict=True):
            steady.append(flow(server, wire, IDEAL / STREAMS, 2))
            rush.append(flow(server, wire, 0, 1))
    base, ours = map(over, flows)
    yield Line("errors", base.errors, ours.errors, Target("none", not ours.errors))
    yield Line(f"p50 s of a turn (ideal {IDEAL:g})", base.p50, ours.p50)
    yield Line("p99 s of a turn", base.p99, ours.p99, Target("within 15 % of the ideal", ours.p99 <= 1.15 * IDEAL))
    yield Line("CPU us a delta", base.cpu_us, ours.cpu_us, Target("ratio <= 2", ours.cpu_us <= 2 * base.cpu_us))
    yield Line("KB of memory a stream", base.memory, ours.memory, Target("< 60", ours.memory < 60))
    base, ours = map(over, rushes)
    yield Line("all begun in one instant: errors", base.errors, ours.errors, Target("none", not ours.errors))
    yield Line("all begun in one instant: p99 s", base.p99, ours.p99)


def flow(server: Server, wire: Wire, apart: float, turns: int, streams: int = STREAMS, patient: bool = False) -> Flow:
    """What becomes of slow streams of clients that begin some seconds apart, with so many turns each."""
    idle, before, seen = server.rss_kb, server.cpu_seconds, [0.0]
    longest = max(load.LONGEST, streams * IDEAL / 4)

    def watch() -> None:
        seen.append(server.rss_kb)

    found = uvloop.run(load.side_by_side(wire, streams, apart, turns, watch, longest, patient))
    spent = server.cpu_seconds - before
    totals = [turn.total for turn in found if isinstance(turn, Turn)]
    faults = [fault for fault in found if isinstance(fault, BaseException)]
    if faults:
        print(f"one of {len(faults)} faults: {faults[0]!r}", file=sys.stderr)
    return Flow(
        len(faults),
        percentile(totals, 50) if totals else float("inf"),
        percentile(totals, 99) if totals else float("inf"),
        spent * 1_000_000 / len(found) / DELTAS,
        (max(seen) - idle) / streams,
        sum(turn.refused for turn in found if isinstance(turn, Turn)),
    )


def over(flows: Sequence[Flow]) -> Flow:
    """All errors, the medians, and the memory of the first round, for later ones reuse it."""
    return Flow(
        sum(flow.errors for flow in flows),
        median(flow.p50 for flow in flows),
        median(flow.p99 for flow in flows),
        median(flow.cpu_us for flow in flows),
        flows[0].memory,
        sum(flow.refused for flow in flows),
    )


def big_file(empty: Server, full: Server, effort: Effort) -> Iterator[object]:
    """New sessions in a file that holds nothing, and in one with a long past."""
    yield Heading("20,000 sessions, 1,000,000 events", "none", "as many")
    wires = [[engine_wire(server, "burst")] * CLIENTS for server in (empty, full)]
    yield from _past(*rates([Side(empty, wires[0]), Side(full, wires[1])], effort))


def long_session(engine: Server, short: Sequence[str], long: Sequence[str], effort: Effort) -> Iterator[object]:
    """Sessions beyond their agent's context; the first turn of each, which makes the summary, is not measured."""
    yield Heading("Earlier messages in the session", "20", "2,000")
    wires = [[engine_wire(engine, "burst", one) for one in ids] for ids in (short, long)]
    for some in wires:
        uvloop.run(load.turn_after_turn(some, 0))
    yield from _past(*rates([Side(engine, one) for one in wires], effort))


def _past(without: Rate, with_it: Rate) -> Iterator[object]:
    kept = with_it.per_second >= 0.9 * without.per_second
    yield Line("turns/s", without.per_second, with_it.per_second, Target("ratio >= 0.9", kept))
    yield Line("CPU ms a turn", without.cpu_ms, with_it.cpu_ms)
    yield Line("p99 ms of a turn", without.p99_ms, with_it.p99_ms)


def footprint(data: Path, distributions: int, effort: Effort) -> Iterator[object]:
    """What the engine takes before it has done anything."""
    yield Heading("At rest", "")
    seconds, memory = [], []
    for _ in range(effort.rounds):
        started = time.perf_counter()
        with running_engine(data) as engine:
            with urllib.request.urlopen(f"http://127.0.0.1:{engine.port}/api/v1/health", timeout=10) as answer:
                assert answer.status == 200
            seconds.append(time.perf_counter() - started)
            memory.append(engine.rss_kb / 1024)
    yield Line("s from spawn to a healthy answer", None, median(seconds), Target("< 1.5", median(seconds) < 1.5))
    yield Line("MB of memory", None, median(memory), Target("< 75", median(memory) < 75))
    yield Line("run-time distributions", None, distributions, Target("<= 35", distributions <= 35))


def restart(data: Path, sessions: Sequence[str], count: str, effort: Effort) -> Iterator[object]:
    """From the start of the process to what a client sees who comes back for the first of the interrupted turns."""
    yield Heading(f"{count} sessions, {len(sessions)} interrupted", "")
    first, last = [], []
    for n in range(effort.rounds):
        left = copied(data, f"{data.name}-{n}")
        started = time.perf_counter()
        with running_engine(left) as engine:
            url = f"http://127.0.0.1:{engine.port}/api/v1/sessions/{sessions[0]}/events?after=1"
            asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {ADMIN}"})
            with urllib.request.urlopen(asked, timeout=30) as answer:
                while not answer.readline().startswith(b"id: "):
                    pass
            first.append(time.perf_counter() - started)
            while open_turns(left):
                time.sleep(0.01)
            last.append(time.perf_counter() - started)
    yield Line("s from spawn to a resumed turn", None, median(first), Target("< 2", median(first) < 2))
    yield Line("s from spawn to the end of all", None, median(last))


def search(fresh: Path, sizes: tuple[int, int], effort: Effort) -> Iterator[object]:
    """Searches for words alone, one after the other, in two files that know as much; words are as likely as there."""
    yield Heading("Chunks of knowledge, searched by words", *(f"{size:,}" for size in sizes))
    dice = random.Random(1)
    questions = ["+".join(dice.choices(WORDS[20:], FREQUENCY[20:], k=4)) for _ in range(effort.turns)]
    found: list[list[float]] = []
    for size in sizes:
        with running_engine(copied(fresh, f"knows-{size}")) as engine:
            know(engine, "bench", size)
            url = f"http://127.0.0.1:{engine.port}/api/v1/knowledge-bases/bench/search?q="
            found.append([])
            with httpx.Client(headers={"Authorization": f"Bearer {ADMIN}"}) as api:
                for question in questions:
                    started = time.perf_counter()
                    api.get(url + question).raise_for_status()
                    found[-1].append((time.perf_counter() - started) * 1000)
    for percent in (50, 99):
        few, many = (percentile(times, percent) for times in found)
        yield Line(f"p{percent} ms of a search", few, many)
