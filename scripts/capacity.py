"""Simulates nodes that share a PostgreSQL server: how many turns they carry, and which part is at its end first.

    python scripts/capacity.py                       # the table of docs/scale.md
    python scripts/capacity.py --nodes 100 --rate 800 --database-cores 32 --general 0.2

Turns come at random moments (Poisson), and are stored twice: admitted, and ended with all their events. A node stores
what waits in one transaction at a time: it takes a processor of
the server for each transaction and each turn in it, and the round trips between them and the log's flush take time
without a processor. A transaction that may write to anything holds the lock of all writes alone. After each transaction
the node notifies all nodes. The costs are those that `python -m tests.bench stores` prints.
"""

import argparse
import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial


@dataclass(frozen=True)
class Costs:
    """Milliseconds of one processor, or of time where it says so."""

    engine: float = 1.9
    """Of a node, for a turn."""
    database: float = 0.75
    """Of the server, for a turn."""
    commit: float = 0.4
    """Of the server, for a transaction, whatever is in it."""
    trips: float = 2
    """Round trips of a transaction, whatever is in it."""
    trip: float = 0.3
    """Time of a round trip within a data centre."""
    flush: float = 1.0
    """Time of the flush of the server's log; transactions that wait for it share one."""
    notify: float = 0.014
    """Of the server, for each node that is woken by a notification."""
    beat: float = 0.6
    """Of the server, for the sign of life and the polls of a node, each second."""


@dataclass(frozen=True)
class Plan:
    """What is simulated."""

    nodes: int
    rate: float
    """Turns a second over all nodes."""
    node_cores: int = 1
    database_cores: int = 8
    general: float = 0.0
    """Transactions a turn that hold the lock of all writes: of tasks, settings, configuration."""
    seconds: float = 20.0


@dataclass
class Found:
    """What became of it: percentiles in milliseconds, and how much each part was in use."""

    came: float = 0.0
    done: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    engine: float = 0.0
    database: float = 0.0
    lock: float = 0.0
    """The part of the time in which a transaction held the lock alone, or waited to be the only one."""
    notify: float = 0.0
    """The part of the server's processors that notifications take."""
    per_transaction: float = 0.0


Then = Callable[[], None]


@dataclass
class Pool:
    """Processors, taken in the order of arrival."""

    size: int
    busy: float = 0.0
    taken: int = 0
    waiting: deque[tuple[float, Then]] = field(default_factory=deque)


class Simulation:
    """One run; times are in milliseconds."""

    def __init__(self, plan: Plan, costs: Costs) -> None:
        self._plan, self._costs = plan, costs
        self._dice = random.Random(1)
        self._now = 0.0
        self._events: list[tuple[float, int, Then]] = []
        self._count = 0
        self._server = Pool(plan.database_cores)
        self._engines = [Pool(plan.node_cores) for _ in range(plan.nodes)]
        self._waiting: list[list[tuple[float, bool]]] = [[] for _ in range(plan.nodes)]
        self._storing = [False] * plan.nodes
        self._shared, self._alone = 0, False
        self._for_lock: deque[tuple[bool, Then]] = deque()
        self._locked_ms = self._notify_ms = 0.0
        self._times: list[float] = []
        self._came = self._transactions = self._stored = 0
        self._excluding: float | None = None

    def run(self) -> Found:
        """Runs to the end of the plan's time."""
        end = self._plan.seconds * 1000
        self._arrive()
        for node in range(self._plan.nodes):
            self._at(self._dice.random() * 1000, partial(self._beat, node))
        while self._events and self._events[0][0] < end:
            self._now, _, then = heapq.heappop(self._events)
            then()
        times = sorted(self._times) or [float("inf")]
        cores = self._plan.database_cores * end
        return Found(
            came=self._came / self._plan.seconds,
            done=len(self._times) / self._plan.seconds,
            p50=times[len(times) // 2],
            p99=times[len(times) * 99 // 100],
            engine=sum(one.busy for one in self._engines) / (self._plan.nodes * self._plan.node_cores * end),
            database=self._server.busy / cores,
            lock=self._locked_ms / end,
            notify=self._notify_ms / cores,
            per_transaction=self._stored / max(1, self._transactions),
        )

    def _at(self, delay: float, then: Then) -> None:
        self._count += 1
        heapq.heappush(self._events, (self._now + delay, self._count, then))

    def _use(self, pool: Pool, work: float, then: Then) -> None:
        """Takes a processor of the pool for some milliseconds."""
        if pool.taken < pool.size:
            pool.taken += 1
            self._at(work, lambda: self._leave(pool, work, then))
        else:
            pool.waiting.append((work, then))

    def _leave(self, pool: Pool, work: float, then: Then) -> None:
        pool.busy += work
        pool.taken -= 1
        if pool.waiting:
            self._use(pool, *pool.waiting.popleft())
        then()

    def _arrive(self) -> None:
        node, came = self._dice.randrange(self._plan.nodes), self._now
        self._came += 1
        self._use(self._engines[node], self._costs.engine / 3, lambda: self._wait(node, came, ended=False))
        if self._dice.random() < self._plan.general:
            self._lock(alone=True, then=self._general)
        self._at(self._dice.expovariate(self._plan.rate / 1000), self._arrive)

    def _wait(self, node: int, came: float, *, ended: bool) -> None:
        self._waiting[node].append((came, ended))
        self._store(node)

    def _store(self, node: int) -> None:
        """Begins a transaction of all that waits, unless one is under way."""
        if self._storing[node] or not self._waiting[node]:
            return
        self._storing[node] = True
        self._lock(alone=False, then=lambda: self._transact(node))

    def _transact(self, node: int) -> None:
        turns, self._waiting[node] = self._waiting[node], []
        work = self._costs.commit + self._costs.database * len(turns) / 2
        self._at(
            self._costs.trips * self._costs.trip,
            lambda: self._use(self._server, work, lambda: self._flush(node, turns)),
        )

    def _flush(self, node: int, turns: list[tuple[float, bool]]) -> None:
        self._at(self._costs.flush * (0.5 + self._dice.random()), lambda: self._committed(node, turns))

    def _committed(self, node: int, turns: list[tuple[float, bool]]) -> None:
        self._unlock(alone=False)
        self._storing[node] = False
        self._transactions += 1
        self._stored += len(turns)
        work = self._costs.notify * self._plan.nodes
        self._notify_ms += work
        self._use(self._server, work, lambda: None)
        for came, ended in turns:
            self._use(self._engines[node], self._costs.engine / 3, partial(self._go_on, node, came, ended=ended))
        self._store(node)

    def _go_on(self, node: int, came: float, *, ended: bool) -> None:
        if ended:
            self._times.append(self._now - came)
        else:
            self._wait(node, came, ended=True)

    def _beat(self, node: int) -> None:
        self._use(self._server, self._costs.beat, lambda: None)
        self._at(1000, lambda: self._beat(node))

    def _general(self) -> None:
        def end() -> None:
            self._unlock(alone=True)

        held = 5 * self._costs.trip + self._costs.flush
        self._at(held, lambda: self._use(self._server, self._costs.commit * 2, end))

    def _lock(self, *, alone: bool, then: Then) -> None:
        self._for_lock.append((alone, then))
        self._grant()

    def _unlock(self, *, alone: bool) -> None:
        if alone:
            assert self._excluding is not None
            self._locked_ms += self._now - self._excluding
            self._alone, self._excluding = False, None
        else:
            self._shared -= 1
        self._grant()

    def _grant(self) -> None:
        """Grants the lock in the order in which it was asked for, as PostgreSQL does."""
        while self._for_lock and not self._alone:
            alone, then = self._for_lock[0]
            if alone and self._excluding is None:
                self._excluding = self._now
            if alone and self._shared:
                return
            self._for_lock.popleft()
            if alone:
                self._alone = True
            else:
                self._shared += 1
            then()


def most(plan: Plan, costs: Costs) -> tuple[float, Found]:
    """The highest rate of which 97 % are done at the end of the run, with a p99 below a second."""
    low, high = 0.0, 2.0 * plan.nodes * plan.node_cores * 1000 / costs.engine
    best = Found()
    while high - low > max(5.0, low / 25):
        rate = (low + high) / 2
        found = Simulation(replace(plan, rate=rate), costs).run()
        if found.done >= 0.97 * found.came and found.p99 < 1000:
            low, best = rate, found
        else:
            high = rate
    return low, best


def table(plan: Plan, costs: Costs) -> Iterator[str]:
    """Lines with the most turns a second of plans of growing size."""
    yield (
        "nodes  db cores  general/turn   turns/s   p50 ms   p99 ms"
        "   engines  database  of that notify   lock  first wall"
    )
    for nodes, cores, general in (
        (1, 8, 0.0),
        (4, 8, 0.0),
        (16, 8, 0.0),
        (100, 8, 0.0),
        (100, 32, 0.0),
        (100, 128, 0.0),
        (100, 128, 0.05),
        (100, 128, 0.5),
    ):
        rate, found = most(replace(plan, nodes=nodes, database_cores=cores, general=general), costs)
        shares = {"engines": found.engine, "database": found.database, "lock": found.lock}
        wall = max(shares, key=lambda name: shares[name])
        yield (
            f"{nodes:>5}  {cores:>8}  {general:>12g}  {rate:>8.0f}  {found.p50:>7.1f}  {found.p99:>7.1f}  "
            f"{found.engine:>7.0%}  {found.database:>8.0%}  {found.notify:>14.0%}  {found.lock:>5.0%}  {wall}"
        )


def main() -> None:
    """Prints the table, or the result of one plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--rate", type=float, default=100.0, help="turns a second over all nodes")
    parser.add_argument("--node-cores", type=int, default=1, help="processes of a node, as --workers")
    parser.add_argument("--database-cores", type=int, default=8)
    parser.add_argument("--general", type=float, default=0.0, help="writes a turn that hold the lock of all writes")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long a simulated run lasts")
    for name, default in vars(Costs()).items():
        parser.add_argument(f"--{name}", type=float, default=default, help=f"milliseconds or number [{default:g}]")
    chosen = vars(parser.parse_args())
    costs = Costs(**{name: chosen.pop(name) for name in vars(Costs())})
    if chosen["nodes"] is None:
        for line in table(Plan(**{**chosen, "nodes": 1}), costs):
            print(line, flush=True)
    else:
        print(Simulation(Plan(**chosen), costs).run())


if __name__ == "__main__":
    main()
