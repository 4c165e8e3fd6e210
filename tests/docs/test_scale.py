"""The simulation of docs/scale.md: it loses nothing that it can carry, and each wall is where its cause is."""

import subprocess
import sys
from dataclasses import replace

import pytest

from scripts.capacity import Costs, Found, Plan, Simulation
from tests.docs import ROOT

PLAN = Plan(nodes=8, rate=400, database_cores=8, seconds=5)


def run(general: float = 0.0, **costs: float) -> Found:
    return Simulation(replace(PLAN, general=general), replace(Costs(), **costs)).run()


def test_what_it_can_carry_is_done() -> None:
    found = run()
    assert found.done == pytest.approx(found.came, rel=0.02)
    assert found.p99 < 200
    assert found.engine == pytest.approx(found.came * Costs().engine / 8 / 1000, rel=0.05)


@pytest.mark.parametrize(
    ("part", "changes"),
    [("engine", {"engine": 30.0}), ("database", {"database": 30.0}), ("lock", {"general": 1.0})],
)
def test_each_wall_is_where_its_cause_is(part: str, changes: dict[str, float]) -> None:
    found = run(**changes)
    assert found.done < 0.9 * found.came
    assert getattr(found, part) > 0.8
    assert getattr(run(), part) < 0.5


def test_the_command_of_the_page_runs() -> None:
    command = [sys.executable, "scripts/capacity.py", "--nodes", "2", "--rate", "20", "--seconds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Found(came=")
