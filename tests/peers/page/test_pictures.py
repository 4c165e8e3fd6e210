"""Every page with real work in it, light and dark, wide and narrow: nothing sticks out, and axe-core finds nothing.

BYTEBREW_SCREENSHOTS names a folder for the pictures.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bytebrew_page.serving import PAGES

from tests.peers.page.conftest import NARROW, WIDE, opened
from tests.peers.page.full import SCHEMA, Full, full

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
AXE = Path(__file__).parents[3] / ".cache/peers/page/node_modules/axe-core/axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
REFUND = "Only one of the two stoves is broken"
VIEWS: dict[str, Callable[[Full], str]] = {
    "inbox": lambda found: "/",
    "chat": lambda found: f"/chat/{found.sessions[REFUND]}",
    "chat-form": lambda found: f"/chat/{found.sessions['What is wrong with your stoves?']}",
    "chat-new": lambda found: f"/chat?schema={SCHEMA}",
    "sessions": lambda found: "/sessions",
    "sessions-none": lambda found: "/sessions?q=nobody-said-this",
    "session": lambda found: f"/sessions/{found.sessions[REFUND]}",
    "session-failed": lambda found: f"/sessions/{found.sessions['Are you there?']}",
    "tasks": lambda found: "/tasks",
    "task": lambda found: f"/tasks/{found.task}",
    "schedules": lambda found: "/tasks/schedules",
    "webhooks": lambda found: "/tasks/webhooks",
    "agents": lambda found: "/agents",
    "agent": lambda found: "/agents/front-desk",
    "agent-diff": lambda found: "/agents/front-desk?diff=v1..v2",
    "schemas": lambda found: "/schemas",
    "schema": lambda found: f"/schemas/{SCHEMA}",
    "models": lambda found: "/models?name=claude",
    "tools": lambda found: "/tools",
    "mcp-drift": lambda found: "/tools/mcp/courier/echo",
    "mcp-catalog": lambda found: "/tools/catalog",
    "knowledge": lambda found: "/knowledge",
    "usage": lambda found: "/usage",
    "keys": lambda found: "/keys",
    "audit": lambda found: "/audit",
    "audit-calls": lambda found: "/audit?tab=calls",
    "config": lambda found: "/config",
    "config-import": lambda found: "/config?tab=import",
    "settings": lambda found: "/settings",
    "plugins": lambda found: "/plugins",
    "start": lambda found: "/start",
}
LOOKS: dict[str, dict[str, Any]] = {
    "light-1280": {"viewport": WIDE, "color_scheme": "light"},
    "dark-1280": {"viewport": WIDE, "color_scheme": "dark"},
    "light-390": {"viewport": NARROW, "color_scheme": "light", "has_touch": True},
    "dark-390": {"viewport": NARROW, "color_scheme": "dark", "has_touch": True},
}
SIDEWAYS = """() => {
  const wide = document.documentElement.clientWidth
  return [...document.querySelectorAll('main *, nav *, .tabs *')].filter((one) => {
    const box = one.getBoundingClientRect()
    if (!box.width || box.right <= wide + 1 || getComputedStyle(one).position === 'absolute') return false
    for (let at = one.parentElement; at; at = at.parentElement)
      if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(at).overflowX)) return false
    return true
  }).map((one) => one.outerHTML.slice(0, 120))
}"""
"""What sticks out at the right edge and cannot be scrolled to."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Full]:
    with full(tmp_path_factory.mktemp("full")) as one:
        yield one


def settle(page: Any) -> None:
    """Waits until the page has its name and its text no longer changes, or a running turn changes it for ever."""
    page.locator("main h1").first.wait_for(state="attached")
    before, calm = "", 0
    for _ in range(30):
        text = page.evaluate("document.querySelector('main').innerText")
        calm = calm + 1 if text == before else 0
        if calm >= 3 and not page.locator("main .bone").count():
            return
        before = text
        page.wait_for_timeout(100)


def violations(page: Any) -> list[str]:
    """What axe-core finds, one line each."""
    page.evaluate(AXE.read_text())
    options = {"runOnly": {"type": "tag", "values": TAGS}}
    report = page.evaluate(f"axe.run(document, {json.dumps(options)})")
    return [
        f"{one['id']}: {node['html'][:150]} {node['failureSummary'].splitlines()[-1].strip()[:200]}"
        for one in report["violations"]
        for node in one["nodes"]
    ]


def test_every_page_is_looked_at() -> None:
    words = {name.split("-")[0].rstrip("s") for name in VIEWS}
    assert {name.rstrip("s") for name in PAGES} - {"admin"} <= words


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("view", VIEWS)
def test_a_page_full_of_work_fits_and_is_accessible(chromium: Any, found: Full, view: str, look: str) -> None:
    with opened(chromium, found.engine.url, **LOOKS[look]) as page:
        page.goto(VIEWS[view](found))
        settle(page)
        if folder := os.environ.get("BYTEBREW_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{view}-{look}.png", full_page=True)
        assert not page.evaluate(SIDEWAYS)
        assert not violations(page)
