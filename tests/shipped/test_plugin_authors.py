"""A plugin from nothing to an engine that serves it, by the commands of its own README, with what is shipped."""

import os
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.commands import environment
from tests.processes import serving

pytestmark = [pytest.mark.shipped, pytest.mark.timeout(600)]

MINUTES = 10
CHANGES = {
    "bytebrew_heron.py": (
        ("Convert a length into another unit.", "Convert a length, as herons see it."),
        ('f"{value * METRES[unit]', 'f"herons say {value * METRES[unit]'),
    ),
    "test_heron.py": (('== "3.22 km"', '== "herons say 3.22 km"'), ('== "3 km"', '== "herons say 3 km"')),
}
"""What an author writes: another answer, and what the tests expect of it."""


def check(script: str, folder: Path, settings: Mapping[str, str]) -> str:
    """What the commands print; they must succeed."""
    done = subprocess.run(
        ["bash", "-euc", script], cwd=folder, env=environment(settings), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commands(page: str) -> str:
    """The commands of a README, from "Try it" to its end."""
    return "\n".join(re.findall(r"^ {4}(.*)$", page.partition("## Try it")[2], re.MULTILINE))


def ask(command: tuple[str, ...], folder: Path, plugins: Path) -> str:
    """What an agent with the plugin's tool answers, in an engine of this program."""
    with serving(folder / "data", {"BYTEBREW_PLUGINS_DIR": str(plugins)}, command) as engine:
        with httpx.Client(base_url=f"{engine.url}/api/v1", headers={"Authorization": f"Bearer {ADMIN}"}) as client:
            client.patch("/agents/demo", json={"tools": ["heron_convert"]}).raise_for_status()
            message = 'heron_convert {"value": 2, "unit": "mi", "to": "km"}'
            answer = client.post("/schemas/demo/chat", json={"message": message, "stream": False}).text
        assert engine.stop() == 0
    return answer


@pytest.fixture(scope="module")
def python(wheel: Path, uv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the engine's wheel, and what its page names for authors of plugins."""
    folder = tmp_path_factory.mktemp("installed")
    check(f"{uv} venv -q venv && {uv} pip install -q --python venv/bin/python {wheel} pytest pip hatchling", folder, {})
    return folder / "venv" / "bin"


def test_a_plugin_is_made_changed_built_installed_and_served_within_minutes(
    python: Path, one_file: Path, tmp_path: Path
) -> None:
    begun = time.monotonic()
    settings = {
        "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's own inversion: 0 builds with the hatchling of the environment
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    check("bytebrew plugins new tool heron", tmp_path, settings)
    source = tmp_path / "bytebrew-heron"
    for name, changes in CHANGES.items():
        text = (source / name).read_text()
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        (source / name).write_text(text)
    shown = check(commands((source / "README.md").read_text()), source, settings)
    assert "3 passed" in shown
    assert "installed bytebrew-heron 0.1.0\n" in shown
    assert re.search(r"^heron +0\.1\.0 +bytebrew-heron +loaded +contract>=3 ", shown, re.MULTILINE)
    assert "herons say 3.22 km" in ask((f"{python}/bytebrew",), tmp_path, source / "plugins")
    assert time.monotonic() - begun < MINUTES * 60

    # the executable, without pip, takes the same wheel and runs the same folder
    [built] = (source / "dist").glob("*.whl")
    own = {"BYTEBREW_PLUGINS_DIR": str(tmp_path / "own"), "PATH": "/nowhere"}
    alone = [
        subprocess.run([one_file, *part], env=environment(own), capture_output=True, text=True)
        for part in (
            ("plugins", "install", built),
            ("plugins", "test", built),
            ("plugins", "new", "tool", "egret", "--path", tmp_path / "egret"),
            ("plugins", "lock"),
        )
    ]
    assert [done.returncode for done in alone] == [0] * len(alone), [done.stderr for done in alone]
    assert (tmp_path / "own" / "plugins.lock").read_text() == (source / "plugins" / "plugins.lock").read_text()
    assert "herons say 3.22 km" in ask((str(one_file),), tmp_path / "alone", tmp_path / "own")
