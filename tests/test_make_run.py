"""`make run` on a machine as people have them: an old Python first, several, none, an environment of an old one."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# an interpreter of some version, which makes environments of interpreters of its version, and installs in a moment
INTERPRETER = """#!/bin/sh
case "$1" in
    -c) case "$2" in
            *sys.exit*) exit {too_old} ;;
            *) echo {version} ;;
        esac ;;
    --version) echo "Python {version}.1" ;;
    -m) echo "{version}" >> "$MADE"
        rm -rf "$4" && mkdir -p "$4/bin" && cp "$0" "$4/bin/python"
        printf '#!/bin/sh\\nprintf "#!/bin/sh\\\\necho served by {version}\\\\n" > .venv/bin/bytebrew
chmod +x .venv/bin/bytebrew\\nexit {pip}\\n' > "$4/bin/pip"
        chmod +x "$4/bin/pip" ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not on this machine")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout, and a folder `bin` with the few programs that it takes."""
    (tmp_path / "bin").mkdir()
    for name in ("sh", "make", "rm", "mkdir", "cp", "chmod", "touch", "sleep", "kill", "grep", "sed", "sort"):
        if found := shutil.which(name):
            (tmp_path / "bin" / name).symlink_to(found)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def interpreter(folder: Path, name: str, version: str, *, pip: int = 0) -> None:
    """An interpreter of this version, under this name."""
    path = folder / "bin" / name
    too_old = int(int(version.partition(".")[2]) < 11)
    path.write_text(INTERPRETER.format(version=version, too_old=too_old, pip=pip))
    path.chmod(0o755)


def make_run(folder: Path, more: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """`make run` where nothing else is on the machine."""
    given = {"PATH": str(folder / "bin"), "MADE": str(folder / "made"), **(more or {})}
    command = ["make", "run"]
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=30, check=False)


def made(folder: Path) -> list[str]:
    """The versions of which environments were made."""
    return (folder / "made").read_text().split() if (folder / "made").exists() else []


def test_it_says_what_it_does_and_does_it_once(folder: Path) -> None:
    interpreter(folder, "python3", "3.12")
    done = make_run(folder)
    assert done.returncode == 0, done.stderr
    assert "Setting up .venv with Python 3.12.1 ..." in done.stdout
    assert "Installing ByteBrew and its packages from PyPI" in done.stdout
    assert done.stdout.endswith("served by 3.12\n")
    assert make_run(folder).stdout == "served by 3.12\n"
    assert made(folder) == ["3.12"]


def test_python_3_10_is_refused_before_an_environment_is_made(folder: Path) -> None:
    interpreter(folder, "python3", "3.10")
    done = make_run(folder)
    assert done.returncode != 0
    assert "ByteBrew needs Python 3.11 or later, and python3 is Python 3.10." in done.stderr
    assert "PYTHON=/path/to/python3.12 make run" in done.stderr
    assert not (folder / ".venv").exists()


def test_a_newer_python_beside_an_old_one_is_taken(folder: Path) -> None:
    interpreter(folder, "python3", "3.9")
    interpreter(folder, "python3.12", "3.12")
    done = make_run(folder)
    assert (done.returncode, made(folder)) == (0, ["3.12"]), done.stderr


def test_the_python_that_is_named_is_taken_or_refused(folder: Path) -> None:
    interpreter(folder, "python3", "3.12")
    interpreter(folder, "mine", "3.13")
    interpreter(folder, "old", "3.8")
    assert "old is Python 3.8." in make_run(folder, {"PYTHON": "old"}).stderr
    assert make_run(folder, {"PYTHON": "mine"}).returncode == 0
    assert made(folder) == ["3.13"]


def test_without_any_python_it_says_so(folder: Path) -> None:
    done = make_run(folder)
    assert done.returncode != 0
    assert "there is none called python3 " in done.stderr


@pytest.mark.parametrize("left", ["old", "gone"])
def test_an_environment_of_an_old_python_or_of_one_that_is_gone_is_made_anew(left: str, folder: Path) -> None:
    interpreter(folder, "python3", "3.12")
    assert make_run(folder).returncode == 0
    python = folder / ".venv" / "bin" / "python"
    python.unlink()
    if left == "old":
        interpreter(folder, "python3.10", "3.10")
        (folder / "bin" / "python3.10").rename(python)
    done = make_run(folder)
    assert done.returncode == 0, done.stderr
    assert "is of a Python that is gone or older than 3.11: making it anew" in done.stdout
    assert made(folder) == ["3.12", "3.12"]


def test_a_pip_that_fails_is_said_and_tried_again_the_next_time(folder: Path) -> None:
    interpreter(folder, "python3", "3.12", pip=1)
    done = make_run(folder)
    assert done.returncode != 0
    assert "pip could not install it" in done.stderr
    interpreter(folder, "python3", "3.12")
    assert make_run(folder).returncode == 0
    assert made(folder) == ["3.12", "3.12"]
    assert os.access(folder / ".venv" / "bin" / "bytebrew", os.X_OK)
