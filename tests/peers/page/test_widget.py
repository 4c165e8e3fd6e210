"""The widget in a page of another site: under that site's own policy, with a token that everybody can read."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.peers.page.conftest import NARROW, opened
from tests.peers.served import Served, served, slow, steps

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
OPEN = """const attach = Element.prototype.attachShadow
Element.prototype.attachShadow = function (how) {
  Element.prototype.attachShadow.mode = how.mode
  return attach.call(this, {...how, mode: "open"})
}"""
"""A closed shadow root is closed to tests too: this opens it, and keeps what was asked for."""
FORM = {
    "output_type": "form",
    "title": "Your order",
    "questions": [
        {"id": "number", "label": "Order number"},
        {"id": "size", "label": "Size", "type": "select", "options": [{"label": "Small"}, {"label": "Large"}]},
    ],
}


class Site:
    """A shop on an origin of its own, whose page has what a test wants in it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.body = ""
        self.policy = ""


@contextmanager
def site() -> Iterator[Site]:
    one = Site("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-security-policy", one.policy)
            self.end_headers()
            self.wfile.write(f"<!doctype html><title>Shop</title><link rel=icon href=data:,>{one.body}".encode())

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        one.url = f"http://localhost:{server.server_port}"
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield one
        finally:
            server.shutdown()
            serving.join()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Served]]:
    """The shop, and an engine that answers its pages."""
    with site() as one, served(tmp_path_factory.mktemp("widget"), BYTEBREW_CORS_ORIGINS=one.url) as engine:
        placed(one, engine)
        yield one, engine


def placed(shop: Site, engine: Served, *, schema: str = "talk", view: str = "public", form: str = "") -> str:
    """Puts the widget in the shop's page, which allows the engine and nothing else; returns the page's token."""
    tokens = {row["name"]: row["id"] for row in engine.admin.get("auth/tokens").json()}
    if old := tokens.get("shop"):
        engine.admin.delete(f"auth/tokens/{old}").raise_for_status()
    token = engine.create("auth/tokens", name="shop", scopes=["public"], schemas=[schema], view=view)["token"]
    shop.policy = f"default-src 'none'; script-src {engine.url}; connect-src {engine.url}; img-src data:"
    named = f'data-schema="{schema}" data-token="{token}" data-label="Ask the shop"'
    tag = f'<script src="{engine.url}/widget.js" {named}></script>'
    shop.body = form.format(url=engine.url, token=token) or f"<h1>Stove</h1><button>Buy</button>{tag}"
    return str(token)


@contextmanager
def visiting(chromium: Any, shop: Site, *allowed: str, **options: Any) -> Iterator[Any]:
    with opened(chromium, shop.url, script=OPEN, allowed=allowed, **options) as page:
        page.goto("/")
        yield page


def talk(page: Any) -> Any:
    """The conversation, without what is said to readers of the screen beside it."""
    return page.get_by_role("log", name="Conversation")


def ask(page: Any, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.keyboard.press("Enter")


def test_a_visitor_asks_goes_on_after_a_reload_and_is_forgotten(chromium: Any, shop: tuple[Site, Served]) -> None:
    where, engine = shop
    placed(where, engine)
    with visiting(chromium, where) as page:
        before = page.evaluate("Object.keys(window).sort().join()")
        page.get_by_role("button", name="Ask the shop").click()
        box = page.get_by_role("dialog", name="Ask the shop")
        assert page.evaluate("document.querySelector('bytebrew-chat').shadowRoot.activeElement.tagName") == "TEXTAREA"
        ask(page, "What is the weather in Oslo?")
        talk(page).get_by_text("Let me look. Sunny in Oslo.").wait_for()
        assert "weather in Oslo?" in box.locator(".me").inner_text()
        assert page.evaluate("Element.prototype.attachShadow.mode") == "closed"
        assert page.evaluate("Object.keys(window).sort().join()") == before
        assert page.evaluate("document.cookie") == ""
        assert page.evaluate("Object.keys(localStorage).join()") == "bytebrew.chat"
        page.reload()
        talk(page).get_by_text("Let me look. Sunny in Oslo.").wait_for()
        assert page.evaluate("document.activeElement === document.body"), "a page that opens it keeps its focus"
        ask(page, steps(["**Bold** and [here](https://shop.example/a) and <img src=x>"]))
        box.get_by_role("link", name="here").wait_for()
        assert "here (shop.example) and <img src=x>" in box.inner_text()
        page.keyboard.press("Escape")
        opener = page.get_by_role("button", name="Ask the shop")
        assert opener.evaluate("it => it.getRootNode().activeElement === it")
        opener.click()
        assert box.locator("li").count() == 4
        box.get_by_label("More").click()
        box.get_by_role("button", name="Forget this conversation").click()
        box.get_by_text("Forgotten.").wait_for()
        assert box.locator("li").count() == 0
        assert page.evaluate("localStorage.length") == 0
        ask(page, "What is the weather in Rome?")
        talk(page).get_by_text("Sunny in Rome.").wait_for()


def test_a_kill_of_the_engine_in_the_middle_of_an_answer_costs_nothing_of_it(
    chromium: Any, shop: tuple[Site, Served]
) -> None:
    where, engine = shop
    placed(where, engine)
    said = [f"part {n} " for n in range(30)]
    with visiting(chromium, where, "ERR_", "Failed to load") as page:
        page.get_by_role("button", name="Ask the shop").click()
        ask(page, steps(slow(*said, seconds=0.1)))
        answer = page.locator("li.text:not(.me)")
        answer.get_by_text("part 5").wait_for()
        engine.kill()
        page.get_by_text("Connecting again").wait_for()
        engine.start()
        answer.get_by_text("".join(said).strip(), exact=True).wait_for(timeout=30_000)
        page.get_by_text("Connecting again").wait_for(state="detached")
        page.reload()
        talk(page).get_by_text("".join(said).strip(), exact=True).wait_for()
        assert answer.count() == 1


def test_a_form_is_answered_and_a_question_waits_for_a_colleague(chromium: Any, shop: tuple[Site, Served]) -> None:
    where, engine = shop
    engine.create("agents", name="forms", model="talk", tools=["show_structured_output", "pay"], confirm_before=["pay"])
    engine.create("schemas", name="forms", entry_agent="forms", chat_enabled=True)
    placed(where, engine, schema="forms")
    with visiting(chromium, where, viewport=NARROW) as page:
        page.get_by_role("button", name="Ask the shop").click()
        ask(page, steps([["show_structured_output", FORM]]))
        form = page.get_by_role("group", name="Your order")
        form.get_by_label("Order number").fill("48190 " + steps(["Thank you"]))
        form.get_by_label("Size").select_option("Large")
        form.get_by_role("button", name="Send answers").click()
        talk(page).get_by_text("Thank you", exact=True).wait_for()
        assert "Size: Large" in page.locator(".me").last.inner_text()
        assert form.get_by_label("Order number").is_disabled()
        ask(page, steps([["pay", {"amount": 5}]], ["It is paid"]))
        talk(page).get_by_text("A colleague is looking at this.").first.wait_for()
        assert "pay" not in page.locator("li.note").inner_text()
        kept = json.loads(page.evaluate("localStorage.getItem('bytebrew.chat')"))
        engine.approve(next(iter(kept.values()))["session"])
        talk(page).get_by_text("It is paid", exact=True).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_offline_what_was_written_stays_in_the_field(chromium: Any, shop: tuple[Site, Served]) -> None:
    where, engine = shop
    placed(where, engine)
    with visiting(chromium, where, "ERR_INTERNET_DISCONNECTED") as page:
        page.get_by_role("button", name="Ask the shop").click()
        page.context.set_offline(True)
        ask(page, "What is the weather in Bonn?")
        page.get_by_text("There is no connection.").wait_for()
        assert page.get_by_label("Message").input_value() == "What is the weather in Bonn?"
        page.context.set_offline(False)
        page.keyboard.press("Enter")
        talk(page).get_by_text("Sunny in Bonn.").wait_for()


def test_a_site_that_is_not_allowed_shows_nothing_and_its_owner_is_told(
    chromium: Any, shop: tuple[Site, Served]
) -> None:
    _, engine = shop
    with site() as other:
        placed(other, engine)
        told = list[str]()
        with opened(chromium, other.url, script=OPEN, allowed=("CORS", "ERR_FAILED", "widget.origins")) as page:
            page.on("console", lambda said: told.append(said.text))
            with page.expect_console_message(lambda said: "widget.origins" in said.text):
                page.goto("/")
            assert page.get_by_role("button", name="Ask the shop").count() == 0
    assert any(f"does not answer pages of {other.url}" in one for one in told)


def test_it_stands_as_an_element_too_and_follows_the_page_in_colour(chromium: Any, shop: tuple[Site, Served]) -> None:
    where, engine = shop
    element = '<bytebrew-chat schema="talk" token="{token}" label="Help" open greeting="Hello."></bytebrew-chat>'
    tag = f'<script src="{{url}}/widget.js" defer></script>{element}'
    placed(where, engine, form=tag)
    where.policy += "; style-src 'unsafe-inline'"
    where.body += "<style>bytebrew-chat { --bytebrew-accent: rgb(31, 90, 61) } button { display: none }</style>"
    with visiting(chromium, where) as page:
        page.get_by_role("dialog", name="Help").get_by_text("Hello.").wait_for()
        send = page.get_by_role("button", name="Send")
        assert send.evaluate("it => getComputedStyle(it).backgroundColor") == "rgb(31, 90, 61)"
        assert page.evaluate("document.activeElement === document.body")
