"""A question that an MCP server asks: a form of its fields, or the page that it wants visited."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.page.conftest import NARROW
from tests.peers.page.test_chat import answered, opened, say
from tests.peers.served import Served, served, steps

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
DOUBLE = Path(__file__).parents[2] / "mcp_double.py"
TOOL = {"name": "ask", "inputSchema": {"type": "object"}}
FORM = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "title": "Your name", "description": "as in your passport", "minLength": 2},
        "age": {"type": "integer", "minimum": 18},
        "mail": {"type": "string", "format": "email", "title": "E-mail"},
        "color": {"type": "string", "enum": ["r", "g"], "enumNames": ["Red", "Green"], "default": "g"},
        "pets": {"type": "array", "items": {"enum": ["cat", "dog"]}, "title": "Pets"},
        "news": {"type": "boolean", "title": "Send me news"},
    },
    "required": ["name", "age"],
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("engine")) as running:
        how = json.dumps({"more_tools": [TOOL]})
        server = {"name": "crm", "command": sys.executable, "args": [str(DOUBLE)], "env": {"MCP_DOUBLE": how}}
        running.admin.post("mcp-servers", json=server).raise_for_status()
        how = json.dumps({"more_tools": [TOOL], "versions": ["2026-07-28"]})
        newest = {**server, "name": "newest", "env": {"MCP_DOUBLE": how}}
        running.admin.post("mcp-servers", json=newest).raise_for_status()
        running.admin.patch("agents/talk", json={"mcp_servers": ["crm", "newest"]}).raise_for_status()
        yield running


@pytest.fixture
def ask(engine: Served) -> Iterator[Callable[..., str]]:
    """Has the server ask; returns the question's id, and ends what is left."""
    sessions: list[str] = []

    def start(**params: Any) -> str:
        arguments = {"requests": [{"method": "elicitation/create", "params": {"message": "Who?", **params}}]}
        message = {"message": f"Please. {steps([['ask', arguments]], [None])}", "stream": False}
        answer = engine.admin.post("schemas/talk/chat", json=message, timeout=30).raise_for_status().json()
        sessions.append(answer["session_id"])
        return str(answer["questions"][0]["id"])

    yield start
    for session in sessions:
        engine.admin.delete(f"sessions/{session}")


def question(engine: Served, key: str) -> Any:
    return engine.admin.get(f"approvals/{key}").raise_for_status().json()


def fill_in(page: Any) -> None:
    """Fills in the form, at first with what does not fit it."""
    page.goto("/")
    card = page.get_by_role("article", name="ask")
    card.get_by_text("crm asks", exact=True).wait_for()
    card.get_by_text("in its own words").wait_for()
    assert card.locator("blockquote").inner_text() == "WhoRLO are you?"
    card.get_by_role("button", name="Send").click()
    assert card.get_by_text("must be filled in").count() == 2
    card.get_by_label("Your name").fill("Z")
    card.get_by_label("age").fill("17")
    card.get_by_label("E-mail").fill("me")
    card.get_by_label("cat").check()
    card.get_by_label("Send me news").check()
    assert card.get_by_label("color").input_value() == "g"
    card.get_by_label("color").select_option(label="Red")
    card.get_by_role("button", name="Send").click()
    card.get_by_text("must be 18 at least").first.wait_for()
    card.get_by_text("must be an e-mail address").first.wait_for()
    assert card.get_by_label("Your name").get_attribute("aria-invalid") == "true"
    card.get_by_label("Your name").fill("Zoë")
    card.get_by_label("age").fill("30")
    card.get_by_label("E-mail").fill("zoe@example.com")
    card.get_by_role("button", name="Send").click()
    page.get_by_text(re.compile("ask answered by you")).wait_for()


def test_a_form_is_filled_in(ask: Callable[..., str], open_page: Any, engine: Served) -> None:
    key = ask(message="Who\u202e are you?", requestedSchema=FORM)
    with open_page(allowed=("status of 422",)) as page:
        fill_in(page)
    content = {"name": "Zoë", "age": 30, "mail": "zoe@example.com", "color": "r", "pets": ["cat"], "news": True}
    assert question(engine, key)["edited"] == content


def test_what_is_emptied_stays_empty(ask: Callable[..., str], page: Any, engine: Served) -> None:
    key = ask(requestedSchema={"type": "object", "properties": {"nick": {"type": "string", "default": "Zed"}}})
    page.goto("/")
    card = page.get_by_role("article", name="ask")
    assert card.get_by_label("nick").input_value() == "Zed"
    card.get_by_label("nick").fill("")
    card.get_by_role("button", name="Send").click()
    page.get_by_text(re.compile("ask answered by you")).wait_for()
    assert question(engine, key)["edited"] == {}


@pytest.mark.parametrize(
    ("button", "verdict", "words"), [("Decline", "reject", "declined"), ("Dismiss", "cancel", "dismissed")]
)
def test_it_is_declined_or_dismissed(
    ask: Callable[..., str], page: Any, engine: Served, button: str, verdict: str, words: str
) -> None:
    key = ask(requestedSchema=FORM)
    page.goto("/")
    page.get_by_role("article", name="ask").get_by_role("button", name=button).click()
    page.get_by_text(re.compile(f"ask {words} by you")).wait_for()
    assert question(engine, key)["verdict"] == verdict


def test_a_page_to_visit_is_a_link_with_its_host_in_words(ask: Callable[..., str], page: Any, engine: Served) -> None:
    url = "https://pay.example/once?id=1"
    key = ask(mode="url", url=url)
    page.set_viewport_size(NARROW)
    page.goto("/")
    card = page.get_by_role("article", name="ask")
    card.get_by_text("pay.example", exact=True).wait_for()
    link = card.get_by_role("link", name=url)
    assert (link.get_attribute("rel"), link.get_attribute("target")) == ("noopener noreferrer", "_blank")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    card.get_by_role("button", name="I have been there").click()
    page.get_by_text(re.compile("ask answered by you")).wait_for()
    assert question(engine, key)["verdict"] == "approve"


def test_a_form_without_a_field_is_one_press(ask: Callable[..., str], page: Any, engine: Served) -> None:
    key = ask(message="Go on?")
    page.goto(f"/sessions/{question(engine, key)['session_id']}")
    page.goto("/")
    page.get_by_role("article", name="ask").get_by_role("button", name="Send").click()
    page.get_by_text(re.compile("ask answered by you")).wait_for()
    assert question(engine, key)["verdict"] == "approve"


def test_questions_that_are_asked_at_once_come_one_after_another_in_a_chat(page: Any, engine: Served) -> None:
    asked = [{"method": "elicitation/create", "params": {"message": words}} for words in ("One?", "Two?")]
    opened(page)
    say(page, f"Please. {steps([['newest__ask', {'requests': asked}]], [None])}")
    page.locator("bb-approval blockquote", has_text="One?").wait_for()
    page.locator("bb-approval").get_by_role("button", name="Send").click()
    page.locator("bb-approval blockquote", has_text="Two?").wait_for()
    page.locator("bb-approval").get_by_role("button", name="Decline").click()
    answered(page, re.compile("opaque"))
