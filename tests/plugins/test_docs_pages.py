"""The page /docs has contents, search and an example of each operation that works."""

import html
import json
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from bytebrew_docs.example import ORIGIN, sample
from bytebrew_docs.pages import POLICY

from bytebrew.testing import ADMIN, served_engine
from tests.processes import serving
from tests.tables import label, table

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("pages") / "data") as process:
        yield process.url


@pytest.fixture(scope="module")
def page(served: str) -> str:
    return httpx.get(f"{served}/docs").text


@pytest.fixture(scope="module")
def document(served: str) -> Any:
    return httpx.get(f"{served}/api/v1/openapi.json").json()


async def test_without_the_plugin_there_are_no_pages_and_the_document_is_there() -> None:
    async with served_engine(settings={"BYTEBREW_DISABLED_PLUGINS": "docs"}) as (_, http):
        for path in ("/docs", "/docs/page.css", "/docs/page.js"):
            assert (await http.get(path)).status_code == 404
        described = (await http.get("/api/v1/openapi.json")).json()
    assert "/api/v1/openapi.json" in described["paths"]
    assert not {"/docs", "/docs/{part}"} & set(described["paths"])


def test_a_page_loads_nothing_from_another_host_and_runs_nothing_inline(served: str) -> None:
    answer = httpx.get(f"{served}/docs", headers={"accept": BROWSER})
    assert answer.headers["content-security-policy"] == POLICY
    assert "'unsafe" not in POLICY
    for tag, attributes in Elements(answer.text).found:
        assert not {name for name in attributes if name.startswith("on") or name == "style"}, tag
        if tag == "script":
            assert attributes["src"] == "/docs/page.js"
        elif tag in ("link", "img", "iframe"):
            assert attributes.get("href") in ("data:,", "/docs/page.css")
        elif tag == "a":
            assert (attributes["href"] or "")[0] in "#/"
    assert httpx.get(f"{served}/docs/reference.py").status_code == 404
    for part in ("page.css", "page.js"):
        text = httpx.get(f"{served}/docs/{part}")
        assert text.headers["content-type"] == f"text/{'css' if part.endswith('css') else 'javascript'}; charset=utf-8"
        assert not re.findall(r"https?://|@import|url\(", text.text)


def test_the_contents_lead_to_every_operation_and_every_link_leads_somewhere(page: str, document: Any) -> None:
    found = Elements(page).found
    ids = [attributes["id"] for _, attributes in found if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert {attributes["href"] for tag, attributes in found if tag == "a"} <= {
        "/",
        "/api/v1/openapi.json",
        *(f"#{one}" for one in ids),
    }
    contents = {
        attributes["href"]
        for tag, attributes in Elements(page.partition("<nav>")[2].partition("</nav>")[0]).found
        if tag == "a"
    }
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    assert contents >= {f"#{one['operationId']}" for one in operations}
    assert page.count("<h3>Example</h3>") == len(operations)


def commands(page: str) -> list[tuple[str, str]]:
    """The operation and the command of each example on the page."""
    items = re.findall(r"<details class=item id='(\w+)'>(.*?)</details>", page, re.DOTALL)
    found = [
        (name, re.search(r"<h3>Example</h3><div class=code><pre>(.*?)</pre>", text, re.DOTALL)) for name, text in items
    ]
    return [(name, html.unescape(re.sub(r"<[^>]+>", "", match[1]))) for name, match in found if match]


def test_every_line_of_curl_is_a_request_that_the_engine_understands(
    page: str, document: Any, served: str, tmp_path: Path
) -> None:
    operations = {one["operationId"]: one for methods in document["paths"].values() for one in methods.values()}
    (tmp_path / "handbook.md").write_text("# Handbook\n")
    (tmp_path / "file").write_text("{}")
    script = ["set -u", f"TOKEN={ADMIN}", "ID=00000000-0000-7000-8000-000000000000"]
    found = commands(page)
    assert len(found) == len(operations)
    names = {name for _, command in found for name in re.findall(r"\$([A-Z_]+)", command)}
    script += [f"{name}=nothing" for name in names - {"TOKEN", "ID"}]
    for name, command in found:
        assert command.startswith("curl ")
        script.append(f"echo; echo '---- {name}'")
        script.append(command.replace("curl ", "curl --max-time 5 -o /dev/null -w '%{http_code}' ", 1))
    done = subprocess.run(
        ["bash", "-c", "\n".join(script).replace(ORIGIN, served)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    told = dict(re.findall(r"---- (\w+)\n(\d{3})", done.stdout))
    assert set(told) == set(operations), done.stderr
    wrong = {
        name: status
        for name, status in told.items()
        if status not in operations[name]["responses"] or status in ("400", "401", "403", "405", "415", "500")
    }
    assert wrong.pop("delete_auth_local_session") == "400"  # it ends a session, and the token is none
    assert wrong.pop("get_oauth_callback") == "400"  # it takes the state of an authorization
    assert wrong.pop("post_auth_visitors") == "400"  # it takes the token of a public page
    assert wrong.pop("post_auth_local_session_refresh") == "401"  # it takes a session, and the token is none
    assert wrong.pop("post_webhooks_name") == "401"  # it takes a signature
    assert wrong.pop("get_mcp") == "405"  # without the id of an event there is no stream to resume
    assert not wrong


def test_an_example_has_the_headers_without_which_it_is_refused(page: str) -> None:
    found = dict(commands(page))
    assert '-H "Authorization: Bearer $TOKEN"' in found["post_auth_local_session_refresh"]
    for header in ("x-webhook-timestamp: $X_WEBHOOK_TIMESTAMP", "x-webhook-signature: $X_WEBHOOK_SIGNATURE"):
        assert f'-H "{header}"' in found["post_webhooks_name"]


def test_what_an_example_answers_has_the_fields_of_its_schema(page: str, document: Any) -> None:
    schemas = document["components"]["schemas"]
    model = sample({"$ref": "#/components/schemas/Health"}, schemas)
    assert set(model) == set(schemas["Health"]["properties"])
    answers = re.findall(r"<h3>It answers</h3><div class=code><pre>(.*?)</pre>", page, re.DOTALL)
    assert len(answers) > 50
    made = page.partition("<details class=item id='post_agents'>")[2].partition("<h3>It answers</h3>")[2]
    sent = document["paths"]["/api/v1/agents"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert json.loads(html.unescape(made.partition("<pre>")[2].partition("</pre>")[0])).items() >= sent.items()
    assert all(json.loads(html.unescape(one)) is not None for one in answers)


async def test_the_page_says_in_words_what_a_request_takes_and_gives() -> None:
    async with served_engine() as (_, client):
        page = (await client.get("/docs")).text
    chat = page.partition("<code>/api/v1/schemas/{name}/chat</code>")[2].partition("</details>")[0]
    assert "<td>body<td><a href='#ChatRequest'>ChatRequest</a><td>application/json" in chat
    assert "<td>200<td><a href='#ChatAnswer'>ChatAnswer</a><td>application/json" in chat
    assert "<td>200<td><a href='#StreamEvent'>StreamEvent</a><td>text/event-stream" in chat
    frame = page.partition("id='ToolStartedFrame'")[2].partition("</details>")[0]
    assert "<code>tool_call</code>" in frame
    assert "string with the JSON of <a href='#ToolStarted'>ToolStarted</a>" in frame
    assert "<td><code>Idempotency-Key</code><td>header <small>optional</small>: string" in chat
    shape = page.partition("id='ChatRequest'>")[2].partition("</details>")[0]
    assert "<td><code>message</code><td>string <small>minLength 1</small>" in shape
    assert "<td><code>on_busy</code> <small>optional</small><td><code>interrupt</code> or <code>queue</code>" in shape
    assert set(re.findall(r"href='#(\w+)'", page)) <= set(re.findall(r"id='?(\w+)", page))


async def test_the_page_is_whole_without_its_script_and_needs_no_other_host() -> None:
    async with served_engine() as (_, client):
        page, described = await client.get("/docs"), (await client.get("/api/v1/openapi.json")).json()
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; ")
    assert re.findall(r"<script[^>]*>[^<]*", page.text) == ["<script src=/docs/page.js type=module>"]
    assert not re.search(r"(src|href)=['\"](https?:)?//", page.text)
    for path in described["paths"]:
        assert path in page.text


async def test_every_route_is_on_the_page_for_people() -> None:
    async with served_engine() as (running, client):
        page = (await client.get("/docs")).text
        for route in table(running):
            path = re.sub(r"\{(\w+)(:\w+)?\}", r"{\1}", route.path)
            method = f"<b class={route.method.lower()}>{route.method}</b>"
            assert f"<summary>{method}<code>{path}</code>" in page, label(route)
