"""Tasks in the page: one from its start to its end, and what makes tasks by the clock and by signed requests."""

import hashlib
import hmac
import re
import time
from typing import Any

import httpx
import pytest

from tests.peers.page.conftest import NARROW
from tests.peers.served import Served, steps

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
SECRET = "a-secret-of-some-length"


def test_a_task_from_its_start_to_its_end(open_page: Any) -> None:
    """It is made, approved as a draft, asks about a call, and ends with a result."""
    with open_page(allowed=("status of 400",)) as page:
        page.goto("/tasks")
        page.get_by_role("button", name="New task").first.click()
        page.get_by_role("button", name="Make task").click()
        page.get_by_role("dialog").locator("[aria-invalid=true]").first.wait_for()
        page.get_by_label("What is to be done").fill(f"Pay the courier {steps([['pay', {'amount': 48}]], [None])}")
        page.get_by_label("Agent", exact=True).select_option("talk")
        page.get_by_label("A person approves it first").check()
        page.get_by_role("button", name="Make task").click()
        page.get_by_role("heading", name="Pay the courier").wait_for()
        page.get_by_role("link", name="Tasks", exact=True).last.click()
        card = page.locator(".card").filter(has_text="Pay the courier")
        card.get_by_role("button", name=re.compile("^Approve Pay")).click()
        page.get_by_role("region", name="Needs an answer").locator(".card").filter(
            has_text="Pay the courier"
        ).wait_for()
        card.get_by_role("link", name=re.compile("^Answer Pay")).click()
        approval = page.locator("bb-approval")
        approval.get_by_text("48", exact=True).wait_for()
        approve = approval.get_by_role("button", name=re.compile("^Approve"))
        approve.click()
        page.locator("bb-markdown").get_by_text("paid 48").wait_for()
        facts = page.locator(".taskfacts")
        assert "completed" in facts.inner_text()
        assert page.get_by_role("button", name="Cancel task").count() == 0


def test_the_board_follows_what_happens_elsewhere(page: Any, engine: Served) -> None:
    page.goto("/tasks?agent=talk")
    page.get_by_role("heading", name="Tasks").wait_for()
    made = engine.admin.post("tasks", json={"agent": "talk", "title": "Seen at once", "mode": "interactive"}).json()
    pending = page.get_by_role("region", name="Pending")
    pending.locator(".card").filter(has_text="Seen at once").wait_for()
    engine.admin.post(f"tasks/{made['id']}/start")
    engine.admin.post(f"tasks/{made['id']}/fail", json={"reason": "The \u202ecourier is shut"})
    failed = page.get_by_role("region", name="Failed or cancelled").locator(".card").filter(has_text="Seen at once")
    failed.get_by_text("RLO").wait_for()
    page.get_by_role("button", name="Table").click()
    page.wait_for_url("**/tasks?agent=talk&view=table")
    page.get_by_label("Any status").select_option("failed")
    page.get_by_role("row").filter(has_text="Seen at once").wait_for()


def test_a_schedule_is_previewed_made_and_run_now(open_page: Any) -> None:
    with open_page(allowed=("status of 400",)) as page:
        page.goto("/tasks/schedules")
        page.get_by_role("button", name="New schedule").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Name").fill("nightly")
        dialog.get_by_label("When").fill("never")
        dialog.get_by_text("'never' is not a schedule").wait_for()
        dialog.get_by_label("When").fill("0 2 * * *")
        dialog.get_by_label("Time zone").fill("Asia/Kathmandu")
        dialog.get_by_text("02:00 in Asia/Kathmandu").first.wait_for()
        assert dialog.locator("bb-moments li").count() == 3
        dialog.get_by_label("Agent", exact=True).select_option("talk")
        dialog.get_by_role("button", name="Make schedule").click()
        page.get_by_role("button", name="Pause nightly").click()
        page.get_by_text("paused").wait_for()
        page.get_by_role("button", name="Run now: nightly").click()
        page.wait_for_url("**/tasks/task_*")
        page.get_by_role("heading", name="nightly").wait_for()


def test_a_webhook_shows_its_secret_once_and_what_its_requests_were_answered(page: Any, engine: Served) -> None:
    page.goto("/tasks/webhooks")
    page.get_by_role("button", name="New webhook").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("orders")
    dialog.get_by_label("Agent", exact=True).select_option("talk")
    dialog.get_by_role("button", name="Make webhook").click()
    page.get_by_role("heading", name="Secret of orders").wait_for()
    secret = page.locator("dialog pre").inner_text()
    page.get_by_role("button", name="I have stored it").click()
    page.get_by_text("No request has come yet").wait_for()
    for key in (secret, SECRET):
        stamp = str(int(time.time()))
        digest = hmac.new(key.encode(), f"{stamp}.{{}}".encode(), hashlib.sha256).hexdigest()
        headers = {"X-Webhook-Timestamp": stamp, "X-Webhook-Signature": f"sha256={digest}"}
        httpx.post(f"{engine.url}/api/v1/webhooks/orders", content=b"{}", headers=headers)
    page.get_by_role("row").filter(has_text="202 taken").wait_for()
    page.get_by_role("row").filter(has_text="401 refused").wait_for()
    assert secret not in page.content()


def test_no_page_of_tasks_scrolls_sideways_on_a_phone(open_page: Any, engine: Served) -> None:
    long = "An-unbroken-word-" * 12
    made = engine.admin.post("tasks", json={"agent": "talk", "title": long, "description": long}).json()
    with open_page(viewport=NARROW) as tab:
        for path in ("", "?view=table", f"/{made['id']}", "/schedules", "/webhooks", "/callbacks"):
            tab.goto(f"/tasks{path}")
            tab.locator("h1").wait_for()
            tab.wait_for_function("!document.querySelector('.bone')")
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
