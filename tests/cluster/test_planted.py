"""The checker finds faults that are planted in a copy of the engine: it would find those that come by themselves."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import bytebrew
from tests.cluster.faults import Deed
from tests.cluster.run import Plan, run

ROOT = Path(bytebrew.__file__).parent.parent


class Planted(NamedTuple):
    """Lines of files that become others, what is wrong then, how that is seen, and what is done meanwhile."""

    wrong: str
    edits: Sequence[tuple[str, str, str]]
    seen: str
    script: Sequence[Deed] = ()
    nodes: int = 3
    seconds: float = 20.0


DRIVER = "plugins/bytebrew_postgres/driver.py"
NODE = "bytebrew/nodes/node.py"
TOOLS = "bytebrew/conversation/tools/tool_calls.py"
ADMISSION = "bytebrew/conversation/remote/admission.py"
TABLE = (
    Planted(
        "a node that has lost its lease still commits",
        (
            (DRIVER, 'node is not None and status != "UPDATE 1":\n', "node is not None and not status:\n"),
            (NODE, "            if self.id not in {one.id for one in self.all}:\n", "            if not self.all:\n"),
        ),
        "by a node that had lost its lease",
        [Deed(4, "sleep", 0, 14)],
        seconds=25,
    ),
    Planted(
        "what a node signals is lost",
        [("bytebrew/nodes/signals.py", "            await signals.send(texts)\n", "")],
        "a follower on another node is .* behind|at another node takes",
    ),
    Planted(
        "a lease is too long",
        [(NODE, "LEASE_SECONDS = 10.0\n", "LEASE_SECONDS = 25.0\n")],
        "said nothing for .* longer than a lease",
        [Deed(4, "kill", 0, 40)],
        seconds=10,
    ),
    Planted(
        "all nodes lead",
        [(NODE, "        if rows and rows[0].id == self.id and not self.leads:\n", "        if not self.leads:\n")],
        "came [23] times though nothing was disturbed",
    ),
    Planted(
        "a message begins a turn beside the one that another node runs",
        [
            (
                ADMISSION,
                "    if before.runs is None:\n",
                "    before = before._replace(runs=None)\n    if before.runs is None:\n",
            )
        ],
        "are of no turn or of several|follows event|at another node takes|broke off with storage",
    ),
    Planted(
        "a tool that may not run twice runs again where its turn is taken up",
        [
            (
                TOOLS,
                "if tool is None or changed or not (tool.idempotent or resume_state):",
                "if tool is None or changed:",
            )
        ],
        "of count ran 2 times",
        [Deed(5, "kill", 0, 0), Deed(6, "kill", 1, 0), Deed(12, "kill", 2, 0)],
    ),
)


def planted_in(folder: Path, one: Planted) -> Path:
    """A copy of the engine and its plugins with the fault in it."""
    for part in ("bytebrew", "plugins"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in one.edits:
        text = (folder / name).read_text()
        assert text.count(old) == 1, f"{name} has not one but {text.count(old)} times: {old}"
        (folder / name).write_text(text.replace(old, new))
    return folder


@pytest.mark.slow
@pytest.mark.postgresql
@pytest.mark.timeout(400)
@pytest.mark.parametrize("one", TABLE, ids=lambda one: one.wrong)
async def test_a_planted_fault_is_found(one: Planted, tmp_path: Path) -> None:
    code = planted_in(tmp_path / "code", one)
    plan = Plan(
        seed=3,
        seconds=one.seconds,
        nodes=one.nodes,
        sessions=20,
        script=one.script,
        faults=False,
        keep=False,
        postgresql=one.nodes > 1,
        code=dict.fromkeys(range(one.nodes), code),
    )
    history = await run(plan)
    print(history.violations[:3])
    assert any(re.search(one.seen, words) for words in history.violations), history.violations


def test_each_planted_fault_has_its_line_in_the_engine(tmp_path: Path) -> None:
    for n, one in enumerate(TABLE):
        planted_in(tmp_path / f"{n}", one)
