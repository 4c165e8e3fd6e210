"""`useChat` of the AI SDK in a real browser, both majors: a page of another origin, and an engine behind it.

BYTEBREW_SCREENSHOTS names a folder for pictures of the page.
"""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.peers.served import NODE, SCHEMA, Served, served, slow, steps

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

HERE = Path(__file__).parent / "ai_sdk"
READY = "window.chat?.status === 'ready'"
PARTS = "window.chat.messages.map(({ role, parts }) => ({ role, parts }))"
TEXT = (
    "(window.chat.messages.findLast((one) => one.role === 'assistant')?.parts ?? [])"
    ".filter((one) => one.type === 'text').map((one) => one.text).join('')"
)
WORDS = [f"word-{n} " for n in range(30)]


class Page:
    """The page in a browser."""

    def __init__(self, engine: Served, major: str, port: int, chromium: str) -> None:
        self.engine, self.major = engine, major
        script = NODE / "browser.mjs"
        script.write_bytes((HERE / "browser.mjs").read_bytes())  # packages are looked up beside it
        command = ["timeout", "200", "node", str(script), str(HERE / "page.jsx"), str(port), major, chromium]
        self._node = subprocess.Popen(command, cwd=NODE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._node.stdout is not None
        assert self._node.stdout.readline() == "ready\n"

    def __call__(self, act: str, argument: str = "") -> Any:
        """Does something in the browser."""
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        self._node.stdin.write(json.dumps([act, argument]) + "\n")
        self._node.stdin.flush()
        answer = json.loads(self._node.stdout.readline())
        assert "error" not in answer, f"{act} {argument}: {answer}"
        return answer["value"]

    def open(self, chat_id: str) -> None:
        """Loads the page for a chat."""
        api = f"{self.engine.url}/ai-sdk/{SCHEMA}/chat"
        self("open", urlencode({"api": api, "token": self.engine.token, "id": chat_id}))
        self("until", READY)

    def parts(self) -> Any:
        """The messages, without what belongs to the chat and the day; where a tool ran is not in the history."""
        found = self("value", PARTS)
        for part in (part for message in found for part in message["parts"]):
            for name in ("providerExecuted", "approval", "id", "title", "providerMetadata", "preliminary", "rawInput"):
                part.pop(name, None)
            if part["type"] == "text" and len(found) and part.get("state") is None:
                part["state"] = "done"  # a user's text has none
        return found

    def picture(self, name: str) -> None:
        """A picture of the page, if somebody wants to look."""
        if folder := os.environ.get("BYTEBREW_SCREENSHOTS"):
            self("picture", str(Path(folder).absolute() / f"ai-sdk-{self.major}-{name}.png"))

    def close(self) -> None:
        """Closes the browser."""
        assert self._node.stdin is not None
        self._node.stdin.close()
        self._node.wait(20)
        assert self._node.stdout is not None
        self._node.stdout.close()


@pytest.fixture(scope="module", params=["7", "6"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser for each major."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None or not (NODE / "node_modules/playwright-core").exists():
        pytest.skip("not set up: run tests/peers/setup.sh")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with served(tmp_path_factory.mktemp("engine"), BYTEBREW_CORS_ORIGINS=f"http://127.0.0.1:{port}") as engine:
        tools = {"tools": ["weather", "pay", "show_structured_output"]}
        engine.admin.patch(f"agents/{SCHEMA}", json=tools).raise_for_status()
        browser = Page(engine, request.param, port, chromium)
        try:
            yield browser
        finally:
            browser.close()


def test_a_chat_with_thinking_tools_a_table_an_approval_and_a_refusal_is_the_same_after_a_reload(page: Page) -> None:
    page.open("full")
    rows = [{"label": "Tea", "value": 3}, {"label": "Cake", "value": 4.5}]
    table = ["show_structured_output", {"output_type": "table", "title": "Menu", "rows": rows}]
    first = steps(
        [{"think": "The user wants all of it."}, "Let me see. ", ["weather", {"city": "Oslo"}], table],
        ["Where are you? ", ["where_am_i", {}]],
        ["You are at ", None, ". ", ["pay", {"amount": 5}]],
        ["Done: ", None],
    )
    page("say", first)
    page("until", "document.body.innerText.includes('approval-requested')")
    page("until", READY)
    page.picture("approval")
    page("reload")
    page("until", "document.body.innerText.includes('approval-requested')")
    page("until", READY)
    page("click", "Approve")
    page("until", f"{READY} && document.body.innerText.includes('Done: paid 5')")
    page("say", steps([["pay", {"amount": 6}]], [None]))
    page("until", "document.body.innerText.includes('approval-requested')")
    page("until", READY)
    page("click", "Reject")
    page("until", f"{READY} && document.body.innerText.includes('refused this call: not today')")
    page.picture("full")
    assert page("value", "window.runs") == 0  # the page that ran it was loaded again
    shown = page.parts()
    kinds = [one["type"] for one in shown[1]["parts"] if one["type"] != "step-start"]
    assert kinds == [
        *("reasoning", "text", "tool-weather", "tool-show_structured_output", "data-table"),
        *("text", "tool-where_am_i", "text", "tool-pay", "text"),
    ]
    calls = {one["type"]: one for message in shown for one in message["parts"] if one["type"].startswith("tool-")}
    assert calls["tool-where_am_i"]["output"] == {"city": "Zürich"}
    assert (calls["tool-pay"]["state"], calls["tool-pay"]["input"]) == ("output-denied", {"amount": 6})
    page("reload")
    page("until", READY)
    assert page.parts() == shown
    assert page("value", "window.runs") == 0
    assert page("faults") == []


def test_a_stop_ends_the_turn_and_a_regeneration_takes_the_place_of_the_answer(page: Page) -> None:
    page.open("stopped")
    page("say", steps([*slow(*WORDS, seconds=0.2)]))
    page("until", f"{TEXT}.includes('word-2')")
    page("click", "Stop")
    page("until", READY)
    page("reload")
    page("until", READY)
    _, answer = page.parts()
    assert "word-2 " in str(answer)
    assert "word-29" not in str(answer)
    page("say", steps(["short"]))
    page("until", f"{READY} && {TEXT} === 'short'")
    old = page("value", "window.chat.messages.at(-1).id")
    page("click", "Regenerate")
    page("until", f"{READY} && window.chat.messages.at(-1).id !== '{old}' && {TEXT} === 'short'")
    shown = page.parts()
    assert len(shown) == 4
    page("reload")
    page("until", READY)
    assert page.parts() == shown


def test_an_answer_is_the_same_after_a_reload_in_its_middle_and_after_a_kill_in_its_middle(page: Page) -> None:
    message = steps([{"think": "Hm. "}, *slow(*WORDS, seconds=0.1), ["weather", {"city": "Oslo"}]], ["So: ", None])
    shown = []
    for how in ("calm", "reloaded", "killed"):
        page.open(how)
        page("say", message)
        if how != "calm":
            page("until", f"{TEXT}.includes('word-5')")
            if how == "killed":
                page.engine.kill()
                page("until", "window.chat.status === 'error'")
                page.picture("lost")
                page.engine.start()
            page("reload")
            page("until", f"window.chat?.status === 'streaming' && {TEXT}.includes('word-6')")
            page.picture(how)
        page("until", f"{READY} && {TEXT}.endsWith('So: Sunny in Oslo')")
        shown.append(page.parts())
        page("reload")
        page("until", READY)
        assert page.parts() == shown[-1]
    assert shown[0] == shown[1] == shown[2]
    assert page("value", TEXT) == f"{''.join(WORDS)}So: Sunny in Oslo"


def test_a_refusal_is_shown_as_a_sentence(page: Page) -> None:
    page.open("refused")
    page.engine.admin.patch(f"schemas/{SCHEMA}", json={"client_tools": False}).raise_for_status()
    try:
        page("say", "hello")
        page("until", "window.chat.status === 'error'")
        assert page("value", "window.chat.error.message").startswith(f"Schema '{SCHEMA}' allows no tools of clients")
    finally:
        page.engine.admin.patch(f"schemas/{SCHEMA}", json={"client_tools": True}).raise_for_status()
