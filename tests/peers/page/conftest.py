"""A browser that shows the page of an engine, signed in as its operator; what goes wrong in it fails the test."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bytebrew.testing import ADMIN
from tests.peers.served import Served, served

WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
_SIGNED_IN = f'sessionStorage.setItem("bytebrew.token", {json.dumps(json.dumps({"token": ADMIN, "expires_at": None}))})'


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    """Debian's browser, driven by Playwright, whose loop would be in the way of the async tests behind this folder."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="not set up: run tests/peers/setup.sh")
    if (program := shutil.which("chromium") or shutil.which("google-chrome")) is None:
        pytest.skip("not set up: run tests/peers/setup.sh")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An engine whose schema `talk` says what its messages tell it to; see `tests/peers/served.py`."""
    with served(tmp_path_factory.mktemp("engine")) as running:
        yield running


@contextmanager
def opened(
    chromium: Any, url: str, *, script: str = _SIGNED_IN, allowed: tuple[str, ...] = (), **options: Any
) -> Iterator[Any]:
    """A tab at an engine; errors of its scripts, refused content and failed requests fail the test.

    `allowed` are words of those that the test brings about itself.
    """
    context = chromium.new_context(base_url=url, **{"viewport": WIDE, "reduced_motion": "reduce", **options})
    context.set_default_timeout(10_000)
    if script:
        context.add_init_script(script)
    page, wrong = context.new_page(), list[str]()
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    try:
        yield page
    finally:
        context.close()
    strange = [one for one in wrong if not any(word in one for word in allowed)]
    assert not strange, strange


@pytest.fixture
def page(chromium: Any, engine: Served) -> Iterator[Any]:
    """A tab that is signed in to the engine."""
    with opened(chromium, engine.url) as tab:
        yield tab


@pytest.fixture
def open_page(chromium: Any, engine: Served) -> Callable[..., Any]:
    """Opens tabs with options of their own: `with open_page(viewport=NARROW, color_scheme="dark") as tab`."""
    return lambda **options: opened(chromium, engine.url, **options)


def until(page: Any, true: Callable[[], bool]) -> None:
    """Waits until the engine has what the page shows already."""
    for _ in range(200):
        if true():
            return
        page.wait_for_timeout(50)
    raise AssertionError("the engine does not come to it within 10 s")
