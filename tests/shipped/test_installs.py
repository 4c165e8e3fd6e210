"""docs/how-to/install.md, each way of it followed with the files of a release: the engine starts and chats."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.shipped.conftest import ROOT
from tests.shipped.machine import Machine, chat

pytestmark = [pytest.mark.shipped, pytest.mark.timeout(240)]
PAGE = "how-to/install.md"


@pytest.mark.parametrize("way", ["uv", "pipx", "pip"])
def test_the_engine_is_installed_from_a_release(way: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.run("sha256sum --check --ignore-missing SHA256SUMS")
    printed = machine.follow(PAGE, way)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert f", commit {head.strip()}" in printed
    program = {"pip": machine.folder / "bytebrew-env" / "bin" / "bytebrew"}.get(way)
    with machine.serving(program) as (process, client):
        chat(client, "Are you there?")
        assert process.stop() == 0


@pytest.mark.parametrize("way", ["uv", "pipx"])
def test_the_engine_is_installed_as_the_readme_says(way: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    [command] = re.findall(rf"^\| \[{way}\]\S* \| `({way} [^`]+)`", (ROOT / "README.md").read_text(), re.MULTILINE)
    machine.run(command)
    assert "bytebrew" in machine.run("bytebrew --version")
    assert (machine.bin / "bytebrew").exists()


def test_each_extra_is_in_the_list_of_the_page() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "docs" / PAGE).read_text()
    for extra in set(project["optional-dependencies"]) - {"test", "test-postgres", "browser", "check", "docs"}:
        assert f"| `{extra}` |" in text
