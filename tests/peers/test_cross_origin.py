"""OpenAI's client in a real browser, in a page of another origin."""

import shutil
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


@pytest.mark.parametrize("host", ["shop.example", "other.example"])
def test_a_page_of_an_origin_that_is_listed_uses_the_faces_and_no_other_does(tmp_path: Path, host: str) -> None:
    if not (NODE / "node_modules").exists():
        pytest.skip("not set up: run tests/peers/setup.sh")
    site = tmp_path / "site"
    site.mkdir()
    shutil.copy(HERE / "page.html", site)
    (site / "node_modules").symlink_to(NODE / "node_modules")
    with (
        serving_pages(site) as pages,
        served(tmp_path, BYTEBREW_CORS_ORIGINS=f"http://shop.example:{pages.port}") as engine,
        pages.browser(host, tmp_path / "profile", url=engine.url, token=engine.token) as sent,
    ):
        path, result = sent.get(timeout=60)
        sessions = engine.admin.get("sessions").json()["total"]
    assert path == "/end"
    if host == "other.example":
        assert (result["message"], sessions) == ("Connection error.", 0)
        return
    assert result.pop("requestID").startswith("req_")
    assert result == {
        "models": ["demo", "talk"],
        "text": "Hello, page.",
        "output": "Hello, page.",
        "deleted": True,
        "status": 404,
    }
    assert sessions > 0
