"""First steps: from the engine's link to a streamed answer of one's own agent, in few clicks, whatever goes wrong."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bytebrew.testing import ADMIN
from tests.peers.page.conftest import NARROW, opened
from tests.peers.page.vendor import KEY, vendor
from tests.processes import Process

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
COUNTED = """
window.clicks = Number(sessionStorage.getItem("clicks") ?? 0);
addEventListener("click", (event) => {
  if (event.isTrusted) sessionStorage.setItem("clicks", String(++window.clicks));
}, true);
"""
"""Counts what a person presses."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with vendor() as url:
        yield url


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[str]:
    """The address of an engine that nobody has set up."""
    engine = Process(tmp_path / "data", {"BYTEBREW_DRAIN_SECONDS": "1"})
    try:
        yield engine.url
    finally:
        engine.kill()


@pytest.fixture
def visitor(chromium: Any, fresh: str) -> Iterator[Any]:
    with opened(chromium, fresh) as tab:
        tab.add_init_script(COUNTED)
        yield tab


def choose_vendor(tab: Any, address: str, key: str) -> None:
    """The first step, for a vendor with an address of its own."""
    tab.get_by_role("radio", name="OpenAI Compatible").click()
    tab.get_by_role("textbox", name="API key").fill(key)
    tab.get_by_role("textbox", name="Address").fill(address)
    tab.get_by_role("button", name="Go on").click()


def tab_to(tab: Any, wanted: Any) -> None:
    """Presses Tab until something has the focus."""
    for _ in range(20):
        tab.keyboard.press("Tab")
        if wanted.evaluate("one => one === document.activeElement"):
            return
    pytest.fail(f"Tab does not lead to {wanted}")


def choose_model(tab: Any, name: str) -> None:
    tab.get_by_role("textbox", name="Model").fill(name)
    tab.get_by_role("button", name="Save and verify").click()


def test_a_first_visit_is_a_streamed_chat_in_few_clicks(visitor: Any, address: str) -> None:
    visitor.goto("/")
    visitor.wait_for_url("**/start")
    choose_vendor(visitor, f"{address}/v1", KEY)
    choose_model(visitor, "gpt-small")
    visitor.get_by_role("button", name="Make it and talk").click()
    visitor.wait_for_url("**/chat?schema=help")
    visitor.get_by_role("button", name="What can you do for me?").click()
    visitor.get_by_role("main").get_by_text("All is well, says the vendor.").wait_for()
    assert visitor.evaluate("window.clicks") < 10
    model = visitor.evaluate(
        f"""fetch("/api/v1/models/gpt-small", {{headers: {{authorization: "Bearer {ADMIN}"}}}}).then((r) => r.json())"""
    )
    assert (model["is_default"], model["used_by"]) == (True, ["helper"])
    assert KEY not in visitor.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}, location.href])")


def test_a_first_visit_is_a_chat_by_the_keyboard_alone(chromium: Any, address: str, tmp_path: Path) -> None:
    """From the engine's link: nothing is pressed with a mouse, and nothing is focused but by the page and its keys."""
    engine = Process(tmp_path / "data", {"BYTEBREW_DRAIN_SECONDS": "1"})
    try:
        link = f"/#t={(tmp_path / 'data/local-session.token').read_text().strip()}"
        with opened(chromium, engine.url, script="") as tab:
            tab.goto(link)
            tab.get_by_role("button", name="Go on").wait_for()
            tab_to(tab, tab.get_by_role("radio", name="Anthropic"))
            for _ in range(6):
                tab.keyboard.press("ArrowDown")
            assert tab.get_by_role("radio", name="OpenAI Compatible").is_checked()
            tab_to(tab, tab.get_by_role("textbox", name="API key"))
            tab.keyboard.type(KEY)
            tab_to(tab, tab.get_by_role("textbox", name="Address"))
            tab.keyboard.type(f"{address}/v1")
            tab.keyboard.press("Enter")
            tab.locator("h2:focus", has_text="A model").wait_for()
            tab_to(tab, tab.get_by_role("textbox", name="Model"))
            tab.keyboard.type("gpt-small")
            tab.keyboard.press("Enter")
            tab.locator("h2:focus", has_text="An agent").wait_for()
            tab_to(tab, tab.get_by_role("button", name="Make it and talk"))
            tab.keyboard.press("Enter")
            message = tab.get_by_role("main").get_by_label("Message", exact=True)
            message.wait_for()
            tab_to(tab, message)
            for n in (1, 2):  # the field keeps the focus: the next message follows at once
                tab.keyboard.type(f"Is all well, {n}?")
                tab.keyboard.press("Enter")
                tab.locator(".it", has_text="All is well, says the vendor.").nth(n - 1).wait_for()
                tab.get_by_text("your turn").wait_for()
    finally:
        engine.kill()


def test_what_was_made_answers_curl_with_a_key_of_its_own(visitor: Any, address: str) -> None:
    visitor.goto("/start")
    choose_vendor(visitor, f"{address}/v1", KEY)
    choose_model(visitor, "gpt-small")
    visitor.get_by_role("button", name="Make it and talk").click()
    visitor.wait_for_url("**/chat?schema=help")
    visitor.goto("/keys?new=1&purpose=server&schema=help")
    dialog = visitor.get_by_role("dialog")
    dialog.get_by_label("Name").fill("shop")
    dialog.get_by_role("button", name="Make the key").click()
    lines = dialog.get_by_label("curl", exact=True).inner_text()
    said = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, timeout=30, check=True).stdout
    assert "/schemas/help/chat" in lines
    assert "says the vendor." in said


def test_a_wrong_key_is_written_anew_where_it_failed_and_makes_no_second_model(visitor: Any, address: str) -> None:
    visitor.goto("/start")
    choose_vendor(visitor, f"{address}/v1", "sk-wrong")
    choose_model(visitor, "gpt-small")
    visitor.get_by_text("The key was not accepted").wait_for()
    assert "Incorrect API key provided" in visitor.locator(".note.fail").inner_text()
    visitor.get_by_role("textbox", name="API key").fill(KEY)
    visitor.get_by_role("button", name="Save and verify").click()
    visitor.get_by_role("button", name="Make it and talk").wait_for()
    assert re.search(r"\d ms, calls tools", visitor.locator(".step.done").nth(2).inner_text())
    assert names(visitor, "models") == ["demo", "gpt-small"]


def test_a_model_without_tools_begins_without_them(visitor: Any, address: str) -> None:
    visitor.goto("/start")
    choose_vendor(visitor, f"{address}/mute", KEY)
    choose_model(visitor, "gpt-mute")
    visitor.get_by_role("link", name="Go on without tools").click()
    visitor.get_by_role("button", name="Make it and talk").wait_for()
    assert not visitor.get_by_text("Tools to begin with").is_visible()


def test_a_reload_goes_on_and_makes_nothing_twice(visitor: Any, address: str) -> None:
    visitor.goto("/start")
    choose_vendor(visitor, f"{address}/v1", KEY)
    choose_model(visitor, "gpt-small")
    visitor.get_by_role("button", name="Make it and talk").wait_for()
    visitor.reload()
    visitor.get_by_role("button", name="Make it and talk").wait_for()
    visitor.go_back()
    visitor.get_by_role("heading", name="Does it answer").wait_for()
    visitor.get_by_role("button", name="Make it and talk").click()
    visitor.wait_for_url("**/chat?schema=help")
    assert (names(visitor, "models"), names(visitor, "schemas")) == (["demo", "gpt-small"], ["demo", "help"])


def test_a_key_chooses_its_vendor_and_its_models_have_prices(visitor: Any) -> None:
    visitor.goto("/start")
    key = visitor.get_by_role("textbox", name="API key")
    for text, name in (("AIzaSy", "Google"), ("sk-ant-1", "Anthropic"), ("xai-1", "xAI"), ("sk-or-1", "OpenRouter")):
        key.fill(text)
        assert visitor.get_by_role("radio", name=name).is_checked()
    key.fill("sk-ant-1")
    visitor.get_by_role("button", name="Go on").click()
    chosen = visitor.get_by_role("radio", name="claude-opus")
    assert chosen.is_checked()
    assert "$5.00 / $25.00" in visitor.locator(".pick li").first.inner_text()
    visitor.reload()  # the key is gone with it
    assert visitor.get_by_role("textbox", name="API key").input_value() == ""


def test_it_fits_a_phone(chromium: Any, fresh: str) -> None:
    with opened(chromium, fresh, viewport=NARROW, color_scheme="dark") as tab:
        tab.goto("/start?curl=1")
        tab.get_by_role("button", name="Go on").wait_for()
        assert tab.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def names(tab: Any, kind: str) -> Any:
    """The names of what there is of a kind."""
    script = f"""fetch("/api/v1/{kind}", {{headers: {{authorization: "Bearer {ADMIN}"}}}}).then((r) => r.json())"""
    return sorted(one["name"] for one in tab.evaluate(script))
