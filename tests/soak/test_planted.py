"""The soak finds faults that are planted by a plugin: it would find those that come by themselves."""

import re
from typing import NamedTuple

import pytest

from tests.soak.run import Plan, run, summary

KEEP = """
from bytebrew import hookimpl
kept = []

@hookimpl
async def turn_finished(engine, turn):
    kept.append({})
"""
LOSE = """
from bytebrew import hookimpl
seen = []

@hookimpl
async def turn_finished(engine, turn):
    seen.append(turn.id)
    if len(seen) % 50 == 0:
        await engine.db.write(lambda conn: conn.execute({!r}, ({},)) and None)
"""


class Planted(NamedTuple):
    """What is wrong, the plugin that does it, and how that is seen."""

    wrong: str
    plugin: str
    seen: str


TABLE = (
    Planted("descriptors leak", KEEP.format("open('/dev/null')"), "descriptors .*GROWS"),
    Planted("tasks leak", "import asyncio" + KEEP.format("asyncio.create_task(asyncio.sleep(9999))"), "tasks .*GROWS"),
    Planted("memory leaks", KEEP.format("bytearray(50_000)"), "rss_mb .*GROWS"),
    Planted(
        "an event is lost",
        LOSE.format(
            "delete from events where session_id = ?1 and n = (select min(n) from events where session_id = ?1)",
            "turn.session_id",
        ),
        r"events go \[.* where 1 belongs",
    ),
    Planted(
        "a turn is lost",
        LOSE.format("update turns set status = 'failed' where id = ?", "turn.id"),
        "was shown as 'completed' and is failed",
    ),
    Planted(
        "a secret is logged", "import os" + KEEP.format("os.write(2, b'bb_%s\\n' % (64 * b'a'))"), "a secret in the log"
    ),
    Planted("a fault is logged", KEEP.format("1 / 0"), "a trace in the log"),
)


@pytest.mark.sqlite
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("one", TABLE, ids=lambda one: one.wrong)
async def test_a_planted_fault_is_found(one: Planted) -> None:
    plan = Plan(seed=5, seconds=20, rate=40, clients=2, slow=0, every=0.4, restarts=(), planted=one.plugin)
    soak = await run(plan, lambda line: None)
    lines = [*summary(soak)]
    assert any(re.search(one.seen, words) for words in soak.model.violations), lines
