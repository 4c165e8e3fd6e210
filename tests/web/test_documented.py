"""Every setting, every route and every event is documented, on a page of docs/ or in the API document."""

import re
from pathlib import Path

import pytest

from bytebrew.base.settings import rows
from bytebrew.contract.route import Route
from bytebrew.engine import Engine
from bytebrew.testing import engine, served_engine
from bytebrew.web.api_document import openapi
from bytebrew.web.api_document.openapi import EVENTS
from bytebrew.web.routes import every
from tests.docs import ROOT
from tests.tables import installed, label

PAGES = {
    page.relative_to(ROOT).as_posix().removeprefix("docs/"): page.read_text()
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
}
TUTORIAL = "tutorials/plugin.md"  # whose vendor has paths and settings of its own
FILES = re.compile(r"/(data|dev|etc|tmp|var)\b")  # of a machine
PATHS = {
    path
    for page in {*PAGES} - {TUTORIAL}
    for path in re.findall(r"`(?:[A-Z]+ )?(/[a-z][\w/{}.-]*)", PAGES[page])
    if not FILES.match(path)
}
ROUTES = installed()


def test_every_setting_of_the_process_has_a_description(tmp_path: Path) -> None:
    settings = rows(Engine({"BYTEBREW_DATA_DIR": str(tmp_path)}).plugins.tables())
    documented = set(
        re.findall(r"^\| `(BYTEBREW_\w+)` \| .* \| \S.* \|$", PAGES["reference/settings.md"], re.MULTILINE)
    )
    assert {row.variable for row in settings} == documented


async def test_every_setting_of_a_running_engine_says_what_it_is() -> None:
    async with served_engine() as (_, client):
        settings = (await client.get("/api/v1/settings")).json()
    assert settings
    assert not [one["key"] for one in settings if len(one["help"].split()) < 3]


def test_every_setting_of_a_running_engine_is_on_the_settings_page(tmp_path: Path) -> None:
    keys = {option.key for option in Engine({"BYTEBREW_DATA_DIR": str(tmp_path)}).options}
    assert keys == set(re.findall(r"^\| `([a-z]+\.\w+)` \|", PAGES["reference/settings.md"], re.MULTILINE))
    assert set(re.findall(r"`(retention\.\w+)`", PAGES["how-to/operations.md"])) == {
        key for key in keys if key.startswith("retention.")
    }


@pytest.mark.parametrize("page", sorted({*PAGES} - {TUTORIAL}))
def test_every_setting_that_a_page_names_is_one(page: str, tmp_path: Path) -> None:
    engine = Engine({"BYTEBREW_DATA_DIR": str(tmp_path)})
    known = {row.variable for row in rows(engine.plugins.tables())}
    assert set(re.findall(r"`(BYTEBREW_\w+?)`", PAGES[page])) <= known


@pytest.mark.parametrize("route", ROUTES, ids=label)
def test_every_route_says_what_it_does(route: Route) -> None:
    path = re.sub(r"\{(\w+)(:\w+)?\}", r"{\1}", route.path)
    operation = openapi.document([route], "1")["paths"][path][route.method.lower()]
    assert operation["summary"]
    assert operation["description"].endswith(".")
    assert all(one["description"] for one in operation.get("parameters", ()) if one["in"] != "path")


@pytest.mark.parametrize("path", sorted(PATHS))
async def test_every_path_of_a_page_is_there(path: str) -> None:
    async with engine() as running:
        known = {re.sub(r"\{\w+(:\w+)?\}", "{}", route.path) for route in every(running)}
    patterns = [re.escape(one).replace(r"\{\}", "[^/]+") for one in known]
    assert any(re.fullmatch(pattern, full) for pattern in patterns for full in (path, f"/api/v1{path}"))


def test_every_event_is_on_the_page_of_events_and_no_other() -> None:
    table = PAGES["reference/events.md"].partition("| event |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \| \S", table, re.MULTILINE) == [event.name for event in EVENTS]


def test_every_code_of_a_notice_is_on_the_page_of_events() -> None:
    [row] = re.findall(r"^\| `notice` \| .*$", PAGES["reference/events.md"], re.MULTILINE)
    files = [file.read_text() for folder in ("bytebrew", "plugins") for file in (ROOT / folder).rglob("*.py")]
    codes = {code for file in files for code in re.findall(r'Notice\(code="(\w+)"', file)}
    assert len(codes) >= 5
    assert not [code for code in codes if f"`{code}`" not in row]
