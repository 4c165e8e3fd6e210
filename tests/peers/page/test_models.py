"""Models in the page: what a verification says, keys that go in and never out, the catalog, and what is refused."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.peers.page.conftest import NARROW
from tests.peers.page.vendor import KEY, vendor
from tests.peers.served import Served

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def address(engine: Served) -> Iterator[str]:
    """A vendor, with a model of it whose key is wrong."""
    with vendor() as url:
        model = {"type": "openai_compatible", "model_name": "gpt", "base_url": f"{url}/v1"}
        engine.create("models", name="wrong", api_key="sk-wrong", **model)
        yield url


def shown(page: Any, name: str) -> Any:
    return page.get_by_role("complementary", name=name)


def test_a_refused_key_is_replaced_and_verified_in_place(page: Any, address: str) -> None:
    page.goto("/models")
    page.get_by_role("link", name="wrong").click()
    aside = shown(page, "Model wrong")
    aside.get_by_role("button", name="Verify").click()
    aside.get_by_role("listitem").get_by_text("The key was not accepted").wait_for()
    assert "Incorrect API key provided" in aside.locator(".note").inner_text()
    key = aside.get_by_role("textbox", name="API key")
    assert (key.get_attribute("type"), key.get_attribute("placeholder")) == ("password", "stored; write to replace")
    key.fill(KEY)
    aside.get_by_role("button", name="Show").click()
    assert key.get_attribute("type") == "text"
    aside.get_by_role("button", name="Save and verify").click()
    aside.get_by_text("It calls tools").wait_for()
    assert key.input_value() == ""
    row = page.get_by_role("row").filter(has_text="wrong")
    row.get_by_text("ok · tools").wait_for()
    assert KEY not in page.content()


@pytest.fixture
def refused(open_page: Callable[..., Any]) -> Iterator[Any]:
    """A tab in which the engine refuses something."""
    with open_page(allowed=("status of 400", "status of 409")) as tab:
        yield tab


def test_a_model_of_the_catalog_is_verified_before_it_is_made(refused: Any, engine: Served, address: str) -> None:
    page = refused
    page.goto("/models?q=haiku")
    page.get_by_role("link", name="Use claude-haiku").click()
    form = shown(page, "Add a model")
    assert form.get_by_role("textbox", name="Name", exact=True).input_value().startswith("claude-haiku")
    form.get_by_label("Vendor").select_option("openai_compatible")
    form.get_by_role("textbox", name="Name", exact=True).fill("Not a name")
    form.get_by_role("textbox", name="API key").fill(KEY)
    form.get_by_role("textbox", name="Address").fill(f"{address}/v1")
    form.get_by_role("button", name="Verify first").click()
    form.get_by_text("It works").wait_for()
    form.get_by_role("button", name="Save").click()
    name = form.get_by_role("textbox", name="Name", exact=True)
    form.locator(".err").get_by_text("$.name").wait_for()
    assert name.get_attribute("aria-invalid") == "true"
    name.fill("made-here")
    form.get_by_role("button", name="Save").click()
    shown(page, "Model made-here").wait_for()
    assert page.url.endswith("/models?name=made-here")
    made = engine.admin.get("models/made-here").json()
    assert (made["has_api_key"], made["base_url"]) == (True, f"{address}/v1")


def test_the_default_is_changed_and_what_is_used_is_not_deleted(refused: Any, engine: Served) -> None:
    page = refused
    page.goto("/models?name=talk")
    aside = shown(page, "Model talk")
    assert aside.get_by_role("link", name="talk").get_attribute("href") == "/agents/talk"
    aside.get_by_role("button", name="Make it the default").click()
    aside.get_by_role("button", name="Make it the default").wait_for(state="detached")
    aside.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete model talk").click()
    aside.get_by_role("alert").get_by_role("link", name="talk").wait_for()
    assert engine.admin.get("models/talk").json()["is_default"]


def test_filters_of_the_catalog_are_in_the_address(page: Any) -> None:
    page.goto("/models?vendor=anthropic&tools=1")
    catalog = page.get_by_role("region", name="Catalog")
    rows = catalog.locator("tbody tr")
    rows.first.wait_for()
    assert {one.split("\n")[0] for one in rows.locator("td:first-child").all_inner_texts()} == {
        "claude-opus-4-6",
        "claude-sonnet-4-6",
        "claude-haiku-4-5",
    }
    catalog.get_by_role("searchbox").fill("nothing like this")
    catalog.get_by_text("No known model is like that").wait_for()
    assert "q=nothing" in page.url
    catalog.get_by_role("button", name="Clear filters").click()
    rows.nth(5).wait_for()


@pytest.mark.parametrize("path", ["/models", "/models?name=talk", "/models?new=1", "/models?name=talk&edit=1"])
def test_it_fits_a_phone(open_page: Callable[..., Any], path: str) -> None:
    with open_page(viewport=NARROW) as tab:
        tab.goto(path)
        tab.locator("table").first.wait_for()
        assert tab.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
