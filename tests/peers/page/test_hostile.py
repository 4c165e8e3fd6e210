"""What comes from models, tools, users and files is shown as text on every page, and what hides in it is named."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from tests.peers.page.conftest import opened
from tests.peers.page.test_pictures import settle
from tests.peers.served import Served, served, steps

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
MARKUP = (
    "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'><svg onload='window.pwned = 3'>"
    "<iframe srcdoc='<script>parent.pwned = 4</script>'></iframe><a href='javascript:window.pwned = 5'>link</a>"
    "<style>* { display: none }</style><form action='//evil.example'><button>go</button></form>"
    "<base href='//evil.example/'><meta http-equiv=refresh content='0;url=//evil.example'>"
)
MARKDOWN = (
    "[click](javascript:window.pwned=6) ![picture](https://evil.example/x.png) [data](data:text/html,<script>1) "
    "<https://evil.example> [ok](https://good.example) [JaVa](JaVaScRiPt:window.pwned=7) [vb](vbscript:x)"
)
HIDDEN = "pay \u202etxt.exe\u202c to a\u200bnn\u2066\u2069 p\u0430ypal \U000e0041\U000e0042 \u00ad\ufeff end"
EVIL = f"{MARKUP}\n\n{MARKDOWN}\n\n{HIDDEN}"
LONG = "x" * 999_000
RAW = "\u202e\u202c\u200b\u2066\u2069\ufeff\u00ad"
"""Hidden characters, none of which is ever drawn as itself."""
INJECTED = """() => ({
  pwned: window.pwned ?? null,
  elements: [...document.querySelectorAll('img[src], iframe, base, meta[http-equiv], object, embed, form[action]')]
    .filter((one) => !one.src?.startsWith('blob:')).map((one) => one.outerHTML.slice(0, 100)),
  scripts: [...document.scripts].filter((one) => !one.src.startsWith(`${location.origin}/page/`)).length,
  links: [...document.querySelectorAll('a[href]')].filter((one) => !/^(https?|mailto|blob):/.test(one.href))
    .map((one) => one.outerHTML.slice(0, 100)),
  styles: document.querySelectorAll('main style, main link').length,
})"""


class Hostile(NamedTuple):
    """The engine, and where what it holds is shown."""

    engine: Served
    paths: dict[str, str]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    with served(tmp_path_factory.mktemp("hostile")) as engine:
        yield Hostile(engine, _filled(engine))


def _filled(engine: Served) -> dict[str, str]:
    """Everything that takes a text has the hostile one, the names of things aside, which have a form of their own."""
    engine.admin.patch("agents/talk", json={"system": EVIL, "description": EVIL}).raise_for_status()
    engine.admin.patch("agents/talk", json={"system": f"{EVIL}\nmore"}).raise_for_status()
    engine.admin.patch("agents/talk", json={"tools": ["weather", "pay", "show_structured_output"]}).raise_for_status()
    engine.create("tools", name="evil_tool", url="https://shop.example/{{id}}", description=EVIL,
                  parameters={"id": {"type": "string", "description": EVIL}})  # fmt: skip
    engine.create("schedules", name="evil", cron="0 3 * * *", agent="talk", title=HIDDEN[:50], message=EVIL)
    engine.create("webhooks", name="evil", agent="talk", title=HIDDEN[:50], message=EVIL)
    task = engine.admin.post("tasks", json={"title": HIDDEN[:50], "description": EVIL, "agent_name": "talk"}).json()
    base = engine.admin.post("knowledge-bases", json={"name": "evil", "description": MARKUP}).json()
    url = f"{engine.url}/api/v1/knowledge-bases/{base['id']}/files"
    file = {"file": ("evil.md", f"# {MARKUP}\n\nneedle {EVIL}".encode(), "text/markdown")}
    httpx.post(url, files=file, headers=engine.admin.headers).raise_for_status()
    table = {"output_type": "table", "title": MARKUP[:200], "rows": [{"label": MARKUP[:200], "value": EVIL}]}
    said = steps(
        [{"think": EVIL}, EVIL, ["weather", {"city": EVIL}], ["show_structured_output", table]],
        [EVIL, ["pay", {"amount": 5}]],
    )
    whole = f"{EVIL}\n\n{said}"
    with engine.admin.stream("POST", "schemas/talk/chat", json={"message": whole, "user_sub": HIDDEN[:40]}) as stream:
        session = stream.headers["x-session-id"]
        for line in stream.iter_lines():
            if line == "event: confirmation":
                break
    engine.admin.patch(f"sessions/{session}", json={"title": f"{MARKUP[:200]} {HIDDEN}"}).raise_for_status()
    long = engine.admin.post(
        "schemas/talk/chat", json={"message": f"{LONG} {steps(['short'])}", "stream": False}
    ).json()
    return {
        "inbox": "/",
        "chat": f"/chat/{session}",
        "sessions": "/sessions",
        "session": f"/sessions/{session}",
        "session-events": f"/sessions/{session}?view=events",
        "session-messages": f"/sessions/{session}?view=messages",
        "tasks": "/tasks",
        "task": f"/tasks/{task['id']}",
        "schedules": "/tasks/schedules",
        "webhooks": "/tasks/webhooks",
        "agents": "/agents",
        "agent": "/agents/talk",
        "agent-diff": "/agents/talk?diff=v1..v2",
        "schema": "/schemas/talk",
        "tools": "/tools",
        "tool": "/tools/http/evil_tool",
        "knowledge": "/knowledge/evil?q=needle",
        "usage": "/usage",
        "audit": "/audit",
        "audit-calls": "/audit?tab=calls",
        "config": "/config",
        "chat-long": f"/chat/{long['session_id']}",
        "session-long": f"/sessions/{long['session_id']}?view=messages",
    }


NAMES = (
    *("inbox", "chat", "sessions", "session", "session-events", "session-messages", "tasks", "task", "schedules"),
    *("webhooks", "agents", "agent", "agent-diff", "schema", "tools", "tool", "knowledge", "usage", "audit"),
    *("audit-calls", "config", "chat-long", "session-long"),
)


def unfold(page: Any) -> None:
    """Opens everything that is folded."""
    for _ in range(3):
        page.evaluate("document.querySelectorAll('details:not([open])').forEach((one) => { one.open = true })")
        page.wait_for_timeout(100)


@pytest.mark.parametrize("name", NAMES)
def test_hostile_text_is_text_on_every_page(chromium: Any, hostile: Hostile, name: str) -> None:
    asked: list[str] = []
    with opened(chromium, hostile.engine.url) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: asked.append(f"dialog {dialog.message}"))
        page.goto(hostile.paths[name])
        settle(page)
        unfold(page)
        settle(page)
        found = page.evaluate(INJECTED)
        shown = page.evaluate("document.body.innerText")
        attributes = page.evaluate(
            "[...document.querySelectorAll('main [title], main [aria-label]')]"
            ".map((one) => (one.title ?? '') + (one.ariaLabel ?? '')).join('')"
        )
    assert found == {"pwned": None, "elements": [], "scripts": 0, "links": [], "styles": 0}
    assert not [url for url in asked if not url.startswith((hostile.engine.url, "blob:", "data:image/svg"))]
    assert not set(RAW) & set(shown), {hex(ord(one)) for one in set(RAW) & set(shown)}
    assert not set(RAW) & set(attributes), {hex(ord(one)) for one in set(RAW) & set(attributes)}


@pytest.mark.parametrize("name", ["chat", "session-messages", "agent", "task"])
def test_what_hides_is_named(chromium: Any, hostile: Hostile, name: str) -> None:
    with opened(chromium, hostile.engine.url) as page:
        page.goto(hostile.paths[name])
        settle(page)
        unfold(page)
        marks: Callable[[], set[str]] = lambda: set(page.locator("main .odd").all_text_contents())  # noqa: E731
        for _ in range(50):
            if {"RLO", "ZWSP"} <= marks():
                return
            page.wait_for_timeout(100)
        raise AssertionError(json.dumps(sorted(marks())))
