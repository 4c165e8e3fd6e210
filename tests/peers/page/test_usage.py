"""Usage and budgets: sums that add up with their doubt beside them, and caps that are set where they are seen."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.peers.page.conftest import NARROW
from tests.peers.served import Served, served, steps

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
TURNS = 3


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An engine whose model has had a price for all turns but the first."""
    with served(tmp_path_factory.mktemp("engine")) as running:
        for n in range(TURNS):
            chat = {"message": steps(["Hello"]), "stream": False}
            running.admin.post("schemas/talk/chat", json=chat, timeout=20).raise_for_status()
            prices = {"pricing_input": 100_000, "pricing_output": 100_000}
            if not n:
                running.admin.patch("models/talk", json=prices).raise_for_status()
        yield running


def test_the_sums_of_the_page_are_those_of_the_api(page: Any, engine: Served) -> None:
    total = engine.admin.get("usage", params={"group_by": "agent"}).json()["total"]
    page.goto("/usage")
    row = page.get_by_role("table", name="Usage by agent").get_by_role("row").nth(1)
    row.wait_for()
    assert (total["turns"], total["unpriced_calls"]) == (TURNS, 1)
    assert f"${total['cost_usd']:.2f}" in row.inner_text()
    assert "+ 1 call without a price" in row.inner_text()
    assert row.get_by_role("link").get_attribute("href") == "/sessions?agent=talk"
    page.get_by_text("talk has no price").wait_for()
    page.get_by_role("slider", name="Cost by agent").wait_for()


def test_range_and_grouping_are_in_the_address(page: Any) -> None:
    page.goto("/usage?by=model")
    page.get_by_role("table", name="Usage by model").wait_for()
    page.get_by_role("button", name="7 days").click()
    page.wait_for_url(re.compile(r"by=model&from=\d{4}-\d\d-\d\d$"))
    page.get_by_role("button", name="Schema").click()
    page.get_by_role("table", name="Usage by schema").wait_for()
    page.reload()
    page.get_by_role("table", name="Usage by schema").wait_for()
    assert page.get_by_role("button", name="7 days").get_attribute("aria-pressed") == "true"


def test_the_sums_are_downloaded_for_a_spreadsheet(page: Any) -> None:
    page.goto("/usage")
    page.get_by_role("table", name="Usage by agent").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    text = download.value.path().read_text()
    assert text.startswith("agent,day,turns,calls,")
    assert re.search(rf"^talk,\d{{4}}-\d\d-\d\d,{TURNS},{TURNS},", text, re.MULTILINE)


def test_a_budget_is_made_changed_and_deleted(open_page: Callable[..., Any], engine: Served) -> None:
    with open_page(viewport=NARROW, allowed=("400",)) as page:
        page.goto("/usage")
        page.get_by_role("button", name="New budget").click()
        dialog = page.get_by_role("dialog", name="New budget")
        dialog.get_by_label("Name").fill("Not A Name")
        dialog.get_by_label("At most").fill("20")
        dialog.get_by_role("button", name="Make it").click()
        dialog.locator("[aria-invalid=true]").wait_for()
        dialog.get_by_label("Name").fill("website")
        dialog.get_by_role("button", name="Make it").click()
        row = page.get_by_role("listitem").filter(has_text="website: all, a day")
        row.get_by_text("of $20.00").wait_for()
        row.get_by_role("button", name="Change the budget website").click()
        changing = page.get_by_role("dialog", name="Budget website")
        changing.get_by_label("At most").fill("25")
        changing.get_by_role("button", name="Save").click()
        row.get_by_text("of $25.00").wait_for()
        assert engine.admin.get("budgets/website").json()["usd"] == 25
        row.get_by_role("button", name="Change the budget website").click()
        changing.get_by_role("button", name="Delete budget website").click()
        page.get_by_role("dialog", name="Delete budget website").get_by_role("button", name="Delete").click()
        page.get_by_text("No budget caps what model calls may cost.").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
