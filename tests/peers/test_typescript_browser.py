"""The TypeScript client in a real browser: a page of another origin, loaded again while the engine is killed."""

import functools
import http.server
import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.peers.served import Served, node, served
from tests.peers.test_typescript_client import HERE, LONG, lines, transcript

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(120),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]


class Pages(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and keeps what its pages send."""

    sent: "queue.Queue[tuple[str, Any]]"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(204)
        self.end_headers()
        self.sent.put((self.path, body))

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class Site:
    """A site, which a browser knows by any name."""

    def __init__(self, port: int, sent: "queue.Queue[tuple[str, Any]]") -> None:
        self.port, self._sent = port, sent

    @contextmanager
    def browser(self, host: str, profile: Path, **query: str) -> Iterator["queue.Queue[tuple[str, Any]]"]:
        """A browser that shows the page under a host name; what the page sends."""
        url = f"http://{host}:{self.port}/page.html?{urlencode(query)}"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        options += [f"--user-data-dir={profile}", "--host-resolver-rules=MAP *.example 127.0.0.1"]
        process = subprocess.Popen(
            ["timeout", "100", str(CHROMIUM), *options, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield self._sent
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def site(installed: Path) -> Iterator[Site]:
    shutil.copy(HERE / "page.html", installed)
    sent: queue.Queue[tuple[str, Any]] = queue.Queue()
    pages = functools.partial(type("PagesOfTest", (Pages,), {"sent": sent}), directory=str(installed))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Site(server.server_address[1], sent)
        finally:
            server.shutdown()
            thread.join()


def arguments(engine: Served, patience: int) -> dict[str, str]:
    """The query of the page; its client tries for so many milliseconds."""
    page = engine.create("auth/tokens", name="page", scopes=["public"], schemas=["talk"])["token"]
    return {"url": engine.url, "token": engine.token, "page": page, "message": LONG, "patience": str(patience)}


def test_a_page_that_is_loaded_again_goes_on_and_so_does_it_where_the_engine_is_killed(
    site: Site, installed: Path, tmp_path: Path
) -> None:
    with served(tmp_path, BYTEBREW_CORS_ORIGINS=f"http://shop.example:{site.port}") as engine:
        script = node(HERE / "transcript.mjs", engine.url, engine.token, LONG, folder=installed)
        undisturbed = transcript(lines(script))[:-1]
        with site.browser("shop.example", tmp_path / "profile", **arguments(engine, 60_000)) as sent:
            path, failure = sent.get(timeout=60)
            assert (path, failure) == ("/middle", None)
            engine.kill()
            engine.start()
            path, result = sent.get(timeout=60)
    assert path == "/end"
    assert transcript(result.pop("events")) == undisturbed
    assert result == {"texts": ["Hello, visitor."], "sessions": 1, "secure": False}


def test_a_page_of_an_origin_that_is_not_listed_reaches_nothing(site: Site, tmp_path: Path) -> None:
    with served(tmp_path, BYTEBREW_CORS_ORIGINS=f"http://shop.example:{site.port}") as engine:
        with site.browser("other.example", tmp_path / "profile", **arguments(engine, 1000)) as sent:
            path, result = sent.get(timeout=60)
        assert engine.admin.get("sessions").json()["total"] == 0
    assert (path, result["name"]) == ("/end", "ConnectionLost")
