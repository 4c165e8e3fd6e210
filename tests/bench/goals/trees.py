"""The trees whose engines are measured in the same rounds: the one of now, and perhaps another checkout from before."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench.data import configure
from tests.bench.large import Size
from tests.bench.measures import Effort
from tests.bench.servers import LOAD_CORE, SERVER_CORE, Server, running, running_engine


class Tree(NamedTuple):
    """A checkout, and the environment in which Python finds its engine."""

    name: str
    environment: Mapping[str, str]


class Amounts(NamedTuple):
    """How much is put into files, and how much is asked for."""

    past: Size
    chunks: int
    followers: int
    streams: int
    turns: int


class Bench(NamedTuple):
    """What a measurement needs: a folder of its own, the trees, and how much is wanted."""

    folder: Path
    trees: Sequence[Tree]
    effort: Effort
    amounts: Amounts

    @property
    def errors(self) -> Path:
        """Where servers complain."""
        return self.folder / "errors.log"

    def of(self, name: str) -> "Bench":
        """The same with a new folder."""
        folder = self.folder / name.replace(" ", "-")
        folder.mkdir()
        return self._replace(folder=folder)


def trees(folder: Path, before: Path | None) -> list[Tree]:
    """The tree of now, after the other one if there is one."""
    now = Tree("now", {})
    if before is None:
        return [now]
    root = before.resolve()
    _write_entry_points(folder, root / "pyproject.toml")
    path = ":".join(map(str, (folder, root, root / "plugins", root / "clients" / "python")))
    return [Tree("before", {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}), now]  # else Python looks here first


def _write_entry_points(folder: Path, pyproject: Path) -> None:
    """Names the plugins of a tree, which the installed distribution of another does not."""
    project = tomllib.loads(pyproject.read_text())["project"]
    made = folder / f"{project['name']}-{project['version']}.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        + "".join(f"Requires-Dist: {one}\n" for one in project["dependencies"])
    )
    lines: list[str] = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (made / "entry_points.txt").write_text("\n".join(lines))


@contextmanager
def vendor(bench: Bench) -> Iterator[Server]:
    """The vendor's double."""
    with running("tests.bench.double", core=LOAD_CORE, errors=bench.errors) as server:
        yield server


@contextmanager
def bare(bench: Bench, module: str, *arguments: str) -> Iterator[Server]:
    """A server without any promise, on the engine's core."""
    with running(module, *arguments, core=SERVER_CORE, errors=bench.errors) as server:
        yield server


def completions(vendor: Server) -> str:
    """Where the double answers."""
    return f"http://127.0.0.1:{vendor.port}/v1/chat/completions"


@contextmanager
def engine(bench: Bench, tree: Tree, name: str = "data") -> Iterator[Server]:
    """The engine of a tree, on a data folder of that name."""
    folder = bench.folder / tree.name
    folder.mkdir(exist_ok=True)
    with running_engine(folder / name, **tree.environment) as server:
        yield server


def data_of(bench: Bench, tree: Tree, name: str = "data") -> Path:
    """That folder."""
    return bench.folder / tree.name / name


@contextmanager
def engines(bench: Bench, vendor: Server) -> Iterator[list[Server]]:
    """The engines of all trees, new and configured."""
    with ExitStack() as stack:
        found = [stack.enter_context(engine(bench, tree)) for tree in bench.trees]
        for one in found:
            configure(one, vendor)
        yield found


@contextmanager
def beside_floor(bench: Bench) -> Iterator[tuple[Server, list[Server]]]:
    """The pass-through, and the engines of all trees, before the same double."""
    with (
        vendor(bench) as double,
        bare(bench, "tests.bench.floor", completions(double)) as floor,
        engines(bench, double) as ours,
    ):
        yield floor, ours
