"""Agents in the page: each change is a version, a rollback is one too, and two editors do not overwrite each other."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.peers.page.conftest import NARROW
from tests.peers.served import Served

expect: Any = pytest.importorskip("playwright.sync_api", reason="not set up: run tests/peers/setup.sh").expect
pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
HOSTILE = '<img src=x onerror="document.title=1"> \u202egnp.exe\u200b'


@pytest.fixture
def agent(engine: Served, request: pytest.FixtureRequest) -> str:
    """An agent of the test's own, with one version."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60]
    prompt = "You decide on refunds.\n\nAbove 500.00 EUR, hand over to a person."
    engine.create("agents", name=name, model="talk", system=prompt, tools=["weather"], confirm_before=["weather"])
    return name


def get(engine: Served, name: str) -> Any:
    return engine.admin.get(f"agents/{name}").raise_for_status().json()


def put(engine: Served, name: str, **fields: Any) -> None:
    engine.admin.put(f"agents/{name}", json=fields).raise_for_status()


@pytest.fixture
def page(open_page: Callable[..., Any]) -> Iterator[Any]:
    """A tab in which the engine may refuse what a test writes."""
    with open_page(allowed=("status of 400", "status of 409", "status of 412")) as tab:
        yield tab


def test_an_agent_is_made_in_a_dialog_and_has_an_editor(page: Any, engine: Served) -> None:
    page.goto("/agents")
    page.get_by_role("button", name="New agent").click()
    page.get_by_label("Name", exact=True).fill("No spaces")
    page.get_by_role("button", name="Make agent").click()
    expect(page.get_by_label("Name", exact=True)).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Name", exact=True).fill("made-here")
    page.get_by_label("What it is for").fill("Tells the weather")
    page.get_by_role("button", name="Make agent").click()
    expect(page.get_by_role("heading", name="made-here", level=1)).to_be_visible()
    assert get(engine, "made-here")["description"] == "Tells the weather"
    page.get_by_role("link", name="Agents", exact=True).last.click()
    expect(page.get_by_role("row", name="made-here").get_by_text("Tells the weather")).to_be_visible()


def test_a_prompt_is_saved_as_a_version_compared_and_rolled_back(page: Any, engine: Served, agent: str) -> None:
    first = get(engine, agent)["system"]
    page.goto(f"/agents/{agent}")
    page.get_by_role("textbox", name="Prompt").fill(first.replace("500.00", "200.00") + "\nBe brief.")
    page.get_by_role("link", name="See the diff").click()
    diff = page.get_by_role("group", name="Difference between v1 and Draft")
    expect(diff.locator("del")).to_have_text(["500.00"])
    expect(diff.locator("ins")).to_have_text(["200.00"])
    page.get_by_role("button", name="Save as v2").click()
    expect(page.get_by_text("Saved as v2").first).to_be_visible()
    expect(page.get_by_role("region", name="Unsaved changes")).to_have_count(0)
    assert "200.00" in get(engine, agent)["system"]
    versions = page.get_by_role("complementary", name="Versions")
    versions.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("group", name="Difference between v1 and v2")).to_be_visible()
    page.get_by_role("button", name="Roll back to v1", exact=True).first.click()
    expect(versions.get_by_role("listitem").first).to_contain_text("back to v1")
    assert get(engine, agent)["system"] == first
    page.get_by_role("button", name="Undo").click()
    expect(versions.get_by_role("listitem").first).to_contain_text("back to v2")
    assert "200.00" in get(engine, agent)["system"]


def test_a_change_of_another_is_shown_at_once(page: Any, engine: Served, agent: str) -> None:
    page.goto(f"/agents/{agent}")
    page.get_by_role("textbox", name="Prompt").fill("Mine")
    put(engine, agent, system="Theirs", max_steps=7)
    expect(page.get_by_role("alert")).to_contain_text("v2 was saved while you edited v1")


def test_a_change_of_another_that_was_not_seen_is_not_overwritten(page: Any, engine: Served, agent: str) -> None:
    held: list[Any] = []  # the page hears of the change, and cannot look at it before the person saves
    refused = False

    def hold(route: Any) -> None:
        if route.request.method == "GET" and not refused:
            held.append(route)
        else:
            route.continue_()

    page.goto(f"/agents/{agent}")
    page.get_by_role("textbox", name="Prompt").fill("Mine")
    page.route(f"**/api/v1/agents/{agent}", hold)
    put(engine, agent, system="Theirs", max_steps=7)
    with page.expect_response(lambda answer: answer.request.method == "PUT") as sent:
        page.get_by_role("button", name="Save as v2").click()
    assert sent.value.status == 412
    refused = True
    while held:
        held.pop().continue_()
    note = page.get_by_role("alert")
    expect(note).to_contain_text("v2 was saved while you edited v1")
    expect(note).to_contain_text("You both changed prompt")
    expect(note.locator(".changes")).to_contain_text("Theirs → Mine")
    page.get_by_role("button", name="Put my changes on top of v2").click()
    page.get_by_role("button", name="Save as v3").click()
    expect(page.get_by_text("Saved as v3").first).to_be_visible()
    now = get(engine, agent)
    assert (now["system"], now["max_steps"]) == ("Mine", 7)


def test_what_is_wrong_stands_at_its_field(page: Any, engine: Served, agent: str) -> None:
    page.goto(f"/agents/{agent}")
    temperature = page.get_by_label("Temperature")
    temperature.fill("2.4")
    page.get_by_role("textbox", name="Prompt").fill("Kept")
    page.get_by_role("button", name="Save as v2").click()
    expect(temperature).to_have_attribute("aria-invalid", "true")
    expect(temperature).to_be_focused()
    expect(page.get_by_role("region", name="Unsaved changes")).to_contain_text("1 to put right")
    temperature.fill("0.4")
    page.get_by_role("button", name="Save as v2").click()
    expect(page.get_by_text("Saved as v2").first).to_be_visible()
    now = get(engine, agent)
    assert (now["temperature"], now["system"]) == (0.4, "Kept")


def test_tools_are_chosen_with_their_risk_and_whether_a_person_is_asked(page: Any, engine: Served, agent: str) -> None:
    page.goto(f"/agents/{agent}")
    row = page.get_by_role("row", name="weather")
    expect(row.get_by_role("checkbox", name="Ask first before weather")).to_be_checked()
    row.get_by_role("checkbox", name="Ask first before weather").uncheck()
    page.get_by_role("row", name="current_time").get_by_role("checkbox").first.check()
    page.get_by_role("group", name="Agent").get_by_role("checkbox", name="talk").check()
    page.get_by_role("button", name="Save as v2").click()
    expect(page.get_by_text("Saved as v2").first).to_be_visible()
    now = get(engine, agent)
    assert (now["tools"], now["confirm_before"], now["can_spawn"]) == (["weather", "current_time"], [], ["talk"])


def test_leaving_asks_once_and_a_capability_switches_at_once(page: Any, engine: Served, agent: str) -> None:
    page.goto(f"/agents/{agent}")
    page.get_by_role("checkbox", name="Remembers people over sessions").check()
    expect(page.get_by_label("Memories of a person")).to_have_value("1000")
    assert get(engine, agent)["capabilities"][0]["type"] == "memory"
    page.get_by_role("textbox", name="Prompt").fill("Not saved")
    page.get_by_role("link", name="Models").click()
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value("Not saved")
    page.get_by_role("link", name="Models").click()
    page.get_by_role("button", name="Discard 1 change").click()
    expect(page.get_by_role("heading", name="Models", level=1)).to_be_attached()
    page.go_back()
    expect(page.get_by_role("textbox", name="Prompt")).not_to_have_value("Not saved")


def test_an_agent_in_use_is_not_deleted_and_says_by_whom(page: Any, engine: Served, agent: str) -> None:
    page.goto("/agents/talk")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete agent talk").click()
    expect(page.get_by_role("alert").get_by_role("link", name="schema talk")).to_be_visible()
    page.goto(f"/agents/{agent}")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name=f"Delete agent {agent}").click()
    expect(page.get_by_role("heading", name="Agents", level=1)).to_be_visible()
    assert engine.admin.get(f"agents/{agent}").status_code == 404


def test_what_hides_is_named_and_nothing_of_it_is_markup(page: Any, engine: Served, agent: str) -> None:
    put(engine, agent, system=HOSTILE, description=HOSTILE)
    page.goto(f"/agents/{agent}?diff=v1..v2")
    diff = page.get_by_role("group", name="Difference between v1 and v2")
    expect(diff.locator(".odd")).to_have_text(["RLO", "ZWSP"])
    expect(diff).to_contain_text("<img src=x")
    page.goto("/agents")
    expect(page.get_by_role("row", name=agent).locator(".odd")).to_have_text(["RLO", "ZWSP"])
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("path", ["", "?diff=v1..v2"])
def test_nothing_scrolls_sideways_on_a_phone(
    open_page: Callable[..., Any], engine: Served, agent: str, path: str
) -> None:
    put(engine, agent, system="word " * 300 + "x" * 400, description="y" * 300)
    with open_page(viewport=NARROW) as tab:
        tab.goto(f"/agents/{agent}{path}")
        expect(tab.get_by_role("heading", name="Tools")).to_be_visible()
        assert tab.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        tab.goto("/agents")
        expect(tab.get_by_role("link", name=agent)).to_be_visible()
        assert tab.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_the_shortest_difference_is_found_and_long_equal_parts_fold(page: Any, engine: Served, agent: str) -> None:
    page.goto("/agents")
    wrong = page.evaluate(COMPARED)
    assert wrong == []
    lines = [f"line {n}" for n in range(60)]
    put(engine, agent, system="\n".join(lines))
    put(engine, agent, system="\n".join([*lines[:30], "new", *lines[30:]]))
    page.goto(f"/agents/{agent}?diff=v2..v3")
    diff = page.get_by_role("group", name="Difference between v2 and v3")
    expect(diff.locator("p.new")).to_have_text(["new"])
    folds = diff.get_by_role("button", name="equal lines")
    expect(folds).to_have_count(2)
    folds.first.click()
    expect(diff.get_by_text("line 0", exact=True).first).to_be_visible()


COMPARED = """async () => {
  const { compare } = await import("/page/any/core/compare.js");
  const some = (n) => Array.from({ length: Math.random() * n | 0 }, () => "abc"[Math.random() * 3 | 0]);
  const common = (a, b) => {
    const t = Array.from({ length: a.length + 1 }, () => Array(b.length + 1).fill(0));
    for (let i = a.length - 1; i >= 0; i--)
      for (let j = b.length - 1; j >= 0; j--)
        t[i][j] = a[i] === b[j] ? t[i + 1][j + 1] + 1 : Math.max(t[i + 1][j], t[i][j + 1]);
    return t[0][0];
  };
  const wrong = [];
  for (let n = 0; n < 2000; n++) {
    const [a, b] = [some(12), some(12)];
    const parts = compare(a, b);
    const side = (kind) => parts.filter((one) => one.kind !== kind).map((one) => one.text).join("");
    const same = parts.filter((one) => one.kind === "same").length;
    if (side("new") !== a.join("") || side("gone") !== b.join("") || same !== common(a, b)) wrong.push([a, b]);
  }
  return wrong;
}"""
"""Random texts, against the length of their longest common subsequence."""
