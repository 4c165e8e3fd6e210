"""The files that a browser loads, those of `static/`, under an address that changes with any of them."""

import gzip
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
ENTRY, STYLE = "app.js", "all.css"
WIDGET = ("style", "text", "memory", "talk", "chat")
"""The parts of the widget, each of which uses those before it."""
_LINK = r' *<link rel="stylesheet" href="static/([^"]+)" />\n'
_DOCUMENTATION = re.compile(rb"^[ \t]*/\*\*(?:[^*]|\*(?!/))*\*/[ \t]*$", re.MULTILINE)
"""A comment of a module on lines of its own, with the types that `tsc` checks."""
_IMPORT = re.compile(r'^(?:import|export)\s[^;]*?"(\.[^"]+)";', re.MULTILINE)


class File(NamedTuple):
    """A file as it is sent: plain and compressed."""

    content_type: str
    plain: bytes
    compressed: bytes


@cache
def named() -> dict[str, Path]:
    """The files by their path in `static/`; any other path is none of the page's."""
    found = {path.relative_to(STATIC).as_posix(): path for path in sorted(STATIC.rglob("*")) if path.suffix in TYPES}
    return {name: path for name, path in found.items() if path.is_file()}


@cache
def digest() -> str:
    """The digest of all files, so that a browser may keep what it has under it for good."""
    whole = hashlib.sha256()
    for name, path in named().items():
        whole.update(name.encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()[:16]


@cache
def file(name: str) -> File:
    """A file of the page, modules without their documentation, which is a seventh of what would be sent.

    STYLE is all that the document names, in that order: together they compress better.
    """
    if name == STYLE:
        styles = re.findall(_LINK, (STATIC / "index.html").read_text())
        return _sent(".css", b"\n".join(named()[one].read_bytes() for one in styles))
    path = named()[name]
    plain = path.read_bytes()
    if path.suffix == ".js" and not name.startswith("vendor/"):
        plain = _DOCUMENTATION.sub(lambda block: b"\n" * block[0].count(b"\n"), plain)  # lines keep their numbers
    return _sent(path.suffix, plain)


@cache
def widget() -> File:
    """The widget as one script that leaves no name in the page that it stands in."""
    parts = [(STATIC / "widget" / f"{name}.js").read_text() for name in WIDGET]
    return _sent(".js", "\n".join(('"use strict";', "{", *parts, "}", "")).encode())


def _sent(suffix: str, plain: bytes) -> File:
    return File(TYPES[suffix], plain, gzip.compress(plain, 9, mtime=0))


def first_modules() -> tuple[str, ...]:
    """The modules of every page: a browser that knows of them loads them all at once."""
    return modules(ENTRY)


@cache
def modules(entry: str) -> tuple[str, ...]:
    """A module with what it imports, and what that imports."""
    reached: list[str] = []
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.append(name)
        found = _IMPORT.findall(named()[name].read_text())
        waiting += [(STATIC / name).parent.joinpath(one).resolve().relative_to(STATIC).as_posix() for one in found]
    return tuple(reached)


@cache
def index(base: str, page: str) -> bytes:
    """The document of a page, whose files lie under `base`; it names the modules of that page with those of all."""
    names = dict.fromkeys((*first_modules(), *modules(f"pages/{page}.js")))
    preloads = "\n".join(f'    <link rel="modulepreload" href="{base}/{name}" />' for name in names)
    text = re.sub(
        f"({_LINK})+", f'    <link rel="stylesheet" href="static/{STYLE}" />\n', (STATIC / "index.html").read_text()
    )
    return text.replace("    <!-- modules -->", preloads).replace("static/", f"{base}/").encode()
