"""The site of the documentation: whole without a network, and no broken link is built."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.shipped

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build" / "docs"
SPHINX = ROOT / ".cache" / "docs" / "bin" / "sphinx-build"
INDEX = "# Index\n\n```{toctree}\npage\n```\n"


def built(folder: Path, **pages: str) -> subprocess.CompletedProcess[str]:
    """Sphinx as `make docs` calls it, over pages of a test."""
    (folder / "pages").mkdir()
    for name, text in {"index": INDEX, "page": "# Page\n", **pages}.items():
        (folder / "pages" / f"{name}.md").write_text(text)
    [command] = re.findall(r"^\t\$\(DOCS\)/bin/sphinx-build (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    options = re.sub(r" -d .*", "", command).split()
    return subprocess.run(
        [SPHINX, *options, "-d", folder / "trees", folder / "pages", folder / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_pages_without_a_fault_are_built(tmp_path: Path) -> None:
    done = built(tmp_path, page="# Page\n\n## A part\n\n[itself](page.md#a-part) [outside](https://nowhere.example)\n")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "page.html").exists()


@pytest.mark.parametrize(
    ("pages", "fault"),
    [
        ({"page": "# Page\n\n[gone](gone.md)\n"}, "gone.md"),
        ({"page": "# Page\n\n[gone](index.md#gone)\n"}, "gone"),
        ({"page": "# Page\n\n[gone](#gone)\n"}, "gone"),
        ({"page": "# Page\n\n![gone](gone.png)\n"}, "gone.png"),
        ({"lost": "# In no table of contents\n"}, "lost.md"),
    ],
    ids=["page", "anchor", "own anchor", "image", "no way to it"],
)
def test_a_broken_link_is_not_built(pages: dict[str, str], fault: str, tmp_path: Path) -> None:
    done = built(tmp_path, **pages)
    assert done.returncode != 0
    assert fault in done.stderr


def test_the_site_loads_nothing_from_another_host() -> None:
    loading = re.compile(r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']([^"']+)|<link\b[^>]*\bhref=["']([^"']+)""")
    pages = sorted(SITE.rglob("*.html"))
    assert len(pages) > 80
    loaded = {name for page in pages for pair in loading.findall(page.read_text()) for name in pair if name}
    styles = {name for sheet in SITE.rglob("*.css") for name in re.findall(r"url\(([^)]+)\)", sheet.read_text())}
    outside = re.compile(r"""["']?(?:https?:)?//""")
    assert not [name for name in loaded | styles if outside.match(name)]


def test_the_picture_of_the_first_minute_is_drawn_from_its_recording() -> None:
    draw = "import sys; from scripts.recording import svg; sys.stdout.write(svg.drawn(sys.stdin.read()))"
    cast = ROOT / "docs" / "images" / "first-minute.cast"
    drawn = subprocess.run(
        [SPHINX.with_name("python"), "-c", draw], cwd=ROOT, input=cast.read_bytes(), capture_output=True, check=True
    )
    assert drawn.stdout.decode() == cast.with_suffix(".svg").read_text(), "run make recording"


def test_the_search_of_the_site_knows_settings_routes_commands_and_hooks() -> None:
    index = (SITE / "searchindex.js").read_text()
    for word in ("bytebrew_port", "register_provid", "reference/api/models", "kill", "restor"):
        assert word in index.lower(), word


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_site_is_read_in_a_browser_from_its_files(width: int, scheme: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="not set up: run tests/peers/setup.sh")
    if (program := shutil.which("chromium") or shutil.which("google-chrome")) is None:
        pytest.skip("not set up: run tests/peers/setup.sh")
    requested, wrong = list[str](), list[str]()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
        page.on("request", lambda request: requested.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        for name in (
            "index",
            "tutorials/first-agent",
            "reference/settings",
            "reference/api/schemas",
            "reference/hooks",
        ):
            page.goto(f"file://{SITE}/{name}.html")
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name
        page.goto(f"file://{SITE}/search.html?q=BYTEBREW_TRUSTED_PROXIES")
        page.locator(".search a", has_text="Settings").first.click()
        page.wait_for_url("**/reference/settings.html*")
        browser.close()
    assert not wrong
    assert not [url for url in requested if not url.startswith(f"file://{SITE}/")]
