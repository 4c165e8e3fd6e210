"""The shell of the page: navigation, palette, keys, signing in, and an engine that goes and comes back."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bytebrew.testing import ADMIN
from tests.peers.page.conftest import NARROW, opened
from tests.peers.served import Served, served

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
NOTE = re.compile("This page needs the scope")


def at(page: Any, path: str) -> None:
    """Waits until the reader is at an address, with the focus at the head of its page."""
    page.wait_for_url(f"**{path}")
    page.locator("main h1:focus").wait_for(state="attached")


def test_the_navigation_leads_to_every_page_and_back(page: Any) -> None:
    page.goto("/")
    rail = page.get_by_role("navigation", name="Main", exact=True)
    rail.get_by_role("link", name="Inbox").and_(page.locator("[aria-current=page]")).wait_for()
    for words, path in (("Sessions", "/sessions"), ("API keys", "/keys"), ("Plugins and backup", "/plugins")):
        rail.get_by_role("link", name=words).click()
        at(page, path)
        assert rail.get_by_role("link", name=words).get_attribute("aria-current") == "page"
        assert page.title() == f"{words} · ByteBrew"
    page.go_back()
    at(page, "/keys")
    rail.get_by_text(re.compile(r"^1\.\S+ · up ")).wait_for()


def test_keys_lead_through_the_page_unless_they_are_switched_off(page: Any) -> None:
    page.goto("/")
    page.locator("h1").wait_for(state="attached")
    for keys, path in (("gs", "/sessions"), ("gm", "/models"), ("gi", "/"), ("c", "/chat"), ("gu", "/usage")):
        for key in keys:
            page.keyboard.press(key)
        at(page, path)
    page.keyboard.press("?")
    listed = page.get_by_role("dialog", name="Keyboard")
    listed.get_by_role("checkbox").uncheck()
    page.keyboard.press("Escape")
    listed.wait_for(state="detached")
    page.keyboard.press("g")
    page.keyboard.press("s")
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Find or do")
    palette.wait_for()
    assert page.url.endswith("/usage")
    page.keyboard.type("list the keys")
    page.keyboard.press("Enter")
    listed.get_by_role("checkbox").check()


def test_the_palette_finds_what_has_a_name_and_opens_pasted_ids(open_page: Callable[..., Any], engine: Served) -> None:
    said = engine.admin.post("schemas/talk/chat", json={"message": "weather in Bergen", "stream": False}).json()
    session = said["session_id"]
    with open_page(allowed=("404",)) as page:
        page.goto("/settings")
        page.locator("h1").wait_for(state="attached")
        page.keyboard.press("Control+k")
        palette = page.get_by_role("dialog", name="Find or do")
        chosen = palette.get_by_role("option", selected=True)
        assert "Inbox" in chosen.inner_text()
        page.keyboard.press("ArrowUp")
        assert "Sign out" in chosen.inner_text()
        page.keyboard.type("talk")
        palette.get_by_role("option", name="talk").first.wait_for()
        assert palette.locator(".cap").all_inner_texts()[0] in ("Agents", "Schemas", "Models")
        page.keyboard.press("Enter")
        at(page, "/talk")
        page.keyboard.press("Control+k")
        page.keyboard.type("weather in Bergen")
        palette.get_by_role("option", name="weather in Bergen").wait_for()
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/sessions/{session}")
        for text, path in (("task_0190b1f00000", "/tasks/task_0190b1f00000"), ("conf_0190b1", "/?open=conf_0190b1")):
            page.keyboard.press("Control+k")
            page.keyboard.type(text)
            page.keyboard.press("Enter")
            palette.wait_for(state="detached")
            page.wait_for_url(f"**{path}")
        page.keyboard.press("Control+k")
        page.keyboard.type("no such thing anywhere")
        palette.get_by_text("Nothing here is called that").wait_for()
        page.keyboard.press("Escape")
        palette.wait_for(state="detached")


def test_a_first_chat_needs_no_mouse(page: Any) -> None:
    page.goto("/")
    page.locator("h1").wait_for(state="attached")
    page.keyboard.press("Control+k")
    page.get_by_role("dialog", name="Find or do").wait_for()
    page.keyboard.type("new conv")
    page.keyboard.press("Enter")
    page.wait_for_url("**/chat")
    message = page.get_by_role("main").get_by_label("Message", exact=True)
    message.wait_for()
    for _ in range(20):
        if message.evaluate("field => field === document.activeElement"):
            break
        page.keyboard.press("Tab")
    page.keyboard.type("Hello by the keyboard")
    page.keyboard.press("Enter")
    page.get_by_text("You said: Hello by the keyboard").first.wait_for()
    page.wait_for_url("**/chat/*")


def test_a_new_agent_is_one_command_away(page: Any) -> None:
    page.goto("/settings")
    page.locator("h1").wait_for(state="attached")
    for _ in range(2):
        page.keyboard.press("Control+k")
        page.keyboard.type("new agent")
        page.keyboard.press("Enter")
        page.get_by_role("dialog", name="New agent").wait_for()
        assert page.url.endswith("/agents")
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")


def test_the_theme_is_kept(page: Any) -> None:
    page.goto("/")
    page.get_by_role("button", name="Use the dark theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 25)"
    page.reload()
    page.get_by_role("button", name="Use the light theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_on_a_phone_the_menu_has_what_the_tabs_have_not(open_page: Callable[..., Any]) -> None:
    with open_page(viewport=NARROW, has_touch=True) as page:
        page.goto("/")
        tabs = page.get_by_role("navigation", name="Main, short")
        tabs.get_by_role("link", name="Sessions").click()
        at(page, "/sessions")
        tabs.get_by_role("button", name="Menu").click()
        menu = page.get_by_role("dialog", name="Menu")
        menu.get_by_role("link", name="Audit").click()
        menu.wait_for(state="detached")
        at(page, "/audit")
        tabs.get_by_role("button", name="Menu").click()
        menu.get_by_role("button", name="Find or do").click()
        page.get_by_role("dialog", name="Find or do").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_the_link_signs_in_and_leaves_the_address(tmp_path: Path, chromium: Any) -> None:
    with served(tmp_path) as engine, opened(chromium, engine.url, script="") as page:
        token = (tmp_path / "data/local-session.token").read_text().strip()
        page.goto(f"/#t={token}")
        page.get_by_role("heading", name="Inbox", level=1).wait_for()
        assert "#" not in page.url
        assert token not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, history.state])")
        assert (tmp_path / "data/local-session.token").read_text().strip() != token


def test_without_a_token_one_dialog_asks_and_what_was_refused_is_sent_again(
    open_page: Callable[..., Any], engine: Served
) -> None:
    with open_page(script="", allowed=("401", "403")) as page:
        page.goto("/sessions")
        asked = page.get_by_role("dialog", name="Sign in")
        asked.get_by_label("Token").fill("bb_nonsense")
        asked.get_by_role("button", name="Sign in").click()
        asked.get_by_role("alert").wait_for()
        asked.get_by_label("Token").fill(engine.token)
        asked.get_by_role("button", name="Sign in").click()
        asked.wait_for(state="detached")
        page.get_by_role("heading", name="Sessions", level=1).wait_for()
        page.get_by_role("navigation", name="Main", exact=True).get_by_role("link", name="API keys").click()
        page.get_by_text(NOTE).wait_for()
        page.get_by_role("button", name="Use another token").click()
        again = page.get_by_role("dialog")
        again.get_by_label("Token").fill(ADMIN)
        again.get_by_label("Token").press("Enter")
        page.get_by_text(NOTE).wait_for(state="detached")


def test_a_token_that_ends_leaves_the_page_as_it_is(open_page: Callable[..., Any], engine: Served) -> None:
    made = engine.create("auth/tokens", name="short", scopes=["admin"])
    script = f"""if (!sessionStorage.getItem("bytebrew.token"))
      sessionStorage.setItem("bytebrew.token", JSON.stringify({{token: "{made["token"]}", expires_at: null}}))"""
    with open_page(script=script, allowed=("401",)) as page:
        page.goto("/settings")
        page.get_by_role("heading", name="Settings", level=1).wait_for()
        engine.admin.delete(f"auth/tokens/{made['id']}").raise_for_status()
        page.keyboard.press("Control+k")
        ended = page.get_by_role("dialog", name="Your session has ended")
        ended.wait_for()
        ended.get_by_role("button", name="Read on without").click()
        ended.wait_for(state="detached")
        page.keyboard.press("Escape")
        page.get_by_text("You are signed out.").wait_for()
        page.get_by_role("heading", name="Settings", level=1).wait_for()
        page.get_by_role("button", name="Sign in").click()
        page.get_by_label("Token").fill(ADMIN)
        page.get_by_label("Token").press("Enter")
        page.get_by_text("You are signed out.").wait_for(state="detached")


def test_an_engine_that_is_killed_is_missed_and_seen_again(tmp_path: Path, chromium: Any) -> None:
    with served(tmp_path) as engine, opened(chromium, engine.url, allowed=("ERR_", "Failed to load")) as page:
        page.goto("/settings")
        page.get_by_role("heading", name="Settings", level=1).wait_for()
        page.get_by_text(re.compile(r" · up ")).first.wait_for()
        engine.kill()
        page.keyboard.press("Control+k")
        page.get_by_text("The engine does not answer. What you see is from").wait_for()
        page.keyboard.press("Escape")
        page.get_by_role("heading", name="Settings", level=1).wait_for()
        engine.start()
        page.get_by_text("The engine has restarted.").wait_for(timeout=20_000)
        page.get_by_text("The engine does not answer").wait_for(state="detached")
        page.get_by_role("button", name="Close").click()
        page.get_by_text("The engine has restarted.").wait_for(state="detached")
