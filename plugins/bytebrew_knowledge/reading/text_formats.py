"""Readers of plain text, Markdown, CSV and JSON."""

import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .blocks import Block, Outline, Unreadable, decoded

_HEADING = re.compile(r"(#{1,6})[ \t]+(.*?)[ \t#]*$")
_FENCE = re.compile(r"(`{3,}|~{3,})")
_RULE = re.compile(r"\|?[ \t:|-]+\|?$")


def text(path: Path) -> Iterator[Block]:
    """Paragraphs, separated by blank lines."""
    for paragraph in re.split(r"\n[ \t]*\n", _lines(path)):
        yield Block((), paragraph.strip())


def markdown(path: Path) -> Iterator[Block]:
    """Paragraphs, table rows and fenced code under the headings of CommonMark."""
    outline, paragraph, fence = Outline(), list[str](), ""

    def flush() -> Iterator[Block]:
        if paragraph:
            yield Block(outline.headings, "\n".join(paragraph))
            paragraph.clear()

    for line in _lines(path).split("\n"):
        stripped = line.strip()
        if fence:
            paragraph.append(line)
            if stripped.startswith(fence) and not stripped.strip(fence[0]):
                fence = ""
        elif mark := _FENCE.match(stripped):
            fence = mark[1]
            paragraph.append(line)
        elif heading := _HEADING.match(stripped):
            yield from flush()
            outline.enter(len(heading[1]), heading[2])
        elif len(paragraph) == 1 and re.fullmatch(r"=+|-+", stripped):
            outline.enter(1 if stripped[0] == "=" else 2, paragraph.pop().strip())
        elif stripped.startswith("|"):
            yield from flush()
            if not _RULE.match(stripped):
                yield Block(outline.headings, stripped, row=True)
        elif stripped:
            paragraph.append(line)
        else:
            yield from flush()
    yield from flush()


def table(path: Path) -> Iterator[Block]:
    """Rows with the names of their columns, from the first row."""
    content = _lines(path)
    csv.field_size_limit(sys.maxsize)
    try:
        mark = csv.Sniffer().sniff(content[:8192], ",;\t|").delimiter
    except csv.Error:
        mark = ","
    try:
        rows = csv.reader(io.StringIO(content, newline=""), delimiter=mark, skipinitialspace=True)
        names = next(rows, [])
        empty = True
        for row in rows:
            empty = False
            named = [*names, *[""] * (len(row) - len(names))]
            cells = [f"{name}: {cell}" if name else cell for name, cell in zip(named, row, strict=False) if cell]
            yield Block((), "\n".join(cells), row=True)
        if empty:
            yield Block((), ", ".join(names), row=True)
    except csv.Error as error:
        raise Unreadable(f"It is not CSV: {error}") from error


def tree(path: Path) -> Iterator[Block]:
    """The leaves of JSON as lines of `path: value`; each object of a list is a block."""
    try:
        value = json.loads(_lines(path))
        yield from _records(value, "")
    except RecursionError as error:
        raise Unreadable("It is nested too deeply") from error
    except ValueError as error:
        raise Unreadable(f"It is not JSON: {error}") from error


def _records(value: Any, at: str) -> Iterator[Block]:
    if isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
        for n, one in enumerate(value):
            yield from _records(one, f"{at}[{n}]")
        return
    lines: list[str] = []
    inner: list[tuple[Any, str]] = []
    _leaves(value, "", lines, inner)
    yield Block((at,) if at else (), "\n".join(lines), row=True)
    for one, path in inner:
        yield from _records(one, f"{at}.{path}" if at else path)


def _leaves(value: Any, at: str, lines: list[str], inner: list[tuple[Any, str]]) -> None:
    if isinstance(value, dict):
        for key, one in value.items():
            _leaves(one, f"{at}.{key}" if at else str(key), lines, inner)
    elif isinstance(value, list):
        if any(isinstance(one, dict | list) for one in value):
            inner.append((value, at))
        else:
            lines.append(f"{at}: {', '.join(map(str, value))}" if at else ", ".join(map(str, value)))
    elif value is not None:
        lines.append(f"{at}: {value}" if at else str(value))


def _lines(path: Path) -> str:
    return decoded(path.read_bytes()).replace("\r\n", "\n").replace("\r", "\n")
