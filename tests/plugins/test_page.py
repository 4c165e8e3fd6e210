"""The page is served to anybody as it lies in its folder, and lets nothing in from elsewhere."""

import gzip
import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

import pytest
from bytebrew_page import files
from bytebrew_page.serving import FILES, PAGES, POLICY

from bytebrew import Reply, Request, Route, __version__
from bytebrew.testing import client, engine, plugin, served_engine
from bytebrew.web.routes import every

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def test_programs_learn_at_the_root_where_things_are_and_each_is_there() -> None:
    async with served_engine() as (_, http):
        answer = await http.get("/")
        assert answer.headers["vary"] == "accept"
        places = answer.json()
        assert (places.pop("name"), places.pop("version")) == ("ByteBrew", __version__)
        assert set(places) == {"page", "api", "health", "openapi", "docs"}
        for name in ("page", "health", "openapi", "docs"):
            assert (await http.get(places[name])).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/", *(f"/{name}" for name in PAGES), "/sessions/5f3a9c1e?turn=3", "/tools/mcp/shop/find/it", "/?kind=drift"],
)
async def test_a_browser_gets_the_document_of_the_page_at_every_address(path: str) -> None:
    async with served_engine() as (_, http):
        answer = await http.get(path, headers=BROWSER | {"authorization": ""})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-frame-options"] == "DENY"
    assert "unsafe" not in POLICY
    assert "<bb-app>" in answer.text
    assert not re.findall(r"https?://|<style|<script>|\son\w+=|\sstyle=", answer.text)


@pytest.mark.parametrize("name", [*PAGES, ""])
async def test_the_document_names_the_modules_of_its_own_page_so_that_all_load_at_once(name: str) -> None:
    page = "inbox" if name in ("", "admin") else name
    async with served_engine() as (_, http):
        document = (await http.get(f"/{name}", headers=BROWSER)).text
    first = re.findall(r'rel="modulepreload" href="/page/\w+/([^"]+)"', document)
    assert first == list(dict.fromkeys([*files.first_modules(), *files.modules(f"pages/{page}.js")]))
    assert f"pages/{page}.js" in first


async def test_the_files_that_the_document_names_are_kept_for_good() -> None:
    async with served_engine() as (_, http):
        document = (await http.get("/sessions")).text
        named = re.findall(r'(?:href|src)="([^"#]+)"', document)
        assert len(named) > 15
        assert len([path for path in named if path.endswith(".css")]) == 1
        for path in named:
            answer = await http.get(path, headers={"accept-encoding": "gzip"})
            assert answer.status_code == 200, path
            assert answer.headers["content-encoding"] == "gzip"
            assert "immutable" in answer.headers["cache-control"]
        plain = await http.get(named[0], headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.content == gzip.decompress(files.file(named[0].split("/", 3)[3]).compressed)


async def test_a_file_under_another_digest_is_not_kept_and_no_path_leads_out() -> None:
    async with served_engine() as (_, http):
        assert (await http.get(f"{FILES}/0000/app.js")).headers["cache-control"] == "no-cache"
        for path in ("../__init__.py", "%2e%2e/serving.py", "none.js", "vendor/pins.json"):
            assert (await http.get(f"{FILES}/{files.digest()}/{path}")).status_code == 404


async def test_without_the_plugin_there_is_no_page() -> None:
    async with served_engine(settings={"BYTEBREW_DISABLED_PLUGINS": "page"}) as (_, http):
        for path in ("/", "/sessions", f"{FILES}/{files.digest()}/app.js"):
            assert (await http.get(path)).status_code == 404


@pytest.mark.parametrize("name", ["before", "later"])
async def test_a_plugin_may_have_the_root_for_a_page_of_its_own(name: str) -> None:
    async def run(request: Request[None]) -> Reply:
        return Reply(body="mine")

    def register_routes(register: Any) -> None:
        register(Route(method="GET", path="/", scope=None, run=run, summary="Mine", answer=str))

    async with engine(plugin(name, register_routes=register_routes)) as running, client(running) as http:
        assert (await http.get("/")).json() == "mine"
        assert (await http.get("/docs")).status_code == 200
        described = (await http.get("/api/v1/openapi.json")).json()
    assert described["paths"]["/"]["get"]["summary"] == "Mine"


async def test_addresses_of_pages_are_public_reads_and_not_in_the_api_document() -> None:
    async with served_engine() as (running, http):
        pages = [route for route in every(running) if route.page]
        described = (await http.get("/api/v1/openapi.json")).json()["paths"]
    assert {(route.method, route.scope) for route in pages} == {("GET", None)}
    assert not {route.path for route in pages} & set(described)


def test_what_is_vendored_is_what_its_pins_name() -> None:
    vendor = files.STATIC / "vendor"
    pins = json.loads((vendor / "pins.json").read_text())
    there = {path.relative_to(vendor).as_posix() for path in vendor.rglob("*") if path.is_file()}
    assert there == {"pins.json", *(f"{name}/{path}" for name, pin in pins.items() for path in pin["files"])}
    for name, pin in pins.items():
        for path, digest in pin["files"].items():
            assert hashlib.sha256((vendor / name / path).read_bytes()).hexdigest() == digest, f"{name}/{path}"


def weight(names: Iterable[str]) -> int:
    return sum(len(files.file(name).compressed) for name in names)


def test_a_first_visit_is_light_and_the_whole_page_does_not_grow() -> None:
    """What the inbox loads, its plots and styles included; and all that the page has, the widget aside."""
    inbox = (*files.first_modules(), *files.modules("pages/inbox.js"), *files.modules("parts/plot/draw.js"))
    assert weight({*inbox, files.STYLE, "vendor/uplot/dist/uPlot.iife.min.js"}) < 93_000
    modules = [name for name in files.named() if not name.startswith("widget/") and not name.endswith(".css")]
    assert weight([*modules, files.STYLE]) < 320_000


def test_a_module_is_small_enough_to_read() -> None:
    for name, path in files.named().items():
        assert name.startswith("vendor/") or path.read_text().count("\n") <= 500, name


async def test_the_widget_is_one_small_script_for_any_site() -> None:
    async with served_engine() as (_, http):
        answer = await http.get("/widget.js?v=2", headers={"authorization": "", "accept-encoding": "gzip"})
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        assert "immutable" not in answer.headers["cache-control"]
        assert len(files.widget().compressed) < 15_000
        for word in ("import ", "export ", "innerHTML", "eval(", "document.cookie"):
            assert word not in answer.text
        assert answer.text.startswith('"use strict";')
