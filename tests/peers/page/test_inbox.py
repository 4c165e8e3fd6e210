"""The inbox: questions answered in place, with their arguments as they are, and what else needs a person."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.peers.page.conftest import NARROW
from tests.peers.served import Served, served, steps

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
HIDDEN = "Ber\u202elin\u200b "
ORDERS = 3


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("engine")) as running:
        running.admin.patch("agents/talk", json={"confirm_before": ["weather", "pay"]}).raise_for_status()
        yield running


@pytest.fixture
def ask(engine: Served) -> Iterator[Callable[..., str]]:
    """Has the agent call a tool that a person is asked about; returns the question's id, and ends what is left."""
    sessions: list[str] = []

    def start(tool: str, **arguments: Any) -> str:
        message = {"message": f"Please. {steps([[tool, arguments]], [None])}", "stream": False}
        answer = engine.admin.post("schemas/talk/chat", json=message, timeout=20).raise_for_status().json()
        sessions.append(answer["session_id"])
        return str(answer["questions"][0]["id"])

    yield start
    for session in sessions:
        engine.admin.delete(f"sessions/{session}")


def question(engine: Served, key: str) -> Any:
    return engine.admin.get(f"approvals/{key}").raise_for_status().json()


def card(page: Any, tool: str) -> Any:
    return page.get_by_role("article", name=tool)


def test_a_question_is_approved_in_place_and_the_next_one_takes_the_focus(
    ask: Callable[..., str], page: Any, engine: Served
) -> None:
    first, second = ask("pay", amount=3), ask("weather", city="Rome")
    page.goto("/")
    page.get_by_role("heading", name="Waiting for an answer · 2").wait_for()
    opened = card(page, "pay")
    assert opened.get_by_role("definition").all_inner_texts() == ["3"]
    opened.get_by_role("button", name="Approve").click()
    page.get_by_text(re.compile("pay approved by you")).wait_for()
    page.get_by_role("heading", name="Waiting for an answer · 1").wait_for()
    page.locator(".open:focus", has_text="weather").wait_for()
    assert question(engine, first)["verdict"] == "approve"
    assert question(engine, second)["status"] == "pending"


def test_arguments_are_edited_in_fields_of_their_types(ask: Callable[..., str], page: Any, engine: Served) -> None:
    key = ask("pay", amount=89)
    page.goto("/")
    opened = card(page, "pay")
    opened.get_by_role("button", name="Edit arguments").click()
    field = opened.get_by_label("amount")
    field.fill("a lot")
    opened.get_by_text("is a whole number").wait_for()
    field.fill("64")
    opened.get_by_text("You have changed 1 of 1 argument.").wait_for()
    opened.get_by_role("button", name="Done editing").click()
    assert opened.get_by_role("definition").inner_text() == "89 → 64"
    opened.get_by_role("button", name="Approve with changes").click()
    page.get_by_text(re.compile("pay approved with changes by you")).wait_for()
    assert question(engine, key)["edited"] == {"amount": 64}


def test_hidden_characters_are_named_and_stay_as_they_are(ask: Callable[..., str], page: Any, engine: Served) -> None:
    key = ask("weather", city=HIDDEN)
    page.goto("/")
    opened = card(page, "weather")
    opened.get_by_text("2 hidden characters in these arguments.").wait_for()
    assert opened.get_by_role("definition").inner_text() == "BerRLOlinZWSP·"
    opened.get_by_role("button", name="Edit arguments").click()
    field = opened.get_by_label("city")
    assert field.input_value() == "Ber[U+202E]lin[U+200B] "
    field.fill("Ber[U+202E]lin")
    opened.get_by_role("button", name="Approve with changes").click()
    page.get_by_text(re.compile("weather approved with changes by you")).wait_for()
    assert question(engine, key)["edited"] == {"city": "Ber[U+202E]lin"}


def test_names_that_a_script_knows_and_characters_beyond_the_tags_hide_nothing(
    ask: Callable[..., str], page: Any, engine: Served
) -> None:
    arguments = {"city": "Rome\U000e0fff", "constructor": "one", "__proto__": {"toString": 2}}
    key = ask("weather", **arguments)
    page.goto("/")
    opened = card(page, "weather")
    opened.get_by_text("1 hidden character in these arguments.").wait_for()
    shown = opened.get_by_role("definition").all_inner_texts()
    assert [shown[0], shown[1]] == ["RomeU+E0FFF", "one"]
    assert '"toString": 2' in shown[2]
    opened.get_by_role("button", name="Edit arguments").click()
    opened.get_by_label("constructor").fill("two")
    opened.get_by_role("button", name="Approve with changes").click()
    page.get_by_text(re.compile("weather approved with changes by you")).wait_for()
    assert question(engine, key)["edited"] == {**arguments, "city": "Rome[U+E0FFF]", "constructor": "two"}


def test_a_rejection_may_have_a_reason(ask: Callable[..., str], page: Any, engine: Served) -> None:
    key = ask("pay", amount=1)
    page.goto("/")
    card(page, "pay").get_by_role("button", name="Reject").click()
    reason = page.get_by_label("Reason")
    reason.fill("It was paid already")
    reason.press("Enter")
    page.get_by_text(re.compile("pay rejected by you")).wait_for()
    assert (question(engine, key)["verdict"], question(engine, key)["reason"]) == ("reject", "It was paid already")


def test_a_letter_moves_the_focus_and_answers_nothing(ask: Callable[..., str], page: Any, engine: Served) -> None:
    key = ask("pay", amount=1)
    page.goto("/")
    card(page, "pay").get_by_role("button", name="Approve").wait_for()
    page.locator(".ask .first:enabled").wait_for()
    card(page, "pay").get_by_role("button", expanded=True).focus()
    page.keyboard.press("a")
    assert page.evaluate("document.activeElement.textContent.trim()").startswith("Approve")
    page.keyboard.press("r")
    assert page.evaluate("document.activeElement.textContent.trim()").startswith("Reject")
    assert question(engine, key)["status"] == "pending"


def test_no_press_is_taken_in_the_moment_in_which_a_card_grows(ask: Callable[..., str], page: Any) -> None:
    ask("pay", amount=1)
    page.goto("/?open=none")
    page.get_by_role("button", expanded=False).filter(has_text="pay").wait_for()
    pressed = "document.querySelector('.ask .open').click()"
    off = "document.querySelector('.ask .acts .btn').disabled"
    assert page.evaluate(f"async () => {{ {pressed}; await null; return {off}; }}")
    page.locator(".ask .first:enabled").wait_for()


def test_the_answer_of_somebody_else_is_shown(ask: Callable[..., str], page: Any, engine: Served) -> None:
    key = ask("pay", amount=1)
    page.goto("/")
    card(page, "pay").get_by_role("button", name="Approve").wait_for()
    page.route("**/api/v1/events*", lambda route: route.abort())
    engine.admin.post(f"approvals/{key}/respond", json={"answers": ["reject"], "reason": "no"}).raise_for_status()
    page.get_by_text(re.compile("pay rejected by token:")).wait_for()


def test_another_question_under_the_same_id_is_read_again(
    open_page: Callable[..., Any], engine: Served, ask: Callable[..., str]
) -> None:
    key = ask("pay", amount=1)

    def changed(route: Any) -> None:
        current = {**question(engine, key), "input": {"amount": 1000}, "args_digest": "f" * 64}
        refusal = {"error": "stale_digest", "message": "It has changed", "current": current}
        route.fulfill(status=409, content_type="application/json", body=json.dumps(refusal))

    with open_page(allowed=("409",)) as page:
        page.route("**/respond", changed)
        page.goto("/")
        card(page, "pay").get_by_role("button", name="Approve").click()
        page.get_by_text("The question has changed since you saw it.").wait_for()
        assert card(page, "pay").get_by_role("definition").inner_text() == "1000"
        page.locator(".ask .open:focus").wait_for()
    assert question(engine, key)["status"] == "pending"


def test_an_answer_that_did_not_arrive_is_sent_again_under_the_same_key(
    open_page: Callable[..., Any], engine: Served, ask: Callable[..., str]
) -> None:
    key, keys = ask("pay", amount=1), list[str]()

    def lost(route: Any) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            route.abort()
        else:
            route.continue_()

    with open_page(allowed=("ERR_FAILED",)) as page:
        page.route("**/respond", lost)
        page.goto("/")
        card(page, "pay").get_by_role("button", name="Approve").click()
        page.get_by_text("The answer did not arrive.").wait_for()
        page.get_by_role("button", name="Send again").click()
        page.get_by_text(re.compile("pay approved by you")).wait_for()
    assert keys[0] == keys[1]
    assert question(engine, key)["verdict"] == "approve"


def test_arguments_are_text_whatever_is_in_them_also_on_a_phone(
    open_page: Callable[..., Any], ask: Callable[..., str]
) -> None:
    ask("weather", city="<img src=x onerror=alert(1)><script>alert(2)</script>\n" + "long line " * 2000)
    with open_page(viewport=NARROW) as page:
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        page.goto("/")
        value = card(page, "weather").get_by_role("group", name=re.compile("city, .* characters, 2 lines"))
        assert value.inner_text().startswith("<img src=x onerror=alert(1)><script>alert(2)</script>")
        assert value.bounding_box()["height"] <= 12 * 20 + 1
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_failed_turns_stand_by_cause_until_somebody_mutes_it(
    ask: Callable[..., str], page: Any, engine: Served
) -> None:
    for n in range(ORDERS):
        message = {"message": steps([["gone", {}], "x" * n]), "stream": False}
        engine.admin.patch("agents/talk", json={"max_steps": 1})
        engine.admin.post("schemas/talk/chat", json=message, timeout=20)
    engine.admin.patch("agents/talk", json={"max_steps": 50})
    page.goto("/")
    section = page.get_by_role("region", name="Failed turns · 1 cause")
    section.get_by_text(f"{ORDERS} turns").wait_for()
    link = section.get_by_role("link").get_attribute("href")
    assert re.fullmatch(r"/sessions\?status=failed&error=\w+&agent=talk", link)
    section.get_by_role("combobox", name=re.compile("^Mute")).select_option("day")
    page.get_by_role("region", name="Failed turns · 0 causes").get_by_text("1 muted").click()
    page.get_by_role("button", name="Unmute").click()
    section.get_by_text(f"{ORDERS} turns").wait_for()


def test_plots_have_their_values_by_arrow_keys_and_as_a_table(ask: Callable[..., str], page: Any) -> None:
    ask("pay", amount=1)
    page.goto("/")
    plot = page.get_by_role("slider", name="Turns")
    plot.focus()
    page.keyboard.press("End")
    assert re.fullmatch(r".*: not failed \d+, failed \d+", plot.get_attribute("aria-valuetext"))
    page.locator("bb-plot", has_text="Turns").get_by_text("As a table").first.click()
    table = page.get_by_role("table", name="Turns")
    table.wait_for()
    assert table.get_by_role("row").count() > 24
