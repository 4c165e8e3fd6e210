"""All goals in one table, or those of one group."""

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.goals.chats import burst, first_delta, tool
from tests.bench.goals.disk import disk
from tests.bench.goals.endurance import endurance
from tests.bench.goals.followers import followers
from tests.bench.goals.knowledge import knowledge
from tests.bench.goals.large_file import large_file
from tests.bench.goals.reads import reads
from tests.bench.goals.streams import crowd, paced
from tests.bench.goals.table import heading
from tests.bench.goals.trees import Amounts, Bench, trees
from tests.bench.large import Size
from tests.bench.measures import Effort

GROUPS: dict[str, Callable[[Bench], Iterator[object]]] = {
    "burst": burst,
    "tool": tool,
    "first": first_delta,
    "paced": paced,
    "crowd": crowd,
    "reads": reads,
    "followers": followers,
    "large": large_file,
    "disk": disk,
    "knowledge": knowledge,
    "endurance": endurance,
}
ALL = Amounts(Size(100_000, 5_000_000), chunks=100_000, followers=5000, streams=1000, turns=20_000)
QUICK = Amounts(Size(3_000, 100_000), chunks=1000, followers=1000, streams=300, turns=4000)


def goals(
    folder: Path, effort: Effort, amounts: Amounts, before: Path | None = None, only: str | None = None
) -> Iterator[object]:
    """The lines of the table, as they are measured."""
    found = trees(folder / "site", before)
    bench = Bench(folder, found, effort, amounts)
    yield heading([one.name for one in found])
    for name, measure in GROUPS.items():
        if only in (None, name):
            yield from measure(bench.of(f"goals-{name}"))
