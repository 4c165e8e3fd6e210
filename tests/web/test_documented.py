"""Every setting, every route and every event is documented, in the README or in the API document."""

import re
from pathlib import Path

import pytest

from bytebrew.base.settings import rows
from bytebrew.contract.route import Route
from bytebrew.engine import Engine
from bytebrew.testing import engine, served_engine
from bytebrew.web.docs import openapi
from bytebrew.web.docs.openapi import EVENTS
from tests.tables import installed, label, table

README = (Path(__file__).parents[2] / "README.md").read_text()
ROUTES = installed()


def test_every_setting_of_the_process_is_in_the_readme_with_words(tmp_path: Path) -> None:
    settings = rows(Engine({"BYTEBREW_DATA_DIR": str(tmp_path)}).plugins.tables())
    told = set(re.findall(r"^\| `(BYTEBREW_\w+)` \| .* \| \S.* \|$", README, re.MULTILINE))
    assert {row.variable for row in settings} == told


async def test_every_setting_of_a_running_engine_says_what_it_is() -> None:
    async with served_engine() as (_, client):
        settings = (await client.get("/api/v1/settings")).json()
    assert settings
    assert not [one["key"] for one in settings if len(one["help"].split()) < 3]


def test_every_setting_of_a_running_engine_is_in_the_readme(tmp_path: Path) -> None:
    keys = {option.key for option in Engine({"BYTEBREW_DATA_DIR": str(tmp_path)}).options}
    assert {key for key in keys if not key.startswith("byok.")} <= set(re.findall(r"`([a-z]+\.\w+)`", README))
    assert set(re.findall(r"`(retention\.\w+)`", README)) <= keys


@pytest.mark.parametrize("route", ROUTES, ids=label)
def test_every_route_says_what_it_does(route: Route) -> None:
    path = re.sub(r"\{(\w+)(:\w+)?\}", r"{\1}", route.path)
    operation = openapi.document([route], "1")["paths"][path][route.method.lower()]
    assert operation["summary"]
    assert operation["description"].endswith(".")
    assert all(one["description"] for one in operation.get("parameters", ()) if one["in"] != "path")


async def test_every_route_is_on_the_page_for_people() -> None:
    async with served_engine() as (running, client):
        page = (await client.get("/docs")).text
        for route in table(running):
            path = re.sub(r"\{(\w+)(:\w+)?\}", r"{\1}", route.path)
            method = f"<b class={route.method.lower()}>{route.method}</b>"
            assert f"<summary>{method}<code>{path}</code>" in page, label(route)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(?:[A-Z]+ )?(/[a-z][\w/{}.-]*)", README))))
async def test_every_path_of_the_readme_is_there(path: str) -> None:
    async with engine() as running:
        known = {re.sub(r"\{\w+(:\w+)?\}", "{}", route.path) for route in table(running)}
    patterns = [re.escape(one).replace(r"\{\}", "[^/]+") for one in known]
    assert any(re.fullmatch(pattern, full) for pattern in patterns for full in (path, f"/api/v1{path}"))


def test_every_event_is_in_the_readme_and_no_other() -> None:
    table = README.partition("## Events")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \| \S", table, re.MULTILINE) == [event.name for event in EVENTS]
