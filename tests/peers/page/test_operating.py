"""API keys, the configuration, settings, plugins and backups, in a browser and against a real engine."""

import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.peers.page.conftest import NARROW
from tests.peers.served import SCHEMA, Served

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
SHOWN = {
    "/keys": "Last used",
    "/keys?new=1": "What is it for?",
    "/config": "bytebrew-config.yaml",
    "/config?tab=import": "The file",
    "/settings": "BYTEBREW_DRAIN_SECONDS",
    "/plugins": "openai_responses",
}
"""What is to be seen on each page, once it is drawn."""


def get(engine: Served, path: str) -> Any:
    """An answer of the engine's own API."""
    return engine.admin.get(path).raise_for_status().json()


def setting(engine: Served, key: str) -> Any:
    return get(engine, f"settings/{key}")["value"]


def new_key(page: Any, name: str, purpose: str) -> None:
    """Opens the dialog, and fills it in."""
    page.goto("/keys")
    page.get_by_role("button", name="New key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_label(purpose, exact=True).check()


def test_a_key_is_shown_once_and_works_at_once(page: Any, engine: Served) -> None:
    new_key(page, "parcels", "Server")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Make the key").click()
    token = dialog.get_by_label("Token", exact=True).inner_text()
    assert re.fullmatch(r"bb_[0-9a-f]{64}", token)
    lines = dialog.get_by_label("curl", exact=True).inner_text()
    assert (lines.count(token), lines.count("$BYTEBREW_TOKEN")) == (1, 1)
    assert re.search(r"/api/v1/schemas/\w+/chat", lines)
    answer = httpx.post(
        f"{engine.url}/api/v1/schemas/{SCHEMA}/chat",
        headers={"Authorization": f"Bearer {token}"},
        json={"message": "Hi", "stream": False},
    )
    assert answer.status_code == 200
    close = dialog.get_by_role("button", name="Close")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert close.is_disabled()
    dialog.get_by_label("I have stored it").check()
    close.click()
    row = page.get_by_role("row").filter(has_text="parcels")
    row.wait_for()
    assert token not in page.content()
    assert "new=" not in page.url
    row.get_by_role("button", name="Revoke parcels").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke parcels").click()
    row.wait_for(state="detached")
    refused = httpx.get(f"{engine.url}/api/v1/auth/whoami", headers={"Authorization": f"Bearer {token}"})
    assert refused.status_code == 401


def test_a_key_for_a_website_is_public_and_of_one_schema(page: Any, engine: Served) -> None:
    page.goto(f"/keys?new=1&purpose=website&schema={SCHEMA}")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("shop window")
    assert dialog.get_by_label("Website chat").is_checked()
    dialog.get_by_text("Choose the scopes one by one").click()
    assert dialog.get_by_role("checkbox", name=re.compile("^chat ")).is_disabled()
    dialog.get_by_role("button", name="Make the key").click()
    assert f'schema="{SCHEMA}"' in dialog.get_by_label("HTML", exact=True).inner_text()
    [made] = [one for one in get(engine, "auth/tokens") if one["name"] == "shop window"]
    assert (made["scopes"], made["schemas"], made["view"], made["expires_at"]) == (["public"], [SCHEMA], "public", None)


def test_what_is_wrong_with_a_key_stands_at_its_field(open_page: Callable[..., Any]) -> None:
    with open_page(allowed=("400",)) as page:
        new_key(page, "", "Custom")
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Make the key").click()
        dialog.get_by_text("$.name").wait_for()
        name = dialog.get_by_label("Name")
        assert name.get_attribute("aria-invalid") == "true"
        assert name.evaluate("field => field === document.activeElement")
        name.fill("nothing")
        for scope in ("chat", "tasks"):
            dialog.get_by_role("checkbox", name=re.compile(f"^{scope} ")).uncheck()
        dialog.get_by_role("button", name="Make the key").click()
        dialog.get_by_text("$.scopes").wait_for()


def test_an_import_shows_its_plan_as_a_diff_before_it_is_applied(page: Any, engine: Served, tmp_path: Path) -> None:
    engine.create("agents", name="old", model=SCHEMA, system="Line one\nLine two\nLine three")
    file = tmp_path / "shop.yaml"
    file.write_text(
        "agents:\n  old:\n    system: |-\n      Line one\n      Line 2\n      Line three\n  fresh: {max_steps: 7}\n"
    )
    page.goto("/config?tab=import")
    page.get_by_label("Choose a file").set_input_files(file)
    page.get_by_role("heading", name="1 would be created, 1 updated.").wait_for()
    plan = page.get_by_role("region", name="Plan")
    assert plan.locator("del").all_inner_texts() == ["two"]
    assert plan.locator("ins").all_inner_texts() == ["2"]
    assert get(engine, "agents/old")["system_prompt"].count("two") == 1
    plan.get_by_role("button", name="Apply").click()
    page.get_by_text("Applied.", exact=True).wait_for()
    assert "Line 2" in get(engine, "agents/old")["system_prompt"]
    assert get(engine, "agents/fresh")["max_steps"] == 7
    page.get_by_role("link", name="fresh").click()
    page.wait_for_url("**/agents/fresh")


def test_a_plan_that_is_out_of_date_is_made_anew(open_page: Callable[..., Any], engine: Served) -> None:
    with open_page(allowed=("412",)) as page:
        page.goto("/config?tab=import")
        page.get_by_label("The file").fill("agents:\n  late: {max_steps: 3}\n")
        page.get_by_role("button", name="See what changes").click()
        page.get_by_role("heading", name="1 would be created.").wait_for()
        engine.create("agents", name="late", model=SCHEMA, max_steps=9)
        page.get_by_role("button", name="Apply").click()
        page.get_by_text("changed by somebody else").wait_for()
        page.get_by_role("heading", name="1 would be updated.").wait_for()
        assert get(engine, "agents/late")["max_steps"] == 9
        page.get_by_role("button", name="Apply").click()
        page.get_by_text("Applied.", exact=True).wait_for()
        assert get(engine, "agents/late")["max_steps"] == 3


def test_a_replacing_import_asks_for_the_number_of_deletions(page: Any, engine: Served) -> None:
    for name in ("gone-1", "gone-2"):
        engine.admin.put(f"settings/custom.{name}", json={"value": 1}).raise_for_status()
    before = [one["key"] for one in get(engine, "settings") if one["key"].startswith("custom.")]
    page.goto("/config?tab=import")
    page.get_by_label("The file").fill("settings: {custom.kept: 1}\n")
    page.get_by_label("Delete what its sections leave out").check()
    page.get_by_role("button", name="See what changes").click()
    apply = page.get_by_role("button", name=f"Apply, and delete {len(before)}")
    apply.wait_for()
    assert apply.is_disabled()
    page.get_by_label(f"Write {len(before)} to delete").fill(str(len(before)))
    apply.click()
    page.get_by_text("Applied.", exact=True).wait_for()
    assert [one["key"] for one in get(engine, "settings") if one["key"].startswith("custom.")] == ["custom.kept"]


def test_each_problem_of_a_file_has_its_line(open_page: Callable[..., Any]) -> None:
    with open_page(allowed=("400",)) as page:
        page.goto("/config?tab=import")
        page.get_by_label("The file").fill("agents:\n  a: {max_stepz: 3}\n  b: {max_steps: 0}\n")
        page.get_by_role("button", name="See what changes").click()
        page.get_by_text("2 problems").wait_for()
        page.get_by_role("button", name=re.compile("^Line 3")).click()
        area = page.get_by_label("The file")
        assert area.evaluate("field => field === document.activeElement")
        assert "max_steps: 0" in area.evaluate(
            "field => field.value.slice(field.selectionStart - 15, field.selectionEnd)"
        )


def test_the_configuration_is_downloaded_as_it_is_exported(page: Any, engine: Served) -> None:
    page.goto("/config")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "bytebrew-config.yaml"
    assert Path(download.value.path()).read_text() == engine.admin.get("config/export").text
    page.get_by_role("button", name="Reload").click()
    page.get_by_role("region", name="Reload").get_by_text(re.compile(r"Reloaded: \d+ agent")).wait_for()


def test_settings_are_saved_reset_and_refused_in_their_row(open_page: Callable[..., Any], engine: Served) -> None:
    with open_page(allowed=("400",)) as page:
        page.goto("/settings?q=retention.events")
        days = page.get_by_label("Pack events after")
        days.fill("40000")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("alert").wait_for()
        assert (days.get_attribute("aria-invalid"), setting(engine, "retention.events")) == ("true", 7)
        days.fill("30")
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Default: 7").wait_for()
        assert setting(engine, "retention.events") == 30
        page.get_by_role("button", name="Reset retention.events").click()
        page.get_by_text("Default: 7").wait_for(state="detached")
        assert (days.input_value(), setting(engine, "retention.events")) == ("7", 7)
        page.get_by_label("Find a setting").fill("byok.demo")
        page.get_by_label("Own keys for demo").check()
        page.get_by_role("button", name="Reset byok.demo").wait_for()
        assert setting(engine, "byok.demo") is True
        page.get_by_label("Find a setting").fill("widget")
        page.get_by_label("Origins whose pages may call").fill("https://shop.example\nhttps://www.shop.example\n")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("button", name="Reset widget.origins").wait_for()
        assert setting(engine, "widget.origins") == ["https://shop.example", "https://www.shop.example"]


def test_a_shorter_retention_says_beforehand_what_it_deletes(page: Any) -> None:
    page.goto("/settings?q=retention.sessions")
    page.get_by_label("Delete sessions after").fill("30")
    page.get_by_text("No session began before").wait_for()


def test_settings_of_the_process_are_shown_without_secrets(page: Any) -> None:
    page.goto("/settings?q=bytebrew_")
    row = page.get_by_role("row").filter(has_text="BYTEBREW_BOOTSTRAP_ADMIN_TOKEN")
    row.get_by_text("set, never shown").wait_for()
    page.get_by_role("row").filter(has_text="BYTEBREW_DRAIN_SECONDS").get_by_text("1s", exact=True).wait_for()


def test_plugins_are_listed_and_a_backup_is_one_press(page: Any, engine: Served) -> None:
    page.goto("/plugins")
    page.get_by_text("None was written here yet").wait_for()
    page.get_by_role("button", name="Back up now").click()
    page.get_by_text("Written:").wait_for()
    [made] = get(engine, "backups")["data"]
    with tarfile.open(Path(get(engine, "backups")["folder"]) / made["name"]) as archive:
        assert "bytebrew.db" in archive.getnames()
    page.get_by_text("The last one is of").wait_for()
    page.get_by_role("button", name=f"Delete {made['name']}").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("None was written here yet").wait_for()
    page.get_by_label("Find a plugin").fill("paced")
    page.get_by_text("paced", exact=True).click()
    page.get_by_text("register_providers").wait_for()


@pytest.mark.parametrize("path", SHOWN)
def test_nothing_scrolls_sideways_on_a_phone(open_page: Callable[..., Any], path: str) -> None:
    with open_page(viewport=NARROW) as page:
        page.goto(path)
        page.get_by_text(SHOWN[path]).first.wait_for(state="attached")
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
