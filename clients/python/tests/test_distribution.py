"""What is published: one wheel that is typed and needs httpx alone."""

import email
import subprocess
import sys
import zipfile
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def test_the_wheel_has_the_package_its_types_and_one_dependency(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path), "-t", "wheel"]
    subprocess.run(build, cwd=PROJECT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [metadata] = [archive.read(name) for name in names if name.endswith("/METADATA")]
    assert "bytebrew_client/py.typed" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"bytebrew_client"}
    parts = email.message_from_bytes(metadata)
    assert [requirement.partition("<")[0] for requirement in parts.get_all("Requires-Dist", [])] == ["httpx"]
