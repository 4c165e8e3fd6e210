"""A site of another origin with pages of its own, and a browser that shows them."""

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

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


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


@contextmanager
def serving_pages(folder: Path) -> Iterator[Site]:
    """A site with the files of a folder."""
    sent: queue.Queue[tuple[str, Any]] = queue.Queue()
    pages = functools.partial(type("PagesOfTest", (Pages,), {"sent": sent}), directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Site(server.server_address[1], sent)
        finally:
            server.shutdown()
            thread.join()
