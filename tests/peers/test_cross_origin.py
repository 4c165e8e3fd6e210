"""Official clients of the faces in a real browser, in a page of another origin."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.peers.pages import CHROMIUM, serving_pages
from tests.peers.served import NODE, served

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(120),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]
HERE = Path(__file__).parent / "cross_origin"
PACKAGES = [NODE / "node_modules", NODE.parent / "mcp_clients/node_modules"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page, its clients in one file."""
    if not all(folder.exists() for folder in PACKAGES):
        pytest.skip("not set up: run tests/peers/setup.sh")
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(HERE / "page.html", folder)
    command = [str(NODE / "node_modules/.bin/esbuild"), str(HERE / "clients.mjs"), "--bundle", "--format=esm"]
    environment = {**os.environ, "NODE_PATH": os.pathsep.join(map(str, PACKAGES))}
    subprocess.run([*command, f"--outfile={folder}/bundle.js", "--log-level=error"], check=True, env=environment)
    return folder


@pytest.mark.parametrize("host", ["shop.example", "other.example"])
def test_a_page_of_an_origin_that_is_listed_uses_the_faces_and_no_other_does(
    site: Path, tmp_path: Path, host: str
) -> None:
    with (
        serving_pages(site) as pages,
        served(tmp_path, BYTEBREW_CORS_ORIGINS=f"http://shop.example:{pages.port}") as engine,
        pages.browser(host, tmp_path / "profile", url=engine.url, token=engine.token) as sent,
    ):
        path, found = sent.get(timeout=60)
        sessions = engine.admin.get("sessions").json()["total"]
    assert path == "/end"
    if host == "other.example":
        assert [(name, *one) for name, one in found.items()] == [
            ("openai", "error"),
            ("agUi", "error"),
            ("mcp", "error"),
        ]
        assert sessions == 0
        return
    assert found == {
        "openai": {
            "models": ["demo", "talk"],
            "text": "Hello, page.",
            "output": "Hello, page.",
            "deleted": True,
            "status": 404,
            "requestID": "req_",
        },
        "agUi": "Hello, page.",
        "mcp": "Hello, page.",
    }
    assert sessions > 0
