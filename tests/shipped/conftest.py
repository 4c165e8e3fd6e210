"""What is shipped, as setup.sh built it."""

from pathlib import Path

import pytest

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "shipped"


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The engine's wheel."""
    [path] = (CACHE / "wheel").glob("bytebrew-*.whl")
    return path
