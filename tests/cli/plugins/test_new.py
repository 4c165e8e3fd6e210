"""A new plugin is a whole distribution: its tests pass and its types are strict before a line of it is changed."""

import subprocess
import sys
from pathlib import Path

import pytest

from bytebrew.version import CONTRACT
from tests.commands import environment, run

KINDS = ("provider", "tool", "auth", "toolset", "face")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
def test_the_tests_of_a_new_plugin_pass(kind: str, tmp_path: Path) -> None:
    made = run("plugins", "new", kind, "blue-heron", "--path", str(tmp_path / "heron"))
    assert (made.returncode, made.stderr) == (0, "")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=tmp_path / "heron",
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.shipped
def test_every_kind_is_named_through_and_passes_strict_checks(tmp_path: Path) -> None:
    for kind in KINDS:
        folder = tmp_path / kind
        made = run("plugins", "new", kind, f"{kind}_owl", "--path", str(folder))
        assert made.stdout.splitlines()[-1] == f"Read {folder}/README.md, and run: bytebrew plugins test {folder}"
        files = {path.name: path.read_text() for path in folder.iterdir()}
        assert {*files} == {
            ".gitignore",
            "README.md",
            "pyproject.toml",
            f"bytebrew_{kind}_owl.py",
            f"test_{kind}_owl.py",
        }
        assert not [name for name, text in files.items() if "acme" in text.lower()]
        assert f"bytebrew_contract = {CONTRACT}\n" in files[f"bytebrew_{kind}_owl.py"]
        assert f'{kind}_owl = "bytebrew_{kind}_owl"\n' in files["pyproject.toml"]
        assert f"`bytebrew_{kind}_owl.py`" in files["README.md"]
    ruff = ("--no-cache", "--isolated", "--line-length=120")
    for check in (
        ("mypy", "--strict", "--cache-dir=cache", *KINDS),
        ("ruff", "check", *ruff, "--select=E,F,W,I,B,UP,SIM", *KINDS),
        ("ruff", "format", *ruff, "--check", *KINDS),
    ):
        done = subprocess.run([sys.executable, "-m", *check], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    refused = run("plugins", "new", "tool", "heron", "--path", str(tmp_path / "mine"))
    assert refused.returncode == 1
    assert "mine is there already, and nothing in it was changed" in refused.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("audit", "there is a plugin audit already"),
        ("core", "there is a plugin core already"),
        ("Heron", "write a word such as acme"),
        ("../heron", "write a word such as acme"),
        ("class", "write a word such as acme"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(name: str, message: str, tmp_path: Path) -> None:
    refused = run("plugins", "new", "tool", name, "--path", str(tmp_path / "heron"))
    assert refused.returncode == 2
    assert message in refused.stderr
    assert not (tmp_path / "heron").exists()
