"""Stages the pages of the repository as the sources of a site.

The pages stay plain Markdown that a forge shows: links between them are relative paths in the repository. Here each
page gets its place in the site, its links follow, and a linked source file becomes a page of its own.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INDEX = "docs/README.md"
"""The first page of the site: its headings and lists are the site's table of contents."""
NOT_IN_THE_SITE = "<!-- not in the site -->"
_PLACES = {
    INDEX: "index.md",
    "docs/explanation/decisions/README.md": "explanation/decisions/index.md",
    "plugins/README.md": "reference/hooks.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security-policy.md",
    "CHANGELOG.md": "project/changelog.md",
}
_PATTERNS = ("docs/**/*.md", "plugins/README.md", "*.md", "clients/*/README.md", "examples/*/README.md")
_LANGUAGES = {
    ".conf": "nginx",
    ".css": "css",
    ".go": "go",
    ".js": "javascript",
    ".json": "json",
    ".mjs": "javascript",
    ".py": "python",
    ".service": "ini",
    ".sh": "bash",
    ".toml": "toml",
    ".ts": "typescript",
    ".yaml": "yaml",
}
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"(^ *(`{3,}).*?^ *\2`*$|`+[^`\n]+`+)", re.DOTALL | re.MULTILINE)
_HIDDEN_PAGE = "---\norphan: true\nnosearch: true\n---\n"


def write(folder: Path, generated: Mapping[str, str], root: Path = ROOT) -> None:
    """Writes the sources of the site, and removes others from the folder.

    `generated` has the text of pages by place. It comes behind that of a page of the repository with that place, and
    instead of what is there behind `<!-- not in the site -->`, which is for readers of the repository.
    """
    pages = {**placed(root)}
    texts, linked = dict[str, str](), dict[str, Path]()
    for path, place in pages.items():
        texts[place] = _relinked((root / path).read_text(), path, pages, linked, root)
    for place in ("index.md", "explanation/decisions/index.md"):
        texts[place] += "".join(_contents(texts[place]))
    for place, text in generated.items():
        texts[place] = f"{texts.get(place, '').partition(NOT_IN_THE_SITE)[0]}\n{text}"
    texts |= {place: _source(root, path) for place, path in linked.items() if place.startswith("code/")}
    images = {place: path for place, path in linked.items() if not place.startswith("code/")}
    for old in [path for path in folder.rglob("*") if path.is_file()]:
        if old.relative_to(folder).as_posix() not in {*texts, *images}:
            old.unlink()
    for place, content in [
        *((place, text.encode()) for place, text in texts.items()),
        *((place, path.read_bytes()) for place, path in images.items()),
    ]:
        file = folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def placed(root: Path = ROOT) -> dict[str, str]:
    """Where each page of the repository is in the site; the README of the repository is the forge's alone."""
    found = [path.relative_to(root).as_posix() for pattern in _PATTERNS for path in root.glob(pattern)]
    return {path: _PLACES.get(path, _place(path)) for path in sorted({*found}) if path != "README.md"}


def _place(path: str) -> str:
    return path.removeprefix("docs/").replace("/README.md", ".md")


def _relinked(text: str, page: str, pages: Mapping[str, str], linked: dict[str, Path], root: Path) -> str:
    """The text with links that fit the site; collects the files that it links to."""

    def relinked(link: re.Match[str]) -> str:
        name, _, anchor = link[1].partition("#")
        if "://" in name or not name:
            return link[0]
        path = os.path.normpath(Path(page).parent / name)
        target = root / path
        if (target / "README.md").exists():
            path = f"{path}/README.md" if path != "." else INDEX
        place = pages.get(path)
        if place is None and target.exists():
            place = path.removeprefix("docs/") if path.startswith("docs/images/") else f"code/{path}.md"
            linked[place], anchor = target, ""
        if place is None:
            return link[0]  # Sphinx reports it
        relative = os.path.relpath(place, Path(pages[page]).parent)
        return f"]({relative}{f'#{anchor}' if anchor else ''})"

    parts = _CODE.split(text)  # every third part is prose, behind it a piece of code and its fence
    parts[::3] = [_LINK.sub(relinked, prose) for prose in parts[::3]]
    del parts[2::3]
    return "".join(parts)


def _contents(index: str) -> Iterator[str]:
    """A table of contents for each heading of an index, out of the links of its list."""
    for section in re.split(r"^##? ", index, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        links = re.findall(r"^(?:- |\| )\[([^\]]*)\]\(([\w./-]+)\.md\)", text, re.MULTILINE)
        entries = [f"{label.removesuffix('.md')} <{place}>" for label, place in links]
        if entries:
            yield "\n".join([f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n", *entries, "```\n"])


def _source(root: Path, path: Path) -> str:
    """A page that shows a source file, or lists the files of a folder."""
    title = f"{_HIDDEN_PAGE}# {path.relative_to(root).as_posix()}\n\n"
    if path.is_dir():
        names = sorted(f"{one.name}{'/' if one.is_dir() else ''}" for one in path.iterdir() if one.name[0] not in "._")
        return title + "".join(f"- `{name}`\n" for name in names)
    language = _LANGUAGES.get(path.suffix, "text")
    return f"{title}``````````{language}\n{path.read_text().rstrip()}\n``````````\n"
