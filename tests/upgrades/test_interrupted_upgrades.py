"""An upgrade that is killed, or that finds no space, leaves a database that the next start upgrades whole."""

import errno
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import commands
from tests.faults import layer
from tests.faults.layer import Control, Fault
from tests.upgrades.test_old_databases import copies, missing, rows, upgrade

pytestmark = pytest.mark.sqlite

KILL = Fault("statement", -signal.SIGKILL)
NO_SPACE = Fault("write", errno.ENOSPC)
TRIALS = 3
"""Operations of an upgrade, evenly spread, at which it is interrupted."""


class Trial:
    """A data folder that needs an upgrade, and the means to interrupt it."""

    def __init__(self, folder: Path, old: Path) -> None:
        self.folder, self.old = folder, old
        self.control = Control(folder / "control")
        commands.install(folder / "plugins", "faults", layer.PLUGIN)
        self.before, self.due = rows(old / "bytebrew.db"), missing(old)

    def started(self, data: Path) -> "subprocess.CompletedProcess[str]":
        """A command that opens the database, as every command upgrades it."""
        settings = {"BYTEBREW_DATA_DIR": str(data), "BYTEBREW_PLUGINS_DIR": str(self.folder / "plugins")}
        return commands.run("gc", settings=settings | layer.environment(self.control.path, data))

    def numbers(self, fault: Fault) -> Iterator[tuple[Path, int]]:
        """Data folders, each with the number of the operation at which the upgrade there is to be interrupted."""
        data = self.folder / "whole"
        shutil.copytree(self.old, data)
        self.control.arm(fault, 0)
        assert self.started(data).returncode == 0
        total = self.control.count(fault.kind)
        for at in range(1, TRIALS + 1):
            data = self.folder / f"at-{at}"
            shutil.copytree(self.old, data)
            yield data, total * at // (TRIALS + 1)

    def goes_on(self, data: Path) -> None:
        """The next start upgrades the rest, and no row is lost."""
        assert rows(data / "bytebrew.db", self.before) == self.before
        upgrade(data)
        assert missing(data) == []
        assert rows(data / "bytebrew.db", self.before) == self.before
        assert not [*data.glob("*.part")]


@pytest.fixture
def trial(old_data: Callable[[str], Path], tmp_path: Path) -> Trial:
    return Trial(tmp_path, old_data("core-12"))


def test_an_upgrade_that_is_killed_goes_on_at_the_next_start(trial: Trial) -> None:
    left = set()
    for data, number in trial.numbers(KILL):
        trial.control.arm(KILL, number)
        assert trial.started(data).returncode == -signal.SIGKILL
        left.add(len(missing(data)))
        trial.goes_on(data)
        assert rows(min(copies(data))) == trial.before
    assert left - {0, len(trial.due)}, "none was interrupted between two migrations"


def test_an_upgrade_without_space_says_so_and_goes_on_where_there_is_some(trial: Trial) -> None:
    refused = 0
    for data, number in trial.numbers(NO_SPACE):
        trial.control.arm(NO_SPACE, number, lasting=True)
        done = trial.started(data)
        if done.returncode:
            refused += 1
            assert "database or disk is full" in done.stderr
            assert "Traceback" not in done.stderr
        trial.goes_on(data)
    assert refused
