"""The audit in the page: entries with their details behind links, a check of the chain, and a file of all."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.peers.served import Served

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]


def test_a_change_is_found_opened_by_its_address_and_in_the_unbroken_chain(page: Any, engine: Served) -> None:
    engine.admin.patch("agents/talk", json={"description": "Answers \u202email"}).raise_for_status()
    page.goto("/audit?action=agent.update")
    page.get_by_role("link", name="agent.update").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("RLO").first.wait_for()
    assert "entry=" in page.url
    page.reload()
    dialog.get_by_role("button", name="Close").click()
    page.wait_for_url("**/audit?action=agent.update")
    page.get_by_role("button", name="Check the chain").click()
    page.get_by_text("entries, unbroken").wait_for()
    page.get_by_label("Action, such as agent.update").fill("nothing.like.this")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Clear filters").click()
    page.get_by_role("link", name="agent.update").first.wait_for()


def test_calls_of_tools_are_listed_and_downloaded(page: Any, engine: Served, tmp_path: Path) -> None:
    body = {"message": "weather in Oslo", "stream": False}
    engine.admin.post("schemas/talk/chat", json=body).raise_for_status()
    page.goto("/audit")
    page.get_by_role("link", name="Tool calls").click()
    page.get_by_role("link", name="weather").first.click()
    page.get_by_role("dialog").get_by_text("Sunny in Oslo").wait_for()
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download NDJSON").click()
    download.value.save_as(tmp_path / "calls")
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    assert {call["tool_name"] for call in calls} == {"weather"}
