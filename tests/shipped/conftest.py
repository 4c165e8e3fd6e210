"""What is shipped, as setup.sh built it."""

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
