"""Fixtures that every test may use."""

import gc

import pytest


def pytest_collection_finish() -> None:
    """Hides what is imported and collected from the garbage collector: a million objects, which tests make it walk."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    """The engine runs on asyncio."""
    return "asyncio"
