"""Measures the engine against a bare pass-through, side by side, and prints a table."""

import argparse
import importlib.metadata
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.bench import faces, forks, large, measures, overload, stores
from tests.bench.data import configure, copied, interrupt, multiply
from tests.bench.goals import run as goals
from tests.bench.measures import Effort
from tests.bench.peers import measured as peers
from tests.bench.plots import run as plots
from tests.bench.servers import LOAD_CORE, SERVER_CORE, Server, running, running_engine


def distributions(name: str) -> set[str]:
    """The names of a distribution and of all that it needs at run time, as they are installed."""
    found: set[str] = set()
    wanted = [Requirement(name)]
    while wanted:
        requirement = wanted.pop()
        found.add(canonicalize_name(requirement.name))
        for line in importlib.metadata.requires(requirement.name) or ():
            needed = Requirement(line)
            extras = requirement.extras or {""}
            met = needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras)
            if met and (needed.extras or canonicalize_name(needed.name) not in found):
                wanted.append(needed)
    return found


@contextmanager
def pass_through(errors: Path) -> Iterator[tuple[Server, Server]]:
    """The floor, and the vendor's double behind it."""
    with running("tests.bench.double", core=LOAD_CORE, errors=errors) as vendor:
        url = f"http://127.0.0.1:{vendor.port}/v1/chat/completions"
        with running("tests.bench.floor", url, core=SERVER_CORE, errors=errors) as floor:
            yield floor, vendor


def run(folder: Path, effort: Effort) -> Iterable[object]:
    """The lines of the table, as they are measured."""
    errors = folder / "errors.log"
    with ExitStack() as stack:
        floor, vendor = stack.enter_context(pass_through(errors))
        fresh = folder / "fresh"
        with running_engine(fresh) as engine:
            session_id = configure(engine, vendor)
        yield from measures.footprint(copied(fresh, "rest"), len(distributions("bytebrew")), effort)
        with running_engine(copied(fresh, "floor")) as engine:
            yield from measures.paced(floor, engine, effort)
            yield from measures.first_delta(floor, engine, effort)
            yield from measures.burst(floor, engine, effort)
        brief = effort._replace(seconds=effort.seconds / 2)  # or the empty file would not stay so
        full = copied(fresh, "full")
        multiply(full, session_id, 20_000, 1)
        with running_engine(copied(fresh, "empty")) as empty, running_engine(full) as engine:
            yield from measures.big_file(empty, engine, brief)
        old = copied(fresh, "old")
        short, long = multiply(old, session_id, 4, 10), multiply(old, session_id, 4, 1000)
        with running_engine(old) as engine:
            yield from measures.long_session(engine, short, long, brief)
        yield from faces.measured(fresh, brief)
        yield from forks.measured(fresh, session_id, effort.rounds, brief.seconds)
        left = copied(fresh, "left")
        multiply(left, session_id, 10_000, 1)
        interrupted = multiply(left, session_id, 200, 1)
        interrupt(left, interrupted)
        yield from measures.restart(left, interrupted, "10,000", effort)
        yield from large.measured(fresh, ("small", "medium"), effort.seconds)
        yield from measures.search(fresh, (1000, 5000), effort)
        (folder / "stores").mkdir()
        yield from stores.measured(folder / "stores", floor, vendor, effort)


def large_lists(folder: Path, effort: Effort) -> Iterable[object]:
    """The lines of the table of the lists of a file of 10,000,000 events, as they are measured."""
    with running("tests.bench.double", core=LOAD_CORE, errors=folder / "errors.log") as vendor:
        with running_engine(folder / "fresh") as engine:
            configure(engine, vendor)
        yield from large.measured(folder / "fresh", ("small", "large"), effort.seconds)


def faces_alone(folder: Path, effort: Effort) -> Iterable[object]:
    """The lines of the table of faces, as they are measured."""
    with running("tests.bench.double", core=LOAD_CORE, errors=folder / "errors.log") as vendor:
        with running_engine(folder / "fresh") as engine:
            configure(engine, vendor)
        yield from faces.measured(folder / "fresh", effort)


def stores_alone(folder: Path, effort: Effort) -> Iterator[object]:
    """The lines of the table of PostgreSQL beside SQLite, as they are measured."""
    (folder / "stores").mkdir()
    with pass_through(folder / "errors.log") as (floor, vendor):
        yield from stores.measured(folder / "stores", floor, vendor, effort)


def main() -> None:
    """Ends all its servers, also on Ctrl-C and SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument(
        "part",
        nargs="?",
        choices=["faces", "goals", "large", "overload", "peers", "plots", "stores"],
        help="one part alone: faces, goals, lists of 10,000,000 events, turns past what can be done, peers, PostgreSQL",
    )
    parser.add_argument(
        "--before", type=Path, metavar="TREE", help="goals: another checkout, measured in the same rounds"
    )
    parser.add_argument("--only", choices=[*goals.GROUPS], help="goals: one group of rows")
    parser.add_argument("--turns", type=int, help="goals: over how many turns memory and latency are looked at")
    parser.add_argument("--soak", type=Path, metavar="REPORT", help="plots: the JSON lines of a soak, to be drawn too")
    chosen = parser.parse_args()
    effort = Effort(2, 1, 50) if chosen.quick else Effort(5, 2, 200)
    amounts = goals.QUICK if chosen.quick else goals.ALL
    if chosen.turns:
        amounts = amounts._replace(turns=chosen.turns)

    def all_goals(folder: Path, effort: Effort) -> Iterable[object]:
        return goals.goals(folder, effort, amounts, chosen.before, chosen.only)

    def all_plots(folder: Path, effort: Effort) -> Iterable[object]:
        return plots.plots(folder, effort, chosen.soak)

    def everything(folder: Path, effort: Effort) -> Iterable[object]:
        yield from run(folder, effort)
        yield from all_goals(folder, effort)

    parts: dict[str | None, Callable[[Path, Effort], Iterable[object]]] = {
        None: everything,
        "faces": faces_alone,
        "goals": all_goals,
        "large": large_lists,
        "overload": overload.run,
        "peers": peers.measured,
        "plots": all_plots,
        "stores": stores_alone,
    }
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # SIGINT ends the loop in order
    where = f"ByteBrew {importlib.metadata.version('bytebrew')}, Python {platform.python_version()}"
    if SERVER_CORE is None:
        where += "; one core alone, so the load and the double share it with the servers"
    else:
        where += f"; servers on core {SERVER_CORE}, load and double on core {LOAD_CORE}"
    print(f"{where}; medians of {effort.rounds} rounds")
    with tempfile.TemporaryDirectory(prefix="bytebrew-bench-") as folder:
        try:
            for line in parts[chosen.part](Path(folder), effort):
                print(line, flush=True)
        except KeyboardInterrupt:
            sys.exit("stopped")
        except Exception:
            for log in sorted(Path(folder).rglob("errors.log")):
                print(log.read_text()[-4000:], file=sys.stderr)
            raise


if __name__ == "__main__":
    main()
