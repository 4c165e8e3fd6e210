"""docs/how-to/upgrade.md followed with two releases: to the newer one, back with the copy, and back with the backup."""

import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.docs.shop import commands
from tests.shipped.conftest import CACHE, ROOT
from tests.shipped.machine import Machine, chat

pytestmark = [pytest.mark.shipped, pytest.mark.timeout(240)]
PAGE = "how-to/upgrade.md"
CHANGE = """
CORE = (*CORE, (len(CORE) + 1, "alter table sessions add column mood text not null default 'calm';"))
"""


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a version 1.1.0 that changes a table of the core."""
    folder = tmp_path_factory.mktemp("newer")
    [sdist] = (CACHE / "dist").glob("bytebrew-[0-9]*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [tree] = folder.iterdir()
    project = tree / "pyproject.toml"
    project.write_text(
        re.sub(r'^version = ".*"', 'version = "1.1.0"', project.read_text(), count=1, flags=re.MULTILINE)
    )
    with (tree / "bytebrew/store/sqlite/migrations.py").open("a") as file:
        file.write(CHANGE)
    python = ROOT / ".cache" / "dist" / "tools" / "bin" / "python"
    subprocess.run([python, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=tree, check=True)
    [wheel] = folder.glob("*.whl")
    return wheel


def refused(machine: Machine) -> str:
    """What an engine says that does not start."""
    command, env = [str(machine.bin / "bytebrew"), "serve"], machine.environment
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_an_upgrade_keeps_everything_and_can_be_undone(newer: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    os.link(newer, machine.folder / newer.name)
    machine.follow("how-to/install.md", "uv")
    backup, *rest = (*commands(PAGE, "To a newer version"), *commands(PAGE, "Back to the older version"))
    upgrade, downgrade, put_back, restore = rest

    with machine.serving() as (process, client):
        session = chat(client, "Before the upgrade")
        machine.run(backup)
        assert process.stop() == 0

    assert "bytebrew, version 1.1.0" in machine.run(upgrade)
    with machine.serving() as (process, client):
        later = chat(client, "After the upgrade")
        assert client.get(f"/api/v1/sessions/{session}/messages").json()[0]["content"] == "Before the upgrade"
        assert process.stop() == 0
    assert len([*machine.data.glob("bytebrew.db.before-*")]) == 1

    for undo in (put_back, restore):
        machine.run(downgrade)
        if undo == put_back:
            assert "the database is newer than this core: it has migration" in refused(machine)
        machine.run(undo)
        with machine.serving() as (process, client):
            assert client.get("/api/v1/health").json()["version"] == "1.0.0"
            assert client.get(f"/api/v1/sessions/{session}/messages").json()[0]["content"] == "Before the upgrade"
            assert client.get(f"/api/v1/sessions/{later}").status_code == 404
            chat(client, "And back")
            assert process.stop() == 0
