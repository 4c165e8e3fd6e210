"""The bench's own parts: goals, the fit of a slope, and pictures; a short run of one group."""

import random
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from tests.bench.goals.line_fit import fit, quantile
from tests.bench.goals.table import Goal, Row, heading
from tests.bench.goals.trees import trees
from tests.bench.plots import clients, history, soak
from tests.bench.plots.chart import by_factors, from_zero

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def test_a_row_holds_the_last_tree_against_its_goal() -> None:
    row = Row.ratio("turns/s", 1000, [400, 750], Goal(">=", 0.7, "x"))
    assert str(row).split() == ["turns/s", "1,000", "400", "750", "0.40", "0.75", ">=", "0.7", "x", "ok"]
    assert str(Row.added("first", 1.0, [2.5], Goal("<=", 1.0, "ms added"))).endswith("MISSED")
    assert str(Row.alone("errors", [0.0], Goal("<=", 0), floor=109)).endswith("ok")
    assert len(heading(["before", "now"]).strip()) > len(heading(["now"]).strip())


@pytest.mark.parametrize(("freedom", "known"), [(3, 3.182), (10, 2.228), (18, 2.101), (60, 2.000)])
def test_the_quantile_is_that_of_the_tables(freedom: int, known: float) -> None:
    assert quantile(freedom) == pytest.approx(known, rel=0.02)


def test_the_interval_of_a_slope_holds_the_true_one_nearly_always() -> None:
    dice = random.Random(7)
    x = [n / 100 for n in range(200)]
    for true in (0.0, 3.0):
        held = 0
        for _ in range(200):
            slope, half = fit(x, [true * a + dice.gauss(90, 1) for a in x], 20)
            held += abs(slope - true) <= half
        assert 180 <= held <= 199


def test_a_tree_from_before_brings_its_own_plugins(tmp_path: Path) -> None:
    before, now = trees(tmp_path, ROOT)
    ask = "import bytebrew, importlib.metadata as m; print(bytebrew.__file__, len(m.entry_points(group='bytebrew')))"
    answer = subprocess.run(
        [sys.executable, "-c", ask], env={**before.environment}, cwd="/", capture_output=True, text=True, check=True
    )
    file, count = answer.stdout.split()
    assert file == str(ROOT / "bytebrew" / "__init__.py")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert int(count) == len(project["entry-points"]["bytebrew"])
    assert not now.environment


def test_axes_end_at_a_mark() -> None:
    assert from_zero("", 1.2).ticks[-1] == pytest.approx(1.2)
    assert from_zero("", 49.8).end == 50
    assert by_factors("", [3, 900]).ticks == [1, 10, 100, 1000]
    assert by_factors("", [1, 256], 2).at(16) == pytest.approx(0.5)


def test_pictures_have_a_line_for_each_curve(tmp_path: Path) -> None:
    points = [clients.Point(count, 900 / count, 5.0 * count) for count in clients.CLIENTS]
    assert _lines(clients.drawn([("engine", points), ("a < b", points[:3])])) == 4
    assert _lines(history.drawn([history.Point(10, 1.9, 11, 23), history.Point(100, 1.9, 11, 30)])) == 3
    looks = [soak.Look(at, 90 + at / 1000, 60, 20, at * 5, 0.0, 40) for at in range(5, 2000, 5)]
    report = tmp_path / "report.jsonl"
    report.write_bytes(b'{"event": "kill"}\n' + b"\n".join(map(msgspec.json.encode, looks)))
    assert soak.read(report) == looks
    assert _lines(soak.drawn(looks)) == 6


def _lines(document: str) -> int:
    return sum("line" in path.get("class", "") for path in ET.fromstring(document).iter(f"{SVG}path"))


@pytest.mark.slow
@pytest.mark.sqlite
@pytest.mark.timeout(120)
def test_a_quick_run_prints_the_rows_of_a_group() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "tests.bench", "goals", "--quick", "--only", "tool"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "one HTTP tool: turns/s" in answer.stdout
