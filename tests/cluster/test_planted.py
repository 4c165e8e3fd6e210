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
    """A line of a file that becomes another, what is wrong then, how that is seen, and what is done meanwhile."""

    file: str
    old: str
    new: str
    wrong: str
    seen: str
    script: Sequence[Deed] = ()
    nodes: int = 3
    seconds: float = 20.0


TABLE = (
    Planted(
        "plugins/bytebrew_postgres/driver.py",
        '        if self.node is not None and status != "UPDATE 1":\n',
        "        if self.node is not None and not status:\n",
        "a node that has lost its lease still commits",
        "by a node that had lost its lease",
        [Deed(4, "sleep", 0, 14), Deed(5, "sleep", 1, 14)],
        seconds=25,
    ),
    Planted(
        "bytebrew/nodes/signals.py",
        "            await signals.send([*_texts(unsent)])\n",
        "            [*_texts(unsent)]\n",
        "what a node signals is lost",
        "a follower on another node is .* behind|at another node takes",
    ),
    Planted(
        "bytebrew/nodes/node.py",
        "LEASE_SECONDS = 10.0\n",
        "LEASE_SECONDS = 25.0\n",
        "a lease is too long",
        "said nothing for .* longer than a lease",
        [Deed(4, "kill", 0, 40)],
        seconds=10,
    ),
    Planted(
        "bytebrew/nodes/node.py",
        "        if rows and rows[0].id == self.id and not self.leads:\n",
        "        if rows and not self.leads:\n",
        "all nodes lead",
        "came 2 times though nothing was disturbed",
    ),
    Planted(
        "bytebrew/conversation/remote/admission.py",
        "    other = turn_states.elsewhere(conn, new.session_id, node)\n",
        "    other = None\n",
        "a message begins a turn beside the one that another node runs",
        "are of no turn or of several|follows event|cannot be|at another node takes|answered 5|broke off",
    ),
    Planted(
        "bytebrew/conversation/tools/tool_calls.py",
        "            if tool is None or changed or not (tool.idempotent or resume_state):",
        "            if tool is None or changed:",
        "a tool that may not run twice runs again where its turn is taken up",
        "of count ran 2 times",
        [Deed(5, "kill", 0, 0), Deed(6, "kill", 1, 0), Deed(12, "kill", 2, 0)],
    ),
)


def planted_in(folder: Path, one: Planted) -> Path:
    """A copy of the engine and its plugins with the fault in it."""
    for part in ("bytebrew", "plugins"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / one.file
    text = file.read_text()
    assert text.count(one.old) == 1, f"{one.file} has not one but {text.count(one.old)} times: {one.old}"
    file.write_text(text.replace(one.old, one.new))
    return folder


@pytest.mark.slow
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
