"""The packages: the same bytes from the same commit, which they name, a lock and a bill of materials that fit them."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.shipped.conftest import ROOT

pytestmark = [pytest.mark.shipped, pytest.mark.timeout(240)]

TOOLS = ROOT / ".cache" / "dist" / "tools" / "bin"
HOSTILE = {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": "1", "PYTHONHASHSEED": "7"}
"""What must not change a byte."""
VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
sys.exit(problem and str(problem))
"""


def git(*arguments: str, cwd: Path = ROOT) -> str:
    return subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


def clone(folder: Path, umask: int) -> Path:
    """A clone of this repository's commit, with the tools that scripts/dist.sh has set up here."""
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True, umask=umask)
    (folder / ".cache").symlink_to(ROOT / ".cache")
    (folder / ".git/info/exclude").write_text(".cache\n")
    return folder


def built(tree: Path, out: Path, umask: int = 0o022, **environment: str) -> dict[str, bytes]:
    """The files that a tree builds."""
    command = [tree / "scripts" / "dist.sh", out]
    env = os.environ | environment
    subprocess.run(command, check=True, capture_output=True, timeout=200, env=env, umask=umask)
    return {file.name: file.read_bytes() for file in out.iterdir()}


def named(packed: bytes) -> str:
    """The commit that a wheel says it was built from."""
    with ZipFile(io.BytesIO(packed)) as archive:
        [commit] = re.findall(r'COMMIT = "(.*)"', archive.read("bytebrew/built_from.py").decode())
        return str(commit)


@pytest.fixture(scope="module")
def first(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the commit builds: setup.sh's files if nothing was changed since, else those of a clone."""
    if not git("status", "--porcelain"):
        return {file.name: file.read_bytes() for file in dist.iterdir()}
    folder = tmp_path_factory.mktemp("first")
    return built(clone(folder / "clone", 0o022), folder / "out")


def test_another_clone_builds_the_same_bytes(first: dict[str, bytes], tmp_path: Path) -> None:
    second = built(clone(tmp_path / "of-a-longer-name", 0o077), tmp_path / "out", 0o077, **HOSTILE)
    assert second.keys() == first.keys()
    assert [name for name in first if first[name] != second[name]] == []
    versions = {re.sub(r"-\d[\d.]*\d", "-X", name) for name in first}
    assert versions == {
        "SHA256SUMS",
        "bytebrew-X-py3-none-any.whl",
        "bytebrew-X.tar.gz",
        "bytebrew-client-X.tgz",
        "bytebrew-sbom.cdx.json",
        "bytebrew_client-X-py3-none-any.whl",
        "bytebrew_client-X.tar.gz",
        "requirements.lock",
    }


def sources(first: dict[str, bytes], folder: Path) -> Iterator[Path]:
    """The trees that are no checkout: of `git archive`, and of the sdist."""
    archive = subprocess.run(["git", "archive", "--prefix=archive/", "HEAD"], cwd=ROOT, check=True, capture_output=True)
    [sdist] = [content for name, content in first.items() if re.fullmatch(r"bytebrew-[\d.]+\.tar\.gz", name)]
    for packed in (archive.stdout, sdist):
        with tarfile.open(fileobj=io.BytesIO(packed)) as files:
            files.extractall(folder, filter="data")
    yield folder / "archive"
    yield from folder.glob("bytebrew-*")


def test_every_tree_of_the_commit_builds_its_wheel(first: dict[str, bytes], tmp_path: Path) -> None:
    [wheel] = [content for name, content in first.items() if re.fullmatch(r"bytebrew-[\d.]+-.*whl", name)]
    assert named(wheel) == git("rev-parse", "HEAD")
    env = os.environ | {"SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct")}
    for number, tree in enumerate(sources(first, tmp_path / "sources")):
        command = [str(TOOLS / "python"), "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / str(number))]
        subprocess.run(command, cwd=tree, env=env, check=True, capture_output=True)
        [again] = (tmp_path / str(number)).iterdir()
        assert again.read_bytes() == wheel


@pytest.mark.parametrize("name", ["version.py", "new.py"])
def test_a_wheel_of_changed_files_says_so(name: str, tmp_path: Path) -> None:
    tree = clone(tmp_path / "clone", 0o022)
    (tree / "bytebrew" / name).write_text("# changed\n")
    code = "import pathlib, hatch_build; print(hatch_build.commit(pathlib.Path.cwd()))"
    command = [str(TOOLS / "python"), "-c", code]
    env = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    told = subprocess.run(command, cwd=tree, env=env, check=True, capture_output=True, text=True)
    assert told.stdout.strip() == git("rev-parse", "HEAD") + "-dirty"


def test_the_sums_are_those_of_the_files(dist: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=dist, check=True)
    listed = {line.split()[1] for line in (dist / "SHA256SUMS").read_text().splitlines()}
    assert listed | {"SHA256SUMS"} == {file.name for file in dist.iterdir()}


def test_the_bill_of_materials_is_valid_and_has_what_is_locked_and_what_the_page_ships(dist: Path) -> None:
    text = (dist / "bytebrew-sbom.cdx.json").read_text()
    subprocess.run([TOOLS / "python", "-c", VALIDATE], input=text, check=True, text=True)
    components = {one["purl"].partition("?")[0].replace("ruamel.", "ruamel-") for one in json.loads(text)["components"]}
    lock = re.findall(r"^(\S+?)==(\S+)(.*)\\$", (dist / "requirements.lock").read_text(), re.MULTILINE)
    everywhere = {f"pkg:pypi/{name}@{version}" for name, version, marker in lock if ";" not in marker}
    pins = json.loads((ROOT / "plugins/bytebrew_page/static/vendor/pins.json").read_text())
    shipped = {f"pkg:npm/{name}@{pin['version']}" for name, pin in pins.items()}
    assert everywhere | shipped <= components
    possible = {f"pkg:pypi/{name}@{version}" for name, version, _ in lock}
    assert components <= possible | shipped
    assert len(everywhere) > 30
    assert not re.search(re.escape(str(ROOT)) + r"|file:", text), "a path of this machine"


def test_the_program_of_the_wheel_names_the_commit(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    command = [sys.executable, "-m", "bytebrew", "--version"]
    told = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert re.fullmatch(rf"bytebrew, version [\d.]+, commit {git('rev-parse', 'HEAD')}(-dirty)?\n", told)
