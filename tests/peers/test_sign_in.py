"""A real browser: the link lets it in, and what a page may do without it is nothing."""

import functools
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.local import SESSION
from tests.processes import Process, serving

pytestmark = pytest.mark.peers
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
TRIES = """<!doctype html><p id=said></p><script>
const said = document.getElementById("said"), url = "%s"
async function open(options) {
  try {
    const response = await fetch(url, {method: "POST", ...options})
    return `${response.type} ${response.status} ${await response.text()}`
  } catch (error) { return String(error) }
}
Promise.all([open({}), open({mode: "no-cors"}), open({headers: {Authorization: "Bearer %s"}})])
  .then(answers => { said.textContent = answers.join(" | ") })
</script>"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Process]:
    with serving(tmp_path / "data") as process:
        yield process


def shown(url: str, folder: Path) -> str:
    """What the page has become once its scripts are through."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
    command += ["--virtual-time-budget=10000", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def link_of(data: Path) -> str:
    return (data / "local-session.token").read_text().strip()


@pytest.mark.timeout(120)
def test_the_link_signs_a_browser_in_once(engine: Process, tmp_path: Path) -> None:
    link = f"{engine.url}/sign-in#t={link_of(tmp_path / 'data')}"
    page = shown(link, tmp_path / "profile")
    token = page.partition('<pre id="shown">')[2].partition("</pre>")[0]
    assert '<p id="said">You are in until' in page
    bearer = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{engine.url}/api/v1/auth/tokens", headers=bearer).status_code == 200
    again = shown(link, tmp_path / "profile")
    assert '<p id="said">This token is none, or was used before' in again


@contextmanager
def another_origin(folder: Path) -> Iterator[str]:
    """A site of its own that serves the folder."""
    answers = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), answers) as site:
        serving_it = threading.Thread(target=site.serve_forever)
        serving_it.start()
        try:
            yield f"http://localhost:{site.server_port}"
        finally:
            site.shutdown()
            serving_it.join()


@pytest.mark.timeout(120)
def test_a_page_of_another_origin_gets_nothing_even_with_the_token(engine: Process, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    link = link_of(tmp_path / "data")
    (tmp_path / "site" / "page.html").write_text(TRIES % (f"{engine.url}{SESSION}", link))
    with another_origin(tmp_path / "site") as site:
        page = shown(f"{site}/page.html", tmp_path / "profile")
    assert "access_token" not in page
    assert "opaque 0" in page
    assert link_of(tmp_path / "data") == link, "it was not even used up"
    session = httpx.post(f"{engine.url}{SESSION}", headers={"Authorization": f"Bearer {link}"}).json()["access_token"]
    bearer = {"Authorization": f"Bearer {session}"}
    entries = httpx.get(f"{engine.url}/api/v1/audit?action=auth.fail", headers=bearer).text
    assert "another origin" in entries
