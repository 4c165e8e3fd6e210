"""Every link leads somewhere, every file that a page names is there, and every page is within reach of the README."""

import re
from pathlib import Path

import pytest

from tests.docs import PAGES, ROOT, label, prose

FOLDERS = ("bytebrew/", "plugins/", "tests/", "docs/", "scripts/", "examples/", "clients/", ".github/")


def links(page: Path) -> list[str]:
    """The targets of the page's links to files."""
    text = re.sub(r"`[^`]*`", "", prose(page))
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=label)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(r"`([\w.][\w./-]*)(?:::\w+)?`", page.read_text())
    missing = [name for name in named if name.startswith(FOLDERS) and not (ROOT / name).exists()]
    assert not missing


def test_every_page_is_within_reach_of_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if not link.startswith("#")]
        for target in targets:
            waiting += [target] if target.suffix == ".md" else sorted(target.glob("*.md")) if target.is_dir() else []
    left = {label(page) for page in PAGES} - {label(page) for page in reached}
    assert not {name for name in left if not name.startswith(".github/")}


def test_every_make_target_that_a_page_names_is_one() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z-]+)`|^ +make ([a-z-]+)", page.read_text(), re.MULTILINE))
        assert {name for pair in named for name in pair if name} <= targets, label(page)
