"""The TypeScript client in a real browser: a page of another origin, loaded again while the engine is killed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.pages import CHROMIUM, Site, serving_pages
from tests.peers.served import Served, node, served
from tests.peers.test_typescript_client import HERE, LONG, lines, transcript

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(120),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]


@pytest.fixture
def site(installed: Path) -> Iterator[Site]:
    shutil.copy(HERE / "page.html", installed)
    with serving_pages(installed) as found:
        yield found


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
