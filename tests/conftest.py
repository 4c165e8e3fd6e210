"""Fixtures that every test may use."""

import gc
import ssl
import sys
from functools import cache
from typing import Any

import httpx
import httpx._transports.default
import pytest

_new_context = httpx.create_ssl_context
_default_context = cache(_new_context)


def _context(verify: Any = True, **options: Any) -> ssl.SSLContext:
    return _default_context(**options) if verify is True else _new_context(verify, **options)


# each client would read the certificates of all CAs anew, in 20 ms
httpx._transports.default.create_ssl_context = _context  # type: ignore[assignment, attr-defined]
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
