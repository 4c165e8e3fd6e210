"""Schemas in the page: who may ask whom, who may talk to it, and lines that run as they stand there."""

import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.peers.page.conftest import NARROW, until
from tests.peers.served import Served

expect: Any = pytest.importorskip("playwright.sync_api", reason="not set up: run tests/peers/setup.sh").expect
pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]


@pytest.fixture(scope="module", autouse=True)
def shop(engine: Served) -> str:
    """A schema with four agents: the desk asks two, of which each asks the last, and the desk asks that too."""
    for name in ("desk", "refunds", "courier", "reader"):
        engine.create("agents", name=name, model="talk")
    pairs = [("desk", "refunds"), ("desk", "courier"), ("refunds", "reader"), ("courier", "reader"), ("desk", "reader")]
    relations = [{"source": source, "target": target} for source, target in pairs]
    engine.create("schemas", name="shop", entry_agent="desk", chat_enabled=True, relations=relations)
    return "shop"


@pytest.fixture
def page(open_page: Callable[..., Any]) -> Iterator[Any]:
    """A tab in which the engine may refuse what a test writes."""
    with open_page(
        allowed=("status of 400", "status of 412"), permissions=["clipboard-read", "clipboard-write"]
    ) as tab:
        yield tab


def schema(engine: Served, name: str = "shop") -> Any:
    return engine.admin.get(f"schemas/{name}").raise_for_status().json()


def test_agents_stand_in_layers_behind_those_that_ask_them(page: Any) -> None:
    page.goto("/schemas/shop")
    graph = page.get_by_role("group", name="Who may ask whom")
    expect(graph.get_by_role("link")).to_have_count(4)
    desk = graph.get_by_role("link", name=re.compile("^desk .*answers first, may ask courier and reader and refunds"))
    begins = {name: re.compile(f"^{name}") for name in ("refunds", "courier", "reader")}
    at = {name: graph.get_by_role("link", name=words).bounding_box()["x"] for name, words in begins.items()}
    assert desk.bounding_box()["x"] < at["refunds"] == at["courier"] < at["reader"]
    desk.click()
    expect(page.get_by_role("heading", name="desk", level=1)).to_be_visible()


def test_a_schema_is_made_and_its_chat_is_switched(page: Any, engine: Served) -> None:
    page.goto("/schemas")
    page.get_by_role("button", name="New schema").click()
    page.get_by_label("Name", exact=True).fill("made-here")
    page.get_by_label("Who answers first").select_option("desk")
    page.get_by_role("button", name="Make schema").click()
    expect(page.get_by_role("heading", name="made-here")).to_be_visible()
    page.get_by_role("switch", name="Chat is on").uncheck()
    expect(page.get_by_text("Nobody can talk to it")).to_be_visible()
    until(page, lambda: not schema(engine, "made-here")["chat_enabled"])
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Nobody can talk to it")).to_have_count(0)
    until(page, lambda: schema(engine, "made-here")["chat_enabled"])
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete schema made-here").click()
    expect(page.get_by_role("navigation", name="Schemas").get_by_role("link", name="made-here")).to_have_count(0)


def test_relations_are_changed_and_a_version_brings_them_back(page: Any, engine: Served) -> None:
    page.goto("/schemas/shop")
    page.get_by_text("Change the 5 relations").click()
    page.get_by_role("button", name="Remove desk to reader").click()
    expect(page.get_by_text("Change the 4 relations")).to_be_visible()
    page.get_by_label("Who asks").select_option("refunds")
    page.get_by_label("Who is asked").select_option("courier")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("refunds may ask courier")).to_be_visible()
    history = page.get_by_role("region", name="Versions")
    history.get_by_text("v1", exact=True).click()
    history.get_by_role("button", name="Roll back to v1").click()
    expect(history.get_by_text("back to v1")).to_be_visible()
    expect(page.get_by_text("desk may ask reader")).to_be_visible()
    assert len(schema(engine)["relations"]) == 5


def test_what_another_has_changed_is_shown_and_not_overwritten(page: Any, engine: Served) -> None:
    page.goto("/schemas/shop")
    expect(page.get_by_label("Description")).to_be_visible()
    engine.admin.put("schemas/shop", json={"description": "Theirs", "view": "public"}).raise_for_status()
    page.get_by_label("Description").fill("Mine")
    page.get_by_label("Description").blur()
    expect(page.get_by_role("alert")).to_contain_text("Somebody has changed it meanwhile")
    expect(page.get_by_label("Description")).to_have_value("Theirs")
    assert schema(engine)["description"] == "Theirs"
    page.get_by_label("What chats show").select_option("full")
    expect(page.get_by_role("alert")).to_have_count(0)
    until(page, lambda: schema(engine)["view"] == "full")


def test_the_line_for_curl_runs_as_it_stands_there(page: Any, engine: Served) -> None:
    page.goto("/schemas/shop?connect=curl")
    line = page.get_by_role("region", name="Connect").locator("pre").inner_text()
    done = subprocess.run(
        ["sh", "-c", line],
        env={"BYTEBREW_TOKEN": engine.token, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "event: done" in done.stdout, done.stderr


def test_every_way_to_connect_is_in_the_address_and_names_the_schema(page: Any, engine: Served) -> None:
    page.goto("/schemas/shop")
    connect = page.get_by_role("region", name="Connect")
    for name in ("Python", "TypeScript", "OpenAI client", "MCP", "Script tag"):
        connect.get_by_role("tab", name=name).click()
        expect(connect.locator("pre")).to_contain_text("shop")
        expect(connect.locator("pre")).to_contain_text(engine.url)
    assert page.url.endswith("?connect=script-tag")
    connect.get_by_role("button", name="Copy the example").click()
    assert "<bytebrew-chat" in page.evaluate("navigator.clipboard.readText()")
    expect(connect.get_by_role("link", name="Make a key")).to_have_attribute(
        "href", "/keys?new=1&purpose=website&schema=shop"
    )


def test_a_phone_has_the_agents_as_a_list_and_nothing_scrolls_sideways(open_page: Callable[..., Any]) -> None:
    with open_page(viewport=NARROW) as tab:
        tab.goto("/schemas/shop?connect=mcp")
        expect(tab.locator(".tree").get_by_role("link", name="reader").first).to_be_visible()
        assert tab.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
