"""`plugins test` passes a sound plugin, and says in words what is wrong with another."""

import os
from pathlib import Path

import click
import pytest

from bytebrew.cli.plugins import check, sources
from tests.cli.plugins.wheel_files import TOOL, wheel
from tests.commands import run

PROJECT = """
[project]
name = "bytebrew-heron"
version = "1.0"
[project.entry-points.bytebrew]
heron = "bytebrew_heron"
"""
TEST = "def test_true(): assert True\n"
SOUND = TOOL.format(name="heron")
FAULTS = {
    "imports: bytebrew_heron.py:1 imports bytebrew.engine, which changes without notice": "import bytebrew.engine\n"
    + SOUND,
    "imports: bytebrew_heron.py:1 imports the plugin bytebrew_audit": "import bytebrew_audit\n" + SOUND,
    "loads: plugin heron (of bytebrew-heron 1.0) failed in its module: TypeError: it implements no hook": "fly = 1\n",
    "heron answers requests of strangers: GET /heron answers 500": """
from bytebrew import Register, Request, Route, hookimpl

async def fly(request: Request[None]) -> None:
    \"\"\"Flies.\"\"\"
    raise KeyError("wings")

@hookimpl
def register_routes(register: Register[Route]) -> None:
    register(Route("GET", "/heron", None, fly, "Fly"))
""",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The source folder of a sound plugin."""
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "bytebrew_heron.py").write_text(TOOL.format(name="heron"))
    (tmp_path / "test_heron.py").write_text(TEST)
    return tmp_path


def test_a_sound_plugin_passes_the_checks_and_its_own_tests(source: Path) -> None:
    done = run("plugins", "test", str(source))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "ok  loads: heron of bytebrew-heron 1.0, contract 2: register_tools" in lines
    assert len([line for line in lines if line.startswith("ok  ")]) == 8
    assert "1 passed" in done.stdout


def test_a_wheel_and_a_plugin_folder_are_tested_without_their_own_tests(tmp_path: Path) -> None:
    path = wheel(tmp_path)
    folder = tmp_path / "plugins"
    assert run("plugins", "install", str(path), settings={"BYTEBREW_PLUGINS_DIR": str(folder)}).returncode == 0
    for tested in (path, folder):
        done = run("plugins", "test", str(tested))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "ok  loads: heron of bytebrew-heron 1.0" in done.stdout
        assert "The plugin's own tests are not in it: name its source folder to run them" in done.stdout


@pytest.mark.parametrize("message", FAULTS)
def test_a_fault_is_told_by_the_check_that_finds_it(message: str, source: Path) -> None:
    (source / "bytebrew_heron.py").write_text(FAULTS[message])
    done = run("plugins", "test", str(source))
    assert done.returncode == 1
    assert f"BAD {message}" in done.stdout
    assert "failed; the plugin's own tests were not run" in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("pyproject.toml", "[project", "pyproject.toml: "),
        ("pyproject.toml", PROJECT.replace("points.bytebrew]", "points.other]"), "its groups of entry points: other"),
        ("pyproject.toml", PROJECT.replace('"bytebrew_heron"', '"stork"'), "there is no stork.py or stork/__init__.py"),
    ],
)
def test_a_distribution_that_does_not_fit_is_refused_in_words(name: str, text: str, message: str, source: Path) -> None:
    (source / name).write_text(text)
    done = run("plugins", "test", str(source))
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no tests: write test_.*.py with the kit bytebrew.testing"),
        (TEST.replace("True\n", "False\n"), "the plugin's own tests failed"),
    ],
)
def test_missing_and_failing_tests_are_a_failure(text: str, message: str, source: Path) -> None:
    (source / "test_heron.py").write_text(text)
    with pytest.raises(click.ClickException, match=message):
        check._run_pytest(sources.Tested({}, (source,), source), os.environ)


def test_a_folder_without_a_plugin_says_how_to_make_one(tmp_path: Path) -> None:
    done = run("plugins", "test", str(tmp_path))
    assert done.returncode == 1
    assert "bytebrew plugins new makes a plugin" in done.stderr


def test_without_pytest_it_says_what_to_install(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    tested = sources.Tested({}, (source,), source)
    with pytest.raises(click.ClickException, match="they need pytest, which is not here; run this where"):
        check._run_pytest(tested, os.environ)
    check._run_pytest(tested._replace(tests=None), os.environ)
    assert "to run them where bytebrew is installed by pip, after pip install pytest" in capsys.readouterr().out
