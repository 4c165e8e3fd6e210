"""Fixtures that every test may use."""

import gc
import sys

import pytest

# httpcore imports it several times for each request; an import that fails looks through the whole path
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]


def pytest_collection_finish() -> None:
    """Hides what is imported and collected from the garbage collector: a million objects, which tests make it walk."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    """The engine runs on asyncio."""
    return "asyncio"
