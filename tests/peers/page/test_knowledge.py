"""Knowledge in the page: a base is made, a file is sent and indexed, and a search says why it finds what it finds."""

from typing import Any

import pytest

from tests.peers.served import Served

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
RETURNS = (
    "# Returns\n\nA stove comes back within 30 days.\n\n# Refunds\n\nRefunds need Dana.\n\n# Rest\n\nNothing else."
)


def test_a_file_is_uploaded_and_found_and_the_search_says_why(page: Any) -> None:
    page.goto("/knowledge")
    page.get_by_role("button", name="New base").click()
    page.get_by_label("Name").fill("handbook")
    page.get_by_role("button", name="Make base").click()
    page.get_by_role("heading", name="handbook").wait_for()
    page.get_by_text("No file is in this base yet").wait_for()
    content = {"name": "returns.md", "mimeType": "text/markdown", "buffer": RETURNS.encode()}
    page.get_by_label("Upload files").set_input_files(content)
    row = page.get_by_role("row").filter(has_text="returns.md")
    row.get_by_text("ready", exact=True).wait_for()
    search = page.get_by_role("searchbox", name="Search this base")
    search.fill("who refunds")
    search.press("Enter")
    page.wait_for_url("**/knowledge/handbook?q=who+refunds*")
    hit = page.locator(".hit").filter(has_text="Refunds need Dana")
    assert "words: rank 1" in hit.inner_text()
    assert [*map(str.lower, hit.locator("mark").all_inner_texts())] == ["refunds", "refunds"]
    hit.get_by_role("button", name="Show what stands around it").click()
    hit.get_by_text("A stove comes back").wait_for()
    hit.get_by_text("Nothing else.").wait_for()
    search.fill("zebra")
    search.press("Enter")
    page.get_by_text('No chunk has a word of "zebra"').wait_for()


def test_what_a_file_hides_is_named_and_what_cannot_be_read_says_so(page: Any, engine: Served) -> None:
    engine.create("knowledge-bases", name="odd")
    files = [
        {
            "name": "evil\u202egnp.md",
            "mimeType": "text/plain",
            "buffer": b"<img src=x onerror=alert(1)> zero\xe2\x80\x8bwidth",
        },
        {"name": "broken.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4 no"},
    ]
    page.goto("/knowledge/odd?q=img")
    page.get_by_label("Upload files").set_input_files(files)
    broken = page.get_by_role("row").filter(has_text="broken.pdf")
    broken.get_by_text("not indexed").wait_for()
    broken.get_by_role("button", name="Index again: broken.pdf").click()
    page.get_by_role("row").filter(has_text="gnp.md").get_by_text("ready", exact=True).wait_for()
    page.reload()
    hit = page.locator(".hit")
    hit.get_by_text("ZWSP").wait_for()
    assert "<img src=x onerror=alert(1)>" in hit.inner_text()
    assert page.locator("main img").count() == 0
    page.get_by_role("row").get_by_text("RLO").wait_for()


def test_an_agent_is_linked_and_a_base_that_is_linked_stays(open_page: Any, engine: Served) -> None:
    with open_page(allowed=("status of 409",)) as page:
        engine.create("knowledge-bases", name="linked")
        page.goto("/knowledge/linked")
        page.get_by_label("Link an agent").select_option("talk")
        page.get_by_role("button", name="Unlink talk").wait_for()
        page.get_by_role("button", name="Delete", exact=True).click()
        page.get_by_role("button", name="Delete base linked").click()
        page.get_by_role("alert").wait_for()
        page.get_by_role("button", name="Unlink talk").click()
        page.get_by_text("No agent searches this base yet.").wait_for()
        page.get_by_role("button", name="Delete", exact=True).click()
        page.get_by_role("button", name="Delete base linked").click()
        page.wait_for_url("**/knowledge")
        assert engine.admin.get("knowledge-bases/linked").status_code == 404
