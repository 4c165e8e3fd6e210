"""`bytebrew status` and the list of nodes while a node of two is stopped, ended, back, and killed."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.commands import run
from tests.nodes.engines import processes
from tests.processes import Process

pytestmark = pytest.mark.postgresql
HEADERS = {"Authorization": f"Bearer {ADMIN}"}


def listed(node: Process) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{node.url}/api/v1/nodes", headers=HEADERS, timeout=30).json()["data"]
    return found


def until(node: Process, holds: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """The nodes once the list of one is so."""
    ends = time.monotonic() + 40
    while not holds(found := listed(node)):
        assert time.monotonic() < ends, found
        time.sleep(0.1)
    return found


def status(data: Path) -> list[str]:
    """The lines of `bytebrew status` about nodes."""
    settings = {"BYTEBREW_DATA_DIR": str(data), "BYTEBREW_DATABASE_URL": "postgresql://nobody@localhost/none"}
    lines = (done := run("status", settings=settings)).stdout.splitlines()
    assert done.returncode == 0, done.stderr
    at = next(n for n, line in enumerate(lines) if line.startswith("node "))
    return [line[11:] for line in lines[at:] if line.startswith(("node ", "           node"))]


def shows(data: Path, begins: str) -> None:
    """Returns once the first of them begins so: they are as of the engine's last sign of life."""
    ends = time.monotonic() + 40
    while not (lines := status(data))[0].startswith(begins):
        assert time.monotonic() < ends, lines


@pytest.mark.timeout(150)
def test_who_is_silent_is_shown_until_another_node_has_ended_it(tmp_path: Path) -> None:
    with processes(tmp_path) as (a, b):
        first, second = (one["id"] for one in listed(a))
        shows(tmp_path / "a", f"{first}, one of 2 on the database; it leads; it renewed its lease ")
        shows(tmp_path / "b", f"{second}, one of 2 on the database; node {first} leads; ")
        a.process.send_signal(signal.SIGSTOP)
        silent = until(b, lambda nodes: nodes[0]["silent_seconds"] > 4.5)
        assert [(one["id"], one["leads"], one["answers"]) for one in silent] == [
            (first, True, False),
            (second, False, True),
        ]
        assert silent[1]["silent_seconds"] < 3
        _, shown = status(tmp_path / "b")
        assert shown.startswith(f"node {first} was not heard of for ")
        assert shown.endswith(" s: it is ended at 10")
        alone = until(b, lambda nodes: len(nodes) == 1)
        assert (alone[0]["id"], alone[0]["leads"]) == (second, True)
        shows(tmp_path / "b", f"{second}, alone on the database; it leads; ")
        assert "bytebrew_nodes_ended_total 1.0" in httpx.get(f"{b.url}/metrics").text
        a.process.send_signal(signal.SIGCONT)
        back = until(b, lambda nodes: len(nodes) == 2)
        assert [one["leads"] for one in back] == [True, False]
        assert back[1]["id"] > second
        a.kill()
        assert until(b, lambda nodes: nodes[1]["silent_seconds"] > 2)[0]["id"] == second
        gone = run("status", settings={"BYTEBREW_DATA_DIR": str(tmp_path / "a"), "BYTEBREW_DATABASE_URL": ""})
        assert (gone.returncode, gone.stdout) == (1, "")
        assert "no engine runs on" in gone.stderr
