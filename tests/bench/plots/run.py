"""Measures what the pictures show, and writes them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.bench.measures import Effort
from tests.bench.peers.measured import contenders
from tests.bench.plots import clients, history, soak
from tests.bench.servers import LOAD_CORE, running

IMAGES = Path("docs/images")


def plots(folder: Path, effort: Effort, report: Path | None) -> Iterator[object]:
    """The figures as they are measured; with the report of a soak, its picture too."""
    yield from _clients(folder, effort)
    yield from _history(folder, effort)
    if report is not None:
        yield _written("soak.svg", soak.drawn(soak.read(report)))


def _clients(folder: Path, effort: Effort) -> Iterator[object]:
    own = folder / "clients"
    own.mkdir()
    with ExitStack() as stack:
        found = list(contenders(stack, own))
        found.insert(0, found.pop(1))  # the engine first
        curves: list[tuple[str, list[clients.Point]]] = [(one.name, []) for one in found]
        able = list(zip(found, curves, strict=True))
        for count in clients.CLIENTS:
            for one, (name, points) in list(able):
                try:
                    points.append(clients.point(one.wire, count, effort.seconds))
                except (OSError, ValueError, TimeoutError, ExceptionGroup) as error:
                    yield f"{name} fails {count} clients: {str(error)[:200]}"
                    able.remove((one, (name, points)))
    for name, points in curves:
        yield f"\n{name}\n{''.join(f'{head:>11}' for head in ('clients', 'turns/s', 'p99 ms'))}"
        yield from points
    yield _written("clients.svg", clients.drawn(curves))


def _history(folder: Path, effort: Effort) -> Iterator[object]:
    own = folder / "history"
    own.mkdir()
    yield f"\n{''.join(f'{head:>11}' for head in ('messages', 'CPU ms', 'p50 ms', 'p99 ms'))}"
    with running("tests.bench.double", core=LOAD_CORE, errors=folder / "errors.log") as vendor:
        points = []
        for one in history.measured(own, vendor, effort):
            points.append(one)
            yield one
    yield _written("history.svg", history.drawn(points))


def _written(name: str, document: str) -> str:
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / name).write_text(document)
    return f"wrote {IMAGES / name}"
