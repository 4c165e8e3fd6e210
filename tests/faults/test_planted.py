"""The sweep finds faults that are planted in a copy of the engine: it would find those that come by themselves."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

import bytebrew
from tests.faults.layer import FAULTS, Fault
from tests.faults.sweep import Report, Sweep, engine_in

ALL = "ALL_FAULTS" in os.environ
FULL, MEMORY, KILL = FAULTS[-3:]
WRITE = FAULTS[0]


class Planted(NamedTuple):
    """A line of a file that becomes another; what is wrong then, under which fault of which act, and how that is seen.

    The n-th operation fails for n from `start` in steps of `stride`.
    """

    file: str
    old: str
    new: str
    wrong: str
    act: str
    fault: Fault
    seen: str
    start: int = 1
    stride: int = 1


TABLE = (
    Planted(
        "store/journal.py",
        "        self._waiting.append(log.add(event))\n",
        "        self._waiting.append(log.add(event))\n        log.commit(log.last)\n",
        "an event is sent before it is stored",
        "turn",
        WRITE,
        "a client saw",
        start=100,
        stride=7,
    ),
    Planted(
        "store/journal.py",
        "            if (error := refused.get(session_id)) is None:\n",
        "            if (error := refused.get(session_id)) is None or error:\n",
        "an event that the file refused counts as stored",
        "turn",
        WRITE,
        "a client saw|is running in an engine|hangs|internal_error",
        stride=7,
    ),
    Planted(
        "store/database/transactions.py",
        "                source.insert(conn, rows)\n",
        '                source.insert(conn, rows)\n                conn.execute("commit"), driver.begin(conn, None)\n',
        "events are stored without the works of their transaction",
        "turn",
        FULL,
        "ends at|are of no turn",
        start=180,
    ),
    Planted(
        "conversation/turn.py",
        "            result = await self._journal.write(self.log, work, self.unsaved, *args, **kwargs)\n"
        "        self.unsaved = self._nothing_unsaved()\n",
        "            unsaved, self.unsaved = self.unsaved, self._nothing_unsaved()\n"
        "            result = await self._journal.write(self.log, work, unsaved, *args, **kwargs)\n",
        "usage whose record failed is forgotten",
        "turn",
        FULL,
        "has usage",
        start=100,
        stride=4,
    ),
    Planted(
        "conversation/failed_turns.py",
        "await fail(db, journal, publish, turn.session_id, turn.id, error, turn.unsaved)\n",
        "None\n",
        "a turn that failed for storage gets no end",
        "turn",
        FULL,
        "is running in an engine|hangs",
        start=60,
        stride=5,
    ),
    Planted(
        "store/open_turns.py",
        "astuple(spent(conn, turn_id))",
        "astuple(spent(conn, turn_id, whole=False))",
        "a spawned agent that was still at work is missing from its parent's usage",
        "turn",
        FULL,
        "has usage",
        start=80,
        stride=2,
    ),
    Planted(
        "conversation/recovery.py",
        "        turn.text = list(point.text)\n        step = ResumedStep(point, turn.text)\n",
        "        turn.text = []\n        step = ResumedStep(point, [])\n",
        "a turn that is taken up has forgotten what it said",
        "turn",
        KILL,
        "its deltas are",
        start=60,
        stride=10,
    ),
    Planted(
        "conversation/failed_turns.py",
        "    turn.usage = await db.read(open_turns.spent, turn.id)\n",
        "    await db.read(open_turns.spent, turn.id)\n",
        "a turn that is taken up has forgotten what it cost",
        "turn",
        KILL,
        "has usage",
        start=60,
        stride=10,
    ),
    Planted(
        "conversation/tools/tool_calls.py",
        "            if tool is None or changed or not (tool.idempotent or resume_state):",
        "            if tool is None or changed:",
        "a tool that may not run twice runs again",
        "turn",
        KILL,
        "pay 1 happened 2 times",
        start=40,
    ),
    Planted(
        "store/idempotency.py",
        "    if failure == 503:\n",
        "    if failure == 599:\n",
        "a turn that storage failed keeps its key",
        "turn",
        FULL,
        "has used it up",
        start=60,
        stride=3,
    ),
    Planted(
        "conversation/tasks.py",
        "            await db.write(self._settle, task.id, claim.turn_id, ending.status, result, retry_at)\n",
        "            if await db.write(tasks.settle, task.id, claim.turn_id, ending.status, result, retry_at):\n"
        "                ended = notifications.task_ended(await db.read(tasks.get, task.id))\n"
        "                await db.write(self._publish, ended)\n",
        "the end of a task is published after its transaction",
        "callback",
        KILL,
        "task.ended of .* has 0 deliveries",
        start=280,
        stride=2,
    ),
    Planted(
        "web/idempotency.py",
        "    request.records += (keeping.keep,)\n"
        "    answer = await run()\n"
        "    if keeping.body is not None and keeping.body != _encoded(answer):",
        "    answer = await run()\n    if not hasattr(answer, 'frames'):",
        "an answer is kept after what it says was done",
        "configuration",
        FULL,
        "answered 409",
        stride=2,
    ),
)


def planted_in(folder: Path, one: Planted) -> Path:
    """A copy of the engine with the fault in it."""
    shutil.copytree(Path(bytebrew.__file__).parent, folder / "bytebrew", ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / "bytebrew" / one.file
    text = file.read_text()
    assert text.count(one.old) == 1, f"{one.file} has not one but {text.count(one.old)} times: {one.old}"
    file.write_text(text.replace(one.old, one.new))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("one", TABLE if ALL else (TABLE[0], TABLE[-1]), ids=lambda one: one.wrong)
async def test_a_planted_fault_is_found(one: Planted, tmp_path: Path) -> None:
    report = Report()
    async with engine_in(tmp_path, planted_in(tmp_path / "code", one)) as engine:
        n = await Sweep(engine, one.act, one.fault, report).until(one.seen, one.start, one.stride)
    print(f"found at {n}")


def test_each_planted_fault_has_its_line_in_the_engine(tmp_path: Path) -> None:
    for n, one in enumerate(TABLE):
        planted_in(tmp_path / f"{n}", one)
