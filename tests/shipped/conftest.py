"""What is shipped, as setup.sh built it."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "shipped"


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The engine's wheel."""
    [path] = (CACHE / "wheel").glob("bytebrew-*.whl")
    return path


@pytest.fixture(scope="session")
def dist() -> Path:
    """The folder of all that is published."""
    return CACHE / "dist"


@pytest.fixture(scope="session")
def uv() -> Path:
    """The program uv, pinned."""
    return ROOT / ".cache" / "uv" / "bin" / "uv"


@pytest.fixture(scope="session")
def one_file() -> Path:
    """The executable in one file."""
    [path] = (path for path in (CACHE / "binary").glob("bytebrew-*") if path.suffix != ".gz")
    return path


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The executable as a folder, unpacked from its archive."""
    folder = tmp_path_factory.mktemp("unpacked")
    [archive] = (CACHE / "binary").glob("bytebrew-*.tar.gz")
    subprocess.run(["tar", "xzf", archive, "-C", folder], check=True)
    [found] = folder.iterdir()
    return found
