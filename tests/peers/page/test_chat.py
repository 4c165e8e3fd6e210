"""A chat in a browser: what the session's events make it, over reloads and a `kill -9`, and nothing in it is markup."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.peers.page.conftest import NARROW
from tests.peers.served import Served, slow, steps

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
SLOW = slow(*(f"w{n} " for n in range(60)), seconds=0.05)
LAST = re.compile(r"w0 w1 .*w58 w59")
HOSTILE = "<script>alert(1)</script> <img src=x onerror=alert(1)> \u202etxt\u200b [x](javascript:alert(1))"


def opened(page: Any, path: str = "/chat?schema=talk") -> None:
    """A chat that can be written to."""
    page.goto(path)
    page.get_by_label("Message", exact=True).wait_for()


def say(page: Any, message: str) -> None:
    """Sends a message by the keyboard."""
    page.get_by_label("Message", exact=True).fill(message)
    page.get_by_label("Message", exact=True).press("Enter")


def answered(page: Any, text: str | re.Pattern[str]) -> None:
    """Waits for an answer, and for the end of its turn."""
    page.locator(".it", has_text=text).first.wait_for()
    page.get_by_text("your turn").wait_for()


def session(page: Any) -> str:
    """The session in the address."""
    page.wait_for_url("**/chat/*")
    return str(page.url.rsplit("/", 1)[1])


def asks(page: Any) -> Any:
    """The first question to a person, once it takes a press."""
    card = page.locator("bb-approval").first
    card.get_by_role("button", name="Approve").wait_for()
    return card


def test_a_message_begins_a_session_whose_answer_streams_in_beside_its_events(page: Any, engine: Served) -> None:
    opened(page)
    page.get_by_role("heading", name="Talk to talk").wait_for()
    say(page, "weather in Bern")
    answered(page, "Let me look.")
    answered(page, "Sunny in Bern.")
    card = page.locator("bb-call")
    card.get_by_text("weather", exact=True).click()
    assert '"city": "Bern"' in card.get_by_label("Input", exact=True).inner_text()
    assert card.get_by_label("Output", exact=True).inner_text() == "Sunny in Bern"
    found = engine.events(session(page))
    panel = page.get_by_role("complementary", name="Events")
    panel.get_by_text(f"last {found[-1]['id']}, no gaps").wait_for()
    panel.locator("li", has_text="tool_result").locator("summary").click()
    panel.get_by_text('"output": "Sunny in Bern"').wait_for()


def test_a_reload_in_the_middle_of_a_stream_goes_on_where_it_is(page: Any) -> None:
    opened(page)
    say(page, steps([{"think": "I count."}, *SLOW]))
    page.locator(".it", has_text="w9").wait_for()
    page.reload()
    page.locator(".it", has_text="w9").wait_for()
    page.get_by_text("answering").wait_for()
    answered(page, LAST)
    assert page.locator(".it").count() == 1
    assert page.locator(".me").count() == 1
    page.get_by_text("Thought").click()
    page.locator(".think").get_by_text("I count.").wait_for()


def test_a_kill_in_the_middle_of_a_stream_costs_nothing(open_page: Callable[..., Any], engine: Served) -> None:
    with open_page(allowed=("net::ERR", "500")) as page:
        opened(page)
        say(page, steps(SLOW))
        page.locator(".it", has_text="w9").wait_for()
        engine.kill()
        page.get_by_text("connecting again").wait_for()
        assert page.locator(".it", has_text="w9").count() == 1
        engine.start()
        answered(page, LAST)
        assert page.locator(".it").count() == 1
        assert [role for role, _, _ in engine.messages(session(page))] == ["user", "assistant"]


def test_a_call_is_approved_in_place(page: Any, engine: Served) -> None:
    opened(page)
    say(page, steps([["pay", {"amount": 64}]], [None]))
    card = asks(page)
    page.get_by_text("needs an answer").first.wait_for()
    card.get_by_role("button", name="Approve").click()
    answered(page, "paid 64")
    page.get_by_text("approved by you").wait_for()


def test_arguments_are_edited_before_the_call(page: Any) -> None:
    opened(page)
    say(page, steps([["pay", {"amount": 64}]], [None]))
    card = asks(page)
    card.get_by_role("button", name="Edit arguments").click()
    card.get_by_label("amount").fill("89")
    card.get_by_role("button", name="Approve with changes").click()
    answered(page, "paid 89")


def test_an_answer_that_somebody_else_gives_is_seen(page: Any, engine: Served) -> None:
    opened(page)
    say(page, steps([["pay", {"amount": 1}]], [None]))
    asks(page)
    engine.approve(session(page))
    answered(page, "paid 1")
    page.get_by_role("button", name="Approve").wait_for(state="detached")


def test_a_question_is_there_after_a_reload(page: Any) -> None:
    opened(page)
    say(page, steps([["pay", {"amount": 2}]], [None]))
    asks(page)
    page.reload()
    asks(page).get_by_role("button", name="Approve").click()
    answered(page, "paid 2")


def test_a_message_steers_the_turn_that_runs_and_another_waits(page: Any, engine: Served) -> None:
    opened(page)
    say(page, steps([*SLOW, ["weather", {"city": "Bern"}]], ["and on"]))
    page.locator(".it", has_text="w3").wait_for()
    page.get_by_label("Message", exact=True).fill(steps(["later"]))
    page.get_by_role("button", name="Queue").click()
    page.get_by_label("Messages that wait").get_by_text("later").first.wait_for()
    say(page, steps([], ["steered answer"]))
    page.get_by_text("the agent reads it at its next step").wait_for()
    page.get_by_text("sent into the running turn").wait_for()
    answered(page, "later")
    assert page.get_by_label("Messages that wait").count() == 0
    assert [row[0] for row in engine.messages(session(page))].count("user") == 3


def test_a_message_that_waits_is_there_after_a_reload_and_is_taken_back(page: Any, engine: Served) -> None:
    opened(page)
    say(page, steps([["pay", {"amount": 3}]], [None]))
    asks(page)
    page.get_by_label("Message", exact=True).fill("not this")
    page.get_by_role("button", name="Queue").click()
    waits = page.get_by_label("Messages that wait")
    waits.get_by_text("queued").wait_for()
    page.reload()
    waits.get_by_role("button", name="Remove").click()
    waits.wait_for(state="detached")
    asks(page).get_by_role("button", name="Approve").click()
    answered(page, "paid 3")
    assert len(engine.messages(session(page))) == 4


def test_a_turn_is_stopped(page: Any) -> None:
    opened(page)
    say(page, steps(SLOW))
    page.locator(".it", has_text="w3").wait_for()
    page.keyboard.press("Control+.")
    page.get_by_text("stopped before its end").wait_for()
    assert page.get_by_role("button", name="Send").is_visible()


def test_a_fork_and_an_edited_message_leave_the_session_as_it_is(page: Any, engine: Served) -> None:
    opened(page)
    say(page, steps(["first answer"]))
    answered(page, "first answer")
    say(page, steps(["second answer"]))
    answered(page, "second answer")
    origin = session(page)
    page.get_by_role("button", name="Fork from here").first.click()
    page.get_by_text("Forked from turn 1 of").wait_for()
    assert page.locator(".it").all_inner_texts() == ["first answer"]
    page.get_by_text(origin[:8], exact=True).first.click()
    page.locator(".it", has_text="second answer").wait_for()
    page.get_by_label("Message", exact=True).press("ArrowUp")
    page.get_by_text("sent in a fork").wait_for()
    say(page, steps(["another answer"]))
    answered(page, "another answer")
    assert session(page) != origin
    assert page.locator(".it").all_inner_texts() == ["first answer", "another answer"]
    assert len(engine.messages(origin)) == 4


def test_a_form_is_answered_by_the_next_message(page: Any, engine: Served) -> None:
    engine.admin.patch("agents/talk", json={"tools": ["weather", "pay", "show_structured_output"]}).raise_for_status()
    options = [{"label": "One stove"}, {"label": "Both"}]
    question = {"id": "item", "label": "Which item?", "type": "select", "options": options}
    form = {"output_type": "form", "title": "What broke?", "questions": [question, {"id": "why", "label": "And why?"}]}
    opened(page)
    say(page, steps([["show_structured_output", form]]))
    shown = page.get_by_role("form", name="What broke?")
    shown.get_by_label("One stove").check()
    shown.get_by_label("And why?").fill("the valve")
    shown.get_by_role("button", name="Send").click()
    page.get_by_text("form, answered").wait_for()
    answered(page, "word 40")
    messages = engine.messages(session(page))
    assert "And why? (why): the valve" in messages[-2][1]
    page.reload()
    page.get_by_text("form, answered").wait_for()


def test_what_a_spawned_agent_does_is_within_its_call(page: Any, engine: Served) -> None:
    engine.create("agents", name="helper", model="talk", tools=["pay"])
    engine.admin.patch("agents/talk", json={"can_spawn": ["helper"]}).raise_for_status()
    engine.admin.post("schemas/talk/agent-relations", json={"source": "talk", "target": "helper"}).raise_for_status()
    opened(page)
    task = steps([["pay", {"amount": 7}]], ["It is ", None])
    say(page, steps([["spawn_helper", {"message": task}]], ["All done."]))
    asks(page).get_by_role("button", name="Approve").click()
    answered(page, "All done.")
    inner = page.locator("bb-call bb-call")
    inner.get_by_text("pay", exact=True).first.wait_for()
    page.locator("bb-call").get_by_text("It is paid 7").first.wait_for()


def test_what_is_hostile_is_text_in_every_part(page: Any, engine: Served) -> None:
    engine.admin.patch("agents/talk", json={"tools": ["weather", "pay", "show_structured_output"]}).raise_for_status()
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    table = {
        "output_type": "table",
        "title": HOSTILE,
        "description": HOSTILE,
        "rows": [{"label": HOSTILE, "value": HOSTILE}],
        "actions": [{"label": HOSTILE}],
    }
    opened(page)
    say(
        page,
        steps(
            [{"think": HOSTILE}, HOSTILE, ["weather", {"city": HOSTILE}]],
            [["show_structured_output", table]],
            [
                f"# {HOSTILE}\n\n- {HOSTILE}\n\n```\n{HOSTILE}\n```\n\n| a |\n|---|\n| {HOSTILE} |\n\n",
                "<svg onload=alert(1)>",
            ],
        ),
    )
    page.get_by_text("your turn").wait_for()
    for summary in page.locator(".flow summary").all():
        summary.click()
    page.get_by_label("Output", exact=True).get_by_text("Sunny in").wait_for()
    flow = page.locator(".flow")
    assert flow.locator("script, img, iframe, [onerror], [onload], a[href^='javascript']").count() == 0
    assert flow.get_by_text("<script>alert(1)</script>").count() >= 9
    assert flow.locator(".odd", has_text="RLO").count() >= 9
    assert flow.locator(".odd", has_text="ZWSP").count() >= 9
    assert "\u202e" not in flow.inner_text()


def test_markdown_keeps_what_the_list_allows(page: Any) -> None:
    opened(page)
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    text = f"**bold** [a](https://example.org/x) ![pic](https://example.org/p.png) {family} <b>no</b>"
    say(page, steps([text]))
    answered(page, "bold")
    block = page.locator(".it").last
    assert block.locator("strong").inner_text() == "bold"
    links = [(one.get_attribute("href"), one.get_attribute("rel")) for one in block.locator("a").all()]
    assert links == [("https://example.org/x", "noreferrer"), ("https://example.org/p.png", "noreferrer")]
    assert block.locator(".odd, b, img").count() == 0


def test_a_megabyte_is_shown_in_parts_and_a_file_goes_along(page: Any, engine: Served) -> None:
    opened(page)
    file = {"name": "photo.png", "mimeType": "image/png", "buffer": b"not quite a picture"}
    page.locator("input[type=file]").set_input_files([file])
    page.get_by_text("photo.png").wait_for()
    long = "x" * 400_000
    say(page, steps([["weather", {"city": long}]], ["seen"]))
    answered(page, "seen")
    page.locator(".me .files", has_text="photo.png").wait_for()
    more = page.locator(".me").get_by_role("button", name="Show all")
    assert len(page.locator(".me").inner_text()) < 10_000
    more.click()
    more.wait_for(state="detached")
    assert len(page.locator(".me").inner_text()) > 400_000
    page.locator("bb-call summary").click()
    page.locator("bb-call").get_by_role("button", name="Show all").nth(1).wait_for()
    [first, *_] = engine.admin.get(f"sessions/{session(page)}/messages").json()
    assert first["attachments"] == [{"media_type": "image/png", "name": "photo.png", "url": ""}]


def test_a_refused_message_stays_in_its_field(open_page: Callable[..., Any], engine: Served) -> None:
    with open_page(allowed=("403",)) as page:
        opened(page)
        engine.admin.patch("schemas/talk", json={"chat_enabled": False}).raise_for_status()
        say(page, "hello there")
        page.get_by_role("alert").get_by_text("Chat is off").wait_for()
        engine.admin.patch("schemas/talk", json={"chat_enabled": True}).raise_for_status()
        assert page.get_by_label("Message", exact=True).input_value() == "hello there"
        page.get_by_role("button", name="Send").click()
        answered(page, "word 40")


def test_on_a_phone_the_events_are_a_sheet_and_nothing_is_wider_than_the_screen(open_page: Callable[..., Any]) -> None:
    with open_page(viewport=NARROW) as page:
        opened(page)
        say(page, steps([json.dumps({"long": "y" * 300}), ["weather", {"city": "z" * 300}]], ["fin"]))
        answered(page, "fin")
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        assert page.evaluate("document.querySelector('.flow').scrollWidth") <= NARROW["width"]
        page.get_by_role("button", name="Events").click()
        sheet = page.get_by_role("dialog", name="Events")
        sheet.get_by_text("tool_result").wait_for()
        page.keyboard.press("Escape")
        assert sheet.count() == 0
