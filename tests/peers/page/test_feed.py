"""The page learns of changes in the engine by one stream for all tabs, also over a restart."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.page.conftest import opened
from tests.peers.served import Served, served

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
LISTEN = """async (topics) => {
  const src = document.querySelector('script[type=module]').src.replace('app.js', 'core/feed.js')
  const { listen } = await import(src)
  window.told = []
  listen(topics, (change) => window.told.push(change), new AbortController().signal)
}"""
LOST = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_INCOMPLETE_CHUNKED", "ERR_EMPTY_RESPONSE")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as engine:
        yield engine


def until(page: Any, condition: str) -> None:
    """Waits for something in the page, whose policy lets no text become a program."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {condition}; {page.evaluate('window.told')}")


def told(page: Any, name: str) -> None:
    """Waits until the page was told of a new version of an item."""
    until(page, f"window.told.some((one) => one?.id === {json.dumps(name)})")


def streams(engine: Served, wanted: int) -> None:
    """Waits until so many streams are open at the engine."""
    for _ in range(200):
        if f"bytebrew_open_streams {wanted}.0" in engine.admin.get(f"{engine.url}/metrics").text:
            return
        time.sleep(0.05)
    raise AssertionError(f"the engine never had {wanted} streams")


def change(engine: Served, name: str) -> None:
    engine.create("agents", name=name, model="talk")


def test_all_tabs_learn_of_a_change_by_one_stream(chromium: Any, own: Served) -> None:
    with opened(chromium, own.url) as page:
        page.goto("/")
        other = page.context.new_page()
        other.goto("/sessions")
        for tab in (page, other):
            tab.evaluate(LISTEN, ["config"])
        streams(own, 1)
        change(own, "first")
        told(page, "first")
        told(other, "first")
        metrics = own.admin.get(f"{own.url}/metrics").text
        assert "bytebrew_open_streams 1" in metrics.replace(".0", ""), [
            line for line in metrics.splitlines() if "stream" in line
        ]


def test_after_a_kill_the_tab_learns_on(chromium: Any, own: Served) -> None:
    with opened(chromium, own.url, allowed=LOST) as page:
        page.goto("/")
        page.evaluate(LISTEN, ["config"])
        streams(own, 1)
        change(own, "before")
        told(page, "before")
        own.kill()
        own.start()
        until(page, "window.told.includes(null)")
        streams(own, 1)
        change(own, "after")
        told(page, "after")
