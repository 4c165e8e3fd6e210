"""Starts an engine and Open WebUI before it, chats there in a real browser, and keeps a picture of that.

`tests/peers/open_webui.sh` installs what it needs and runs it.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.peers.served import NODE, SCHEMA, Served, served

CACHE = NODE.parent
BROWSER = """
import sys
from playwright.sync_api import expect, sync_playwright
url, chromium, picture, *messages = sys.argv[1:]
options = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync"]
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=options)
    page = browser.new_page(viewport={"width": 1100, "height": 760})
    page.goto(url, wait_until="domcontentloaded")
    greeting = page.get_by_role("button", name="Okay, Let's Go!")
    greeting.or_(page.locator("#chat-input")).first.wait_for(timeout=60_000)
    page.wait_for_timeout(3000)
    if greeting.count():
        greeting.first.click()
    for message in messages:
        message, _, answer = message.partition("|")
        page.locator("#chat-input").click()
        page.keyboard.type(message)
        page.keyboard.press("Enter")
        expect(page.locator("#messages-container")).to_contain_text(answer, timeout=60_000)
        page.wait_for_timeout(3000)
    page.screenshot(path=picture)
    browser.close()
"""
MESSAGES = (
    "What is the weather in Oslo?|Sunny in Oslo.",
    "And in Rome? I mean the weather in Rome.|Sunny in Rome.",
    "Now count.|word 40",
)
"""Messages to the model of `tests/peers/paced.py`, each with the end of its answer."""


def settings(engine: Served, folder: Path) -> dict[str, str]:
    """The environment of Open WebUI; it downloads nothing and has no users."""
    return {
        "WEBUI_AUTH": "False",
        "OPENAI_API_BASE_URL": f"{engine.url}/v1",
        "OPENAI_API_KEY": engine.create("auth/tokens", name="webui", scopes=["chat"], schemas=[SCHEMA])["token"],
        "ENABLE_OLLAMA_API": "False",
        "RAG_EMBEDDING_ENGINE": "openai",
        "HF_HUB_OFFLINE": "1",
        "OFFLINE_MODE": "True",
        "ENABLE_VERSION_UPDATE_CHECK": "False",
        "DATA_DIR": str(folder / "webui"),
        "WEBUI_SECRET_KEY": "none",
    }


def wait_for(url: str, seconds: float = 120) -> None:
    """Returns once the address answers."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if httpx.get(url, timeout=2).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise TimeoutError(f"{url} does not answer")


def main(picture: Path) -> None:
    """Prints what the engine has of the chat."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium here")
    picture.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, served(Path(name)) as engine:
        folder = Path(name)
        (folder / "webui").mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [str(CACHE / "open_webui/bin/open-webui"), "serve", "--host", "127.0.0.1", "--port", str(port)]
        with subprocess.Popen(command, env=os.environ | settings(engine, folder), cwd=folder) as webui:
            try:
                wait_for(f"http://127.0.0.1:{port}/health")
                python = str(CACHE / "playwright/bin/python")
                subprocess.run(
                    [python, "-c", BROWSER, f"http://127.0.0.1:{port}/", chromium, str(picture), *MESSAGES],
                    check=True,
                    timeout=300,
                )
            finally:
                webui.terminate()
        for session in engine.admin.get("sessions").raise_for_status().json()["data"]:
            print(session["id"], SCHEMA, [(role, text[:60]) for role, text, _ in engine.messages(session["id"])])
    print(f"the picture is {picture}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
