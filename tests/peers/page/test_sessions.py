"""Sessions in a browser: the list with its filters, and a session as a timeline; large ones and live ones."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.peers.page.conftest import NARROW, opened
from tests.peers.page.many_sessions import LONG, STEPS, fill
from tests.peers.served import SCHEMA, Served, served, slow, steps

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

MANY = 10_000
expect: Any = pytest.importorskip("playwright.sync_api", reason="not set up: run tests/peers/setup.sh").expect
LONGEST_TASK = 100
"""Milliseconds for which a page may keep the reader waiting."""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An engine with 10,000 sessions, and one of 5,000 events."""
    folder = tmp_path_factory.mktemp("full")
    with served(folder) as running:
        running.kill()
        fill(folder / "data", MANY)
        running.start()
        yield running


def say(engine: Served, message: str, **body: Any) -> dict[str, Any]:
    """The answer to a message, or what there is of it."""
    whole = {"message": message, "stream": False, **body}
    answer = engine.admin.post(f"schemas/{SCHEMA}/chat", json=whole, timeout=60)
    return dict(answer.json())


def later(engine: Served, message: str, **body: Any) -> threading.Thread:
    """A message whose answer nobody waits for."""
    thread = threading.Thread(target=say, args=(engine, message), kwargs=body, daemon=True)
    thread.start()
    return thread


def rows(tab: Any) -> Any:
    return tab.locator("tr[data-row]")


def longest(tab: Any, what: Callable[[], None]) -> float:
    """The longest task of the page's main thread while it does something: its own time, whatever else is running."""
    browser = tab.context.browser
    browser.start_tracing(
        page=tab, categories=["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"]
    )
    what()
    events = json.loads(browser.stop_tracing())["traceEvents"]
    mains = {
        (one["pid"], one["tid"])
        for one in events
        if one["name"] == "thread_name" and one["args"]["name"] == "CrRendererMain"
    }
    tasks = [
        one["tdur"] / 1000
        for one in events
        if one["name"].endswith("RunTask") and "tdur" in one and (one["pid"], one["tid"]) in mains
    ]
    assert tasks
    return float(max(tasks))


def test_the_list_shows_what_came_of_each_session_and_its_filters_are_the_address(page: Any, engine: Served) -> None:
    first = say(engine, "weather in Oslo", user_sub="cust_1")
    say(engine, steps(["Paying.", ["pay", {"amount": 3}]]), user_sub="cust_2")
    page.goto("/sessions")
    row = rows(page).filter(has_text="weather in Oslo")
    row.get_by_text("completed").wait_for()
    rows(page).filter(has_text="cust_2").get_by_text("needs an answer").wait_for()
    page.get_by_role("combobox", name="State").select_option("needs_input")
    rows(page).filter(has_text="weather in Oslo").wait_for(state="detached")
    assert "status=needs_input" in page.url
    page.reload()
    rows(page).nth(1).wait_for(state="detached")
    rows(page).filter(has_text="cust_2").wait_for()
    page.get_by_role("combobox", name="State").select_option("")
    page.get_by_role("searchbox", name="Search sessions").fill("nothing like this")
    page.get_by_role("heading", name="No session is like that").wait_for()
    page.get_by_role("button", name="Clear filters").click()
    row.wait_for()
    page.goto("/sessions?tool=weather")
    page.get_by_role("button", name="Remove the filter tool").click()
    rows(page).filter(has_text="cust_2").wait_for()
    row.get_by_role("link", name="weather in Oslo").click()
    page.get_by_role("heading", name="weather in Oslo").wait_for()
    assert page.url.endswith(f"/sessions/{first['session_id']}")


def test_new_sessions_wait_until_the_reader_wants_them(page: Any, engine: Served) -> None:
    say(engine, "weather in Rome")
    page.goto("/sessions")
    rows(page).first.wait_for()
    say(engine, "weather in a new place")
    button = page.get_by_role("button", name=re.compile("^1 new"))
    button.wait_for()
    assert rows(page).filter(has_text="weather in a new place").count() == 0
    button.click()
    rows(page).first.filter(has_text="weather in a new place").wait_for()


def test_a_timeline_says_where_the_time_went_and_is_read_by_keys(page: Any, engine: Served) -> None:
    message = steps([{"think": "First. "}, 0.1, ["weather", {"city": "Oslo"}]], slow("It is ", "sunny.", seconds=0.1))
    answer = say(engine, message)
    page.goto(f"/sessions/{answer['session_id']}")
    tree = page.get_by_role("tree", name="Timeline of the turn")
    tree.get_by_role("treeitem").first.wait_for()
    names = [re.split(r"[ ,]", name)[0] for name in tree.get_by_role("treeitem").evaluate_all(_LABELS)]
    assert names == ["Turn", "Step", "weather", "Step"]
    assert page.get_by_role("img", name=re.compile("Models .*Engine")).is_visible()
    tree.get_by_role("treeitem", name=re.compile("^Turn 1")).click()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    details = page.get_by_role("complementary", name="Details")
    details.get_by_role("heading", name="weather").wait_for()
    details.get_by_text("Sunny in Oslo").wait_for()
    assert "span=" in page.url
    page.reload()
    details.get_by_role("heading", name="weather").wait_for()
    tree.get_by_role("treeitem", name=re.compile("^weather")).press("Home")
    page.keyboard.press("ArrowLeft")
    tree.get_by_role("treeitem").nth(1).wait_for(state="detached")
    page.get_by_role("link", name="Events", exact=True).click()
    page.get_by_role("button", name=re.compile("tool_result")).click()
    page.get_by_role("complementary", name="The event").get_by_text("Sunny in Oslo").wait_for()
    page.get_by_role("link", name="Messages", exact=True).click()
    page.get_by_label("Messages", exact=True).get_by_text("It is sunny.").wait_for()


_LABELS = "(all) => all.map((one) => one.querySelector('.name b').textContent)"


def test_a_wait_for_a_person_may_be_cut_out(page: Any, engine: Served) -> None:
    asked = say(engine, steps(["Paying.", ["pay", {"amount": 3}]], ["Paid."]))
    page.goto(f"/sessions/{asked['session_id']}")
    waiting = page.get_by_role("treeitem", name=re.compile(r"^Waits for an answer\s+pay\s*, needs input"))
    waiting.wait_for()
    page.wait_for_timeout(300)  # so that there is a wait to be seen
    answer = {"confirmation_id": asked["questions"][0]["id"], "answers": ["approve"], "input": {"amount": 2}}
    engine.admin.post(f"sessions/{asked['session_id']}/respond", json=answer).raise_for_status()
    waited = page.get_by_role("treeitem", name=re.compile("^Waited for an answer pay"))
    waited.click()
    page.get_by_role("complementary", name="Details").get_by_text("3 → 2").wait_for()
    page.get_by_role("button", name="Without waits for people").click()
    waited.wait_for(state="detached")
    assert "waits=cut" in page.url


def test_a_turn_that_runs_is_seen_to_go_on(page: Any, engine: Served) -> None:
    first = say(engine, "weather in Oslo")
    page.goto(f"/sessions/{first['session_id']}")
    page.get_by_role("treeitem").first.wait_for()
    message = steps([*slow(*("so ",) * 40), ["weather", {"city": "Rome"}]], slow("so", "on"))
    thread = later(engine, message, session_id=first["session_id"])
    page.get_by_role("link", name=re.compile("^Turn 2")).wait_for()
    page.get_by_text("running").first.wait_for()
    page.get_by_role("treeitem", name=re.compile("^Model|^Step 1")).wait_for()
    page.get_by_role("treeitem", name=re.compile("^weather")).wait_for()
    page.get_by_role("treeitem", name=re.compile("^Turn 2 .*completed")).wait_for()
    thread.join()


def test_a_session_of_many_turns_reads_only_those_that_go_on_and_lists_those_nearby(page: Any, engine: Served) -> None:
    first, turns = say(engine, "[[1]]"), 220
    for _ in range(turns - 1):
        say(engine, "[[1]]", session_id=first["session_id"])
    read = list[str]()
    page.goto(f"/sessions/{first['session_id']}")
    choice = page.get_by_role("combobox", name="Turn")
    expect(choice).to_have_value(str(turns))
    assert choice.locator("option").count() == 102
    choice.select_option("1")
    expect(page).to_have_url(re.compile(r"turn=1$"))
    expect(choice.locator("option")).to_have_count(102)
    page.on("request", lambda request: read.append(request.url))
    say(engine, "[[1]]", session_id=first["session_id"])
    expect(choice.locator("option").last).to_have_text(re.compile(f"Turn {turns + 1} of {turns + 1}, "))
    again = [url for url in read if "/turns?" in url]
    assert again
    assert all(int(re.search(r"offset=(\d+)", url)[1]) >= turns for url in again)  # type: ignore[index]


def test_a_failed_turn_says_why_and_opens_in_the_chat(page: Any, engine: Served) -> None:
    engine.admin.patch("agents/talk", json={"max_steps": 1}).raise_for_status()
    try:
        answer = say(engine, steps([["weather", {"city": "Oslo"}]], ["It is sunny."]))
    finally:
        engine.admin.patch("agents/talk", json={"max_steps": 50}).raise_for_status()
    page.goto(f"/sessions/{answer['session_id']}")
    page.get_by_text("raise its max_steps").wait_for()
    page.get_by_text("max_steps_reached").wait_for()
    page.get_by_role("button", name="Try again in a fork").click()
    page.wait_for_url(re.compile(r"/chat/(?!" + answer["session_id"] + ")"))
    page.go_back()
    page.locator(".failure").get_by_role("link", name="Open in chat").click()
    page.wait_for_url(f"**/chat/{answer['session_id']}")


def test_ten_thousand_sessions_keep_nobody_waiting(chromium: Any, full: Served) -> None:
    with opened(chromium, full.url) as tab:
        tab.goto("/sessions")
        rows(tab).first.wait_for()
        tab.get_by_text(re.compile(r"of 10,001$")).wait_for()

        def read_on() -> None:
            for _ in range(15):
                tab.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
                tab.wait_for_timeout(60)

        assert longest(tab, read_on) <= LONGEST_TASK
        while int(str(tab.evaluate(_LOADED)).replace(",", "")) < 2500:
            tab.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
            tab.wait_for_timeout(20)
        assert rows(tab).count() < 120
        assert (
            longest(tab, lambda: tab.evaluate("scrollTo(0, document.documentElement.scrollHeight / 2)")) <= LONGEST_TASK
        )


_LOADED = "document.querySelector('.after-list').textContent.trim().split(' ')[0]"


def test_a_session_of_five_thousand_events_keeps_nobody_waiting(chromium: Any, full: Served) -> None:
    with opened(chromium, full.url) as tab:
        tab.goto(f"/sessions/{LONG}")
        tree = tab.get_by_role("treeitem")
        tree.first.wait_for()
        assert tree.count() < 120
        tree.first.click()
        assert longest(tab, lambda: tab.keyboard.press("End")) <= LONGEST_TASK
        tab.get_by_role("treeitem", name=re.compile(f"^weather.*(?!{STEPS})")).last.wait_for()
        tab.get_by_role("link", name="Events", exact=True).click()
        tab.get_by_role("button", name=re.compile("message_delta")).first.wait_for()

        def read_on() -> None:
            for _ in range(20):
                tab.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
                tab.wait_for_timeout(50)

        assert longest(tab, read_on) <= LONGEST_TASK
        last, deadline = tab.get_by_role("button", name=re.compile("^5000")), time.monotonic() + 30
        while not last.count() and time.monotonic() < deadline:
            read_on()
        last.wait_for()
        assert tab.locator(".evrow").count() < 120


def test_watching_a_session_takes_no_more_memory_with_time(chromium: Any, engine: Served) -> None:
    first = say(engine, "weather in Oslo")
    with opened(chromium, engine.url) as tab:
        tab.goto(f"/sessions/{first['session_id']}?view=events")
        tab.get_by_role("button", name=re.compile("done")).wait_for()
        words = slow(*("some words more ",) * 2000, seconds=0.002)
        thread = later(engine, json.dumps([words]), session_id=first["session_id"])
        tab.get_by_role("link", name=re.compile("^Turn 2")).click()
        tab.get_by_text(re.compile(r"[3-9]\d\d × message_delta")).wait_for()
        before = memory(tab)
        tab.get_by_text(re.compile(r"(1,[5-9]\d\d|2,000) × message_delta")).wait_for(timeout=60_000)
        after = memory(tab)
        thread.join()
    assert after["JSHeapUsedSize"] < before["JSHeapUsedSize"] + 1_500_000, (before, after)
    assert after["Nodes"] < before["Nodes"] + 300, (before, after)


def memory(tab: Any) -> dict[str, float]:
    """What the page holds, once what it no longer needs is gone."""
    session = tab.context.new_cdp_session(tab)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}


def test_a_phone_shows_a_row_in_two_lines_and_the_details_in_a_sheet(
    open_page: Callable[..., Any], engine: Served
) -> None:
    answer = say(engine, "weather in Oslo")
    with open_page(viewport=NARROW, has_touch=True) as tab:
        tab.goto("/sessions")
        rows(tab).first.wait_for()
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        tab.goto(f"/sessions/{answer['session_id']}")
        tab.get_by_role("treeitem", name=re.compile("^weather")).tap()
        sheet = tab.get_by_role("dialog", name="weather")
        sheet.get_by_text("Sunny in Oslo").wait_for()
        sheet.get_by_role("button", name="Close").click()
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
