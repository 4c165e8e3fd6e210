"""A third-party plugin, really built, really installed, in both ways that the page for authors names."""

import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.commands import BYTEBREW, environment
from tests.processes import serving

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("bytebrew-*"))
EXAMPLE = ROOT / "examples" / "bytebrew-weather"
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check", "install")


def check(*command: str | Path, **settings: str) -> str:
    """What the command prints; it must succeed."""
    done = subprocess.run(command, env=environment(settings), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def forecast(command: Sequence[str], data: Path, settings: dict[str, str]) -> str:
    """What the weather model says when it is asked through a served engine."""
    with serving(data, settings, command) as engine:
        with httpx.Client(base_url=f"{engine.url}/api/v1", headers={"Authorization": f"Bearer {ADMIN}"}) as client:
            client.post("/models", json={"name": "weather", "type": "weather", "model_name": "window"})
            client.post("/agents", json={"name": "weather", "model": "weather"})
            client.post("/schemas", json={"name": "weather", "entry_agent": "weather", "chat_enabled": True})
            answer = client.post("/schemas/weather/chat", json={"message": "What about Hamburg?"}).text
        assert engine.stop() == 0
    return answer


def said(answer: str) -> str:
    frame = next(frame for frame in answer.split("\n\n") if "event: message\n" in frame)
    content: str = json.loads(frame.partition("data: ")[2])["content"]
    return content


def listed(table: str) -> str:
    return next(line for line in table.splitlines() if line.startswith("weather "))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_engine_and_plugin_are_installed_with_pip_into_a_fresh_environment(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python, bytebrew = (str(tmp_path / "venv" / "bin" / name) for name in ("python", "bytebrew"))
    check(python, *PIP, ROOT, EXAMPLE)
    table = check(bytebrew, "plugins")
    assert listed(table).split(maxsplit=5) == [
        "weather",
        "0.1.0",
        "bytebrew-weather",
        "loaded",
        "contract>=3",
        "register_providers, register_settings",
    ]
    bundled = [line for line in check(*BYTEBREW, "plugins").splitlines() if " bytebrew " in line]
    assert [line for line in table.splitlines() if " bytebrew " in line] == bundled
    listed_in = (
        "import bytebrew, bytebrew_docs, pathlib; "
        "print(*(path.name for one in (bytebrew, bytebrew_docs) for path in pathlib.Path(one.__path__[0]).glob('*.*')))"
    )
    assert {"py.typed", "page.css", "page.js"} <= set(check(python, "-I", "-c", listed_in).split())
    answer = forecast((bytebrew,), tmp_path / "data", {"BYTEBREW_WEATHER_MOOD": "foggy"})
    assert said(answer) == "It is foggy in Hamburg. "


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_plugin_folder_is_filled_with_pip_install_target(tmp_path: Path) -> None:
    folder = str(tmp_path / "more")
    check(sys.executable, *PIP, "--target", folder, "--no-deps", EXAMPLE)
    table = check(*BYTEBREW, "plugins", BYTEBREW_PLUGINS_DIR=folder)
    assert listed(table).split()[1:4] == ["0.1.0", "bytebrew-weather", "loaded"]
    assert said(forecast(BYTEBREW, tmp_path / "data", {"BYTEBREW_PLUGINS_DIR": folder})) == "It is sunny in Hamburg. "
    told = check(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", EXAMPLE, PYTHONPATH=folder)
    assert "1 passed" in told


@pytest.mark.timeout(120)
@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_each_example_passes_the_checks_of_the_engine_and_its_own_tests(folder: Path) -> None:
    shown = check(*BYTEBREW, "plugins", "test", folder)
    assert " passed" in shown
    assert "BAD" not in shown


def test_the_plugin_is_short_enough_to_be_read_at_a_glance() -> None:
    assert len((EXAMPLE / "bytebrew_weather.py").read_text().splitlines()) <= 60
