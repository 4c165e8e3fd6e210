"""The pages of the repository, for the tests that check what they say."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "plugins/*.md", "examples/*/*.md", "clients/*/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)


def label(page: Path) -> str:
    """The page's path from the root, as a test is named after it."""
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """The text of a page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
