"""Fixtures that every test may use."""

import gc
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import Any

import httpx
import httpx._transports.default
import pytest
from hypothesis import HealthCheck, settings

from bytebrew.testing import served_engine
from tests import blocking

_new_context = httpx.create_ssl_context
_default_context = cache(_new_context)


def _context(verify: Any = True, **options: Any) -> ssl.SSLContext:
    return _default_context(**options) if verify is True else _new_context(verify, **options)


# each client would read the certificates of all CAs anew, in 20 ms
httpx._transports.default.create_ssl_context = _context  # type: ignore[assignment, attr-defined]
# httpcore imports it several times for each request; an import that fails looks through the whole path
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]
# examples have no time limits: a machine with much to do may not run a process for a second
settings.register_profile("loaded", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("loaded")


def pytest_collection_finish() -> None:
    """Hides what is imported and collected from the garbage collector: a million objects, which tests make it walk.

    Calls that block are looked for from here on.
    """
    gc.collect()
    gc.freeze()
    blocking.watch()  # not before, as collecting has a million audit events


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """Fails a test in which an engine blocked its event loop."""
    with blocking.refused():
        yield


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The engine runs on asyncio; a module whose tests share an engine has one event loop meanwhile."""
    return "asyncio"


@pytest.fixture(scope="module")
async def shared_client() -> AsyncIterator[httpx.AsyncClient]:
    """The client of one engine for those tests of a module that leave nothing behind which another would see."""
    async with served_engine() as (_, client):
        yield client
